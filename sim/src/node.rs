//! The node: the real shard and the real router over the model store, without sockets and threads.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use roost_edge_core::{Effect, Shard, ShardConfig, ShardMetrics};
use roost_router::auth::Keys;
use roost_router::{Downstream, Env, Router, RouterConfig};
use roost_storage::MemoryStore;
use roost_storage::testkit::FaultyStore;
use roost_wire::link::{Down, Up};
use tokio::sync::Notify;

use crate::rng::Stream;

/// Wall time at the beginning of every run, in ms since the Unix epoch.
const BEGAN_UNIX_MS: u64 = 1_790_000_000_000;

/// Store that survives the node.
pub(crate) type SimStore = FaultyStore<MemoryStore>;

/// Virtual time and seeded randomness for the router.
pub(crate) struct SimEnv {
    began: tokio::time::Instant,
    random: Mutex<Stream>,
}

impl SimEnv {
    fn unix_ms(began: tokio::time::Instant) -> u64 {
        BEGAN_UNIX_MS + began.elapsed().as_millis() as u64
    }
}

impl Env for SimEnv {
    fn now_ms(&self) -> u64 {
        Self::unix_ms(self.began)
    }

    fn random_bits(&self) -> u128 {
        self.random.lock().bits()
    }
}

/// The way from the router to the shard.
#[derive(Default)]
pub(crate) struct Mailbox {
    items: Mutex<Vec<Down>>,
    pub(crate) news: Notify,
}

impl Downstream for Mailbox {
    fn shards(&self) -> u16 {
        1
    }

    fn post(&self, _shard: u16, batch: &mut Vec<Down>) {
        self.items.lock().append(batch);
        self.news.notify_one();
    }
}

/// A process that serves. Dropping it is killing it: only the store stays.
pub(crate) struct Node {
    pub(crate) shard: Shard,
    pub(crate) mailbox: Arc<Mailbox>,
    router: Arc<Router<SimStore, Mailbox, SimEnv>>,
    ups: Vec<Up>,
}

impl Node {
    /// Starts a node on `store`. `life` counts the starts.
    pub(crate) fn start(seed: u64, life: u32, store: &Arc<SimStore>, began: tokio::time::Instant) -> Self {
        let mailbox = Arc::new(Mailbox::default());
        let random = Mutex::new(Stream::new(seed, &format!("router {life}")));
        let env = SimEnv { began, random };
        let keys = Keys::new(&[7; 32]);
        let config = RouterConfig::default();
        let router = Router::new(config, keys, Arc::clone(store), Arc::clone(&mailbox), env);
        let now = tokio::time::Instant::now().into_std();
        let config = ShardConfig { sends_per_second: 0, ..ShardConfig::default() };
        let metrics = Arc::new(ShardMetrics::default());
        let shard = Shard::new(Arc::new(config), 0, metrics, now, SimEnv::unix_ms(began));
        Self { shard, mailbox, router, ups: Vec::new() }
    }

    /// Hands the shard what the router sent, and lets it work.
    pub(crate) fn turn(&mut self, now: Instant) {
        for down in std::mem::take(&mut *self.mailbox.items.lock()) {
            self.shard.down(down, now);
        }
        while self.shard.turn(now) {}
    }

    /// The next effect that is not for the router; those that are go there.
    pub(crate) fn poll(&mut self) -> Option<Effect> {
        while let Some(effect) = self.shard.poll_effect() {
            match effect {
                Effect::Up(up) => self.ups.push(up),
                other => return Some(other),
            }
        }
        if !self.ups.is_empty() {
            self.router.submit(&mut self.ups);
        }
        None
    }
}
