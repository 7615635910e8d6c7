//! The store in Cassandra or ScyllaDB: many nodes, one log.
//!
//! An append is one conditional batch in one partition: the head moves if it is where the caller thinks, and the entries
//! and a description of their effects stand beside it. What follows outside the partition are upserts that may be repeated
//! (`effects`). `docs/adr/0019-the-log-in-cql.md` has the reasons.
//!
//! Invariants:
//! - an append is sent only by one who knows that the effects of the one before are applied;
//! - static cells are written either by conditional batches or by upserts with timestamps of their own, never by both;
//! - nothing is deleted but old names in the list for searching;
//! - conditional writes are never sent twice; upserts and reads once more at most, and soon;
//! - a write whose answer got lost is looked for by a serial read, and is [`Unknown`](crate::StoreError::Unknown) where that tells nothing;
//! - the clock of this machine is never read.
//!
//! Absent on purpose: counters, views, secondary indexes, logged batches over partitions.

mod clock;
mod coalesce;
mod db;
mod effects;
mod faults;
mod index;
mod known;
mod log;
mod metrics;
mod migrate;
mod notes;
mod open;
mod options;
mod read;
mod schema;
mod secret;
mod users;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use futures_util::stream::{StreamExt as _, TryStreamExt as _};
use roost_wire::{ConvId, UserId};
use tokio::sync::Mutex;

#[cfg(not(feature = "failpoints"))]
use faults::Faults;
#[cfg(feature = "failpoints")]
pub use faults::{Death, Faults, Lost};
pub use metrics::{CqlMetrics, ErrorKind, REQUEST_MICROS_BOUNDS};
pub use migrate::MigrateReport;
pub use options::{CLOCK_ERROR_MAX, CqlOpenError, CqlOptions, Replication};
pub use schema::SCHEMA_VERSION;

use self::coalesce::Coalesce;
use self::log::{Statics, Turn};
use crate::{Append, Appended, ConvMeta, Entry, IndexPage, IndexRow, Mark, Member, Range, Result, Stamp, Store, User};

/// Reads of one call that are under way at once.
const READS_AT_ONCE: usize = 32;
/// Upserts of one call that are under way at once.
const WRITES_AT_ONCE: usize = 32;
/// Locks that conversations share: those of one are appended to one after the other by this node.
const TURNS: usize = 4096;

/// A store in a ring of servers. Clones share the session.
#[derive(Clone)]
pub struct CqlStore {
    shared: Arc<Shared>,
}

struct Shared {
    db: db::Db,
    clock: clock::Clock,
    memory: known::Memory,
    turns: Box<[Mutex<()>]>,
    statics_reads: Coalesce<(ConvId, u64), Option<Statics>>,
    members_reads: Coalesce<ConvId, Vec<(String, Option<i8>)>>,
    notes: notes::Notes,
    faults: Faults,
    options: CqlOptions,
}

impl CqlStore {
    /// What it was opened with.
    #[must_use]
    pub fn options(&self) -> &CqlOptions {
        &self.shared.options
    }

    /// What the store counts.
    #[must_use]
    pub fn metrics(&self) -> &CqlMetrics {
        &self.shared.db.metrics
    }

    /// Failures on demand.
    #[cfg(feature = "failpoints")]
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Lets this node believe that the servers' clock is off by so many ms until it looks again, within 10 s.
    #[cfg(feature = "failpoints")]
    pub fn shift_clock(&self, off_ms: i64) {
        let now_ms = self.shared.clock.now() / 1000;
        self.shared.clock.look(std::time::Instant::now(), now_ms.saturating_add_signed(off_ms));
    }

    /// Writes what waits to be noted, so that other nodes need not find it out: for the end of a server that has time.
    /// Nothing is lost without it.
    pub async fn flush(&self) {
        notes::round(&self.shared).await;
    }

    /// Waits until this node alone appends to `conv`, or makes it good.
    async fn turn(&self, conv: &ConvId) -> Turn<'_> {
        let mut hasher = DefaultHasher::new();
        conv.hash(&mut hasher);
        self.shared.turns[hasher.finish() as usize % TURNS].lock().await
    }

    async fn metas_of(&self, convs: &[ConvId]) -> Result<Vec<Option<ConvMeta>>> {
        futures_util::stream::iter(convs.to_vec())
            .map(|conv| async move { Ok(self.look(&conv).await?.map(|view| view.meta)) })
            .buffered(READS_AT_ONCE)
            .try_collect()
            .await
    }
}

impl Store for CqlStore {
    async fn create(&self, meta: ConvMeta, members: Vec<Member>) -> Result<(ConvMeta, bool)> {
        self.make(meta, members).await
    }

    async fn append(&self, append: Append) -> Result<Appended> {
        self.append_batch(append).await
    }

    async fn range(&self, conv: &ConvId, range: Range, limit: usize) -> Result<Vec<Entry>> {
        self.read_range(conv, range, limit).await
    }

    async fn last_entries(&self, convs: &[ConvId]) -> Result<Vec<Option<Entry>>> {
        self.read_last(convs).await
    }

    async fn metas(&self, convs: &[ConvId]) -> Result<Vec<Option<ConvMeta>>> {
        self.metas_of(convs).await
    }

    async fn members(&self, conv: &ConvId) -> Result<Vec<Member>> {
        self.read_members(conv).await
    }

    async fn rows(&self, conv: &ConvId, users: &[UserId]) -> Result<Vec<Option<IndexRow>>> {
        self.read_rows(conv, users).await
    }

    async fn index(&self, user: &UserId, since: Stamp, limit: usize) -> Result<IndexPage> {
        self.read_index(user, since, limit).await
    }

    async fn last_change(&self, user: &UserId) -> Result<Stamp> {
        self.read_last_change(user).await
    }

    async fn mark(&self, marks: Vec<Mark>) -> Result<()> {
        self.write_marks(marks).await
    }

    async fn put_users(&self, users: Vec<User>) -> Result<()> {
        self.write_users(users).await
    }

    async fn users(&self, users: &[UserId]) -> Result<Vec<Option<User>>> {
        self.read_users(users).await
    }

    async fn search(&self, prefix: &str, limit: usize) -> Result<Vec<User>> {
        self.find_users(prefix, limit).await
    }

    fn settled(&self) -> Stamp {
        self.shared.clock.settled()
    }
}
