//! One link to a router, as the edge's side sees it: who it is, and the queue of what it is to be told.

use std::collections::VecDeque;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use roost_wire::ConvId;
use roost_wire::link::SessionKey;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tonic::transport::Channel;

use crate::proto::link::{EdgeBatch, EdgeItem};
use crate::{LinkConfig, NodeName};

/// Room that a queue keeps when it is empty, in items.
const CAPACITY_KEPT: usize = 4096;

/// A router that greeted, for as long as this one link to it lasts.
pub(crate) struct Peer {
    /// Another one for each link, and nobody's to guess: see [`Self::topic`].
    id: u64,
    pub(crate) name: NodeName,
    /// From the router's name and life: those that were given the same name share sessions out all the same.
    seed: u64,
    pub(crate) queue: Arc<Queue>,
    leaving: AtomicBool,
    /// Sessions that it has.
    seats: AtomicUsize,
    /// For what is no session's.
    pub(crate) channel: Channel,
}

impl Peer {
    pub(crate) fn new(name: NodeName, queue: Arc<Queue>, channel: Channel) -> Self {
        let seed = BuildHasherDefault::<DefaultHasher>::default().hash_one(&name);
        let (leaving, seats) = (AtomicBool::new(false), AtomicUsize::new(0));
        Self { id: rand::random(), name, seed, queue, leaving, seats, channel }
    }

    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    /// How much this router is the one for `session`: the highest of all has it (rendezvous hashing).
    pub(crate) fn weight(&self, session: SessionKey) -> u64 {
        BuildHasherDefault::<DefaultHasher>::default().hash_one((self.seed, session.to_bits()))
    }

    /// It said goodbye.
    pub(crate) fn leaves(&self) {
        self.leaving.store(true, Relaxed);
        self.end_if_done();
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Relaxed)
    }

    pub(crate) fn seat(&self) {
        self.seats.fetch_add(1, Relaxed);
    }

    pub(crate) fn unseat(&self) {
        self.seats.fetch_sub(1, Relaxed);
        self.end_if_done();
    }

    /// A router that leaves and has nobody any more need not be kept waiting.
    fn end_if_done(&self) {
        if self.is_leaving() && self.seats.load(Relaxed) == 0 {
            self.queue.finish();
        }
    }

    /// What the edge's shards call a topic of this router. Two routers of one bus both push to the topic what is new in
    /// it: each must reach its own sessions only.
    pub(crate) fn topic(&self, topic: &ConvId) -> ConvId {
        topic_name(self.id, topic)
    }
}

/// See [`Peer::topic`].
pub(crate) fn topic_name(peer: u64, topic: &ConvId) -> ConvId {
    let hash = Sha256::new().chain_update(peer.to_le_bytes()).chain_update(topic.as_str()).finalize();
    ConvId::from_bits(u128::from_le_bytes(hash[..16].try_into().expect("32 bytes have 16")))
}

/// What waits for a router.
pub(crate) struct Queue {
    state: Mutex<State>,
    news: Notify,
    items_max: usize,
    bytes_max: usize,
    batch_items_max: usize,
    batch_bytes_max: usize,
}

#[derive(Default)]
struct State {
    /// Each with its size in bytes.
    items: VecDeque<(EdgeItem, usize)>,
    bytes: usize,
    /// Nothing comes any more: the link ends once the rest is sent.
    finished: bool,
    closed: bool,
}

/// Why something was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotQueued {
    /// Too much waits.
    Full,
    /// The link is gone.
    Closed,
}

impl Queue {
    pub(crate) fn new(config: &LinkConfig) -> Self {
        Self {
            state: Mutex::default(),
            news: Notify::new(),
            items_max: config.up_items_max,
            bytes_max: config.up_bytes_max,
            batch_items_max: config.batch_items_max,
            batch_bytes_max: config.batch_bytes_max,
        }
    }

    /// Queues what may be refused.
    ///
    /// # Errors
    /// See [`NotQueued`].
    pub(crate) fn offer(&self, item: EdgeItem) -> Result<(), NotQueued> {
        self.put(item, self.items_max, self.bytes_max)
    }

    /// Queues what is bounded elsewhere, by the number of sessions: false if the link is gone.
    pub(crate) fn push(&self, item: EdgeItem) -> bool {
        self.put(item, usize::MAX, usize::MAX).is_ok()
    }

    fn put(&self, item: EdgeItem, items_max: usize, bytes_max: usize) -> Result<(), NotQueued> {
        let bytes = prost::Message::encoded_len(&item);
        let mut state = self.state.lock();
        if state.closed || state.finished {
            return Err(NotQueued::Closed);
        }
        if state.items.len() >= items_max || state.bytes.saturating_add(bytes) > bytes_max {
            return Err(NotQueued::Full);
        }
        state.bytes += bytes;
        state.items.push_back((item, bytes));
        let first = state.items.len() == 1;
        drop(state);
        if first {
            self.news.notify_one();
        }
        Ok(())
    }

    /// Nothing comes any more; what is queued is still sent.
    pub(crate) fn finish(&self) {
        self.state.lock().finished = true;
        self.news.notify_one();
    }

    /// The link is gone.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.items = VecDeque::new();
        drop(state);
        self.news.notify_one();
    }

    /// The next batch: one without items after `beat` if there is nothing to say. `None`: the link is to end.
    pub(crate) async fn next(&self, beat: std::time::Duration) -> Option<EdgeBatch> {
        let beat = tokio::time::Instant::now() + beat;
        loop {
            if let Some(items) = self.take()? {
                return Some(EdgeBatch { hello: None, items });
            }
            if tokio::time::timeout_at(beat, self.news.notified()).await.is_err() {
                return Some(EdgeBatch::default());
            }
        }
    }

    /// `Some(None)`: there is nothing now. `None`: there will be nothing.
    #[allow(clippy::option_option, reason = "as a stream's poll has it")]
    fn take(&self) -> Option<Option<Vec<EdgeItem>>> {
        let mut state = self.state.lock();
        if state.closed || (state.finished && state.items.is_empty()) {
            return None;
        }
        let (mut items, mut bytes) = (Vec::new(), 0);
        while items.len() < self.batch_items_max && bytes < self.batch_bytes_max {
            let Some((item, size)) = state.items.pop_front() else { break };
            bytes += size;
            items.push(item);
        }
        state.bytes -= bytes;
        if state.items.is_empty() && state.items.capacity() > CAPACITY_KEPT {
            state.items = VecDeque::new();
        }
        Some((!items.is_empty()).then_some(items))
    }
}

#[cfg(test)]
mod tests {
    use roost_wire::UserId;

    use super::*;

    fn item(slot: u32) -> EdgeItem {
        EdgeItem::gone(SessionKey::new(0, slot, 0), &UserId::from_bits(1))
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_refuses_what_may_be_refused() {
        let queue = Queue::new(&LinkConfig { up_items_max: 2, ..LinkConfig::default() });
        assert_eq!([0, 1, 2].map(|slot| queue.offer(item(slot))), [Ok(()), Ok(()), Err(NotQueued::Full)]);
        assert!(queue.push(item(3)), "the end of a session always fits");
        let beat = std::time::Duration::from_secs(1);
        assert_eq!(queue.next(beat).await.unwrap().items.len(), 3);
        assert_eq!(queue.next(beat).await.unwrap().items.len(), 0, "a beat");
        assert_eq!(queue.offer(item(4)), Ok(()));
        queue.finish();
        assert_eq!(queue.offer(item(5)), Err(NotQueued::Closed));
        assert_eq!(queue.next(beat).await.unwrap().items.len(), 1, "the rest is sent");
        assert!(queue.next(beat).await.is_none());
    }

    #[test]
    fn a_queue_is_full_of_bytes_too() {
        let bytes = prost::Message::encoded_len(&item(1));
        let queue = Queue::new(&LinkConfig { up_bytes_max: 2 * bytes, ..LinkConfig::default() });
        assert_eq!([1, 2, 3].map(|slot| queue.offer(item(slot))), [Ok(()), Ok(()), Err(NotQueued::Full)]);
        assert_eq!(queue.take().flatten().unwrap().len(), 2);
        assert_eq!(queue.offer(item(4)), Ok(()), "there is room again");
    }

    #[tokio::test]
    async fn sessions_are_shared_out_and_few_move_when_a_router_comes() {
        // Nobody named them.
        let peer = |incarnation| {
            let name = NodeName { node: "roost".into(), incarnation };
            let channel = tonic::transport::Endpoint::from_static("http://127.0.0.1:9").connect_lazy();
            Peer::new(name, Arc::new(Queue::new(&LinkConfig::default())), channel)
        };
        let peers: Vec<Peer> = (1..=4).map(peer).collect();
        let of = |slot: u32, peers: &[Peer]| {
            let session = SessionKey::new(0, slot, 0);
            peers.iter().max_by_key(|peer| peer.weight(session)).map(|peer| peer.name.incarnation)
        };
        for incarnation in 1..=4 {
            let share = (0..4000).filter(|slot| of(*slot, &peers) == Some(incarnation)).count();
            assert!((800..1200).contains(&share), "{share} of 4000");
        }
        let moved = |slot: &u32| of(*slot, &peers) != of(*slot, &peers[..3]);
        assert!((0..4000).filter(moved).all(|slot| of(slot, &peers) == Some(4)), "only to the one that came");
    }

    #[test]
    fn topics_of_two_links_are_not_the_same() {
        let [news, sport] = ["news", "sport"].map(|name| ConvId::channel(name).unwrap());
        let names = [topic_name(1, &news), topic_name(2, &news), topic_name(1, &sport)];
        assert!(names[0] != names[1] && names[0] != names[2] && names[0] == topic_name(1, &news));
    }
}
