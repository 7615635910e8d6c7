//! Servers, nodes on them, and buses of several makes that one suite can be run on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use roost_fixtures::redis::{Redis, RedisCluster};
use roost_router::redis::{NodeRole, NodeSpec, RedisBus, RedisInbox, RedisOptions, node_id};
use roost_router::{Bus, NodeId, Notice, Parcel};
use roost_wire::UserId;
use tokio::sync::mpsc;

/// Nothing here takes so long unless it never comes.
pub(crate) const NEVER: Duration = Duration::from_secs(30);

/// A Redis that nobody does harm to.
pub(crate) fn redis() -> &'static Redis {
    static REDIS: OnceLock<Redis> = OnceLock::new();
    REDIS.get_or_init(|| Redis::start().expect("Redis starts"))
}

/// A Redis Cluster that nobody does harm to.
fn redis_cluster() -> &'static RedisCluster {
    static CLUSTER: OnceLock<RedisCluster> = OnceLock::new();
    CLUSTER.get_or_init(|| RedisCluster::start(3, 0).expect("Redis Cluster starts"))
}

/// A name that no other test has.
pub(crate) fn cluster_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("t{}", NEXT.fetch_add(1, Relaxed))
}

/// Options with short times, for nodes that work together as `cluster`.
pub(crate) fn options(url: &str, cluster: &str) -> RedisOptions {
    RedisOptions {
        cluster: cluster.to_owned(),
        start_without: false,
        node_ttl: Duration::from_millis(1500),
        tick_every: Duration::from_millis(200),
        lease_ttl: Duration::from_millis(1500),
        bridge: false,
        ..RedisOptions::new(url)
    }
}

pub(crate) fn spec(name: &str) -> NodeSpec {
    let (listen, grpc) = (String::new(), String::new());
    NodeSpec { name: name.to_owned(), role: NodeRole::All, listen, grpc, version: "0.1.0".to_owned() }
}

pub(crate) async fn join(options: &RedisOptions, name: &str) -> (RedisBus, RedisInbox) {
    RedisBus::connect(options.clone(), spec(name)).await.expect("the node joins")
}

/// Waits until `done`; says `what` never came otherwise.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + NEVER;
    while !done() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until each of `buses` has all of them on its table.
pub(crate) async fn acquainted(buses: &[&RedisBus]) {
    until("all nodes on all tables", || buses.iter().all(|bus| bus.health().nodes == buses.len())).await;
}

pub(crate) fn metric(bus: &RedisBus, name: &str) -> u64 {
    bus.metrics().get(name).expect("there is such a metric") as u64
}

/// Where a node's parcels arrive.
pub(crate) trait Inbox: Send + 'static {
    async fn recv(&mut self) -> Vec<Parcel>;
}

impl Inbox for RedisInbox {
    async fn recv(&mut self) -> Vec<Parcel> {
        Self::recv(self).await
    }
}

/// Makes nodes that reach each other.
pub(crate) trait Kit {
    type Bus: Bus;
    type Inbox: Inbox;
    /// So many nodes, acquainted: `n0`, `n1`, …
    async fn nodes(count: usize) -> Vec<(Self::Bus, Self::Inbox)>;
}

/// One Redis.
pub(crate) struct OneRedis;

impl Kit for OneRedis {
    type Bus = RedisBus;
    type Inbox = RedisInbox;

    async fn nodes(count: usize) -> Vec<(RedisBus, RedisInbox)> {
        on_redis(&redis().url(), count).await
    }
}

/// A Redis Cluster of three masters.
pub(crate) struct ManyRedis;

impl Kit for ManyRedis {
    type Bus = RedisBus;
    type Inbox = RedisInbox;

    async fn nodes(count: usize) -> Vec<(RedisBus, RedisInbox)> {
        on_redis(&redis_cluster().url(), count).await
    }
}

async fn on_redis(url: &str, count: usize) -> Vec<(RedisBus, RedisInbox)> {
    let options = options(url, &cluster_name());
    let mut nodes = Vec::new();
    for place in 0..count {
        nodes.push(join(&options, &format!("n{place}")).await);
    }
    acquainted(&nodes.iter().map(|(bus, _)| bus).collect::<Vec<_>>()).await;
    nodes
}

/// Within one process: what the suite asks of a bus that loses nothing.
pub(crate) struct Local;

type Ways = Arc<Mutex<BTreeMap<NodeId, mpsc::UnboundedSender<Parcel>>>>;

pub(crate) struct LocalBus {
    node: NodeId,
    ways: Ways,
}

pub(crate) struct LocalInbox(mpsc::UnboundedReceiver<Parcel>);

impl Bus for LocalBus {
    fn node(&self) -> NodeId {
        self.node
    }

    fn incarnation(&self) -> u64 {
        1
    }

    fn post(&self, to: Option<NodeId>, parcel: Parcel) {
        for (node, way) in self.ways.lock().iter() {
            if *node != self.node && to.is_none_or(|to| to == *node) {
                let _ = way.send(parcel.clone());
            }
        }
    }
}

impl Inbox for LocalInbox {
    async fn recv(&mut self) -> Vec<Parcel> {
        self.0.recv().await.into_iter().collect()
    }
}

impl Kit for Local {
    type Bus = LocalBus;
    type Inbox = LocalInbox;

    async fn nodes(count: usize) -> Vec<(LocalBus, LocalInbox)> {
        let ways = Ways::default();
        let node = |place| {
            let node = node_id(&format!("n{place}"));
            let (way, inbox) = mpsc::unbounded_channel();
            ways.lock().insert(node, way);
            (LocalBus { node, ways: Arc::clone(&ways) }, LocalInbox(inbox))
        };
        (0..count).map(node).collect()
    }
}

/// Posts the news that `user` is gone, with this number.
pub(crate) fn post(bus: &impl Bus, to: Option<NodeId>, number: u64, user: &str) {
    let notice = Notice::Gone { user: UserId::new(user).unwrap() };
    post_notice(bus, to, number, notice);
}

pub(crate) fn post_notice(bus: &impl Bus, to: Option<NodeId>, number: u64, notice: Notice) {
    let (from, incarnation) = (bus.node(), bus.incarnation());
    bus.post(to, Parcel { from, incarnation, direct: to.is_some(), number, notice });
}

/// Takes parcels until there are `count` of them.
pub(crate) async fn take(inbox: &mut impl Inbox, count: usize) -> Vec<Parcel> {
    let mut taken = Vec::new();
    let all = async {
        while taken.len() < count {
            taken.extend(inbox.recv().await);
        }
    };
    let came = tokio::time::timeout(NEVER, all).await.is_ok();
    assert!(came, "{} of {count} parcels came", taken.len());
    taken
}

/// The numbers of parcels.
pub(crate) fn numbers(parcels: &[Parcel]) -> Vec<u64> {
    parcels.iter().map(|parcel| parcel.number).collect()
}
