//! `roost doctor`: what this machine can hold, what stands in the way, and the lines that mend it.
//!
//! - `facts`: plain numbers; `read`: where they come from;
//! - `capacity`: how many sessions fit; `sysctls`: what the kernel should be told; `findings`: what the facts mean;
//! - `tell`: for people.
//!
//! Only `read` and `apply` touch the machine: all else is facts in, findings out.

mod capacity;
mod facts;
mod findings;
mod read;
mod sysctls;
mod tell;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use self::capacity::Capacity;
use self::findings::{Finding, Status, findings};
use crate::config::Config;
use crate::system::Root;

#[derive(Args)]
pub(crate) struct DoctorArgs {
    /// Sessions it is to hold [default: what memory allows, at most the default of connections_max]
    #[arg(long = "for", value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    sessions: Option<u64>,
    /// Directory that the data will be in: its fsync is timed
    #[arg(long, value_name = "DIR", env = "ROOST_DATA", default_value = "roost-data")]
    data: PathBuf,
    /// Say it as JSON
    #[arg(long)]
    json: bool,
    /// Mend what this user may: sysctls and the like, until the next start of the machine
    #[arg(long, conflicts_with = "print")]
    fix: bool,
    /// Write a file for /etc/sysctl.d to the standard output, and look at nothing else
    #[arg(long, conflicts_with = "json")]
    print: bool,
    /// Where /proc and /sys are, for tests
    #[arg(long, value_name = "DIR", hide = true, default_value = "/")]
    system_root: PathBuf,
}

/// Runs the command and gives its exit code: 0 fine, 1 something stands in the way.
pub(crate) fn run(args: &DoctorArgs) -> ExitCode {
    match examine(args) {
        Ok(Status::Ok | Status::Warn) => ExitCode::SUCCESS,
        Ok(Status::Bad) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("roost: cannot write what was found: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Looks, mends if asked, tells. The worst of what was found.
fn examine(args: &DoctorArgs) -> io::Result<Status> {
    let mut out = io::stdout().lock();
    let root = Root::new(&args.system_root);
    let mut facts = read::facts(&root, &args.data);
    let mut capacity = Capacity::of(&facts);
    // A server that is told nothing takes no more.
    let by_default = Config::default().connections_max as u64;
    let sessions = args.sessions.unwrap_or_else(|| capacity.memory.unwrap_or(by_default).clamp(1, by_default));
    if args.print {
        out.write_all(sysctls::file(sessions).as_bytes())?;
        return Ok(Status::Ok);
    }
    let mut found = findings(&facts, sessions);
    let mut mended = Vec::new();
    if args.fix {
        mended = apply(&root, &found);
        facts = read::facts(&root, &args.data);
        capacity = Capacity::of(&facts);
        found = findings(&facts, sessions);
    }
    let worst = found.iter().map(|finding| finding.status).max().unwrap_or(Status::Ok);
    if args.json {
        let told = json!({
            "sessions": sessions,
            "holds": { "uring": capacity.uring(), "poll": capacity.poll(), "by": capacity },
            "status": worst,
            "findings": found,
            "mended": mended.iter().map(Mended::text).collect::<Vec<_>>(),
            "facts": facts,
        });
        writeln!(out, "{told:#}")?;
        return Ok(worst);
    }
    for mended in &mended {
        writeln!(out, "{}", mended.text())?;
    }
    if !mended.is_empty() {
        writeln!(out)?;
    }
    out.write_all(tell::text(&facts, &capacity, sessions, &found, io::stdout().is_terminal()).as_bytes())?;
    Ok(worst)
}

/// What became of a fix.
struct Mended {
    line: String,
    result: io::Result<()>,
}

impl Mended {
    fn text(&self) -> String {
        match &self.result {
            Ok(()) => format!("done: {}", self.line),
            Err(error) => format!("not done ({error}): {}", self.line),
        }
    }
}

/// Does what can be done by writing a file of the kernel.
fn apply(root: &Root, findings: &[Finding]) -> Vec<Mended> {
    let fixes = findings.iter().filter(|finding| finding.status != Status::Ok).flat_map(|finding| &finding.fixes);
    let written = fixes.filter_map(|fix| {
        let (file, text) = fix.write.as_ref()?;
        // Never made: what is not there is no setting of this kernel.
        let result = std::fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(root.at(file))
            .and_then(|mut file| file.write_all(text.as_bytes()));
        Some(Mended { line: fix.line.clone(), result })
    });
    written.collect()
}
