//! Tells the binary which commit it was built from, so that a report can name it.

use std::path::Path;
use std::process::Command;

fn main() {
    // Changes with every commit and every checkout.
    let log = Path::new("../.git/logs/HEAD");
    if log.exists() {
        println!("cargo::rerun-if-changed={}", log.display());
    } else {
        println!("cargo::rerun-if-changed=build.rs");
    }
    println!("cargo::rerun-if-env-changed=ROOST_COMMIT");
    let commit = std::env::var("ROOST_COMMIT").ok().or_else(|| {
        let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    });
    if let Some(commit) = commit.filter(|commit| !commit.is_empty()) {
        println!("cargo::rustc-env=ROOST_COMMIT={commit}");
    }
}
