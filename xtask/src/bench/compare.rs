//! Rounds of measurements, one server after the other.

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::case::{Case, Comparison};
use super::place;
use super::results::{Measured, Results};
use super::server::{Kind, Running};
use super::{OTHERS, build};
use crate::steps::{Steps, root, target};

/// Rounds of a run whose figures are kept: the median of three stands one bad one.
const ROUNDS: usize = 3;

/// Builds, measures, and keeps the figures unless `quick`.
pub(crate) fn run(steps: &mut Steps, comparison: &'static Comparison, quick: bool) -> anyhow::Result<()> {
    build(steps, &OTHERS)?;
    descriptors()?;
    let place = place::describe();
    let mut measured = Vec::new();
    for round in 1..=if quick { 1 } else { ROUNDS } {
        for case in comparison.cases {
            for kind in case.servers {
                println!("\n==> round {round}: {}, {}", case.what, kind.name());
                measured.push(
                    measure(case, *kind, round, quick)
                        .with_context(|| format!("round {round}: {} of {}", case.name, kind.name()))?,
                );
            }
        }
    }
    let results = Results::new(comparison, place, measured, quick);
    println!("\n{}", results.page());
    if !quick {
        results.keep(&root().join("benches/results"))?;
    }
    Ok(())
}

fn measure(case: &Case, kind: Kind, round: usize, quick: bool) -> anyhow::Result<Measured> {
    let server = Running::start(kind, &target().join("bench").join(kind.name()))?;
    let (report, generator_was_the_limit) = server.load(case.args(quick))?;
    let figure = case.figure(&report)?;
    println!("{}: {figure:.*}", case.what, case.decimals);
    Ok(Measured { case: case.name, server: kind.name(), round, figure, generator_was_the_limit, report })
}

/// Raises the limit of descriptors as far as it goes: servers and generator inherit it.
pub(crate) fn descriptors() -> anyhow::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("cannot raise the limit of descriptors")
}
