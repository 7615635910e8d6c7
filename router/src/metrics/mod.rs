//! What the router counts, and how it is read.

mod names;

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

/// What a set of counters stood at.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    samples: Vec<Sample>,
}

impl From<Vec<Sample>> for Snapshot {
    fn from(samples: Vec<Sample>) -> Self {
        Self { samples }
    }
}

impl Snapshot {
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
pub struct Count(AtomicU64);

impl Count {
    /// Counts `count` more.
    pub fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Relaxed);
    }

    /// Counts `count` less.
    pub fn sub(&self, count: usize) {
        self.0.fetch_sub(count as u64, Relaxed);
    }

    /// It is `count` now.
    pub fn set(&self, count: usize) {
        self.0.store(count as u64, Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A set of counters with their names: a struct of [`Count`]s, added to from any thread, and what it stands at.
#[macro_export]
macro_rules! counters {
    ($(#[$doc:meta])* $type:ident; $($field:ident: $kind:ident = $name:literal, $help:literal;)+) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(crate) struct $type { $(pub(crate) $field: $crate::metrics::Count,)+ }

        impl $type {
            pub(crate) fn snapshot(&self) -> $crate::metrics::Snapshot {
                vec![$($crate::metrics::Sample {
                    name: $name,
                    help: $help,
                    kind: $crate::metrics::Kind::$kind,
                    labels: Vec::new(),
                    value: self.$field.get() as f64,
                },)+].into()
            }
        }
    };
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Names begin with their owner's, end with `_total` if they only rise, and stand once.
    pub(crate) fn names_follow_the_rules(snapshot: &Snapshot, owner: &str) {
        let mut seen = std::collections::BTreeSet::new();
        for sample in snapshot.iter() {
            assert!(sample.name.starts_with(owner), "{}", sample.name);
            assert_eq!(sample.name.ends_with("_total"), sample.kind == Kind::Counter, "{}", sample.name);
            assert!(seen.insert(sample.name), "{} stands twice", sample.name);
        }
        assert!(!seen.is_empty());
    }

    #[test]
    fn names_are_unique_and_follow_the_rules() {
        names_follow_the_rules(&RouterMetrics::default().snapshot(), "roost_router_");
    }
}
