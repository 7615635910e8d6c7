//! Settings of the link, of both sides.

use std::time::Duration;

use crate::VERSIONS;

/// Names a node, and one of its lives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeName {
    /// Its name. Whoever sets nodes up sees to it that no two have the same.
    pub node: String,
    /// The number of its life: another one after each start of its process.
    pub incarnation: u64,
}

/// Where a router can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouterAddr {
    /// `host:port`.
    pub addr: String,
    /// The name its certificate is for; `None`: the host of `addr`.
    pub name: Option<String>,
}

impl RouterAddr {
    /// A router at `host:port`, whose certificate is for that host.
    #[must_use]
    pub fn new(addr: impl Into<String>) -> Self {
        Self { addr: addr.into(), name: None }
    }
}

/// Settings of the link. Every limit has its unit in its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// Edge: items waiting for one router. Above it commands are answered with 503.
    pub up_items_max: usize,
    /// Edge: bytes waiting for one router. Above it the same.
    pub up_bytes_max: usize,
    /// Router: items waiting for one edge. Above it pushes are dropped and its sessions told to sync.
    pub down_items_max: usize,
    /// Router: bytes of the pushes waiting for one edge. Above it they are dropped, too.
    pub down_bytes_max: usize,
    /// Items of one batch.
    pub batch_items_max: usize,
    /// Bytes after which a batch is full, give or take one item.
    pub batch_bytes_max: usize,
    /// A side that has nothing to say says so this often.
    pub beat_every: Duration,
    /// A side from which nothing came for this long is dead.
    pub dead_after: Duration,
    /// Time for a connection to a router and its greeting.
    pub attach_within: Duration,
    /// Pause after a failed attempt to attach, at first.
    pub retry_after: Duration,
    /// Pause after many of them.
    pub retry_after_max: Duration,
    /// Edge: a command that its router has not answered within this time is answered with 502.
    pub command_deadline: Duration,
    /// Edge: sessions brought to another router per second. One that has a command is brought at once.
    pub resumes_per_second: u32,
    /// Edge: what clients are told to wait while there is no router.
    pub no_router_retry: Duration,
    /// Router: a range of shards is not given to another edge within this time. Longer than a store may take to answer.
    pub range_rest: Duration,
    /// API calls under way. Above it they get UNAVAILABLE, with 503.
    pub calls_max: usize,
    /// The lowest and the highest version to speak; tests pretend to be older or newer.
    pub versions: (u32, u32),
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            up_items_max: 65_536,
            up_bytes_max: 64 * 1024 * 1024,
            down_items_max: 262_144,
            down_bytes_max: 64 * 1024 * 1024,
            batch_items_max: 1024,
            batch_bytes_max: 256 * 1024,
            beat_every: Duration::from_millis(500),
            dead_after: Duration::from_secs(3),
            attach_within: Duration::from_secs(3),
            retry_after: Duration::from_millis(100),
            retry_after_max: Duration::from_secs(2),
            command_deadline: Duration::from_secs(15),
            resumes_per_second: 10_000,
            no_router_retry: Duration::from_secs(1),
            range_rest: Duration::from_secs(60),
            calls_max: 4096,
            versions: (*VERSIONS.start(), *VERSIONS.end()),
        }
    }
}

/// Largest message either side takes, in bytes: a full batch and the largest item are far below it.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes that either side may send ahead of what the other one took.
pub(crate) const WINDOW_BYTES: u32 = 4 * 1024 * 1024;
