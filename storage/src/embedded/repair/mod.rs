//! Makes a damaged store sound again: writes what can be read into new tables and puts these in place of the old ones.
//!
//! Kept: of each conversation the longest beginning of its log without a gap. Made anew from what is there: heads, index
//! rows, members, names, links, the watermark of what was acknowledged. Told: every seq that is lost.
//!
//! Steps, each of which may be the last one before a crash; beginning again is always right:
//! ```text
//! 1. copy DIR to DIR.before-repair-SECONDS      unless asked not to
//! 2. write DIR/data.repaired
//! 3. rename DIR/data to DIR/data.damaged        from here on the store refuses to open…
//! 4. rename DIR/data.repaired to DIR/data
//! 5. write DIR/acknowledged and DIR/roost.json
//! 6. remove DIR/data.damaged                    …until here
//! ```

mod backup;
mod rebuild;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::check::{Progress, Report, look_through};
use super::directory::{Directory, OpenError, TABLES_ASIDE};
use super::engine::{Engine, EngineError};
use super::failpoint::failpoint;
use super::files;
use super::image::Image;
use super::keys::Table;
use super::ledger::{self, Commits, Ledger};
use super::options::EmbeddedOptions;
use crate::Seq;

/// Entries that are no longer there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// Their conversation.
    pub conv: String,
    /// The first of them.
    pub first: Seq,
    /// The last one that is known of.
    pub last: Seq,
}

/// What a repair did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// What was wrong. If nothing was, nothing was done.
    pub before: Report,
    /// Where the copy of the damaged store is.
    pub backup: Option<PathBuf>,
    /// Entries that are lost, by conversation.
    pub lost: Vec<Lost>,
    /// What was made anew or left out, in words.
    pub notes: Vec<String>,
    /// How much there is now.
    pub after: Report,
}

/// Why a repair did not happen. The store is as it was, unless said otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// It could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The disk has too little room.
    #[error(
        "{} has {free_bytes} bytes free, {needed_bytes} are needed for the copy and the new tables: make room, or say \
         --no-backup if there is a backup already", dir.display()
    )]
    NoRoom {
        /// Where the room is missing.
        dir: PathBuf,
        /// Bytes needed.
        needed_bytes: u64,
        /// Bytes free.
        free_bytes: u64,
    },
    /// There is nothing to make a store of.
    #[error("{}: the tables (the directory `data`) cannot be read at all: restore a backup", dir.display())]
    NothingLeft {
        /// The data directory.
        dir: PathBuf,
    },
    /// The operating system said no. Run the repair again once it no longer does.
    #[error("{}: {source}; nothing is lost, run the repair again", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A fault of the repair: its result is not sound. The damaged store was kept.
    #[error("the repaired store is not sound ({0}); the damaged one is kept: please report this")]
    NotSound(String),
}

/// Repairs the store in `dir`; with `backup` after copying it.
///
/// # Errors
/// [`RepairError`].
pub fn repair(dir: &Path, backup: bool, progress: Progress<'_>) -> Result<Repaired, RepairError> {
    let io = |source| RepairError::Io { path: dir.to_owned(), source };
    let (mut directory, why) = Directory::take_damaged(dir)?;
    undo_unfinished(dir).map_err(io)?;
    let (before, image) = look_through(&directory, why, progress)?;
    if before.is_sound() {
        return Ok(Repaired { after: before.clone(), before, backup: None, lost: Vec::new(), notes: Vec::new() });
    }
    let Some(image) = image else { return Err(RepairError::NothingLeft { dir: dir.to_owned() }) };
    let backup = backup::make(dir, backup, progress)?;
    // Numbers go on above all that was ever acknowledged, so that old and new cannot be mistaken for each other.
    let acknowledged = ledger::read(&directory.ledger()).unwrap_or_default();
    let first = image.commits.last().max(acknowledged.last()) + 1;
    let [aside, fresh] = TABLES_ASIDE.map(|name| dir.join(name));
    let (lost, notes, commits) = build(&image, &fresh, first, progress).map_err(io)?;
    drop(image);
    swap(&mut directory, &aside, &fresh, commits).map_err(io)?;
    let (after, _) = look_through(&directory, None, progress)?;
    // The damaged tables, still aside, are the one problem there may be.
    if after.problems_by_kind.values().sum::<u64>() != 1 {
        let what = after.problems.iter().map(|problem| problem.what.as_str()).collect::<Vec<_>>().join("; ");
        return Err(RepairError::NotSound(what));
    }
    clean(dir, &aside).map_err(io)?;
    let after = Report { counts: after.counts, ..Report::default() };
    Ok(Repaired { before, backup, lost, notes, after })
}

/// Brings back the damaged tables that an unfinished repair had set aside.
fn undo_unfinished(dir: &Path) -> io::Result<()> {
    let (data, [aside, fresh]) = (dir.join("data"), TABLES_ASIDE.map(|name| dir.join(name)));
    if aside.exists() {
        remove(&data)?;
        fs::rename(&aside, &data)?;
    }
    remove(&fresh)?;
    files::sync_dir(dir)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes the new tables.
fn build(
    image: &Image,
    fresh: &Path,
    first: u64,
    progress: Progress<'_>,
) -> io::Result<(Vec<Lost>, Vec<String>, Commits)> {
    failpoint!(RepairBegin);
    let options = EmbeddedOptions { disk_reserve_bytes: 0, ..EmbeddedOptions::default() };
    let engine = Engine::open(fresh, &options).map_err(|error| match error {
        EngineError::Io(error) => error,
        EngineError::Damaged(what) => io::Error::other(what),
    })?;
    let (lost, notes) = rebuild::rebuild(image, &engine, progress)?;
    let mut commits = Commits::default();
    commits.set(Table::System, first - 1);
    let (links, commits) = commits.next(Table::ALL.into_iter());
    // The links of the other tables begin here.
    let links: Vec<_> = links.into_iter().map(|(table, link)| (table, ledger::Link { before: 0, ..link })).collect();
    engine.commit_links(&links).map_err(io::Error::other)?;
    failpoint!(RepairWrite);
    drop(engine);
    files::sync_dir(fresh)?;
    Ok((lost, notes, commits))
}

/// Puts the new tables in place of the old ones.
fn swap(directory: &mut Directory, aside: &Path, fresh: &Path, commits: Commits) -> io::Result<()> {
    let dir = directory.path().to_owned();
    fs::rename(directory.data(), aside)?;
    failpoint!(RepairAside);
    fs::rename(fresh, directory.data())?;
    files::sync_dir(&dir)?;
    failpoint!(RepairPlace);
    Ledger::make(&directory.ledger(), commits)?;
    directory.set_ready().map_err(io::Error::other)?;
    failpoint!(RepairDone);
    Ok(())
}

fn clean(dir: &Path, aside: &Path) -> io::Result<()> {
    remove(aside)?;
    files::sync_dir(dir)?;
    failpoint!(RepairClean);
    Ok(())
}
