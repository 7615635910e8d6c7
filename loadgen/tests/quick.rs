//! The real binary against the real server.

mod common;

use common::run;
use serde_json::Value;

/// The fields that the report promises by name.
const PROMISED: &[&str] = &[
    "/verdict",
    "/sessions/held",
    "/sends/acknowledged",
    "/sends/per_second",
    "/delivery_us/p50",
    "/delivery_us/p99",
    "/delivery_us/p999",
    "/delivery_us/max",
    "/ack_us/p50",
    "/ack_us/p99",
    "/ack_us/p999",
    "/ack_us/max",
    "/lost",
    "/duplicated",
    "/reordered",
    "/server/user_bytes_per_session",
    "/server/kernel_bytes_per_session",
    "/server/cpu_us_per_delivery",
    "/generator/cpu",
    "/generator/late_p99_us",
    "/environment/command",
];

fn number(report: &Value, pointer: &str) -> u64 {
    report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer} in {report:#}"))
}

/// Linux has the clients for it.
#[cfg(target_os = "linux")]
#[test]
fn f38_quick_by_quic_loses_nothing_on_a_bad_network_while_everybody_moves_each_second() {
    let by_quic =
        ["quick", "--transport", "quic", "--migrating", "1", "--clients", "50", "--rate", "100", "--for", "3s"];
    // Each way: 10 ms, more or less by half, so that datagrams overtake; one in twenty never arrives.
    let bad = ["--delay", "10ms", "--jitter", "5ms", "--loss", "0.05"];
    let run = run(&[&by_quic[..], &bad].concat());
    assert!([0, 5].contains(&run.code), "{}", run.output);
    let report = run.report();
    assert_eq!(report["scenario"]["transport"], "quic");
    assert_eq!((number(report, "/sessions/held"), number(report, "/sessions/dropped")), (50, 0));
    assert!(number(report, "/sessions/migrated") >= 100, "{report:#}");
    assert!(number(report, "/delivery_us/min") >= 10_000, "through the delay twice, less the jitter: {report:#}");
    assert_eq!(number(report, "/logs/entries_read"), number(report, "/sends/acknowledged"));
    let arrived = number(report, "/deliveries/pushed") + number(report, "/caught_up");
    assert_eq!(arrived, number(report, "/deliveries/expected"));
    for name in ["/lost", "/duplicated", "/reordered", "/garbled", "/unverified", "/sends/unanswered"] {
        assert_eq!(number(report, name), 0, "{name}");
    }
}

#[test]
fn quick_measures_a_server_of_its_own_and_nothing_is_lost() {
    let run = run(&["quick", "--clients", "50", "--rate", "100", "--for", "2s", "--threads", "2"]);
    // 5: this machine was too busy for numbers; the promises hold all the same.
    assert!([0, 5].contains(&run.code), "{}", run.output);
    let report = run.report();
    for pointer in PROMISED {
        assert!(report.pointer(pointer).is_some_and(|value| !value.is_null()), "{pointer} is missing");
    }
    assert_eq!(number(report, "/sessions/held"), 50);
    let acknowledged = number(report, "/sends/acknowledged");
    // 200 expected with a deviation of 14: six of them.
    assert!((115..285).contains(&acknowledged), "{acknowledged}");
    assert_eq!(number(report, "/sends/intended"), acknowledged);
    assert_eq!(number(report, "/logs/entries_read"), acknowledged);
    let arrived = number(report, "/deliveries/pushed") + number(report, "/caught_up");
    assert_eq!(arrived, number(report, "/deliveries/expected"));
    for name in ["/lost", "/duplicated", "/reordered", "/garbled", "/unverified", "/sends/unanswered"] {
        assert_eq!(number(report, name), 0, "{name}");
    }
    assert!(report["server"]["own"].as_bool().unwrap() && report["errors"].as_object().unwrap().is_empty());
}

#[test]
fn the_page_needs_nothing_else() {
    let out = tempfile::tempdir().unwrap();
    let args = ["quick", "--clients", "10", "--rate", "50", "--for", "2s", "--quiet"];
    common::command(&args, out.path()).output().unwrap();
    let page = std::fs::read_to_string(out.path().join("report.html")).unwrap();
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        let found = page.match_indices(outside).next();
        assert!(found.is_none(), "{outside}: {}", &page[found.unwrap().0.saturating_sub(80)..][..160]);
    }
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    assert!(page.matches("<svg").count() >= 4);
    let (_, embedded) = page.split_once("<script type=\"application/json\" id=\"report\">").unwrap();
    let (embedded, _) = embedded.split_once("</script>").unwrap();
    let embedded: Value = serde_json::from_str(embedded).unwrap();
    let json = std::fs::read_to_string(out.path().join("report.json")).unwrap();
    assert_eq!(embedded, serde_json::from_str::<Value>(&json).unwrap());
}

#[test]
fn sends_waits_for_each_acknowledgement() {
    let run = run(&["sends", "--senders", "8", "--for", "1s"]);
    assert!([0, 5].contains(&run.code), "{}", run.output);
    let report = run.report();
    assert!(number(report, "/sends/acknowledged") > 8, "{report:#}");
    assert_eq!(number(report, "/sends/unanswered"), 0);
    assert_eq!(number(report, "/lost") + number(report, "/duplicated") + number(report, "/reordered"), 0);
    assert!(report["generator"]["late_p99_us"].is_null());
}

#[test]
fn idle_tells_memory_and_sends_nothing() {
    let run = run(&["idle", "--connections", "100", "--for", "1s"]);
    assert_eq!(run.code, 0, "{}", run.output);
    let report = run.report();
    assert_eq!((number(report, "/sessions/held"), number(report, "/sends/intended")), (100, 0));
    assert!(report["server"]["user_bytes_per_session"].is_number());
}

#[test]
fn broadcast_reaches_every_subscriber_in_order() {
    let run = run(&["broadcast", "--connections", "20", "--publishes", "40", "--rate", "40"]);
    assert!([0, 5].contains(&run.code), "{}", run.output);
    let report = run.report();
    assert_eq!(number(report, "/sends/acknowledged"), 40);
    assert_eq!(number(report, "/deliveries/pushed"), 800);
    assert_eq!(number(report, "/duplicated") + number(report, "/reordered") + number(report, "/lost"), 0);
}

#[test]
fn a_server_that_dies_during_the_run_does_not_pass() {
    let out = tempfile::tempdir().unwrap();
    let args = ["quick", "--clients", "10", "--rate", "100", "--for", "3s", "--grace", "1s"];
    let mut command = common::command(&args, out.path());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut lines = std::io::BufRead::lines(stderr).map_while(Result::ok);
    assert!(lines.any(|line| line.contains("acknowledged/s")), "the load never began");
    let folder = std::fs::read_dir(out.path()).unwrap().next().unwrap().unwrap().path();
    let ready = std::fs::read_to_string(folder.join("ready.json")).unwrap();
    let pid = serde_json::from_str::<Value>(&ready).unwrap()["pid"].as_i64().unwrap();
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let said: Vec<String> = lines.collect();
    let run = common::finished(child.wait_with_output().unwrap(), out.path());
    assert_eq!(run.code, 3, "{}", run.output);
    assert!(said.iter().any(|line| line.contains("the server ended during the run")), "{said:?}");
    let report = run.report();
    assert!(report["partial"].is_string(), "{report:#}");
    assert_eq!((number(report, "/sessions/held"), number(report, "/lost")), (0, 0));
    assert!(number(report, "/unverified") > 0 && number(report, "/sessions/dropped") == 10, "{report:#}");
}
