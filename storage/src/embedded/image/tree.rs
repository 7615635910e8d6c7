//! One keyspace of fjall on the disk: which table files belong to it, and whether they are whole.
//!
//! ```text
//! keyspaces/K/current    version u64, xxh3-128 of the file of this version, 0
//! keyspaces/K/vN         an archive; its section `tables` lists the table files with their checksums
//! keyspaces/K/tables/ID  an archive: sorted blocks, index, filter, meta data
//! ```
//! Fjall keeps the checksums of `current` and of the table files but never looks at them, deletes table files that the
//! version does not list, and deletes the whole keyspace if `current` is missing: so this looks before fjall does.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use lsm_tree::{Checksum, Table as TableFile};
use xxhash_rust::xxh3::xxh3_128;

use super::{Fault, Looks, archive};
use crate::embedded::engine::panic_text;

/// Largest list of table files that is read, in bytes: a million of them.
const VERSION_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A keyspace.
pub(crate) struct Tree {
    /// Its table files that could be opened, with their paths.
    pub(crate) tables: Vec<(PathBuf, TableFile)>,
}

/// A table file as the version lists it.
struct Listed {
    id: u64,
    checksum: u128,
    global_seqno: u64,
}

impl Tree {
    /// Looks at the keyspace in `dir`. What is wrong goes to `looks`; what can be opened is opened all the same.
    pub(crate) fn load(dir: &Path, looks: &mut Looks<'_>) -> Self {
        let listed = match version(dir) {
            Ok(listed) => listed,
            Err(fault) => {
                looks.fault(fault);
                if looks.salvage { all_files(dir) } else { Vec::new() }
            }
        };
        // The newest first: they have the highest numbers, and the budget for reading them whole may run out.
        let mut listed = listed;
        listed.sort_unstable_by_key(|table| std::cmp::Reverse(table.id));
        let mut tables = Vec::new();
        for table in listed {
            let path = dir.join("tables").join(table.id.to_string());
            match look(&path, &table, looks) {
                Ok(opened) => tables.push((path, opened)),
                Err(why) => looks.fault(Fault::file(&path, why)),
            }
        }
        Self { tables }
    }
}

/// The table files that make up the keyspace.
fn version(dir: &Path) -> Result<Vec<Listed>, Fault> {
    let current = dir.join("current");
    let bytes = fs::read(&current).map_err(|error| Fault::file(&current, error))?;
    let wrong = || Fault::file(&current, "it does not name a version");
    let (id, rest) = bytes.split_first_chunk::<8>().ok_or_else(wrong)?;
    let (sum, rest) = rest.split_first_chunk::<16>().ok_or_else(wrong)?;
    if rest != [0] {
        return Err(wrong());
    }
    let path = dir.join(format!("v{}", u64::from_le_bytes(*id)));
    let fault = |why: &str| Fault::file(&path, why);
    let file = File::open(&path).map_err(|error| Fault::file(&path, error))?;
    let len = file.metadata().map_err(|error| Fault::file(&path, error))?.len();
    if len > VERSION_BYTES_MAX {
        return Err(fault("it is longer than it can be"));
    }
    let bytes = fs::read(&path).map_err(|error| Fault::file(&path, error))?;
    if xxh3_128(&bytes) != u128::from_le_bytes(*sum) {
        return Err(fault("wrong checksum"));
    }
    let sections = archive::sections(&file).map_err(|error| Fault::file(&path, error))?.map_err(fault)?;
    let tables = sections.iter().find(|(name, ..)| name == b"tables");
    let section = tables.and_then(|(_, at, len)| bytes.get(*at as usize..(*at + *len) as usize));
    section.and_then(listed).ok_or_else(|| fault("its list of tables makes no sense"))
}

/// Levels of runs of tables.
fn listed(mut bytes: &[u8]) -> Option<Vec<Listed>> {
    let mut take = |len: usize| {
        let (taken, rest) = bytes.split_at_checked(len)?;
        bytes = rest;
        Some(taken.iter().rev().fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte)))
    };
    let mut tables = Vec::new();
    for _ in 0..take(1)? {
        for _ in 0..take(1)? {
            for _ in 0..take(4)? {
                let id = take(8)? as u64;
                if take(1)? != 0 {
                    return None;
                }
                tables.push(Listed { id, checksum: take(16)?, global_seqno: take(8)? as u64 });
            }
        }
    }
    Some(tables)
}

/// Every file that may be a table, for what can still be read when the list is lost. Files that were no longer listed
/// hold older values, which lose against the newer ones.
fn all_files(dir: &Path) -> Vec<Listed> {
    let Ok(found) = fs::read_dir(dir.join("tables")) else { return Vec::new() };
    let ids = found.filter_map(|found| found.ok()?.file_name().to_str()?.parse().ok());
    ids.map(|id| Listed { id, checksum: 0, global_seqno: 0 }).collect()
}

/// Looks at a table file and opens it.
fn look(path: &Path, listed: &Listed, looks: &mut Looks<'_>) -> Result<TableFile, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let whole = |error: io::Error| error.to_string();
    let sections = archive::sections(&file).map_err(whole)?.map_err(str::to_owned)?;
    if !sections.iter().any(|(name, ..)| name == b"meta") {
        return Err("it is no table".to_owned());
    }
    let len = file.metadata().map_err(whole)?.len();
    if listed.checksum != 0 && looks.may_read(len) {
        let sum = archive::checksum(&file, looks.step).map_err(whole)?;
        if sum != listed.checksum {
            let why = "wrong checksum";
            if !looks.salvage {
                return Err(why.to_owned());
            }
            looks.fault(Fault::file(path, why)); // the blocks that are sound can still be read
        }
    }
    drop(file);
    let checksum = Checksum::from_raw(listed.checksum);
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let (cache, files) = looks.caches();
        TableFile::recover(
            path.to_owned(),
            checksum,
            listed.global_seqno,
            looks.number(),
            cache,
            Some(files),
            false,
            false,
        )
    }));
    let table = opened.map_err(|panic| panic_text(&*panic))?.map_err(|error| error.to_string())?;
    if table.id() != listed.id && listed.checksum != 0 {
        let why = format!("it is table {}, another one", table.id());
        if !looks.salvage {
            return Err(why);
        }
        looks.fault(Fault::file(path, why));
    }
    Ok(table)
}
