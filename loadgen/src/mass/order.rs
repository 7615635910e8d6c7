//! What the main thread asks of those that hold the clients, and what they tell.

use crate::mass::tally::Tally;

/// One thing to do. A new order ends the one before it.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// Connect everybody, so many per second from `start_ns` on.
    Ramp { start_ns: u64, per_second: f64 },
    /// Nothing but heartbeats until then; done when those sent are answered or overdue.
    Hold { until_ns: u64 },
    /// Subscribe everybody to the channel, so many per second.
    Subscribe { channel: String, start_ns: u64, per_second: f64, until_ns: u64 },
    /// The first client publishes; done when everybody has everything, or `grace_ns` after the last one.
    Publish(Publish),
    /// Everybody sends a text and waits until it comes back, again and again until `until_ns`.
    Echo { body_bytes: usize, until_ns: u64, grace_ns: u64 },
    /// Everybody drops at once, and comes back in a slot of its own, so many per second.
    Storm { reset: bool, per_second: f64 },
    /// From now on the server may end sessions: whoever is asked to go goes, in its slot. Done when all are gone.
    Drain { until_ns: u64 },
    /// Close everything and end.
    Finish { goodbye: bool },
}

/// Messages to everybody.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publish {
    pub(crate) start_ns: u64,
    pub(crate) count: u32,
    pub(crate) per_second: f64,
    /// So many are due at the same moment.
    pub(crate) burst: u32,
    pub(crate) body_bytes: usize,
    pub(crate) grace_ns: u64,
}

/// What a thread tells, some times a second.
#[derive(Debug)]
pub(crate) struct Tick {
    pub(crate) thread: u32,
    /// How many orders it had got when it began to measure this.
    pub(crate) order: u32,
    /// What was measured since the last one.
    pub(crate) tally: Tally,
    /// Sessions, connections on the way, and clients that come back later.
    pub(crate) live: u32,
    pub(crate) opening: u32,
    pub(crate) away: u32,
    /// The order is done.
    pub(crate) done: bool,
    /// The thread ended, for this reason if it should not have.
    pub(crate) ended: Option<Result<(), String>>,
}
