//! What the files of a data directory hold, found out without fjall and without changing them.
//!
//! Fjall's own opening cuts journals, deletes what no list mentions, and takes what is left for everything. This looks
//! first: [`Image::load`] finds what is not whole, and what is whole but less than was acknowledged. Opening refuses on
//! the first fault; check and repair go on behind it.
//!
//! It reads the formats of fjall 3 (journals and versions here, tables with fjall's own reader), so an upgrade of fjall
//! that changes them fails the tests of this crate.

mod archive;
mod chain;
mod items;
mod journal;
mod tree;

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lsm_tree::{Cache, DescriptorTable, Slice, Table as TableFile};

use self::chain::Chain;
pub(crate) use self::items::{Items, Row};
use self::journal::{Batch, Journal, Next};
use self::tree::Tree;
use super::failpoint::failpoint;
use super::keys::{self, Table};
use super::ledger::{Commits, Link};
use super::values;

/// Bytes of blocks that are kept while looking.
const CACHE_BYTES: u64 = 4 * 1024 * 1024;
/// Descriptors of table files that are kept while looking.
const OPEN_FILES_MAX: usize = 256;

/// What is wrong with a file, or with what all of them hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The file, if it is one.
    pub(crate) path: Option<PathBuf>,
    pub(crate) what: String,
    /// Acknowledged commits are missing.
    pub(crate) is_loss: bool,
}

impl Fault {
    pub(crate) fn file(path: &Path, what: impl Display) -> Self {
        Self { path: Some(path.to_owned()), what: what.to_string(), is_loss: false }
    }

    fn loss(path: Option<&Path>, what: impl Display) -> Self {
        Self { path: path.map(Path::to_owned), what: what.to_string(), is_loss: true }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}: {}", path.display(), self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// How closely to look, and what was found.
pub(crate) struct Looks<'a> {
    /// Go on behind what is damaged, and keep what the journals hold.
    pub(crate) salvage: bool,
    /// Bytes of table files that may still be read whole, to compare their checksums.
    pub(crate) budget_bytes: u64,
    /// Told how many bytes were read.
    pub(crate) step: &'a mut dyn FnMut(u64),
    pub(crate) faults: Vec<Fault>,
    cache: Arc<Cache>,
    files: Arc<DescriptorTable>,
    opened: u64,
}

impl<'a> Looks<'a> {
    pub(crate) fn new(salvage: bool, budget_bytes: u64, step: &'a mut dyn FnMut(u64)) -> Self {
        let cache = Arc::new(Cache::with_capacity_bytes(CACHE_BYTES));
        let files = Arc::new(DescriptorTable::new(OPEN_FILES_MAX));
        Self { salvage, budget_bytes, step, faults: Vec::new(), cache, files, opened: 0 }
    }

    /// Where the table files keep what they read, and their descriptors.
    fn caches(&self) -> (Arc<Cache>, Arc<DescriptorTable>) {
        (Arc::clone(&self.cache), Arc::clone(&self.files))
    }

    /// A number for a table file, in the caches.
    fn number(&mut self) -> u64 {
        self.opened += 1;
        self.opened
    }

    fn fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// True if a file of this length is to be read whole.
    fn may_read(&mut self, len: u64) -> bool {
        let left = self.budget_bytes.checked_sub(len);
        self.budget_bytes = left.unwrap_or(self.budget_bytes);
        left.is_some()
    }
}

/// A journal's row: the seqno of its batch, the key, the value.
type Journaled = (Vec<u8>, u64, Option<Vec<u8>>);

/// The files of a data directory.
pub(crate) struct Image {
    trees: Vec<Tree>,
    /// With `salvage`: what the journals hold, by table.
    journaled: [Vec<Journaled>; Table::COUNT],
    /// The last commit of each table.
    pub(crate) commits: Commits,
    /// Journals that end with something that is no whole batch, and where it begins.
    torn: Vec<(PathBuf, u64)>,
}

impl Image {
    /// Looks at the tables in `data`. `acknowledged` is what must be there at least; `None` if nothing is known of it.
    ///
    /// # Errors
    /// Only if a directory or a journal cannot be read at all; everything else is a fault in `looks`.
    pub(crate) fn load(data: &Path, acknowledged: Option<&Commits>, looks: &mut Looks<'_>) -> io::Result<Self> {
        check_marker(data, looks);
        let keyspaces = data.join("keyspaces");
        let ids = keyspace_ids(&keyspaces.join("0"), looks);
        let trees: Vec<Tree> =
            Table::ALL.into_iter().map(|table| load_tree(&keyspaces, ids[table as usize], looks)).collect();
        let mut chain = Chain::new(ids);
        for table in Table::ALL {
            let tree = &trees[table as usize];
            let persisted = tree.tables.iter().map(|(_, file)| file.get_highest_seqno()).max();
            let link = newest_link(table, tree).unwrap_or_else(|fault| {
                looks.fault(fault);
                None
            });
            chain.persisted(table, persisted, link);
        }
        let mut image = Self { trees, journaled: Default::default(), commits: Commits::default(), torn: Vec::new() };
        let last = image.read_journals(data, &mut chain, looks)?;
        image.journaled.iter_mut().for_each(|rows| rows.sort_by(|a, b| (&a.0, b.1).cmp(&(&b.0, a.1))));
        image.commits = chain.commits();
        if let Some(acknowledged) = acknowledged {
            image.compare(acknowledged, last.as_deref(), looks);
        }
        Ok(image)
    }

    /// Reads all journals; gives the path of the last one.
    fn read_journals(&mut self, data: &Path, chain: &mut Chain, looks: &mut Looks<'_>) -> io::Result<Option<PathBuf>> {
        let mut last: Option<(u64, PathBuf)> = None;
        for (id, path) in journal::list(data)? {
            if let Some((before, _)) = &last
                && before + 1 != id
            {
                looks.fault(Fault::loss(Some(&data.join(format!("{}.jnl", before + 1))), "the journal is missing"));
            }
            self.read_journal(Journal::open(id, &path)?, chain, looks)?;
            last = Some((id, path));
        }
        Ok(last.map(|(_, path)| path))
    }

    fn read_journal(&mut self, mut journal: Journal, chain: &mut Chain, looks: &mut Looks<'_>) -> io::Result<()> {
        let begin = journal.at;
        loop {
            match journal.next()? {
                Next::Batch(batch) => {
                    if let Err(what) = chain.follow(&batch) {
                        looks.fault(Fault::loss(Some(&journal.path), format_args!("byte {}: {what}", batch.at)));
                    }
                    if looks.salvage {
                        self.keep(chain, batch);
                    }
                }
                Next::Empty => break,
                Next::Torn(why) => {
                    let at = journal.at;
                    if looks.salvage && journal.skip_to_next()? {
                        looks.fault(Fault::file(&journal.path, format_args!("bytes {at} to {}: {why}", journal.at)));
                        continue;
                    }
                    tracing::debug!(journal = journal.id, at, why, "a journal has a torn end");
                    self.torn.push((journal.path.clone(), at));
                    break;
                }
            }
        }
        (looks.step)(journal.at - begin);
        Ok(())
    }

    fn keep(&mut self, chain: &Chain, batch: Batch) {
        for item in batch.items {
            if let Some(table) = chain.table(item.keyspace) {
                self.journaled[table as usize].push((item.key, batch.seqno, item.value));
            }
        }
    }

    /// Whether all that was acknowledged is there.
    fn compare(&self, acknowledged: &Commits, last: Option<&Path>, looks: &mut Looks<'_>) {
        let lost = Table::ALL.into_iter().find(|table| self.commits.of(*table) < acknowledged.of(*table));
        let Some(table) = lost else { return };
        let torn = self
            .torn
            .last()
            .map_or(String::new(), |(path, at)| format!("; {} cannot be read from byte {at} on", path.display()));
        let (found, wanted) = (self.commits.of(table), acknowledged.of(table));
        let what = format!("table {table} ends with commit {found}, but commit {wanted} of it was acknowledged{torn}");
        looks.fault(Fault::loss(last, what));
    }

    /// Cuts off what a crash left of a commit that nobody was told of. The journals are synced afterwards.
    pub(crate) fn trim(&self) -> io::Result<()> {
        for (path, at) in &self.torn {
            tracing::info!(journal = %path.display(), at, "the journal ends within a commit that was never answered: cut there");
            let file = OpenOptions::new().write(true).open(path)?;
            file.set_len(*at)?;
            failpoint!(JournalTrim);
            file.sync_all()?;
            failpoint!(JournalTrimSync);
        }
        Ok(())
    }

    /// The rows of a table, ordered by key, the newest of each. Only with `salvage` those of the journals are there.
    pub(crate) fn items(&self, table: Table) -> Items<'_> {
        Items::new(&self.trees[table as usize].tables, &self.journaled[table as usize])
    }
}

/// Fjall makes a new database where this file is missing.
fn check_marker(data: &Path, looks: &mut Looks<'_>) {
    let path = data.join("version");
    match std::fs::read(&path) {
        Ok(bytes) if bytes.starts_with(b"FJL\x03") => {}
        Ok(_) => looks.fault(Fault::file(&path, "it does not name the version of the tables")),
        Err(error) => looks.fault(Fault::file(&path, error)),
    }
}

fn load_tree(keyspaces: &Path, id: u64, looks: &mut Looks<'_>) -> Tree {
    Tree::load(&keyspaces.join(id.to_string()), looks)
}

/// The number of each table's keyspace, as keyspace 0 lists them.
fn keyspace_ids(dir: &Path, looks: &mut Looks<'_>) -> [u64; Table::COUNT] {
    let tree = Tree::load(dir, looks);
    let mut ids = [0; Table::COUNT];
    let mut items = Items::new(&tree.tables, &[]);
    for row in &mut items {
        let Some(id) = row.key.strip_prefix(b"n").and_then(|id| id.try_into().ok()).map(u64::from_be_bytes) else {
            continue;
        };
        match Table::ALL.into_iter().find(|table| table.name().as_bytes() == &*row.value) {
            Some(table) => ids[table as usize] = id,
            None => looks.fault(Fault::file(dir, format_args!("keyspace {id} is no table of this version"))),
        }
    }
    looks.faults.append(&mut items.faults);
    for (table, fixed) in Table::ALL.into_iter().zip(1..) {
        if ids[table as usize] == 0 {
            looks.fault(Fault::file(dir, format_args!("the keyspace of table {table} is not listed")));
            ids[table as usize] = fixed; // they are made in this order
        }
    }
    ids
}

/// Which commit the table files know as the last of their table.
fn newest_link(table: Table, tree: &Tree) -> Result<Option<Link>, Fault> {
    let key = Slice::from(keys::LINK);
    let mut newest = None;
    for (path, file) in &tree.tables {
        let found = items::guarded(|| link_in(file, &key)).map_err(|why| Fault::file(path, why))?;
        newest = newest.max(found.map(|(seqno, value)| (seqno, value.to_vec())));
    }
    let decoded = newest.map(|(_, value)| values::decode_link(table, &value)).transpose();
    decoded.map_err(|error| Fault { path: None, what: error.to_string(), is_loss: false })
}

fn link_in(file: &TableFile, key: &Slice) -> lsm_tree::Result<Option<(u64, Slice)>> {
    let mut newest: Option<(u64, Slice)> = None;
    for item in file.range(key.clone()..=key.clone()) {
        let item = item?;
        if newest.as_ref().is_none_or(|(seqno, _)| *seqno < item.key.seqno) {
            newest = Some((item.key.seqno, item.value));
        }
    }
    Ok(newest)
}

/// Leaves half of the last batch, as a torn write would.
#[cfg(feature = "failpoints")]
pub(crate) fn tear_last_batch(data: &Path) {
    use std::os::unix::fs::FileExt;
    let tear = || -> io::Result<()> {
        let Some((id, path)) = journal::list(data)?.pop() else { return Ok(()) };
        let mut journal = Journal::open(id, &path)?;
        let mut last = None;
        while let Next::Batch(batch) = journal.next()? {
            last = Some((batch.at, batch.end));
        }
        let Some((at, end)) = last else { return Ok(()) };
        let middle = at + (end - at) / 2;
        OpenOptions::new().write(true).open(&path)?.write_all_at(&vec![0; (end - middle) as usize], middle)
    };
    tear().unwrap_or_else(|error| panic!("tearing the last batch: {error}"));
}
