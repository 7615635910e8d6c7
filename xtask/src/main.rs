//! What developers and CI call: `cargo xtask check`, `test`, `bench`.
//!
//! One command is one step of CI, so that green here means green there. What a fresh machine lacks is installed by the
//! step that needs it; what cannot be installed is named, with the way to get it.

mod bench;
mod check;
mod deploy;
mod features;
mod metrics;
mod pages;
mod settings;
mod steps;
mod tally;
mod test;
mod tools;

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
        /// format, lints, docs, dependencies, pages, deploy, unit, sim; none for all
        parts: Vec<check::Part>,
    },
    /// Every test, or some parts
    Test {
        /// rust, web, python; none for all
        parts: Vec<test::Part>,
    },
    /// Criterion benches, then Roost against the baseline server; results go to benches/results
    Bench {
        /// criterion, compare; none for both
        parts: Vec<bench::Part>,
        /// One small round: to see that it works. Its figures are not kept
        #[arg(long)]
        quick: bool,
    },
    /// Writes the table of docs/metrics.md from the sources
    Metrics,
}

fn main() -> ExitCode {
    let mut steps = Steps::default();
    let result = match Cli::parse().command {
        Command::Check { parts } => check::run(&mut steps, &parts),
        Command::Test { parts } => test::run(&mut steps, &parts),
        Command::Bench { parts, quick } => bench::run(&mut steps, &parts, quick),
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
