//! A copy of the data directory beside it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Progress, RepairError};
use crate::embedded::failpoint::failpoint;
use crate::embedded::files;

/// Bytes that must stay free beside what is needed: the journal of the new tables.
const SPARE_BYTES: u64 = 64 * 1024 * 1024;
/// `st_blocks` counts these.
const BLOCK_BYTES: u64 = 512;

/// Copies `dir` if `wanted`, after looking whether there is room for that and for the new tables.
pub(super) fn make(dir: &Path, wanted: bool, progress: Progress<'_>) -> Result<Option<PathBuf>, RepairError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| RepairError::Io { path, source }
    };
    let dir = dir.canonicalize().map_err(failed(dir))?;
    let all = list(&dir).map_err(failed(&dir))?;
    let held: u64 = all.iter().map(|(_, bytes)| bytes).sum();
    let needed_bytes = if wanted { 2 * held } else { held } + SPARE_BYTES;
    let disk = rustix::fs::statvfs(&dir).map_err(|error| failed(&dir)(error.into()))?;
    let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free_bytes < needed_bytes {
        return Err(RepairError::NoRoom { dir, needed_bytes, free_bytes });
    }
    if !wanted {
        return Ok(None);
    }
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut name = dir.clone().into_os_string();
    name.push(format!(".before-repair-{seconds}"));
    let backup = free_name(Path::new(&name));
    copy(&dir, &backup, &all, progress).map_err(failed(&backup))?;
    Ok(Some(backup))
}

/// A name that is not taken: two repairs may fall into one second.
fn free_name(wanted: &Path) -> PathBuf {
    let mut name = wanted.to_owned();
    for number in 2..1000 {
        if !name.exists() {
            break;
        }
        let mut next = wanted.to_owned().into_os_string();
        next.push(format!("-{number}"));
        name = PathBuf::from(next);
    }
    name
}

/// The files below `dir` with the bytes they take on the disk.
fn list(dir: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let (mut all, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(next) = dirs.pop() {
        for found in fs::read_dir(next)? {
            let found = found?;
            let meta = found.metadata()?;
            if meta.is_dir() {
                dirs.push(found.path());
            } else if meta.is_file() {
                all.push((found.path(), meta.blocks() * BLOCK_BYTES));
            }
        }
    }
    Ok(all)
}

fn copy(dir: &Path, backup: &Path, all: &[(PathBuf, u64)], progress: Progress<'_>) -> io::Result<()> {
    let mut done = 0;
    let mut dirs = vec![backup.to_owned()];
    for (path, bytes) in all {
        let to = backup.join(path.strip_prefix(dir).map_err(io::Error::other)?);
        let folder = to.parent().unwrap_or(backup);
        fs::create_dir_all(folder)?;
        if !dirs.iter().any(|dir| dir == folder) {
            dirs.push(folder.to_owned());
        }
        fs::copy(path, &to)?;
        File::open(&to)?.sync_all()?;
        failpoint!(BackupCopy);
        done += bytes;
        progress("bytes copied", done);
    }
    dirs.iter().try_for_each(|dir| files::sync_dir(dir))?;
    failpoint!(BackupDone);
    Ok(())
}
