//! `cargo xtask miri`: unit tests run by an interpreter that sees undefined behaviour: in our own unsafe code, and in
//! what the crates below do with the bytes we give them.
//!
//! It is some hundred times slower than the machine, so tests that prove a figure or walk large tables are left to
//! `cargo test`; random ones run a few cases.

use std::process::Command;

use anyhow::bail;

use crate::steps::{Steps, root, target};

/// What has Miri.
const TOOLCHAIN: &str = "+nightly";
/// How to get it.
const GET: &str = "rustup toolchain install nightly --component miri --component rust-src";
/// Cases of each random test.
const CASES: &str = "2";

/// What is run: a package, the tests wanted of it (none for all), and those that take too long.
const SUITES: &[(&str, &[&str], &[&str])] = &[
    ("roost-wire", &[], &["a_command_that_names_too_many_users", "memory_follows_what_arrived"]),
    // A whole shard checks itself at every step; its parts are run here, and the shard by all other tests.
    ("roost-edge-core", &[], &["shard::", "each_timer_goes_off_once", "a_fan_out_serves_everybody"]),
    ("roost-uring", &["arena::", "address::"], &[]),
    ("roost-edge", &["address::"], &["places_without_connections_are_forgotten"]),
];

/// Runs it, after trying to install it. Not having it is a failure.
pub(crate) fn run(steps: &mut Steps) -> anyhow::Result<()> {
    if !here() {
        bail!("Miri is not here and cannot be installed. To get it:\n  {GET}");
    }
    // Isolation would forbid the clock, which tests begin with, and the files of proptest.
    let flags = "-Zmiri-disable-isolation";
    for (package, wanted, skipped) in SUITES {
        let mut tests = Command::new("cargo");
        tests.args([TOOLCHAIN, "miri", "test", "--quiet", "--package", package, "--lib", "--"]).args(*wanted);
        tests.args(skipped.iter().flat_map(|name| ["--skip", *name])).current_dir(root());
        tests.env("MIRIFLAGS", flags).env("PROPTEST_CASES", CASES).env("CARGO_TARGET_DIR", target().join("miri"));
        steps.tests(&format!("miri: {package}"), &mut tests)?;
    }
    Ok(())
}

/// Runs it if it is here or can be installed, else says that it was left out.
pub(crate) fn run_if_here(steps: &mut Steps) -> anyhow::Result<()> {
    if here() {
        return run(steps);
    }
    println!("\nSKIPPED: Miri, which is not here and cannot be installed. To get it: {GET}");
    Ok(())
}

/// True if Miri can be called; a nightly without it is given it.
fn here() -> bool {
    let version = || {
        let mut cargo = Command::new("cargo");
        cargo.args([TOOLCHAIN, "miri", "--version"]).output().is_ok_and(|output| output.status.success())
    };
    let add = || {
        let mut rustup = Command::new("rustup");
        rustup.args(["component", "add", "miri", "rust-src", "--toolchain", "nightly"]);
        rustup.status().is_ok_and(|status| status.success())
    };
    version() || (add() && version())
}
