//! Servers: how each is started, and how it is met.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::bench::server::{Launch, Ready};

/// A server that takes part.
#[derive(Debug)]
pub(super) struct Peer {
    /// As the table calls it.
    pub(super) name: String,
    /// What it is, and its version.
    pub(super) version: String,
    pub(super) speaks: Speaks,
    pub(super) start: Start,
}

/// What is spoken with it, as `roost-load --protocol` calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    Roost,
    Plain,
    Nats,
    Mqtt,
    Centrifugo,
}

/// How it is started.
#[derive(Debug)]
pub(super) enum Start {
    /// Roost, with further settings.
    Roost(PathBuf, Vec<String>),
    /// With `--listen` and `--ready-file`.
    Told(Vec<String>),
    Nats(PathBuf),
    Mosquitto(PathBuf),
    Centrifugo(PathBuf),
}

/// Of one listener that only one client at a time needs a port of.
const LOCALHOST: &str = "127.0.0.1";

impl Speaks {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Roost => "roost",
            Self::Plain => "plain",
            Self::Nats => "nats",
            Self::Mqtt => "mqtt",
            Self::Centrifugo => "centrifugo",
        }
    }

    /// What a session is to it, for people.
    pub(super) const fn session(self) -> &'static str {
        match self {
            Self::Roost => "a session: token verified, identity, device, presence",
            Self::Plain => "an upgrade",
            Self::Nats => "NATS over WebSocket, CONNECT without credentials",
            Self::Mqtt => "MQTT 3.1.1 over WebSocket, QoS 0, anonymous",
            Self::Centrifugo => "its protocol in JSON, without a token",
        }
    }
}

impl Peer {
    /// The path of its address, for messages to everybody and for all else.
    pub(super) fn path(&self, to_everybody: bool) -> &'static str {
        match (&self.start, self.speaks) {
            (Start::Roost(..), Speaks::Plain) if to_everybody => "/broadcast",
            (Start::Roost(..), Speaks::Plain) => "/echo",
            (Start::Roost(..), _) => "/ws",
            (Start::Centrifugo(_), _) => "/connection/websocket",
            _ => "/",
        }
    }

    /// How it is started in `folder`, where its files go.
    pub(super) fn launch(&self, folder: &Path) -> anyhow::Result<Launch> {
        let load = vec!["--protocol".into(), self.speaks.name().into()];
        let mut launch = match &self.start {
            Start::Roost(program, settings) => {
                let mut command = Command::new(program);
                // One client publishes everything: the limit of a person is off. Heartbeats are those of the others.
                command.args(["serve", "--admin", "127.0.0.1:0", "--log", "warn", "--heartbeat", "60s"]);
                command.args(["--sends-per-second", "0", "--frames-per-second", "0"]);
                command.arg("--data").arg(folder.join("data")).args(settings);
                let mut load = load;
                match self.speaks {
                    Speaks::Plain => drop(command.arg("--bench-paths")),
                    _ => load.extend(["--token-key".into(), folder.join("data/secrets/token-key").into()]),
                }
                Launch::told(command, folder, load)
            }
            Start::Told(words) => {
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]);
                Launch::told(command, folder, load)
            }
            Start::Nats(program) => {
                let (own, at) = (free()?, free()?);
                let (host, port) = (at.ip(), at.port());
                let text = format!(
                    "host: {LOCALHOST}\nport: {}\nwebsocket {{ host: \"{host}\", port: {port}, no_tls: true }}\n",
                    own.port()
                );
                configured(program, "-c", folder.join("nats.conf"), &text, at, load)?
            }
            Start::Mosquitto(program) => {
                // One listener for WebSocket alone is refused by some versions, and without `socket_domain` they
                // listen on every address.
                let (own, at) = (free()?, free()?);
                let text = format!(
                    "user root\nallow_anonymous true\npersistence false\nlog_dest none\nset_tcp_nodelay true\n\
                    listener {} {LOCALHOST}\nlistener {} {LOCALHOST}\nsocket_domain ipv4\nprotocol websockets\n",
                    own.port(),
                    at.port()
                );
                configured(program, "-c", folder.join("mosquitto.conf"), &text, at, load)?
            }
            Start::Centrifugo(program) => {
                let at = free()?;
                // Its clients need no token, as those of the others; it reports nothing to its makers.
                let text = format!(
                    "{{\"address\":\"{LOCALHOST}\",\"port\":\"{}\",\"client_insecure\":true,\"log_level\":\"error\",\
                    \"usage_stats_disable\":true}}\n",
                    at.port()
                );
                configured(program, "-c", folder.join("config.json"), &text, at, load)?
            }
        };
        let log = File::create(folder.join("log")).context("cannot make a log")?;
        launch.command.stdout(log.try_clone()?).stderr(log);
        Ok(launch)
    }
}

/// A server with a file of settings that tell it to listen at `at`.
fn configured(
    program: &Path,
    flag: &str,
    file: PathBuf,
    text: &str,
    at: SocketAddr,
    load: Vec<std::ffi::OsString>,
) -> anyhow::Result<Launch> {
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    let mut command = Command::new(program);
    command.arg(flag).arg(file);
    Ok(Launch { command, ready: Ready::At(at), scheme: "http", load })
}

/// An address that nobody listens at.
fn free() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_listens_on_this_machine_alone() {
        let folder = crate::steps::target().join("tmp/peers-launch");
        std::fs::create_dir_all(&folder).unwrap();
        let starts = [
            Start::Nats("nats".into()),
            Start::Mosquitto("mosquitto".into()),
            Start::Centrifugo("centrifugo".into()),
            Start::Roost("roost".into(), vec![]),
            Start::Told(vec!["uws".into()]),
        ];
        for start in starts {
            let peer = Peer { name: "x".into(), version: String::new(), speaks: Speaks::Plain, start };
            let launch = peer.launch(&folder).unwrap();
            let args: Vec<_> = launch.command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
            let told = match &launch.ready {
                Ready::File(_) => args.join(" "),
                Ready::At(at) => {
                    assert!(at.ip().is_loopback());
                    std::fs::read_to_string(args.last().unwrap()).unwrap()
                }
            };
            assert!(told.contains("127.0.0.1") && !told.contains("0.0.0.0"), "{told}");
        }
    }
}
