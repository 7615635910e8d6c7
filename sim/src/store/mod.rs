//! The store of a deployment: one host that all nodes use, with an fsync boundary.
//!
//! A write is decided at once, in the order the writes come, and answered once it is behind the boundary, together
//! with everything before it. Reads see only what is behind it. When the host dies, what was not behind it is gone,
//! but for a prefix that the disk may have taken. The world moves the boundary: between the sync and the answers it
//! can cut, kill and look.
//!
//! Absent on purpose: any rule about what a write does. [`MemoryStore`], the model of the conformance suite, has those.

mod handle;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use roost_storage::{Append, Appended, ConvMeta, IndexRow, Mark, Member, MemoryStore, Result, Store, User};
use roost_wire::{ConvId, UserId};
use tokio::sync::{Notify, oneshot};

use crate::rng::Stream;

pub(crate) use handle::NodeStore;

/// A write as it came.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Create(ConvMeta, Vec<Member>),
    Append(Append),
    Marks(Vec<Mark>),
    Users(Vec<User>),
}

/// What a write answers.
#[derive(Debug)]
enum Done {
    Created((ConvMeta, bool)),
    Appended(Appended),
    Nothing,
}

/// What became of a write that was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Synced,
    /// The host died: nobody can tell.
    Unknown,
}

/// What goes wrong with the next call of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Refuse,
    LoseAnswer,
    Hang,
}

/// A write that is decided and not behind the boundary.
struct Unsynced {
    write: Write,
    /// It changes something.
    counts: bool,
    node: usize,
    alive: Arc<AtomicBool>,
    answer: oneshot::Sender<Fate>,
}

/// A write that is behind the boundary and not yet answered.
pub(crate) struct Synced {
    pub(crate) write: Write,
    pub(crate) node: usize,
    /// The node that wrote it has died since: nobody will tell of it.
    pub(crate) late: bool,
}

/// What one sync brought behind the boundary. Nobody is answered before [`Batch::release`].
pub(crate) struct Batch {
    pub(crate) synced: Vec<Synced>,
    answers: Vec<oneshot::Sender<Fate>>,
    fate: Fate,
}

impl Batch {
    /// Answers.
    pub(crate) fn release(self) {
        for answer in self.answers {
            // Nobody waits if the node has died.
            let _ = answer.send(self.fate);
        }
    }
}

/// The store's host.
pub(crate) struct SimStore {
    /// Everything decided.
    written: Mutex<MemoryStore>,
    /// What survives.
    durable: MemoryStore,
    state: Mutex<State>,
    news: Arc<Notify>,
}

struct State {
    unsynced: VecDeque<Unsynced>,
    sync_at: Option<Instant>,
    down: bool,
    /// Until then a call takes up to this long.
    slow: Option<(Instant, Duration)>,
    read_troubles: VecDeque<Trouble>,
    write_troubles: VecDeque<Trouble>,
    disk: Stream,
}

impl SimStore {
    pub(crate) fn new(seed: u64, news: Arc<Notify>) -> Self {
        let durable = MemoryStore::default();
        let state = State {
            unsynced: VecDeque::new(),
            sync_at: None,
            down: false,
            slow: None,
            read_troubles: VecDeque::new(),
            write_troubles: VecDeque::new(),
            disk: Stream::new(seed, "disk"),
        };
        Self { written: Mutex::new(durable.fork()), durable, state: Mutex::new(state), news }
    }

    /// What is behind the boundary, for looking at.
    pub(crate) fn durable(&self) -> &MemoryStore {
        &self.durable
    }

    /// An index row as it is behind the boundary.
    pub(crate) fn row(&self, conv: &ConvId, user: &UserId) -> Option<IndexRow> {
        let rows = at_once(self.durable.rows(conv, std::slice::from_ref(user)));
        rows.ok()?.pop().flatten()
    }

    /// When [`Self::sync`] is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.state.lock().sync_at
    }

    /// Moves the boundary over everything decided so far, if it is time.
    pub(crate) fn sync(&self, now: Instant) -> Option<Batch> {
        let mut state = self.state.lock();
        state.sync_at.take_if(|at| *at <= now)?;
        let unsynced = std::mem::take(&mut state.unsynced);
        Some(self.keep(unsynced, Fate::Synced))
    }

    /// The host dies; `kept_percent` of what was not behind the boundary survives, oldest first. Returns what did, and
    /// how many writes did not.
    pub(crate) fn crash(&self, kept_percent: usize) -> (Batch, u64) {
        let mut state = self.state.lock();
        state.down = true;
        state.sync_at = None;
        state.slow = None;
        let mut kept = std::mem::take(&mut state.unsynced);
        let lost = kept.split_off(kept.len() * kept_percent / 100);
        let mut batch = self.keep(kept, Fate::Unknown);
        *self.written.lock() = self.durable.fork();
        let count = lost.iter().filter(|lost| lost.counts).count() as u64;
        batch.answers.extend(lost.into_iter().map(|lost| lost.answer));
        (batch, count)
    }

    /// The host is back.
    pub(crate) fn recover(&self) {
        self.state.lock().down = false;
    }

    /// Until then calls take up to `extra` longer.
    pub(crate) fn slow_down(&self, until: Instant, extra: Duration) {
        self.state.lock().slow = Some((until, extra));
    }

    /// No more trouble from now on.
    pub(crate) fn calm_down(&self) {
        let mut state = self.state.lock();
        state.slow = None;
        state.down = false;
        state.read_troubles.clear();
        state.write_troubles.clear();
    }

    /// Something goes wrong with the next read.
    pub(crate) fn trouble_read(&self, trouble: Trouble) {
        self.state.lock().read_troubles.push_back(trouble);
    }

    /// Something goes wrong with the next write.
    pub(crate) fn trouble_write(&self, trouble: Trouble) {
        self.state.lock().write_troubles.push_back(trouble);
    }

    /// Writes that are decided and not behind the boundary.
    pub(crate) fn unsynced(&self) -> usize {
        self.state.lock().unsynced.len()
    }

    fn keep(&self, unsynced: VecDeque<Unsynced>, fate: Fate) -> Batch {
        let mut batch = Batch { synced: Vec::new(), answers: Vec::new(), fate };
        for Unsynced { write, counts, node, alive, answer } in unsynced {
            let _ = decide(&self.durable, write.clone());
            if counts {
                batch.synced.push(Synced { write, node, late: !alive.load(Relaxed) });
            }
            batch.answers.push(answer);
        }
        batch
    }

    /// Decides a write; it is answered later.
    fn enqueue(
        &self,
        (node, alive): (usize, &Arc<AtomicBool>),
        write: Write,
        now: Instant,
    ) -> Result<(Done, oneshot::Receiver<Fate>)> {
        let done = decide(&self.written.lock(), write.clone())?;
        let counts = match &done {
            Done::Created((_, made)) => *made,
            Done::Appended(appended) => matches!(appended, Appended::Stored { .. }),
            Done::Nothing => true,
        };
        let (answer, fate) = oneshot::channel();
        let mut state = self.state.lock();
        state.unsynced.push_back(Unsynced { write, counts, node, alive: Arc::clone(alive), answer });
        if state.sync_at.is_none() {
            let delay = state.disk.ms(1, 4);
            let extra = state.extra(now);
            state.sync_at = Some(now + delay + extra);
            self.news.notify_one();
        }
        Ok((done, fate))
    }
}

impl State {
    /// How much longer a call takes now.
    fn extra(&mut self, now: Instant) -> Duration {
        match self.slow {
            Some((until, extra)) if now < until => self.disk.ms(0, extra.as_millis() as u64),
            _ => Duration::ZERO,
        }
    }

    /// How long a read takes before it looks and after it.
    fn read_delays(&mut self, now: Instant) -> [Duration; 2] {
        let usual = if self.disk.chance(30) { self.disk.ms(1, 3) } else { Duration::ZERO };
        [usual, self.extra(now)]
    }
}

/// Does `write` on `store`, which never waits.
fn decide(store: &MemoryStore, write: Write) -> Result<Done> {
    let done = async {
        Ok(match write {
            Write::Create(meta, members) => Done::Created(store.create(meta, members).await?),
            Write::Append(append) => Done::Appended(store.append(append).await?),
            Write::Marks(marks) => {
                store.mark(marks).await?;
                Done::Nothing
            }
            Write::Users(users) => {
                store.put_users(users).await?;
                Done::Nothing
            }
        })
    };
    at_once(done)
}

/// What the model of a store answers, which never waits.
fn at_once<T>(answer: impl Future<Output = T>) -> T {
    match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => unreachable!("the model never waits"),
    }
}

#[cfg(test)]
mod tests {
    use roost_storage::{Entry, Range, StoreError};
    use roost_wire::pb::{Body, Kind, Role};

    use super::*;

    fn node() -> (usize, &'static Arc<AtomicBool>) {
        (0, Box::leak(Box::default()))
    }

    fn ada() -> UserId {
        UserId::new("u_ada").unwrap()
    }

    fn conv() -> ConvId {
        ConvId::new("c_birds").unwrap()
    }

    fn create() -> Write {
        let meta = ConvMeta {
            conv: conv(),
            kind: Kind::Group,
            name: String::new(),
            open: false,
            created_ms: 0,
            head: 0,
            changed: 0,
        };
        Write::Create(meta, vec![Member { user: ada(), role: Role::Owner }])
    }

    fn append(seq: u64) -> Write {
        let body = Body { text: "hi".into(), event: None };
        let entry = Entry { seq, ts_ms: 0, from: ada(), cmid: format!("m{seq}"), body };
        Write::Append(Append {
            conv: conv(),
            expected: seq,
            entries: vec![entry],
            index: Vec::new(),
            members: Vec::new(),
            name: None,
            open: None,
        })
    }

    async fn head(store: &SimStore) -> usize {
        store.durable().range(&conv(), Range::After(0), 100).await.unwrap().len()
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_comes_when_the_write_is_behind_the_boundary_and_not_before() {
        let (store, now) = (SimStore::new(1, Arc::default()), Instant::now());
        store.enqueue(node(), create(), now).unwrap();
        let (done, mut fate) = store.enqueue(node(), append(1), now).unwrap();
        assert!(matches!(done, Done::Appended(Appended::Stored { .. })));
        assert!(fate.try_recv().is_err());
        assert_eq!(head(&store).await, 0, "readers do not see it yet");
        let batch = store.sync(store.next().unwrap()).unwrap();
        assert_eq!((batch.synced.len(), head(&store).await), (2, 1));
        assert!(fate.try_recv().is_err(), "the world looks first");
        batch.release();
        assert_eq!(fate.try_recv(), Ok(Fate::Synced));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_behind_the_boundary_dies_with_the_host_but_for_a_prefix() {
        let (store, now) = (SimStore::new(1, Arc::default()), Instant::now());
        store.enqueue(node(), create(), now).unwrap();
        store.sync(store.next().unwrap()).unwrap().release();
        let fates: Vec<_> = (1..=4).map(|seq| store.enqueue(node(), append(seq), now).unwrap().1).collect();
        let (batch, lost) = store.crash(50);
        assert_eq!((batch.synced.len(), lost, head(&store).await), (2, 2, 2));
        batch.release();
        for mut fate in fates {
            assert_eq!(fate.try_recv(), Ok(Fate::Unknown));
        }
        store.recover();
        let (done, _) = store.enqueue(node(), append(3), now).unwrap();
        assert!(matches!(done, Done::Appended(Appended::Stored { .. })), "the log goes on where it survived: {done:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_node_gets_no_answer_and_its_late_writes_do_nothing() {
        let store = Arc::new(SimStore::new(1, Arc::default()));
        let node = NodeStore::new(0, Arc::clone(&store));
        store.trouble_write(Trouble::Refuse);
        let Write::Create(meta, members) = create() else { unreachable!() };
        let refused = node.create(meta.clone(), members.clone()).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))));
        node.die();
        let never = tokio::time::timeout(Duration::from_secs(60), node.create(meta, members)).await;
        assert!(never.is_err() && store.unsynced() == 0);
    }
}
