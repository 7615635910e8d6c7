//! `report.html`: one page that needs nothing else. The answer stands first.

use super::Report;
use crate::mass::plan::Regime;
use crate::progress::time;
use crate::report::Quantiles;
use crate::report::html::number;
use crate::report::sheet::{Sheet, escape, place};

/// The page of a report; `json` is the report itself.
pub(super) fn page(report: &Report, json: &str) -> String {
    let sheet = Sheet {
        name: report.scenario.name,
        verdict: report.verdict,
        reasons: &report.reasons,
        answer: format!("This machine held <b>{}</b> sessions.", number(report.sessions.held as f64)),
        sections: tiles(report)
            + &tables(report)
            + &thresholds(report)
            + &place(&report.environment, report.server.memory_note),
        environment: &report.environment,
        json: Some(json),
    };
    sheet.html()
}

fn tiles(report: &Report) -> String {
    let tile = |name: &str, value: String, more: String| {
        format!("<div class=\"tile\"><span>{name}</span><b>{value}</b><small>{more}</small></div>")
    };
    let bytes = |bytes: Option<f64>| bytes.map_or("–".into(), |bytes| format!("{} B", number(bytes)));
    let sessions = &report.sessions;
    let server = &report.server;
    let mut tiles = tile(
        "Sessions held",
        number(sessions.held as f64),
        format!("of {} wanted; {} lost", number(sessions.wanted as f64), number(sessions.lost as f64)),
    );
    tiles += &tile(
        "Memory per session",
        bytes(server.user_bytes_per_session),
        format!("user; kernel about {}", bytes(server.kernel_bytes_per_session)),
    );
    if let Some(hold) = &report.hold {
        let percent = hold.server_cpu_percent_of_a_core.map_or("–".into(), |percent| format!("{percent:.1} %"));
        tiles += &tile("Server CPU while idle", percent, format!("of a core, for {:.0} s", hold.seconds));
    }
    let setup = &report.setup;
    let per_second = setup.per_server_cpu_second.map_or("–".into(), number);
    tiles += &tile("Set-up per server CPU-second", per_second, format!("{} a second", number(setup.per_second)));
    if report.deliveries.is_some() {
        let per_second = server.deliveries_per_cpu_second.map_or("–".into(), number);
        let p99 = report.delivery_us.p99.map_or("–".into(), time);
        tiles += &tile("Deliveries per server CPU-second", per_second, format!("99 % within {p99}"));
    }
    let generator = &report.generator;
    tiles += &tile(
        "Generator",
        format!("{:.0} %", generator.cpu * 100.0),
        format!("of its cores; {} per client", bytes(generator.bytes_per_client)),
    );
    format!("<div class=\"tiles\">{tiles}</div>\n")
}

/// Rows of a name and a text.
struct Table(&'static str, Vec<(&'static str, String)>);

impl Table {
    fn html(&self) -> String {
        let rows: String =
            self.1.iter().map(|(name, text)| format!("<tr><th>{name}</th><td>{}</td></tr>", escape(text))).collect();
        format!("<section><h2>{}</h2><table>{rows}</table></section>\n", self.0)
    }
}

fn tables(report: &Report) -> String {
    facts(report).iter().map(Table::html).collect()
}

fn facts(report: &Report) -> Vec<Table> {
    let setup = &report.setup;
    let us = |us: Option<f64>| us.map_or("not known".into(), |us| format!("{us:.1} µs"));
    let ends: Vec<String> = report.sessions.ends.iter().map(|(why, count)| format!("{count} × {why}")).collect();
    let by = report.scenario.transport.words().to_owned() + &report.scenario.impairment.words();
    let handshakes = setup.tickets_used.map(|used| format!(", {used} handshakes begun with a ticket"));
    let mut tables = vec![Table(
        "Set-up",
        vec![
            ("by", by + &handshakes.unwrap_or_default()),
            ("rate", format!("{} a second of {} wanted", number(setup.per_second), number(setup.per_second_wanted))),
            ("latency", quantiles(&report.connect_us)),
            ("server", format!("{} of CPU for each", us(setup.server_cpu_us))),
            ("generator", format!("{} of CPU for each", us(setup.generator_cpu_us))),
            ("attempts that failed", format!("{}, {} turned away", setup.attempts_failed, setup.turned_away)),
            ("ends", ends.join(", ")),
        ],
    )];
    let beats = &report.heartbeats;
    tables.push(Table(
        "Heartbeats",
        vec![
            ("each client", format!("every {} ms", beats.every_ms)),
            ("sent", format!("{}, {} answered, {} not", beats.sent, beats.answered, beats.unanswered)),
            ("answered within", quantiles(&beats.answer_us)),
        ],
    ));
    if let Some(deliveries) = &report.deliveries {
        tables.push(Table(
            "Broadcast",
            vec![
                ("regime", regime(deliveries.regime).into()),
                (
                    "pushed",
                    format!(
                        "{} of {} ({} messages to {} subscribers), {} missing",
                        deliveries.pushed,
                        deliveries.expected,
                        deliveries.publishes,
                        deliveries.subscribers,
                        deliveries.missing
                    ),
                ),
                ("to the first", quantiles(&report.first_delivery_us)),
                ("to each", quantiles(&report.delivery_us)),
                ("to the last", quantiles(&report.last_delivery_us)),
                ("server", format!("{} of CPU for each delivery", us(report.server.cpu_us_per_delivery))),
            ],
        ));
    }
    if let Some(echo) = &report.echo {
        let per_cpu = echo.per_server_cpu_second.map_or("not known".into(), number);
        tables.push(Table(
            "Echo",
            vec![
                ("echoed", format!("{}, {} a second", echo.echoed, number(echo.per_second))),
                ("per server CPU-second", per_cpu),
                ("within", quantiles(&echo.echo_us)),
            ],
        ));
    }
    if let Some(storm) = &report.storm {
        tables.push(Table(
            "Storm",
            vec![
                ("dropped", format!("{} at once, slots over {:.0} s", storm.dropped, storm.window_seconds)),
                ("all live again", format!("after {:.1} s; {} given up", storm.seconds, storm.failed)),
                ("turned away", format!("{}, {} of them told when to come back", storm.turned_away, storm.told_when)),
                ("back within", quantiles(&storm.return_us)),
                ("server", format!("{} of CPU for each", us(storm.server_cpu_us_per_session))),
            ],
        ));
    }
    if let Some(drain) = &report.drain {
        let ends: Vec<String> = drain.ends.iter().map(|(why, count)| format!("{count} × {why}")).collect();
        tables.push(Table(
            "Drain",
            vec![
                ("asked to go", format!("{} of {}", drain.goaways, drain.sessions)),
                ("took", format!("{:.1} s; {} left", drain.seconds, drain.left)),
                ("ends", ends.join(", ")),
            ],
        ));
    }
    tables
}

/// A regime in words.
pub(super) const fn regime(regime: Regime) -> &'static str {
    match regime {
        Regime::Paced => "paced: everybody had a message before the next one; nothing to coalesce",
        Regime::Overlapping => "overlapping: the next message was sent before everybody had the one before",
        Regime::Bursts => "bursts: several messages at once, which may leave as one",
    }
}

/// A distribution in a line.
pub(super) fn quantiles(times: &Quantiles) -> String {
    match (times.p50, times.p99, times.p999, times.max) {
        (Some(p50), Some(p99), Some(p999), Some(max)) => {
            format!("p50 {}  p99 {}  p99.9 {}  max {}", time(p50), time(p99), time(p999), time(max))
        }
        _ => "none".into(),
    }
}

fn thresholds(report: &Report) -> String {
    let rows: String = report
        .thresholds
        .iter()
        .map(|held| {
            let mark = if held.well { "<td class=\"mark well\">✓</td>" } else { "<td class=\"mark bad\">✗</td>" };
            format!("<tr><td>{}</td><td class=\"n\">{}</td>{mark}</tr>", escape(&held.threshold), escape(&held.shown()))
        })
        .collect();
    format!("<section><h2>Thresholds</h2><table>{rows}</table></section>\n")
}
