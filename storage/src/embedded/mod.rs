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

mod directory;
mod draft;
mod engine;
#[cfg(any(test, feature = "testkit"))]
mod faults;
mod files;
mod keys;
mod metrics;
mod options;
mod queue;
mod read;
mod recent;
mod values;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use roost_wire::{ConvId, UserId};
use tokio::sync::oneshot;

pub use directory::OpenError;
#[cfg(any(test, feature = "testkit"))]
pub use faults::{CommitFault, Faults};
pub use files::{SECRET_BYTES, read_secret};
pub use metrics::{COMMIT_MICROS_BOUNDS, COMMIT_WRITES_BOUNDS, Histogram, StoreMetrics};
pub use options::EmbeddedOptions;

use self::directory::Directory;
use self::draft::{Remembered, Verdict};
use self::engine::{Engine, Lookup};
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
        if directory.ready() && !directory.data().join("version").is_file() {
            return Err(directory.damaged("its tables (the directory `data`) are missing"));
        }
        let engine = Engine::open(&directory.data(), options).map_err(|error| match error {
            fjall::Error::Io(source) => OpenError::Io { dir: dir.to_owned(), source },
            error => directory.damaged(error.to_string()),
        })?;
        if !directory.ready() {
            directory.set_ready()?;
        }
        let remembered = Remembered::load(&engine, options).map_err(|error| directory.damaged(error.to_string()))?;
        let (engine, metrics) = (Arc::new(engine), Arc::new(StoreMetrics::new()));
        let queue = Arc::new(Queue::new(options, Arc::clone(&metrics)));
        let writer = Writer {
            engine: Arc::clone(&engine),
            queue: Arc::clone(&queue),
            metrics: Arc::clone(&metrics),
            remembered,
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
