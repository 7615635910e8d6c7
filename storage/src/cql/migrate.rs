//! Bringing a keyspace to the version of this build: once, however many nodes start together.

use std::fmt;
use std::time::{Duration, Instant};

use scylla::client::execution_profile::{ExecutionProfile, ExecutionProfileHandle};
use scylla::client::session::Session;
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::serialize::row::SerializeRow;
use scylla::statement::unprepared::Statement;

use super::CqlStore;
use super::open::{PART, session, version};
use super::options::{CqlOpenError, CqlOptions, Replication};
use super::schema::{BOOKS, SCHEMA_VERSION, VERSIONS};

/// How long a change of the schema may take.
const STATEMENT_MAX: Duration = Duration::from_secs(30);
/// Pause between two tries to get the lock.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const LOCK: &str = "migrate";

/// What a migration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigrateReport {
    /// The version before; 0 if there were no tables.
    pub from: u32,
    /// The version now.
    pub to: u32,
    /// The keyspace was made.
    pub created_keyspace: bool,
}

impl fmt::Display for MigrateReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.created_keyspace {
            f.write_str("made the keyspace, ")?;
        }
        match self.from == self.to {
            true => write!(f, "the schema has version {} already", self.to),
            false => write!(f, "brought the schema from version {} to {}", self.from, self.to),
        }
    }
}

/// All changes go through one server: two that make the same table at once may give it two identities.
struct Migration<'a> {
    session: &'a Session,
    through: ExecutionProfileHandle,
    options: &'a CqlOptions,
    owner: String,
}

impl CqlStore {
    /// Makes the keyspace if it is not there, and applies what its schema lacks. Several may do this at once, and one that
    /// died halfway is followed by the next. An existing keyspace keeps its replication.
    ///
    /// # Errors
    /// [`CqlOpenError`]; [`CqlOpenError::SchemaNewer`] if the keyspace is ahead of this build.
    pub async fn migrate(options: &CqlOptions, replication: &Replication) -> Result<MigrateReport, CqlOpenError> {
        let session = session(options).await?;
        let migration = Migration {
            session: &session,
            through: one_server(&session, options),
            options,
            owner: format!("{:032x}", rand::random::<u128>()),
        };
        let mut from = version(&session, &options.keyspace).await?;
        let created_keyspace = from.is_none();
        if created_keyspace {
            migration.make_keyspace(replication).await?;
            from = version(&session, &options.keyspace).await?;
        }
        let from = from.unwrap_or(0);
        migration.check(from)?;
        if from == SCHEMA_VERSION {
            return Ok(MigrateReport { from, to: from, created_keyspace });
        }
        for statement in BOOKS {
            migration.change(statement).await?;
        }
        let from = migration.lock().await?;
        let result = migration.apply(from).await;
        migration.unlock().await;
        result.map(|()| MigrateReport { from, to: SCHEMA_VERSION, created_keyspace })
    }
}

impl Migration<'_> {
    async fn run(
        &self,
        what: &'static str,
        cql: &str,
        values: impl SerializeRow,
    ) -> Result<scylla::response::query_result::QueryResult, CqlOpenError> {
        let mut statement = Statement::new(cql.replace('@', &format!("{}.", self.options.keyspace)));
        statement.set_request_timeout(Some(STATEMENT_MAX));
        statement.set_execution_profile_handle(Some(self.through.clone()));
        let result = self.session.query_unpaged(statement, values).await;
        result.map_err(|error| CqlOpenError::Failed { what, why: error.to_string() })
    }

    async fn change(&self, cql: &str) -> Result<(), CqlOpenError> {
        self.run("a change of the schema", cql, ()).await?;
        let agreed = self.session.await_schema_agreement().await;
        agreed
            .map(drop)
            .map_err(|error| CqlOpenError::Failed { what: "agreeing on the schema", why: error.to_string() })
    }

    /// Applied and what it met, of a conditional statement.
    async fn conditional(&self, cql: &str, values: impl SerializeRow) -> Result<bool, CqlOpenError> {
        let what = "the lock of migrations";
        let odd = |why: String| CqlOpenError::Failed { what, why };
        let rows = self.run(what, cql, values).await?.into_rows_result().map_err(|error| odd(error.to_string()))?;
        let row = rows.first_row::<scylla::value::Row>().map_err(|error| odd(error.to_string()))?;
        let applied = row.columns.first().and_then(|cell| cell.as_ref()?.as_boolean());
        applied.ok_or_else(|| odd("an odd answer to a condition".to_owned()))
    }

    fn check(&self, found: u32) -> Result<(), CqlOpenError> {
        let (keyspace, known) = (self.options.keyspace.clone(), SCHEMA_VERSION);
        if found > known { Err(CqlOpenError::SchemaNewer { keyspace, found, known }) } else { Ok(()) }
    }

    async fn make_keyspace(&self, replication: &Replication) -> Result<(), CqlOpenError> {
        let Replication { factor, datacenter } = replication;
        let place = datacenter.as_deref().unwrap_or("replication_factor").replace('\'', "''");
        let plain = format!(
            "CREATE KEYSPACE IF NOT EXISTS {} WITH replication = {{'class': 'NetworkTopologyStrategy', '{place}': {factor}}}",
            self.options.keyspace
        );
        // Only ScyllaDB has tablets, and not every version of it conditional writes with them. Old ones do not know the
        // word, and have none.
        let scylla = self.session.query_unpaged("SELECT key FROM system.scylla_local LIMIT 1", ()).await.is_ok();
        if scylla && self.change(&format!("{plain} AND tablets = {{'enabled': false}}")).await.is_ok() {
            return Ok(());
        }
        self.change(&plain).await
    }

    /// Waits for the lock; the version found then.
    async fn lock(&self) -> Result<u32, CqlOpenError> {
        let ttl = self.options.migration_lock;
        let began = Instant::now();
        let take = "INSERT INTO @schema_lock (name, owner) VALUES (?, ?) IF NOT EXISTS USING TTL ?";
        let found = async || Ok(version(self.session, &self.options.keyspace).await?.unwrap_or(0));
        loop {
            // A conditional write without an answer may have got the lock: it then ends by itself.
            if matches!(self.conditional(take, (LOCK, &self.owner, seconds(ttl))).await, Ok(true)) {
                return found().await;
            }
            let version = found().await?;
            if version >= SCHEMA_VERSION {
                return Ok(version);
            }
            if began.elapsed() > 2 * ttl + STATEMENT_MAX {
                return Err(CqlOpenError::Locked { owner: self.holder().await, lock: ttl });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn holder(&self) -> String {
        let rows = self.run("reading the lock", "SELECT owner FROM @schema_lock WHERE name = ?", (LOCK,)).await;
        let rows = rows.ok().and_then(|rows| rows.into_rows_result().ok());
        let owner = rows.and_then(|rows| rows.first_row::<(String,)>().ok().map(|(owner,)| owner));
        owner.unwrap_or_else(|| "unknown".to_owned())
    }

    async fn unlock(&self) {
        let give = "DELETE FROM @schema_lock WHERE name = ? IF owner = ?";
        if let Err(error) = self.conditional(give, (LOCK, &self.owner)).await {
            tracing::debug!(%error, "the lock of migrations ends by itself");
        }
    }

    async fn apply(&self, from: u32) -> Result<(), CqlOpenError> {
        self.check(from)?;
        for (statements, version) in VERSIONS.iter().zip(1..).skip(from as usize) {
            let version: i32 = version;
            for statement in *statements {
                self.keep_lock().await?;
                self.change(statement).await?;
            }
            let book = "INSERT INTO @schema_migrations (part, version, applied) VALUES (?, ?, toTimestamp(now()))";
            self.run("noting the version", book, (PART, version)).await?;
            tracing::info!(version, keyspace = self.options.keyspace, "migrated the schema");
        }
        Ok(())
    }

    /// Holds the lock for longer. One that was lost, because a statement took too long, is taken by another: which does
    /// the same as this.
    async fn keep_lock(&self) -> Result<(), CqlOpenError> {
        let keep = "UPDATE @schema_lock USING TTL ? SET owner = ? WHERE name = ? IF owner = ?";
        let ttl = seconds(self.options.migration_lock);
        match self.conditional(keep, (ttl, &self.owner, LOCK, &self.owner)).await? {
            true => Ok(()),
            false => Err(CqlOpenError::Locked { owner: self.holder().await, lock: self.options.migration_lock }),
        }
    }
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX).max(1)
}

/// The server with the lowest id among those that are connected: the same for all who migrate at once.
fn one_server(session: &Session, options: &CqlOptions) -> ExecutionProfileHandle {
    let (consistency, serial) = options.consistency();
    let mut profile = ExecutionProfile::builder().consistency(consistency).serial_consistency(Some(serial));
    let state = session.get_cluster_state();
    if let Some(node) = state.get_nodes_info().iter().filter(|node| node.is_connected()).min_by_key(|node| node.host_id)
    {
        profile = profile
            .load_balancing_policy(SingleTargetLoadBalancingPolicy::new(NodeIdentifier::HostId(node.host_id), None));
    }
    profile.build().into_handle()
}
