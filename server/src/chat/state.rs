//! Who one was: token, sync state and unsent messages, per server and name.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use roost_client::{Client, FileOutbox, Resume};

/// The state of one person on one server.
pub(crate) struct State {
    /// `None`: nothing is kept.
    files: Option<Files>,
}

struct Files {
    /// Without an ending.
    base: PathBuf,
    /// Held while the chat lives. `None`: another chat of the same person holds it, this one only reads.
    lock: Option<File>,
}

impl State {
    /// Keeps nothing.
    pub(crate) const fn none() -> Self {
        Self { files: None }
    }

    /// The state of `name` on `server`.
    pub(crate) fn open(server: &str, name: &str) -> anyhow::Result<Self> {
        let dir = directory().context("neither XDG_STATE_HOME nor HOME is set: use --token")?;
        Self::open_in(&dir, server, name)
    }

    fn open_in(dir: &Path, server: &str, name: &str) -> anyhow::Result<Self> {
        let cannot = || format!("cannot use {} for the state of the chat", dir.display());
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(cannot)?;
        let base = dir.join(file_name(server, name));
        let lock = private(&base.with_extension("lock")).with_context(cannot)?;
        let lock = match lock.try_lock() {
            Ok(()) => Some(lock),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
        };
        Ok(Self { files: Some(Files { base, lock }) })
    }

    /// What an earlier chat left. A second chat at the same time is another device of the same person.
    pub(crate) fn resume(&self) -> anyhow::Result<Resume> {
        let Some(files) = &self.files else { return Ok(Resume::default()) };
        let path = files.base.with_extension("json");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Resume::default()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let resume: Resume = serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged: delete it to enter as a new guest", path.display()))?;
        Ok(match files.lock {
            Some(_) => resume,
            None => Resume { device: String::new(), ..resume },
        })
    }

    /// Where unsent messages are kept; `None` if they are not.
    pub(crate) fn outbox(&self) -> io::Result<Option<FileOutbox>> {
        match &self.files {
            Some(Files { base, lock: Some(_) }) => FileOutbox::open(&base.with_extension("outbox")).map(Some),
            _ => Ok(None),
        }
    }

    /// Saves what `client` needs to come back. That it cannot is told, and no reason to stop chatting.
    pub(crate) async fn save(&self, client: &Client) {
        let Some(Files { base, lock: Some(_) }) = &self.files else { return };
        let Some(resume) = client.resume().await else { return };
        let path = base.with_extension("json");
        if let Err(error) = replace(&path, &resume) {
            tracing::warn!(%error, path = %path.display(), "the state of the chat cannot be saved");
        }
    }

    /// The person is not known to the server any more.
    pub(crate) fn forget(&mut self) -> anyhow::Result<()> {
        let Some(Files { base, lock: Some(_) }) = &self.files else { return Ok(()) };
        for ending in ["json", "outbox"] {
            let path = base.with_extension(ending);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot delete {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn directory() -> Option<PathBuf> {
    let absolute = |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("roost"))
}

/// Readable, and different for different pairs.
fn file_name(server: &str, name: &str) -> String {
    let server = server.split_once("://").map_or(server, |(_, rest)| rest).trim_end_matches('/');
    let plain = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).take(40).collect()
    };
    // FNV-1a: names that look alike once written plainly stay apart.
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mark = format!("{server}\n{name}").bytes().fold(0xcbf2_9ce4_8422_2325, hash);
    format!("{}-{}-{mark:016x}", plain(server), plain(name))
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Writes beside and renames: a reader sees the old state or the new one.
fn replace(path: &Path, resume: &Resume) -> io::Result<()> {
    let beside = path.with_extension("new");
    // A leftover might have other rights.
    let _ = std::fs::remove_file(&beside);
    let mut file = private(&beside)?;
    file.write_all(serde_json::to_string(resume)?.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn names_that_look_alike_have_files_of_their_own() {
        let name = |server, name| file_name(server, name);
        assert_ne!(name("http://h:1", "Ada B"), name("http://h:1", "Ada_B"));
        assert_ne!(name("http://h:1", "Ada"), name("http://h:2", "Ada"));
        assert_eq!(name("http://h:1", "Ada"), name("ws://h:1/", "Ada"), "the same server");
        assert!(!name("http://h:1", "../../etc").contains('/'));
    }

    #[test]
    fn state_is_private_and_comes_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = State::open_in(dir.path(), "http://h:1", "Ada").expect("opens");
        assert_eq!(state.resume().expect("reads"), Resume::default());
        let resume = Resume { token: "t".into(), device: "d".into(), ..Resume::default() };
        let path = state.files.as_ref().expect("files").base.with_extension("json");
        replace(&path, &resume).expect("writes");
        assert_eq!(std::fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(state.resume().expect("reads"), resume);
        let second = State::open_in(dir.path(), "http://h:1", "Ada").expect("opens");
        assert_eq!(second.resume().expect("reads"), Resume { device: String::new(), ..resume }, "another device");
        assert!(second.outbox().expect("none").is_none());
        drop(state);
        let mut third = State::open_in(dir.path(), "http://h:1", "Ada").expect("opens");
        third.forget().expect("deletes");
        assert_eq!(third.resume().expect("reads"), Resume::default());
    }
}
