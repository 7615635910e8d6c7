//! What is told in tables: promises kept, thresholds, stages, who put the load on, and where it was run.

use std::fmt::Write as _;

use super::super::draw::{Bar, Bars, Figure, Table, bytes, escape};
use super::super::summary::{quantiles, regime};
use super::super::{Report, number};
use crate::compare::figures::FIGURES;
use crate::progress::time;

/// Losses that the page shows; report.json has more.
const LOSSES_SHOWN_MAX: usize = 20;

fn mark(well: bool) -> &'static str {
    if well { "<span class=\"mark well\">✓ well</span>" } else { "<span class=\"mark bad\">✗ broken</span>" }
}

/// A section with rows of a name and a text.
fn section(id: &str, title: &str, rows: &[(&str, String)]) -> String {
    let rows: String = rows
        .iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| format!("<tr><th scope=\"row\">{name}</th><td>{}</td></tr>", escape(text)))
        .collect();
    format!("<section id=\"{id}\"><h2>{title}</h2><table class=\"stack\"><tbody>{rows}</tbody></table></section>\n")
}

/// Other targets under the same load: a group of bars for each figure that all of them have.
pub(super) fn beside(report: &Report) -> String {
    if report.beside.is_empty() {
        return String::new();
    }
    let own = super::super::Beside::of(&report.name_of_target(), report);
    let all: Vec<_> = std::iter::once(&own).chain(&report.beside).collect();
    let mut drawing = String::new();
    let mut rows = Vec::new();
    for figure in FIGURES.iter().filter(|figure| figure.shown) {
        let values: Vec<_> = all.iter().filter_map(|of| Some((*of, *of.figures.get(figure.pointer)?))).collect();
        if values.len() < 2 {
            continue;
        }
        let bars = values.iter().enumerate().map(|(at, (of, value))| Bar {
            name: of.name.clone(),
            value: *value,
            text: figure.told(*value) + if of.verdict == "generator" { " (invalid)" } else { "" },
            class: if at == 0 { "b" } else { "c" },
            interval: None,
        });
        let label = format!("{} of each target", figure.name);
        let bars = Bars { label, bars: bars.collect(), line: None };
        let better = if figure.more_is_better { "more is better" } else { "less is better" };
        let name = escape(figure.name);
        write!(drawing, "<h3>{name} <small>{better}</small></h3>{}", bars.svg()).expect("a String takes everything");
        let cells =
            all.iter().map(|of| of.figures.get(figure.pointer).map_or("–".into(), |value| figure.told(*value)));
        rows.push(std::iter::once(figure.name.to_owned()).chain(cells).collect());
    }
    let head = std::iter::once(String::new()).chain(all.iter().map(|of| of.name.clone()));
    Figure {
        id: "targets",
        title: "Side by side".into(),
        intro: "The same load against each target, one after the other on this machine.".into(),
        drawing,
        table: Table { caption: "Figures of each target".into(), head: head.collect(), rows },
        ..Figure::default()
    }
    .html()
}

/// What the lean engine did, stage by stage.
pub(super) fn stages(report: &Report) -> String {
    let us = |us: Option<f64>| us.map_or("not known".into(), |us| format!("{us:.1} µs"));
    let ends = |ends: &std::collections::BTreeMap<String, u64>| {
        ends.iter().map(|(why, count)| format!("{count} × {why}")).collect::<Vec<_>>().join(", ")
    };
    let mut html = String::new();
    if let Some(setup) = &report.setup {
        let tickets = setup.tickets_used.map(|used| format!(", {used} handshakes begun with a ticket"));
        let rows = [
            ("by", report.transport.clone() + &tickets.unwrap_or_default()),
            ("rate", format!("{} a second of {} wanted", number(setup.per_second), number(setup.per_second_wanted))),
            ("server", format!("{} of CPU for each", us(setup.server_cpu_us))),
            ("generator", format!("{} of CPU for each", us(setup.generator_cpu_us))),
            ("attempts that failed", format!("{}, {} turned away", setup.attempts_failed, setup.turned_away)),
            ("ends", ends(&report.sessions.ends)),
        ];
        html += &section("setup", "Set-up", &rows);
    }
    if let Some(beats) = report.heartbeats.as_ref().filter(|beats| beats.sent > 0) {
        let rows = [
            ("each client", format!("every {}", time(beats.every_ms.saturating_mul(1000)))),
            (
                "sent",
                format!(
                    "{}, {} answered, {} not",
                    number(beats.sent as f64),
                    number(beats.answered as f64),
                    beats.unanswered
                ),
            ),
        ];
        html += &section("heartbeats", "Heartbeats", &rows);
    }
    if let Some((deliveries, name)) = report.deliveries.as_ref().and_then(|all| Some((all, all.regime.as_deref()?))) {
        let told = |count: Option<u64>| count.map_or("–".into(), |count| number(count as f64));
        let rows = [
            ("regime", regime(name).to_owned()),
            (
                "pushed",
                format!(
                    "{} of {} ({} messages to {} subscribers), {} missing",
                    number(deliveries.pushed as f64),
                    number(deliveries.expected as f64),
                    told(deliveries.publishes),
                    told(deliveries.subscribers),
                    deliveries.missing
                ),
            ),
            ("server", format!("{} of CPU for each delivery", us(report.server.cpu_us_per_delivery))),
        ];
        html += &section("broadcast", "Broadcast", &rows);
    }
    if let Some(echo) = &report.echo {
        let rows = [
            ("echoed", format!("{}, {} a second", number(echo.echoed as f64), number(echo.per_second))),
            ("unanswered", number(echo.unanswered as f64)),
            ("per server CPU-second", echo.per_server_cpu_second.map_or("not known".into(), number)),
        ];
        html += &section("echo", "Echo", &rows);
    }
    if let Some(storm) = &report.storm {
        let rows = [
            ("dropped", format!("{} at once, slots over {:.0} s", number(storm.dropped as f64), storm.window_seconds)),
            ("all live again", format!("after {:.1} s; {} given up", storm.seconds, storm.failed)),
            ("turned away", format!("{}, {} of them told when to come back", storm.turned_away, storm.told_when)),
            ("server", format!("{} of CPU for each", us(storm.server_cpu_us_per_session))),
        ];
        html += &section("storm", "Storm", &rows);
    }
    if let Some(drain) = &report.drain {
        let rows = [
            ("asked to go", format!("{} of {}", drain.goaways, drain.sessions)),
            ("took", format!("{:.1} s; {} left", drain.seconds, drain.left)),
            ("ends", ends(&drain.ends)),
        ];
        html += &section("drain", "Drain", &rows);
    }
    html
}

/// What was checked of what the server acknowledged and pushed.
pub(super) fn promises(report: &Report) -> String {
    let sent = report.sends.as_ref().is_some_and(|sends| sends.intended > 0);
    let delivered = report.deliveries.as_ref().is_some_and(|deliveries| deliveries.expected > 0);
    if !sent && !delivered && report.echo.is_none() {
        return String::new();
    }
    let mut rows = String::new();
    let mut row = |name: &str, count: u64, mark: &str, note: &str| {
        let count = number(count as f64);
        let row = write!(
            rows,
            "<tr><th scope=\"row\">{name}</th><td class=\"n\">{count}</td><td>{mark}</td><td>{note}</td></tr>"
        );
        row.expect("a String takes everything");
    };
    if let Some(sends) = report.sends.as_ref().filter(|sends| sends.acknowledged > 0) {
        row("acknowledged", sends.acknowledged, "", "durable, as the server said");
    }
    if let Some(deliveries) = &report.deliveries {
        row("deliveries expected", deliveries.expected, "", "what follows from them and the memberships");
        row("pushed", deliveries.pushed, "", "arrived at a session that did not have them");
        row("not pushed", deliveries.missing, "", "within the grace, to sessions that were live");
    }
    if let (Some(logs), Some(lost)) = (&report.logs, report.lost)
        && logs.conversations_read > 0
    {
        row(
            "caught up",
            report.caught_up.unwrap_or(0),
            "",
            "read from the log, as a client does when a push was left out",
        );
        let logs = format!(
            "{} entries of {} logs were read after the load",
            number(logs.entries_read as f64),
            number(logs.conversations_read as f64)
        );
        row("lost", lost, mark(lost == 0), &logs);
    }
    row("duplicated", report.duplicated, mark(report.duplicated == 0), "pushed twice to a session, or twice in a log");
    row("reordered", report.reordered, mark(report.reordered == 0), "pushed after a later one of the conversation");
    row("garbled", report.garbled, mark(report.garbled == 0), "holds something else than was sent");
    let losses: Vec<Vec<String>> = report
        .losses
        .iter()
        .take(LOSSES_SHOWN_MAX)
        .map(|loss| vec![loss.conv.clone(), loss.seq.to_string(), loss.why.to_string()])
        .collect();
    let losses = match losses.is_empty() {
        true => String::new(),
        false => {
            let head = ["conversation", "seq", "why"].map(str::to_owned).into();
            format!(
                "<h3>The first losses</h3>{}",
                Table { caption: "The first losses".into(), head, rows: losses }.html()
            )
        }
    };
    format!(
        "<section id=\"promises\"><h2>Promises kept</h2><table class=\"promises\"><tbody>{rows}</tbody></table>{losses}</section>\n"
    )
}

pub(super) fn thresholds(report: &Report) -> String {
    if report.thresholds.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for held in &report.thresholds {
        let value = held.shown().replace(' ', "\u{a0}");
        let mark = if held.well { mark(true) } else { "<span class=\"mark bad\">✗ failed</span>" };
        let row = write!(
            rows,
            "<tr><th scope=\"row\"><code>{}</code></th><td class=\"n\">{value}</td><td>{mark}</td></tr>",
            escape(&held.threshold)
        );
        row.expect("a String takes everything");
    }
    format!("<section id=\"thresholds\"><h2>Thresholds</h2><table><tbody>{rows}</tbody></table></section>\n")
}

/// What the sampled clients of the real SDK saw.
pub(super) fn sdk(report: &Report) -> String {
    let Some(sdk) = &report.sdk else { return String::new() };
    let failures = sdk.failures.iter().map(|(why, count)| format!("{count} × {why}")).collect::<Vec<_>>().join(", ");
    let rows = [
        ("clients", format!("{}, {} entered", sdk.clients, sdk.entered)),
        ("sent", format!("{}, {} acknowledged", sdk.sent, sdk.acknowledged)),
        ("delivered", format!("{}, {} missing", sdk.delivered, sdk.missing)),
        ("checked", format!("{} twice, {} out of order, {} garbled", sdk.duplicated, sdk.reordered, sdk.garbled)),
        ("acknowledged within", quantiles(&sdk.ack_us)),
        ("delivered within", quantiles(&sdk.delivery_us)),
        ("connected within", quantiles(&sdk.connect_us)),
        ("failures", failures),
    ];
    section("sdk", "A sample of the real SDK, beside the load", &rows)
}

/// What the generator says of itself.
pub(super) fn generator(report: &Report) -> String {
    let generator = &report.generator;
    let said = if generator.valid {
        "<p><span class=\"mark well\">✓ valid</span> The generator was not the limit: the numbers are the server's.</p>"
    } else {
        "<p><span class=\"mark bad\">✗ invalid</span> The generator was the limit: the numbers are its own, not the server's.</p>"
    };
    let late = match generator.late_p99_us {
        Some(late) => format!("{} at the 99th percentile, of {} allowed", time(late), time(generator.late_p99_us_max)),
        None => "no intended times in this load".into(),
    };
    let cpu = format!(
        "{:.0} % of {} {}, of {:.0} % allowed",
        generator.cpu * 100.0,
        generator.threads,
        if generator.threads == 1 { "thread" } else { "threads" },
        generator.cpu_max * 100.0
    );
    let rows = [
        ("CPU", cpu),
        ("late sends", late),
        ("unsent", number(generator.unsent as f64)),
        ("rings", generator.rings.map_or(String::new(), |rings| rings.to_string())),
        ("memory per client", generator.bytes_per_client.map_or(String::new(), bytes)),
    ];
    let rows = rows.iter().filter(|(_, text)| !text.is_empty());
    let rows: String =
        rows.map(|(name, text)| format!("<tr><th scope=\"row\">{name}</th><td>{}</td></tr>", escape(text))).collect();
    let threads = generator.by_thread.iter().filter(|thread| thread.cpu_max >= 0.01).take(12).map(|thread| Bar {
        name: thread.name.clone(),
        value: thread.cpu,
        text: format!("{:.0} %, busiest second {:.0} %", thread.cpu * 100.0, thread.cpu_max * 100.0),
        class: if thread.cpu_max >= 0.95 { "warn" } else { "c" },
        interval: None,
    });
    let bars = Bars { label: "CPU of each thread of the generator".into(), bars: threads.collect(), line: Some(1.0) };
    let drawn = match bars.bars.is_empty() {
        true => String::new(),
        false => format!("<h3>Its threads, over the whole run</h3>{}", bars.svg()),
    };
    format!(
        "<section id=\"generator\"><h2>The generator</h2>{said}<table class=\"stack\"><tbody>{rows}</tbody></table>{drawn}</section>\n"
    )
}

/// The processes of a load that several put on.
pub(super) fn workers(report: &Report) -> String {
    if report.workers.is_empty() {
        return String::new();
    }
    let row = |worker: &super::super::WorkerPart| {
        let state = match (worker.lost_after_s, &worker.lost_because) {
            (None, None) => worker.state.clone(),
            (after, why) => format!(
                "lost{}{}",
                after.map_or(String::new(), |after| format!(" after {after:.1} s")),
                why.as_ref().map_or(String::new(), |why| format!(": {why}"))
            ),
        };
        vec![
            worker.address.clone(),
            number(worker.clients as f64),
            worker.threads.to_string(),
            format!("{:.0} %", worker.cpu * 100.0),
            worker.late_p99_us.map_or("–".into(), time),
            number(worker.messages as f64),
            state,
        ]
    };
    let head = ["worker", "clients", "threads", "CPU", "late, p99", "messages", "state"].map(str::to_owned).into();
    Figure {
        id: "workers",
        title: "Workers".into(),
        intro: "The processes that put the load on, one clock each.".into(),
        table: Table { caption: "Workers".into(), head, rows: report.workers.iter().map(row).collect() },
        open: true,
        ..Figure::default()
    }
    .html()
}

pub(super) fn environment(report: &Report) -> String {
    let environment = &report.environment;
    let server = &report.server;
    let own = if server.own { ", started for this run" } else { "" };
    let version = server.version.as_ref().map_or(String::new(), |version| format!(", {version}"));
    let commit = environment.commit.as_ref().map_or(String::new(), |commit| format!(", commit {commit}"));
    let some = |text: &Option<String>| text.clone().unwrap_or_default();
    let count = |count: Option<u64>| count.map_or(String::new(), |count| number(count as f64));
    let rows = [
        ("server", format!("{}{own}{version}", server.address)),
        ("roost-load", format!("{}{commit}, {} build", environment.roost_version, environment.build)),
        (
            "processor",
            environment.cpu.as_ref().map_or(String::new(), |cpu| format!("{cpu}, {} cores", environment.cores)),
        ),
        (
            "memory",
            environment.memory_bytes.map_or(String::new(), |all| format!("{:.1} GiB", all as f64 / f64::from(1 << 30))),
        ),
        ("system", some(&environment.os)),
        ("kernel", some(&environment.kernel)),
        ("data on", some(&environment.data_filesystem)),
        ("descriptors", count(environment.descriptors_max)),
        ("local ports", some(&environment.local_ports)),
        ("listen backlog", count(environment.listen_backlog_max)),
        ("load before", environment.load_average.map_or(String::new(), |load| load.to_string())),
        ("started", environment.started.clone()),
        ("seed", report.scenario["seed"].as_u64().map_or(String::new(), |seed| seed.to_string())),
        ("digest of the load", some(&report.digest)),
    ];
    section("environment", "Environment", &rows)
        + &format!("<section id=\"command\"><h2>Command</h2><pre>{}</pre></section>\n", escape(&environment.command))
}
