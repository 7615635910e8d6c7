//! The servers, started afresh for each measurement.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::steps::{ended_within, target};

/// How long a server may take until it listens.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How long a load may last: many times as long as any does.
const LOADED_WITHIN: Duration = Duration::from_secs(5 * 60);

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The one of this house.
    Roost,
    /// The one of benches/src/bin/baseline.rs.
    Baseline,
    /// The one of this house, with `/echo` and compression.
    Echo,
    /// The same with TLS.
    SecretEcho,
    /// The one of this house, by QUIC and by WebSocket over TLS.
    Secret,
    /// The baseline with TLS.
    SecretBaseline,
    /// The one of benches/src/bin/quinn.rs.
    Quinn,
}

impl Kind {
    /// As the results call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Roost | Self::Echo | Self::SecretEcho | Self::Secret => "roost",
            Self::Baseline | Self::SecretBaseline => "baseline",
            Self::Quinn => "quinn",
        }
    }

    /// What it is started with, in `folder`.
    fn launch(self, folder: &Path) -> Launch {
        let mut command = Command::new(program(self.name()));
        match self {
            Self::Roost | Self::Secret => {
                // One client sends the broadcasts, and 256 all of the durable sends: the limit of a person is off.
                command.args(["serve", "--admin", "127.0.0.1:0", "--log", "warn"]);
                command.args(["--sends-per-second", "0", "--frames-per-second", "0"]);
                command.arg("--data").arg(folder.join("data"));
                if self == Self::Secret {
                    command.arg("--dev-tls");
                }
            }
            Self::Echo | Self::SecretEcho => {
                command.args(["serve", "--admin", "127.0.0.1:0", "--bench-paths", "--compression", "on"]);
                command.args(["--log", "warn", "--data"]).arg(folder.join("data"));
                if self == Self::SecretEcho {
                    command.arg("--dev-tls");
                }
            }
            Self::Baseline => {}
            Self::Quinn | Self::SecretBaseline => {
                command.arg("--cert-file").arg(folder.join("cert.pem"));
            }
        }
        let load = match self {
            Self::Roost | Self::Echo | Self::SecretEcho => {
                vec!["--token-key".into(), folder.join("data/secrets/token-key").into()]
            }
            Self::Secret => {
                let (key, ca) = (folder.join("data/secrets/token-key"), folder.join("data/dev-tls/cert.pem"));
                vec!["--token-key".into(), key.into(), "--ca".into(), ca.into()]
            }
            Self::Quinn => vec!["--ca".into(), folder.join("cert.pem").into()],
            Self::Baseline => vec!["--protocol".into(), "plain".into()],
            Self::SecretBaseline => {
                vec!["--protocol".into(), "plain".into(), "--ca".into(), folder.join("cert.pem").into()]
            }
        };
        let secret = matches!(self, Self::Secret | Self::SecretBaseline | Self::Quinn);
        let scheme = if secret { "https" } else { "http" };
        Launch { scheme, ..Launch::told(command, folder, load) }
    }
}

/// How a server is started, and what a generator is told of it.
pub(crate) struct Launch {
    pub(crate) command: Command,
    pub(crate) ready: Ready,
    /// Of its addresses.
    pub(crate) scheme: &'static str,
    /// Arguments of `roost-load`, its address and process aside.
    pub(crate) load: Vec<OsString>,
}

/// How it is seen that a server listens.
pub(crate) enum Ready {
    /// It writes where into this file.
    File(PathBuf),
    /// It does so where it was told to, once one can connect.
    At(SocketAddr),
}

impl Launch {
    /// A server that takes `--listen` and `--ready-file`, as all of this house do.
    pub(crate) fn told(mut command: Command, folder: &Path, load: Vec<OsString>) -> Self {
        let file = folder.join("ready.json");
        command.args(["--listen", "127.0.0.1:0", "--ready-file"]).arg(&file);
        Self { command, ready: Ready::File(file), scheme: "http", load }
    }
}

/// A server that listens. It ends with this value.
pub(crate) struct Running {
    child: Child,
    folder: PathBuf,
    scheme: &'static str,
    address: String,
    load: Vec<OsString>,
}

impl Running {
    /// Starts it in `folder`, which is emptied first, and waits until it listens.
    pub(crate) fn start(kind: Kind, folder: &Path) -> anyhow::Result<Self> {
        Self::launch(folder, |folder| Ok(kind.launch(folder)))
    }

    /// The same for any server: `launch` may put files into the folder.
    pub(crate) fn launch(folder: &Path, launch: impl FnOnce(&Path) -> anyhow::Result<Launch>) -> anyhow::Result<Self> {
        if folder.exists() {
            std::fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let Launch { mut command, ready, scheme, load } = launch(folder)?;
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let mut server = Self { child, folder: folder.to_owned(), scheme, address: String::new(), load };
        let started = Instant::now();
        while server.address.is_empty() {
            if let Some(status) = server.child.try_wait()? {
                bail!("it ended before it listened: {status}");
            }
            if started.elapsed() > READY_WITHIN {
                bail!("it does not listen");
            }
            std::thread::sleep(Duration::from_millis(20));
            server.address = ready.address()?.unwrap_or_default();
        }
        Ok(server)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its counters, by name, summed over their labels; a name that is not there is 0. Only of Roost.
    pub(crate) fn metrics(&self) -> anyhow::Result<impl Fn(&str) -> f64> {
        let text = std::fs::read_to_string(self.folder.join("ready.json")).context("no ready file")?;
        let ready: Value = serde_json::from_str(&text).context("the ready file is no JSON")?;
        let admin = ready["admin"].as_str().context("the ready file names no admin address")?;
        let mut stream = TcpStream::connect(admin).context("no admin address")?;
        stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        Ok(move |name: &str| {
            let of_name =
                page.lines().filter_map(|line| line.strip_prefix(name)).filter(|rest| rest.starts_with([' ', '{']));
            of_name.filter_map(|rest| rest.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
        })
    }

    /// Where it listens: address and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Puts it under load with `args`; returns the report, and whether the generator was the limit.
    pub(crate) fn load(&self, args: &str) -> anyhow::Result<(Value, bool)> {
        let mut load = Command::new(program("roost-load"));
        load.args(args.split_whitespace());
        println!("{load:?}");
        self.loaded(load, "/")
    }

    /// Puts it under the load of a generator, at `path`.
    pub(crate) fn loaded(&self, mut load: Command, path: &str) -> anyhow::Result<(Value, bool)> {
        load.arg("--quiet").arg("--target").arg(format!("{}://{}{path}", self.scheme, self.address));
        load.arg("--server-pid").arg(self.child.id().to_string()).arg("--out").arg(&self.folder);
        load.args(&self.load);
        let mut loader = load.spawn().with_context(|| format!("cannot start {load:?}"))?;
        let Some(status) = ended_within(&mut loader, LOADED_WITHIN)? else {
            bail!("the load did not end within {} minutes", LOADED_WITHIN.as_secs() / 60);
        };
        let generator_was_the_limit = status.code() == Some(5);
        let text = std::fs::read_to_string(self.folder.join("report.json"));
        let report = text.ok().map(|text| serde_json::from_str::<Value>(&text).context("the report is no JSON"));
        let report = report.transpose()?;
        if !status.success() && !generator_was_the_limit {
            let reasons = report.as_ref().and_then(|report| report["reasons"].as_array()).into_iter().flatten();
            let reasons: Vec<&str> = reasons.filter_map(Value::as_str).collect();
            bail!("roost-load ended with {status}: {}", reasons.join(" "));
        }
        Ok((report.context("there is no report")?, generator_was_the_limit))
    }
}

impl Ready {
    /// Where the server listens; `None`: not yet.
    fn address(&self) -> anyhow::Result<Option<String>> {
        match self {
            Self::File(file) => {
                let Ok(text) = std::fs::read_to_string(file) else { return Ok(None) };
                let ready: Value = serde_json::from_str(&text).context("the ready file is no JSON")?;
                Ok(Some(ready["listen"].as_str().context("the ready file names no address")?.to_owned()))
            }
            Self::At(address) => Ok(TcpStream::connect(address).ok().map(|_| address.to_string())),
        }
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

/// A program as `cargo build --release` left it.
fn program(name: &str) -> PathBuf {
    target().join("release").join(name)
}
