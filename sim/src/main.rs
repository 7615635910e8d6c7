//! The `sim` binary.

mod sweep;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use roost_sim::{Outcome, Plan, run, seeds};

#[derive(Parser)]
#[command(
    name = "sim",
    about = "A whole Roost deployment under virtual time and seeded faults",
    after_help = "EXAMPLES\n  \
        cargo xtask sim run --seed 7            one run\n  \
        cargo xtask sim sweep --seeds 10000     many; stops at the first that fails\n  \
        cargo xtask sim replay                  the seeds that once failed\n  \
        cargo xtask sim replay --seed 7         one run with everything that happens\n  \
        cargo xtask sim twice --seed 7          the same run twice: the digests must be equal"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One run
    Run {
        #[arg(long)]
        seed: u64,
        /// Print everything that happens
        #[arg(long)]
        trace: bool,
        #[command(flatten)]
        size: Size,
    },
    /// Seeds one after another, until one fails
    Sweep(sweep::Sweep),
    /// The seeds of seeds.txt; or one seed with everything that happens
    Replay {
        #[arg(long)]
        seed: Option<u64>,
        #[command(flatten)]
        size: Size,
    },
    /// One seed twice: a difference is hidden nondeterminism
    Twice {
        #[arg(long)]
        seed: u64,
        #[command(flatten)]
        size: Size,
    },
}

/// How large a run is. The usual size is what the tests and the recorded sweeps use.
#[derive(Args, Clone, Copy)]
struct Size {
    /// People; one of them has a second device
    #[arg(long, default_value_t = Plan::of(0).people as u64, value_parser = clap::value_parser!(u64).range(4..=64))]
    people: u64,
    /// Nodes; without it the seed decides
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=16))]
    nodes: Option<u64>,
    /// Things that people do
    #[arg(long, default_value_t = Plan::of(0).acts)]
    acts: usize,
    /// Nothing goes wrong
    #[arg(long)]
    fair: bool,
    /// Nothing goes wrong, but sessions move to other transports and addresses
    #[arg(long)]
    moving: bool,
}

impl Size {
    fn plan(self, seed: u64) -> Plan {
        let Self { people, nodes, acts, fair, moving } = self;
        let nodes = nodes.map(|nodes| nodes as usize);
        Plan { seed, people: people as usize, nodes, acts, faults: !fair && !moving, moving, trace: false }
    }

    /// The command that repeats a run.
    fn replay(self, seed: u64) -> String {
        let (Self { people, nodes, acts, fair, moving }, usual) = (self, Plan::of(seed));
        let mut command = format!("cargo xtask sim replay --seed {seed}");
        if people as usize != usual.people {
            command += &format!(" --people {people}");
        }
        if let Some(nodes) = nodes {
            command += &format!(" --nodes {nodes}");
        }
        if acts != usual.acts {
            command += &format!(" --acts {acts}");
        }
        if fair {
            command += " --fair";
        }
        if moving {
            command += " --moving";
        }
        command
    }
}

fn main() -> ExitCode {
    let well = match Cli::parse().command {
        Command::Run { seed, trace, size } => tell(seed, size, &run(&Plan { trace, ..size.plan(seed) })),
        Command::Sweep(sweep) => sweep.run(),
        Command::Replay { seed: Some(seed), size } => tell(seed, size, &run(&Plan { trace: true, ..size.plan(seed) })),
        Command::Replay { seed: None, size } => replay_all(size),
        Command::Twice { seed, size } => {
            let (first, second) = (run(&size.plan(seed)), run(&size.plan(seed)));
            println!("digests {:016x} and {:016x}", first.digest, second.digest);
            first.digest == second.digest
        }
    };
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay_all(size: Size) -> bool {
    let mut well = true;
    for once in seeds::once_failed() {
        println!("seed {} failed once: {}", once.seed, once.why);
        well &= tell(once.seed, size, &run(&size.plan(once.seed)));
    }
    well
}

/// Prints how a run ended; true if it was well.
fn tell(seed: u64, size: Size, outcome: &Outcome) -> bool {
    let Outcome { violations, history, digest, acknowledged, shown, faults, steps, .. } = outcome;
    if violations.is_empty() {
        println!(
            "seed {seed} well: {acknowledged} sends acknowledged, {shown} entries shown, {} faults, {steps} steps, \
             digest {digest:016x}",
            faults.total()
        );
        return true;
    }
    println!("{history}\nseed {seed} FAILED; above is what happened last to whom it concerns:");
    for violation in violations {
        println!("  {violation}");
    }
    println!("to repeat it:\n  {}", size.replay(seed));
    false
}
