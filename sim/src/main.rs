//! The `sim` binary.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use roost_sim::{Outcome, Plan, run};

#[derive(Parser)]
#[command(
    name = "sim",
    about = "A whole Roost deployment under virtual time and seeded faults",
    after_help = "EXAMPLES\n  \
        cargo run --release -p roost-sim -- run --seed 7       one run\n  \
        cargo run --release -p roost-sim -- sweep --seeds 200  many; stops at the first that fails\n  \
        cargo run --release -p roost-sim -- twice --seed 7     the same run twice: the digests must be equal"
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
        #[command(flatten)]
        size: Size,
    },
    /// Seeds one after another, until one fails
    Sweep {
        /// How many
        #[arg(long, default_value_t = 200)]
        seeds: u64,
        /// The first
        #[arg(long, default_value_t = 0)]
        from: u64,
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

#[derive(Args, Clone, Copy)]
struct Size {
    /// People
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(3..=64))]
    people: u64,
    /// Messages they send
    #[arg(long, default_value_t = 150)]
    sends: usize,
    /// Faults that happen meanwhile
    #[arg(long, default_value_t = 25)]
    faults: usize,
    /// Print everything that happens
    #[arg(long)]
    trace: bool,
}

impl Size {
    fn plan(self, seed: u64) -> Plan {
        Plan { seed, people: self.people as usize, sends: self.sends, faults: self.faults, trace: self.trace }
    }

    /// The command that repeats a run.
    fn replay(self, seed: u64) -> String {
        let Self { people, sends, faults, trace: _ } = self;
        format!(
            "cargo run --release -p roost-sim -- run --seed {seed} --people {people} --sends {sends} --faults {faults}"
        )
    }
}

fn main() -> ExitCode {
    let well = match Cli::parse().command {
        Command::Run { seed, size } => tell(seed, size, &run(&size.plan(seed))),
        Command::Sweep { seeds, from, size } => sweep(from, seeds, size),
        Command::Twice { seed, size } => {
            let (first, second) = (run(&size.plan(seed)), run(&size.plan(seed)));
            println!("digests {:016x} and {:016x}", first.digest, second.digest);
            first.digest == second.digest
        }
    };
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn sweep(from: u64, seeds: u64, size: Size) -> bool {
    let (mut acknowledged, mut shown) = (0, 0);
    for seed in from..from + seeds {
        let outcome = run(&size.plan(seed));
        if !outcome.violations.is_empty() {
            return tell(seed, size, &outcome);
        }
        acknowledged += outcome.acknowledged;
        shown += outcome.shown;
        if (seed - from + 1).is_multiple_of(50) {
            println!("{} of {seeds} seeds well", seed - from + 1);
        }
    }
    println!("{seeds} seeds well: {acknowledged} sends acknowledged, {shown} entries shown, none lost or doubled");
    true
}

/// Prints how a run ended; true if it was well.
fn tell(seed: u64, size: Size, outcome: &Outcome) -> bool {
    let Outcome { violations, history, digest, acknowledged, shown, faults } = outcome;
    if violations.is_empty() {
        println!(
            "seed {seed} well: {acknowledged} sends acknowledged, {shown} entries shown, {faults} faults, digest {digest:016x}"
        );
        return true;
    }
    println!("{history}\nseed {seed} FAILED:");
    for violation in violations {
        println!("  {violation}");
    }
    println!("to repeat it:\n  {}", size.replay(seed));
    false
}
