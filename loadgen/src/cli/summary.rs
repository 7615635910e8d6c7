//! The answer on standard output.

use std::fmt::Write as _;
use std::path::Path;

use crate::progress::time;
use crate::report::{Quantiles, Report};
use crate::scenario::Load;

/// A few lines: verdict, numbers, where the report is.
pub(super) fn of(report: &Report, out: &Path) -> String {
    let mut text = report.verdict.told(report.exit_code, &report.reasons);
    let mut line = |name: &str, value: String| {
        writeln!(text, "{name:<12}{value}").expect("a String takes everything");
    };
    let sessions = &report.sessions;
    let by = report.scenario.by();
    line("sessions", format!("{} of {} held by {by}, {} dropped", sessions.held, sessions.wanted, sessions.dropped));
    if sessions.migrated > 0 {
        line("moves", format!("{} times to another address", sessions.migrated));
    }
    if !matches!(report.scenario.load, Load::Idle { .. }) {
        let sends = &report.sends;
        line(
            "sends",
            format!("{} acknowledged of {}, {} per second", sends.acknowledged, sends.intended, sends.per_second),
        );
        line("ack", quantiles(&report.ack_us));
        line("delivery", quantiles(&report.delivery_us));
        let deliveries = &report.deliveries;
        line(
            "deliveries",
            format!("{} of {} pushed, {} per second", deliveries.pushed, deliveries.expected, deliveries.per_second),
        );
        line(
            "checked",
            format!(
                "{} lost, {} duplicated, {} reordered, {} caught up; {} entries of {} logs read",
                report.lost,
                report.duplicated,
                report.reordered,
                report.caught_up,
                report.logs.entries_read,
                report.logs.conversations_read
            ),
        );
    }
    if !report.errors.is_empty() {
        let errors = report.errors.iter().map(|(code, count)| format!("{count} times {code}"));
        line("errors", errors.collect::<Vec<_>>().join(", "));
    }
    let server = &report.server;
    if let Some(user) = server.user_bytes_per_session {
        let kernel = server.kernel_bytes_per_session.map_or("?".into(), |bytes| format!("{bytes:.0}"));
        line("memory", format!("{user:.0} B user, about {kernel} B kernel per session"));
    }
    if let Some(us) = server.cpu_us_per_delivery {
        let per_second = server.deliveries_per_cpu_second.unwrap_or_default();
        line("server CPU", format!("{us} µs per delivery, {per_second:.0} deliveries per CPU-second"));
    }
    let generator = &report.generator;
    let late = generator.late_p99_us.map_or("no intended times".into(), |us| format!("{} late at p99", time(us)));
    line("generator", format!("{:.0} % of {} threads, {late}", generator.cpu * 100.0, generator.threads));
    if report.environment.build == "debug" {
        line("", "This is a debug build: its numbers say nothing about speed.".into());
    }
    line("report", out.join("report.html").display().to_string());
    text
}

fn quantiles(times: &Quantiles) -> String {
    match (times.p50, times.p99, times.p999, times.max) {
        (Some(p50), Some(p99), Some(p999), Some(max)) => {
            format!("p50 {}  p99 {}  p99.9 {}  max {}", time(p50), time(p99), time(p999), time(max))
        }
        _ => "none".into(),
    }
}
