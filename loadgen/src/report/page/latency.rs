//! Latency over the share of messages that were slower, both logarithmic: the tail is where people wait.

use super::super::draw::{Axis, Chart, Figure, Line, Note, Table, tick};
use super::super::{Quantiles, Report};
use crate::progress::time;

/// What is drawn: its class, its name, its distribution and its curve.
type Drawn<'a> = (&'static str, &'static str, Quantiles, &'a [(f64, u64)]);

fn drawn(report: &Report) -> Vec<Drawn<'_>> {
    let echo = report.echo.as_ref().map_or_else(Quantiles::default, |echo| echo.echo_us);
    let curves = &report.curves;
    let all: [Drawn<'_>; 4] = [
        ("b", "delivered", report.delivery_us, &curves.delivery),
        ("a", "acknowledged", report.ack_us, &curves.ack),
        ("d", "echoed", echo, &curves.echo),
        ("e", "connected", report.connect_us, &curves.connect),
    ];
    all.into_iter().filter(|(.., curve)| !curve.is_empty()).collect()
}

/// Where a quantile lies: each step is a tenth of what was left.
fn place(quantile: f64) -> f64 {
    -(1.0 - quantile).max(1e-12).log10()
}

pub(super) fn percentiles(report: &Report) -> String {
    const NAMES: &[(f64, &str)] = &[
        (0.0, "0 %"),
        (0.5, "50 %"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (0.9999, "99.99 %"),
        (0.99999, "99.999 %"),
        (0.999_999, "99.9999 %"),
    ];
    let curves = drawn(report);
    let points = || curves.iter().flat_map(|(.., curve)| curve.iter());
    let Some(deepest) = points().map(|(quantile, _)| place(*quantile)).reduce(f64::max) else { return String::new() };
    let deepest = deepest.max(1.0);
    let times = || points().map(|(_, us)| (*us).max(1));
    let (least, most) = (times().min().unwrap_or(1), times().max().unwrap_or(1));
    let ticks = NAMES.iter().map(|(quantile, name)| (place(*quantile), (*name).to_owned()));
    let notes = curves.iter().take(2).enumerate().flat_map(|(index, (class, _, times, curve))| {
        let wanted = [(0.5, times.p50), (0.99, times.p99), (0.999, times.p999)];
        let ends = curve.last().map_or(0.0, |(quantile, _)| place(*quantile));
        let wanted = wanted.into_iter().filter(move |(quantile, _)| place(*quantile) <= ends + 1e-9);
        wanted.filter_map(move |(quantile, us)| {
            let us = us?;
            Some(Note { class, at: (place(quantile), us.max(1) as f64), text: time(us), above: index == 0 })
        })
    });
    let first = &curves[0];
    let told = |us: Option<u64>| us.map_or("none".into(), time);
    let chart = Chart {
        label: format!(
            "Latency by percentile. {}: median {}, 99th {}, 99.9th {}.",
            first.1,
            told(first.2.p50),
            told(first.2.p99),
            told(first.2.p999)
        ),
        x: Axis { min: 0.0, max: deepest, log: false, ticks: ticks.filter(|(at, _)| *at <= deepest + 1e-9).collect() },
        y: Axis::log(least as f64, most as f64, tick),
        x_name: "were at least this fast",
        notes: notes.collect(),
        lines: curves
            .iter()
            .map(|(class, name, _, curve)| Line {
                class,
                name: (*name).to_owned(),
                points: curve.iter().map(|(quantile, us)| (place(*quantile), (*us).max(1) as f64)).collect(),
            })
            .collect(),
        bands: Vec::new(),
        hovers: Vec::new(),
    };
    Figure {
        id: "latency",
        title: "Latency".into(),
        intro: "From the moment something was meant to happen, so waiting anywhere counts. Each step to the right is a tenth \
                of what was left."
            .into(),
        legend: curves.iter().map(|(class, name, ..)| (*class, (*name).to_owned())).collect(),
        drawing: chart.svg(),
        table: table(report),
        open: true,
        ..Figure::default()
    }
    .html()
}

/// All distributions there are.
fn table(report: &Report) -> Table {
    let heartbeats = report.heartbeats.as_ref().map_or_else(Quantiles::default, |beats| beats.answer_us);
    let storm = report.storm.as_ref().map_or_else(Quantiles::default, |storm| storm.return_us);
    let echo = report.echo.as_ref().map_or_else(Quantiles::default, |echo| echo.echo_us);
    let rows = [
        ("acknowledged", report.ack_us),
        ("delivered", report.delivery_us),
        ("to the first", report.first_delivery_us),
        ("to the last", report.last_delivery_us),
        ("echoed", echo),
        ("connected", report.connect_us),
        ("heartbeat answered", heartbeats),
        ("back after the storm", storm),
    ];
    let row = |(name, times): (&str, Quantiles)| {
        let cells = [times.p50, times.p90, times.p99, times.p999, times.max];
        let cells = cells.into_iter().map(|us| us.map_or("–".into(), time));
        std::iter::once(name.to_owned()).chain(cells).collect::<Vec<_>>()
    };
    Table {
        caption: "Latencies by percentile".into(),
        head: ["", "median", "p90", "p99", "p99.9", "max"].map(str::to_owned).into(),
        rows: rows.into_iter().filter(|(_, times)| times.count > 0).map(row).collect(),
    }
}
