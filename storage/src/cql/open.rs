//! Connecting: settings, session, keyspace and version of the schema.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::client::{Compression, PoolSize};
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::retry::FallthroughRetryPolicy;

use super::clock::Clock;
use super::coalesce::Coalesce;
use super::db::Db;
use super::known::Memory;
use super::notes::Notes;
use super::options::{CqlOpenError, CqlOptions};
use super::schema::SCHEMA_VERSION;
use super::{CqlStore, Shared, TURNS};

/// How long one connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Pause between two looks at the servers' clock.
const CLOCK_EVERY: Duration = Duration::from_secs(10);
/// Tries to read the version of a schema that is changing, and the pause between two.
const LOOKS_MAX: usize = 6;
const LOOK_EVERY: Duration = Duration::from_millis(200);
const CLOCK: &str = "SELECT toUnixTimestamp(now()) FROM system.local";
/// The part of `schema_migrations` that all versions are in.
pub(super) const PART: i32 = 0;

impl CqlStore {
    /// Connects, and looks whether the keyspace is what this build needs. Must be called on a tokio runtime, where a
    /// small task stays until the last clone is dropped.
    ///
    /// # Errors
    /// [`CqlOpenError`], each with what to do about it.
    pub async fn connect(options: CqlOptions) -> Result<Self, CqlOpenError> {
        let session = session(&options).await?;
        let found = version(&session, &options.keyspace).await?;
        let (keyspace, known) = (options.keyspace.clone(), SCHEMA_VERSION);
        match found {
            None => return Err(CqlOpenError::NoKeyspace { keyspace }),
            Some(found) if found < known => return Err(CqlOpenError::SchemaOlder { keyspace, found, known }),
            Some(found) if found > known => return Err(CqlOpenError::SchemaNewer { keyspace, found, known }),
            Some(_) => {}
        }
        let (asked, server_ms) =
            server_time(&session).await.map_err(|why| failed("reading the servers' clock", &why))?;
        let db =
            Db::new(session, &options).await.map_err(|error| failed("preparing statements", &error.to_string()))?;
        let shared = Arc::new(Shared {
            db,
            clock: Clock::new(asked, server_ms, options.settle()),
            memory: Memory::new(options.convs_cached_max, options.rows_known_max),
            turns: (0..TURNS).map(|_| tokio::sync::Mutex::new(())).collect(),
            statics_reads: Coalesce::default(),
            members_reads: Coalesce::default(),
            notes: Notes::default(),
            faults: super::Faults::default(),
            options,
        });
        tokio::spawn(Notes::write(Arc::downgrade(&shared)));
        tokio::spawn(watch_clock(Arc::downgrade(&shared)));
        Ok(Self { shared })
    }
}

fn failed(what: &'static str, why: &str) -> CqlOpenError {
    CqlOpenError::Failed { what, why: why.to_owned() }
}

/// A session with the servers, without a keyspace.
pub(super) async fn session(options: &CqlOptions) -> Result<Session, CqlOpenError> {
    check(options)?;
    let (consistency, serial) = options.consistency();
    let mut policy = DefaultPolicy::builder().token_aware(true);
    if let Some(datacenter) = &options.datacenter {
        policy = policy.prefer_datacenter(datacenter.clone()).permit_dc_failover(!options.local);
    }
    let profile = ExecutionProfile::builder()
        .consistency(consistency)
        .serial_consistency(Some(serial))
        .request_timeout(Some(options.request_timeout))
        .load_balancing_policy(policy.build())
        // What may be sent again is decided in one place: `Db::run`.
        .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&options.contact_points)
        .default_execution_profile_handle(profile.into_handle())
        .compression(options.compression.then_some(Compression::Lz4))
        .pool_size(PoolSize::PerShard(options.connections_per_shard))
        .connection_timeout(CONNECT_MAX)
        .tls_context(options.tls.clone());
    if let Some((user, password)) = &options.user {
        builder = builder.user(user, password);
    }
    builder.build().await.map_err(|error| {
        let why = error.to_string();
        // The driver wraps what a server said of the password several times.
        match format!("{error:?}").contains("AuthenticationError") {
            true => CqlOpenError::Refused(why),
            false => CqlOpenError::Unreachable { contact_points: options.contact_points.join(", "), why },
        }
    })
}

fn check(options: &CqlOptions) -> Result<(), CqlOpenError> {
    let name = &options.keyspace;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.is_empty() || name.len() > 48 || !name.as_bytes()[0].is_ascii_lowercase() || !name.bytes().all(plain) {
        let text = format!("keyspace {name:?}: 1 to 48 lower-case letters, digits and _, a letter first");
        return Err(CqlOpenError::Setting(text));
    }
    if options.contact_points.is_empty() {
        return Err(CqlOpenError::Setting("no contact points are given".to_owned()));
    }
    if options.request_timeout.is_zero() {
        return Err(CqlOpenError::Setting("the request time-out is zero".to_owned()));
    }
    Ok(())
}

/// The version of the schema in `keyspace`: 0 if it has no tables of ours, `None` if it is not there.
///
/// While another node migrates, a server may list a table that it cannot read yet: so a failure is looked at again.
pub(super) async fn version(session: &Session, keyspace: &str) -> Result<Option<u32>, CqlOpenError> {
    for _ in 1..LOOKS_MAX {
        match look_at_version(session, keyspace).await {
            Err(error) => tracing::debug!(%error, "looking again"),
            found => return found,
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    look_at_version(session, keyspace).await
}

async fn look_at_version(session: &Session, keyspace: &str) -> Result<Option<u32>, CqlOpenError> {
    let what = "reading the version of the schema";
    let count = |rows: scylla::response::query_result::QueryResult| {
        rows.into_rows_result().map(|rows| rows.rows_num()).map_err(|error| failed(what, &error.to_string()))
    };
    let ask = |cql: &'static str, values: Vec<String>| async move {
        let rows = session.query_unpaged(cql, values).await.map_err(|error| failed(what, &error.to_string()))?;
        count(rows)
    };
    let name = keyspace.to_owned();
    if ask("SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?", vec![name.clone()]).await? == 0
    {
        return Ok(None);
    }
    let tables =
        "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = 'schema_migrations'";
    if ask(tables, vec![name]).await? == 0 {
        return Ok(Some(0));
    }
    let cql = format!("SELECT version FROM {keyspace}.schema_migrations WHERE part = {PART}");
    let rows = session.query_unpaged(cql, ()).await.map_err(|error| failed(what, &error.to_string()))?;
    let rows = rows.into_rows_result().map_err(|error| failed(what, &error.to_string()))?;
    let versions = rows.rows::<(i32,)>().map_err(|error| failed(what, &error.to_string()))?;
    Ok(Some(versions.flatten().map(|(version,)| version).max().unwrap_or(0) as u32))
}

/// A server's time in ms since the Unix epoch, and when it was asked.
async fn server_time(session: &Session) -> Result<(Instant, u64), String> {
    let asked = Instant::now();
    let rows = session.query_unpaged(CLOCK, ()).await.map_err(|error| error.to_string())?;
    let rows = rows.into_rows_result().map_err(|error| error.to_string())?;
    let (ms,) = rows.single_row::<(i64,)>().map_err(|error| error.to_string())?;
    Ok((asked, ms as u64))
}

/// Looks at the servers' clock until the store is dropped.
async fn watch_clock(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(CLOCK_EVERY).await;
        let Some(shared) = shared.upgrade() else { return };
        match server_time(&shared.db.session).await {
            Ok((asked, server_ms)) => shared.clock.look(asked, server_ms),
            // The monotonic clock goes on from the last look.
            Err(why) => tracing::debug!(why, "the servers' clock could not be read"),
        }
    }
}
