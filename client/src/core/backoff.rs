//! When to try again: full jitter, so that clients cut off together do not come back together.

use std::time::Duration;

use super::random::Random;

/// Doubling delays with full jitter. The first try is quick: most cuts are the client's own network.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    base: Duration,
    cap: Duration,
    tries: u32,
}

impl Backoff {
    pub(crate) const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, tries: 0 }
    }

    /// The delay before the next try, and counts it.
    pub(crate) fn next(&mut self, random: &mut Random) -> Duration {
        let ceiling = self.ceiling();
        self.tries = self.tries.saturating_add(1);
        random.up_to(ceiling)
    }

    /// Longest the next delay may be: a quarter of the base at first, then the base doubled up to the cap.
    pub(crate) fn ceiling(&self) -> Duration {
        match self.tries {
            0 => self.base / 4,
            tries => self.base.saturating_mul(1 << (tries - 1).min(20)).min(self.cap),
        }
    }

    /// The server is short of room: skip the quick tries.
    pub(crate) fn slow_down(&mut self) {
        self.tries = self.tries.max(3);
    }

    /// What was tried has worked for long enough.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f38_ceilings_double_from_a_quick_first_try_to_the_cap() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let mut random = Random::new(1);
        let mut ceilings = Vec::new();
        for _ in 0..9 {
            ceilings.push(backoff.ceiling().as_millis());
            assert!(backoff.ceiling() >= backoff.clone().next(&mut random));
            backoff.next(&mut random);
        }
        assert_eq!(ceilings, [250, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        backoff.tries = u32::MAX;
        assert_eq!(backoff.ceiling(), Duration::from_secs(60));
        backoff.reset();
        backoff.slow_down();
        assert_eq!(backoff.ceiling(), Duration::from_secs(4));
    }

    #[test]
    fn f38_two_clients_cut_off_together_come_back_apart() {
        let delays = |seed| {
            let (mut backoff, mut random) =
                (Backoff::new(Duration::from_secs(1), Duration::from_secs(60)), Random::new(seed));
            (0..6).map(|_| backoff.next(&mut random)).collect::<Vec<_>>()
        };
        assert_ne!(delays(1), delays(2));
        assert_eq!(delays(1), delays(1));
    }
}
