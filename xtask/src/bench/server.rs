//! The servers, started afresh for each measurement.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::steps::target;

/// How long a server may take until it listens.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The one of this house.
    Roost,
    /// The one of benches/src/bin/baseline.rs.
    Baseline,
    /// The one of this house, with `/echo` and compression.
    Echo,
}

impl Kind {
    /// As the results call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Roost | Self::Echo => "roost",
            Self::Baseline => "baseline",
        }
    }

    /// What it is started with, in `folder`.
    fn command(self, folder: &Path) -> Command {
        let mut command = Command::new(program(self.name()));
        if self == Self::Roost {
            // One client sends the broadcasts, and 256 all of the durable sends: the limit of a person is off.
            command.args([
                "serve",
                "--admin",
                "127.0.0.1:0",
                "--sends-per-second",
                "0",
                "--frames-per-second",
                "0",
                "--log",
                "warn",
            ]);
            command.arg("--data").arg(folder.join("data"));
        }
        if self == Self::Echo {
            command.args(["serve", "--admin", "127.0.0.1:0", "--bench-paths", "--compression", "on", "--log", "warn"]);
            command.arg("--data").arg(folder.join("data"));
        }
        command.args(["--listen", "127.0.0.1:0", "--ready-file"]).arg(ready_file(folder));
        command
    }

    /// What `roost-load` is told of a server that runs in `folder`.
    fn describe(self, folder: &Path, load: &mut Command) {
        match self {
            Self::Roost | Self::Echo => load.arg("--token-key").arg(folder.join("data/secrets/token-key")),
            Self::Baseline => load.args(["--protocol", "plain"]),
        };
    }
}

/// A server that listens. It ends with this value.
pub(crate) struct Running {
    kind: Kind,
    child: Child,
    folder: PathBuf,
    address: String,
}

impl Running {
    /// Starts it in `folder`, which is emptied first, and waits until it listens.
    pub(crate) fn start(kind: Kind, folder: &Path) -> anyhow::Result<Self> {
        if folder.exists() {
            std::fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut command = kind.command(folder);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let mut server = Self { kind, child, folder: folder.to_owned(), address: String::new() };
        let started = Instant::now();
        while server.address.is_empty() {
            if let Some(status) = server.child.try_wait()? {
                bail!("{} ended before it listened: {status}", kind.name());
            }
            if started.elapsed() > READY_WITHIN {
                bail!("{} does not listen", kind.name());
            }
            std::thread::sleep(Duration::from_millis(20));
            if let Ok(text) = std::fs::read_to_string(ready_file(folder)) {
                let ready: Value = serde_json::from_str(&text).context("the ready file is no JSON")?;
                ready["listen"].as_str().context("the ready file names no address")?.clone_into(&mut server.address);
            }
        }
        Ok(server)
    }

    /// Where it listens: address and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Puts it under load with `args`; returns the report, and whether the generator was the limit.
    pub(crate) fn load(&self, args: &[&str]) -> anyhow::Result<(Value, bool)> {
        let mut load = Command::new(program("roost-load"));
        load.args(args).arg("--quiet").arg("--target").arg(format!("http://{}/", self.address));
        load.arg("--server-pid").arg(self.child.id().to_string()).arg("--out").arg(&self.folder);
        self.kind.describe(&self.folder, &mut load);
        println!("{load:?}");
        let status = load.status().with_context(|| format!("cannot start {load:?}"))?;
        let generator_was_the_limit = status.code() == Some(5);
        if !status.success() && !generator_was_the_limit {
            bail!("{load:?} ended with {status}");
        }
        let text = std::fs::read_to_string(self.folder.join("report.json")).context("there is no report")?;
        Ok((serde_json::from_str(&text).context("the report is no JSON")?, generator_was_the_limit))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing in its folder that anybody needs.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(self.folder.join("data"));
    }
}

fn ready_file(folder: &Path) -> PathBuf {
    folder.join("ready.json")
}

/// A program as `cargo build --release` left it.
fn program(name: &str) -> PathBuf {
    target().join("release").join(name)
}
