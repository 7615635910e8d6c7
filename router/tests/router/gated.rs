//! A store whose answer to one read is held back: what happens between reading and answering can be chosen. An append
//! is held back before it is done, and done then whether anybody still waits or not.

use std::sync::Arc;

use parking_lot::Mutex;
use roost_storage::testkit::Op;
use roost_storage::{
    Append, Appended, ConvMeta, Entry, IndexPage, IndexRow, Mark, Member, MemoryStore, Range, Result, Stamp, Store,
    User,
};
use roost_wire::{ConvId, UserId};
use tokio::sync::oneshot;

/// The read to hold, who is told that it was done, and what lets its answer go.
type Gate = (Op, oneshot::Sender<()>, oneshot::Receiver<()>);

#[derive(Clone, Default)]
pub(crate) struct GatedStore {
    inner: MemoryStore,
    gate: Arc<Mutex<Option<Gate>>>,
    settled: Arc<Mutex<Option<Stamp>>>,
}

/// The other side of a gate.
pub(crate) struct Held {
    pub(crate) read: oneshot::Receiver<()>,
    pub(crate) go: oneshot::Sender<()>,
}

impl GatedStore {
    /// Holds the answer of the next `op`.
    pub(crate) fn hold(&self, op: Op) -> Held {
        let (told, read) = oneshot::channel();
        let (go, may_go) = oneshot::channel();
        *self.gate.lock() = Some((op, told, may_go));
        Held { read, go }
    }

    /// From now on something may still appear with a stamp above this; `None`: with none.
    pub(crate) fn settle_at(&self, stamp: Option<Stamp>) {
        *self.settled.lock() = stamp;
    }

    async fn pass<T>(&self, op: Op, answer: T) -> T {
        let gate = self.gate.lock().take_if(|gate| gate.0 == op);
        if let Some((_, told, may_go)) = gate {
            told.send(()).expect("the test waits");
            may_go.await.expect("the test lets it go");
        }
        answer
    }
}

impl Store for GatedStore {
    async fn create(&self, meta: ConvMeta, members: Vec<Member>) -> Result<(ConvMeta, bool)> {
        self.inner.create(meta, members).await
    }

    async fn append(&self, append: Append) -> Result<Appended> {
        let store = self.clone();
        tokio::spawn(async move {
            store.pass(Op::Append, ()).await;
            store.inner.append(append).await
        })
        .await
        .expect("it does not panic")
    }

    async fn range(&self, conv: &ConvId, range: Range, limit: usize) -> Result<Vec<Entry>> {
        self.pass(Op::Range, self.inner.range(conv, range, limit).await).await
    }

    async fn last_entries(&self, convs: &[ConvId]) -> Result<Vec<Option<Entry>>> {
        self.pass(Op::LastEntries, self.inner.last_entries(convs).await).await
    }

    async fn metas(&self, convs: &[ConvId]) -> Result<Vec<Option<ConvMeta>>> {
        // Held in the middle: several rows are no snapshot.
        let (first, rest) = convs.split_at(convs.len().min(1));
        let mut metas = self.pass(Op::Metas, self.inner.metas(first).await?).await;
        metas.extend(self.inner.metas(rest).await?);
        Ok(metas)
    }

    async fn members(&self, conv: &ConvId) -> Result<Vec<Member>> {
        self.pass(Op::Members, self.inner.members(conv).await).await
    }

    async fn rows(&self, conv: &ConvId, users: &[UserId]) -> Result<Vec<Option<IndexRow>>> {
        self.pass(Op::Rows, self.inner.rows(conv, users).await).await
    }

    async fn index(&self, user: &UserId, since: Stamp, limit: usize) -> Result<IndexPage> {
        self.pass(Op::Index, self.inner.index(user, since, limit).await).await
    }

    async fn last_change(&self, user: &UserId) -> Result<Stamp> {
        self.pass(Op::LastChange, self.inner.last_change(user).await).await
    }

    async fn mark(&self, marks: Vec<Mark>) -> Result<()> {
        self.inner.mark(marks).await
    }

    async fn put_users(&self, users: Vec<User>) -> Result<()> {
        self.inner.put_users(users).await
    }

    async fn users(&self, users: &[UserId]) -> Result<Vec<Option<User>>> {
        self.inner.users(users).await
    }

    async fn search(&self, prefix: &str, limit: usize) -> Result<Vec<User>> {
        self.inner.search(prefix, limit).await
    }

    fn settled(&self) -> Stamp {
        self.settled.lock().unwrap_or(Stamp::MAX)
    }
}
