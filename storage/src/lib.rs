//! The log and its tables: one trait, one conformance suite, a model in memory, the embedded store, and (feature `cql`)
//! the store in Cassandra or ScyllaDB.
//!
//! Invariants:
//! - a conversation's log has the seqs 1, 2, 3… without gaps, and an entry never changes;
//! - [`Store::append`] is compare-and-set on the next seq: nothing else assigns order;
//! - when a future of a write resolves to `Ok`, what it wrote survives the death of the process and of the machine;
//! - an error other than [`StoreError::Unknown`] means that nothing was written.
//!
//! Absent on purpose: deletion on delivery, read-modify-write outside `append`, any idea of sessions or nodes.
#![forbid(unsafe_code)]

#[cfg(feature = "cql")]
mod any;
#[cfg(feature = "cql")]
pub mod cql;
pub mod embedded;
pub mod memory;
pub(crate) mod rules;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;

use std::future::Future;

use roost_wire::pb::{Body, Kind, Role};
use roost_wire::{ConvId, Seq, UserId};

#[cfg(feature = "cql")]
pub use any::AnyStore;
#[cfg(feature = "cql")]
pub use cql::{CqlOpenError, CqlOptions, CqlStore, MigrateReport, Replication};
pub use embedded::{EmbeddedOptions, EmbeddedStore, OpenError};
pub use memory::MemoryStore;

/// A moment in a store's order of index changes. It never goes back, and says nothing about wall time.
///
/// 0 stands before every change.
pub type Stamp = u64;

/// One item of a conversation's log.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its number.
    pub seq: Seq,
    /// When the router took it, in ms since the Unix epoch. Never used for order.
    pub ts_ms: u64,
    /// Who wrote it.
    pub from: UserId,
    /// The writer's id of it: at most one entry of a conversation has this (`from`, `cmid`).
    pub cmid: String,
    /// What it says.
    pub body: Body,
}

/// What is known of a conversation as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvMeta {
    /// Its id.
    pub conv: ConvId,
    /// Direct, group or channel.
    pub kind: Kind,
    /// Its name; empty for direct ones.
    pub name: String,
    /// Groups: anybody who knows the id may join.
    pub open: bool,
    /// When it was made, in ms since the Unix epoch.
    pub created_ms: u64,
    /// The last seq of its log, 0 if it is empty.
    pub head: Seq,
    /// The stamp of its last append, or of its making.
    pub changed: Stamp,
}

/// A user in a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// As what. Never unspecified.
    pub role: Role,
}

/// One row per (user, conversation): what SYNC reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexRow {
    /// The conversation.
    pub conv: ConvId,
    /// Last seq that was written to this row. In conversations above the index threshold it lags behind the head.
    pub head: Seq,
    /// The user has read up to here.
    pub read: Seq,
    /// A device of the user holds everything up to here.
    pub delivered: Seq,
    /// The user's role; `None` once the user has left.
    pub role: Option<Role>,
    /// The stamp of the row's last change. Marks of delivery do not count as one.
    pub changed: Stamp,
}

/// A change of one index row. Seqs only ever rise: a lower one than the row has is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexUpdate {
    /// Whose row.
    pub user: UserId,
    /// Raise the head to this.
    pub head: Option<Seq>,
    /// Raise the read mark to this.
    pub read: Option<Seq>,
}

/// A change of membership. It takes effect together with the append that carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberChange {
    /// Who.
    pub user: UserId,
    /// The new role; `None` removes the member (and marks the index row as left).
    pub role: Option<Role>,
}

/// What an append writes, all or nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Append {
    /// The conversation; it must exist.
    pub conv: ConvId,
    /// The seq that the first entry is to get: head + 1.
    pub expected: Seq,
    /// At least one entry; their `seq` must be `expected`, `expected + 1`, …
    pub entries: Vec<Entry>,
    /// Index rows to raise; rows that do not exist are made only by `members`.
    pub index: Vec<IndexUpdate>,
    /// Membership changes that the entries announce.
    pub members: Vec<MemberChange>,
    /// New name, if the entries announce one.
    pub name: Option<String>,
    /// New openness, if it changes.
    pub open: Option<bool>,
}

/// How an append ended without an error.
#[derive(Clone, Debug, PartialEq)]
pub enum Appended {
    /// Durable.
    Stored {
        /// The stamp given to the conversation and to every index row that changed.
        stamp: Stamp,
    },
    /// The head was elsewhere: nothing was written.
    Conflict {
        /// The entries from `expected` on (at most [`CONFLICT_ENTRIES_MAX`]); empty if `expected` is above head + 1.
        tail: Vec<Entry>,
        /// The head.
        head: Seq,
    },
}

/// Most entries a conflict returns; read on with [`Store::range`].
pub const CONFLICT_ENTRIES_MAX: usize = 256;
/// Most entries of one append.
pub const APPEND_ENTRIES_MAX: usize = 256;
/// Most bytes of bodies of one append.
pub const APPEND_BYTES_MAX: usize = 1024 * 1024;

/// Longest name of a conversation or a user, in bytes.
pub const NAME_BYTES_MAX: usize = 1024;

/// A mark of a user in a conversation. Seqs only ever rise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Whose.
    pub user: UserId,
    /// Where.
    pub conv: ConvId,
    /// Raise the delivery mark to this (does not change the row's stamp).
    pub delivered: Option<Seq>,
    /// Raise the read mark to this.
    pub read: Option<Seq>,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Who.
    pub user: UserId,
    /// Display name, not unique.
    pub name: String,
    /// When it was made, in ms since the Unix epoch.
    pub created_ms: u64,
    /// When a session of the user last ended, in ms since the Unix epoch; 0 if never.
    pub last_seen_ms: u64,
}

/// Which part of a log to read. Both give rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// The first entries above this seq.
    After(Seq),
    /// The last entries below this seq.
    Before(Seq),
}

/// A page of a user's index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexPage {
    /// In rising order of `changed`.
    pub rows: Vec<IndexRow>,
    /// Ask again with this stamp: after the last row; or, if there are no more rows, the newest stamp of the user, but
    /// never above [`Store::settled`]. While there are more it may be above that: it is a place to read on from, and no
    /// token to keep.
    pub stamp: Stamp,
    /// There are more rows.
    pub more: bool,
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The conversation does not exist.
    #[error("no such conversation")]
    NoConversation,
    /// The request breaks a rule of the trait: a fault of the caller.
    #[error("bad request: {0}")]
    BadRequest(&'static str),
    /// The disk is full; nothing was written.
    #[error("the disk is full")]
    DiskFull,
    /// The store cannot work now; nothing was written.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// It is not known whether the write happened: read before claiming anything.
    #[error("the outcome of the write is unknown: {0}")]
    Unknown(String),
    /// What is stored makes no sense.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

/// Result of a store operation.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Where conversations live. Every back end passes the conformance suite in `testkit`.
///
/// Reads see every write whose future has resolved. All futures may be dropped: a write may then still happen.
pub trait Store: Send + Sync + 'static {
    /// Makes a conversation with its members and their index rows, unless it exists.
    ///
    /// `meta.head` and `meta.changed` are ignored: a new log is empty. Returns the meta data as stored, and whether
    /// this call made it; an existing conversation is left as it is.
    fn create(&self, meta: ConvMeta, members: Vec<Member>) -> impl Future<Output = Result<(ConvMeta, bool)>> + Send;

    /// Appends to a log if its head is `append.expected - 1`.
    ///
    /// # Errors
    /// [`StoreError::NoConversation`], [`StoreError::BadRequest`] if the entries are not numbered from `expected` or
    /// above [`APPEND_ENTRIES_MAX`], and whatever the back end meets.
    fn append(&self, append: Append) -> impl Future<Output = Result<Appended>> + Send;

    /// Reads at most `limit` entries.
    fn range(&self, conv: &ConvId, range: Range, limit: usize) -> impl Future<Output = Result<Vec<Entry>>> + Send;

    /// The last entry of each of the conversations, in their order; `None` for an empty or unknown one.
    fn last_entries(&self, convs: &[ConvId]) -> impl Future<Output = Result<Vec<Option<Entry>>>> + Send;

    /// What is known of each of the conversations, in their order.
    fn metas(&self, convs: &[ConvId]) -> impl Future<Output = Result<Vec<Option<ConvMeta>>>> + Send;

    /// The members of a conversation, ordered by user id. Empty for an unknown one.
    fn members(&self, conv: &ConvId) -> impl Future<Output = Result<Vec<Member>>> + Send;

    /// The index rows of some users in one conversation, in their order. With one writer as they were at one moment, with
    /// many each as of a moment of its own.
    fn rows(&self, conv: &ConvId, users: &[UserId]) -> impl Future<Output = Result<Vec<Option<IndexRow>>>> + Send;

    /// The rows of `user` changed after `since`, rows of conversations that were left included.
    fn index(&self, user: &UserId, since: Stamp, limit: usize) -> impl Future<Output = Result<IndexPage>> + Send;

    /// The newest stamp among the rows of `user`; 0 if there are none.
    fn last_change(&self, user: &UserId) -> impl Future<Output = Result<Stamp>> + Send;

    /// Raises marks. Marks of rows that do not exist are ignored.
    fn mark(&self, marks: Vec<Mark>) -> impl Future<Output = Result<()>> + Send;

    /// Stores users, replacing older records of the same ids, but never lowering `last_seen_ms`.
    fn put_users(&self, users: Vec<User>) -> impl Future<Output = Result<()>> + Send;

    /// The users with these ids, in their order.
    fn users(&self, users: &[UserId]) -> impl Future<Output = Result<Vec<Option<User>>>> + Send;

    /// Users whose display name begins with `prefix`, letter case aside (Unicode lower case), ordered by lower-case
    /// name, then id.
    fn search(&self, prefix: &str, limit: usize) -> impl Future<Output = Result<Vec<User>>> + Send;

    /// Nothing will appear any more with a stamp at or below this; what did since it was asked may lie above it.
    /// [`Stamp::MAX`]: stamps rise in the order in which changes appear.
    fn settled(&self) -> Stamp {
        Stamp::MAX
    }
}
