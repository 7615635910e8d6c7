//! One clock for a run: nanoseconds since it began, the same on every thread.

use std::time::{Duration, Instant};

/// Tells nanoseconds since its making. Copies tell the same time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now_ns(self) -> u64 {
        ns(self.0.elapsed())
    }
}

/// Nanoseconds of a duration: 584 years at most.
pub(crate) fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
