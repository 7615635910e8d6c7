//! The store that a server has, whichever it is: one `match` per call.

use std::time::Duration;

use roost_wire::{ConvId, UserId};

use crate::embedded::SECRET_BYTES;
use crate::{
    Append, Appended, ConvMeta, CqlStore, EmbeddedStore, Entry, IndexPage, IndexRow, Mark, Member, MemoryStore, Range,
    Result, Stamp, Store, StoreError, User,
};

/// Any of the back ends. Clones share it.
#[derive(Clone)]
pub enum AnyStore {
    /// Forgets everything: for tests.
    Memory(MemoryStore),
    /// A directory of this machine.
    Embedded(EmbeddedStore),
    /// Cassandra or ScyllaDB.
    Cql(CqlStore),
}

macro_rules! forward {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Self::Memory($store) => $call.await,
            Self::Embedded($store) => $call.await,
            Self::Cql($store) => $call.await,
        }
    };
}

impl AnyStore {
    /// The secret `name` (letters, digits, `-`), drawn when it is first asked for. The embedded store blocks for a moment;
    /// the one in memory has none.
    ///
    /// # Errors
    /// What the back end says.
    pub async fn secret(&self, name: &str) -> Result<[u8; SECRET_BYTES]> {
        match self {
            Self::Memory(_) => Err(StoreError::Unavailable("a store in memory keeps no secrets".to_owned())),
            Self::Embedded(store) => store.secret(name).map_err(|error| StoreError::Unavailable(error.to_string())),
            Self::Cql(store) => store.secret(name).await,
        }
    }

    /// Whether the store works now, for a readiness probe; how long it took to find out.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn health(&self) -> Result<Duration> {
        match self {
            Self::Memory(_) => Ok(Duration::ZERO),
            Self::Embedded(store) => store.stopped().map_or(Ok(Duration::ZERO), Err),
            Self::Cql(store) => store.health().await,
        }
    }
}

impl From<EmbeddedStore> for AnyStore {
    fn from(store: EmbeddedStore) -> Self {
        Self::Embedded(store)
    }
}

impl From<CqlStore> for AnyStore {
    fn from(store: CqlStore) -> Self {
        Self::Cql(store)
    }
}

impl Store for AnyStore {
    async fn create(&self, meta: ConvMeta, members: Vec<Member>) -> Result<(ConvMeta, bool)> {
        forward!(self, store => store.create(meta, members))
    }

    async fn append(&self, append: Append) -> Result<Appended> {
        forward!(self, store => store.append(append))
    }

    async fn range(&self, conv: &ConvId, range: Range, limit: usize) -> Result<Vec<Entry>> {
        forward!(self, store => store.range(conv, range, limit))
    }

    async fn last_entries(&self, convs: &[ConvId]) -> Result<Vec<Option<Entry>>> {
        forward!(self, store => store.last_entries(convs))
    }

    async fn metas(&self, convs: &[ConvId]) -> Result<Vec<Option<ConvMeta>>> {
        forward!(self, store => store.metas(convs))
    }

    async fn members(&self, conv: &ConvId) -> Result<Vec<Member>> {
        forward!(self, store => store.members(conv))
    }

    async fn rows(&self, conv: &ConvId, users: &[UserId]) -> Result<Vec<Option<IndexRow>>> {
        forward!(self, store => store.rows(conv, users))
    }

    async fn index(&self, user: &UserId, since: Stamp, limit: usize) -> Result<IndexPage> {
        forward!(self, store => store.index(user, since, limit))
    }

    async fn last_change(&self, user: &UserId) -> Result<Stamp> {
        forward!(self, store => store.last_change(user))
    }

    async fn mark(&self, marks: Vec<Mark>) -> Result<()> {
        forward!(self, store => store.mark(marks))
    }

    async fn put_users(&self, users: Vec<User>) -> Result<()> {
        forward!(self, store => store.put_users(users))
    }

    async fn users(&self, users: &[UserId]) -> Result<Vec<Option<User>>> {
        forward!(self, store => store.users(users))
    }

    async fn search(&self, prefix: &str, limit: usize) -> Result<Vec<User>> {
        forward!(self, store => store.search(prefix, limit))
    }

    fn settled(&self) -> Stamp {
        match self {
            Self::Memory(store) => store.settled(),
            Self::Embedded(store) => store.settled(),
            Self::Cql(store) => store.settled(),
        }
    }
}
