//! What the store counts. The server gives these their public names.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the buckets of commit time, in microseconds; one more bucket holds what is above.
pub const COMMIT_MICROS_BOUNDS: [u64; 10] = [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000];
/// Upper bounds of the buckets of writes per commit; one more bucket holds what is above.
pub const COMMIT_WRITES_BOUNDS: [u64; 8] = [1, 2, 4, 8, 16, 64, 256, 1024];

/// Counts values in buckets, and their sum.
#[derive(Debug)]
pub struct Histogram<const BOUNDS: usize> {
    bounds: &'static [u64; BOUNDS],
    buckets: [AtomicU64; BOUNDS],
    above: AtomicU64,
    sum: AtomicU64,
}

impl<const BOUNDS: usize> Histogram<BOUNDS> {
    pub(crate) const fn new(bounds: &'static [u64; BOUNDS]) -> Self {
        Self {
            bounds,
            buckets: [const { AtomicU64::new(0) }; BOUNDS],
            above: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    pub(crate) fn record(&self, value: u64) {
        let bucket = self.bounds.iter().position(|bound| value <= *bound);
        bucket.map_or(&self.above, |place| &self.buckets[place]).fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// The bounds with the number of values at or below each (cumulative), then the number of all values.
    pub fn cumulative(&self) -> (Vec<(u64, u64)>, u64) {
        let mut below = 0;
        let mut pairs = Vec::with_capacity(BOUNDS);
        for (bound, bucket) in self.bounds.iter().zip(&self.buckets) {
            below += bucket.load(Relaxed);
            pairs.push((*bound, below));
        }
        (pairs, below + self.above.load(Relaxed))
    }

    /// The sum of all values.
    pub fn sum(&self) -> u64 {
        self.sum.load(Relaxed)
    }
}

/// Counters of one embedded store, since it was opened. All only rise, but for `queue_writes` and `queue_marks`.
#[derive(Debug)]
pub struct StoreMetrics {
    /// Time of a commit, in microseconds: writing the journal, its fdatasync, and the tables in memory.
    pub commit_micros: Histogram<10>,
    /// Appends, creations and user writes of a commit.
    pub commit_writes: Histogram<8>,
    /// Entries stored.
    pub entries: AtomicU64,
    /// Appends that met another head.
    pub conflicts: AtomicU64,
    /// Different marks stored; many calls may have become one.
    pub marks: AtomicU64,
    /// Marks asked for.
    pub marks_asked: AtomicU64,
    /// Writes refused because too much was waiting.
    pub queue_full: AtomicU64,
    /// Commits refused because the disk had too little room.
    pub disk_full: AtomicU64,
    /// Commits refused for the time being, as tables were not written out fast enough.
    pub refused: AtomicU64,
    /// Commits that failed for any other reason; the store refuses all writes after one.
    pub failed: AtomicU64,
    /// Writes waiting now.
    pub queue_writes: AtomicU64,
    /// Different marks waiting now.
    pub queue_marks: AtomicU64,
}

impl StoreMetrics {
    pub(crate) const fn new() -> Self {
        Self {
            commit_micros: Histogram::new(&COMMIT_MICROS_BOUNDS),
            commit_writes: Histogram::new(&COMMIT_WRITES_BOUNDS),
            entries: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
            marks: AtomicU64::new(0),
            marks_asked: AtomicU64::new(0),
            queue_full: AtomicU64::new(0),
            disk_full: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            queue_writes: AtomicU64::new(0),
            queue_marks: AtomicU64::new(0),
        }
    }

    pub(crate) fn committed(&self, writes: usize, took: Duration) {
        self.commit_writes.record(writes as u64);
        self.commit_micros.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
}

pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_every_value_once() {
        let metrics = StoreMetrics::new();
        for value in [1, 2, 3, 5_000] {
            metrics.commit_writes.record(value);
        }
        let (buckets, count) = metrics.commit_writes.cumulative();
        assert_eq!((buckets[0], buckets[1], buckets[2], buckets[7], count), ((1, 1), (2, 2), (4, 3), (1024, 3), 4));
        assert_eq!(metrics.commit_writes.sum(), 5_006);
    }
}
