//! The embedded store: a directory on disk, one writer, commits in groups.
//!
//! A write is put into a bounded queue and answered by the writer, which takes everything that waits, checks each
//! append against the heads (those changed earlier in the same commit included), writes one fjall batch, syncs the
//! journal once and then answers everybody. Reads go to the last committed state, on the caller's thread.
//!
//! Invariants:
//! - what a read returns is durable: it cannot be lost and come back different under the same seq;
//! - after a failed sync no write is taken until the next start; the writes of that commit are answered
//!   [`StoreError::Unknown`];
//! - a disk without room refuses writes with [`StoreError::DiskFull`] and takes them again once there is room.
//!
//! Absent on purpose: unbounded caches, a second writer, retries of a failed sync.

mod check;
mod directory;
mod draft;
mod engine;
mod failpoint;
#[cfg(any(test, feature = "testkit"))]
mod faults;
mod files;
mod image;
mod keys;
mod ledger;
mod metrics;
#[cfg(all(test, roost_model))]
mod models;
mod options;
mod queue;
mod read;
mod recent;
mod repair;
mod sync;
mod values;
mod writer;

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use roost_wire::{ConvId, UserId};
use tokio::sync::oneshot;

pub use check::{Counts, Problem, ProblemKind, Progress, Report, check};
pub use directory::OpenError;
#[cfg(feature = "failpoints")]
pub use failpoint::{Point, VARIABLE as FAILPOINT_VARIABLE, When};
#[cfg(any(test, feature = "testkit"))]
pub use faults::{CommitFault, Faults};
pub use files::{SECRET_BYTES, read_secret};
pub use metrics::{COMMIT_MICROS_BOUNDS, COMMIT_WRITES_BOUNDS, Histogram, StoreMetrics};
pub use options::EmbeddedOptions;
pub use repair::{Lost, RepairError, Repaired, repair};

use self::directory::{Directory, TABLES_ASIDE};
use self::draft::{Remembered, Verdict};
use self::engine::{Engine, EngineError, Lookup};
use self::failpoint::failpoint;
use self::image::{Image, Looks};
use self::keys::Table;
use self::ledger::{Commits, Ledger};
use self::queue::{Answer, Queue, Write};
use self::writer::Writer;
use crate::{
    Append, Appended, ConvMeta, Entry, IndexPage, IndexRow, Mark, Member, Range, Result, Stamp, Store, StoreError, User,
};

/// A store in a directory of this machine.
///
/// Clones share it. Dropping the last one writes what waits, closes the tables and gives the directory free; that
/// blocks for as long as a commit takes.
#[derive(Clone)]
pub struct EmbeddedStore {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Arc<Queue>,
    metrics: Arc<StoreMetrics>,
    // Dropped in this order: the tables close before the lock is given up.
    engine: Arc<Engine>,
    directory: Directory,
    writer: Option<JoinHandle<()>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the writer of the store panicked");
        }
    }
}

impl EmbeddedStore {
    /// Opens the store in `dir`; makes the directory and the store if they are not there. Blocks: for long after a
    /// crash, when the journal is read back.
    ///
    /// # Errors
    /// [`OpenError`], each with what to do about it.
    pub fn open(dir: &Path, options: &EmbeddedOptions) -> Result<Self, OpenError> {
        let mut directory = Directory::take(dir)?;
        let known = if directory.ready() { Some(inspect(&directory, options)?) } else { None };
        let engine = Engine::open(&directory.data(), options).map_err(|error| match error {
            EngineError::Io(source) => OpenError::Io { dir: dir.to_owned(), source },
            EngineError::Damaged(what) => directory.damaged(what),
        })?;
        let commits = recovered(&engine, known.as_ref()).map_err(|what| directory.damaged(what))?;
        let ledger = open_ledger(&engine, &mut directory, commits)?;
        let remembered = Remembered::load(&engine, options).map_err(|error| directory.damaged(error.to_string()))?;
        let (engine, metrics) = (Arc::new(engine), Arc::new(StoreMetrics::new()));
        let queue = Arc::new(Queue::new(options, Arc::clone(&metrics)));
        let writer = Writer {
            engine: Arc::clone(&engine),
            queue: Arc::clone(&queue),
            metrics: Arc::clone(&metrics),
            remembered,
            ledger,
        };
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| OpenError::Io { dir: dir.to_owned(), source })?;
        Ok(Self { shared: Arc::new(Shared { queue, metrics, engine, directory, writer: Some(writer) }) })
    }

    /// Random id of this store, made with it: 32 hexadecimal digits.
    pub fn store_id(&self) -> &str {
        self.shared.directory.store_id()
    }

    /// What the store counts.
    pub fn metrics(&self) -> &StoreMetrics {
        &self.shared.metrics
    }

    /// Why the store takes no writes until it is restarted; `None` while it does. For a readiness probe.
    pub fn stopped(&self) -> Option<StoreError> {
        self.shared.queue.closed()
    }

    /// The secret `name` (letters, digits, `-`), drawn when it is first asked for. Blocks for a moment.
    ///
    /// # Errors
    /// Whatever the file system says; [`io::ErrorKind::InvalidData`] if the file was damaged.
    pub fn secret(&self, name: &str) -> io::Result<[u8; SECRET_BYTES]> {
        files::make_or_read_secret(self.shared.directory.path(), name)
    }

    /// Where [`EmbeddedStore::secret`] keeps `name` in the data directory `dir`: for tools beside a running server,
    /// which read it with [`read_secret`].
    pub fn secret_path(dir: &Path, name: &str) -> PathBuf {
        files::secret_path(dir, name)
    }

    /// Writes all that is in memory out into table files, as happens by itself once there is enough of it.
    ///
    /// # Errors
    /// What the engine says.
    #[cfg(any(test, feature = "testkit"))]
    pub fn write_out(&self) -> Result<()> {
        self.shared.engine.write_out()
    }

    /// Failures of the disk on demand.
    #[cfg(any(test, feature = "testkit"))]
    pub fn faults(&self) -> &Faults {
        &self.shared.engine.faults
    }

    /// Puts a write into the queue and waits for its answer.
    async fn ask<T>(&self, write: impl FnOnce(Answer<T>) -> Write) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.shared.queue.push(write(answer))?;
        answered.await.unwrap_or_else(|_| Err(lost()))
    }

    fn view(&self) -> engine::View<'_> {
        self.shared.engine.view()
    }
}

/// Looks at the files before the engine does, which would cut and delete what it does not understand; gives the last
/// commit of each table.
fn inspect(directory: &Directory, options: &EmbeddedOptions) -> Result<Commits, OpenError> {
    let io = |source| OpenError::Io { dir: directory.path().to_owned(), source };
    if !directory.data().is_dir() {
        return Err(directory.damaged("its tables (the directory `data`) are missing"));
    }
    if let Some(path) = TABLES_ASIDE.iter().map(|name| directory.path().join(name)).find(|path| path.exists()) {
        return Err(directory.damaged(format!("{}: a repair was not finished", path.display())));
    }
    let acknowledged = match directory.is_linked() {
        true => Some(ledger::read(&directory.ledger()).map_err(|why| {
            directory
                .damaged(format!("{}: what was acknowledged last cannot be read: {why}", directory.ledger().display()))
        })?),
        false => None,
    };
    let mut step = |_| ();
    let mut looks = Looks::new(false, options.verify_bytes_max, &mut step);
    let image = Image::load(&directory.data(), acknowledged.as_ref(), &mut looks).map_err(io)?;
    if let Some(fault) = looks.faults.first() {
        let more = match looks.faults.len() {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        return Err(directory.damaged(format!("{fault}{more}")));
    }
    image.trim().map_err(io)?;
    // Fjall's own lock: it holds nothing, but must be there.
    OpenOptions::new().write(true).create(true).truncate(false).open(directory.data().join("lock")).map_err(io)?;
    Ok(image.commits)
}

/// The last commit of each table that the engine has, which must be what its files have.
fn recovered(engine: &Engine, known: Option<&Commits>) -> Result<Commits, String> {
    let mut commits = Commits::default();
    for table in Table::ALL {
        let commit = engine.link(table).map_err(|error| error.to_string())?.map_or(0, |link| link.commit);
        if let Some(known) = known
            && known.of(table) != commit
        {
            return Err(format!(
                "the engine has table {table} up to commit {commit}, its files up to {}",
                known.of(table)
            ));
        }
        commits.set(table, commit);
    }
    Ok(commits)
}

/// Opens the watermark of what was acknowledged. A new store, and one of the format without it, gets one here: first a commit
/// that links every table, then the watermark, then the manifest that says so; dying in between, it begins anew.
fn open_ledger(engine: &Engine, directory: &mut Directory, commits: Commits) -> Result<Ledger, OpenError> {
    let dir = directory.path().to_owned();
    let io = |source| OpenError::Io { dir: dir.clone(), source };
    if directory.ready() && directory.is_linked() {
        return Ledger::open(&directory.ledger(), commits).map_err(io);
    }
    let begin = |migrates: bool| {
        if migrates {
            failpoint!(Migrate);
        }
        let (links, commits) = commits.next(Table::ALL.into_iter());
        engine.commit_links(&links).map_err(io::Error::other)?;
        failpoint!(LedgerFirst);
        let ledger = Ledger::make(&directory.ledger(), commits)?;
        failpoint!(LedgerMake);
        Ok(ledger)
    };
    let migrates = directory.ready();
    let ledger = begin(migrates).map_err(io)?;
    directory.set_ready()?;
    let migrated = || {
        if migrates {
            failpoint!(MigrateDone);
        }
        Ok(())
    };
    migrated().map_err(io)?;
    Ok(ledger)
}

/// The answer was dropped: the writer died in the middle of a commit.
fn lost() -> StoreError {
    StoreError::Unknown("the writer of the store has died".to_owned())
}

impl Store for EmbeddedStore {
    async fn create(&self, meta: ConvMeta, members: Vec<Member>) -> Result<(ConvMeta, bool)> {
        self.ask(|answer| Write::Create(meta, members, answer)).await
    }

    async fn append(&self, append: Append) -> Result<Appended> {
        let (conv, expected) = (append.conv.clone(), append.expected);
        match self.ask(|answer| Write::Append(append, answer)).await? {
            Verdict::Stored { stamp } => Ok(Appended::Stored { stamp }),
            // Read here, so that the writer is not kept from the next commit.
            Verdict::Conflict => read::conflict(&self.view(), &conv, expected),
        }
    }

    async fn range(&self, conv: &ConvId, range: Range, limit: usize) -> Result<Vec<Entry>> {
        read::range(&self.view(), conv, range, limit)
    }

    async fn last_entries(&self, convs: &[ConvId]) -> Result<Vec<Option<Entry>>> {
        let view = self.view();
        convs.iter().map(|conv| read::last_entry(&view, conv)).collect()
    }

    async fn metas(&self, convs: &[ConvId]) -> Result<Vec<Option<ConvMeta>>> {
        let view = self.view();
        convs.iter().map(|conv| view.meta(conv)).collect()
    }

    async fn members(&self, conv: &ConvId) -> Result<Vec<Member>> {
        read::members(&self.view(), conv)
    }

    async fn rows(&self, conv: &ConvId, users: &[UserId]) -> Result<Vec<Option<IndexRow>>> {
        let view = self.view();
        users.iter().map(|user| view.row(conv, user)).collect()
    }

    async fn index(&self, user: &UserId, since: Stamp, limit: usize) -> Result<IndexPage> {
        read::index(&self.view(), user, since, limit)
    }

    async fn last_change(&self, user: &UserId) -> Result<Stamp> {
        read::last_change(&self.view(), user)
    }

    async fn mark(&self, marks: Vec<Mark>) -> Result<()> {
        if marks.is_empty() {
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        self.shared.queue.push_marks(marks, answer)?;
        answered.await.unwrap_or_else(|_| Err(lost()))
    }

    async fn put_users(&self, users: Vec<User>) -> Result<()> {
        self.ask(|answer| Write::Users(users, answer)).await
    }

    async fn users(&self, users: &[UserId]) -> Result<Vec<Option<User>>> {
        let view = self.view();
        users.iter().map(|user| view.user(user)).collect()
    }

    async fn search(&self, prefix: &str, limit: usize) -> Result<Vec<User>> {
        read::search(&self.view(), prefix, limit)
    }
}
