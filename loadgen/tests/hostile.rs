//! Attacks by the real binary on the real server.

mod common;

use common::run;
use serde_json::Value;

const SHORT: [&str; 10] =
    ["hostile", "--clients", "20", "--rate", "40", "--attack-for", "3s", "--quiet-for", "1s", "--quiet"];

fn hostile(more: &[&str]) -> (i32, Value, String) {
    let run = run(&[&SHORT[..], &["--window", "1s"], more].concat());
    let report = run.hostile.unwrap_or_else(|| panic!("no report: {}", run.output));
    assert_eq!(report["exit_code"], run.code, "{}", run.output);
    (run.code, report, run.output)
}

#[test]
fn attackers_are_answered_and_counted_and_nothing_of_the_good_load_is_lost() {
    let kinds = ["--kind", "malformed", "--kind", "connects-one-address", "--kind", "bombs"];
    let (code, report, output) = hostile(&[&kinds[..], &["--ratio-max", "100000"]].concat());
    // 5: this machine was too busy for numbers.
    assert!([0, 5].contains(&code), "{output}");
    let kinds = report["kinds"].as_array().unwrap();
    assert_eq!(kinds.len(), 3);
    let answered = |kind: &Value, what: &str| kind["attacker"]["answers"][what].as_u64().unwrap_or(0);
    for what in ["HTTP 400", "HTTP 403", "HTTP 431", "close 1002", "close 1007", "close 1009", "close 4502"] {
        assert!(answered(&kinds[0], what) > 0, "{what}: {:#}", kinds[0]);
    }
    let counted = |kind: &Value, series: &str| kind["counted"][series].as_f64().unwrap_or(0.0);
    assert!(counted(&kinds[0], "roost_connections_refused_total{reason=\"origin\"}") > 0.0, "{:#}", kinds[0]);
    assert!(answered(&kinds[1], "HTTP 429") > 0, "{:#}", kinds[1]);
    assert!(counted(&kinds[1], "roost_connections_refused_total{reason=\"address\"}") > 0.0, "{:#}", kinds[1]);
    assert!(answered(&kinds[2], "close 1009") > 0, "{:#}", kinds[2]);
    for kind in kinds {
        assert!(kind["rates"].as_str().unwrap().contains("a second"));
    }
    assert!(report["quiet"]["deliveries"].as_u64() > Some(0));
}

#[test]
fn an_attack_that_neighbours_feel_fails_the_run() {
    // Nothing gets a hundred times faster under attack.
    let (code, report, output) = hostile(&["--kind", "silent", "--ratio-max", "0.01"]);
    assert!([99, 5].contains(&code), "{output}");
    assert_eq!(report["kinds"][0]["well"], false);
    assert!(report["reasons"][0].as_str().unwrap().starts_with("silent: "), "{report:#}");
}

#[test]
fn wrong_usage_is_refused_before_anything_is_started() {
    for wrong in [&["--kind", "nice"][..], &["--attack-for", "1500ms"], &["--ratio-max", "0"]] {
        let run = run(&[&SHORT[..], wrong].concat());
        assert_eq!(run.code, 2, "{}", run.output);
    }
}
