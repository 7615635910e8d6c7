//! `report.html`.

use std::fmt::Write as _;

use super::chart::{Axis, Chart, Line, Note};
use super::sheet::{Sheet, escape};
use super::{Quantiles, Report};
use crate::progress::time;
use crate::scenario::{Load, Protocol};

/// Sizes a chart is drawn in: one for a wide page and paper, one for a phone.
const WIDE: (f64, f64) = (836.0, 300.0);
const NARROW: (f64, f64) = (360.0, 260.0);

/// The page of a report; `json` is the report itself.
pub(crate) fn page(report: &Report, json: &str) -> String {
    let mut sections = tiles(report);
    if !report.curves.delivery.is_empty() || !report.curves.ack.is_empty() {
        sections += &percentiles(report);
    }
    if load(report).count() > 1 && report.sends.intended > 0 {
        sections += &throughput(report);
        sections += &latency_over_time(report);
    }
    sections += &memory(report);
    if report.sends.intended > 0 {
        sections += &correctness(report);
    }
    sections += &thresholds(report);
    sections += &environment(report);
    let sheet = Sheet {
        name: &report.scenario.name,
        verdict: report.verdict,
        reasons: &report.reasons,
        answer: carried(report),
        sections,
        environment: &report.environment,
        json: Some(json),
    };
    sheet.html()
}

/// What this machine carried, in a sentence.
fn carried(report: &Report) -> String {
    let sessions = number(report.sessions.held as f64);
    match report.scenario.load {
        Load::Idle { .. } => format!("This machine held <b>{sessions}</b> idle sessions."),
        _ if report.scenario.protocol == Protocol::Plain => format!(
            "This machine carried <b>{sessions}</b> connections and <b>{}</b> deliveries a second{}.",
            number(report.deliveries.per_second),
            p99(", 99 % of them within ", &report.delivery_us)
        ),
        _ => format!(
            "This machine carried <b>{sessions}</b> sessions, <b>{}</b> durable messages and <b>{}</b> deliveries a second{}.",
            number(report.sends.per_second),
            number(report.deliveries.per_second),
            p99(", 99 % of them within ", &report.delivery_us)
        ),
    }
}

fn p99(before: &str, times: &Quantiles) -> String {
    times.p99.map_or(String::new(), |us| format!("{before}<b>{}</b>", time(us)))
}

fn tiles(report: &Report) -> String {
    let tile = |name: &str, value: String, more: String| {
        format!("<div class=\"tile\"><span>{name}</span><b>{value}</b><small>{more}</small></div>")
    };
    let unknown = || "–".to_owned();
    let sessions = &report.sessions;
    let mut tiles = tile(
        "Sessions held",
        number(sessions.held as f64),
        format!("of {} wanted, by {}", number(sessions.wanted as f64), report.scenario.by()),
    );
    if report.sends.intended > 0 {
        let some = |us: Option<u64>| us.map_or_else(unknown, time);
        let median = |times: &Quantiles| format!("median {}", some(times.p50));
        if report.ack_us.count > 0 {
            tiles += &tile("Acknowledged, p99", some(report.ack_us.p99), median(&report.ack_us));
        }
        tiles += &tile("Delivered, p99", some(report.delivery_us.p99), median(&report.delivery_us));
        let lost = match report.scenario.protocol {
            Protocol::Roost => {
                (number(report.lost as f64), format!("of {} acknowledged", number(report.sends.acknowledged as f64)))
            }
            Protocol::Plain => (unknown(), "nothing is acknowledged".into()),
        };
        tiles += &tile("Lost", lost.0, lost.1);
    }
    let server = &report.server;
    let memory = server.user_bytes_per_session.map_or_else(unknown, |bytes| format!("{} B", number(bytes)));
    let kernel = server.kernel_bytes_per_session.map_or_else(unknown, |bytes| format!("{} B", number(bytes)));
    tiles += &tile("Memory per session", memory, format!("user; kernel about {kernel}"));
    if let Some(us) = server.cpu_us_per_delivery {
        let cores = server.cpu_cores.unwrap_or_default();
        tiles += &tile("Server CPU per delivery", format!("{us} µs"), format!("{cores:.2} cores busy"));
    }
    let generator = &report.generator;
    let late = generator.late_p99_us.map_or("no intended times".into(), |us| format!("{} late at p99", time(us)));
    tiles += &tile(
        "Generator",
        format!("{:.0} %", generator.cpu * 100.0),
        format!("of its {}; {late}", plural(generator.threads, "core")),
    );
    format!("<div class=\"tiles\">{tiles}</div>\n")
}

fn plural(count: u32, what: &str) -> String {
    if count == 1 { format!("one {what}") } else { format!("{count} {what}s") }
}

fn legend(entries: &[(&str, &str)]) -> String {
    let entries: String =
        entries.iter().map(|(class, name)| format!("<li><i class=\"{class}\"></i>{name}</li>")).collect();
    format!("<ul class=\"legend\">{entries}</ul>")
}

fn drawn(chart: &Chart) -> String {
    chart.svg("wide", WIDE.0, WIDE.1) + &chart.svg("narrow", NARROW.0, NARROW.1)
}

/// Latency over the share of messages that were slower, both logarithmic: the tail is where people wait.
fn percentiles(report: &Report) -> String {
    let curves = [("b", &report.curves.delivery), ("a", &report.curves.ack)];
    let curves: Vec<_> = curves.into_iter().filter(|(_, curve)| !curve.is_empty()).collect();
    let place = |quantile: f64| -(1.0 - quantile).max(1e-12).log10();
    let points =
        |curve: &[(f64, u64)]| curve.iter().map(|(at, us)| (place(*at), (*us).max(1) as f64)).collect::<Vec<_>>();
    let all = || curves.iter().flat_map(|(_, curve)| curve.iter());
    let deepest = all().map(|(quantile, _)| place(*quantile)).fold(1.0, f64::max);
    let least = all().map(|(_, us)| *us).min().unwrap_or(1).max(1);
    let most = all().map(|(_, us)| *us).max().unwrap_or(1).max(1);
    let names = [
        (0.0, "0 %"),
        (0.5, "50 %"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (0.9999, "99.99 %"),
        (0.99999, "99.999 %"),
    ];
    let ticks = names.iter().map(|(quantile, name)| (place(*quantile), (*name).to_owned()));
    let ticks = ticks.filter(|(at, _)| *at <= deepest + 1e-9).collect();
    let notes = curves.iter().enumerate().flat_map(|(index, (class, _))| {
        let times = if *class == "a" { &report.ack_us } else { &report.delivery_us };
        let wanted = [(0.5, times.p50), (0.99, times.p99), (0.999, times.p999)];
        let wanted = wanted.into_iter().filter(|(quantile, _)| place(*quantile) <= deepest);
        wanted.filter_map(move |(quantile, us)| {
            let us = us?;
            Some(Note { class, at: (place(quantile), us.max(1) as f64), text: time(us), above: index == 0 })
        })
    });
    let chart = Chart {
        label: format!(
            "Latency by percentile. Delivery: median {}, 99th {}.",
            report.delivery_us.p50.map_or("none".into(), time),
            report.delivery_us.p99.map_or("none".into(), time)
        ),
        x: Axis { min: 0.0, max: deepest, log: false, ticks },
        y: Axis::log(least as f64, most as f64, tick),
        x_name: "of messages were at least this fast",
        notes: notes.collect(),
        lines: curves.iter().map(|(class, curve)| Line { class, points: points(curve) }).collect(),
        hovers: Vec::new(),
    };
    let names: Vec<_> =
        curves.iter().map(|(class, _)| (*class, if *class == "a" { "acknowledged" } else { "delivered" })).collect();
    let rows =
        [("Acknowledged", &report.ack_us), ("Delivered", &report.delivery_us), ("Connected", &report.connect_us)];
    let rows: String =
        rows.iter().filter(|(_, times)| times.count > 0).map(|(name, times)| quantile_row(name, times)).collect();
    format!(
        "<section><h2>Latency</h2><p>From the moment a message was meant to be sent, so waiting anywhere counts.</p>{}{}\
         <div class=\"scroll\"><table class=\"quantiles\"><tr><th></th><th>median</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th></tr>{rows}</table></div></section>\n",
        legend(&names),
        drawn(&chart)
    )
}

fn quantile_row(name: &str, times: &Quantiles) -> String {
    let cells: String = [times.p50, times.p90, times.p99, times.p999, times.max]
        .into_iter()
        .map(|us| format!("<td>{}</td>", us.map_or("–".into(), time).replace(' ', "&nbsp;")))
        .collect();
    format!("<tr><th>{name}</th>{cells}</tr>")
}

/// A time at an axis.
fn tick(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{us} µs"),
        us if us < 1e6 => format!("{} ms", us / 1e3),
        us => format!("{} s", us / 1e6),
    }
}

/// The seconds of the load itself: not those in which the last answers came.
fn load(report: &Report) -> impl Iterator<Item = &super::series::Second> {
    let hold = report.scenario.load.hold().as_secs_f64().ceil() as u64;
    report.series.iter().filter(move |second| second.second < hold)
}

/// The same as an axis.
fn seconds(report: &Report) -> Axis {
    let last = load(report).last().map_or(1.0, |second| second.second as f64 + 1.0);
    let mut axis = Axis { max: last, ..Axis::linear(last, |second| format!("{second} s")) };
    axis.ticks.retain(|(at, _)| *at <= last);
    axis
}

fn over_time(report: &Report, of: impl Fn(&super::series::Second) -> u64) -> Vec<(f64, f64)> {
    load(report).map(|second| (second.second as f64 + 0.5, of(second) as f64)).collect()
}

fn throughput(report: &Report) -> String {
    let acknowledged = report.sends.acknowledged > 0;
    let mut lines = vec![
        Line { class: "c", points: over_time(report, |second| second.sent) },
        Line { class: "b", points: over_time(report, |second| second.delivered) },
    ];
    let mut names = vec![("b", "delivered"), ("c", "sent")];
    if acknowledged {
        lines.push(Line { class: "a", points: over_time(report, |second| second.acknowledged) });
        names.insert(1, ("a", "acknowledged"));
    }
    let most = lines.iter().flat_map(|line| &line.points).map(|(_, count)| *count).fold(0.0, f64::max);
    let hovers = load(report).map(|second| {
        let text = format!(
            "second {}: {} sent, {} acknowledged, {} delivered, {} errors",
            second.second, second.sent, second.acknowledged, second.delivered, second.errors
        );
        (second.second as f64, second.second as f64 + 1.0, text)
    });
    let chart = Chart {
        label: format!("Messages per second: {} delivered on average.", number(report.deliveries.per_second)),
        x: seconds(report),
        y: Axis::linear(most, number),
        x_name: "of the load",
        lines,
        notes: Vec::new(),
        hovers: hovers.collect(),
    };
    format!(
        "<section><h2>Messages per second</h2><p>Sent means written by the generator.</p>{}{}</section>\n",
        legend(&names),
        drawn(&chart)
    )
}

fn latency_over_time(report: &Report) -> String {
    let worst = over_time(report, |second| second.delivery_p99_us.max(1));
    let median = over_time(report, |second| second.delivery_p50_us.max(1));
    let busy = |points: Vec<(f64, f64)>| points.into_iter().filter(|(_, us)| *us > 1.0).collect::<Vec<_>>();
    let (worst, median) = (busy(worst), busy(median));
    if worst.len() < 2 {
        return String::new();
    }
    let least = median.iter().map(|(_, us)| *us).fold(f64::MAX, f64::min);
    let most = worst.iter().map(|(_, us)| *us).fold(1.0, f64::max);
    let hovers = load(report).map(|second| {
        let text = format!(
            "second {}: delivery median {}, p99 {}, max {}",
            second.second,
            time(second.delivery_p50_us),
            time(second.delivery_p99_us),
            time(second.delivery_max_us)
        );
        (second.second as f64, second.second as f64 + 1.0, text)
    });
    let chart = Chart {
        label: "Delivery latency in each second of the load.".into(),
        x: seconds(report),
        y: Axis::log(least, most, tick),
        x_name: "of the load",
        lines: vec![Line { class: "c", points: median }, Line { class: "b", points: worst }],
        notes: Vec::new(),
        hovers: hovers.collect(),
    };
    let names = [("b", "delivered, 99th percentile"), ("c", "delivered, median")];
    format!(
        "<section><h2>Latency over time</h2><p>Of what was delivered in each second.</p>{}{}</section>\n",
        legend(&names),
        drawn(&chart)
    )
}

fn memory(report: &Report) -> String {
    let server = &report.server;
    let Some(user) = server.user_bytes_per_session else {
        let why = "The server's process was not known (--server-pid), or it is on another machine.";
        return format!("<section><h2>Memory per session</h2><p class=\"note\">{why}</p></section>\n");
    };
    let kernel = server.kernel_bytes_per_session;
    let bar =
        |class: &str, bytes: f64| format!("<div class=\"{class}\" style=\"flex-grow:{:.0}\"></div>", bytes.max(1.0));
    let mut bars = bar("b", user);
    let mut names = vec![("b", format!("server, user space: <b>{} B</b>", number(user)))];
    if let Some(kernel) = kernel {
        bars += &bar("c", kernel);
        names.push(("c", format!("kernel, estimated: <b>{} B</b>", number(kernel))));
    }
    let names: Vec<(&str, &str)> = names.iter().map(|(class, name)| (*class, name.as_str())).collect();
    format!(
        "<section><h2>Memory per session</h2><p>Of {} sessions that say nothing.</p>{}<div class=\"split\">{bars}</div><p class=\"note\">{}</p></section>\n",
        number(report.sessions.wanted.saturating_sub(report.sessions.failed) as f64),
        legend(&names),
        server.memory_note
    )
}

fn mark(well: bool) -> &'static str {
    if well { "<span class=\"mark well\">✓ well</span>" } else { "<span class=\"mark bad\">✗ broken</span>" }
}

fn correctness(report: &Report) -> String {
    let mut rows = String::new();
    let mut row = |name: &str, count: u64, mark: &str, note: &str| {
        let count = number(count as f64);
        let row = write!(rows, "<tr><th>{name}</th><td class=\"n\">{count}</td><td>{mark}</td><td>{note}</td></tr>");
        row.expect("a String takes everything");
    };
    row("acknowledged", report.sends.acknowledged, "", "durable, as the server said");
    row("deliveries expected", report.deliveries.expected, "", "what follows from them and the memberships");
    row("pushed", report.deliveries.pushed, "", "arrived at a session that did not have them");
    if report.scenario.protocol == Protocol::Roost {
        row("caught up", report.caught_up, "", "read from the log, as a client does when a push was left out");
        let logs = format!(
            "{} entries of {} logs were read after the load",
            number(report.logs.entries_read as f64),
            number(report.logs.conversations_read as f64)
        );
        row("lost", report.lost, mark(report.lost == 0), &logs);
    }
    row("duplicated", report.duplicated, mark(report.duplicated == 0), "pushed twice to a session, or twice in a log");
    row("reordered", report.reordered, mark(report.reordered == 0), "pushed after a later one of the conversation");
    row("garbled", report.garbled, mark(report.garbled == 0), "holds something else than was sent");
    let mut losses = String::new();
    for loss in &report.losses {
        write!(
            losses,
            "<tr><td><code>{}</code></td><td class=\"n\">{}</td><td>{}</td></tr>",
            escape(&loss.conv),
            loss.seq,
            loss.why
        )
        .expect("a String takes everything");
    }
    if !losses.is_empty() {
        losses = format!(
            "<h2>The first losses</h2><div class=\"scroll\"><table><tr><th>conversation</th><th>seq</th><th></th></tr>{losses}</table></div>"
        );
    }
    format!(
        "<section><h2>Promises kept</h2><div class=\"scroll\"><table class=\"promises\">{rows}</table></div>{losses}</section>\n"
    )
}

fn thresholds(report: &Report) -> String {
    if report.thresholds.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for held in &report.thresholds {
        let value = held.shown();
        let mark = if held.well { mark(true) } else { "<span class=\"mark bad\">✗ failed</span>" };
        write!(
            rows,
            "<tr><th><code>{}</code></th><td class=\"n\">{value}</td><td>{mark}</td></tr>",
            escape(&held.threshold)
        )
        .expect("a String takes everything");
    }
    format!("<section><h2>Thresholds</h2><table>{rows}</table></section>\n")
}

fn environment(report: &Report) -> String {
    let environment = &report.environment;
    let server = &report.server;
    let mut rows = String::new();
    let mut row = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            write!(rows, "<tr><th>{name}</th><td>{}</td></tr>", escape(&value)).expect("a String takes everything");
        }
    };
    let own = if server.own { ", started for this run" } else { "" };
    row(
        "server",
        Some(format!(
            "{}{own}{}",
            server.address,
            server.version.as_ref().map_or(String::new(), |version| format!(", {version}"))
        )),
    );
    let commit = environment.commit.map_or(String::new(), |commit| format!(", commit {commit}"));
    row("roost-load", Some(format!("{}{commit}, {} build", environment.roost_version, environment.build)));
    row("processor", environment.cpu.as_ref().map(|cpu| format!("{cpu}, {} cores", environment.cores)));
    row("memory", environment.memory_bytes.map(|bytes| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))));
    row("system", environment.os.clone());
    row("kernel", environment.kernel.clone());
    row("data on", environment.data_filesystem.clone());
    row("descriptors", environment.descriptors_max.map(|max| number(max as f64)));
    row("local ports", environment.local_ports.clone());
    row("listen backlog", environment.listen_backlog_max.map(|max| number(max as f64)));
    row("load before", environment.load_average.map(|load| load.to_string()));
    row("seed", Some(report.scenario.seed.to_string()));
    format!(
        "<section><h2>Environment</h2><table class=\"stack\">{rows}</table></section>\n\
         <section><h2>Command</h2><pre>{}</pre></section>\n",
        escape(&environment.command)
    )
}

/// A number with its thousands apart, and a digit behind the point only where it says something.
pub(crate) fn number(value: f64) -> String {
    let decimals = usize::from(value.abs() < 100.0 && value.fract().abs() > 0.05);
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), ""), |(whole, rest)| (whole, rest));
    let mut apart = String::new();
    for (at, digit) in whole.char_indices() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            apart.push('\u{202f}');
        }
        apart.push(digit);
    }
    if rest.is_empty() { apart } else { format!("{apart}.{rest}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        for (value, text) in [
            (0.0, "0"),
            (999.0, "999"),
            (1000.0, "1\u{202f}000"),
            (1_234_567.4, "1\u{202f}234\u{202f}567"),
            (0.25, "0.2"),
            (12.5, "12.5"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn text_of_others_stays_text() {
        assert_eq!(escape("<a b=\"c\">&"), "&lt;a b=&quot;c&quot;&gt;&amp;");
    }
}
