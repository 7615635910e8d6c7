//! What developers and CI call: `cargo xtask check`, `test`, `bench`.
//!
//! One command is one step of CI, so that green here means green there. What a fresh machine lacks is installed by the
//! step that needs it; what cannot be installed is named, with the way to get it.
#![forbid(unsafe_code)]

mod autobahn;
mod bench;
mod check;
mod dependencies;
mod deploy;
mod dev;
mod features;
mod fuzz;
mod loom;
mod metrics;
mod miri;
mod pages;
mod sbom;
mod settings;
mod sim;
mod steps;
mod tally;
mod test;
mod tools;
mod unsafe_code;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use steps::Steps;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Roost's own chores",
    after_help = "EXAMPLES\n  \
        cargo xtask check           format, lints, docs, dependencies, pages, deploy files, unit tests, simulation\n  \
        cargo xtask check pages     one part of it\n  \
        cargo xtask test            every test there is, with real servers and a real browser\n  \
        cargo xtask test python     one part of it\n  \
        cargo xtask bench --quick   benches and the comparison with the baseline server\n  \
        cargo xtask bench million --out results             a million sessions in one process, for two minutes\n  \
        cargo xtask bench million --connections 50000 --hold 20s\n  \
        cargo xtask bench quic      Roost's QUIC beside a plain quinn server\n  \
        cargo xtask bench tls       Roost and the baseline server by WebSocket over TLS\n  \
        cargo xtask bench peers     Roost beside many other servers, in turns
  \
        cargo xtask fuzz --for 1m   looks for inputs that break the decoders; needs a nightly compiler\n  \
        cargo xtask autobahn        every rule of WebSocket, checked by the Autobahn test suite
  \
        cargo xtask dev cluster     a fleet on Redis and Cassandra, until Ctrl-C
  \
        cargo xtask metrics         writes the table of docs/metrics.md anew"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Format, lints, docs, dependencies, pages, deploy files, unit tests, simulation; or some parts
    Check {
        /// format, lints, docs, dependencies, unsafe, pages, deploy, unit, sim; none for all
        parts: Vec<check::Part>,
    },
    /// Every test, or some parts
    Test {
        /// rust, loom, miri, web, python, autobahn, faults; none for all
        parts: Vec<test::Part>,
    },
    /// Criterion benches, then Roost against the baseline server; results go to benches/results
    #[command(after_help = "EXAMPLES\n  \
        cargo xtask bench --quick\n  \
        cargo xtask bench million --connections 50000 --hold 20s\n  \
        cargo xtask bench quic tls                               some ten minutes\n  \
        cargo xtask bench peers                                  every server, three rounds: some forty minutes\n  \
        cargo xtask bench peers --quick --only roost,roost-plain,bare,gorilla\n  \
        cargo xtask bench peers --also 'uws=/opt/uws/uws'        one more, built elsewhere")]
    Bench {
        /// criterion, compare; none for both. quic, tls, million, cluster, peers, generators: only if they are named
        parts: Vec<bench::Part>,
        /// One small round: to see that it works. Its figures are not kept
        #[arg(long)]
        quick: bool,
        #[command(flatten)]
        flags: bench::Flags,
    },
    /// Servers on this machine, for trying things out
    Dev {
        #[command(subcommand)]
        what: Dev,
    },
    /// Looks for inputs that break the targets of fuzz/
    Fuzz {
        /// Names of targets, as in fuzz/libfuzzer/fuzz_targets; none for all
        targets: Vec<String>,
        /// How long each is run, as in 90s, 10m, 2h
        #[arg(long = "for", default_value = "10m", value_parser = fuzz::span)]
        span: std::time::Duration,
        /// Keep the smallest corpus that covers as much in fuzz/corpus, and the figures in benches/results
        #[arg(long)]
        keep: bool,
    },
    /// Models of what threads share, under every order in which they can meet
    Loom {
        /// Only models whose name contains this
        #[arg(default_value = "", hide_default_value = true)]
        filter: String,
    },
    /// The Autobahn test suite against /echo: every rule of WebSocket, checked by strangers; needs Python 2.7
    Autobahn {
        /// Cases, as in 6.4.1 or '12.*'; none for all
        cases: Vec<String>,
        /// The cases that `cargo xtask test` runs: all but most of the compressed ones, in a few minutes
        #[arg(long, conflicts_with_all = ["cases", "all"])]
        quick: bool,
        /// All 517 cases, as without any argument
        #[arg(long, conflicts_with = "cases")]
        all: bool,
        /// By TLS, to a server with a self-made certificate
        #[arg(long, conflicts_with = "keep")]
        tls: bool,
        /// Keep the counts in benches/results
        #[arg(long)]
        keep: bool,
    },
    /// Unit tests under Miri, which sees undefined behaviour; needs a nightly compiler
    Miri,
    /// What the shipped programs are made of, as CycloneDX JSON
    Sbom {
        /// Where to write it; standard output if not given
        #[arg(long)]
        out: Option<std::path::PathBuf>,
        /// What the programs are built for
        #[arg(long, default_value = sbom::PLATFORM)]
        target: String,
    },
    /// The simulator: run, sweep, replay, twice; `cargo xtask sim --help` has the rest
    #[command(disable_help_flag = true)]
    Sim {
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<std::ffi::OsString>,
    },
    /// Writes the table of docs/metrics.md from the sources
    Metrics,
}

#[derive(Subcommand)]
enum Dev {
    /// Redis, Cassandra and a fleet of nodes, until Ctrl-C; nothing is kept
    #[command(after_help = "EXAMPLES\n  \
        cargo xtask dev cluster                          three edges, two routers, Redis, Cassandra\n  \
        cargo xtask dev cluster --nodes 2 --routers 0    two nodes that route for themselves\n  \
        cargo xtask dev cluster --ring 3                 on three nodes of Cassandra")]
    Cluster {
        /// Nodes that clients connect to
        #[arg(long, value_name = "N", default_value_t = 3)]
        nodes: u16,
        /// Routers behind them; 0: each node routes for itself
        #[arg(long, value_name = "N", default_value_t = 2)]
        routers: u16,
        /// Nodes of Cassandra: some 400 MB each
        #[arg(long, value_name = "N", default_value_t = 1)]
        ring: usize,
    },
}

fn main() -> ExitCode {
    let mut steps = Steps::default();
    let result = match Cli::parse().command {
        Command::Check { parts } => check::run(&mut steps, &parts),
        Command::Test { parts } => test::run(&mut steps, &parts),
        Command::Bench { parts, quick, flags } => bench::run(&mut steps, &parts, quick, &flags),
        Command::Fuzz { targets, span, keep } => fuzz::run(&mut steps, &fuzz::Plan { targets: &targets, span, keep }),
        Command::Dev { what: Dev::Cluster { nodes, routers, ring } } => {
            dev::cluster(&mut steps, dev::Shape { nodes, routers, ring })
        }
        Command::Loom { filter } => loom::run(&mut steps, &filter),
        Command::Autobahn { cases, quick, all: _, tls, keep } => {
            autobahn::run(&mut steps, &autobahn::Plan { quick, tls, cases: &cases, keep })
        }
        Command::Miri => miri::run(&mut steps),
        Command::Sbom { out, target } => sbom::write(out.as_deref(), &target),
        Command::Sim { args } => sim::run(&args),
        Command::Metrics => metrics::write(),
    };
    steps.summary();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
