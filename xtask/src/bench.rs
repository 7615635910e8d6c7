//! `cargo xtask bench`.

use crate::steps::{Steps, cargo};

pub(crate) fn run(steps: &mut Steps, quick: bool) -> anyhow::Result<()> {
    let mut criterion = cargo(["bench", "--package", "roost-benches", "--benches"]);
    if quick {
        criterion.args(["--", "--quick"]);
    }
    steps.run("criterion", &mut criterion)
}
