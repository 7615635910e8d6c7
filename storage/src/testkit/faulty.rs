//! A store whose n-th call of a kind fails: every error path of a caller can be reached.

use std::sync::Arc;

use parking_lot::Mutex;
use roost_wire::{ConvId, UserId};

use crate::{
    Append, Appended, ConvMeta, Entry, IndexPage, IndexRow, Mark, Member, Range, Result, Stamp, Store, StoreError, User,
};

/// The operations of [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the method of that name")]
pub enum Op {
    Create,
    Append,
    Range,
    LastEntries,
    Metas,
    Members,
    Rows,
    Index,
    LastChange,
    Mark,
    PutUsers,
    Users,
    Search,
}

/// What happens to the call that was chosen.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The inner store is not asked; the caller gets this error.
    Refuse(StoreError),
    /// The inner store does it, but the caller gets this error. For a write only [`StoreError::Unknown`] is honest.
    LoseAnswer(StoreError),
    /// The inner store does it, but no answer ever comes: the caller's time-out is tested.
    Hang,
}

/// A failure to come.
#[derive(Clone, Debug, PartialEq)]
struct Fault {
    op: Op,
    /// How many calls of `op` go well before it.
    calls_before: u64,
    effect: Effect,
}

#[derive(Default)]
struct Plan {
    faults: Vec<Fault>,
    calls: std::collections::HashMap<Op, u64>,
}

/// Passes every call to the inner store, but for those that a test chose to fail.
///
/// Clones share the inner store's clone and the plan.
#[derive(Clone, Default)]
pub struct FaultyStore<S> {
    inner: S,
    plan: Arc<Mutex<Plan>>,
}

impl<S: Store> FaultyStore<S> {
    /// A store that does not fail yet.
    pub fn new(inner: S) -> Self {
        Self { inner, plan: Arc::default() }
    }

    /// The store behind, which never fails.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Lets the `nth` call of `op` from now fail once; 1 is the next one. Several faults count independently.
    ///
    /// # Panics
    /// If `nth` is 0.
    pub fn inject(&self, op: Op, nth: u64, effect: Effect) {
        assert!(nth > 0, "the next call is number 1");
        self.plan.lock().faults.push(Fault { op, calls_before: nth - 1, effect });
    }

    /// How often `op` was called, failed calls included.
    pub fn calls(&self, op: Op) -> u64 {
        self.plan.lock().calls.get(&op).copied().unwrap_or(0)
    }

    /// True if every injected fault has happened.
    pub fn spent(&self) -> bool {
        self.plan.lock().faults.is_empty()
    }

    /// Counts a call of `op`; what is to happen to it, if anything.
    fn due(&self, op: Op) -> Option<Effect> {
        let mut plan = self.plan.lock();
        *plan.calls.entry(op).or_default() += 1;
        let due = plan.faults.iter().position(|fault| fault.op == op && fault.calls_before == 0);
        let mut effect = None;
        if let Some(place) = due {
            effect = Some(plan.faults.remove(place).effect);
        }
        plan.faults.iter_mut().filter(|fault| fault.op == op).for_each(|fault| {
            fault.calls_before = fault.calls_before.saturating_sub(1);
        });
        effect
    }

    async fn call<T>(&self, op: Op, inner: impl Future<Output = Result<T>>) -> Result<T> {
        match self.due(op) {
            None => inner.await,
            Some(Effect::Refuse(error)) => Err(error),
            Some(Effect::LoseAnswer(error)) => {
                inner.await?;
                Err(error)
            }
            Some(Effect::Hang) => {
                inner.await?;
                std::future::pending().await
            }
        }
    }
}

impl<S: Store> Store for FaultyStore<S> {
    async fn create(&self, meta: ConvMeta, members: Vec<Member>) -> Result<(ConvMeta, bool)> {
        self.call(Op::Create, self.inner.create(meta, members)).await
    }

    async fn append(&self, append: Append) -> Result<Appended> {
        self.call(Op::Append, self.inner.append(append)).await
    }

    async fn range(&self, conv: &ConvId, range: Range, limit: usize) -> Result<Vec<Entry>> {
        self.call(Op::Range, self.inner.range(conv, range, limit)).await
    }

    async fn last_entries(&self, convs: &[ConvId]) -> Result<Vec<Option<Entry>>> {
        self.call(Op::LastEntries, self.inner.last_entries(convs)).await
    }

    async fn metas(&self, convs: &[ConvId]) -> Result<Vec<Option<ConvMeta>>> {
        self.call(Op::Metas, self.inner.metas(convs)).await
    }

    async fn members(&self, conv: &ConvId) -> Result<Vec<Member>> {
        self.call(Op::Members, self.inner.members(conv)).await
    }

    async fn rows(&self, conv: &ConvId, users: &[UserId]) -> Result<Vec<Option<IndexRow>>> {
        self.call(Op::Rows, self.inner.rows(conv, users)).await
    }

    async fn index(&self, user: &UserId, since: Stamp, limit: usize) -> Result<IndexPage> {
        self.call(Op::Index, self.inner.index(user, since, limit)).await
    }

    async fn last_change(&self, user: &UserId) -> Result<Stamp> {
        self.call(Op::LastChange, self.inner.last_change(user)).await
    }

    async fn mark(&self, marks: Vec<Mark>) -> Result<()> {
        self.call(Op::Mark, self.inner.mark(marks)).await
    }

    async fn put_users(&self, users: Vec<User>) -> Result<()> {
        self.call(Op::PutUsers, self.inner.put_users(users)).await
    }

    async fn users(&self, users: &[UserId]) -> Result<Vec<Option<User>>> {
        self.call(Op::Users, self.inner.users(users)).await
    }

    async fn search(&self, prefix: &str, limit: usize) -> Result<Vec<User>> {
        self.call(Op::Search, self.inner.search(prefix, limit)).await
    }

    fn settled(&self) -> Stamp {
        self.inner.settled()
    }
}
