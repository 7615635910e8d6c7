//! `cargo xtask bench cluster`: what a fleet on a real Redis and a real Cassandra does on this machine.
//!
//! Everything is in one run: the store beside a bare program of conditional inserts, a router on it, the bus beside bare
//! PINGs, deliveries within a node beside those between nodes, and ten thousand clients whose node dies.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::place;
use crate::dev::{Fleet, Shape};
use crate::steps::{Steps, cargo, root, target};
use crate::tools;

/// Rounds of deliveries, within a node and between nodes in turns.
const ROUNDS: usize = 3;

/// Runs all of it. `quick` only shows that it works: a second of each, and nothing is kept.
pub(crate) fn run(steps: &mut Steps, quick: bool) -> anyhow::Result<()> {
    tools::databases()?;
    super::build(steps, &["--package", "roost-faults"])?;
    for (package, example) in
        [("roost-storage", "cql_append_rate"), ("roost-router", "durable_sends"), ("roost-router", "bus_rate")]
    {
        let build = ["build", "--release", "--package", package, "--example", example];
        steps.run(&format!("build {example}"), &mut cargo(build))?;
    }
    let mut page = format!("# A fleet on Redis and Cassandra\n\n{:#}\n", place::describe());
    let seconds = if quick { "1" } else { "10" };
    {
        let fleet = Fleet::start(Shape { nodes: 3, routers: 0, ring: 1 })?;
        let at = fleet.cassandra.contact_points()[0].to_string();
        said(&mut page, "cql_append_rate", &[seconds, "64", &at])?;
        for kind in ["cql", "cql-hot"] {
            said(&mut page, "durable_sends", &[kind, "64", seconds, &at])?;
        }
        deliveries(&mut page, &fleet, if quick { 1 } else { ROUNDS }, quick)?;
    }
    said(&mut page, "bus_rate", &[if quick { "1000" } else { "100000" }])?;
    let faults = target().join("release/roost-faults");
    let mut crowd = Command::new(faults);
    crowd.arg("--roost").arg(target().join("release/roost")).args(["--crowd", if quick { "100" } else { "10000" }]);
    tell(&mut page, &mut crowd)?;
    println!("\n{page}");
    if !quick {
        let path = root().join("benches/results").join(format!("{}-cluster.md", place::today()));
        std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
        println!("kept in {}", path.display());
    }
    Ok(())
}

/// Runs an example and puts on the page what it said.
fn said(page: &mut String, example: &str, args: &[&str]) -> anyhow::Result<()> {
    tell(page, Command::new(target().join("release/examples").join(example)).args(args))
}

fn tell(page: &mut String, command: &mut Command) -> anyhow::Result<()> {
    println!("\n==> {command:?}");
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{command:?} failed:\n{text}{}", String::from_utf8_lossy(&output.stderr));
    let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
    writeln!(page, "\n`{name} {}`\n\n```\n{}\n```", args.join(" "), text.trim_end())?;
    Ok(())
}

/// Deliveries to people on the same node, and to people on any of three.
fn deliveries(page: &mut String, fleet: &Fleet, rounds: usize, quick: bool) -> anyhow::Result<()> {
    let urls = fleet.urls();
    writeln!(
        page,
        "\n| deliveries, 300 clients, 200 sends a second | p50 ms | p99 ms | acknowledged | lost, doubled, reordered |"
    )?;
    writeln!(page, "|---|---|---|---|---|")?;
    for _ in 0..rounds {
        for (what, to) in [("within a node", urls[0].clone()), ("between three nodes", urls.join(","))] {
            let report = quick_load(&to, &fleet.key, quick)?;
            let ms = |name: &str| report["delivery_us"][name].as_f64().map_or(0.0, |us| us / 1e3);
            let wrong = ["lost", "duplicated", "reordered"].map(|name| report[name].to_string()).join(", ");
            let acknowledged = &report["sends"]["acknowledged"];
            writeln!(page, "| {what} | {:.1} | {:.1} | {acknowledged} | {wrong} |", ms("p50"), ms("p99"))?;
        }
    }
    Ok(())
}

fn quick_load(to: &str, key: &Path, quick: bool) -> anyhow::Result<Value> {
    let out = target().join("bench/cluster");
    let mut load = Command::new(target().join("release/roost-load"));
    load.args([
        "quick",
        "--target",
        to,
        "--clients",
        "300",
        "--rate",
        "200",
        "--for",
        if quick { "2s" } else { "20s" },
    ]);
    load.arg("--token-key").arg(key).arg("--out").arg(&out);
    println!("\n==> {load:?}");
    let status = load.status().context("cannot start roost-load")?;
    ensure!(status.success(), "roost-load ended with {status}");
    let text = std::fs::read_to_string(out.join("report.json")).context("there is no report")?;
    serde_json::from_str(&text).context("the report is no JSON")
}
