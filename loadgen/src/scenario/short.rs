//! What sub-commands without a file run.

use std::time::Duration;

use super::{
    Arrivals, Channel, Crowd, Event, GroupSize, Load, Phase, Population, Protocol, Scenario, Shares, Transport,
};
#[cfg(target_os = "linux")]
use crate::lines::Impairment;
use crate::threshold::Threshold;

impl Scenario {
    /// Direct and group messages of many people: what `roost-load quick` runs.
    #[must_use]
    pub fn quick(clients: u32, sends_per_second: f64, hold: Duration) -> Self {
        let mut scenario = Self {
            name: "quick".into(),
            population: Population {
                partners: 1.0,
                groups: 0.5,
                group_sizes: vec![GroupSize { members: 10, weight: 1.0 }],
                channels: Vec::new(),
            },
            load: Load::Open { arrivals: Arrivals::Poisson, hold },
            thresholds: Threshold::all(&[
                "sessions.failed==0",
                "sends.unanswered==0",
                "sends.unsent==0",
                "errors==0",
                "unverified==0",
            ]),
            ..Self::idle(clients, hold)
        };
        scenario.crowds[0].sends_per_second = sends_per_second;
        scenario.crowds[0].shares = Shares { direct: 0.6, group: 0.4, channel: 0.0 };
        scenario
    }

    /// Durable sends per second: every sender waits for its acknowledgement, then sends the next.
    #[must_use]
    pub fn sends(senders: u32, hold: Duration) -> Self {
        Self {
            name: "sends".into(),
            population: Population { partners: 1.0, ..Population::nobody() },
            load: Load::Closed { think: Duration::ZERO, hold },
            thresholds: Threshold::all(&["sessions.failed==0", "sends.unanswered==0", "unverified==0"]),
            ..Self::idle(senders, hold)
        }
    }

    /// Sessions that say nothing: what memory they take.
    #[must_use]
    pub fn idle(connections: u32, hold: Duration) -> Self {
        Self {
            name: "idle".into(),
            protocol: Protocol::Roost,
            transport: Transport::Ws,
            migrating: 0.0,
            #[cfg(target_os = "linux")]
            impairment: Impairment::default(),
            clients: connections,
            connects_per_second: 4000,
            population: Population::nobody(),
            crowds: vec![Crowd::everybody(connections)],
            load: Load::Idle { hold },
            phases: vec![Phase::steady(hold)],
            body_bytes: 128,
            marks_after: Duration::from_secs(1),
            grace: Duration::from_secs(10),
            sdk_share: 0.0,
            thresholds: Threshold::all(&["sessions.failed==0"]),
            seed: 1,
        }
    }

    /// One publisher, everybody listens.
    #[must_use]
    pub fn broadcast(connections: u32, publishes: u32, publishes_per_second: f64, body_bytes: usize) -> Self {
        let hold = Duration::from_secs_f64(f64::from(publishes) / publishes_per_second);
        let mut scenario = Self {
            name: "broadcast".into(),
            population: Population {
                channels: vec![Channel { subscribers: 1.0, publishers: 1 }],
                ..Population::nobody()
            },
            load: Load::Open { arrivals: Arrivals::Constant, hold },
            body_bytes,
            thresholds: Threshold::all(&["sessions.failed==0", "unverified==0"]),
            ..Self::idle(connections, hold)
        };
        scenario.crowds[0].sends_per_second = publishes_per_second;
        scenario.crowds[0].shares = Shares { direct: 0.0, group: 0.0, channel: 1.0 };
        scenario
    }
}

impl Population {
    /// Nobody talks.
    pub(crate) const fn nobody() -> Self {
        Self { partners: 0.0, groups: 0.0, group_sizes: Vec::new(), channels: Vec::new() }
    }
}

impl Crowd {
    /// All clients of a run, who say nothing.
    pub(crate) fn everybody(clients: u32) -> Self {
        Self {
            name: "everybody".into(),
            users: clients,
            devices: 1,
            transport: Transport::Ws,
            migrating: 0.0,
            #[cfg(target_os = "linux")]
            impairment: Impairment::default(),
            sends_per_second: 0.0,
            shares: Shares { direct: 1.0, group: 1.0, channel: 1.0 },
            sleeps: None,
            answers: None,
        }
    }
}

impl Phase {
    /// The whole of a load of which nothing else is to be said.
    pub(crate) fn steady(hold: Duration) -> Self {
        let event = Event::Steady;
        Self { name: "load".into(), event, hold, pace: 1.0, online: 1.0, gradual: false, together: 1 }
    }
}
