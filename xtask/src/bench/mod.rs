//! `cargo xtask bench`: criterion's benches, and Roost against the baseline server.
//!
//! - `case`: what is measured, and how `roost-load` is asked to;
//! - `server`: the servers, started afresh for each measurement;
//! - `compare`: rounds, one server after the other, so that a noisy minute hits both;
//! - `results`: medians, ratios and where they were measured, kept under benches/results;
//! - `million`: one long run with up to a million sessions and more, by command only;
//! - `cluster`: a fleet on Redis and Cassandra, by command only;
//! - `capacity`: how much Roost carries on this machine, by command only;
//! - `peers`: Roost beside many other servers, by command only;
//! - `generators`: `roost-load` beside other load generators, by command only;
//! - `criterion`: the same for what criterion measured.

mod capacity;
mod case;
mod cluster;
mod compare;
mod criterion;
mod generators;
pub(crate) mod million;
pub(crate) mod peers;
pub(crate) mod place;
mod results;
pub(crate) mod server;

use clap::{Args, ValueEnum};

use crate::steps::{Steps, cargo};

/// A part of the benches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// The benches of benches/benches.
    Criterion,
    /// Roost against the baseline server, through sockets.
    Compare,
    /// Roost's QUIC against a plain quinn server: only if it is named.
    Quic,
    /// Roost and the baseline server, both by WebSocket over TLS: only if it is named.
    Tls,
    /// As many sessions as this machine holds: only if it is named.
    Million,
    /// A fleet on Redis and Cassandra: only if it is named.
    Cluster,
    /// How much Roost carries on this machine: only if it is named.
    Capacity,
    /// Roost beside many other servers: only if it is named.
    Peers,
    /// `roost-load` beside other load generators: only if it is named.
    Generators,
}

/// Further flags of parts.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    #[command(flatten)]
    million: million::Million,
    #[command(flatten)]
    peers: peers::Peers,
}

/// Runs the parts; if there are none, those that need not be named. `quick` only shows that they work: its figures are
/// not kept.
pub(crate) fn run(steps: &mut Steps, parts: &[Part], quick: bool, flags: &Flags) -> anyhow::Result<()> {
    let wanted = |part| parts.is_empty() || parts.contains(&part);
    if wanted(Part::Criterion) {
        criterion::run(steps, quick)?;
    }
    if wanted(Part::Compare) {
        compare::run(steps, &case::COMPARE, quick)?;
    }
    if parts.contains(&Part::Quic) {
        compare::run(steps, &case::QUIC, quick)?;
    }
    if parts.contains(&Part::Tls) {
        compare::run(steps, &case::TLS, quick)?;
    }
    if parts.contains(&Part::Million) {
        million::run(steps, &flags.million, quick)?;
    }
    if parts.contains(&Part::Cluster) {
        cluster::run(steps, quick)?;
    }
    if parts.contains(&Part::Capacity) {
        capacity::run(steps, quick)?;
    }
    if parts.contains(&Part::Peers) {
        peers::run(steps, &flags.peers, quick)?;
    }
    if parts.contains(&Part::Generators) {
        generators::run(steps, quick)?;
    }
    Ok(())
}

/// The servers that Roost is compared with, as cargo is asked to build them.
const OTHERS: [&str; 3] = ["--package", "roost-benches", "--bins"];

/// Builds server and generator, optimised, and what `more` asks cargo for.
fn build(steps: &mut Steps, more: &[&str]) -> anyhow::Result<()> {
    let mut build = cargo(["build", "--release", "--package", "roost-server", "--package", "roost-loadgen"]);
    steps.run("build servers and generator", build.args(more))
}
