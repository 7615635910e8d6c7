//! How the store reaches its servers, and why it cannot.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use scylla::statement::{Consistency, SerialConsistency};

/// What the clocks of database nodes may differ by, at most. Run NTP there.
pub const CLOCK_ERROR_MAX: Duration = Duration::from_secs(1);

/// Settings of the store in Cassandra or ScyllaDB.
#[derive(Clone)]
pub struct CqlOptions {
    /// Some nodes of the ring, as `host:port`; the others are found through them.
    pub contact_points: Vec<String>,
    /// The keyspace: letters, digits and `_`.
    pub keyspace: String,
    /// The data centre that is asked first. `None`: all are alike.
    pub datacenter: Option<String>,
    /// User and password.
    pub user: Option<(String, String)>,
    /// TLS to every node.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// LOCAL_QUORUM and LOCAL_SERIAL instead of QUORUM and SERIAL: right only if all routers use one data centre, as
    /// order and durability are then those of that one.
    pub local: bool,
    /// How long one request may take, with its retries. Keep it above the server's own time-outs.
    pub request_timeout: Duration,
    /// Connections to each shard of ScyllaDB, or to each node of Cassandra.
    pub connections_per_shard: NonZeroUsize,
    /// LZ4 between here and the servers.
    pub compression: bool,
    /// How long a change may be on its way: sync tokens are held back by this much. `None`: twice `request_timeout` and
    /// [`CLOCK_ERROR_MAX`]. Less may let a client miss a change.
    pub settle: Option<Duration>,
    /// Conversations whose head is remembered.
    pub convs_cached_max: usize,
    /// Index rows that are known to be there.
    pub rows_known_max: usize,
    /// How long a migration may stand still before another node takes over.
    pub migration_lock: Duration,
}

impl Default for CqlOptions {
    fn default() -> Self {
        Self {
            contact_points: vec!["127.0.0.1:9042".to_owned()],
            keyspace: "roost".to_owned(),
            datacenter: None,
            user: None,
            tls: None,
            local: false,
            request_timeout: Duration::from_secs(3),
            connections_per_shard: NonZeroUsize::MIN,
            compression: false,
            settle: None,
            convs_cached_max: 128 * 1024,
            rows_known_max: 512 * 1024,
            migration_lock: Duration::from_secs(60),
        }
    }
}

impl CqlOptions {
    /// How far sync tokens stay behind the database's clock.
    #[must_use]
    pub fn settle(&self) -> Duration {
        self.settle.unwrap_or(2 * self.request_timeout + CLOCK_ERROR_MAX)
    }

    pub(super) fn consistency(&self) -> (Consistency, SerialConsistency) {
        match self.local {
            false => (Consistency::Quorum, SerialConsistency::Serial),
            true => (Consistency::LocalQuorum, SerialConsistency::LocalSerial),
        }
    }
}

impl fmt::Debug for CqlOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CqlOptions")
            .field("contact_points", &self.contact_points)
            .field("keyspace", &self.keyspace)
            .field("datacenter", &self.datacenter)
            .field("user", &self.user.as_ref().map(|(user, _)| user))
            .field("tls", &self.tls.is_some())
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

/// How often the data is kept, given when the keyspace is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replication {
    /// Copies in each data centre: 3, or 1 where a loss of the node may be a loss of the data.
    pub factor: u8,
    /// Only in this data centre. `None`: in every one that there is now.
    pub datacenter: Option<String>,
}

/// Why the store could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CqlOpenError {
    /// A setting makes no sense.
    #[error("{0}")]
    Setting(String),
    /// No node answered.
    #[error("no node of {contact_points} answers: {why}")]
    Unreachable {
        /// What was tried.
        contact_points: String,
        /// What the driver says.
        why: String,
    },
    /// The servers do not let us in.
    #[error("the servers refuse the user or password: {0}")]
    Refused(String),
    /// The keyspace is not there.
    #[error("there is no keyspace {keyspace}: `roost store migrate` makes it")]
    NoKeyspace {
        /// The keyspace asked for.
        keyspace: String,
    },
    /// The keyspace was made by an older version.
    #[error(
        "the schema of keyspace {keyspace} has version {found}, this binary needs {known}: run `roost store migrate`"
    )]
    SchemaOlder {
        /// The keyspace.
        keyspace: String,
        /// Its version; 0 if it has no tables of ours.
        found: u32,
        /// The version that this build uses.
        known: u32,
    },
    /// The keyspace was made by a newer version.
    #[error("this binary knows version {known} of the schema, keyspace {keyspace} has {found}: use a newer binary")]
    SchemaNewer {
        /// The keyspace.
        keyspace: String,
        /// Its version.
        found: u32,
        /// The version that this build uses.
        known: u32,
    },
    /// Another node migrates, and does not finish.
    #[error("another node ({owner}) holds the lock of migrations: try again in {lock:?}")]
    Locked {
        /// What it called itself.
        owner: String,
        /// How long the lock lasts if that node died.
        lock: Duration,
    },
    /// A statement failed.
    #[error("the servers answer, but {what} failed: {why}")]
    Failed {
        /// What was done.
        what: &'static str,
        /// What the server or the driver says.
        why: String,
    },
}
