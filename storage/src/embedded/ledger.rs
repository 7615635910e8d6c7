//! What was acknowledged, remembered beside the tables: how a lost end is noticed.
//!
//! A journal whose end is gone looks like one that was never longer, so something else has to know. Two things do:
//!
//! - **Links.** Every commit has a number, 1, 2, 3…, and writes into each table it changes a row that holds this
//!   number and the number of the commit that changed this table before. A commit that is missing in between, whatever
//!   file held it, leaves a link that does not fit.
//! - **The watermark**, in the file `acknowledged`: for each table the last commit that was acknowledged. It is written
//!   after a commit is durable and before anybody is answered, into the page cache, and synced once a second and on
//!   closing. After the death of the process it is exact; after a power cut it may be up to a second old, so that what
//!   it says is always a lower bound: a journal that ends before it has lost something.
//!
//! ```text
//! acknowledged = slot 0, at 0; slot 1, at 4096          written in turn, so that one is always whole
//! slot         = "ROOSTACK" turn u64 commit[7] u64 checksum u64, little-endian; commits in the order of `Table::ALL`
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::xxh3_64;

use super::failpoint::{failpoint, torn};
use super::files;
use super::keys::Table;

const MAGIC: &[u8; 8] = b"ROOSTACK";
/// Bytes of a slot.
const SLOT_BYTES: usize = 8 + 8 + 8 * Table::COUNT + 8;
/// Distance of the slots: in two blocks of the disk, so that one torn write cannot hurt both.
const SLOT_STEP: u64 = 4096;
/// Bytes of the file.
const FILE_BYTES: u64 = SLOT_STEP + SLOT_BYTES as u64;
/// How old the watermark on the disk may become while there are commits.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// A table's last change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    /// The number of the commit; 0: none.
    pub(crate) commit: u64,
    /// The number of the commit that changed the table before.
    pub(crate) before: u64,
}

/// The last commit of each table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Commits([u64; Table::COUNT]);

impl Commits {
    pub(crate) fn of(&self, table: Table) -> u64 {
        self.0[table as usize]
    }

    pub(crate) fn set(&mut self, table: Table, commit: u64) {
        self.0[table as usize] = commit;
    }

    /// The last commit of all.
    pub(crate) fn last(&self) -> u64 {
        self.0.into_iter().max().unwrap_or(0)
    }

    /// The next commit, which changes `tables`: the links to write, and what is to be noted then.
    pub(crate) fn next(&self, tables: impl Iterator<Item = Table>) -> (Vec<(Table, Link)>, Self) {
        let (commit, mut after) = (self.last() + 1, *self);
        let links = tables.map(|table| (table, Link { commit, before: self.of(table) })).collect::<Vec<_>>();
        links.iter().for_each(|(table, link)| after.set(*table, link.commit));
        (links, after)
    }
}

/// Where the watermark of a data directory is.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join("acknowledged")
}

/// What was noted last. `Err` says why it cannot be known.
pub(crate) fn read(path: &Path) -> Result<Commits, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let newest = [0, SLOT_STEP].into_iter().filter_map(|at| read_slot(&file, at)).max_by_key(|(turn, _)| *turn);
    newest.map(|(_, commits)| commits).ok_or_else(|| "neither of its two records is whole".to_owned())
}

fn read_slot(file: &File, at: u64) -> Option<(u64, Commits)> {
    let mut slot = [0; SLOT_BYTES];
    file.read_exact_at(&mut slot, at).ok()?;
    let (body, sum) = slot.split_last_chunk::<8>()?;
    if !body.starts_with(MAGIC) || xxh3_64(body) != u64::from_le_bytes(*sum) {
        return None;
    }
    let (numbers, _) = body[MAGIC.len()..].as_chunks::<8>();
    let mut commits = Commits::default();
    for (place, bytes) in numbers.iter().skip(1).enumerate().take(Table::COUNT) {
        commits.0[place] = u64::from_le_bytes(*bytes);
    }
    Some((u64::from_le_bytes(numbers[0]), commits))
}

fn slot(turn: u64, commits: &Commits) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    slot[..8].copy_from_slice(MAGIC);
    slot[8..16].copy_from_slice(&turn.to_le_bytes());
    for (place, commit) in commits.0.iter().enumerate() {
        slot[16 + 8 * place..][..8].copy_from_slice(&commit.to_le_bytes());
    }
    let sum = xxh3_64(&slot[..SLOT_BYTES - 8]);
    slot[SLOT_BYTES - 8..].copy_from_slice(&sum.to_le_bytes());
    slot
}

/// The watermark, open for the one writer.
#[derive(Debug)]
pub(crate) struct Ledger {
    file: File,
    turn: u64,
    commits: Commits,
    synced: Instant,
    dirty: bool,
}

impl Ledger {
    /// Makes the file anew; it is durable afterwards.
    pub(crate) fn make(path: &Path, commits: Commits) -> io::Result<Self> {
        let mut bytes = vec![0; FILE_BYTES as usize];
        bytes[..SLOT_BYTES].copy_from_slice(&slot(1, &commits));
        bytes[SLOT_STEP as usize..].copy_from_slice(&slot(2, &commits));
        torn!(LedgerMake, &bytes, |bytes: &[u8]| files::write_whole(path, bytes))?;
        Self::open(path, commits)
    }

    /// Opens the file, to go on from `commits`, which is no less than it says.
    pub(crate) fn open(path: &Path, commits: Commits) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).mode(0o600).open(path)?;
        let turn = [0, SLOT_STEP].into_iter().filter_map(|at| read_slot(&file, at)).map(|(turn, _)| turn).max();
        Ok(Self { file, turn: turn.unwrap_or(0), commits, synced: Instant::now(), dirty: false })
    }

    pub(crate) fn commits(&self) -> &Commits {
        &self.commits
    }

    /// Notes that these commits are durable. Survives the process at once, the machine after [`Self::sync_if_due`].
    pub(crate) fn note(&mut self, commits: Commits) -> io::Result<()> {
        let turn = self.turn + 1;
        let at = if turn % 2 == 1 { 0 } else { SLOT_STEP };
        torn!(LedgerWrite, &slot(turn, &commits)[..], |bytes: &[u8]| self.file.write_all_at(bytes, at))?;
        failpoint!(LedgerWrite);
        (self.turn, self.commits, self.dirty) = (turn, commits, true);
        Ok(())
    }

    /// Makes the watermark durable if it has not been for a while.
    pub(crate) fn sync_if_due(&mut self) -> io::Result<()> {
        if self.dirty && self.synced.elapsed() >= SYNC_EVERY { self.sync() } else { Ok(()) }
    }

    /// Makes the watermark durable.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        failpoint!(LedgerSync);
        self.file.sync_data()?;
        (self.synced, self.dirty) = (Instant::now(), false);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(number: u64) -> Commits {
        let mut commits = Commits::default();
        Table::ALL.into_iter().for_each(|table| commits.set(table, number + table as u64));
        commits
    }

    #[test]
    fn what_was_noted_last_is_read_and_one_damaged_record_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path());
        let mut ledger = Ledger::make(&path, numbered(1)).unwrap();
        for number in 2..10 {
            ledger.note(numbered(number)).unwrap();
            assert_eq!(read(&path), Ok(numbered(number)));
            let mut bytes = std::fs::read(&path).unwrap();
            let at = if ledger.turn % 2 == 1 { 20 } else { SLOT_STEP as usize + 20 };
            bytes[at] ^= 4;
            let other = dir.path().join("other");
            std::fs::write(&other, bytes).unwrap();
            assert_eq!(read(&other), Ok(numbered(number - 1)), "the older record");
        }
        drop(ledger);
        let mut ledger = Ledger::open(&path, numbered(9)).unwrap();
        ledger.note(numbered(10)).unwrap();
        assert_eq!(read(&path), Ok(numbered(10)), "turns go on after opening");
    }

    #[test]
    fn a_watermark_that_is_missing_cut_or_empty_is_not_taken_for_nothing_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path());
        assert!(read(&path).is_err());
        for bytes in [&b""[..], &[0; FILE_BYTES as usize], b"ROOSTACK"] {
            std::fs::write(&path, bytes).unwrap();
            assert!(read(&path).is_err(), "{} bytes", bytes.len());
        }
    }

    #[test]
    fn links_lead_from_commit_to_commit_of_each_table() {
        let (links, one) = Commits::default().next([Table::Log, Table::System].into_iter());
        assert_eq!(
            links,
            [(Table::Log, Link { commit: 1, before: 0 }), (Table::System, Link { commit: 1, before: 0 })]
        );
        let (_, two) = one.next([Table::System].into_iter());
        let (links, three) = two.next([Table::Log].into_iter());
        assert_eq!(links, [(Table::Log, Link { commit: 3, before: 1 })]);
        assert_eq!((three.last(), three.of(Table::System), three.of(Table::Rows)), (3, 2, 0));
    }
}
