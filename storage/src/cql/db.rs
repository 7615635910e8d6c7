//! The session with the servers: prepared statements, one retry where it is safe, errors told apart.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use futures_util::stream::TryStreamExt as _;
use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::{DbError, ExecutionError, PrepareError, RequestAttemptError};
use scylla::response::query_result::{QueryResult, QueryRowsResult};
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency};
use scylla::value::CqlValue;

use super::metrics::{CqlMetrics, ErrorKind, micros};
use super::options::CqlOptions;
use crate::{Result, StoreError};

/// Rows of one page of a long read.
const PAGE_ROWS: i32 = 2000;

/// Upserts of one request: more than ten partitions in a batch are a warning in Cassandra's log.
pub(super) const UPSERTS_TOGETHER: usize = 10;

/// An idempotent statement with its values.
pub(super) type Upsert<'a> = (&'a PreparedStatement, Vec<CqlValue>);

/// Tries of one request.
struct Tries {
    began: Instant,
    /// The servers may have got the first.
    sent: bool,
}

/// A request that failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    /// The servers may have got it.
    pub(super) sent: bool,
    why: String,
}

impl Failure {
    fn new(error: &ExecutionError) -> Self {
        let kind = kind_of(error);
        Self { kind, sent: was_sent(error), why: error.to_string() }
    }

    /// No answer came.
    pub(super) fn lost() -> Self {
        Self { kind: ErrorKind::Timeout, sent: true, why: "no answer".to_owned() }
    }

    /// What a reader is told.
    pub(super) fn of_read(self) -> StoreError {
        StoreError::Unavailable(self.why)
    }

    /// What a writer is told.
    pub(super) fn of_write(self) -> StoreError {
        if self.sent { StoreError::Unknown(self.why) } else { StoreError::Unavailable(self.why) }
    }
}

/// Whether the servers may have done what failed. What they found wrong with a request they did not begin.
fn was_sent(error: &ExecutionError) -> bool {
    use DbError::{AuthenticationError, ConfigError, Invalid, SyntaxError, Unauthorized};
    match error {
        ExecutionError::BadQuery(_) => false,
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, _)) => {
            !matches!(error, Invalid | SyntaxError | Unauthorized | ConfigError | AuthenticationError)
        }
        error => kind_of(error) != ErrorKind::Unreachable,
    }
}

fn kind_of(error: &ExecutionError) -> ErrorKind {
    match error {
        ExecutionError::ConnectionPoolError(_) | ExecutionError::PrepareError(PrepareError::ConnectionPoolError(_)) => {
            ErrorKind::Unreachable
        }
        ExecutionError::RequestTimeout(_) => ErrorKind::Timeout,
        ExecutionError::LastAttemptError(RequestAttemptError::BrokenConnectionError(_)) => ErrorKind::Broken,
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, _)) => match error {
            DbError::Unavailable { .. } | DbError::IsBootstrapping => ErrorKind::Unavailable,
            DbError::ReadTimeout { .. } | DbError::WriteTimeout { .. } => ErrorKind::Timeout,
            DbError::ReadFailure { .. } | DbError::WriteFailure { .. } => ErrorKind::Unavailable,
            DbError::Overloaded | DbError::RateLimitReached { .. } => ErrorKind::Overloaded,
            _ => ErrorKind::Other,
        },
        _ => ErrorKind::Other,
    }
}

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident: $kind:ident $cql:literal,)*) => {
        /// All statements, prepared once.
        pub(super) struct Statements {
            $($(#[$doc])* pub(super) $name: PreparedStatement,)*
        }

        impl Statements {
            pub(super) async fn prepare(session: &Session, options: &CqlOptions) -> Result<Self, PrepareError> {
                Ok(Self { $($name: prepare(session, options, Kind::$kind, $cql).await?,)* })
            }
        }
    };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Read or upsert with a time of its own: may be sent twice.
    Plain,
    /// Read that sees, and finishes, conditional writes under way.
    Serial,
    /// Conditional write: never sent twice.
    Conditional,
}

statements! {
    // The log.
    append_head: Conditional
        "UPDATE @log SET head = ?, stamp = ?, effects = ? WHERE conv = ? AND bucket = ? IF head = ?",
    /// Part of the same batch.
    append_entry: Conditional
        "INSERT INTO @log (conv, bucket, seq, ts, sender, cmid, body, append_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    create: Conditional
        "UPDATE @log SET head = 0, stamp = ?, effects = ?, kind = ?, created = ? WHERE conv = ? AND bucket = 0 IF head = ?",
    statics: Plain
        "SELECT DISTINCT head, stamp, restamp, done, kind, created, name, open, tail FROM @log WHERE conv = ? AND bucket = ?",
    effects: Serial
        "SELECT DISTINCT head, done, effects FROM @log WHERE conv = ? AND bucket = ?",
    append_of: Serial
        "SELECT head, append_id FROM @log WHERE conv = ? AND bucket = ? AND seq = ?",
    after: Plain
        "SELECT seq, ts, sender, cmid, body, head, done FROM @log WHERE conv = ? AND bucket = ? AND seq > ? ORDER BY seq ASC LIMIT ?",
    after_serial: Serial
        "SELECT seq, ts, sender, cmid, body, head, done FROM @log WHERE conv = ? AND bucket = ? AND seq > ? ORDER BY seq ASC LIMIT ?",
    before: Plain
        "SELECT seq, ts, sender, cmid, body, head, done FROM @log WHERE conv = ? AND bucket = ? AND seq < ? ORDER BY seq DESC LIMIT ?",
    before_serial: Serial
        "SELECT seq, ts, sender, cmid, body, head, done FROM @log WHERE conv = ? AND bucket = ? AND seq < ? ORDER BY seq DESC LIMIT ?",
    // Effects of an append.
    set_done: Plain "UPDATE @log USING TIMESTAMP ? SET done = ? WHERE conv = ? AND bucket = ?",
    set_restamp: Plain "UPDATE @log USING TIMESTAMP ? SET restamp = ? WHERE conv = ? AND bucket = ?",
    set_name: Plain "UPDATE @log USING TIMESTAMP ? SET name = ? WHERE conv = ? AND bucket = 0",
    set_open: Plain "UPDATE @log USING TIMESTAMP ? SET open = ? WHERE conv = ? AND bucket = 0",
    set_tail: Plain "UPDATE @log USING TIMESTAMP ? SET tail = ? WHERE conv = ? AND bucket = 0",
    set_member: Plain "UPDATE @members USING TIMESTAMP ? SET role = ? WHERE conv = ? AND user = ?",
    set_role: Plain "UPDATE @index_rows USING TIMESTAMP ? SET role = ?, role_at = ? WHERE user = ? AND conv = ?",
    set_head: Plain "UPDATE @index_rows USING TIMESTAMP ? SET head = ?, head_at = ? WHERE user = ? AND conv = ?",
    set_read: Plain "UPDATE @index_rows USING TIMESTAMP ? SET read = ?, read_at = ? WHERE user = ? AND conv = ?",
    set_head_read: Plain
        "UPDATE @index_rows USING TIMESTAMP ? SET head = ?, head_at = ?, read = ?, read_at = ? WHERE user = ? AND conv = ?",
    set_delivered: Plain "UPDATE @index_rows USING TIMESTAMP ? SET delivered = ? WHERE user = ? AND conv = ?",
    // Members and rows.
    members: Plain "SELECT user, role FROM @members WHERE conv = ?",
    row: Plain
        "SELECT conv, head, head_at, read, read_at, delivered, role, role_at FROM @index_rows WHERE user = ? AND conv = ?",
    rows_of: Plain
        "SELECT conv, head, head_at, read, read_at, delivered, role, role_at FROM @index_rows WHERE user = ?",
    changes_of: Plain "SELECT head_at, read_at, role, role_at FROM @index_rows WHERE user = ?",
    // Users.
    user: Plain "SELECT name, created, seen FROM @users WHERE user = ?",
    set_user: Plain "UPDATE @users USING TIMESTAMP ? SET name = ?, created = ? WHERE user = ?",
    set_seen: Plain "UPDATE @users USING TIMESTAMP ? SET seen = ? WHERE user = ?",
    add_name: Plain "INSERT INTO @names (bucket, folded, user) VALUES (?, ?, ?) USING TIMESTAMP ?",
    drop_name: Plain "DELETE FROM @names USING TIMESTAMP ? WHERE bucket = ? AND folded = ? AND user = ?",
    add_bucket: Plain "INSERT INTO @name_buckets (first, bucket) VALUES (?, ?)",
    firsts: Plain "SELECT DISTINCT first FROM @name_buckets",
    buckets: Plain "SELECT bucket FROM @name_buckets WHERE first = ?",
    names: Plain "SELECT folded, user FROM @names WHERE bucket = ? AND (folded, user) > (?, ?) LIMIT ?",
    // The rest.
    secret: Serial "SELECT value FROM @secrets WHERE name = ?",
    make_secret: Conditional "INSERT INTO @secrets (name, value) VALUES (?, ?) IF NOT EXISTS",
}

async fn prepare(
    session: &Session,
    options: &CqlOptions,
    kind: Kind,
    cql: &str,
) -> Result<PreparedStatement, PrepareError> {
    // Tables are named in full: no statement hangs on what a connection thinks of.
    let mut statement = session.prepare(cql.replace('@', &format!("{}.", options.keyspace))).await?;
    let (plain, serial) = options.consistency();
    statement.set_is_idempotent(kind != Kind::Conditional);
    statement.set_consistency(match (kind, serial) {
        (Kind::Serial, SerialConsistency::Serial) => Consistency::Serial,
        (Kind::Serial, SerialConsistency::LocalSerial) => Consistency::LocalSerial,
        (Kind::Plain | Kind::Conditional, _) => plain,
    });
    statement.set_serial_consistency(Some(serial));
    statement.set_page_size(PAGE_ROWS);
    Ok(statement)
}

/// The servers.
pub(super) struct Db {
    pub(super) session: Session,
    pub(super) statements: Statements,
    pub(super) metrics: CqlMetrics,
    request_timeout: Duration,
    consistency: (Consistency, SerialConsistency),
}

impl Db {
    pub(super) async fn new(session: Session, options: &CqlOptions) -> Result<Self, PrepareError> {
        let statements = Statements::prepare(&session, options).await?;
        Ok(Self {
            session,
            statements,
            metrics: CqlMetrics::new(),
            request_timeout: options.request_timeout,
            consistency: options.consistency(),
        })
    }

    /// Runs a statement; a second time after a failure that came soon, if that does no harm.
    pub(super) async fn run(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<QueryResult, Failure> {
        let mut tries = Tries { began: Instant::now(), sent: false };
        loop {
            let asked = Instant::now();
            let result = self.session.execute_unpaged(statement, &values).await;
            if let Some(done) = self.judge(&mut tries, asked, statement.get_is_idempotent(), result) {
                return done;
            }
        }
    }

    /// What a try gave; `None`: try once more.
    fn judge<T>(
        &self,
        tries: &mut Tries,
        asked: Instant,
        idempotent: bool,
        result: Result<T, ExecutionError>,
    ) -> Option<Result<T, Failure>> {
        self.metrics.request_micros.record(micros(asked.elapsed()));
        let mut failure = match result {
            Ok(result) => return Some(Ok(result)),
            Err(error) => Failure::new(&error),
        };
        self.metrics.failed(failure.kind);
        let again = !tries.sent && failure.sent && idempotent && tries.began.elapsed() <= self.request_timeout / 2;
        failure.sent |= tries.sent;
        tries.sent = true;
        if !again {
            return Some(Err(failure));
        }
        self.metrics.retries.fetch_add(1, Relaxed);
        None
    }

    /// An upsert.
    pub(super) async fn write(&self, statement: &PreparedStatement, values: impl SerializeRow) -> Result<(), Failure> {
        self.run(statement, values).await.map(drop)
    }

    /// Upserts that may be repeated, in any order, a few in each request.
    pub(super) async fn write_all(&self, upserts: Vec<Upsert<'_>>) -> Result<(), Failure> {
        let mut upserts = upserts.into_iter();
        let chunks = std::iter::from_fn(|| {
            let chunk: Vec<_> = upserts.by_ref().take(UPSERTS_TOGETHER).collect();
            (!chunk.is_empty()).then_some(Ok(chunk))
        });
        futures_util::stream::iter(chunks)
            .try_for_each_concurrent(super::WRITES_AT_ONCE, |upserts| self.write_some(upserts))
            .await
    }

    async fn write_some(&self, upserts: Vec<Upsert<'_>>) -> Result<(), Failure> {
        if let [(statement, values)] = &upserts[..] {
            return self.write(statement, values).await;
        }
        let mut batch = Batch::new(BatchType::Unlogged);
        upserts.iter().for_each(|(statement, _)| batch.append_statement((*statement).clone()));
        batch.set_consistency(self.consistency.0);
        let values: Vec<&Vec<CqlValue>> = upserts.iter().map(|(_, values)| values).collect();
        let mut tries = Tries { began: Instant::now(), sent: false };
        loop {
            let asked = Instant::now();
            let result = self.session.batch(&batch, &values).await;
            if let Some(done) = self.judge(&mut tries, asked, true, result) {
                return done.map(drop);
            }
        }
    }

    /// All rows of a short answer.
    pub(super) async fn rows<R>(&self, statement: &PreparedStatement, values: impl SerializeRow) -> Result<Vec<R>>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let result = self.run(statement, values).await.map_err(Failure::of_read)?;
        collect(&result.into_rows_result().map_err(odd)?)
    }

    /// The one row of an answer.
    pub(super) async fn row<R>(&self, statement: &PreparedStatement, values: impl SerializeRow) -> Result<Option<R>>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        Ok(self.rows(statement, values).await?.into_iter().next())
    }

    /// All rows of an answer of any length, page by page.
    pub(super) async fn all_rows<R>(&self, statement: &PreparedStatement, values: impl SerializeRow) -> Result<Vec<R>>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let mut all = Vec::new();
        let mut state = PagingState::start();
        let mut tries = Tries { began: Instant::now(), sent: false };
        loop {
            let asked = Instant::now();
            let page = self.session.execute_single_page(statement, &values, state.clone()).await;
            let Some(page) = self.judge(&mut tries, asked, true, page) else { continue };
            let (page, next) = page.map_err(Failure::of_read)?;
            all.extend(collect::<R>(&page.into_rows_result().map_err(odd)?)?);
            match next {
                PagingStateResponse::HasMorePages { state: more } => state = more,
                PagingStateResponse::NoMorePages => return Ok(all),
            }
        }
    }

    /// Runs a conditional statement, or several in one partition; whether it was applied.
    pub(super) async fn conditional<V>(&self, statements: &[&PreparedStatement], values: V) -> Result<bool, Failure>
    where
        V: scylla::serialize::batch::BatchValues,
    {
        let mut batch = Batch::new(BatchType::Logged);
        statements.iter().for_each(|statement| batch.append_statement((*statement).clone()));
        batch.set_consistency(self.consistency.0);
        batch.set_serial_consistency(Some(self.consistency.1));
        batch.set_is_idempotent(false);
        let asked = Instant::now();
        let result = self.session.batch(&batch, values).await;
        self.metrics.append_micros.record(micros(asked.elapsed()));
        let result = result.map_err(|error| {
            let failure = Failure::new(&error);
            self.metrics.failed(failure.kind);
            failure
        })?;
        // Cassandra adds what it found when the condition failed, ScyllaDB always does: only the first column counts.
        let applied = result.into_rows_result().ok().and_then(|rows| {
            let row = rows.first_row::<scylla::value::Row>().ok()?;
            row.columns.first()?.as_ref()?.as_boolean()
        });
        applied.ok_or(Failure { kind: ErrorKind::Other, sent: true, why: "an odd answer to a condition".to_owned() })
    }
}

fn collect<R>(rows: &QueryRowsResult) -> Result<Vec<R>>
where
    R: for<'frame> DeserializeRow<'frame, 'frame>,
{
    rows.rows::<R>().map_err(odd)?.map(|row| row.map_err(odd)).collect()
}

/// An answer that does not have the form that the schema promises.
fn odd(error: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!("an answer of the servers cannot be read: {error}"))
}
