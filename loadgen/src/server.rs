//! A server of our own: this binary again, as a child process, so that what it uses can be told apart from us.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use roost_storage::EmbeddedStore;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

/// First argument that makes this binary be the `roost` binary.
pub(crate) const AS_ROOST: &str = "__roost";
/// Settings of every server of ours: it says what goes wrong, and is gone soon.
const USUAL: &[&str] = &["--log", "warn", "--drain-window", "0s", "--drain-deadline", "1s"];
/// Flags of a server that is to take whatever the run sends.
pub(crate) const NO_LIMITS: &[&str] = &["--sends-per-second", "0", "--frames-per-second", "0"];
/// Flags of a server that starts anew in the middle: it leaves its clients time to go, each at its own moment.
pub(crate) const DEPLOYED: &[&str] = &["--drain-window", "1s", "--drain-deadline", "2s"];
/// Flags of a server that is to defend itself: as it comes, but for the addresses. The load that means well stands for
/// what comes through a proxy; everybody else on this machine is a stranger.
pub(crate) const DEFENDED: &[&str] = &["--addresses-exempt", "127.0.0.1", "--compression", "on"];
/// How long the server may take to start.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// How long it may take to stop before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// What the server writes once it is ready.
const READY: &str = "ready.json";
/// The names of data directories begin with this; the process id of their maker follows.
const FOLDER: &str = "server-data-";

/// A running server and its data, which is removed with it.
pub(crate) struct OwnServer {
    child: Child,
    folder: PathBuf,
    /// Its settings but for its addresses.
    settings: Vec<String>,
    /// Where a deploy stands.
    deploying: Option<Deploying>,
    pub listen: SocketAddr,
    /// Where it speaks QUIC, if it does.
    pub quic: Option<SocketAddr>,
    pub admin: SocketAddr,
}

/// See [`OwnServer::deploy`].
#[derive(Clone, Copy, Debug)]
enum Deploying {
    /// It was asked to, then.
    Leaves(Instant),
    /// The next one was begun then.
    Starts(Instant),
}

/// What the server writes once it is ready.
#[derive(Deserialize)]
struct Ready {
    listen: SocketAddr,
    quic: Option<SocketAddr>,
    admin: SocketAddr,
}

impl OwnServer {
    /// Starts a server with its data below `out`, which should be on a real disk: sends are as fast as its fsync.
    /// `usual` are settings with their values, one after the other, for those that `given` does not name.
    pub(crate) fn start(out: &Path, usual: &[&str], given: &[&str]) -> anyhow::Result<Self> {
        remove_stale(out);
        let folder = out.join(format!("{FOLDER}{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let named = [usual, given].concat();
        let settings = [without(USUAL, &named), without(usual, given), given.to_vec()].concat();
        let settings: Vec<String> = settings.into_iter().map(str::to_owned).collect();
        let unset = SocketAddr::from(([127, 0, 0, 1], 0));
        let child = spawn(&folder, unset, unset, &settings)?;
        let mut server = Self { child, folder, settings, deploying: None, listen: unset, quic: None, admin: unset };
        let began = Instant::now();
        let told = loop {
            if let Some(told) = server.is_ready(began)? {
                break told;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        (server.listen, server.quic, server.admin) = (told.listen, told.quic, told.admin);
        Ok(server)
    }

    /// Asks the server to leave, and starts it anew at the same addresses with the same data. To be called again and again until it
    /// tells the process that is ready then, by the thread that started the first one: a server does not outlive that.
    ///
    /// # Errors
    /// It does not start again.
    pub(crate) fn deploy(&mut self) -> anyhow::Result<Option<u32>> {
        let ended = self.has_ended();
        match self.deploying {
            None => {
                self.terminate();
                self.deploying = Some(Deploying::Leaves(Instant::now()));
            }
            Some(Deploying::Leaves(since)) if ended || since.elapsed() > STOP_WITHIN => {
                self.stop();
                let _ = std::fs::remove_file(self.folder.join(READY));
                self.child = spawn(&self.folder, self.listen, self.admin, &self.settings)?;
                self.deploying = Some(Deploying::Starts(Instant::now()));
            }
            Some(Deploying::Leaves(_)) => {}
            Some(Deploying::Starts(since)) => {
                if let Some(told) = self.is_ready(since)? {
                    (self.quic, self.deploying) = (told.quic, None);
                    return Ok(Some(self.pid()));
                }
            }
        }
        Ok(None)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The key that signs its tokens.
    pub(crate) fn token_key(&self) -> PathBuf {
        EmbeddedStore::secret_path(&self.data(), "token-key")
    }

    /// The certificate it made itself, if it speaks TLS.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.data().join("dev-tls/cert.pem")
    }

    /// How it ended and what it said last, if it ended by itself.
    pub(crate) fn epitaph(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        Some(format!("the server ended during the run ({status}):\n{}", self.last_words()))
    }

    fn last_words(&self) -> String {
        const LINES: usize = 20;
        let log = std::fs::read_to_string(self.folder.join("server.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// What the server told when it was ready; `None`: it is not yet.
    fn is_ready(&mut self, since: Instant) -> anyhow::Result<Option<Ready>> {
        if let Ok(line) = std::fs::read_to_string(self.folder.join(READY)) {
            return serde_json::from_str(&line)
                .map(Some)
                .context("the server told something strange when it was ready");
        }
        if let Some(status) = self.child.try_wait().context("cannot look after the server")? {
            bail!("the server did not start ({status}):\n{}", self.last_words());
        }
        if since.elapsed() > READY_WITHIN {
            bail!("the server was not ready within {} s", READY_WITHIN.as_secs());
        }
        Ok(None)
    }

    /// Asks it to leave.
    fn terminate(&mut self) {
        if !self.has_ended() {
            // Ours by its id, and not waited for yet: the id cannot be another's.
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
    }

    fn stop(&mut self) {
        self.terminate();
        let began = Instant::now();
        while !self.has_ended() {
            if began.elapsed() > STOP_WITHIN {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.stop();
        // What cannot be removed now is removed by the next run.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Starts a server with its data below `folder`.
fn spawn(folder: &Path, listen: SocketAddr, admin: SocketAddr, settings: &[String]) -> anyhow::Result<Child> {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("server.log"));
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command
        .args([AS_ROOST, "serve", "--listen", &listen.to_string(), "--admin", &admin.to_string()])
        .args(settings)
        .arg("--data")
        .arg(folder.join("data"))
        .arg("--ready-file")
        .arg(folder.join(READY))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.context("cannot make the server's log")?);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ROOST_") {
            command.env_remove(name);
        }
    }
    // Ctrl-C in the terminal is for us; the server ends when we have measured it.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().context("cannot start a server")
}

/// `usual` settings, each with its value, but for those that `given` names.
fn without<'a>(usual: &[&'a str], given: &[&str]) -> Vec<&'a str> {
    let named = |name: &str| given.iter().any(|given| given.split('=').next() == Some(name));
    usual.chunks(2).filter(|pair| !named(pair[0])).flatten().copied().collect()
}

/// Removes data directories of runs that were killed.
fn remove_stale(out: &Path) {
    let Ok(entries) = std::fs::read_dir(out) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(FOLDER)?.parse::<i32>().ok());
        let alive = |pid: i32| Pid::from_raw(pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok());
        if pid.is_some_and(|pid| pid > 0 && !alive(pid)) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_stands_in_for_what_is_usual() {
        let usual = ["--log", "warn", "--heartbeat", "60s"];
        assert_eq!(without(&usual, &["--log", "info"]), ["--heartbeat", "60s"]);
        assert_eq!(without(&usual, &["--heartbeat=5s", "--bench-paths"]), ["--log", "warn"]);
        assert_eq!(without(&usual, &[]), usual);
    }

    #[test]
    fn only_what_dead_runs_left_is_removed() {
        let out = tempfile::tempdir().unwrap();
        let folder = |name: String| {
            let path = out.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        // Process ids end far below.
        let stale = folder(format!("{FOLDER}{}", i32::MAX));
        let ours = folder(format!("{FOLDER}{}", std::process::id()));
        let other = folder("server-data-mine".into());
        remove_stale(out.path());
        assert!(!stale.exists() && ours.exists() && other.exists());
    }
}
