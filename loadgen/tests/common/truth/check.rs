//! What a report says against what a server of known truth did.

use serde_json::Value;

use super::{Truth, quantile_us};

/// The quantiles that are held to the truth.
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)];
/// How far a report may be off: whichever is more.
const SHARE_MAX: f64 = 0.02;
const US_MAX: f64 = 100.0;

/// One quantile, told and true, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Compared {
    pub quantile: &'static str,
    pub told: f64,
    pub truth: f64,
}

impl Compared {
    /// How far it is off, as a share of the truth.
    pub fn error(&self) -> f64 {
        (self.told - self.truth) / self.truth
    }

    /// How far it may be off, in microseconds.
    pub fn allowed_us(&self) -> f64 {
        (self.truth * SHARE_MAX).max(US_MAX)
    }

    pub fn is_close(&self) -> bool {
        (self.told - self.truth).abs() <= self.allowed_us()
    }
}

/// Holds the quantiles at `place` of a report to what was really so, in nanoseconds. All of it must have been measured.
pub fn compare(report: &Value, place: &str, truth_ns: &mut [u64]) -> Vec<Compared> {
    truth_ns.sort_unstable();
    let told = |name: &str| {
        let pointer = format!("{place}/{name}");
        report.pointer(&pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer} in {report:#}"))
    };
    assert_eq!(told("count") as usize, truth_ns.len(), "{place}: as many as there were");
    let compared =
        |(name, quantile)| Compared { quantile: name, told: told(name), truth: quantile_us(truth_ns, quantile) };
    QUANTILES.into_iter().map(compared).collect()
}

/// Whether the report itself says that the generator was later than these quantiles may be off: then they are its own
/// lateness, told as such.
pub fn says_it_was_late(report: &Value, compared: &[Compared]) -> bool {
    let late = |name: &str| report.pointer(&format!("/generator/late_us/{name}")).and_then(Value::as_f64);
    compared.iter().any(|compared| late(compared.quantile).is_some_and(|late| late > compared.allowed_us()))
        || report["verdict"] == "generator"
}

/// The places a report lists as lost, as conversation and seq.
pub fn listed_losses(report: &Value) -> std::collections::BTreeSet<(String, u64)> {
    let losses = report["losses"].as_array().expect("losses are listed");
    losses.iter().map(|loss| (loss["conv"].as_str().unwrap().to_owned(), loss["seq"].as_u64().unwrap())).collect()
}

/// What each quantile was, for people.
pub fn table(name: &str, compared: &[Compared]) -> String {
    let mut text = String::new();
    for Compared { quantile, told, truth } in compared {
        let error = (told - truth) / truth * 100.0;
        text +=
            &format!("{name:<10}{quantile:<6}told {told:>10.0} us   truth {truth:>12.1} us   error {error:>+7.3} %\n");
    }
    text
}

impl Truth {
    /// A place in two sets: a fault of one kind hides one of the other.
    pub fn garbled_and_doubled(&self) -> u64 {
        self.garbled.intersection(&self.doubled).count() as u64
    }
}
