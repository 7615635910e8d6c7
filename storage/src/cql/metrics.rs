//! What the store counts. The server gives these their public names.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::embedded::Histogram;

/// Upper bounds of the buckets of request time, in microseconds; one more bucket holds what is above.
pub const REQUEST_MICROS_BOUNDS: [u64; 10] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 1_000_000, 3_000_000];

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum ErrorKind {
    /// No connection: nothing was sent.
    Unreachable,
    /// Too few replicas were up.
    Unavailable,
    /// No answer in time, here or between the servers.
    Timeout,
    /// The connection broke before the answer.
    Broken,
    /// The server refuses for load.
    Overloaded,
    /// Anything else; see the log.
    Other,
}

impl ErrorKind {
    /// All kinds, in the order of [`CqlMetrics::errors`].
    pub const ALL: [Self; 6] =
        [Self::Unreachable, Self::Unavailable, Self::Timeout, Self::Broken, Self::Overloaded, Self::Other];

    /// Label of the metric.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::Overloaded => "overloaded",
            Self::Other => "other",
        }
    }
}

/// Counters of one store, since it was opened. All only rise.
#[derive(Debug)]
pub struct CqlMetrics {
    /// Time of plain requests, in microseconds, failed ones included.
    pub request_micros: Histogram<10>,
    /// Time of conditional batches, in microseconds, failed ones included.
    pub append_micros: Histogram<10>,
    /// Failed requests, by kind in the order of [`ErrorKind::ALL`].
    pub errors: [AtomicU64; 6],
    /// Requests that were sent a second time.
    pub retries: AtomicU64,
    /// Entries stored.
    pub entries: AtomicU64,
    /// Appends that met another head.
    pub conflicts: AtomicU64,
    /// Conditional batches whose outcome had to be read.
    pub ambiguous: AtomicU64,
    /// Of these, those of which nothing could be found out.
    pub unknown: AtomicU64,
    /// Appends of others, or of an earlier process, whose effects were applied here.
    pub repairs: AtomicU64,
    /// Reads that were answered together with another one.
    pub shared_reads: AtomicU64,
    /// Marks stored.
    pub marks: AtomicU64,
    /// Notes of applied effects that were dropped, as too many waited or a write failed; readers then apply them again.
    pub notes_dropped: AtomicU64,
    /// Times a conversation ended below what the servers had acknowledged.
    pub losses: AtomicU64,
}

impl CqlMetrics {
    pub(super) const fn new() -> Self {
        Self {
            request_micros: Histogram::new(&REQUEST_MICROS_BOUNDS),
            append_micros: Histogram::new(&REQUEST_MICROS_BOUNDS),
            errors: [const { AtomicU64::new(0) }; 6],
            retries: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
            ambiguous: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            repairs: AtomicU64::new(0),
            shared_reads: AtomicU64::new(0),
            marks: AtomicU64::new(0),
            notes_dropped: AtomicU64::new(0),
            losses: AtomicU64::new(0),
        }
    }

    pub(super) fn failed(&self, kind: ErrorKind) {
        self.errors[kind as usize].fetch_add(1, Relaxed);
    }
}

pub(super) fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_error_has_its_place_and_label() {
        for (place, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
            assert!(!kind.label().is_empty());
        }
    }
}
