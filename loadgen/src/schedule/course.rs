//! Pace and presence over the phases of a load.

use crate::clock::ns;
use crate::scenario::{Event, Scenario};

/// A phase with its times, in nanoseconds since the load began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Leg {
    pub(crate) from_ns: u64,
    pub(crate) to_ns: u64,
    /// At its beginning, and at its end.
    pub(crate) pace: (f64, f64),
    pub(crate) online: (f64, f64),
    pub(crate) together: u32,
    pub(crate) event: Event,
}

/// The phases of a load, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Course {
    pub(crate) legs: Vec<Leg>,
}

impl Course {
    pub(crate) fn of(scenario: &Scenario) -> Self {
        let (mut at, mut pace, mut online) = (0, 0.0, 0.0);
        let legs = scenario.phases.iter().map(|phase| {
            let (from_ns, to_ns) = (at, at + ns(phase.hold));
            let before = (pace, online);
            (at, pace, online) = (to_ns, phase.pace, phase.online);
            let (pace, online) = match phase.gradual {
                true => ((before.0, phase.pace), (before.1, phase.online)),
                false => ((phase.pace, phase.pace), (phase.online, phase.online)),
            };
            Leg { from_ns, to_ns, pace, online, together: phase.together.max(1), event: phase.event }
        });
        Self { legs: legs.collect() }
    }

    /// Whether there is a moment at which somebody is not there.
    pub(crate) fn has_absence(&self) -> bool {
        self.legs.iter().any(|leg| leg.online.0 < 1.0 || leg.online.1 < 1.0)
    }

    /// The share of the clients that is meant to be there at the end.
    pub(crate) fn online_at_end(&self) -> f64 {
        self.legs.last().map_or(1.0, |leg| leg.online.1)
    }
}

impl Leg {
    /// How many times as much as at a pace of 1 is sent at `at_ns`, which lies in this phase.
    pub(crate) fn pace_at(&self, at_ns: f64) -> f64 {
        let (from, to) = self.pace;
        let time = (self.to_ns - self.from_ns).max(1) as f64;
        from + (to - from) * ((at_ns - self.from_ns as f64) / time).clamp(0.0, 1.0)
    }

    /// The most in this phase.
    pub(crate) const fn pace_max(&self) -> f64 {
        self.pace.0.max(self.pace.1)
    }
}
