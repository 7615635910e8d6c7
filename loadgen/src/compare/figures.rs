//! The figures of a report that can be compared, and which way each is better.

use serde_json::Value;

use crate::progress::time;
use crate::report::series::Second;
use crate::report::{Beside, Report, number};

/// One number that reports have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    /// Where a report has it.
    pub pointer: &'static str,
    /// For people.
    pub name: &'static str,
    pub unit: Unit,
    pub more_is_better: bool,
    /// Among the figures that are drawn where several targets stand side by side.
    pub shown: bool,
    /// The same in each second, where the series has it; `None` for seconds that have none.
    pub each_second: Option<fn(&Second) -> Option<f64>>,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Microseconds,
    Bytes,
    PerSecond,
    Count,
    /// As it is, with what follows.
    Of(&'static str),
}

const fn figure(pointer: &'static str, name: &'static str, unit: Unit, more_is_better: bool) -> Figure {
    Figure { pointer, name, unit, more_is_better, shown: false, each_second: None }
}

impl Figure {
    const fn shown(self) -> Self {
        Self { shown: true, ..self }
    }

    const fn by_second(self, each: fn(&Second) -> Option<f64>) -> Self {
        Self { each_second: Some(each), ..self }
    }

    /// The value as people read it.
    pub(crate) fn told(&self, value: f64) -> String {
        match self.unit {
            Unit::Microseconds if value >= 100.0 => time(value.round() as u64),
            Unit::Microseconds => format!("{value:.1} µs"),
            Unit::Bytes => format!("{} B", number(value.round())),
            Unit::PerSecond => format!("{}/s", number(value)),
            Unit::Count => number(value),
            Unit::Of(what) => format!("{value:.2} {what}"),
        }
    }

    /// The number that a report has; `None` where it measured none.
    pub(crate) fn of(&self, report: &Value) -> Option<f64> {
        report.pointer(self.pointer).and_then(Value::as_f64)
    }
}

/// A latency of a second in which there was one.
fn known(us: u64) -> Option<f64> {
    (us > 0).then_some(us as f64)
}

/// All figures, in the order in which they are told.
pub(crate) const FIGURES: &[Figure] = &[
    figure("/sends/per_second", "durable messages", Unit::PerSecond, true)
        .shown()
        .by_second(|second| Some(second.acknowledged as f64)),
    figure("/deliveries/per_second", "deliveries", Unit::PerSecond, true)
        .shown()
        .by_second(|second| Some(second.delivered as f64)),
    figure("/echo/per_second", "echoes", Unit::PerSecond, true)
        .shown()
        .by_second(|second| Some(second.delivered as f64)),
    figure("/delivery_us/p50", "delivery, median", Unit::Microseconds, false)
        .by_second(|second| known(second.delivery_p50_us)),
    figure("/delivery_us/p99", "delivery, p99", Unit::Microseconds, false)
        .shown()
        .by_second(|second| known(second.delivery_p99_us)),
    figure("/delivery_us/p999", "delivery, p99.9", Unit::Microseconds, false)
        .by_second(|second| known(second.delivery_p999_us)),
    figure("/last_delivery_us/p99", "delivery to the last, p99", Unit::Microseconds, false),
    figure("/ack_us/p50", "acknowledged, median", Unit::Microseconds, false)
        .by_second(|second| known(second.ack_p50_us)),
    figure("/ack_us/p99", "acknowledged, p99", Unit::Microseconds, false).by_second(|second| known(second.ack_p99_us)),
    figure("/echo/echo_us/p99", "echo, p99", Unit::Microseconds, false)
        .by_second(|second| known(second.delivery_p99_us)),
    figure("/connect_us/p99", "connected, p99", Unit::Microseconds, false),
    figure("/setup/per_second", "set-up", Unit::PerSecond, true),
    figure("/setup/per_server_cpu_second", "set-up per server CPU-second", Unit::Count, true).shown(),
    figure("/storm/seconds", "storm, until all are back", Unit::Of("s"), false),
    figure("/server/user_bytes_per_session", "memory per session, user", Unit::Bytes, false).shown(),
    figure("/server/kernel_bytes_per_session", "memory per session, kernel", Unit::Bytes, false).shown(),
    figure("/server/cpu_us_per_delivery", "server CPU per delivery", Unit::Of("µs"), false).shown(),
    figure("/server/deliveries_per_cpu_second", "deliveries per server CPU-second", Unit::Count, true),
    figure("/echo/per_server_cpu_second", "echoes per server CPU-second", Unit::Count, true).shown(),
    figure("/hold/server_cpu_percent_of_a_core", "server CPU while idle", Unit::Of("% of a core"), false),
    figure("/sessions/held", "sessions held", Unit::Count, true),
    figure("/sessions/failed", "sessions that never came about", Unit::Count, false),
    figure("/lost", "messages lost", Unit::Count, false),
    figure("/deliveries/missing", "deliveries missing", Unit::Count, false),
    figure("/duplicated", "duplicated", Unit::Count, false),
    figure("/reordered", "reordered", Unit::Count, false),
    figure("/garbled", "garbled", Unit::Count, false),
];

impl Beside {
    /// What is put beside another target's report.
    pub(crate) fn of(name: &str, report: &Report) -> Self {
        let value = serde_json::to_value(report).expect("a report is plain data");
        let figures = FIGURES.iter().filter(|figure| figure.shown);
        let figures = figures.filter_map(|figure| Some((figure.pointer.to_owned(), figure.of(&value)?)));
        let verdict = serde_json::to_value(report.verdict).unwrap_or_default();
        Self {
            name: name.to_owned(),
            verdict: verdict.as_str().unwrap_or_default().to_owned(),
            figures: figures.collect(),
        }
    }
}

impl Report {
    /// What its target is called where several stand side by side.
    pub(crate) fn name_of_target(&self) -> String {
        match &self.server.version {
            Some(version) => version.clone(),
            None => format!("{} at {}", self.protocol, self.server.address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_one_that_the_schema_of_reports_has() {
        let schema: Value = serde_json::from_str(crate::report::SCHEMA).unwrap();
        for figure in FIGURES {
            let mut at = &schema;
            for part in figure.pointer.trim_start_matches('/').split('/') {
                if let Some(to) = at["$ref"].as_str() {
                    at = schema.pointer(to.trim_start_matches('#')).unwrap();
                }
                let any = at["anyOf"].as_array().into_iter().flatten().find(|one| one["type"] == "object");
                at = &any.unwrap_or(at)["properties"][part];
                assert!(at.is_object(), "{}: {part}", figure.pointer);
            }
        }
    }

    #[test]
    fn values_are_told_in_their_units() {
        let of = |pointer: &str| FIGURES.iter().find(|figure| figure.pointer == pointer).unwrap();
        assert_eq!(of("/delivery_us/p99").told(12_345.0), "12.3 ms");
        assert_eq!(of("/server/user_bytes_per_session").told(4321.4), "4\u{202f}321 B");
        assert_eq!(of("/sends/per_second").told(2000.0), "2\u{202f}000/s");
    }
}
