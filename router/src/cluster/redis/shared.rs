//! What the tasks of a node's way through Redis share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use fred::prelude::*;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::metrics::RedisMetrics;
use super::options::{Names, RedisOptions};
use super::queue::{Incoming, Outgoing};
use super::table::{NodeInfo, NodeTable};
use crate::NodeId;

/// How the way to Redis is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether Redis answers.
    pub link: Link,
    /// Redis answers, but what this node sends to itself does not come back: it is being subscribed to again.
    pub deaf: bool,
    /// This node's clock less that of Redis, in ms.
    pub clock_skew_ms: i64,
    /// They are further apart than `clock_skew_max`.
    pub clock_off: bool,
    /// Redis refuses to write. What nodes tell each other goes on; the table and leases do too.
    pub out_of_memory: bool,
    /// Nodes on the table, this one included.
    pub nodes: usize,
}

/// Whether Redis answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// It was not asked yet.
    #[default]
    Starting,
    /// It answers, and this node is on the table.
    Up,
    /// It does not.
    Down {
        /// Since when, in ms since the Unix epoch by this node's clock.
        since_ms: u64,
        /// What it says, and what is to be done.
        why: String,
    },
    /// Another node has taken this one's name: this one tells and hears nothing any more, and should end.
    Superseded {
        /// What is known of the other one.
        by: String,
    },
}

/// A publish that came through Redis: the channel, and the bytes.
pub(super) type Bridged = (String, Bytes);

/// A node that gets what is for all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) node: NodeId,
    /// When it was last on the table.
    pub(super) seen: Instant,
}

pub(super) struct Shared {
    pub(super) options: RedisOptions,
    pub(super) names: Names,
    pub(super) node: NodeId,
    pub(super) info: NodeInfo,
    /// Commands, and messages to other nodes.
    pub(super) commands: Client,
    /// What is heard.
    pub(super) subscriber: Client,
    pub(super) outgoing: Outgoing,
    pub(super) incoming: Incoming,
    pub(super) table: watch::Sender<Arc<NodeTable>>,
    pub(super) health: watch::Sender<Health>,
    /// Who gets what is for all.
    pub(super) targets: Mutex<Arc<[Target]>>,
    pub(super) metrics: RedisMetrics,
    /// The table should be read now.
    pub(super) look: Notify,
    /// The shared settings should be read now.
    pub(super) settings_news: Notify,
    /// To the bridge. `None`: it does not run here.
    pub(super) bridge: Mutex<Option<mpsc::Sender<Bridged>>>,
    /// The last ping that was sent.
    pub(super) ping: AtomicU64,
    /// When this node last heard itself through its sharded and its plain channel.
    pub(super) heard: Mutex<[Instant; 2]>,
    /// False from a reconnect until this node hears itself again, or gives up waiting for that: what is sent before
    /// others have subscribed again reaches nobody.
    pub(super) settled: AtomicBool,
    /// The sender should look again whether it may send.
    pub(super) resume: Notify,
    /// Kinds of what could not be read that were logged.
    pub(super) said: Mutex<Vec<&'static str>>,
    /// What was last wrong.
    pub(super) trouble: Mutex<Error>,
    /// Leases that are held: key, and what stands there.
    pub(super) held: Mutex<BTreeMap<String, String>>,
}

impl Shared {
    /// Whether messages may be sent now.
    pub(super) fn may_send(&self) -> bool {
        self.settled.load(Relaxed) && self.commands.is_connected() && !self.is_superseded()
    }

    pub(super) fn is_superseded(&self) -> bool {
        matches!(self.health.borrow().link, Link::Superseded { .. })
    }

    /// Changes what is known of the way to Redis; whoever watches is told of a change only.
    pub(super) fn set_health(&self, change: impl FnOnce(&mut Health)) {
        self.health.send_if_modified(|health| {
            let before = health.clone();
            change(health);
            let metrics = &self.metrics;
            metrics.up.set(usize::from(health.link == Link::Up));
            metrics.deaf.set(usize::from(health.deaf));
            metrics.out_of_memory.set(usize::from(health.out_of_memory));
            metrics.clock_skew.set(health.clock_skew_ms.unsigned_abs() as usize);
            metrics.nodes.set(health.nodes);
            *health != before
        });
    }

    pub(super) fn settle(&self) {
        if !self.settled.swap(true, Relaxed) {
            self.resume.notify_one();
        }
    }
}
