//! A node's way to the store: it takes time, it fails, and it ends with the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use roost_storage::{
    Append, Appended, ConvMeta, Entry, IndexPage, IndexRow, Mark, Member, MemoryStore, Range, Result, Stamp, Store,
    StoreError, User,
};
use roost_wire::{ConvId, UserId};

use super::{Done, Fate, SimStore, Trouble, Write};

/// The store as one life of a node sees it. Clones share the life.
#[derive(Clone)]
pub(crate) struct NodeStore {
    node: usize,
    host: Arc<SimStore>,
    durable: MemoryStore,
    alive: Arc<AtomicBool>,
}

impl NodeStore {
    pub(crate) fn new(node: usize, host: Arc<SimStore>) -> Self {
        let durable = host.durable().clone();
        Self { node, host, durable, alive: Arc::new(AtomicBool::new(true)) }
    }

    /// The node was killed: what it left behind waits for ever.
    pub(crate) fn die(&self) {
        self.alive.store(false, Relaxed);
    }

    /// Whether the node's process lives, for whatever else ends with it.
    pub(crate) fn life(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.alive)
    }

    async fn living(&self) {
        if !self.alive.load(Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    async fn read<T>(&self, read: impl Future<Output = Result<T>>) -> Result<T> {
        let now = tokio::time::Instant::now().into_std();
        let (trouble, [before, after]) = {
            let mut state = self.host.state.lock();
            (state.read_troubles.pop_front(), state.read_delays(now))
        };
        pause(before).await;
        self.living().await;
        if self.host.state.lock().down || trouble == Some(Trouble::Refuse) {
            return Err(StoreError::Unavailable("simulated".into()));
        }
        let found = read.await;
        pause(after).await;
        self.living().await;
        match trouble {
            Some(Trouble::Hang) => std::future::pending().await,
            Some(Trouble::LoseAnswer) => Err(StoreError::Unavailable("simulated".into())),
            _ => found,
        }
    }

    async fn write(&self, write: Write) -> Result<Done> {
        self.living().await;
        let trouble = {
            let mut state = self.host.state.lock();
            let trouble = state.write_troubles.pop_front();
            if state.down || trouble == Some(Trouble::Refuse) {
                return Err(StoreError::Unavailable("simulated".into()));
            }
            trouble
        };
        let now = tokio::time::Instant::now().into_std();
        let (done, fate) = self.host.enqueue((self.node, &self.alive), write, now)?;
        let fate = fate.await;
        self.living().await;
        match trouble {
            Some(Trouble::Hang) => std::future::pending().await,
            Some(Trouble::LoseAnswer) => Err(StoreError::Unknown("simulated".into())),
            _ if fate == Ok(Fate::Synced) => Ok(done),
            _ => Err(StoreError::Unknown("the host died".into())),
        }
    }
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

impl Store for NodeStore {
    async fn create(&self, meta: ConvMeta, members: Vec<Member>) -> Result<(ConvMeta, bool)> {
        match self.write(Write::Create(meta, members)).await? {
            Done::Created(created) => Ok(created),
            other => unreachable!("{other:?}"),
        }
    }

    async fn append(&self, append: Append) -> Result<Appended> {
        match self.write(Write::Append(append)).await? {
            Done::Appended(appended) => Ok(appended),
            other => unreachable!("{other:?}"),
        }
    }

    async fn range(&self, conv: &ConvId, range: Range, limit: usize) -> Result<Vec<Entry>> {
        self.read(self.durable.range(conv, range, limit)).await
    }

    async fn last_entries(&self, convs: &[ConvId]) -> Result<Vec<Option<Entry>>> {
        self.read(self.durable.last_entries(convs)).await
    }

    async fn metas(&self, convs: &[ConvId]) -> Result<Vec<Option<ConvMeta>>> {
        self.read(self.durable.metas(convs)).await
    }

    async fn members(&self, conv: &ConvId) -> Result<Vec<Member>> {
        self.read(self.durable.members(conv)).await
    }

    async fn rows(&self, conv: &ConvId, users: &[UserId]) -> Result<Vec<Option<IndexRow>>> {
        self.read(self.durable.rows(conv, users)).await
    }

    async fn index(&self, user: &UserId, since: Stamp, limit: usize) -> Result<IndexPage> {
        self.read(self.durable.index(user, since, limit)).await
    }

    async fn last_change(&self, user: &UserId) -> Result<Stamp> {
        self.read(self.durable.last_change(user)).await
    }

    async fn mark(&self, marks: Vec<Mark>) -> Result<()> {
        self.write(Write::Marks(marks)).await.map(drop)
    }

    async fn put_users(&self, users: Vec<User>) -> Result<()> {
        self.write(Write::Users(users)).await.map(drop)
    }

    async fn users(&self, users: &[UserId]) -> Result<Vec<Option<User>>> {
        self.read(self.durable.users(users)).await
    }

    async fn search(&self, prefix: &str, limit: usize) -> Result<Vec<User>> {
        self.read(self.durable.search(prefix, limit)).await
    }
}
