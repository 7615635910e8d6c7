//! `cargo xtask bench peers`: Roost beside other servers, in one run, the servers taking turns.
//!
//! - `install`: each is built or installed from where it is published, or left out with the reason;
//! - `peer`: how each is started and met;
//! - `load`: what is measured, and how `roost-load` is asked to;
//! - `results`: medians, ratios, what went wrong.

pub(super) mod install;
mod load;
mod peer;
mod results;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::bail;
use clap::Args;
use rustix::process::{Resource, getrlimit};

use self::load::{LOADS, Load};
use self::peer::Peer;
use self::results::{Outcome, Results};
use super::compare::descriptors;
use super::server::Running;
use super::{place, results::keep};
use crate::steps::{Steps, root, target};

#[derive(Args, Debug)]
pub(crate) struct Peers {
    /// For peers: only these, by their names in the table; their figures are not kept
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    only: Vec<String>,
    /// For peers: how often each is measured
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// For peers: a server of the plain protocol that was built elsewhere; it is given --listen and --ready-file. May be
    /// given again
    #[arg(long, value_name = "NAME=COMMAND", value_parser = also)]
    also: Vec<Also>,
    /// For peers: further settings of Roost, as '--driver poll'
    #[arg(long, value_name = "FLAGS", default_value = "", allow_hyphen_values = true, hide_default_value = true)]
    roost: String,
    /// For peers: where the programs of this workspace are, built before [default: builds them, optimised]
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
}

/// A server that was built elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Also {
    name: String,
    command: Vec<String>,
}

fn also(text: &str) -> Result<Also, String> {
    let (name, command) = text.split_once('=').ok_or("NAME=COMMAND, please")?;
    let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    if name.trim().is_empty() || command.is_empty() {
        return Err("NAME=COMMAND, please".into());
    }
    Ok(Also { name: name.trim().to_owned(), command })
}

/// Gets the servers, measures, and keeps the figures of a whole run unless `quick`.
pub(crate) fn run(steps: &mut Steps, peers: &Peers, quick: bool) -> anyhow::Result<()> {
    let install::Got { peers: all, missing } = install::all(steps, peers)?;
    if all.is_empty() {
        bail!("there is nobody to measure");
    }
    descriptors()?;
    let rounds = if quick { 1 } else { peers.rounds };
    let mut place = place::describe();
    place["descriptors"] = getrlimit(Resource::Nofile).current.into();
    let loader = install::programs(peers).join("roost-load");
    let mut outcomes = Vec::new();
    let mut turns = Turns::new(rounds as usize * LOADS.iter().map(|load| who(&all, load).count()).sum::<usize>());
    for round in 1..=rounds {
        for load in LOADS {
            for peer in who(&all, load) {
                turns.begins(round, load, peer);
                let outcome = measure(&loader, load, peer, round, quick);
                turns.ended(&outcome);
                outcomes.push(outcome);
            }
        }
    }
    let results = Results { place, command: peers.command(quick), peers: all, missing, outcomes, quick };
    println!("\n{}", results.page());
    if quick || !peers.only.is_empty() {
        println!("Not kept: that is for a whole run.");
    } else {
        keep(&root().join("benches/results"), "peers", &results.place, &results.json(), &results.page())?;
    }
    Ok(())
}

/// Those that can be put under a load.
fn who<'a>(peers: &'a [Peer], load: &'a Load) -> impl Iterator<Item = &'a Peer> {
    peers.iter().filter(|peer| load.suits(peer))
}

/// One server under one load. What goes wrong is told in the outcome.
fn measure(loader: &Path, load: &'static Load, peer: &Peer, round: u32, quick: bool) -> Outcome {
    let folder = target().join("bench/peers").join(peer.name.replace(['/', ' '], "-"));
    let measured = Running::launch(&folder, |folder| peer.launch(folder)).and_then(|server| {
        let mut command = Command::new(loader);
        command.args(load.args(quick)).stdout(Stdio::null());
        let (report, generator_was_the_limit) = server.loaded(command, peer.path(load.is_broadcast()))?;
        let figures = load.figures.iter().map(|figure| Ok((figure.name, figure.read(&report)?)));
        Ok(results::Measured { figures: figures.collect::<anyhow::Result<_>>()?, generator_was_the_limit, report })
    });
    Outcome { round, load, peer: peer.name.clone(), measured: measured.map_err(|error| format!("{error:#}")) }
}

impl Peers {
    /// What was asked for, without folders of this machine.
    fn command(&self, quick: bool) -> String {
        let mut command = "cargo xtask bench peers".to_owned();
        if quick {
            command += " --quick";
        }
        if !self.only.is_empty() {
            command += &format!(" --only '{}'", self.only.join(","));
        }
        command += &format!(" --rounds {}", self.rounds);
        for Also { name, command: program } in &self.also {
            let file = Path::new(&program[0]).file_name().unwrap_or_default().to_string_lossy();
            let args = program[1..].iter().map(|arg| format!(" {arg}")).collect::<String>();
            command += &format!(" --also '{name}={file}{args}'");
        }
        if !self.roost.is_empty() {
            command += &format!(" --roost '{}'", self.roost);
        }
        command
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

/// Where a run stands, shown as it goes.
struct Turns {
    count: usize,
    done: usize,
    began: Instant,
    this: Instant,
}

impl Turns {
    fn new(count: usize) -> Self {
        Self { count, done: 0, began: Instant::now(), this: Instant::now() }
    }

    fn begins(&mut self, round: u32, load: &Load, peer: &Peer) {
        use std::io::Write as _;
        self.this = Instant::now();
        print!("[{:>3}/{}] round {round}  {:<14}  {:<14} ", self.done + 1, self.count, load.name, peer.name);
        // Progress that is not shown is no failure.
        let _ = std::io::stdout().flush();
    }

    fn ended(&mut self, outcome: &Outcome) {
        self.done += 1;
        let left = self.began.elapsed() / self.done as u32 * (self.count - self.done) as u32;
        let said = match &outcome.measured {
            Ok(measured) => {
                let figures = outcome.load.figures.iter().zip(&measured.figures);
                figures.map(|(figure, (_, value))| format!("{value:.0} {}", figure.unit)).collect::<Vec<_>>().join(", ")
            }
            Err(why) => format!("FAILED: {why}"),
        };
        let took = self.this.elapsed().as_secs_f64();
        println!("{said}  ({took:.0} s; {:.0} min left)", left.as_secs_f64() / 60.0);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        peers: Peers,
    }

    fn parsed(args: &[&str]) -> Result<Peers, clap::Error> {
        Cli::try_parse_from([&["bench"], args].concat()).map(|cli| cli.peers)
    }

    #[test]
    fn a_server_built_elsewhere_has_a_name_and_a_command() {
        let peers = parsed(&["--also", "uws 20=/opt/uws/uws --fast", "--only", "roost,uws 20"]).unwrap();
        assert_eq!(peers.also, [Also { name: "uws 20".into(), command: vec!["/opt/uws/uws".into(), "--fast".into()] }]);
        assert!(peers.wants("roost") && peers.wants("uws 20") && !peers.wants("nats"));
        for wrong in ["uws", "=x", "x= "] {
            assert!(parsed(&["--also", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_that_nobody_has_or_that_is_taken_is_refused() {
        let known = |args: &[&str]| install::known(&parsed(args).unwrap()).map_err(|error| error.to_string());
        assert_eq!(known(&["--only", "roost,nats,uws", "--also", "uws=uws"]), Ok(()));
        assert!(known(&["--only", "roots"]).unwrap_err().contains("there are roost, roost-plain, nats"));
        assert!(known(&["--also", "nats=nats"]).unwrap_err().contains("taken"));
        assert!(known(&["--also", "a=a", "--also", "a=b"]).unwrap_err().contains("taken"));
    }

    #[test]
    fn the_command_that_is_kept_names_no_folder() {
        let peers = parsed(&["--also", "uws=/opt/uws/uws --fast", "--bin-dir", "/opt/bin", "--roost", "--driver poll"]);
        assert_eq!(
            peers.unwrap().command(false),
            "cargo xtask bench peers --rounds 3 --also 'uws=uws --fast' --roost '--driver poll'"
        );
    }
}
