//! Servers that lie are found out, each lie by its name.

mod common;

use common::fake::{Lie, start};
use serde_json::Value;

/// Loads a server that lies, and gives the exit code and the report. Two clients write to one conversation, so that
/// there is a tenth message.
fn load(lie: Lie) -> (i32, Value) {
    let target = format!("http://{}", start(lie));
    let run =
        common::run(&["quick", "--clients", "4", "--rate", "150", "--for", "1s", "--target", &target, "--grace", "1s"]);
    (run.code, run.report().clone())
}

fn count(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap()
}

#[test]
fn an_honest_server_keeps_every_promise() {
    let (code, report) = load(Lie::None);
    // How fast this machine is today is not what this test is about.
    assert!([0, 5].contains(&code), "{code}: {report:#}");
    for name in ["lost", "duplicated", "reordered", "garbled", "caught_up", "unverified"] {
        assert_eq!(count(&report, name), 0, "{name}");
    }
    let acknowledged = report["sends"]["acknowledged"].as_u64().unwrap();
    assert!(acknowledged > 50, "there was no load: {acknowledged}");
    assert_eq!(report["logs"]["entries_read"], acknowledged);
    assert_eq!(report["deliveries"]["pushed"], report["deliveries"]["expected"]);
}

#[test]
fn what_is_acknowledged_and_neither_stored_nor_pushed_is_lost() {
    let (code, report) = load(Lie::Lose);
    assert_eq!(code, 4);
    assert!(count(&report, "lost") >= 3, "{report:#}");
    let losses = report["losses"].as_array().unwrap();
    assert!(!losses.is_empty());
    for loss in losses {
        assert_eq!(loss["seq"].as_u64().unwrap() % 10, 0, "{loss}");
    }
}

#[test]
fn what_is_pushed_but_not_stored_is_lost() {
    let (code, report) = load(Lie::Forget);
    assert_eq!(code, 4);
    assert!(count(&report, "lost") >= 3, "{report:#}");
}

#[test]
fn what_is_stored_but_not_pushed_is_caught_up_and_no_loss() {
    let (code, report) = load(Lie::NoPush);
    assert!([0, 5].contains(&code), "{code}: {report:#}");
    assert!(count(&report, "caught_up") >= 3, "{report:#}");
    assert_eq!((count(&report, "lost"), count(&report, "unverified")), (0, 0));
}

#[test]
fn clients_whose_connection_is_cut_come_back_and_catch_up() {
    let target = format!("http://{}", start(Lie::Cut));
    let args = ["quick", "--clients", "4", "--rate", "40", "--for", "4s", "--target", &target, "--grace", "4s"];
    let run = common::run(&args);
    let report = run.report();
    // What should have been sent while a client was away was not: a threshold tells.
    assert!([5, 99].contains(&run.code), "{}", run.output);
    assert!(report["sessions"]["dropped"].as_u64().unwrap() >= 2, "{report:#}");
    assert!(count(report, "caught_up") >= 2, "{report:#}");
    let arrived = report["deliveries"]["pushed"].as_u64().unwrap() + count(report, "caught_up");
    assert!(arrived >= report["deliveries"]["expected"].as_u64().unwrap(), "{report:#}");
    for name in ["lost", "duplicated", "reordered", "unverified"] {
        assert_eq!(count(report, name), 0, "{name}: {report:#}");
    }
}

#[test]
fn what_is_pushed_twice_is_duplicated() {
    let (code, report) = load(Lie::Double);
    assert_eq!(code, 4);
    assert!(count(&report, "duplicated") >= 3, "{report:#}");
    assert_eq!((count(&report, "lost"), count(&report, "reordered")), (0, 0));
}

#[test]
fn what_is_pushed_after_its_successor_is_reordered() {
    let (code, report) = load(Lie::Reorder);
    assert_eq!(code, 4);
    assert!(count(&report, "reordered") >= 1, "{report:#}");
    assert_eq!(count(&report, "lost"), 0);
}

#[test]
fn what_holds_another_text_is_garbled_and_lost() {
    let (code, report) = load(Lie::Change);
    assert_eq!(code, 4);
    assert!(count(&report, "garbled") >= 3 && count(&report, "lost") >= 3, "{report:#}");
}

#[test]
fn a_threshold_that_fails_is_99_unless_something_worse_happened() {
    let target = format!("http://{}", start(Lie::None));
    let base = ["quick", "--clients", "4", "--rate", "20", "--for", "1s", "--target", &target];
    let run = common::run(&[&base[..], &["--threshold", "sends.per_second>100000"]].concat());
    // A generator that was late comes before it.
    assert!([99, 5].contains(&run.code), "{}", run.output);
    let held = run.report()["thresholds"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&held["threshold"], &held["well"]), (&"sends.per_second>100000".into(), &false.into()));
}
