//! `cargo xtask sim …`: the simulator, built for speed. Everything behind `sim` is its own.

use std::ffi::OsString;

use anyhow::bail;

use crate::steps::cargo;

pub(crate) fn run(args: &[OsString]) -> anyhow::Result<()> {
    let mut sim = cargo(["run", "--quiet", "--release", "--package", "roost-sim", "--"]);
    if !sim.args(args).status()?.success() {
        bail!("the simulation found something, or could not run");
    }
    Ok(())
}
