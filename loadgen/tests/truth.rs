//! The generator is proved: what a server of known truth did stands in the report, within 2 % or 100 µs.
//!
//! A machine may be so busy that the generator itself is late. Then its report says so, and the run is tried again. If it is late
//! each time, the report may be off by what it says of itself, and no more.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::truth::check::{Compared, compare, listed_losses, says_it_was_late, table};
use common::truth::{Delays, Faults, Plan, Truth, start};
use serde_json::Value;

const MS: Duration = Duration::from_millis(1);
/// Runs that may be spoilt by a busy machine, and say so.
const TRIES: usize = 3;

const DELAYS: Delays =
    Delays { usual: Duration::from_millis(40), slow: Duration::from_millis(100), slowest: Duration::from_millis(250) };

fn honest() -> Plan {
    Plan { delays: DELAYS, acks: DELAYS, faults: Faults::default(), stall: None }
}

/// Runs until the generator was on time or finds what is true in spite of it. `look` gives what is to be compared.
fn proved(plan: Plan, args: &[&str], look: impl Fn(&Value, &mut Truth) -> Vec<(&'static str, Vec<Compared>)>) {
    for left in (0..TRIES).rev() {
        let server = start(plan);
        let target = format!("http://{}", server.address);
        let run = common::run(&[args, &["--target", &target]].concat());
        assert!([0, 5].contains(&run.code), "{}", run.output);
        let report = run.report.as_ref().unwrap_or_else(|| panic!("no report: {}", run.output));
        let compared = look(report, &mut server.truth());
        let told: String = compared.iter().map(|(name, compared)| table(name, compared)).collect();
        if compared.iter().all(|(_, compared)| compared.iter().all(Compared::is_close)) {
            eprint!("{told}");
            return;
        }
        let late = compared.iter().any(|(_, compared)| says_it_was_late(report, compared));
        assert!(late, "the report is off, and does not say why:\n{told}");
        let own = report.pointer("/generator/late_us/max").and_then(Value::as_f64).unwrap();
        let within = |compared: &Compared| (compared.told - compared.truth).abs() <= compared.allowed_us() + own;
        if left == 0 {
            assert!(
                compared.iter().all(|(_, compared)| compared.iter().all(within)),
                "off by more than {own} us:\n{told}"
            );
            eprint!("a busy machine, {own} us late:\n{told}");
        }
    }
}

fn number(report: &Value, pointer: &str) -> u64 {
    report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer} in {report:#}"))
}

#[test]
fn known_delays_are_found_by_full_clients() {
    let args =
        ["quick", "--clients", "300", "--rate", "400", "--for", "6s", "--group-share", "0", "--arrivals", "constant"];
    proved(honest(), &args, |report, truth| {
        vec![
            ("delivery", compare(report, "/delivery_us", &mut truth.delays_ns)),
            ("ack", compare(report, "/ack_us", &mut truth.acks_ns)),
        ]
    });
}

#[cfg(target_os = "linux")]
#[test]
fn known_delays_are_found_by_lean_clients_in_a_broadcast() {
    if common::io_uring().is_none() {
        return;
    }
    // No message is held up by the one before it for long, and no quantile falls between two messages.
    let delays = Delays { usual: 100 * MS, slow: 120 * MS, slowest: 145 * MS };
    let args =
        ["broadcast", "--mass", "--protocol", "plain", "--connections", "8", "--publishes", "330", "--rate", "40"];
    proved(Plan { delays, ..honest() }, &args, |report, truth| {
        vec![("delivery", compare(report, "/delivery_us", &mut truth.delays_ns))]
    });
}

#[cfg(target_os = "linux")]
#[test]
fn known_delays_are_found_by_lean_clients_that_wait_for_echoes() {
    if common::io_uring().is_none() {
        return;
    }
    let args = ["echo", "--connections", "20", "--for", "6s"];
    proved(honest(), &args, |report, truth| vec![("echo", compare(report, "/echo/echo_us", &mut truth.delays_ns))]);
}

/// The open model's truth, whatever the server did with what it got: with constant arrivals, a stall of S seconds in a
/// load of T leaves every message intended in it waiting for the rest of it.
fn stalled(stall: f64, load: f64, base: f64, quantile: f64) -> f64 {
    let share_above = 1.0 - quantile;
    base + (stall - share_above * load).max(0.0)
}

#[test]
fn a_server_that_stalls_shows_it_to_every_message_that_was_meant_to_be_sent_meanwhile() {
    let stall = Some((Duration::from_secs(2), Duration::from_millis(1200)));
    let base = Delays { usual: 5 * MS, slow: 5 * MS, slowest: 5 * MS };
    let plan = Plan { delays: base, acks: Delays::NONE, stall, ..honest() };
    let args =
        ["quick", "--clients", "100", "--rate", "400", "--for", "6s", "--group-share", "0", "--arrivals", "constant"];
    proved(plan, &args, |report, truth| {
        let stall = truth.stalled.expect("it stalled").as_secs_f64();
        assert!(number(report, "/delivery_us/count") >= 2390, "all of them were sent: {report:#}");
        let compared = compare(report, "/delivery_us", &mut truth.since_intended_ns());
        // Whoever leaves out what it could not send in time tells some milliseconds here. The server needs a while to
        // work off what waited for it.
        for Compared { quantile, truth, .. } in &compared[1..] {
            let model = stalled(stall, 6.0, 0.005, if *quantile == "p99" { 0.99 } else { 0.999 }) * 1e6;
            assert!((model * 0.99..model * 1.2).contains(truth), "{quantile}: {truth} by a model of {model}");
        }
        vec![("delivery", compared)]
    });
}

#[test]
fn every_loss_double_change_of_order_and_change_of_text_is_found_by_full_clients() {
    // What is late or changed is read from the log if a loss made its reader look there: then it is neither.
    for faults in [
        Faults { lose: 7, double: 5, ..Faults::default() },
        Faults { reorder: 11, ..Faults::default() },
        Faults { double: 5, garble: 13, ..Faults::default() },
    ] {
        let server = start(Plan { delays: Delays::NONE, acks: Delays::NONE, faults, stall: None });
        let target = format!("http://{}", server.address);
        let args =
            ["quick", "--clients", "4", "--rate", "300", "--for", "2s", "--group-share", "0", "--target", &target];
        let run = common::run(&args);
        assert_eq!(run.code, 4, "{}", run.output);
        let (report, truth) = (run.report.as_ref().unwrap(), server.truth());
        for (nth, done) in [
            (faults.lose, &truth.lost),
            (faults.double, &truth.doubled),
            (faults.reorder, &truth.reordered),
            (faults.garble, &truth.garbled),
        ] {
            assert!(nth == 0 || done.len() > 20, "{truth:?}");
        }
        assert_eq!(listed_losses(report), truth.lost, "each by its conversation and seq");
        assert_eq!(number(report, "/lost") as usize, truth.lost.len());
        let hidden = truth.garbled_and_doubled();
        assert_eq!(number(report, "/duplicated"), truth.doubled.len() as u64 - hidden, "{faults:?}");
        // Who looks for another entry in the log at that moment finds the late one there as well.
        let found = if faults.reorder > 0 { number(report, "/caught_up") } else { 0 };
        let (reordered, late) = (number(report, "/reordered"), truth.reordered.len() as u64);
        assert!(
            (late / 2..=late).contains(&reordered) && reordered + found >= late,
            "{faults:?}: {reordered} + {found} of {late}"
        );
        assert_eq!(number(report, "/garbled"), truth.garbled.len() as u64 + hidden, "{faults:?}");
        assert_eq!(number(report, "/sends/acknowledged"), truth.messages);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn every_loss_double_change_of_order_and_change_of_text_is_found_by_lean_clients() {
    if common::io_uring().is_none() {
        return;
    }
    for faults in [
        Faults { lose: 7, ..Faults::default() },
        Faults { double: 5, ..Faults::default() },
        Faults { reorder: 11, ..Faults::default() },
        Faults { garble: 13, ..Faults::default() },
    ] {
        let plan = Plan { delays: Delays::NONE, acks: Delays::NONE, faults, stall: None };
        let server = start(plan);
        let target = format!("http://{}", server.address);
        let clients = 10;
        // The last message is lost, late or changed as well: nothing comes after it.
        let args = [
            "broadcast",
            "--mass",
            "--connections",
            "10",
            "--publishes",
            "77",
            "--rate",
            "100",
            "--grace",
            "1s",
            "--target",
            &target,
        ];
        let run = common::run(&args);
        let (report, truth) = (run.report.as_ref().unwrap(), server.truth());
        let listed: BTreeSet<(u64, u64)> = report["losses"]
            .as_array()
            .unwrap()
            .iter()
            .map(|loss| {
                let client = loss["why"].as_str().unwrap().strip_prefix("not pushed to client ").unwrap();
                (client.parse().unwrap(), number(loss, "/seq"))
            })
            .collect();
        let seqs = match () {
            () if faults.lose > 0 => truth.lost.iter().map(|(_, seq)| *seq).collect(),
            () if faults.garble > 0 => truth.garbled.iter().map(|(_, seq)| *seq).collect(),
            // Held until the next one, of which there is none.
            () if faults.reorder > 0 => vec![77],
            () => Vec::new(),
        };
        let lost: BTreeSet<(u64, u64)> =
            (0..clients).flat_map(|client| seqs.iter().map(move |seq| (client, *seq))).collect();
        assert_eq!(listed, lost, "{faults:?}: each by its client and seq");
        assert_eq!(number(report, "/deliveries/missing"), lost.len() as u64, "{faults:?}");
        assert_eq!(number(report, "/duplicated"), clients * truth.doubled.len() as u64, "{faults:?}");
        assert_eq!(number(report, "/reordered"), clients * truth.reordered.len() as u64, "{faults:?}");
        assert_eq!(number(report, "/garbled"), clients * truth.garbled.len() as u64, "{faults:?}");
    }
}
