//! A run of many clients, as plain data.

use std::time::Duration;

use serde::Serialize;

use crate::lines::Impairment;
pub(crate) use crate::scenario::Cut as Drop;
use crate::scenario::{Cut, Dialect, Transport};
use crate::threshold::Threshold;

/// Who connects, what is done with them, and what counts as well. What is `None` is not done; the rest is done in the
/// order in which it stands here.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plan {
    /// For the report.
    pub(crate) name: String,
    /// What the server speaks. `plain`: the upgrade is all.
    pub(crate) protocol: Dialect,
    pub(crate) connections: u32,
    /// Connections begun per second.
    pub(crate) connects_per_second: f64,
    /// How often each client sends a heartbeat; a server may want it more often. 0: never.
    #[serde(rename = "heartbeat_ms", serialize_with = "millis")]
    pub(crate) heartbeat: Duration,
    /// What carries the connections.
    pub(crate) transport: Transport,
    /// Share of the clients that go on from another address each second.
    pub(crate) migrating: f64,
    /// What befalls datagrams on their way.
    pub(crate) impairment: Impairment,
    /// Clients come with tickets of earlier connections.
    pub(crate) tickets: bool,
    /// How long they are held and do nothing else.
    #[serde(rename = "hold_ms", serialize_with = "millis")]
    pub(crate) hold: Duration,
    pub(crate) broadcast: Option<Broadcast>,
    pub(crate) echo: Option<Echo>,
    pub(crate) storm: Option<Storm>,
    /// Ask the server to stop, and see everybody go.
    pub(crate) drain: bool,
    /// How long answers, deliveries and connections may take.
    #[serde(rename = "grace_ms", serialize_with = "millis")]
    pub(crate) grace: Duration,
    pub(crate) thresholds: Vec<Threshold>,
    pub(crate) seed: u64,
}

/// Messages of one client to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Broadcast {
    pub(crate) publishes: u32,
    pub(crate) publishes_per_second: f64,
    /// So many are due at the same moment.
    pub(crate) burst: u32,
    /// Length of a text.
    pub(crate) body_bytes: usize,
}

/// Every client has one text under way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Echo {
    #[serde(rename = "for_ms", serialize_with = "millis")]
    pub(crate) hold: Duration,
    pub(crate) body_bytes: usize,
}

/// Everybody drops at once, and comes back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Storm {
    pub(crate) how: Cut,
    /// Everybody has a slot of its own in this time.
    #[serde(rename = "window_ms", serialize_with = "millis")]
    pub(crate) window: Duration,
}

/// How messages follow one another: figures of different regimes say nothing about each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Regime {
    /// Everybody had a message before the next one was sent: nothing to coalesce.
    Paced,
    /// One at a time was sent, but sooner than everybody had the one before.
    Overlapping,
    /// Several at once: they may leave as one.
    Bursts,
}

fn millis<S: serde::Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
