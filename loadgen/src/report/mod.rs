//! The answer of a run, as data: `report.json`, described by `report/schema.json`, and a page made from it.

pub(crate) mod build;
mod chart;
pub(crate) mod html;
pub(crate) mod series;
pub(crate) mod sheet;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::host::Environment;
use crate::ledger::Loss;
use crate::scenario::Scenario;
use crate::threshold::Held;
use crate::verdict::Verdict;

/// The version of the report's form. It changes when a field changes its meaning or goes.
pub(crate) const FORMAT: &str = "roost-load/1";

/// `report.json`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub format: &'static str,
    pub verdict: Verdict,
    pub exit_code: u8,
    /// Why the verdict is what it is, in sentences.
    pub reasons: Vec<String>,
    pub sessions: Sessions,
    pub sends: Sends,
    pub deliveries: Deliveries,
    /// From the intended time of a message to each push of it.
    pub delivery_us: Quantiles,
    /// From the intended time of a message to its SENT.
    pub ack_us: Quantiles,
    /// From opening a connection to WELCOME.
    pub connect_us: Quantiles,
    /// Acknowledged messages that are not in the log where they were acknowledged to be.
    pub lost: u64,
    /// Pushes of what a session had been pushed before, and messages that stand in a log twice.
    pub duplicated: u64,
    /// Pushes after a later one of the same conversation.
    pub reordered: u64,
    /// Messages that hold something else than was sent.
    pub garbled: u64,
    /// Entries that sessions read from the log because no push had brought them.
    pub caught_up: u64,
    /// Acknowledged entries of which it could not be found out.
    pub unverified: u64,
    /// The first losses.
    pub losses: Vec<Loss>,
    pub logs: Logs,
    /// ERRORs by code.
    pub errors: BTreeMap<String, u64>,
    pub server: Server,
    pub generator: Generator,
    pub thresholds: Vec<Held>,
    pub environment: Environment,
    pub scenario: Scenario,
    pub series: Vec<series::Second>,
    /// Latencies at rising quantiles, for curves.
    pub curves: Curves,
}

#[derive(Debug, Serialize)]
pub(crate) struct Sessions {
    pub wanted: u64,
    /// Live when the load was over.
    pub held: u64,
    /// Never came about.
    pub failed: u64,
    /// Ended by themselves; they came back.
    pub dropped: u64,
    /// Times that one went on from another address.
    pub migrated: u64,
    /// How connections ended that did not end by our will.
    pub ends: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Sends {
    /// Messages whose intended time came.
    pub intended: u64,
    pub sent: u64,
    /// Not sent: the session was down, or had too many commands in flight.
    pub unsent: u64,
    pub acknowledged: u64,
    /// Answered with ERROR.
    pub refused: u64,
    /// Not answered within the grace, or cut off.
    pub unanswered: u64,
    /// Acknowledged per second of the load, the wait for the last answers included.
    pub per_second: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Deliveries {
    /// What follows from the acknowledged messages and the plan.
    pub expected: u64,
    pub pushed: u64,
    pub per_second: f64,
    /// Not pushed within the grace, to sessions that were live.
    pub not_pushed: u64,
    /// Times that the server said it had left pushes out.
    pub left_out: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Logs {
    /// Conversations whose log was read whole after the load.
    pub conversations_read: u64,
    pub entries_read: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Server {
    pub address: String,
    /// Started for this run.
    pub own: bool,
    pub pid: Option<u32>,
    /// As `/version` tells, if an admin address is known.
    pub version: Option<String>,
    pub user_bytes_per_session: Option<f64>,
    pub kernel_bytes_per_session: Option<f64>,
    /// What the numbers of memory are and are not.
    pub memory_note: &'static str,
    pub cpu_us_per_delivery: Option<f64>,
    pub deliveries_per_cpu_second: Option<f64>,
    /// Cores the server used during the load.
    pub cpu_cores: Option<f64>,
    pub anonymous_bytes: AnonymousBytes,
}

#[derive(Debug, Serialize)]
pub(crate) struct AnonymousBytes {
    pub without_sessions: Option<u64>,
    pub with_sessions: Option<u64>,
    pub after_load: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Generator {
    pub threads: u32,
    /// Share of its threads' time spent on a CPU, 0 to 1.
    pub cpu: f64,
    /// `None` for loads without intended times.
    pub late_p99_us: Option<u64>,
    pub late_us: Quantiles,
    /// The limits above which the generator counts as what limited the run.
    pub cpu_max: f64,
    pub late_p99_us_max: u64,
}

/// A distribution of times in microseconds. All `None` if there were none.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Quantiles {
    pub count: u64,
    pub min: Option<u64>,
    pub mean: Option<f64>,
    pub p50: Option<u64>,
    pub p90: Option<u64>,
    pub p99: Option<u64>,
    pub p999: Option<u64>,
    pub max: Option<u64>,
}

impl Quantiles {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| Some(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            min: Some(histogram.min()),
            mean: Some((histogram.mean() * 10.0).round() / 10.0),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: Some(histogram.max()),
        }
    }
}

/// Points `[quantile, microseconds]`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Curves {
    pub ack: Vec<(f64, u64)>,
    pub delivery: Vec<(f64, u64)>,
}

/// A histogram as a curve: denser where 1 - quantile is small, up to the last quantile that the count supports.
pub(crate) fn curve(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    const STEPS_PER_DECADE: i32 = 16;
    if histogram.is_empty() {
        return Vec::new();
    }
    let decades = (histogram.len() as f64).log10().min(7.0);
    let steps = (decades * f64::from(STEPS_PER_DECADE)).floor() as i32;
    let quantiles = (0..=steps).map(|step| 1.0 - 10f64.powf(-f64::from(step) / f64::from(STEPS_PER_DECADE)));
    quantiles.map(|quantile| (quantile, histogram.value_at_quantile(quantile))).collect()
}

impl Report {
    /// Writes `report.json` and `report.html` into `out`.
    pub(crate) fn write(&self, out: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        let json = serde_json::to_string_pretty(self).context("cannot write the report as JSON")?;
        for (name, text) in [("report.html", html::page(self, &json)), ("report.json", json + "\n")] {
            let path = out.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_rises_and_ends_where_the_count_does() {
        let mut histogram = Histogram::new(3).unwrap();
        for us in 1..=1000 {
            histogram.record(us).unwrap();
        }
        let curve = curve(&histogram);
        assert!(curve.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
        let last = curve.last().unwrap();
        assert!((last.0 - 0.999).abs() < 1e-9 && last.1 >= 999, "{last:?}");
        assert!(super::curve(&Histogram::new(3).unwrap()).is_empty());
    }

    #[test]
    fn nothing_measured_is_not_zero() {
        let quantiles = Quantiles::of(&Histogram::new(3).unwrap());
        assert_eq!((quantiles.count, quantiles.p99), (0, None));
    }
}
