//! Intended send times of an open model: a pure sequence, without a clock.
//!
//! That a time has passed is the caller's business. A sequence never waits for the server, so a slow server meets the
//! same load as a fast one, and its slowness shows as latency.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::scenario::Arrivals;

/// Intended times in nanoseconds, from `start_ns` (not included for Poisson arrivals) to before `end_ns`.
#[derive(Debug)]
pub struct Pacer {
    arrivals: Arrivals,
    rng: StdRng,
    start_ns: u64,
    end_ns: u64,
    gap_ns: f64,
    /// So many times are the same.
    burst: u64,
    /// How many were taken.
    taken: u64,
    /// The next one, after `start_ns`. A double counts whole nanoseconds for a hundred days.
    offset_ns: f64,
}

impl Pacer {
    /// Times at `per_second` on average, always `burst` of them together. None at all if `per_second` is not above 0.
    #[must_use]
    pub fn new(arrivals: Arrivals, per_second: f64, burst: u32, start_ns: u64, end_ns: u64, seed: u64) -> Self {
        let burst = u64::from(burst.max(1));
        let gap_ns = if per_second > 0.0 { 1e9 / per_second * burst as f64 } else { f64::INFINITY };
        let rng = StdRng::seed_from_u64(seed);
        let mut pacer = Self { arrivals, rng, start_ns, end_ns, gap_ns, burst, taken: 0, offset_ns: 0.0 };
        pacer.offset_ns = match arrivals {
            Arrivals::Poisson => pacer.draw(),
            // Several pacers of one run do not fire all at once.
            Arrivals::Constant => pacer.gap_ns * pacer.rng.random::<f64>(),
        };
        pacer
    }

    /// The next intended time; `None` when the load is over.
    #[must_use]
    pub fn peek(&self) -> Option<u64> {
        // Saturates, also for an infinite gap.
        let next = self.start_ns.saturating_add(self.offset_ns as u64);
        (next < self.end_ns).then_some(next)
    }

    /// Takes the next intended time.
    pub fn take(&mut self) -> Option<u64> {
        let next = self.peek()?;
        self.taken += 1;
        if !self.taken.is_multiple_of(self.burst) {
            return Some(next);
        }
        self.offset_ns += match self.arrivals {
            Arrivals::Poisson => self.draw(),
            Arrivals::Constant => self.gap_ns,
        };
        Some(next)
    }

    /// How many times were taken.
    #[must_use]
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// An exponential gap. `1 - x` is never 0, so the logarithm is finite.
    fn draw(&mut self) -> f64 {
        -(1.0 - self.rng.random::<f64>()).ln() * self.gap_ns
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn all(mut pacer: Pacer) -> Vec<u64> {
        std::iter::from_fn(|| pacer.take()).collect()
    }

    #[test]
    fn bursts_share_a_time_and_keep_the_rate() {
        let times = all(Pacer::new(Arrivals::Constant, 80.0, 8, 0, 10 * SECOND, 7));
        assert_eq!(times.len(), 800);
        assert!(times.chunks(8).all(|burst| burst.iter().all(|time| *time == burst[0])));
        assert!(times.chunks(8).is_sorted_by(|one, next| one[0] < next[0]));
    }

    #[test]
    fn poisson_arrivals_have_the_mean_and_the_spread_of_their_rate() {
        let times = all(Pacer::new(Arrivals::Poisson, 1000.0, 1, 0, 100 * SECOND, 7));
        // 100 000 expected with a standard deviation of 316: six of them.
        assert!((98_100..101_900).contains(&times.len()), "{}", times.len());
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        // Of an exponential distribution both are the same.
        assert!((0.95..1.05).contains(&(deviation / mean)), "{}", deviation / mean);
    }

    #[test]
    fn constant_arrivals_have_equal_gaps() {
        let times = all(Pacer::new(Arrivals::Constant, 250.0, 1, 5 * SECOND, 9 * SECOND, 7));
        assert_eq!(times.len(), 1000);
        assert!(times.windows(2).all(|pair| (3_999_999..=4_000_001).contains(&(pair[1] - pair[0]))));
    }

    #[test]
    fn a_rate_of_nothing_gives_nothing() {
        for rate in [0.0, -1.0, f64::NAN] {
            assert_eq!(Pacer::new(Arrivals::Poisson, rate, 1, 0, u64::MAX, 1).peek(), None);
            assert_eq!(Pacer::new(Arrivals::Constant, rate, 1, 0, u64::MAX, 1).peek(), None);
        }
    }

    proptest! {
        #[test]
        fn times_never_go_back_and_stay_within_the_load(
            poisson: bool, rate in 0.1f64..100_000.0, start in 0..u64::MAX / 4, millis in 0..50u64, seed: u64,
        ) {
            let arrivals = if poisson { Arrivals::Poisson } else { Arrivals::Constant };
            let end = start + millis * 1_000_000;
            let times = all(Pacer::new(arrivals, rate, 1, start, end, seed));
            prop_assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
            prop_assert!(times.iter().all(|time| (start..end).contains(time)));
            prop_assert_eq!(times, all(Pacer::new(arrivals, rate, 1, start, end, seed)));
        }
    }
}
