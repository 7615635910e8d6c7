//! A node: real shards and a real router, without sockets and threads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::Mutex;
use roost_edge::driver::quic::testkit::{Site, Station};
use roost_edge_core::{Effect, Shard, ShardMetrics};
use roost_router::auth::Keys;
use roost_router::metrics::Snapshot;
use roost_router::{Downstream, Env, Parcel, Router};
use roost_wire::link::{Down, SessionKey, Up};
use roost_wire::{ConvId, FrameBody, UserId};
use tokio::sync::Notify;

use crate::bus::Plug;
use crate::rng::Stream;
use crate::setup::Setup;
use crate::store::NodeStore;

/// Wall time at the beginning of every run, in ms since the Unix epoch.
pub(crate) const BEGAN_UNIX_MS: u64 = 1_790_000_000_000;

/// How far a wall clock stands from the true time, in ms. It outlives the process.
#[derive(Clone, Default)]
pub(crate) struct WallClock(Arc<AtomicI64>);

impl WallClock {
    pub(crate) fn jump(&self, by_ms: i64) {
        self.0.fetch_add(by_ms, Relaxed);
    }

    /// In ms since the Unix epoch.
    pub(crate) fn unix_ms(&self, began: tokio::time::Instant) -> u64 {
        (BEGAN_UNIX_MS + began.elapsed().as_millis() as u64).saturating_add_signed(self.0.load(Relaxed))
    }
}

/// Virtual time and seeded randomness for the router.
pub(crate) struct SimEnv {
    began: tokio::time::Instant,
    clock: WallClock,
    random: Mutex<Stream>,
}

impl Env for SimEnv {
    fn now_ms(&self) -> u64 {
        self.clock.unix_ms(self.began)
    }

    fn random_bits(&self) -> u128 {
        self.random.lock().bits()
    }
}

/// The way from the router to the shards.
pub(crate) struct Mailbox {
    shards: u16,
    items: Mutex<Vec<(u16, Down)>>,
    alive: Arc<AtomicBool>,
    news: Arc<Notify>,
}

impl Downstream for Mailbox {
    fn shards(&self) -> u16 {
        self.shards
    }

    fn post(&self, shard: u16, batch: &mut Vec<Down>) {
        if self.alive.load(Relaxed) {
            self.items.lock().extend(batch.drain(..).map(|down| (shard, down)));
            self.news.notify_one();
        }
    }
}

/// What all nodes of a run share.
pub(crate) struct Ground<'a> {
    pub(crate) seed: u64,
    pub(crate) setup: &'a Setup,
    pub(crate) began: tokio::time::Instant,
    pub(crate) news: &'a Arc<Notify>,
}

/// A process that serves. After [`Node::kill`] only the store stays.
pub(crate) struct Node {
    /// Those of streams, and as many of QUIC behind them.
    pub(crate) shards: Vec<Shard>,
    /// Which of the stations a datagram is for.
    pub(crate) site: Site,
    /// The connections of the shards of QUIC.
    pub(crate) stations: Vec<Station>,
    /// Sessions by QUIC, and whose they are.
    pub(crate) native: BTreeMap<SessionKey, usize>,
    pub(crate) metrics: Vec<Arc<ShardMetrics>>,
    pub(crate) life: u32,
    /// It sends its sessions away.
    pub(crate) draining: bool,
    /// Sessions that were accepted.
    pub(crate) who: BTreeMap<SessionKey, UserId>,
    /// Sessions that were made to join, by topic.
    pub(crate) topics: BTreeMap<ConvId, BTreeSet<SessionKey>>,
    /// Replies to a session since its queue was last seen empty: they stand in it whatever the limit.
    pub(crate) owed: BTreeMap<SessionKey, usize>,
    /// Sends that the router has not answered, by session and rid: cmid and attempt.
    pub(crate) sends: BTreeMap<(SessionKey, u64), (String, u32)>,
    /// Cmids that came to the router since they were last taken.
    pub(crate) tried: Vec<String>,
    mailbox: Arc<Mailbox>,
    store: NodeStore,
    router: Arc<Router<NodeStore, Mailbox, SimEnv, Plug>>,
    ups: Vec<Up>,
}

impl Node {
    /// Starts node `number`. `life` counts the starts of all nodes.
    pub(crate) fn start(
        ground: &Ground<'_>,
        number: usize,
        life: u32,
        store: NodeStore,
        clock: &WallClock,
        bus: Plug,
    ) -> Self {
        let Ground { seed, setup, began, news } = *ground;
        let mailbox =
            Mailbox { shards: 2 * setup.shards, items: Mutex::default(), alive: store.life(), news: Arc::clone(news) };
        let mailbox = Arc::new(mailbox);
        let random = Mutex::new(Stream::new(seed, &format!("router {number} {life}")));
        let env = SimEnv { began, clock: clock.clone(), random };
        let keys = Keys::new(&[7; 32]);
        let config = setup.router.clone();
        let router = Router::with_bus(config, keys, Arc::new(store.clone()), Arc::clone(&mailbox), env, bus);
        let now = tokio::time::Instant::now().into_std();
        let config = Arc::new(setup.shard.clone());
        let metrics: Vec<_> = (0..2 * setup.shards).map(|_| Arc::new(ShardMetrics::default())).collect();
        let shard = |(number, metrics): (usize, &Arc<ShardMetrics>)| {
            Shard::new(Arc::clone(&config), number as u16, Arc::clone(metrics), now, clock.unix_ms(began))
        };
        // The secret outlives the process: so its next life tells clients of this one that they are forgotten.
        let site = Site::new(&setup.shard, setup.shards, [number as u8; 32], |_| {});
        let mut ids = Stream::new(seed, &format!("quic {number} {life}"));
        let stations = (0..setup.shards).map(|at| site.station(at, setup.shards + at, ids.bytes(), now)).collect();
        Self {
            shards: metrics.iter().enumerate().map(shard).collect(),
            site,
            stations,
            native: BTreeMap::new(),
            metrics,
            life,
            draining: false,
            who: BTreeMap::new(),
            topics: BTreeMap::new(),
            owed: BTreeMap::new(),
            sends: BTreeMap::new(),
            tried: Vec::new(),
            mailbox,
            store,
            router,
            ups: Vec::new(),
        }
    }

    /// The process is gone. Nothing that it left behind does anything any more.
    pub(crate) fn kill(self) {
        self.store.die();
    }

    pub(crate) fn shard(&mut self, key: SessionKey) -> &mut Shard {
        &mut self.shards[usize::from(key.shard())]
    }

    /// What the router sent since the last look.
    pub(crate) fn take_mail(&self) -> Vec<(u16, Down)> {
        std::mem::take(&mut *self.mailbox.items.lock())
    }

    /// Lets the shards work.
    pub(crate) fn turn(&mut self, now: Instant) {
        for shard in &mut self.shards {
            while shard.turn(now) {}
        }
    }

    /// The next effect that is not for the router; those that are go there.
    pub(crate) fn poll(&mut self) -> Option<Effect> {
        for number in 0..self.shards.len() {
            while let Some(effect) = self.shards[number].poll_effect() {
                match effect {
                    Effect::Up(up) => {
                        self.note(&up);
                        self.ups.push(up);
                    }
                    other => return Some(other),
                }
            }
        }
        if !self.ups.is_empty() {
            self.router.submit(&mut self.ups);
        }
        None
    }

    /// Takes note of what goes to the router.
    fn note(&mut self, up: &Up) {
        match up {
            Up::Gone { session, .. } => {
                self.who.remove(session);
                self.native.remove(session);
                self.owed.remove(session);
                for joined in self.topics.values_mut() {
                    joined.remove(session);
                }
            }
            Up::Command { session, rid, body, .. } => {
                let (cmid, attempt) = match body {
                    FrameBody::Send(send) => (&send.cmid, send.attempt),
                    FrameBody::Publish(publish) => (&publish.cmid, publish.attempt),
                    _ => return,
                };
                self.sends.insert((*session, *rid), (cmid.clone(), attempt));
                self.tried.push(cmid.clone());
            }
            Up::Connect { .. } => {}
        }
    }

    /// A parcel of another node arrived.
    pub(crate) fn hear(&self, parcel: Parcel) {
        self.router.hear(parcel);
    }

    /// The bus timer.
    pub(crate) fn beat(&self) {
        self.router.beat();
    }

    /// What the router counts.
    pub(crate) fn router_metrics(&self) -> Snapshot {
        self.router.metrics()
    }

    /// Times a connection by QUIC was followed to another address.
    pub(crate) fn followed(&self) -> u64 {
        self.stations.iter().map(|station| station.counted().migrations).sum()
    }

    /// When a shard is to be turned next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let stations = self.stations.iter().filter_map(Station::next_deadline);
        self.shards.iter().filter_map(Shard::next_deadline).chain(stations).min()
    }
}
