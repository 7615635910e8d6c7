//! `cargo xtask check`: everything that needs no server.

use std::process::Command;

use clap::ValueEnum;

use crate::steps::{Steps, cargo, root};
use crate::{deploy, features, metrics, pages, settings, tools};

/// A part of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// rustfmt.
    Format,
    /// clippy, over tests and benches too.
    Lints,
    /// rustdoc: broken links, missing pages.
    Docs,
    /// cargo-deny: licences, sources, bans.
    Dependencies,
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
            Self::Dependencies => dependencies(steps),
            Self::Pages => {
                pages::check()?;
                features::check()?;
                metrics::check()?;
                settings::check()
            }
            Self::Deploy => deploy::check(steps),
            Self::Sim => {
                let mut sim = cargo(["run", "--quiet", "--package", "roost-sim", "--", "sweep", "--seeds", "200"]);
                steps.run("simulation", &mut sim)
            }
            Self::Unit => steps.tests("unit tests", &mut cargo(["test", "--workspace", "--lib", "--bins", "--quiet"])),
        }
    }
}

fn dependencies(steps: &mut Steps) -> anyhow::Result<()> {
    let deny = tools::cargo_deny(steps)?;
    // Advisories need the database of the RustSec project; where it cannot be fetched the rest is checked all the same.
    let mut checks = vec!["check", "bans", "licenses", "sources"];
    if std::env::var_os("ROOST_CHECK_ADVISORIES").is_some() {
        checks.push("advisories");
    } else {
        println!("\nadvisories are not checked (ROOST_CHECK_ADVISORIES=1 checks them; it fetches their database)");
    }
    steps.run("dependencies", Command::new(deny).args(checks).current_dir(root()))
}
