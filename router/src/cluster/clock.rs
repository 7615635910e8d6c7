//! The shared clock: which of two sessions of one device is the newer one, when they are on two nodes.
//!
//! Each node adds to its wall clock how far others were ahead of it when they were heard. So all follow the fastest,
//! and differ by no more than what a heartbeat needs, whatever their wall clocks say. Nothing else is ordered by it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One node's reading of the shared clock, in ms.
#[derive(Default)]
pub(crate) struct SharedClock {
    ahead_ms: AtomicU64,
    last: AtomicU64,
}

impl SharedClock {
    /// What the clock shows.
    pub(crate) fn read(&self, now_ms: u64) -> u64 {
        let shown = now_ms.saturating_add(self.ahead_ms.load(Relaxed));
        shown.max(self.last.load(Relaxed))
    }

    /// A moment of its own: above every one that this node gave or heard before.
    pub(crate) fn stamp(&self, now_ms: u64) -> u64 {
        let shown = now_ms.saturating_add(self.ahead_ms.load(Relaxed));
        let next = |last: u64| Some(shown.max(last.saturating_add(1)));
        let last = self.last.fetch_update(Relaxed, Relaxed, next).unwrap_or_default();
        shown.max(last.saturating_add(1))
    }

    /// Another node's clock showed `stamp`.
    pub(crate) fn heard(&self, stamp: u64, now_ms: u64) {
        self.ahead_ms.fetch_max(stamp.saturating_sub(now_ms), Relaxed);
        self.last.fetch_max(stamp, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_fastest_and_never_goes_back() {
        let clock = SharedClock::default();
        assert_eq!((clock.stamp(1000), clock.stamp(1000), clock.stamp(10)), (1000, 1001, 1002));
        clock.heard(5000, 2000);
        assert_eq!((clock.read(2000), clock.stamp(2000)), (5000, 5001));
        // It goes on at the pace of the own clock, and one that is behind changes nothing.
        clock.heard(100, 2500);
        assert_eq!((clock.read(4000), clock.stamp(4000)), (7000, 7000));
    }
}
