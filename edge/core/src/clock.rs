//! Time as a shard keeps it: small numbers since the shard began.

use std::time::{Duration, Instant};

/// Length of a tick of the timer wheel, in milliseconds.
pub(crate) const TICK_MS: u64 = 64;

/// A moment in ticks since the shard began. 32 bits last 8 years.
pub(crate) type Tick = u32;

/// A tick that never comes.
pub(crate) const NEVER: Tick = Tick::MAX;

/// Turns moments into ticks and back, and the wall clock into ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    /// The wall clock when the shard began, in ms since the Unix epoch.
    unix_ms: u64,
}

impl Clock {
    pub(crate) fn new(start: Instant, unix_ms: u64) -> Self {
        Self { start, unix_ms }
    }

    /// The wall clock shows `unix_ms` at `now`.
    pub(crate) fn adjust(&mut self, unix_ms: u64, now: Instant) {
        self.unix_ms = unix_ms.saturating_sub(self.ms(now));
    }

    fn since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }

    fn ms(&self, now: Instant) -> u64 {
        u64::try_from(self.since(now).as_millis()).unwrap_or(u64::MAX)
    }

    /// Microseconds since the shard began.
    pub(crate) fn us(&self, now: Instant) -> u64 {
        u64::try_from(self.since(now).as_micros()).unwrap_or(u64::MAX)
    }

    /// The tick that `now` lies in.
    pub(crate) fn tick(&self, now: Instant) -> Tick {
        to_tick(self.ms(now) / TICK_MS)
    }

    /// The first tick that begins no sooner than `after` from `now`.
    pub(crate) fn tick_after(&self, now: Instant, after: Duration) -> Tick {
        let ms = self.since(now).saturating_add(after).as_nanos().div_ceil(u128::from(TICK_MS) * 1_000_000);
        to_tick(u64::try_from(ms).unwrap_or(u64::MAX))
    }

    /// The first tick that begins no sooner than a moment of the wall clock.
    pub(crate) fn tick_at_unix(&self, unix_ms: u64) -> Tick {
        to_tick(unix_ms.saturating_sub(self.unix_ms).div_ceil(TICK_MS))
    }

    /// When `tick` begins.
    pub(crate) fn instant(&self, tick: Tick) -> Instant {
        self.start + Duration::from_millis(u64::from(tick) * TICK_MS)
    }
}

/// Ticks that last no shorter than `span`.
pub(crate) fn ticks(span: Duration) -> Tick {
    to_tick(u64::try_from(span.as_millis().div_ceil(u128::from(TICK_MS))).unwrap_or(u64::MAX))
}

fn to_tick(ticks: u64) -> Tick {
    Tick::try_from(ticks).unwrap_or(NEVER).min(NEVER - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::epoch;

    #[test]
    fn ticks_round_towards_later() {
        let start = epoch();
        let clock = Clock::new(start, 1_000_000);
        for (ms, tick, after) in [(0, 0, 1), (1, 0, 2), (63, 0, 2), (64, 1, 2), (65, 1, 3)] {
            let now = start + Duration::from_millis(ms);
            assert_eq!((clock.tick(now), clock.tick_after(now, Duration::from_millis(64))), (tick, after), "{ms} ms");
        }
        assert_eq!(clock.instant(2), start + Duration::from_millis(128));
        assert_eq!(ticks(Duration::from_millis(65)), 2);
        assert_eq!(
            (clock.tick_at_unix(0), clock.tick_at_unix(1_000_001), clock.tick_at_unix(u64::MAX)),
            (0, 1, NEVER - 1)
        );
    }

    #[test]
    fn the_wall_clock_can_be_set() {
        let start = epoch();
        let mut clock = Clock::new(start, 0);
        clock.adjust(1_000_640, start + Duration::from_millis(640));
        assert_eq!(clock.tick_at_unix(1_000_640), 10);
    }
}
