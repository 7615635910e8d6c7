//! `cargo xtask test`: every test there is.

use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum;

use crate::autobahn;
use crate::steps::{Steps, cargo, root, target};
use crate::{loom, miri, tools};

/// A part of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// `cargo test` over the workspace.
    Rust,
    /// Models of what threads share: every order in which they can meet.
    Loom,
    /// Unit tests under Miri, where it is here or can be installed.
    Miri,
    /// The web client: modules in node, pages in Chromium.
    Web,
    /// A second implementation of the protocol as the client: Python's `websockets`, and aioquic.
    Python,
    /// The Autobahn test suite against a release build.
    Autobahn,
    /// A fleet of real processes, broken in every way while people talk; some of these ways where all tests are run.
    Faults,
}

/// Python packages of the tests.
const PYTHON_PACKAGES: &[&str] = &["pytest==9.2.0", "websockets==17.4", "aioquic==1.7.2", "grpcio-tools==1.85.1"];

pub(crate) fn run(steps: &mut Steps, parts: &[Part]) -> anyhow::Result<()> {
    let wanted = |part| parts.is_empty() || parts.contains(&part);
    if wanted(Part::Rust) {
        // A broker of another hand, which the load generator's clients meet.
        if let Err(error) = tools::mosquitto(steps) {
            println!("\nleft out: clients against mosquitto. {error:#}");
        }
        // The way between nodes, and the store that they share.
        tools::databases()?;
        steps.tests("rust", &mut cargo(["test", "--workspace"]))?;
        // What has connections was tried with the driver that is chosen by itself, io_uring where the kernel allows it.
        let mut again = cargo(["test", "--package", "roost-edge", "--package", "roost-server", "--tests"]);
        steps.tests("rust, driver poll", again.env("ROOST_DRIVER", "poll"))?;
    }
    if wanted(Part::Loom) {
        loom::run(steps, "")?;
    }
    if wanted(Part::Miri) {
        miri::run_if_here(steps)?;
    }
    if wanted(Part::Faults) {
        faults(steps, parts.contains(&Part::Faults))?;
    }
    if wanted(Part::Web) || wanted(Part::Python) {
        steps.run("build the server", &mut cargo(["build", "--package", "roost-server"]))?;
    }
    if wanted(Part::Python) {
        let programs = tools::python_env(steps, "tests", PYTHON_PACKAGES)?;
        let mut pytest = Command::new(programs.join("pytest"));
        pytest.args(["tests/python", "-p", "no:cacheprovider", "-v"]).current_dir(root()).env("ROOST_BIN", server());
        steps.tests("python", pytest.env("PYTHONDONTWRITEBYTECODE", "1"))?;
    }
    if wanted(Part::Autobahn) {
        // Who asks for it by name gets it or an error; who asks for everything is told what is left out.
        if parts.is_empty() && tools::python2().is_none() {
            println!("\nleft out: the Autobahn test suite. {}", autobahn::NO_PYTHON);
        } else {
            autobahn::run(steps, &autobahn::Plan { quick: true, tls: false, cases: &[], keep: false })?;
            let cases: Vec<String> = autobahn::BY_TLS.iter().map(|&pattern| pattern.to_owned()).collect();
            autobahn::run(steps, &autobahn::Plan { quick: false, tls: true, cases: &cases, keep: false })?;
        }
    }
    if wanted(Part::Web) {
        tools::chromium(steps)?;
        tools::node_packages(steps)?;
        // The page of a load is tested on one that was put on.
        steps.run("build roost-load", &mut cargo(["build", "--package", "roost-loadgen"]))?;
        let mut npm = Command::new("npm");
        npm.args(["test", "--silent"]).current_dir(root().join("web")).env("ROOST_BIN", server());
        npm.env("ROOST_LOAD_BIN", server().with_file_name("roost-load"));
        steps.tests("web", &mut npm)?;
    }
    Ok(())
}

/// Breaks fleets, of nodes that do everything and of edges and routers apart: in `every` way, or in those that a
/// minute shows.
fn faults(steps: &mut Steps, every: bool) -> anyhow::Result<()> {
    tools::databases()?;
    let release: &[&str] = if every { &["--release"] } else { &[] };
    let build = ["build", "--package", "roost-server", "--package", "roost-faults"];
    steps.run("build the fleet", &mut cargo(build.iter().chain(release).copied()))?;
    let folder = target().join(if every { "release" } else { "debug" });
    for (name, shape, some) in [
        ("faults of nodes", &["--nodes", "3"][..], "node-killed,redis-killed,cassandra-killed"),
        ("faults of edges and routers", &["--nodes", "3", "--routers", "2"], "router-killed,link-dark"),
    ] {
        let mut command = Command::new(folder.join("roost-faults"));
        command.arg("--roost").arg(folder.join("roost")).args(shape);
        if !every {
            command.args(["--only", some, "--people", "10", "--every", "200ms"]);
        }
        steps.run(name, &mut command)?;
    }
    Ok(())
}

/// The server that `build the server` made.
fn server() -> PathBuf {
    target().join("debug").join("roost")
}
