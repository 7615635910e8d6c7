//! What stands on the terminal when a run is over.

use std::fmt::Write as _;
use std::path::Path;

use super::Report;
use super::page::{quantiles, regime};

/// A few lines: verdict, numbers, where the report is.
pub(crate) fn summary(report: &Report, out: &Path) -> String {
    let mut text = report.verdict.told(report.exit_code, &report.reasons);
    let mut line = |name: &str, value: String| {
        writeln!(text, "{name:<12}{value}").expect("a String takes everything");
    };
    let number = |number: Option<f64>| number.map_or("?".into(), |number| format!("{number:.0}"));
    let sessions = &report.sessions;
    line(
        "sessions",
        format!("{} of {} held, {} lost, {} given up", sessions.held, sessions.wanted, sessions.lost, sessions.failed),
    );
    if sessions.migrated > 0 {
        line("moves", format!("{} times to another address", sessions.migrated));
    }
    let setup = &report.setup;
    line(
        "set-up",
        format!(
            "{:.0} a second by {}{} (wanted {:.0}), {} per server CPU-second; {}",
            setup.per_second,
            report.scenario.transport.words(),
            report.scenario.impairment.words(),
            setup.per_second_wanted,
            number(setup.per_server_cpu_second),
            quantiles(&report.connect_us)
        ),
    );
    if let Some(used) = setup.tickets_used {
        line("tickets", format!("{used} handshakes were begun with one"));
    }
    let server = &report.server;
    line(
        "memory",
        format!(
            "{} B user ({} B anonymous), about {} B kernel per session",
            number(server.user_bytes_per_session),
            number(server.anonymous_bytes_per_session),
            number(server.kernel_bytes_per_session)
        ),
    );
    if let Some(hold) = &report.hold {
        let percent = hold.server_cpu_percent_of_a_core.map_or("?".into(), |percent| format!("{percent:.2}"));
        line("hold", format!("{:.0} s, server at {percent} % of a core", hold.seconds));
    }
    let beats = &report.heartbeats;
    line(
        "heartbeats",
        format!(
            "{} sent, {} answered, {} not; {}",
            beats.sent,
            beats.answered,
            beats.unanswered,
            quantiles(&beats.answer_us)
        ),
    );
    if let Some(deliveries) = &report.deliveries {
        let cpu = server.cpu_us_per_delivery.map_or("?".into(), |us| us.to_string());
        line("broadcast", regime(deliveries.regime).into());
        line("", format!("{} of {} pushed, {} missing", deliveries.pushed, deliveries.expected, deliveries.missing));
        line("", format!("{cpu} µs of server CPU each, {} per CPU-second", number(server.deliveries_per_cpu_second)));
        line("first", quantiles(&report.first_delivery_us));
        line("each", quantiles(&report.delivery_us));
        line("last", quantiles(&report.last_delivery_us));
    }
    if let Some(echo) = &report.echo {
        let per_cpu = number(echo.per_server_cpu_second);
        line(
            "echo",
            format!("{} echoed, {:.0} a second, {per_cpu} per server CPU-second", echo.echoed, echo.per_second),
        );
        line("", quantiles(&echo.echo_us));
    }
    if let Some(storm) = &report.storm {
        line(
            "storm",
            format!(
                "{} dropped, all back after {:.1} s; {} turned away, {} given up",
                storm.dropped, storm.seconds, storm.turned_away, storm.failed
            ),
        );
        line("", quantiles(&storm.return_us));
    }
    if let Some(drain) = &report.drain {
        let (asked, of) = (drain.goaways, drain.sessions);
        line("drain", format!("{asked} of {of} asked to go, {:.1} s, {} left", drain.seconds, drain.left));
    }
    if report.duplicated + report.reordered + report.garbled > 0 {
        let (twice, late, garbled) = (report.duplicated, report.reordered, report.garbled);
        line("checked", format!("{twice} twice, {late} late, {garbled} garbled"));
    }
    let generator = &report.generator;
    line(
        "generator",
        format!(
            "{:.0} % of {} threads, {} rings, {} B per client",
            generator.cpu * 100.0,
            generator.threads,
            generator.rings,
            number(generator.bytes_per_client)
        ),
    );
    if report.environment.build == "debug" {
        line("", "This is a debug build: its numbers say nothing about speed.".into());
    }
    line("report", out.join("report.html").display().to_string());
    text
}
