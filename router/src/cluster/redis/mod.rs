//! The bus through Redis, and what else nodes keep there: who they are, leases, shared settings.
//!
//! Redis holds hints. Losing it loses nothing that was acknowledged: what could not be told is noticed by the numbers
//! of parcels, and doubted.
//!
//! - [`RedisBus`]: parcels out (`queue`, `send`, `held`) and in (`receive`), as `codec` has them as bytes; a sharded channel for
//!   each node, on one Redis or on Redis Cluster;
//! - `registry`, [`NodeTable`]: who is live, and where;
//! - [`Leases`]: who does a job that one node does; [`Settings`]: what all nodes follow;
//! - `bridge`: what programs publish in Redis.
//!
//! Invariants:
//! - nothing waits without a limit, and nothing is sent that waited longer than `parcel_age_max`;
//! - what is lost is counted here, and noticed by its receiver;
//! - of two live nodes with one name the one that came second is refused, or told that it is superseded.
//!
//! Absent on purpose: looking anything up in Redis on the way of a message. Every node remembers who is where.

mod bridge;
mod codec;
mod error;
mod held;
mod lease;
mod link;
mod metrics;
mod options;
mod queue;
mod receive;
mod registry;
mod send;
mod serve;
mod settings;
mod shared;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use fred::prelude::*;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::metrics::Snapshot;
use crate::{Bus, NodeId, Parcel};
use queue::{Incoming, Outgoing};
use shared::Shared;

pub use codec::{BATCH_BYTES_MAX, MESSAGE_BYTES_MAX, PARCEL_BYTES_MAX, VERSION, VERSION_MIN};
pub use error::ConnectError;
pub use lease::{Lease, LeaseError, Leases};
pub use options::RedisOptions;
pub use serve::{RedisInbox, Serving};
pub use settings::{Followed, Refused, SETTINGS_BYTES_MAX, Setting, Settings, SettingsError};
pub use shared::{Health, Link};
pub use table::{NodeInfo, NodeRole, NodeSpec, NodeTable, node_id};

/// What [`RedisBus::leave`] spends on sending what waits.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);
/// How often it, and [`RedisBus::connect`], look.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A node's way to the others through Redis. Cloning shares it; it ends with its last clone.
#[derive(Clone)]
pub struct RedisBus {
    shared: Arc<Shared>,
    tasks: Arc<Tasks>,
}

/// Tasks that end when this is dropped.
#[derive(Default)]
pub(crate) struct Tasks(Vec<JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl RedisBus {
    /// Joins the nodes that share a Redis. What the second value gives is to be heard: [`RedisInbox::serve`].
    ///
    /// If Redis cannot be reached within `start_within`, and `start_without` is set, the node starts alone and joins
    /// when Redis is there. A name that another life has is waited for as long as a life that has died keeps it.
    ///
    /// # Errors
    /// [`ConnectError`]: each says what to do.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(options: RedisOptions, spec: NodeSpec) -> Result<(Self, RedisInbox), ConnectError> {
        check(&options, &spec)?;
        let reached = match link::knock(&options).await {
            Ok(()) => true,
            Err(failed @ ConnectError::Unreachable { .. }) if options.start_without => {
                tracing::error!("{failed} This node starts without it and hears no other one until then");
                false
            }
            Err(failed) => return Err(failed),
        };
        let (commands, subscriber) = (link::build(&options, false)?, link::build(&options, false)?);
        let mut tasks = Tasks::default();
        tasks.0.extend([&commands, &subscriber].map(|client| tokio::spawn(link::keep(client.clone()))));
        let names = options::Names::new(&options.cluster);
        let node = node_id(&spec.name);
        let clock_ms = (options.clock)();
        let incarnation = if reached {
            wait_for(options.connect_timeout * 2, || commands.is_connected() && subscriber.is_connected()).await;
            let drawn = registry::incarnation(&commands, names.incarnation(node)).await;
            drawn.map_err(|error| ConnectError::of(options.address(), &error))?
        } else {
            clock_ms
        };
        let info = info(spec, incarnation, options.versions, clock_ms);
        let shared = Arc::new(Shared::new(options, names, info, commands, subscriber));
        tasks.0.push(tokio::spawn(Arc::clone(&shared).receive_loop()));
        if reached {
            shared.enter().await?;
        }
        tasks.0.push(tokio::spawn(Arc::clone(&shared).watch_connections()));
        tasks.0.push(tokio::spawn(Arc::clone(&shared).tick_loop()));
        tasks.0.push(tokio::spawn(Arc::clone(&shared).send_loop()));
        let inbox = RedisInbox::new(Arc::clone(&shared));
        Ok((Self { shared, tasks: Arc::new(tasks) }, inbox))
    }

    /// The nodes that are live, as far as Redis was heard. It tells of a change when somebody comes, goes or changes.
    #[must_use]
    pub fn table(&self) -> watch::Receiver<Arc<NodeTable>> {
        self.shared.table.subscribe()
    }

    /// How the way to Redis is.
    #[must_use]
    pub fn health(&self) -> Health {
        self.shared.health.borrow().clone()
    }

    /// As [`Self::health`], and tells of changes.
    #[must_use]
    pub fn watch_health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    /// What the counters stand at.
    #[must_use]
    pub fn metrics(&self) -> Snapshot {
        let (parcels, bytes) = self.shared.outgoing.len();
        self.shared.metrics.queued_parcels.set(parcels);
        self.shared.metrics.queued_bytes.set(bytes);
        self.shared.metrics.snapshot()
    }

    /// Leases, for jobs that one node does.
    #[must_use]
    pub fn leases(&self) -> Leases {
        Leases::new(Arc::clone(&self.shared))
    }

    /// Settings that all nodes share.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings::new(Arc::clone(&self.shared))
    }

    /// Sends what waits, if that takes no longer than a second, gives up all leases, and takes this node off the table.
    /// Call it last, after [`crate::Router::leave`], with no job under a lease left running.
    pub async fn leave(&self) {
        let shared = &self.shared;
        wait_for(LEAVE_WITHIN, || shared.outgoing.len().0 == 0 || !shared.may_send()).await;
        if !shared.is_superseded() {
            // Without an answer leases end, and this node goes from the table, by themselves.
            let leave = async {
                self.leases().release_all().await;
                shared.off_the_table().await
            };
            let _ = tokio::time::timeout(LEAVE_WITHIN, leave).await;
        }
        self.tasks.0.iter().for_each(JoinHandle::abort);
    }
}

impl Bus for RedisBus {
    fn node(&self) -> NodeId {
        self.shared.node
    }

    fn incarnation(&self) -> u64 {
        self.shared.info.incarnation
    }

    fn post(&self, to: Option<NodeId>, parcel: Parcel) {
        let bytes = codec::weight(&parcel.notice);
        if !self.shared.outgoing.push(to, parcel, bytes, Instant::now()) {
            self.shared.metrics.parcels_overflowed.add(1);
        }
    }
}

impl Shared {
    fn new(options: RedisOptions, names: options::Names, info: NodeInfo, commands: Client, subscriber: Client) -> Self {
        let now = Instant::now();
        Self {
            node: info.id(),
            outgoing: Outgoing::new(options.queue_parcels_max, options.queue_bytes_max),
            incoming: Incoming::new(options.inbox_messages_max, options.inbox_bytes_max),
            options,
            names,
            info,
            commands,
            subscriber,
            table: watch::Sender::default(),
            health: watch::Sender::default(),
            targets: Mutex::new(Arc::default()),
            metrics: metrics::RedisMetrics::default(),
            look: Notify::new(),
            settings_news: Notify::new(),
            bridge: Mutex::default(),
            ping: AtomicU64::new(0),
            heard: Mutex::new([now; 2]),
            settled: AtomicBool::new(false),
            resume: Notify::new(),
            said: Mutex::default(),
            trouble: Mutex::new(Error::new(ErrorKind::IO, "no connection yet")),
            held: Mutex::default(),
        }
    }

    /// Subscribes, waits until this node hears itself, and takes its place on the table.
    async fn enter(&self) -> Result<(), ConnectError> {
        let subscribed = self.subscribe().await;
        subscribed.map_err(|error| ConnectError::of(self.options.address(), &error))?;
        // SUBSCRIBE is not waited for by the client: the first tests may come to nothing.
        let deadline = Instant::now() + self.options.command_timeout;
        while !self.settled.load(Relaxed) && Instant::now() < deadline {
            self.send_ping().await;
            wait_for(LOOK_EVERY * 4, || self.settled.load(Relaxed)).await;
        }
        match self.join().await {
            // It was there a moment ago.
            Err(ConnectError::Unreachable { .. }) if self.options.start_without => Ok(()),
            joined => joined,
        }
    }
}

fn info(spec: NodeSpec, incarnation: u64, (bus_min, bus_max): (u32, u32), started_ms: u64) -> NodeInfo {
    let NodeSpec { name, role, listen, grpc, version } = spec;
    NodeInfo { name, incarnation, role, listen, grpc, version, bus_min, bus_max, started_ms, clock_ms: started_ms }
}

fn check(options: &RedisOptions, spec: &NodeSpec) -> Result<(), ConnectError> {
    let safe = |text: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        (1..=64).contains(&text.len()) && text.bytes().all(allowed)
    };
    let schemes = ["redis", "rediss", "redis-cluster", "rediss-cluster"];
    if !options.url.split_once("://").is_some_and(|(scheme, _)| schemes.contains(&scheme)) {
        return Err(ConnectError::Options(format!("the URL begins with one of {schemes:?} and ://")));
    }
    let named = [("the cluster's name", &options.cluster), ("the node's name", &spec.name)];
    for (what, text) in named {
        if !safe(text) {
            return Err(ConnectError::Options(format!("{what} has 1 to 64 of A-Z a-z 0-9 . _ -, not {text:?}")));
        }
    }
    Ok(())
}

/// Waits until `done`, or for `at_most`.
async fn wait_for(at_most: Duration, done: impl Fn() -> bool) {
    let deadline = Instant::now() + at_most;
    while !done() && Instant::now() < deadline {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
