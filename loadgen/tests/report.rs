//! Reports of real runs: their form, their pages, their test cases, and what comparing them says.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::{Value, json};

/// A run that all tests here read.
struct Kept {
    folder: tempfile::TempDir,
    code: i32,
    output: String,
}

static RUN: LazyLock<Kept> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let junit = folder.path().join("junit.xml");
    let args =
        ["quick", "--clients", "40", "--rate", "80", "--for", "10s", "--plain", "--threshold", "sends.per_second>1"];
    let mut command = common::command(&args, folder.path());
    let output = command.args(["--threshold", "delivery.p99<1us", "--junit"]).arg(&junit).output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    Kept { folder, code: output.status.code().unwrap(), output: text }
});

fn kept(name: &str) -> String {
    std::fs::read_to_string(RUN.folder.path().join(name))
        .unwrap_or_else(|error| panic!("{name}: {error}: {}", RUN.output))
}

fn report() -> Value {
    serde_json::from_str(&kept("report.json")).unwrap()
}

/// Runs a command that reads reports; its code and what it said.
fn read(args: &[&str], paths: &[&Path]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roost-load"));
    let output = command.args(args).args(paths).stdin(Stdio::null()).output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (output.status.code().unwrap(), text)
}

/// Writes `report` as a run of its own below `root`.
fn keep(root: &Path, name: &str, report: &Value) -> PathBuf {
    let folder = root.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("report.json"), report.to_string()).unwrap();
    folder
}

#[test]
fn a_report_is_as_the_published_schema_says() {
    let report = report();
    let (code, schema) = read(&["schema"], &[]);
    assert_eq!(code, 0);
    let schema: Value = serde_json::from_str(&schema).unwrap();
    assert_eq!(schema["$id"], report["format"]);
    let faults = common::schema::faults(&schema, &report);
    assert!(faults.is_empty(), "{faults:#?}");
    // Nothing is there that the schema does not tell of.
    let named = schema["properties"].as_object().unwrap();
    for name in report.as_object().unwrap().keys() {
        assert!(named.contains_key(name), "{name} is not in the schema");
    }
}

#[test]
fn a_schema_finds_what_a_report_lacks() {
    let schema: Value = serde_json::from_str(common::SCHEMA).unwrap();
    let mut broken = report();
    broken.as_object_mut().unwrap().remove("phases");
    broken["valid"] = json!("yes");
    broken["server"]["samples"] = json!([{ "at_s": "now" }]);
    let faults = common::schema::faults(&schema, &broken);
    for part in ["\"phases\" is missing", "$.valid", "$.server.samples[0].at_s"] {
        assert!(faults.iter().any(|fault| fault.contains(part)), "{part}: {faults:#?}");
    }
}

#[test]
fn the_server_is_seen_from_inside() {
    let report = report();
    let server = &report["server"];
    assert!(server["samples"].as_array().unwrap().len() >= 8, "{server:#}");
    assert!(server["samples"][5]["user_cores"].is_number() && server["samples"][5]["rss_bytes"].is_number());
    let counters = server["counters"].as_array().unwrap();
    let sent = counters.iter().find(|moved| moved["name"] == "roost_router_entries_total");
    let entries = sent.unwrap_or_else(|| panic!("{counters:#?}"))["rise"].as_f64().unwrap();
    // Every acknowledged message is an entry, and so is what made the conversations.
    assert!(entries >= report["sends"]["acknowledged"].as_f64().unwrap(), "{entries}");
    let phases: Vec<&str> =
        report["phases"].as_array().unwrap().iter().filter_map(|phase| phase["name"].as_str()).collect();
    assert!(phases.contains(&"connecting") && phases.contains(&"load"), "{phases:?}");
    let cpu = server["cpu"].as_array().unwrap().iter().find(|part| part["phase"] == "load").unwrap();
    assert_eq!((&cpu["per"], &cpu["count"]), (&json!("delivery"), &report["deliveries"]["pushed"]));
    assert!(cpu["user_us"].as_f64().unwrap() > 0.0, "{cpu}");
    let parts: f64 = server["memory"].as_array().unwrap().iter().filter_map(|part| part["bytes"].as_f64()).sum();
    let all = ["user_bytes_per_session", "kernel_bytes_per_session"].map(|name| server[name].as_f64().unwrap());
    assert!((parts - all[0] - all[1]).abs() <= 8.0, "{server:#}");
    assert!(report["generator"]["by_thread"].as_array().is_some_and(|threads| !threads.is_empty()));
    assert!(report["series"].as_array().unwrap().iter().any(|second| second["live"] == 40));
}

#[test]
fn a_page_stands_alone_and_has_the_answer_first() {
    let page = kept("report.html");
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} is missing"));
    assert!(at("id=\"answer\"") < at("class=\"tiles\"") && at("class=\"tiles\"") < at("<svg"));
    for id in [
        "limits",
        "latency",
        "rate",
        "latency-over-time",
        "cpu-over-time",
        "memory",
        "cpu",
        "promises",
        "thresholds",
        "counters",
        "generator",
        "environment",
        "command",
    ] {
        at(&format!("id=\"{id}\""));
    }
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        assert!(
            !page.contains(outside) || outside.starts_with("http") && !page.contains(&format!("=\"{outside}")),
            "{outside}"
        );
    }
    assert!(page.contains("data-phase=\"load\"") && page.contains("data-series=\"delivered\""));
}

#[test]
fn a_page_can_be_drawn_anew_from_the_report_alone() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("again.html");
    let (code, said) = read(&["page", "--out"], &[&out, &RUN.folder.path().join("report.json")]);
    assert_eq!(code, 0, "{said}");
    assert!(std::fs::read_to_string(out).unwrap() == kept("report.html"), "the page is another one");
    std::fs::write(folder.path().join("old.json"), "{\"format\":\"roost-load/1\"}").unwrap();
    let (code, said) = read(&["page"], &[&folder.path().join("old.json")]);
    assert!(code == 1 && said.contains("roost-load/1"), "{code}: {said}");
}

#[test]
fn targets_stand_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let mut other = report();
    other["server"]["version"] = json!("other <1.0>");
    other["server"]["cpu_us_per_delivery"] = json!(1.25);
    let (other, out) = (keep(folder.path(), "other", &other), folder.path().join("both.html"));
    let (one, other) = (RUN.folder.path().join("report.json"), other.join("report.json"));
    let (code, said) = read(&["page", "--out"], &[&out, Path::new("--beside"), &other, &one]);
    assert_eq!(code, 0, "{said}");
    let page = std::fs::read_to_string(out).unwrap();
    let section = &page[page.find("id=\"targets\"").expect("there is a section of targets")..];
    for part in ["data-bar=\"other &lt;1.0&gt;\"", "data-bar=\"roost ", "1.25 µs", "less is better"] {
        assert!(section.contains(part), "{part} is missing");
    }
}

#[test]
fn thresholds_and_promises_are_test_cases() {
    assert_eq!(RUN.code, report()["exit_code"].as_i64().unwrap() as i32, "{}", RUN.output);
    let xml = kept("junit.xml");
    let case = |name: &str| {
        let from = xml.find(&format!("name=\"{name}\"")).unwrap_or_else(|| panic!("{name} is missing: {xml}"));
        let rest = &xml[from..];
        rest[..rest.find("<testcase").unwrap_or(rest.len())].to_owned()
    };
    assert!(case("delivery.p99&lt;1us").contains("<failure"), "{xml}");
    for well in ["sends.per_second&gt;1", "nothing acknowledged was lost", "the run is whole"] {
        assert!(!case(well).contains("<failure"), "{well}: {xml}");
    }
}

#[test]
fn a_run_in_which_the_generator_was_the_limit_is_invalid_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let mut late = report();
    late["verdict"] = json!("generator");
    late["exit_code"] = json!(5);
    late["valid"] = json!(false);
    late["generator"]["valid"] = json!(false);
    let side = keep(folder.path(), "late", &late);
    let (code, _) = read(&["page"], &[&side.join("report.json")]);
    assert_eq!(code, 0);
    let page = std::fs::read_to_string(side.join("report.html")).unwrap();
    assert!(page.contains("Invalid: the generator was the limit") && page.contains("✗ invalid"));
    let (code, said) = read(&["compare", "--fail-if-worse", "5%", "--out"], &[folder.path(), RUN.folder.path(), &side]);
    assert!(code == 5 && said.contains("the generator was the limit"), "{code}: {said}");
}

#[test]
fn a_comparison_finds_what_is_worse_and_says_so_by_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let mut base = report();
    (base["verdict"], base["valid"]) = (json!("pass"), json!(true));
    let mut slow = base.clone();
    slow["delivery_us"]["p99"] = json!(base["delivery_us"]["p99"].as_u64().unwrap() * 3);
    for second in slow["series"].as_array_mut().unwrap() {
        second["delivery_p99_us"] = json!(second["delivery_p99_us"].as_u64().unwrap() * 3);
    }
    let (base, slow) = (keep(folder.path(), "base", &base), keep(folder.path(), "slow", &slow));
    let compare =
        |share: &str, a: &Path, b: &Path| read(&["compare", "--fail-if-worse", share, "--out"], &[folder.path(), a, b]);
    let (code, said) = compare("5%", &base, &slow);
    assert!(code == 99 && said.contains("delivery, p99"), "{code}: {said}");
    assert!(said.contains("it cannot tell"), "one run a side has its limits: {said}");
    let page = std::fs::read_to_string(folder.path().join("compare.html")).unwrap();
    assert!(page.contains("worse by more than 5 %") && page.contains("data-bar=\"delivery, p99\""));
    let (code, said) = compare("500%", &base, &slow);
    assert_eq!(code, 0, "{said}");
    let (code, said) = compare("5%", &base, &base);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn comparing_what_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = read(&["compare"], &[RUN.folder.path()]);
    assert!(code == 2 && said.contains("give another one"), "{code}: {said}");
    let (code, said) = read(&["compare"], &[RUN.folder.path(), folder.path()]);
    assert!(code == 1 && said.contains("no report.json"), "{code}: {said}");
    let (code, said) = read(&["compare", "--fail-if-worse", "much"], &[RUN.folder.path(), folder.path()]);
    assert!(code == 2 && said.contains("5%"), "{code}: {said}");
}
