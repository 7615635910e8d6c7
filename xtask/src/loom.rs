//! `cargo xtask loom`: models of what threads share, under every order in which the threads can meet.
//!
//! The models lie in the crates, beside the code they are of, behind `--cfg roost_model`. Only the crate itself is
//! compiled with it (`cargo rustc`), so nothing else is built twice.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::steps::{Steps, cargo};

/// Crates that have models, all in modules called `models`.
const CRATES: &[&str] = &["roost-edge", "roost-router", "roost-storage"];

/// Runs the models whose name contains `filter`; all if it is empty.
pub(crate) fn run(steps: &mut Steps, filter: &str) -> anyhow::Result<()> {
    let mut ran = false;
    for name in CRATES {
        let program = build(name)?;
        let list = Command::new(&program).arg("--list").output()?;
        let wanted: Vec<String> = String::from_utf8_lossy(&list.stdout)
            .lines()
            .filter_map(|line| line.strip_suffix(": test"))
            .filter(|test| test.contains("models::") && test.contains(filter))
            .map(str::to_owned)
            .collect();
        if wanted.is_empty() {
            if filter.is_empty() {
                bail!("{name} has no models");
            }
            continue;
        }
        ran = true;
        steps.tests(&format!("models of {name}"), Command::new(&program).arg("--exact").args(wanted))?;
    }
    if ran { Ok(()) } else { bail!("no model's name contains {filter}") }
}

/// The tests of `name`, compiled for the models.
fn build(name: &str) -> anyhow::Result<PathBuf> {
    let mut build = cargo(["rustc", "--quiet", "--package", name, "--lib", "--profile", "test"]);
    build.args(["--message-format", "json-render-diagnostics", "--", "--cfg", "roost_model"]);
    println!("\n==> build the models of {name}: {build:?}");
    let output = build.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the models of {name} do not compile; to repeat it:\n  {build:?}");
    }
    let messages = String::from_utf8(output.stdout)?;
    let programs = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let program = programs.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back();
    program.with_context(|| format!("cargo named no program for the models of {name}"))
}
