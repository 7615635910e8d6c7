//! One thread's share of an edge.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use roost_wire::CloseCode;
use roost_wire::link::{Down, SessionKey};

use crate::{Effect, End, HttpDown, Outbound, ShardConfig, ShardMetrics};

/// One thread's share of an edge: its connections, timers, topics and fan-out.
#[derive(Debug)]
pub struct Shard {
    pub(crate) config: Arc<ShardConfig>,
}

#[allow(unused_variables, clippy::needless_pass_by_value)]
impl Shard {
    /// An empty shard with the number `shard`. `unix_ms` is the wall clock at `now`, in ms since the Unix epoch:
    /// tokens expire by it.
    #[must_use]
    pub fn new(config: Arc<ShardConfig>, shard: u16, metrics: Arc<ShardMetrics>, now: Instant, unix_ms: u64) -> Self {
        Self { config }
    }

    /// Sets the wall clock, which may jump: call it now and then. Expiries already known keep their moment.
    pub fn wall_clock(&mut self, unix_ms: u64, now: Instant) {}

    /// A connection was accepted. `None`: the shard is full, close the socket; it was counted.
    pub fn opened(&mut self, peer: SocketAddr, now: Instant) -> Option<SessionKey> {
        None
    }

    /// Bytes arrived, in a buffer that the driver lends; they are unmasked in place.
    pub fn received(&mut self, key: SessionKey, bytes: &mut [u8], now: Instant) {}

    /// The driver wrote `written` bytes from the front of the outbound queue.
    pub fn sent(&mut self, key: SessionKey, written: usize, now: Instant) {}

    /// The transport ended and the driver has let it go. No [`Effect::Close`] follows.
    pub fn ended(&mut self, key: SessionKey, end: End, now: Instant) {}

    /// Something came from the router.
    pub fn down(&mut self, down: Down, now: Instant) {}

    /// The HTTP service did something on a stream.
    pub fn http(&mut self, key: SessionKey, down: HttpDown, now: Instant) {}

    /// Runs timers that are due and one slice of fan-out. True: there is more to do at once.
    pub fn turn(&mut self, now: Instant) -> bool {
        false
    }

    /// When to call [`Shard::turn`] at the latest. `None`: nothing is timed.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// What to do next; call until `None`.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        None
    }

    /// The queue of a connection. `None`: the key is stale.
    #[must_use]
    pub fn outbound(&self, key: SessionKey) -> Option<&Outbound> {
        None
    }

    /// Asks every session to go elsewhere: GOAWAY, with slots spread over `window` by `seed`; those still here at
    /// `deadline` from now are closed with 4000.
    pub fn drain(
        &mut self,
        reason: &str,
        window: Duration,
        deadline: Duration,
        urls: Vec<String>,
        now: Instant,
        seed: u64,
    ) {
    }

    /// Closes every connection, sessions with `code`: the shard is to end. It is empty once
    /// [`Shard::connections`] is 0.
    pub fn close_all(&mut self, code: CloseCode, now: Instant) {}

    /// Deliveries were lost: every live session is told to sync, paced.
    pub fn doubt(&mut self, now: Instant) {}

    /// Connections held, of every kind.
    #[must_use]
    pub fn connections(&self) -> usize {
        0
    }

    /// Sessions that the router accepted.
    #[must_use]
    pub fn sessions(&self) -> usize {
        0
    }

    /// Settings of the shard.
    #[must_use]
    pub fn config(&self) -> &ShardConfig {
        &self.config
    }
}
