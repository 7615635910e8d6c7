//! The run second by second, with its phases.

use super::super::draw::{Axis, Band, Chart, Figure, Line, Table, bytes, escape, tick};
use super::super::series::Second;
use super::super::{Report, number};
use crate::progress::time;

/// Points of a line: as many as can be told apart.
const POINTS_MAX: usize = 400;
/// Rows of a table.
const ROWS_MAX: usize = 120;

/// What is the same for all plots over time: they stand one below the other.
struct Span {
    from: f64,
    to: f64,
    bands: Vec<Band>,
}

impl Span {
    fn of(report: &Report) -> Self {
        let seconds = report.series.iter().filter(|second| is_busy(second)).map(|second| second.second as f64);
        let last = seconds.fold(1.0, |last: f64, second| last.max(second + 1.0));
        let from = report.phases.iter().map(|phase| phase.from_s).fold(0.0, f64::min);
        let to = report.phases.iter().map(|phase| phase.to_s).fold(last, f64::max);
        let bands =
            report.phases.iter().map(|phase| Band { name: phase.name.clone(), from: phase.from_s, to: phase.to_s });
        Self { from, to, bands: bands.collect() }
    }

    fn chart(&self, label: String, y: Axis, lines: Vec<Line>, hovers: Vec<(f64, f64, String)>) -> Chart {
        Chart {
            label,
            x: Axis::seconds(self.from, self.to),
            y,
            x_name: "since the load began",
            lines,
            notes: Vec::new(),
            bands: self.bands.clone(),
            hovers,
        }
    }
}

fn is_busy(second: &Second) -> bool {
    second.sent + second.acknowledged + second.delivered + second.errors + second.connected > 0 || second.live.is_some()
}

/// A line of as many points as can be seen: of those that stand in one place, `of_many` makes one.
fn line(
    class: &'static str,
    name: &str,
    points: &[(f64, f64)],
    of_many: impl Fn(&mut dyn Iterator<Item = f64>) -> f64,
) -> Line {
    let each = points.len().div_ceil(POINTS_MAX).max(1);
    let points = points.chunks(each).map(|chunk| {
        let middle = chunk.iter().map(|(at, _)| at).sum::<f64>() / chunk.len() as f64;
        (middle, of_many(&mut chunk.iter().map(|(_, value)| *value)))
    });
    Line { class, name: name.to_owned(), points: points.collect() }
}

fn mean(values: &mut dyn Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / f64::max(count, 1.0)
}

fn most(values: &mut dyn Iterator<Item = f64>) -> f64 {
    values.fold(0.0, f64::max)
}

fn top(lines: &[Line]) -> f64 {
    lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value).fold(0.0, f64::max)
}

fn legend(lines: &[Line]) -> Vec<(&'static str, String)> {
    lines.iter().map(|line| (line.class, line.name.clone())).collect()
}

/// Rows of what happened in each second, or in every so many of them.
fn rows(seconds: &[&Second], cells: impl Fn(&Second) -> Vec<String>) -> Vec<Vec<String>> {
    let step = seconds.len().div_ceil(ROWS_MAX).max(1);
    let row = |second: &&Second| std::iter::once(format!("{} s", second.second)).chain(cells(second)).collect();
    seconds.iter().step_by(step).map(row).collect()
}

pub(super) fn figures(report: &Report) -> String {
    let seconds: Vec<&Second> = report.series.iter().filter(|second| is_busy(second)).collect();
    let span = Span::of(report);
    let mut html = String::new();
    if seconds.len() > 1 {
        html += &rate(report, &span, &seconds);
        html += &latency(&span, &seconds);
        html += &sessions(report, &span, &seconds);
        html += &errors(&span, &seconds);
    }
    html + &server(report, &span)
}

fn over(seconds: &[&Second], of: impl Fn(&Second) -> f64) -> Vec<(f64, f64)> {
    seconds.iter().map(|second| (second.second as f64 + 0.5, of(second))).collect()
}

fn hovers(seconds: &[&Second], text: impl Fn(&Second) -> String) -> Vec<(f64, f64, String)> {
    if seconds.len() > POINTS_MAX {
        return Vec::new();
    }
    let hover = |second: &&Second| (second.second as f64, second.second as f64 + 1.0, text(second));
    seconds.iter().map(hover).collect()
}

fn rate(report: &Report, span: &Span, seconds: &[&Second]) -> String {
    let all = [
        line("e", "connected", &over(seconds, |second| second.connected as f64), mean),
        line("c", "sent", &over(seconds, |second| second.sent as f64), mean),
        line("b", "delivered", &over(seconds, |second| second.delivered as f64), mean),
        line("a", "acknowledged", &over(seconds, |second| second.acknowledged as f64), mean),
    ];
    let lines: Vec<Line> = all.into_iter().filter(|line| line.points.iter().any(|(_, value)| *value > 0.0)).collect();
    if lines.is_empty() {
        return String::new();
    }
    let text = |second: &Second| {
        format!(
            "second {}: {} sent, {} acknowledged, {} delivered, {} errors",
            second.second, second.sent, second.acknowledged, second.delivered, second.errors
        )
    };
    let per_second = report.deliveries.as_ref().map_or(0.0, |deliveries| deliveries.per_second);
    let label = format!("Messages per second: {} delivered on average.", number(per_second));
    let y = Axis::linear(top(&lines), number);
    let legend = legend(&lines);
    let table = rows(seconds, |second| {
        [second.connected, second.sent, second.acknowledged, second.delivered].map(|count| number(count as f64)).into()
    });
    Figure {
        id: "rate",
        title: "Messages per second".into(),
        intro: "Sent means written by the generator.".into(),
        legend,
        drawing: span.chart(label, y, lines, hovers(seconds, text)).svg(),
        note: phases(report),
        table: Table {
            caption: "Messages in each second".into(),
            head: ["second", "connected", "sent", "acknowledged", "delivered"].map(str::to_owned).into(),
            rows: table,
        },
        ..Figure::default()
    }
    .html()
}

/// The phases in words: where a plot is small there is no room for their names.
fn phases(report: &Report) -> String {
    let whole = |seconds: f64| (seconds * 10.0).round() / 10.0;
    let told: Vec<String> = report
        .phases
        .iter()
        .map(|phase| format!("<b>{}</b> {} to {}\u{a0}s", escape(&phase.name), whole(phase.from_s), whole(phase.to_s)))
        .collect();
    if told.is_empty() {
        String::new()
    } else {
        format!("Phases, in seconds since the load began: {}.", told.join(", "))
    }
}

fn latency(span: &Span, seconds: &[&Second]) -> String {
    // A second in which nothing was delivered has no latency.
    let seconds: Vec<&Second> = seconds.iter().filter(|second| second.delivery_max_us > 0).copied().collect();
    if seconds.len() < 2 {
        return String::new();
    }
    let us = |us: u64| us.max(1) as f64;
    let lines = vec![
        line("c", "median", &over(&seconds, |second| us(second.delivery_p50_us)), mean),
        line("b", "p99", &over(&seconds, |second| us(second.delivery_p99_us)), most),
        line("a", "p99.9", &over(&seconds, |second| us(second.delivery_p999_us)), most),
    ];
    let least = lines[0].points.iter().map(|(_, us)| *us).fold(f64::MAX, f64::min);
    let worst = seconds.iter().max_by_key(|second| second.delivery_p99_us);
    let label = format!(
        "Delivery latency in each second. The worst 99th percentile was {} in second {}.",
        worst.map_or("none".into(), |second| time(second.delivery_p99_us)),
        worst.map_or(0, |second| second.second)
    );
    let cells = |second: &Second| {
        [second.delivery_p50_us, second.delivery_p99_us, second.delivery_p999_us, second.delivery_max_us].map(time)
    };
    let text = |second: &Second| {
        let [p50, p99, p999, max] = cells(second);
        format!("second {}: median {p50}, p99 {p99}, p99.9 {p999}, max {max}", second.second)
    };
    let y = Axis::log(least, top(&lines), tick);
    let legend = legend(&lines);
    Figure {
        id: "latency-over-time",
        title: "Latency over time".into(),
        intro: "Of what was delivered in each second.".into(),
        legend,
        drawing: span.chart(label, y, lines, hovers(&seconds, text)).svg(),
        table: Table {
            caption: "Delivery latency in each second".into(),
            head: ["second", "median", "p99", "p99.9", "max"].map(str::to_owned).into(),
            rows: rows(&seconds, |second| cells(second).into()),
        },
        ..Figure::default()
    }
    .html()
}

fn sessions(report: &Report, span: &Span, seconds: &[&Second]) -> String {
    let live: Vec<(f64, f64)> =
        seconds.iter().filter_map(|second| Some((second.second as f64 + 1.0, second.live? as f64))).collect();
    let (least, top) =
        live.iter().fold((f64::MAX, 0.0), |(least, top): (f64, f64), (_, live)| (least.min(*live), top.max(*live)));
    // A straight line says what the first tile says.
    if live.len() < 2 || (least - top).abs() < 0.5 {
        return String::new();
    }
    let lines = vec![line("b", "live sessions", &live, mean)];
    let wanted = number(report.sessions.wanted as f64);
    let label = format!("Live sessions over time, of {wanted} wanted; {} at most.", number(top));
    let y = Axis::linear(top, number);
    let table = rows(seconds, |second| vec![second.live.map_or("–".into(), |live| number(live as f64))]);
    Figure {
        id: "sessions",
        title: "Live sessions".into(),
        legend: legend(&lines),
        drawing: span.chart(label, y, lines, Vec::new()).svg(),
        table: Table {
            caption: "Live sessions in each second".into(),
            head: ["second", "live"].map(str::to_owned).into(),
            rows: table,
        },
        ..Figure::default()
    }
    .html()
}

fn errors(span: &Span, seconds: &[&Second]) -> String {
    let all = [
        line("a", "errors", &over(seconds, |second| second.errors as f64), mean),
        line("c", "unsent", &over(seconds, |second| second.unsent as f64), mean),
    ];
    let lines: Vec<Line> = all.into_iter().filter(|line| line.points.iter().any(|(_, value)| *value > 0.0)).collect();
    if lines.is_empty() {
        return String::new();
    }
    let sum: u64 = seconds.iter().map(|second| second.errors).sum();
    let label = format!("Errors of the server in each second, {sum} in all.");
    let y = Axis::linear(top(&lines), number);
    let legend = legend(&lines);
    let failing: Vec<&Second> = seconds.iter().filter(|second| second.errors + second.unsent > 0).copied().collect();
    Figure {
        id: "errors",
        title: "Errors".into(),
        intro: "Unsent: its time came, and the session was down or had too much under way.".into(),
        legend,
        drawing: span.chart(label, y, lines, Vec::new()).svg(),
        table: Table {
            caption: "Seconds with errors".into(),
            head: ["second", "errors", "unsent"].map(str::to_owned).into(),
            rows: rows(&failing, |second| [second.errors, second.unsent].map(|count| number(count as f64)).into()),
        },
        ..Figure::default()
    }
    .html()
}

/// The server's process: cores in use, and memory.
fn server(report: &Report, span: &Span) -> String {
    let samples = &report.server.samples;
    let points = |of: &dyn Fn(&super::super::Sample) -> Option<f64>| -> Vec<(f64, f64)> {
        let inside = samples.iter().filter(|sample| sample.at_s >= span.from && sample.at_s <= span.to + 1.0);
        inside.filter_map(|sample| Some((sample.at_s.min(span.to), of(sample)?))).collect()
    };
    let user = points(&|sample| sample.user_cores);
    if user.len() < 2 {
        return String::new();
    }
    let both = points(&|sample| Some(sample.user_cores? + sample.system_cores?));
    let lines = vec![
        line("a", "server, kernel on its behalf included", &both, mean),
        line("b", "server, its own code", &user, mean),
        line("c", "generator", &points(&|sample| sample.generator_cores), mean),
    ];
    let label = format!("Cores in use over time; the server {:.2} at most.", top(&lines[..1]));
    let y = Axis::linear(top(&lines), |cores| format!("{}", (cores * 1e3).round() / 1e3));
    let step = samples.len().div_ceil(ROWS_MAX).max(1);
    let cores = |cores: Option<f64>| cores.map_or("–".into(), |cores| format!("{cores:.2}"));
    let rows = samples.iter().step_by(step).map(|sample| {
        vec![
            format!("{:.0} s", sample.at_s),
            cores(sample.user_cores),
            cores(sample.system_cores),
            cores(sample.generator_cores),
            sample.rss_bytes.map_or("–".into(), |rss| bytes(rss as f64)),
        ]
    });
    let cpu = Figure {
        id: "cpu-over-time",
        title: "Cores in use".into(),
        intro: "Told by the kernel, once a second.".into(),
        legend: legend(&lines),
        drawing: span.chart(label, y, lines, Vec::new()).svg(),
        table: Table {
            caption: "Cores in use and memory, by second".into(),
            head: ["at", "server, own code", "server, kernel", "generator", "server's memory"]
                .map(str::to_owned)
                .into(),
            rows: rows.collect(),
        },
        ..Figure::default()
    };
    cpu.html() + &memory(span, &points(&|sample| sample.rss_bytes.map(|rss| rss as f64)))
}

fn memory(span: &Span, points: &[(f64, f64)]) -> String {
    if points.len() < 2 {
        return String::new();
    }
    let lines = vec![line("b", "resident", points, most)];
    let label = format!("The server's resident memory over time, {} at most.", bytes(top(&lines)));
    let y = Axis::linear(top(&lines) / 1e6, |mb| format!("{} MB", number(mb)));
    let lines: Vec<Line> = lines
        .into_iter()
        .map(|line| Line { points: line.points.into_iter().map(|(at, value)| (at, value / 1e6)).collect(), ..line })
        .collect();
    Figure {
        id: "memory-over-time",
        title: "The server's memory".into(),
        intro: "All that is resident.".into(),
        legend: legend(&lines),
        drawing: span.chart(label, y, lines, Vec::new()).svg(),
        ..Figure::default()
    }
    .html()
}
