//! Several routers on one store, and between them a bus that the test moves by hand: parcels lie until they are
//! delivered, doubled, put in another order, or dropped.

mod doubts;
mod members;
mod people;
mod pushes;
mod targets;
mod writes;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use roost_router::{Bus, NodeId, Parcel, RouterConfig};
use roost_storage::testkit::FaultyStore;
use roost_storage::{MemoryStore, Store};
use roost_wire::FrameBody;

use crate::harness::{Client, Faulty, Got, House, TestEnv};

/// Parcels on their way: to which node, and what.
type Lying = Arc<Mutex<Vec<(usize, Parcel)>>>;

/// One node's way to the others.
pub(crate) struct HandBus {
    place: usize,
    nodes: usize,
    incarnation: u64,
    lying: Lying,
}

impl Bus for HandBus {
    fn node(&self) -> NodeId {
        NodeId(self.place as u64 + 1)
    }

    fn incarnation(&self) -> u64 {
        self.incarnation
    }

    fn post(&self, to: Option<NodeId>, parcel: Parcel) {
        let mut lying = self.lying.lock();
        let wanted = |place: &usize| *place != self.place && to.is_none_or(|to| to.0 == *place as u64 + 1);
        lying.extend((0..self.nodes).filter(wanted).map(|to| (to, parcel.clone())));
    }
}

pub(crate) struct Nodes<S: Store = Faulty> {
    pub(crate) nodes: Vec<House<S, HandBus>>,
    lying: Lying,
    config: RouterConfig,
}

pub(crate) fn nodes(count: usize) -> Nodes {
    nodes_with(count, RouterConfig::default())
}

pub(crate) fn nodes_with(count: usize, config: RouterConfig) -> Nodes {
    Nodes::over(&Arc::new(FaultyStore::new(MemoryStore::default())), count, config)
}

impl<S: Store> Nodes<S> {
    /// Nodes that have heard of each other.
    pub(crate) fn over(store: &Arc<S>, count: usize, config: RouterConfig) -> Self {
        let nodes = Self::strange(store, count, config);
        nodes.nodes.iter().for_each(|node| node.router.beat());
        for to in 0..count {
            nodes.take(to).into_iter().for_each(|parcel| nodes.nodes[to].router.hear(parcel));
        }
        nodes
    }

    /// Nodes that have heard nothing of each other yet.
    pub(crate) fn strange(store: &Arc<S>, count: usize, config: RouterConfig) -> Self {
        let lying = Lying::default();
        let drawn: Arc<AtomicU64> = Arc::default();
        let node = |place| {
            let now_ms = Arc::new(AtomicU64::new(1_790_000_000_000));
            let env = TestEnv { now_ms, drawn: Arc::clone(&drawn) };
            let bus = HandBus { place, nodes: count, incarnation: 1, lying: Arc::clone(&lying) };
            House::beside(store, config.clone(), env, bus)
        };
        Self { nodes: (0..count).map(node).collect(), lying, config }
    }

    /// The first two nodes, with Ada on one and Bob on the other, each known to both.
    pub(crate) async fn ada_and_bob(&self) -> (&House<S, HandBus>, &House<S, HandBus>, Client, Client) {
        let [a, b, ..] = self.nodes.as_slice() else { panic!("it takes two nodes") };
        let (ada, bob) = (a.enter("ada").await, b.enter("bob").await);
        self.deliver().await;
        (a, b, ada, bob)
    }

    /// Starts a node anew; its sessions are gone.
    pub(crate) fn restart(&mut self, place: usize, incarnation: u64) {
        let old = &self.nodes[place];
        let bus = HandBus { place, nodes: self.nodes.len(), incarnation, lying: Arc::clone(&self.lying) };
        self.nodes[place] = House::beside(&old.store, self.config.clone(), old.env.clone(), bus);
    }

    /// Takes the parcels that lie for a node.
    pub(crate) fn take(&self, to: usize) -> Vec<Parcel> {
        let mut lying = self.lying.lock();
        let (taken, left) = lying.drain(..).partition(|(of, _)| *of == to);
        *lying = left;
        let taken: Vec<(usize, Parcel)> = taken;
        taken.into_iter().map(|(_, parcel)| parcel).collect()
    }

    /// Drops everything that lies.
    pub(crate) async fn lose_all(&self) {
        self.settle().await;
        self.drop_lying();
    }

    /// Drops what lies now, whatever is still under way.
    pub(crate) fn drop_lying(&self) {
        self.lying.lock().clear();
    }

    pub(crate) async fn settle(&self) {
        for node in &self.nodes {
            node.settle().await;
        }
    }

    pub(crate) async fn hear(&self, to: usize, parcels: impl IntoIterator<Item = Parcel>) {
        parcels.into_iter().for_each(|parcel| self.nodes[to].router.hear(parcel));
        self.nodes[to].settle().await;
    }

    /// Delivers everything in order, and what follows from it, until nothing lies.
    pub(crate) async fn deliver(&self) {
        loop {
            self.settle().await;
            if self.lying.lock().is_empty() {
                return;
            }
            for to in 0..self.nodes.len() {
                self.hear(to, self.take(to)).await;
            }
        }
    }

    /// Lets time go by, without a heartbeat.
    pub(crate) async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
        let ms = time.as_millis() as u64;
        for node in &self.nodes {
            node.env.now_ms.fetch_add(ms, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// A beat of every node, delivered.
    pub(crate) async fn beat(&self) {
        self.nodes.iter().for_each(|node| node.router.beat());
        self.deliver().await;
    }

    pub(crate) fn metric(&self, place: usize, name: &str) -> u64 {
        self.nodes[place].router.metrics().get(name).expect("there is such a metric") as u64
    }
}

/// The seqs of the entries that a session was pushed, in the order they came. Emptied.
pub(crate) fn seqs<S: Store>(node: &House<S, HandBus>, client: &Client) -> Vec<u64> {
    node.entries(client).into_iter().map(|entry| entry.seq).collect()
}

/// Whether a session was told to sync. What it was told is emptied.
pub(crate) fn doubted<S: Store>(node: &House<S, HandBus>, client: &Client) -> bool {
    let sync = |got: &Got| match got {
        Got::Doubt => true,
        Got::Push(FrameBody::Changed(changed)) => changed.more,
        _ => false,
    };
    node.told(client).iter().any(sync)
}
