//! `roost-load worker`, and the other end of it: `--workers`.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::args::Common;
use super::run::{Failed, refuse, run_number, secret};
use crate::engine::{Job, Outcome, RunError};
use crate::fleet::coordinator::{self, Plan, Whole};
use crate::fleet::proof::Secret;
use crate::fleet::worker::{LISTEN, Worker};
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::report::WorkerPart;

#[derive(Debug, Args)]
pub(super) struct WorkerArgs {
    /// Where coordinators come; other than this machine only with a --token-file
    #[arg(long, value_name = "ADDRESS", default_value_t = LISTEN)]
    listen: SocketAddr,
    /// Secret that coordinators must know: a file with 16 bytes or more
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Key that signs the target's tokens, where the coordinator is on another machine
    #[arg(long, value_name = "FILE")]
    token_key: Option<PathBuf>,
    /// End after the first run
    #[arg(long)]
    once: bool,
    /// Tell nothing while it runs
    #[arg(long)]
    quiet: bool,
}

/// Serves until it is stopped.
pub(super) fn run(args: &WorkerArgs) -> Result<u8, Failed> {
    if !args.listen.ip().is_loopback() && args.token_file.is_none() {
        return Err(refuse(format!(
            "--listen {}: whoever reaches it could have it put load on anybody; give a shared secret with --token-file",
            args.listen
        )));
    }
    let token_key = args.token_key.as_deref().map(secret).transpose()?;
    let shared = args.token_file.as_deref().map(Secret::read).transpose()?;
    let listener = TcpListener::bind(args.listen).with_context(|| format!("cannot listen at {}", args.listen))?;
    let interrupt = Interrupt::listen().context("cannot listen for signals")?;
    // Programs wait for this line.
    println!("worker at {}", listener.local_addr().context("the listener has no address")?);
    let worker = Worker { secret: shared, token_key, once: args.once, quiet: args.quiet };
    worker.serve(&listener, &interrupt).context("cannot accept coordinators")?;
    Ok(0)
}

/// What came of a run that workers did: as of one process, each worker's part, and how many threads they had.
type Coordinated = (Result<Outcome, RunError>, Vec<WorkerPart>, u32);

/// Has workers do a job.
pub(super) fn coordinate(
    job: Job,
    common: &Common,
    ca: Option<&Path>,
    key: Option<&Path>,
    progress: &mut Progress,
    interrupt: &Interrupt,
) -> Result<Coordinated, Failed> {
    if job.deployer.is_some() || job.sdk.is_some() || job.on_load.is_some() {
        return Err(refuse("--workers: deploys, clients of the SDK and attacks are for one process".into()));
    }
    let at_least = common.workers.len() as u64 * 2;
    if u64::from(job.scenario.clients) < at_least {
        return Err(refuse(format!("--workers: {at_least} clients at least, so that each worker has two")));
    }
    let pem = ca.map(|ca| std::fs::read_to_string(ca).with_context(|| format!("cannot read {}", ca.display())));
    let plan = Plan {
        scenario: job.scenario,
        workers: common.workers.clone(),
        secret: common.workers_token_file.as_deref().map(Secret::read).transpose()?,
        target: job.target,
        token_key: key.map(secret).transpose()?,
        ca: pem.transpose()?,
        server_name: common.target.as_ref().map_or("localhost", |target| target.host()).to_owned(),
        threads: common.threads,
        server_pid: job.server_pid,
        run: run_number(),
    };
    Ok(match coordinator::run(plan, progress, interrupt)? {
        Ok(whole) => {
            let threads = whole.threads();
            let Whole { outcome, workers } = whole;
            (Ok(outcome), workers, threads)
        }
        Err(error) => (Err(error), Vec::new(), 1),
    })
}
