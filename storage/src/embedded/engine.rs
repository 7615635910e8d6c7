//! The tables, on fjall. Everything that can fail on a disk passes through here, and nowhere else.
//!
//! Invariants:
//! - what a [`View`] shows is durable: a commit syncs the journal before it touches the tables in memory, and views
//!   are clones of one snapshot that is renewed between commits. (Fjall's own snapshots are not enough: a table that
//!   is written out during a commit moves the visible seqno past it, and half of the commit would show.)
//! - after a failed write or sync nothing is written any more until the next start: what the kernel dropped cannot be
//!   seen, so trying again would acknowledge what may be lost. Fjall keeps the same rule.
//!
//! Fjall does not recover from a full disk: its journal refuses all writes from then on. So the room is looked at
//! before every commit, and a reserve is kept that its background work cannot use up.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable, Snapshot};
use parking_lot::RwLock;
use roost_wire::{ConvId, UserId};

use super::failpoint::failpoint;
use super::keys::{self, Table};
use super::ledger::Link;
use super::options::EmbeddedOptions;
use super::values;
use crate::{ConvMeta, IndexRow, Result, StoreError, User};

/// Tables of recent writes that may wait for the disk before writers wait for them. Fjall stops at 4, checking every
/// 100 ms and for ever; this is looked at before.
const SEALED_TABLES_MAX: usize = 3;
/// How long a commit waits for that.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(10);
const FLUSH_POLL: Duration = Duration::from_millis(2);
/// Descriptors of table files that are kept open.
const OPEN_FILES_MAX: usize = 256;
/// Bytes of journal after which tables are written out so that it can be cut: the least fjall takes.
const JOURNAL_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// One fjall keyspace per table of [`keys`].
pub(crate) struct Tables {
    pub(crate) log: Keyspace,
    pub(crate) metas: Keyspace,
    pub(crate) rows: Keyspace,
    pub(crate) members: Keyspace,
    pub(crate) users: Keyspace,
    pub(crate) names: Keyspace,
    pub(crate) system: Keyspace,
}

impl Tables {
    fn open(db: &Database, memtable_bytes: u64) -> fjall::Result<Self> {
        let table = |table: Table, bytes: u64| {
            failpoint!(TablesMake);
            let options = || KeyspaceCreateOptions::default().max_memtable_size(bytes.max(1024 * 1024));
            db.keyspace(table.name(), options)
        };
        // In the order of `Table::ALL`.
        Ok(Self {
            log: table(Table::Log, memtable_bytes)?,
            rows: table(Table::Rows, memtable_bytes)?,
            metas: table(Table::Metas, memtable_bytes / 4)?,
            members: table(Table::Members, memtable_bytes / 4)?,
            users: table(Table::Users, memtable_bytes / 4)?,
            names: table(Table::Names, memtable_bytes / 4)?,
            system: table(Table::System, memtable_bytes / 4)?,
        })
    }

    pub(crate) fn keyspace(&self, table: Table) -> &Keyspace {
        match table {
            Table::Log => &self.log,
            Table::Rows => &self.rows,
            Table::Metas => &self.metas,
            Table::Members => &self.members,
            Table::Users => &self.users,
            Table::Names => &self.names,
            Table::System => &self.system,
        }
    }

    fn all(&self) -> [&Keyspace; 7] {
        [&self.log, &self.metas, &self.rows, &self.members, &self.users, &self.names, &self.system]
    }
}

/// Why a commit did not happen, or may not have.
#[derive(Debug)]
pub(crate) enum CommitError {
    /// Nothing was written; a later commit may work.
    Refused(StoreError),
    /// Nothing was written, and nothing will be until the next start.
    Stopped(String),
    /// It may have been written; nothing will be until the next start.
    Unknown(String),
}

/// Why the tables could not be opened.
pub(crate) enum EngineError {
    Io(io::Error),
    Damaged(String),
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref().cloned());
    format!("the engine gave up ({})", text.unwrap_or_else(|| "it did not say why".to_owned()))
}

/// The open tables.
pub(crate) struct Engine {
    // Dropped before `db`: a snapshot refers to it.
    published: RwLock<Snapshot>,
    pub(crate) tables: Tables,
    db: Database,
    dir: PathBuf,
    disk_reserve_bytes: u64,
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) faults: super::faults::Faults,
}

impl Engine {
    /// Opens the tables in `dir`, makes them if they are not there.
    ///
    /// What `image` checks before keeps fjall from files it would panic on; whatever it does not, becomes an error here.
    pub(crate) fn open(dir: &Path, options: &EmbeddedOptions) -> Result<Self, EngineError> {
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| Self::open_tables(dir, options)));
        match opened {
            Ok(Ok(engine)) => Ok(engine),
            Ok(Err(fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)))) => {
                Err(EngineError::Io(error))
            }
            Ok(Err(error)) => Err(EngineError::Damaged(error.to_string())),
            Err(panic) => Err(EngineError::Damaged(panic_text(&*panic))),
        }
    }

    fn open_tables(dir: &Path, options: &EmbeddedOptions) -> fjall::Result<Self> {
        failpoint!(TablesOpen);
        let db = Database::builder(dir)
            .cache_size(options.block_cache_bytes)
            .worker_threads(options.worker_threads.max(1))
            .max_cached_files(Some(OPEN_FILES_MAX))
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .open()?;
        let tables = Tables::open(&db, options.memtable_bytes)?;
        db.persist(PersistMode::SyncAll)?;
        failpoint!(TablesSync);
        Ok(Self {
            published: RwLock::new(db.snapshot()),
            tables,
            db,
            dir: dir.to_owned(),
            disk_reserve_bytes: options.disk_reserve_bytes,
            #[cfg(any(test, feature = "testkit"))]
            faults: super::faults::Faults::default(),
        })
    }

    /// What has been committed until now.
    pub(crate) fn view(&self) -> View<'_> {
        View { tables: &self.tables, snapshot: self.published.read().clone() }
    }

    pub(crate) fn batch(&self) -> OwnedWriteBatch {
        self.db.batch().durability(Some(PersistMode::SyncData))
    }

    /// Refuses a commit for which there is no room, or no memory. Called before anything is prepared.
    pub(crate) fn check_room(&self) -> Result<(), CommitError> {
        match self.free_bytes() {
            Ok(free) if free < self.disk_reserve_bytes => return Err(CommitError::Refused(StoreError::DiskFull)),
            Ok(_) => {}
            Err(error) => {
                let why = format!("the free room of the disk cannot be asked for: {error}");
                return Err(CommitError::Refused(StoreError::Unavailable(why)));
            }
        }
        let begin = Instant::now();
        while self.tables.all().iter().any(|table| table.sealed_memtable_count() >= SEALED_TABLES_MAX) {
            if begin.elapsed() > FLUSH_WAIT_MAX {
                let why = "tables are not written to the disk fast enough".to_owned();
                return Err(CommitError::Refused(StoreError::Unavailable(why)));
            }
            std::thread::sleep(FLUSH_POLL);
        }
        Ok(())
    }

    /// Makes `batch` durable, then visible. Only the writer calls this.
    pub(crate) fn commit(&self, batch: OwnedWriteBatch) -> Result<(), CommitError> {
        #[cfg(any(test, feature = "testkit"))]
        let batch = self.faults.on_commit(batch)?;
        match self.write(batch) {
            Ok(()) => {
                let snapshot = self.db.snapshot();
                *self.published.write() = snapshot;
                Ok(())
            }
            Err(fjall::Error::Poisoned) => {
                Err(CommitError::Stopped("an earlier write or background work failed; restart needed".to_owned()))
            }
            Err(error) => Err(CommitError::Unknown(format!("writing to the disk failed: {error}; restart needed"))),
        }
    }

    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn write_out(&self) -> Result<()> {
        self.tables.all().into_iter().try_for_each(Keyspace::rotate_memtable_and_wait).map_err(read_failed)
    }

    /// Writes nothing but links.
    pub(crate) fn commit_links(&self, links: &[(Table, Link)]) -> Result<(), String> {
        let mut batch = self.batch();
        for (table, link) in links {
            let value = values::encode_link(*link).seal(*table, keys::LINK);
            batch.insert(self.tables.keyspace(*table), keys::LINK, value);
        }
        self.commit(batch).map_err(|error| format!("{error:?}"))
    }

    fn write(&self, batch: OwnedWriteBatch) -> fjall::Result<()> {
        failpoint!(CommitBegin);
        batch.commit()?;
        #[cfg(feature = "failpoints")]
        if super::failpoint::tears(super::failpoint::Point::CommitTorn) {
            super::image::tear_last_batch(&self.dir);
            super::failpoint::die();
        }
        failpoint!(CommitTorn);
        failpoint!(CommitSynced);
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        #[cfg(any(test, feature = "testkit"))]
        if let Some(free) = self.faults.free_bytes() {
            return Ok(free);
        }
        let disk = rustix::fs::statvfs(&self.dir)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

/// A moment of the tables: all of every commit up to it, nothing of the next.
pub(crate) struct View<'a> {
    pub(crate) tables: &'a Tables,
    pub(crate) snapshot: Snapshot,
}

/// Reads of single rows, from a [`View`] or, for the one writer, from the newest state.
pub(crate) trait Lookup {
    /// The value of `key`.
    fn get(&self, table: impl Fn(&Tables) -> &Keyspace, key: &[u8]) -> Result<Option<fjall::Slice>>;

    /// Which commit last changed a table; `None` in a table that never was.
    fn link(&self, table: Table) -> Result<Option<Link>> {
        let value = self.get(|tables| tables.keyspace(table), keys::LINK)?;
        value.map(|value| values::decode_link(table, &value)).transpose()
    }

    fn meta(&self, conv: &ConvId) -> Result<Option<ConvMeta>> {
        let value = self.get(|tables| &tables.metas, conv.as_str().as_bytes())?;
        value.map(|value| values::decode_meta(conv, &value)).transpose()
    }

    fn row(&self, conv: &ConvId, user: &UserId) -> Result<Option<IndexRow>> {
        let key = keys::row(user, conv);
        let value = self.get(|tables| &tables.rows, &key)?;
        value.map(|value| values::decode_row(&key, &value)).transpose()
    }

    fn user(&self, user: &UserId) -> Result<Option<User>> {
        let value = self.get(|tables| &tables.users, user.as_str().as_bytes())?;
        value.map(|value| values::decode_user(user, &value)).transpose()
    }

    fn counter(&self, name: &[u8]) -> Result<u64> {
        let value = self.get(|tables| &tables.system, name)?;
        value.map_or(Ok(0), |value| values::decode_counter(name, &value))
    }
}

impl Lookup for View<'_> {
    fn get(&self, table: impl Fn(&Tables) -> &Keyspace, key: &[u8]) -> Result<Option<fjall::Slice>> {
        self.snapshot.get(table(self.tables), key).map_err(read_failed)
    }
}

impl Lookup for Engine {
    fn get(&self, table: impl Fn(&Tables) -> &Keyspace, key: &[u8]) -> Result<Option<fjall::Slice>> {
        table(&self.tables).get(key).map_err(read_failed)
    }
}

/// A failed read says nothing about writes: nothing was written.
pub(crate) fn read_failed(error: fjall::Error) -> StoreError {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            StoreError::Unavailable(format!("reading from the disk failed: {error}"))
        }
        error => StoreError::Damaged(error.to_string()),
    }
}
