//! What stands on the terminal when a run is over.

use std::fmt::Write as _;
use std::path::Path;

use super::{Quantiles, Report};
use crate::progress::time;

/// Lines of a name and a text.
struct Lines(String);

impl Lines {
    fn put(&mut self, name: &str, text: &str) {
        writeln!(self.0, "{name:<12}{text}").expect("a String takes everything");
    }
}

/// A few lines: verdict, numbers, where the report is.
pub(crate) fn summary(report: &Report, out: &Path) -> String {
    let mut lines = Lines(report.verdict.told(report.exit_code, &report.reasons));
    sessions(report, &mut lines);
    messages(report, &mut lines);
    stages(report, &mut lines);
    server(report, &mut lines);
    let generator = &report.generator;
    let late = generator.late_p99_us.map_or("no intended times".into(), |us| format!("{} late at p99", time(us)));
    let mut text = format!("{:.0} % of {} threads, {late}", generator.cpu * 100.0, generator.threads);
    if let Some(rings) = generator.rings {
        text += &format!(", {rings} rings, {} B per client", whole(generator.bytes_per_client));
    }
    if generator.unsent > 0 {
        text += &format!(", {} unsent", generator.unsent);
    }
    lines.put("generator", &text);
    if !report.valid {
        lines.put("", "INVALID: the generator was the limit. These numbers are not the server's.");
    }
    for worker in report.workers.iter().filter(|worker| worker.lost_because.is_some()) {
        lines.put("worker", &format!("{} was lost: {}", worker.address, worker.lost_because.as_deref().unwrap_or("")));
    }
    if report.environment.build == "debug" {
        lines.put("", "This is a debug build: its numbers say nothing about speed.");
    }
    lines.put("report", &out.join("report.html").display().to_string());
    lines.0
}

fn whole(number: Option<f64>) -> String {
    number.map_or("?".into(), |number| format!("{number:.0}"))
}

fn sessions(report: &Report, lines: &mut Lines) {
    let sessions = &report.sessions;
    let (held, wanted, by) = (sessions.held, sessions.wanted, &report.transport);
    let mut text = format!("{held} of {wanted} held by {by}, {} dropped, {} failed", sessions.dropped, sessions.failed);
    if sessions.left > 0 {
        text += &format!(", {} left and {} returned", sessions.left, sessions.returned);
    }
    lines.put("sessions", &text);
    if sessions.migrated > 0 {
        lines.put("moves", &format!("{} times to another address", sessions.migrated));
    }
    if let Some(setup) = &report.setup {
        lines.put(
            "set-up",
            &format!(
                "{:.0} a second (wanted {:.0}), {} per server CPU-second; {}",
                setup.per_second,
                setup.per_second_wanted,
                whole(setup.per_server_cpu_second),
                quantiles(&report.connect_us)
            ),
        );
        if let Some(used) = setup.tickets_used {
            lines.put("tickets", &format!("{used} handshakes were begun with one"));
        }
    }
}

fn messages(report: &Report, lines: &mut Lines) {
    let sends = report.sends.as_ref().filter(|sends| sends.intended > 0);
    if let Some(sends) = sends {
        let text =
            format!("{} acknowledged of {}, {} per second", sends.acknowledged, sends.intended, sends.per_second);
        lines.put("sends", &text);
    }
    if report.ack_us.count > 0 {
        lines.put("ack", &quantiles(&report.ack_us));
    }
    let expected = |expected: u64| sends.is_some() || expected > 0;
    if let Some(deliveries) = report.deliveries.as_ref().filter(|deliveries| expected(deliveries.expected)) {
        if let Some(name) = &deliveries.regime {
            lines.put("broadcast", regime(name));
        }
        lines.put("delivery", &quantiles(&report.delivery_us));
        if report.first_delivery_us.count > 0 {
            lines.put("  first", &quantiles(&report.first_delivery_us));
            lines.put("  last", &quantiles(&report.last_delivery_us));
        }
        let text = format!(
            "{} of {} pushed, {} missing, {} per second",
            deliveries.pushed, deliveries.expected, deliveries.missing, deliveries.per_second
        );
        lines.put("deliveries", &text);
    }
    if let (Some(logs), Some(lost)) = (&report.logs, report.lost)
        && sends.is_some()
    {
        let text = format!(
            "{lost} lost, {} duplicated, {} reordered, {} caught up; {} entries of {} logs read",
            report.duplicated,
            report.reordered,
            report.caught_up.unwrap_or(0),
            logs.entries_read,
            logs.conversations_read
        );
        lines.put("checked", &text);
    } else if report.duplicated + report.reordered + report.garbled > 0 {
        let (twice, late, garbled) = (report.duplicated, report.reordered, report.garbled);
        lines.put("checked", &format!("{twice} twice, {late} late, {garbled} garbled"));
    }
    if let Some(sdk) = &report.sdk {
        let text = format!("{} clients, {} delivered; {}", sdk.clients, sdk.delivered, quantiles(&sdk.delivery_us));
        lines.put("SDK", &text);
    }
    if !report.errors.is_empty() {
        let errors = report.errors.iter().map(|(code, count)| format!("{count} times {code}"));
        lines.put("errors", &errors.collect::<Vec<_>>().join(", "));
    }
}

fn stages(report: &Report, lines: &mut Lines) {
    if let Some(hold) = &report.hold {
        let percent = hold.server_cpu_percent_of_a_core.map_or("?".into(), |percent| format!("{percent:.2}"));
        lines.put("hold", &format!("{:.0} s, server at {percent} % of a core", hold.seconds));
    }
    if let Some(beats) = report.heartbeats.as_ref().filter(|beats| beats.sent > 0) {
        let (sent, answered, not) = (beats.sent, beats.answered, beats.unanswered);
        let text = format!("{sent} sent, {answered} answered, {not} not; {}", quantiles(&beats.answer_us));
        lines.put("heartbeats", &text);
    }
    if let Some(echo) = &report.echo {
        let per_cpu = whole(echo.per_server_cpu_second);
        let text = format!("{} echoed, {:.0} a second, {per_cpu} per server CPU-second", echo.echoed, echo.per_second);
        lines.put("echo", &text);
        lines.put("", &quantiles(&echo.echo_us));
    }
    if let Some(storm) = &report.storm {
        let text = format!(
            "{} dropped, all back after {:.1} s; {} turned away, {} given up",
            storm.dropped, storm.seconds, storm.turned_away, storm.failed
        );
        lines.put("storm", &text);
        lines.put("", &quantiles(&storm.return_us));
    }
    if let Some(drain) = &report.drain {
        let (asked, of) = (drain.goaways, drain.sessions);
        lines.put("drain", &format!("{asked} of {of} asked to go, {:.1} s, {} left", drain.seconds, drain.left));
    }
}

fn server(report: &Report, lines: &mut Lines) {
    let server = &report.server;
    if let Some(user) = server.user_bytes_per_session {
        let mut text =
            format!("{user:.0} B user, about {} B kernel per session", whole(server.kernel_bytes_per_session));
        if let Some(anonymous) = server.anonymous_bytes_per_session.filter(|anonymous| *anonymous != user) {
            text += &format!(" ({anonymous:.0} B anonymous)");
        }
        lines.put("memory", &text);
    }
    if let Some(us) = server.cpu_us_per_delivery {
        let per_second = whole(server.deliveries_per_cpu_second);
        lines.put("server CPU", &format!("{us} µs per delivery, {per_second} deliveries per CPU-second"));
    }
    let trouble: Vec<_> = server.counters.iter().filter(|moved| moved.kind != "work").collect();
    for moved in trouble.iter().take(3) {
        lines.put("counted", &format!("{} {}", moved.name, moved.rise));
    }
}

/// A distribution in a line.
pub(crate) fn quantiles(times: &Quantiles) -> String {
    match (times.p50, times.p99, times.p999, times.max) {
        (Some(p50), Some(p99), Some(p999), Some(max)) => {
            format!("p50 {}  p99 {}  p99.9 {}  max {}", time(p50), time(p99), time(p999), time(max))
        }
        _ => "none".into(),
    }
}

/// A regime in words.
pub(crate) fn regime(name: &str) -> &'static str {
    match name {
        "paced" => "paced: everybody had a message before the next one; nothing to coalesce",
        "overlapping" => "overlapping: the next message was sent before everybody had the one before",
        _ => "bursts: several messages at once, which may leave as one",
    }
}
