//! From what came of a run to its report and verdict.

use crate::engine::Outcome;
use crate::host::Environment;
use crate::host::process::PerSession;
use crate::progress::time;
use crate::report::{
    AnonymousBytes, Curves, Deliveries, FORMAT, Generator, Logs, Quantiles, Report, Sends, Server, Sessions, curve,
};
use crate::scenario::{Load, Protocol, Scenario};
use crate::verdict::{Facts, GENERATOR_CPU_MAX, GENERATOR_LATE_US_MAX, Verdict, generator_limited};

const MEMORY_NOTE: &str = "User bytes: growth of the server's anonymous memory (RssAnon) from no sessions to all sessions \
    idle, divided by sessions. Kernel bytes: an estimate. The growth of this host's slabs and TCP buffers, halved, because \
    both ends of every connection are here; with few sessions it drowns in what else the host does.";

/// What is known of the server beside what came of the run.
pub(crate) struct ServerFacts {
    pub address: String,
    pub own: bool,
    pub pid: Option<u32>,
    pub version: Option<String>,
    /// Both ends of the connections are on this host.
    pub here: bool,
}

/// Puts a report together.
pub(crate) fn report(
    scenario: &Scenario,
    outcome: &Outcome,
    server: ServerFacts,
    threads: u32,
    environment: Environment,
) -> Report {
    let counts = outcome.total.counts;
    let seconds = outcome.load_time.as_secs_f64().max(1e-9);
    let generator = generator(scenario, outcome, threads);
    let lost = outcome.judgement.lost;
    let duplicated = counts.duplicated + outcome.judgement.doubled;
    let garbled = counts.garbled + outcome.judgement.contradictions;
    let mut report = Report {
        format: FORMAT,
        verdict: Verdict::Pass,
        exit_code: 0,
        reasons: Vec::new(),
        sessions: Sessions {
            wanted: scenario.clients.into(),
            held: outcome.held,
            failed: u64::from(scenario.clients) - outcome.entered.min(scenario.clients.into()),
            dropped: counts.dropped,
            migrated: counts.migrated,
            ends: outcome.ends.clone(),
        },
        sends: Sends {
            intended: counts.intended,
            sent: counts.sent,
            unsent: counts.unsent,
            acknowledged: counts.acknowledged,
            refused: counts.refused,
            unanswered: outcome.unanswered + counts.cut_off,
            per_second: tenth(counts.acknowledged as f64 / seconds),
        },
        deliveries: Deliveries {
            expected: outcome.expected,
            pushed: counts.delivered,
            per_second: tenth(counts.delivered as f64 / seconds),
            not_pushed: outcome.missing_pushes,
            left_out: counts.behind,
        },
        delivery_us: Quantiles::of(&outcome.total.delivery),
        ack_us: Quantiles::of(&outcome.total.ack),
        connect_us: Quantiles::of(&outcome.total.connect),
        lost,
        duplicated,
        reordered: counts.reordered,
        garbled,
        caught_up: counts.caught_up,
        unverified: outcome.judgement.unverified + outcome.missing,
        losses: outcome.judgement.losses.clone(),
        logs: Logs {
            conversations_read: outcome.judgement.conversations_read,
            entries_read: outcome.judgement.entries_read,
        },
        errors: outcome.total.errors.iter().map(|(code, count)| (code.to_string(), *count)).collect(),
        server: server_part(outcome, server),
        generator,
        thresholds: Vec::new(),
        environment,
        scenario: scenario.clone(),
        series: outcome.series.seconds().to_vec(),
        curves: Curves { ack: curve(&outcome.total.ack), delivery: curve(&outcome.total.delivery) },
    };
    judge(&mut report, outcome.interrupted);
    report
}

/// Holds the report to its thresholds and gives the verdict.
fn judge(report: &mut Report, interrupted: bool) {
    let numbers = serde_json::to_value(&*report).expect("a report is plain data");
    report.thresholds = report.scenario.thresholds.iter().map(|threshold| threshold.check(&numbers)).collect();
    let generator = &report.generator;
    let facts = Facts {
        unreachable: false,
        broken: report.lost + report.duplicated + report.reordered + report.garbled > 0,
        generator_limited: generator_limited(generator.cpu, generator.late_p99_us),
        threshold_failed: report.thresholds.iter().any(|held| !held.well),
        interrupted,
    };
    report.verdict = Verdict::of(facts);
    report.exit_code = report.verdict.exit_code();
    report.reasons = reasons(report, facts);
}

fn reasons(report: &Report, facts: Facts) -> Vec<String> {
    let mut reasons = Vec::new();
    if facts.interrupted {
        reasons.push("Stopped before its end: what follows is what was measured until then.".into());
    }
    for (count, what) in [
        (report.lost, "acknowledged messages are not in the log"),
        (report.duplicated, "messages came or stand twice"),
        (report.reordered, "pushes came out of order"),
        (report.garbled, "entries hold something else than was sent"),
    ] {
        if count > 0 {
            reasons.push(format!("{count} {what}."));
        }
    }
    let Generator { cpu, late_p99_us, .. } = report.generator;
    if cpu > GENERATOR_CPU_MAX {
        let (cpu, max) = (cpu * 100.0, GENERATOR_CPU_MAX * 100.0);
        reasons.push(format!(
            "The generator used {cpu:.0} % of its cores (limit {max:.0} %): give it more --threads or load less."
        ));
    }
    if let Some(late) = late_p99_us.filter(|late| *late > GENERATOR_LATE_US_MAX) {
        let (late, max) = (time(late), time(GENERATOR_LATE_US_MAX));
        reasons.push(format!("The generator sent late: {late} at the 99th percentile (limit {max})."));
    }
    for held in report.thresholds.iter().filter(|held| !held.well) {
        reasons.push(format!("Threshold {} failed: it is {}.", held.threshold, held.shown()));
    }
    if reasons.is_empty() {
        reasons.push(match (&report.scenario.load, report.scenario.protocol) {
            (Load::Idle { .. }, _) => "All sessions were held.".into(),
            (_, Protocol::Plain) => {
                "Every threshold holds. This server acknowledges nothing, so nothing was proved about losses.".into()
            }
            _ => "Everything acknowledged is in the log, was delivered once and in order, and every threshold holds."
                .into(),
        });
    }
    reasons
}

fn generator(scenario: &Scenario, outcome: &Outcome, threads: u32) -> Generator {
    let time = outcome.load_time.as_nanos() as f64 * f64::from(threads);
    let open = matches!(scenario.load, Load::Open { .. });
    let late_us = Quantiles::of(&outcome.total.late);
    Generator {
        threads,
        cpu: if time > 0.0 { (outcome.generator_cpu_ns as f64 / time * 1e4).round() / 1e4 } else { 0.0 },
        late_p99_us: late_us.p99.filter(|_| open),
        late_us,
        cpu_max: GENERATOR_CPU_MAX,
        late_p99_us_max: GENERATOR_LATE_US_MAX,
    }
}

fn server_part(outcome: &Outcome, server: ServerFacts) -> Server {
    let PerSession { user_bytes, kernel_bytes } =
        PerSession::between(outcome.before, outcome.connected, outcome.entered, server.here);
    let cpu = outcome.load_end.cpu_ns.zip(outcome.load_begin.cpu_ns);
    let cpu_us = cpu.map(|(end, begin)| end.saturating_sub(begin) as f64 / 1e3);
    let delivered = outcome.total.counts.delivered as f64;
    let deliveries = (delivered > 0.0).then_some(delivered);
    let load_us = outcome.load_time.as_micros() as f64;
    Server {
        address: server.address,
        own: server.own,
        pid: server.pid,
        version: server.version,
        user_bytes_per_session: user_bytes.map(f64::round),
        kernel_bytes_per_session: kernel_bytes.map(f64::round),
        memory_note: MEMORY_NOTE,
        cpu_us_per_delivery: cpu_us.zip(deliveries).map(|(us, deliveries)| (us / deliveries * 100.0).round() / 100.0),
        deliveries_per_cpu_second: cpu_us
            .filter(|us| *us > 0.0)
            .zip(deliveries)
            .map(|(us, deliveries)| (deliveries / us * 1e6).round()),
        cpu_cores: cpu_us.filter(|_| load_us > 0.0).map(|us| (us / load_us * 1e3).round() / 1e3),
        anonymous_bytes: AnonymousBytes {
            without_sessions: outcome.before.anonymous_bytes,
            with_sessions: outcome.connected.anonymous_bytes,
            after_load: outcome.load_end.anonymous_bytes,
        },
    }
}

fn tenth(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}
