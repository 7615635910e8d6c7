//! How fast a session may send: a token bucket in eight bytes.

/// The setting: one token every `interval_us`, at most `burst` at once. `None` is no limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    interval_us: u64,
    burst: u64,
}

impl Rate {
    /// `None` if `per_second` is 0: no limit.
    pub(crate) fn new(per_second: u32, burst: u32) -> Option<Self> {
        let interval_us = (1_000_000 / u64::from(per_second.max(1))).max(1);
        (per_second != 0).then_some(Self { interval_us, burst: u64::from(burst.max(1)) })
    }
}

/// When the bucket will be full, in microseconds since the shard began: all there is to know about it (the generic
/// cell rate algorithm's "theoretical arrival time").
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    full_at_us: u64,
}

impl Bucket {
    /// Takes a token, or tells after how many milliseconds there will be one.
    pub(crate) fn take(&mut self, rate: Rate, now_us: u64) -> Result<(), u32> {
        let full_at = self.full_at_us.max(now_us);
        let allowed = (rate.burst - 1).saturating_mul(rate.interval_us);
        let excess = (full_at - now_us).saturating_sub(allowed);
        if excess > 0 {
            return Err(u32::try_from(excess.div_ceil(1000)).unwrap_or(u32::MAX));
        }
        self.full_at_us = full_at + rate.interval_us;
        Ok(())
    }

    /// Takes `tokens` for what cannot be refused any more, and returns the debt: for how many microseconds nothing
    /// further should be taken. 0: there were enough.
    pub(crate) fn spend(&mut self, rate: Rate, now_us: u64, tokens: u64) -> u64 {
        self.full_at_us = self.full_at_us.max(now_us).saturating_add(tokens.saturating_mul(rate.interval_us));
        self.debt_us(rate, now_us)
    }

    /// The debt that is left.
    pub(crate) fn debt_us(&self, rate: Rate, now_us: u64) -> u64 {
        self.full_at_us.saturating_sub(now_us).saturating_sub(rate.burst.saturating_mul(rate.interval_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_by_one() {
        let rate = Rate::new(20, 3).unwrap();
        let mut bucket = Bucket::default();
        let took: Vec<_> = (0..4).map(|_| bucket.take(rate, 1_000)).collect();
        assert_eq!(took, [Ok(()), Ok(()), Ok(()), Err(50)]);
        assert_eq!(bucket.take(rate, 50_999), Err(1));
        assert_eq!(bucket.take(rate, 51_000), Ok(()));
        assert_eq!(bucket.take(rate, 51_000), Err(50));
        // A long pause earns the burst, not more.
        let took = (0..9).filter(|_| bucket.take(rate, 1 << 40).is_ok()).count();
        assert_eq!(took, 3);
    }

    #[test]
    fn what_is_spent_above_the_burst_is_a_debt_that_time_pays() {
        let rate = Rate::new(100, 5).unwrap();
        let mut bucket = Bucket::default();
        assert_eq!(bucket.spend(rate, 1_000, 5), 0);
        assert_eq!(bucket.spend(rate, 1_000, 3), 30_000);
        assert_eq!(bucket.debt_us(rate, 11_000), 20_000);
        assert_eq!(bucket.debt_us(rate, 31_000), 0);
        // Nothing overflows, whatever is asked for.
        assert_eq!(bucket.spend(rate, 31_000, u64::MAX), u64::MAX - 31_000 - 50_000);
    }

    #[test]
    fn no_rate_is_no_limit() {
        assert!(Rate::new(0, 5).is_none());
        assert!(Rate::new(u32::MAX, 1).is_some());
    }
}
