//! What broke, or would break first: how near everything that has a limit came to it.

use super::super::Report;
use super::super::draw::{Bar, Bars, Figure, Table, bytes, escape};
use crate::progress::time;
use crate::threshold::Threshold;

/// Something that has a limit.
#[derive(Clone, Debug)]
pub(super) struct Limit {
    pub name: String,
    /// 1: at the limit.
    pub share: f64,
    /// Of what puts the load on, not of what carries it.
    pub generator: bool,
    /// Value and limit.
    pub text: String,
}

/// Everything that has a limit, the nearest first.
pub(super) fn limits(report: &Report) -> Vec<Limit> {
    let mut limits = Vec::new();
    for held in &report.thresholds {
        let bound = held.threshold.parse::<Threshold>().ok().and_then(|threshold| threshold.upper_bound());
        // A bound of nothing is a promise, not a matter of more or less.
        let (Some(bound), Some(value)) = (bound.filter(|bound| *bound > 0.0), held.value) else { continue };
        let told = |value: f64| match held.unit {
            Some(_) => time(value.max(0.0).round() as u64),
            None => super::super::number(value),
        };
        limits.push(Limit {
            name: held.threshold.clone(),
            share: value / bound,
            generator: false,
            text: format!("{} of {}", told(value), told(bound)),
        });
    }
    let environment = &report.environment;
    let cores = environment.cores as f64;
    let busiest = report.server.samples.iter().filter_map(|sample| Some(sample.user_cores? + sample.system_cores?));
    if let Some(most) = busiest.reduce(f64::max).or(report.server.cpu_cores) {
        limits.push(Limit {
            name: "server CPU, busiest second".into(),
            share: most / cores,
            generator: false,
            text: format!("{most:.2} of {cores} cores"),
        });
    }
    let memory = report.server.samples.iter().filter_map(|sample| sample.rss_bytes).max();
    if let (Some(used), Some(all)) = (memory, environment.memory_bytes) {
        limits.push(Limit {
            name: "server memory".into(),
            share: used as f64 / all as f64,
            generator: false,
            text: format!("{} of {}", bytes(used as f64), bytes(all as f64)),
        });
    }
    let generator = &report.generator;
    limits.push(Limit {
        name: "generator CPU".into(),
        share: generator.cpu / generator.cpu_max.max(1e-9),
        generator: true,
        text: format!("{:.0} % of {:.0} %", generator.cpu * 100.0, generator.cpu_max * 100.0),
    });
    if let Some(late) = generator.late_p99_us {
        limits.push(Limit {
            name: "generator late, p99".into(),
            share: late as f64 / generator.late_p99_us_max.max(1) as f64,
            generator: true,
            text: format!("{} of {}", time(late), time(generator.late_p99_us_max)),
        });
    }
    limits.sort_by(|a, b| b.share.total_cmp(&a.share));
    limits
}

/// What broke or would break first, in a sentence of HTML.
pub(super) fn first(report: &Report) -> String {
    let limits = limits(report);
    let named = |limit: &Limit| format!("{} ({})", escape(&limit.name), escape(&limit.text));
    let of_server = || limits.iter().filter(|limit| !limit.generator);
    if let Some(over) = of_server().find(|limit| limit.share >= 1.0) {
        return format!("Over its limit: <b>{}</b>.", named(over));
    }
    let nearest = of_server().next();
    nearest.map_or(String::new(), |nearest| {
        format!("What would break first is at {:.0}\u{a0}% of its limit: {}.", nearest.share * 100.0, named(nearest))
    })
}

/// How near everything came to its limit.
pub(super) fn figure(report: &Report) -> String {
    const SHOWN_MAX: f64 = 1.6;
    let limits = limits(report);
    if limits.is_empty() {
        return String::new();
    }
    let bar = |limit: &Limit| Bar {
        name: limit.name.clone(),
        value: limit.share.min(SHOWN_MAX),
        text: format!("{:.0} %: {}", limit.share * 100.0, limit.text),
        class: match limit.share {
            share if share >= 1.0 => "bad",
            share if share >= 0.8 => "warn",
            _ => "c",
        },
        interval: None,
    };
    let bars = Bars {
        label: format!("How near everything came to its limit; nearest: {}, {}.", limits[0].name, limits[0].text),
        bars: limits.iter().map(bar).collect(),
        line: Some(1.0),
    };
    let rows = limits
        .iter()
        .map(|limit| vec![limit.name.clone(), limit.text.clone(), format!("{:.1} %", limit.share * 100.0)]);
    Figure {
        id: "limits",
        title: "How near the limits".into(),
        intro: "The longest bar is what breaks first under more of the same load; of the generator's own limits that says only where this measurement ends. The line is the limit.".into(),
        drawing: bars.svg(),
        table: Table {
            caption: "Limits and how near they came".into(),
            head: ["limit", "value", "share"].map(str::to_owned).into(),
            rows: rows.collect(),
        },
        ..Figure::default()
    }
    .html()
}
