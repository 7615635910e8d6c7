//! Jitter from a seed that the caller draws: the core itself has no source of randomness.

use std::time::Duration;

/// SplitMix64: good enough for jitter, the same everywhere for one seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// Anything from nothing up to `max`, to the microsecond.
    pub(crate) fn up_to(&mut self, max: Duration) -> Duration {
        let micros = u64::try_from(max.as_micros()).unwrap_or(u64::MAX - 1);
        Duration::from_micros(self.next() % (micros + 1))
    }

    /// `interval` with up to a fifth taken off, so that clients that start together do not stay together.
    pub(crate) fn fifth_off(&mut self, interval: Duration) -> Duration {
        interval - self.up_to(interval / 5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_in_its_range_and_spreads() {
        let mut random = Random::new(7);
        let interval = Duration::from_secs(25);
        let draws: Vec<Duration> = (0..1000).map(|_| random.fifth_off(interval)).collect();
        assert!(draws.iter().all(|draw| *draw >= interval * 4 / 5 && *draw <= interval));
        let low = draws.iter().filter(|draw| **draw < interval * 9 / 10).count();
        assert!((400..600).contains(&low), "{low} of 1000 in the lower half");
        assert_eq!(random.up_to(Duration::ZERO), Duration::ZERO);
    }
}
