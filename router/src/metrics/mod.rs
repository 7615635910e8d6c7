//! What the router counts, and how it is read.

pub mod names;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub(crate) use names::RouterMetrics;

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only up.
    Counter,
    /// Up and down.
    Gauge,
}

/// One line of a metrics page.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The metric.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// Names and values from small, closed sets.
    pub labels: Vec<(&'static str, &'static str)>,
    /// A count, as the name says.
    pub value: f64,
}

/// What all counters of a router stood at.
#[derive(Clone, Debug, PartialEq)]
pub struct RouterSnapshot {
    samples: Vec<Sample>,
}

impl RouterSnapshot {
    pub(crate) fn new(metrics: &RouterMetrics) -> Self {
        Self { samples: metrics.samples() }
    }

    /// Every metric once.
    pub fn iter(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter()
    }

    /// The value of the metric `name`; `None` if there is no such metric.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.samples.iter().find(|sample| sample.name == name).map(|sample| sample.value)
    }
}

/// A number that many threads add to.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Relaxed);
    }

    pub(crate) fn sub(&self, count: usize) {
        self.0.fetch_sub(count as u64, Relaxed);
    }

    pub(crate) fn set(&self, count: usize) {
        self.0.store(count as u64, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_follow_the_rules() {
        let samples = RouterMetrics::default().samples();
        let mut names: Vec<_> = samples.iter().map(|sample| sample.name).collect();
        for sample in &samples {
            assert!(sample.name.starts_with("roost_router_"), "{}", sample.name);
            assert_eq!(sample.name.ends_with("_total"), sample.kind == Kind::Counter, "{}", sample.name);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), names::ALL.len());
    }
}
