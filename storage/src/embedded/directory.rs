//! The data directory: who owns it, what it is, and whether this build can read it.
//!
//! ```text
//! DIR/roost.json    what this directory is: format version, random id, whether it was finished
//! DIR/LOCK          held by flock while a process has the store open; holds that process's id
//! DIR/data/         the tables
//! DIR/acknowledged  what was acknowledged last (see `ledger`)
//! DIR/secrets/NAME  keys kept beside them, mode 0600
//! ```
//! Invariants:
//! - a directory that is not ours, is newer or makes no sense is refused before anything is written into it;
//! - `roost.json` says `"ready": true` only after the tables were made: before that nothing was ever acknowledged,
//!   so that an unfinished directory may be made anew; afterwards missing tables are damage.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::failpoint::{failpoint, torn};
use super::files;

/// The format that this build writes.
const FORMAT: u32 = 2;
/// The format without links, mark and checksums; opening a store of it brings it to [`FORMAT`].
const FORMAT_BEFORE: u32 = 1;
/// Names under which a repair has the tables while it puts others in their place.
pub(crate) const TABLES_ASIDE: [&str; 2] = ["data.damaged", "data.repaired"];
/// Largest `roost.json` that is read, in bytes.
const MANIFEST_BYTES_MAX: u64 = 64 * 1024;

/// Why a data directory could not be opened. Nothing was written into it but the lock, save for
/// [`OpenError::Io`] and for damage that only the engine found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "the data directory {} is in use by {holder}: stop that process, or give this one another directory",
        dir.display()
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// "process 123", or "another process" if it has not said yet.
        holder: String,
    },
    /// A newer Roost wrote it.
    #[error(
        "the data directory {} has format {found}, this build reads up to format {FORMAT}: run a newer roost, or restore \
         a backup made by this one", dir.display()
    )]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The directory holds something, but no store.
    #[error(
        "the directory {} is not empty and holds no roost.json, so it is no data directory of roost: choose an empty or \
         a new one", dir.display()
    )]
    Foreign {
        /// The directory.
        dir: PathBuf,
    },
    /// What is in the directory makes no sense, or less is in it than was acknowledged.
    #[error(
        "the data directory {0} is damaged: {what}. `roost store check {0}` lists what is wrong, \
         `roost store repair {0}` keeps what is sound; or restore a backup", dir.display()
    )]
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The operating system said no.
    #[error("the data directory {}: {source}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What `roost.json` says. Unknown fields are kept out: a format that needs more has another number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    store: String,
    made_by: String,
    ready: bool,
}

/// Only the part that every version has.
#[derive(Deserialize)]
struct AnyManifest {
    format: u64,
}

/// A data directory held by this process. Dropping it lets the next one in.
#[derive(Debug)]
pub(crate) struct Directory {
    dir: PathBuf,
    manifest: Manifest,
    /// Locked while open.
    _lock: File,
}

impl Directory {
    /// Takes the directory, makes it if need be.
    pub(crate) fn take(dir: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { dir: dir.to_owned(), source };
        make_dir(dir).map_err(io)?;
        look(dir)?; // refuse before the lock file is touched
        Self::take_made(dir)
    }

    fn take_made(dir: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { dir: dir.to_owned(), source };
        let lock = lock(dir)?;
        let manifest = match look(dir)? {
            Some(manifest) => manifest,
            None => begin(dir).map_err(io)?,
        };
        let taken = Self { dir: dir.to_owned(), manifest, _lock: lock };
        if !taken.manifest.ready {
            taken.clear().map_err(io)?;
        }
        Ok(taken)
    }

    /// Takes a directory that holds a store, however damaged, and makes none. If `roost.json` cannot be used, the second
    /// value says why, and what it should have said is guessed.
    ///
    /// # Errors
    /// [`OpenError::Foreign`] if there is no store, and those of [`Self::take`] but for damage.
    pub(crate) fn take_damaged(dir: &Path) -> Result<(Self, Option<String>), OpenError> {
        let io = |source| OpenError::Io { dir: dir.to_owned(), source };
        fs::metadata(dir).map_err(io)?;
        let holds_tables = || TABLES_ASIDE.iter().chain(&["data"]).any(|name| dir.join(name).is_dir());
        match look(dir) {
            Err(OpenError::Foreign { .. }) | Ok(None) if !holds_tables() => {
                return Err(OpenError::Foreign { dir: dir.to_owned() });
            }
            Err(error @ (OpenError::Newer { .. } | OpenError::Io { .. })) => return Err(error),
            _ => {}
        }
        let lock = lock(dir)?;
        let (manifest, why) = match look(dir) {
            Ok(Some(manifest)) => (manifest, None),
            Err(OpenError::Damaged { what, .. }) => (Self::guess(dir).map_err(io)?, Some(what)),
            Ok(None) | Err(OpenError::Foreign { .. }) => {
                (Self::guess(dir).map_err(io)?, Some("roost.json is missing".to_owned()))
            }
            Err(error) => return Err(error),
        };
        Ok((Self { dir: dir.to_owned(), manifest, _lock: lock }, why))
    }

    fn guess(dir: &Path) -> io::Result<Manifest> {
        let format = if super::ledger::path(dir).exists() { FORMAT } else { FORMAT_BEFORE };
        Ok(Manifest { format, ready: true, ..new_manifest()? })
    }

    /// True once the tables were made; they must exist then.
    pub(crate) fn ready(&self) -> bool {
        self.manifest.ready
    }

    /// True if its tables have links and its acknowledged commits a watermark.
    pub(crate) fn is_linked(&self) -> bool {
        self.manifest.format >= FORMAT
    }

    /// Says that the tables were made, in the format of this build.
    pub(crate) fn set_ready(&mut self) -> Result<(), OpenError> {
        (self.manifest.ready, self.manifest.format) = (true, FORMAT);
        let written = || {
            write(&self.dir, &self.manifest)?;
            failpoint!(ManifestReady);
            Ok(())
        };
        written().map_err(|source| OpenError::Io { dir: self.dir.clone(), source })
    }

    /// Random id of the store, 32 hexadecimal digits.
    pub(crate) fn store_id(&self) -> &str {
        &self.manifest.store
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Where the watermark of what was acknowledged is.
    pub(crate) fn ledger(&self) -> PathBuf {
        super::ledger::path(&self.dir)
    }

    pub(crate) fn damaged(&self, what: impl Into<String>) -> OpenError {
        OpenError::Damaged { dir: self.dir.clone(), what: what.into() }
    }

    /// Removes tables that were begun and never finished.
    fn clear(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.data()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => files::sync_dir(&self.dir)?,
        }
        failpoint!(Clear);
        Ok(())
    }
}

/// Makes `dir`; its name is durable afterwards.
fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    failpoint!(DirMake);
    if let Some(parent) = dir.canonicalize()?.parent() {
        files::sync_dir(parent)?;
    }
    failpoint!(DirSync);
    Ok(())
}

/// What the directory is: `None` if it is empty, or was left by a first start that died early.
fn look(dir: &Path) -> Result<Option<Manifest>, OpenError> {
    let io = |source| OpenError::Io { dir: dir.to_owned(), source };
    let damaged = |what: String| OpenError::Damaged { dir: dir.to_owned(), what };
    let mut bytes = Vec::new();
    match File::open(dir.join("roost.json")) {
        Ok(file) => file.take(MANIFEST_BYTES_MAX).read_to_end(&mut bytes).map_err(io)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if is_new(dir).map_err(io)? { Ok(None) } else { Err(OpenError::Foreign { dir: dir.to_owned() }) };
        }
        Err(error) => return Err(io(error)),
    };
    let unreadable = |error: serde_json::Error| damaged(format!("roost.json cannot be read ({error})"));
    let any: AnyManifest = serde_json::from_slice(&bytes).map_err(unreadable)?;
    if any.format > u64::from(FORMAT) {
        return Err(OpenError::Newer { dir: dir.to_owned(), found: any.format });
    }
    if any.format != u64::from(FORMAT) && any.format != u64::from(FORMAT_BEFORE) {
        return Err(damaged(format!("roost.json names format {}, which never was", any.format)));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(unreadable)
}

/// True if `dir` holds nothing but what a first start writes before `roost.json`.
fn is_new(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if name != "LOCK" && name != "roost.json.tmp" && name != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Takes the lock and writes our process id into it.
fn lock(dir: &Path) -> Result<File, OpenError> {
    let io = |source| OpenError::Io { dir: dir.to_owned(), source };
    let path = dir.join("LOCK");
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(io)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            let holder = match holder.trim().parse::<u32>() {
                Ok(pid) => format!("process {pid}"),
                Err(_) => "another process".to_owned(),
            };
            return Err(OpenError::Locked { dir: dir.to_owned(), holder });
        }
        Err(error) => return Err(io(error.into())),
    }
    sign(&mut file).map_err(io)?;
    Ok(file)
}

/// Writes our process id into the lock file.
fn sign(file: &mut File) -> io::Result<()> {
    failpoint!(LockOpen);
    file.set_len(0)?;
    file.rewind()?;
    let id = format!("{}\n", std::process::id());
    torn!(LockSign, id.as_bytes(), |bytes: &[u8]| file.write_all(bytes))?;
    failpoint!(LockSign);
    Ok(())
}

/// Writes the first `roost.json`.
fn begin(dir: &Path) -> io::Result<Manifest> {
    let manifest = new_manifest()?;
    write(dir, &manifest)?;
    failpoint!(ManifestBegin);
    Ok(manifest)
}

fn new_manifest() -> io::Result<Manifest> {
    Ok(Manifest {
        format: FORMAT,
        store: files::to_hex(&files::random::<16>()?),
        made_by: format!("roost {}", env!("CARGO_PKG_VERSION")),
        ready: false,
    })
}

fn write(dir: &Path, manifest: &Manifest) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(manifest)?;
    text.push(b'\n');
    files::write_whole(&dir.join("roost.json"), &text)
}
