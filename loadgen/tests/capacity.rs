//! The search for what a server carries: the real binary, small servers, short steps.

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::schema;
use serde_json::Value;

const SCHEMA: &str = include_str!("../report/capacity.schema.json");

struct Found {
    code: i32,
    output: String,
    /// `None` if there is no answer.
    answer: Option<Value>,
    page: String,
}

fn search(args: &[&str], out: &Path) -> Found {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roost-load"));
    // What stands behind `--` is for the runs.
    let output = command.arg("capacity").arg("--out").arg(out).args(args).stdin(Stdio::null()).output().unwrap();
    let text = |name: &str| std::fs::read_to_string(out.join(name)).ok();
    let answer: Option<Value> = text("capacity.json").map(|text| serde_json::from_str(&text).unwrap());
    if let Some(answer) = &answer {
        let faults = schema::faults(&serde_json::from_str(SCHEMA).unwrap(), answer);
        assert!(faults.is_empty(), "{faults:#?}");
    }
    Found {
        code: output.status.code().unwrap(),
        output: [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat(),
        answer,
        page: text("capacity.html").unwrap_or_default(),
    }
}

#[test]
fn a_search_climbs_to_what_was_asked_for_and_keeps_the_report_of_each_run() {
    let out = tempfile::tempdir().unwrap();
    let args = ["--slo", "p99_delivery<10s", "--slo", "lost==0", "--from", "20", "--to", "80", "--clients", "10"];
    let found = search(&[&args[..], &["--for", "1s", "--confirm", "1", "--", "--grace", "5s"]].concat(), out.path());
    let answer = found.answer.unwrap_or_else(|| panic!("no answer: {}", found.output));
    // On a machine that is too busy the generator ends it sooner, and says so.
    let bound = answer["answer"]["bounded_by"].as_str().unwrap();
    assert!([("asked", 0), ("generator", 5)].contains(&(bound, found.code)), "{}", found.output);
    let steps = answer["steps"].as_array().unwrap();
    if bound == "asked" {
        let loads: Vec<f64> = steps.iter().map(|step| step["load"].as_f64().unwrap()).collect();
        assert_eq!((loads, answer["answer"]["load"].as_f64()), (vec![20.0, 40.0, 80.0], Some(80.0)));
        assert!(found.output.contains("It carries at least 80 messages per second"), "{}", found.output);
    }
    for step in steps {
        let page = out.path().join(step["report"].as_str().unwrap());
        assert!(page.exists() && page.with_extension("json").exists(), "{}", page.display());
        assert!(
            step["deliveries_per_second"].as_f64().unwrap() > 0.0 && step["server_cpu_cores"].is_number(),
            "{step:#}"
        );
        assert_eq!(step["slo"].as_array().unwrap().len(), 2);
    }
    let sentence = answer["answer"]["sentence"].as_str().unwrap();
    assert!(found.page.contains(&sentence.replace('<', "&lt;")), "{sentence}");
    assert!(found.page.contains("steps/01/report.html") && !found.page.contains("src="));
}

#[test]
fn an_objective_that_cannot_be_met_is_said_and_so_is_what_breaks_first() {
    let out = tempfile::tempdir().unwrap();
    let args =
        ["--slo", "delivery.p50<1", "--from", "20", "--clients", "10", "--for", "1s", "--runs-max", "2", "--quiet"];
    let found = search(&args, out.path());
    let answer = found.answer.unwrap_or_else(|| panic!("no answer: {}", found.output));
    if answer["answer"]["bounded_by"] == "nothing" && answer["steps"][0]["outcome"] == "failed" {
        assert_eq!((found.code, &answer["answer"]["load"]), (99, &Value::Null));
        assert_eq!(answer["answer"]["breaks_first"], "delivery.p50<1");
    }
    assert_eq!(answer["steps"].as_array().unwrap().len(), 2, "what fails is tried again");
    assert!(answer["answer"]["load"].is_null() && answer["machines"].as_array().unwrap().is_empty());
}

#[test]
fn what_cannot_be_searched_is_refused_before_anything_is_run() {
    for (args, code, said) in [
        (&["--slo", "delivery.p99<1s", "--vary", "rate", "--scenario", "hold"][..], 2, "has no rate"),
        (&["--slo", "nonsense<1s"], 2, "is not known"),
        (&[], 2, "--slo"),
        (&["--slo", "lost==0", "--target", "http://127.0.0.1:1", "--from", "10"], 3, "cannot connect"),
        (&["--slo", "lost==0", "--scenario", "no-such-scenario"], 1, "no-such-scenario"),
    ] {
        let out = tempfile::tempdir().unwrap();
        let found = search(args, out.path());
        assert!(found.code == code && found.output.contains(said), "{args:?}: {} {}", found.code, found.output);
        assert!(found.answer.is_none());
    }
}
