//! `cargo xtask check`: everything that needs no server.

use clap::ValueEnum;

use crate::steps::{Steps, cargo};
use crate::{dependencies, deploy, features, metrics, pages, settings, unsafe_code};

/// A part of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// rustfmt.
    Format,
    /// clippy, over tests and benches too.
    Lints,
    /// rustdoc: broken links, missing pages.
    Docs,
    /// cargo-deny: licences, sources, bans, advisories where they can be had; the list of parts.
    Dependencies,
    /// Unsafe code in named places alone, with its reasons.
    Unsafe,
    /// Pages that make claims about the sources: features, metrics, settings.
    Pages,
    /// What lies in deploy/, by the tools that will read it.
    Deploy,
    /// Unit tests.
    Unit,
    /// Simulated deployments, many seeds.
    Sim,
}

pub(crate) fn run(steps: &mut Steps, parts: &[Part]) -> anyhow::Result<()> {
    for part in Part::value_variants() {
        if parts.is_empty() || parts.contains(part) {
            part.run(steps)?;
        }
    }
    Ok(())
}

impl Part {
    fn run(self, steps: &mut Steps) -> anyhow::Result<()> {
        match self {
            Self::Format => steps.run("format", &mut cargo(["fmt", "--all", "--check"])),
            Self::Lints => {
                let mut clippy = cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
                steps.run("lints", &mut clippy)
            }
            Self::Docs => {
                let mut docs = cargo(["doc", "--workspace", "--no-deps", "--quiet"]);
                steps.run("docs", docs.env("RUSTDOCFLAGS", "-D warnings"))
            }
            Self::Dependencies => dependencies::check(steps),
            Self::Unsafe => unsafe_code::check(),
            Self::Pages => {
                pages::check()?;
                features::check()?;
                metrics::check()?;
                settings::check()
            }
            Self::Deploy => deploy::check(steps),
            Self::Sim => {
                // `cargo xtask test` has 200 others, and the seeds that once failed.
                let mut sim = cargo(["run", "--quiet", "--package", "roost-sim", "--", "sweep"]);
                steps.run("simulation", sim.args(["--from", "1000000", "--seeds", "60"]))
            }
            Self::Unit => steps.tests("unit tests", &mut cargo(["test", "--workspace", "--lib", "--bins", "--quiet"])),
        }
    }
}
