//! What comes into the house from outside: licences, sources, known holes.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::sbom;
use crate::steps::{Steps, ended_within, root, target};
use crate::tools;

/// Known holes of crates.
const DATABASE: &str = "https://github.com/rustsec/advisory-db";
/// Where cargo-deny looks for a copy of it, below its folder of databases: it hashes the address.
const DATABASE_FOLDER: &str = "advisory-db-3157b0e258782691";
/// A copy of the database on this machine: a git repository.
const COPY: &str = "ROOST_ADVISORY_DB";
/// Set: the database must be asked; not being able to is a failure.
const REQUIRED: &str = "ROOST_CHECK_ADVISORIES";
/// How long the database's host has to answer.
const PROBE_WITHIN: Duration = Duration::from_secs(8);

/// Checks licences, sources, bans, advisories where they can be had, and the list of parts.
pub(crate) fn check(steps: &mut Steps) -> anyhow::Result<()> {
    let deny = tools::cargo_deny(steps)?;
    let mut rules = Command::new(&deny);
    steps.run("dependencies", rules.args(["check", "bans", "licenses", "sources"]).current_dir(root()))?;
    advisories(steps, &deny)?;
    sbom::check(steps)
}

fn advisories(steps: &mut Steps, deny: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(deny);
    command.current_dir(root());
    if let Some(copy) = std::env::var_os(COPY) {
        let settings = with_copy(&copy)?;
        command.args(["--offline", "--config"]).arg(settings).args(["check", "advisories"]);
    } else if std::env::var_os(REQUIRED).is_some() || reachable() {
        command.args(["check", "advisories"]);
    } else {
        println!(
            "\nSKIPPED: advisories. Their database cannot be reached from here. To check them: {REQUIRED}=1 with a way to \
             {DATABASE}, or {COPY}=<a git clone of it>."
        );
        return Ok(());
    }
    steps.run("advisories", &mut command)
}

/// True if the database's host answers.
fn reachable() -> bool {
    let mut git = Command::new("git");
    git.args(["ls-remote", "--quiet", "--exit-code", DATABASE, "HEAD"]).env("GIT_TERMINAL_PROMPT", "0");
    let Ok(mut child) = git.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
        return false;
    };
    matches!(ended_within(&mut child, PROBE_WITHIN), Ok(Some(status)) if status.success())
}

/// Puts a clone of `copy` where cargo-deny looks for one, and returns settings that say where that is.
fn with_copy(copy: &OsStr) -> anyhow::Result<PathBuf> {
    let databases = target().join("tools/advisories");
    let clone = databases.join(DATABASE_FOLDER);
    if clone.exists() {
        std::fs::remove_dir_all(&clone).context("cannot remove the last copy of the advisories")?;
    }
    std::fs::create_dir_all(&databases)?;
    let git =
        Command::new("git").args(["clone", "--quiet", "--depth", "1"]).arg(file_url(copy)).arg(&clone).status()?;
    if !git.success() || !clone.join("crates").is_dir() {
        bail!("{COPY}={}: no clone of {DATABASE}", copy.display());
    }
    let settings = std::fs::read_to_string(root().join("deny.toml"))?;
    if settings.contains("db-path") {
        bail!("deny.toml names a db-path of its own");
    }
    let path = databases.join("deny.toml");
    let place = format!("db-path = {:?}", databases.display().to_string());
    std::fs::write(&path, settings.replace("[advisories]", &format!("[advisories]\n{place}")))?;
    Ok(path)
}

/// Of a repository on this machine only the newest commit is needed, which git gives by URL alone.
fn file_url(copy: &OsStr) -> std::ffi::OsString {
    let mut url = std::ffi::OsString::from(if Path::new(copy).is_absolute() { "file://" } else { "" });
    url.push(copy);
    url
}
