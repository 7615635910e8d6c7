//! `roost store`: looks through a data directory while no server has it, and repairs it; makes keyspaces.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::migrate;
use crate::config::StoreAt;
use clap::{Args, Subcommand};
use roost_storage::embedded::{RepairError, Repaired, Report, check, repair};

/// The store is damaged, or a repair failed.
const EXIT_DAMAGED: u8 = 1;
/// The question was not answered with yes.
const EXIT_USAGE: u8 = 2;
/// The store cannot be opened: another process has it, it is of a newer version, or there is none.
const EXIT_CLOSED: u8 = 3;
/// How often the progress is shown.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(crate) struct StoreArgs {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Subcommand)]
enum StoreCommand {
    /// Look through a data directory for damage, without changing it
    #[command(
        after_help = "Every file is read and compared with its checksum, then everything in it with everything else: logs \
        without gaps, heads, index rows, members, marks, names. The server must not be running.\n\n\
        EXIT CODES\n  \
        0  sound\n  \
        1  damaged\n  \
        2  wrong usage\n  \
        3  it cannot be opened: a server has it (the message says which process), or there is no store\n\n\
        EXAMPLES\n  \
        roost store check roost-data\n  \
        roost store check /srv/roost --json | jq .problems_by_kind"
    )]
    Check {
        /// The data directory
        dir: PathBuf,
        /// Say it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a keyspace in Cassandra or ScyllaDB, or bring it to what this version needs
    #[command(
        after_help = "Safe to run again, and while nodes start or serve. A keyspace of a newer version is refused.\n\n\
        EXAMPLES\n  \
        roost store migrate cql://db1,db2,db3/roost --replication 3\n  \
        roost store migrate 'cql://db1/roost?datacenter=eu' --replication 3 --datacenter eu"
    )]
    Migrate {
        /// The keyspace, as in --store
        store: StoreAt,
        /// On how many servers everything is kept, if the keyspace is made now
        #[arg(long, value_name = "N", default_value_t = 3)]
        replication: u8,
        /// In which data center [default: every one]
        #[arg(long, value_name = "NAME")]
        datacenter: Option<String>,
    },
    /// Write the key that signs tokens, of a store that nodes share, to a file: for tools that mint tokens
    #[command(after_help = "EXAMPLE\n  roost store key cql://db1/roost --out token-key")]
    Key {
        /// The keyspace, as in --store
        store: StoreAt,
        /// The file; it must not exist. Whoever can read it can be anybody
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Make a damaged data directory sound again, keeping all that can be read
    #[command(
        after_help = "A sound store is left as it is. Otherwise the directory is copied to DIR.before-repair-SECONDS first; then of \
        every conversation the longest beginning without a gap is kept, and index rows, members and names are made anew \
        from what is there. Every lost message is told by conversation and number. A repair that was interrupted is run \
        again.\n\n\
        EXIT CODES\n  \
        0  sound now\n  \
        1  it could not be repaired; the message says why\n  \
        2  wrong usage, or not answered with yes\n  \
        3  it cannot be opened: a server has it (the message says which process), or there is no store\n\n\
        EXAMPLES\n  \
        roost store repair roost-data                     asks before it changes anything\n  \
        roost store repair /srv/roost --yes\n  \
        roost store repair /srv/roost --yes --no-backup   when there is a copy already and no room for another"
    )]
    Repair {
        /// The data directory
        dir: PathBuf,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Make no copy of the damaged directory
        #[arg(long)]
        no_backup: bool,
        /// Say what was done as JSON
        #[arg(long, requires = "yes")]
        json: bool,
    },
}

/// Runs the command and gives its exit code.
pub(crate) fn run(args: StoreArgs) -> ExitCode {
    let code = match args.command {
        StoreCommand::Check { dir, json } => run_check(&dir, json),
        StoreCommand::Migrate { store, replication, datacenter } => {
            return told(&migrate::migrate(&store, replication, datacenter));
        }
        StoreCommand::Key { store, out } => return told(&migrate::write_key(&store, &out)),
        StoreCommand::Repair { dir, yes, no_backup, json } => run_repair(&dir, yes, !no_backup, json),
    };
    match code {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("roost: cannot write what was found: {error}");
            ExitCode::FAILURE
        }
    }
}

fn told(done: &anyhow::Result<()>) -> ExitCode {
    let Err(error) = done else { return ExitCode::SUCCESS };
    eprintln!("roost: {error:#}");
    ExitCode::FAILURE
}

fn run_check(dir: &Path, json: bool) -> io::Result<u8> {
    let report = match check(dir, &mut shown()) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("roost: {error}");
            return Ok(EXIT_CLOSED);
        }
    };
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        tell(&mut out, dir, &report)?;
    }
    Ok(if report.is_sound() { 0 } else { EXIT_DAMAGED })
}

fn run_repair(dir: &Path, yes: bool, backup: bool, json: bool) -> io::Result<u8> {
    if !yes {
        let code = run_check(dir, false)?;
        if code != EXIT_DAMAGED {
            return Ok(code);
        }
        if !asked()? {
            eprintln!("roost: nothing was changed (answer with yes, or say --yes)");
            return Ok(EXIT_USAGE);
        }
    }
    match repair(dir, backup, &mut shown()) {
        Ok(repaired) if json => {
            writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&repaired)?)?;
            Ok(0)
        }
        Ok(repaired) => tell_repaired(dir, &repaired).map(|()| 0),
        Err(error) => {
            eprintln!("roost: {error}");
            Ok(if matches!(error, RepairError::Open(_)) { EXIT_CLOSED } else { EXIT_DAMAGED })
        }
    }
}

/// Shows the progress on a terminal.
fn shown() -> impl FnMut(&str, u64) {
    let (mut last, terminal) = (Instant::now(), io::stderr().is_terminal());
    move |what, done| {
        if terminal && last.elapsed() >= PROGRESS_EVERY {
            last = Instant::now();
            eprint!("\r\x1b[K{done} {what}\r");
        }
    }
}

fn tell(out: &mut impl Write, dir: &Path, report: &Report) -> io::Result<()> {
    let counts = report.counts;
    writeln!(
        out,
        "{}: {} conversations, {} entries, {} index rows, {} members, {} users in {} bytes",
        dir.display(),
        counts.conversations,
        counts.entries,
        counts.rows,
        counts.members,
        counts.users,
        counts.bytes
    )?;
    for problem in &report.problems {
        writeln!(out, "  {:<8} {}", format!("{:?}", problem.kind).to_lowercase(), problem.what)?;
    }
    let all: u64 = report.problems_by_kind.values().sum();
    let told = report.problems.len() as u64;
    if all > told {
        writeln!(out, "  and {} more", all - told)?;
    }
    match all {
        0 => writeln!(out, "Sound."),
        1 => writeln!(out, "Damaged: 1 problem. `roost store repair {}` keeps what is sound.", dir.display()),
        _ => writeln!(out, "Damaged: {all} problems. `roost store repair {}` keeps what is sound.", dir.display()),
    }
}

/// Asks on the terminal; nobody there means no.
fn asked() -> io::Result<bool> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("Repair it? What cannot be read is lost for good, but for the copy. Type yes: ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

fn tell_repaired(dir: &Path, repaired: &Repaired) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if repaired.before.is_sound() {
        return writeln!(out, "{} is sound: nothing was changed.", dir.display());
    }
    for lost in &repaired.lost {
        writeln!(out, "  lost     {}: messages {} to {}", lost.conv, lost.first, lost.last)?;
    }
    for note in &repaired.notes {
        writeln!(out, "  changed  {note}")?;
    }
    if let Some(backup) = &repaired.backup {
        writeln!(out, "The damaged directory was copied to {}.", backup.display())?;
    }
    let counts = repaired.after.counts;
    let (convs, entries) = (counts.conversations, counts.entries);
    writeln!(out, "{} is sound now: {convs} conversations, {entries} entries.", dir.display())?;
    if repaired.lost.is_empty()
        && repaired.before.problems_by_kind.contains_key(&roost_storage::embedded::ProblemKind::Lost)
    {
        writeln!(out, "Acknowledged commits were lost, and nothing that is left says what was in them.")?;
    }
    Ok(())
}
