//! Gets the servers: built from where they are published, or left out with the reason and the way to get them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::Peers;
use super::peer::{Peer, Speaks, Start};
use crate::bench::{OTHERS, build};
use crate::steps::{Steps, root, target};
use crate::tools;

/// The NATS server, of the Go module proxy.
const NATS: (&str, &str) = ("github.com/nats-io/nats-server/v2", "v2.15.2");
/// Centrifugo: its version is in benches/peers/centrifugo/go.mod.
const CENTRIFUGO: &str = "github.com/centrifugal/centrifugo/v5";
/// Servers of benches/peers/go, and their modules.
const GO: [(&str, &str); 4] = [
    ("gorilla", "github.com/gorilla/websocket"),
    ("gobwas", "github.com/gobwas/ws"),
    ("nbio", "github.com/lesismal/nbio"),
    ("greatws", "github.com/antlabs/greatws"),
];
/// Servers of the benches' own package: name, program, crate that it is built on.
const RUST: [(&str, &str, &str); 3] = [
    ("bare", "bare", ""),
    ("tungstenite", "baseline", "tokio-tungstenite"),
    ("fastwebsockets", "fastws", "fastwebsockets"),
];
const NO_GO: &str = "there is no Go: https://go.dev/dl, or apt-get install golang";
/// A registry may be slow to answer once.
const TRIES: u32 = 2;

/// Who takes part, and who does not and why.
#[derive(Debug, Default)]
pub(super) struct Got {
    pub(super) peers: Vec<Peer>,
    pub(super) missing: Vec<(String, String)>,
}

impl Got {
    fn add(&mut self, name: &str, peer: anyhow::Result<Peer>) {
        match peer {
            Ok(peer) => self.peers.push(peer),
            Err(error) => {
                println!("\n{name} is left out: {error:#}");
                self.missing.push((name.to_owned(), format!("{error:#}")));
            }
        }
    }
}

/// Where the programs of this workspace are.
pub(super) fn programs(peers: &Peers) -> PathBuf {
    peers.bin_dir.clone().unwrap_or_else(|| target().join("release"))
}

/// Gets all that are wanted.
pub(super) fn all(steps: &mut Steps, peers: &Peers) -> anyhow::Result<Got> {
    known(peers)?;
    if peers.bin_dir.is_none() {
        build(steps, &OTHERS)?;
    }
    let programs = programs(peers);
    let mut got = Got::default();
    for (name, speaks) in [("roost", Speaks::Roost), ("roost-plain", Speaks::Plain)] {
        if peers.wants(name) {
            got.add(name, roost(&programs, name, speaks, &peers.roost));
        }
    }
    for (name, program, library) in RUST {
        if peers.wants(name) {
            got.add(name, of_cargo(&programs, name, program, library));
        }
    }
    for also in &peers.also {
        if peers.wants(&also.name) {
            let version = "built elsewhere".to_owned();
            let (name, start) = (also.name.clone(), Start::Told(also.command.clone()));
            got.add(&also.name, Ok(Peer { name, version, speaks: Speaks::Plain, start }));
        }
    }
    for (name, module) in GO {
        if peers.wants(name) {
            got.add(name, of_go(steps, name, module));
        }
    }
    if peers.wants("nats") {
        got.add("nats", nats(steps));
    }
    if peers.wants("mosquitto") {
        got.add("mosquitto", mosquitto(steps));
    }
    if peers.wants("centrifugo") {
        got.add("centrifugo", centrifugo(steps));
    }
    Ok(got)
}

/// Refuses names that nobody has, and names that two have.
pub(super) fn known(peers: &Peers) -> anyhow::Result<()> {
    let mut names = vec!["roost", "roost-plain", "nats", "mosquitto", "centrifugo"];
    names.extend(RUST.iter().map(|(name, ..)| *name));
    names.extend(GO.iter().map(|(name, _)| *name));
    for also in &peers.also {
        if names.contains(&also.name.as_str()) {
            bail!("--also {}: that name is taken", also.name);
        }
        names.push(&also.name);
    }
    match peers.only.iter().find(|only| !names.contains(&only.as_str())) {
        Some(only) => bail!("--only {only}: there are {}", names.join(", ")),
        None => Ok(()),
    }
}

fn roost(programs: &Path, name: &str, speaks: Speaks, settings: &str) -> anyhow::Result<Peer> {
    let program = built(programs, "roost")?;
    let mut version = said(&program, &["--version"]).unwrap_or_else(|| "roost".into());
    if speaks == Speaks::Plain {
        version += ", its shards and drivers without its protocol: /echo and /broadcast";
    }
    if !settings.is_empty() {
        version += &format!(", {settings}");
    }
    let settings = settings.split_whitespace().map(str::to_owned).collect();
    Ok(Peer { name: name.to_owned(), version, speaks, start: Start::Roost(program, settings) })
}

fn of_cargo(programs: &Path, name: &str, program: &str, library: &str) -> anyhow::Result<Peer> {
    let program = built(programs, program)?;
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).context("there is no Cargo.lock")?;
    let version = match library {
        "" => "the least that a client accepts, on epoll: the kernel's price".to_owned(),
        library => locked(&lock, library).with_context(|| format!("Cargo.lock holds no {library}"))?,
    };
    let start = Start::Told(vec![program.to_string_lossy().into_owned()]);
    Ok(Peer { name: name.to_owned(), version, speaks: Speaks::Plain, start })
}

/// A program that was built before.
fn built(programs: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let program = programs.join(name);
    if program.is_file() { Ok(program) } else { bail!("{} is not there", program.display()) }
}

/// Name and version of a crate.
fn locked(lock: &str, library: &str) -> Option<String> {
    let (_, rest) = lock.split_once(&format!("name = \"{library}\"\nversion = \""))?;
    Some(format!("{library} {}", rest.split_once('"')?.0))
}

fn of_go(steps: &mut Steps, name: &str, module: &str) -> anyhow::Result<Peer> {
    let folder = root().join("benches/peers/go");
    let program = go_built(steps, &folder, name, &format!("./{name}"))?;
    let start = Start::Told(vec![program.to_string_lossy().into_owned()]);
    Ok(Peer { name: name.to_owned(), version: required(&folder, module)?, speaks: Speaks::Plain, start })
}

fn nats(steps: &mut Steps) -> anyhow::Result<Peer> {
    let (module, wanted) = NATS;
    let program = go_installed(steps, "nats-server", module, wanted)?;
    let version = format!("{module} {wanted}");
    Ok(Peer { name: "nats".into(), version, speaks: Speaks::Nats, start: Start::Nats(program) })
}

fn centrifugo(steps: &mut Steps) -> anyhow::Result<Peer> {
    let folder = root().join("benches/peers/centrifugo");
    let program = go_built(steps, &folder, "centrifugo", CENTRIFUGO)?;
    let version = required(&folder, CENTRIFUGO)?;
    Ok(Peer { name: "centrifugo".into(), version, speaks: Speaks::Centrifugo, start: Start::Centrifugo(program) })
}

fn mosquitto(steps: &mut Steps) -> anyhow::Result<Peer> {
    let program = tools::mosquitto(steps)?;
    let version = said(&program, &["-h"]).unwrap_or_else(|| "of an unknown version".into());
    Ok(Peer { name: "mosquitto".into(), version, speaks: Speaks::Mqtt, start: Start::Mosquitto(program) })
}

/// Builds the program `name` of a module at the version `wanted`, unless it was.
pub(in crate::bench) fn go_installed(
    steps: &mut Steps,
    name: &str,
    module: &str,
    wanted: &str,
) -> anyhow::Result<PathBuf> {
    let folder = made()?.join(format!("{name}-{wanted}"));
    let program = folder.join(name);
    if !program.is_file() {
        go(steps, name, |go| {
            go.arg("install").arg(format!("{module}@{wanted}")).env("GOBIN", &folder);
        })?;
    }
    Ok(program)
}

/// Builds a package of the module in `folder`.
fn go_built(steps: &mut Steps, folder: &Path, name: &str, package: &str) -> anyhow::Result<PathBuf> {
    let program = made()?.join(name);
    go(steps, name, |go| {
        go.args(["build", "-o"]).arg(&program).arg(package).current_dir(folder);
    })?;
    Ok(program)
}

/// Runs Go, once more if it fails.
fn go(steps: &mut Steps, name: &str, args: impl FnOnce(&mut Command)) -> anyhow::Result<()> {
    if said(Path::new("go"), &["version"]).is_none() {
        bail!(NO_GO);
    }
    let mut go = Command::new("go");
    args(&mut go);
    let mut tried = steps.run(&format!("build {name}"), &mut go);
    for _ in 1..TRIES {
        tried = tried.or_else(|_| steps.run(&format!("build {name} once more"), &mut go));
    }
    tried
}

/// The folder of what is built here, in cargo's target folder.
pub(in crate::bench) fn made() -> anyhow::Result<PathBuf> {
    let folder = target().join("peers");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // Go is run elsewhere.
    std::path::absolute(folder).context("there is no folder to be in")
}

/// Module and version as the go.mod in `folder` has it.
fn required(folder: &Path, module: &str) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(folder.join("go.mod")).context("there is no go.mod")?;
    let mut lines = text.lines().map(str::trim_start);
    let version = lines.find_map(|line| line.strip_prefix(module)?.strip_prefix(" v")?.split_whitespace().next());
    Ok(format!("{module} v{}", version.with_context(|| format!("go.mod holds no {module}"))?))
}

/// The first line that a program says; `None` if it is not there.
pub(in crate::bench) fn said(program: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    String::from_utf8_lossy(&output.stdout).lines().next().map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_of_a_registry_has_a_version_in_a_file() {
        for (_, module) in GO {
            let version = required(&root().join("benches/peers/go"), module).unwrap();
            assert!(version.starts_with(&format!("{module} v")) && !version.contains("//"), "{version}");
        }
        assert!(required(&root().join("benches/peers/centrifugo"), CENTRIFUGO).unwrap().starts_with(CENTRIFUGO));
        assert!(required(&root().join("benches/peers/go"), "github.com/gorilla/nothing").is_err());
        let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
        for (_, _, library) in RUST.into_iter().filter(|(_, _, library)| !library.is_empty()) {
            assert!(locked(&lock, library).is_some(), "{library}");
        }
    }

    #[test]
    fn a_program_that_is_not_there_leaves_its_server_out() {
        let mut got = Got::default();
        got.add("bare", of_cargo(Path::new("/nowhere"), "bare", "bare", ""));
        assert!(got.peers.is_empty());
        assert_eq!(got.missing, [("bare".to_owned(), "/nowhere/bare is not there".to_owned())]);
    }
}
