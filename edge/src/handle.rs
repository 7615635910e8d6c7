//! The edge as the rest of the node sees it.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use roost_edge_core::ShardMetrics;
use roost_wire::link::Down;

use crate::accept::Control;
use crate::driver::poll::Conn;
use crate::driver::quic::QuicMetrics;
use crate::inbox::Inbox;
use crate::metrics::{EdgeSnapshot, LoopMetrics};

/// A handle on a running edge: cheap to clone, usable from any thread, also before the edge is started (what is
/// posted waits in the mailboxes) and after it ended (nothing happens).
#[derive(Clone)]
pub struct EdgeHandle {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) local_addr: SocketAddr,
    pub(crate) quic_addr: Option<SocketAddr>,
    /// Of shards of streams, then of those of QUIC.
    pub(crate) inboxes: Vec<Inbox<Conn>>,
    /// How many of them are of streams.
    pub(crate) streams: usize,
    pub(crate) metrics: Vec<(Arc<ShardMetrics>, Arc<LoopMetrics>)>,
    pub(crate) quic_metrics: Vec<Arc<QuicMetrics>>,
    pub(crate) accept: Arc<Control>,
}

impl EdgeHandle {
    /// Where the edge listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr
    }

    /// Where it takes QUIC, if it does.
    #[must_use]
    pub fn quic_addr(&self) -> Option<SocketAddr> {
        self.inner.quic_addr
    }

    /// How many shards there are, those of QUIC included; they are numbered from 0.
    #[must_use]
    pub fn shards(&self) -> u16 {
        // Not above `SessionKey::SHARDS_MAX`: see `EdgeConfig::shard_count`.
        self.inner.inboxes.len() as u16
    }

    /// Puts `batch` into the mailbox of `shard`, leaving it empty, and wakes the shard if its mailbox was empty.
    ///
    /// Deliveries that find `mailbox_items_max` items are dropped and counted, and the shard tells its sessions to
    /// sync. Everything else always fits: it is bounded by the commands in flight. What is meant for a shard that does
    /// not exist is dropped.
    pub fn post(&self, shard: u16, batch: &mut Vec<Down>) {
        match self.inner.inboxes.get(usize::from(shard)) {
            Some(inbox) => inbox.post(batch),
            None => batch.clear(),
        }
    }

    /// Stops accepting, and asks every session to move: GOAWAY in slots spread over `window`; those that are still
    /// there after `deadline` are closed with 4000.
    pub fn drain(&self, reason: &str, window: Duration, deadline: Duration) {
        self.inner.accept.stop();
        let seeds = RandomState::new();
        for (shard, inbox) in self.inner.inboxes.iter().enumerate() {
            inbox.drain(reason, window, deadline, seeds.hash_one(shard));
        }
    }

    /// Whether there is memory for more sessions: until it is told otherwise, there is. While there is not, upgrades get
    /// 503 with `Retry-After` whatever the driver; sessions that are there go on, and so do HTTP requests.
    pub fn admit(&self, admitting: bool) {
        for inbox in &self.inner.inboxes {
            inbox.admit(admitting);
        }
    }

    /// Stops accepting, closes every session with 1001, and ends the threads; what does not flush within a second is
    /// cut off.
    pub fn stop(&self) {
        self.inner.accept.stop();
        for inbox in &self.inner.inboxes {
            inbox.stop();
        }
    }

    /// What the counters stand at.
    #[must_use]
    pub fn metrics(&self) -> EdgeSnapshot {
        EdgeSnapshot::collect(&self.inner)
    }
}
