//! Many seeds, on as many threads as wanted. A run has one thread of its own.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::Args;
use roost_sim::{FaultCounts, Outcome, run};

use crate::{Size, tell};

/// How often the progress is told.
const TELL_EVERY: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(crate) struct Sweep {
    /// How many
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256))]
    jobs: u64,
    /// Go on behind seeds that fail
    #[arg(long)]
    keep_going: bool,
    /// Write the counts to this file, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(flatten)]
    size: Size,
}

/// What many runs add up to.
#[derive(Default)]
struct Sum {
    seeds: u64,
    failed: Vec<u64>,
    acknowledged: u64,
    refused: u64,
    shown: u64,
    told: u64,
    memberships: u64,
    native: u64,
    moves: u64,
    pages: u64,
    followed: u64,
    steps: u64,
    faults: FaultCounts,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.acknowledged += outcome.acknowledged;
        self.refused += outcome.refused;
        self.shown += outcome.shown;
        self.told += outcome.told;
        self.memberships += outcome.memberships;
        self.native += outcome.native;
        self.moves += outcome.moves;
        self.pages += outcome.pages;
        self.followed += outcome.followed;
        self.steps += outcome.steps;
        self.faults += &outcome.faults;
    }

    fn fields(&self) -> [(&'static str, u64); 12] {
        [
            ("seeds", self.seeds),
            ("sends acknowledged", self.acknowledged),
            ("sends refused", self.refused),
            ("entries shown", self.shown),
            ("pushes and replies checked", self.told),
            ("changes of membership", self.memberships),
            ("sessions by QUIC", self.native),
            ("sessions handed over", self.moves),
            ("pages on streams of their own", self.pages),
            ("addresses followed", self.followed),
            ("steps", self.steps),
            ("faults", self.faults.total()),
        ]
    }
}

impl Sweep {
    /// True if every seed was well.
    pub(crate) fn run(self) -> bool {
        let began = Instant::now();
        let (next, stop) = (AtomicU64::new(self.from), AtomicBool::new(false));
        let end = self.from + self.seeds;
        let mut sum = Sum::default();
        std::thread::scope(|scope| {
            let (sender, outcomes) = mpsc::channel();
            for _ in 0..self.jobs {
                let (sender, next, stop, size) = (sender.clone(), &next, &stop, self.size);
                scope.spawn(move || {
                    while !stop.load(Relaxed) {
                        let seed = next.fetch_add(1, Relaxed);
                        if seed >= end || sender.send((seed, run(&size.plan(seed)))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            let mut told = Instant::now();
            for (seed, outcome) in outcomes {
                sum.add(&outcome);
                if !outcome.violations.is_empty() {
                    clear_line();
                    tell(seed, self.size, &outcome);
                    sum.failed.push(seed);
                    stop.store(!self.keep_going, Relaxed);
                }
                if told.elapsed() >= TELL_EVERY {
                    told = Instant::now();
                    self.progress(&sum, began.elapsed());
                }
            }
        });
        self.end(&sum, began.elapsed())
    }

    fn progress(&self, sum: &Sum, took: Duration) {
        let rate = sum.seeds as f64 / took.as_secs_f64();
        let left = (self.seeds - sum.seeds) as f64 / rate;
        let line = format!(
            "{} of {} seeds, {} failed, {rate:.1} seeds/s, {left:.0} s left",
            sum.seeds,
            self.seeds,
            sum.failed.len()
        );
        if std::io::stdout().is_terminal() {
            print!("\r{line}   ");
            let _ = std::io::stdout().flush();
        } else {
            println!("{line}");
        }
    }

    fn end(&self, sum: &Sum, took: Duration) -> bool {
        clear_line();
        for (name, count) in sum.fields() {
            println!("{count:>10}  {name}");
        }
        println!("of these faults:\n{}", sum.faults);
        let rate = sum.seeds as f64 / took.as_secs_f64();
        println!("{:.1} s, {rate:.1} seeds/s", took.as_secs_f64());
        if let Some(path) = &self.json
            && let Err(error) = std::fs::write(path, json(sum, took))
        {
            eprintln!("{} cannot be written: {error}", path.display());
            return false;
        }
        if sum.failed.is_empty() {
            println!("all seeds well");
        } else {
            println!("FAILED: {:?}", sum.failed);
        }
        sum.failed.is_empty()
    }
}

/// Names are ours and need no escapes.
fn json(sum: &Sum, took: Duration) -> String {
    let line = |name: &str, count: u64| format!("    \"{name}\": {count}");
    let counts: Vec<String> = sum.fields().iter().map(|(name, count)| line(name, *count)).collect();
    let faults: Vec<String> = sum.faults.iter().map(|(fault, count)| line(fault.name(), count)).collect();
    format!(
        "{{\n  \"seconds\": {:.1},\n  \"failed\": {:?},\n  \"counts\": {{\n{}\n  }},\n  \"faults\": {{\n{}\n  }}\n}}\n",
        took.as_secs_f64(),
        sum.failed,
        counts.join(",\n"),
        faults.join(",\n")
    )
}

fn clear_line() {
    if std::io::stdout().is_terminal() {
        print!("\r{:60}\r", "");
    }
}
