//! The database's time, as this node knows it: what stamps are made of.
//!
//! The wall clock of this machine is never read, so that it may be wrong by any amount, or jump: between two looks at a
//! server's clock the monotonic clock is added. What stays is the error of the servers' clocks among each other
//! ([`super::CLOCK_ERROR_MAX`]) and half the time of the look.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::Stamp;

pub(super) struct Clock {
    /// When a server said what, in microseconds since the Unix epoch.
    seen: Mutex<(Instant, u64)>,
    /// The last stamp given.
    last: AtomicU64,
    settle: Duration,
}

impl Clock {
    /// `server_ms` was read between `asked` and now.
    pub(super) fn new(asked: Instant, server_ms: u64, settle: Duration) -> Self {
        let clock = Self { seen: Mutex::new((asked, 0)), last: AtomicU64::new(0), settle };
        clock.look(asked, server_ms);
        clock
    }

    /// Takes note of a server's time, which was read between `asked` and now.
    pub(super) fn look(&self, asked: Instant, server_ms: u64) {
        let middle = asked + asked.elapsed() / 2;
        *self.seen.lock() = (middle, server_ms.saturating_mul(1000));
    }

    /// Microseconds since the Unix epoch.
    pub(super) fn now(&self) -> u64 {
        let (at, micros) = *self.seen.lock();
        micros + u64::try_from(at.elapsed().as_micros()).unwrap_or(0)
    }

    /// A new stamp: above all that this node gave.
    pub(super) fn stamp(&self) -> Stamp {
        let now = self.now();
        let next = |last: u64| Some(now.max(last + 1));
        self.last.fetch_update(Relaxed, Relaxed, next).map_or(now, |last| now.max(last + 1))
    }

    /// Nothing at or below this is on its way any more.
    pub(super) fn settled(&self) -> Stamp {
        self.now().saturating_sub(u64::try_from(self.settle.as_micros()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_whatever_the_servers_say() {
        let clock = Clock::new(Instant::now(), 1_000_000, Duration::from_secs(7));
        let first = clock.stamp();
        assert!(first >= 1_000_000_000);
        clock.look(Instant::now(), 500_000);
        assert!(clock.stamp() > first, "a server's clock may go back");
        assert!(clock.settled() < 500_000_000, "what is settled follows the clock");
        clock.look(Instant::now(), 9_000_000);
        assert!((9_000_000_000..9_100_000_000).contains(&clock.stamp()));
    }
}
