//! `cargo xtask check`: everything that needs no server.

use std::process::Command;

use crate::steps::{Steps, cargo, root};
use crate::{features, tools};

pub(crate) fn run(steps: &mut Steps) -> anyhow::Result<()> {
    steps.run("format", &mut cargo(["fmt", "--all", "--check"]))?;
    steps.run("lints", &mut cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    let mut docs = cargo(["doc", "--workspace", "--no-deps", "--quiet"]);
    steps.run("docs", docs.env("RUSTDOCFLAGS", "-D warnings"))?;
    let deny = tools::cargo_deny(steps)?;
    // Advisories need the database of the RustSec project; where it cannot be fetched the rest is checked all the same.
    let mut checks = vec!["check", "bans", "licenses", "sources"];
    if std::env::var_os("ROOST_CHECK_ADVISORIES").is_some() {
        checks.push("advisories");
    } else {
        println!("\nadvisories are not checked (ROOST_CHECK_ADVISORIES=1 checks them; it fetches their database)");
    }
    steps.run("dependencies", Command::new(deny).args(checks).current_dir(root()))?;
    features::check()?;
    steps.tests("unit tests", &mut cargo(["test", "--workspace", "--lib", "--bins", "--quiet"]))
}
