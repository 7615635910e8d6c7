//! Runs a plan of many clients: finds or starts the server, and writes the report.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use roost_uring::fleet::Fleet;

use super::mass::Planned;
use super::run::{Failed, admin_of, carrier, key_of, own_facts, refuse, run_number, target, title};
use crate::engine::RunError;
use crate::host::{self, Environment};
use crate::interrupt::Interrupt;
use crate::lines::Tickets;
use crate::mass::report;
use crate::mass::run::{self as mass, Job};
use crate::progress::Progress;
use crate::scenario::Dialect;
use crate::server::{NO_LIMITS, OwnServer};

/// Where a server of our own sends back what it gets.
const ECHO_PATH: &str = "/echo";

/// Runs it and returns the exit code.
pub(super) fn run(planned: &Planned) -> Result<u8, Failed> {
    let Planned { plan, common, ca } = planned;
    check(planned)?;
    // Tables of rings are as large as the soft limit.
    host::raise_descriptors();
    if let Err(error) = Fleet::new(1)
        && !plan.transport.is_quic()
    {
        return Err(refuse(why_not(&error)));
    }
    let interrupt = Interrupt::listen().context("cannot listen for signals")?;
    let mut progress = Progress::new(common.telling());
    progress.title(&title(&plan.name, plan.connections.into(), common));
    let mut server = match &common.target {
        Some(_) => None,
        None => {
            progress.phase("starting a server");
            let heartbeat = format!("{}ms", plan.heartbeat.as_millis());
            let usual = [NO_LIMITS, &["--heartbeat", &heartbeat]].concat();
            let echo = (plan.protocol == Dialect::Plain).then_some("--bench-paths");
            let tls = plan.transport.has_tls().then_some("--dev-tls");
            let given: Vec<&str> = echo.into_iter().chain(tls).chain(common.settings()).collect();
            Some(OwnServer::start(&common.out, &usual, &given)?)
        }
    };
    let environment = Environment::look(server.as_ref().map(OwnServer::data).as_deref());
    let mut target = target(plan.transport, common, server.as_ref())?;
    let tickets = plan.tickets.then(|| Arc::new(Tickets::default()));
    let carrier = carrier(plan.transport, ca.clone(), tickets.clone(), plan.impairment, common, server.as_ref())?;
    if server.is_some() && plan.protocol == Dialect::Plain {
        target.path = ECHO_PATH.into();
    }
    let mut facts = own_facts(common, server.as_ref(), &target);
    let threads = common.threads.unwrap_or(1).min(plan.connections);
    let secret = key_of(common, server.as_ref())?.filter(|_| plan.protocol == Dialect::Roost);
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?.as_millis();
    let job = Job {
        plan: plan.clone(),
        target,
        secret: secret.map(Box::new),
        run: run_number(),
        now_ms: now_ms as u64,
        threads,
        server_pid: facts.pid,
        carrier,
    };
    progress.watch(facts.pid, admin_of(common, server.as_ref()));
    let mut outcome = mass::run(job, &mut progress, &interrupt).map_err(|error| match error {
        RunError::Unreachable(why) => Failed::Unreachable(why),
        RunError::System(error) => Failed::Other(error.into()),
    })?;
    facts.seen = progress.end();
    if let Some(epitaph) = server.as_mut().and_then(OwnServer::epitaph).filter(|_| !plan.drain) {
        eprintln!("roost-load: {epitaph}");
        outcome.gone.get_or_insert_with(|| "the server ended during the run".into());
    }
    drop(server);
    let tickets_used = tickets.map(|tickets| tickets.used());
    let report = report::report(plan, &outcome, tickets_used, facts, threads, environment);
    common.write(&report, &common.out)?;
    Ok(report.exit_code)
}

/// Refuses what cannot work, before anything is started.
fn check(planned: &Planned) -> Result<(), Failed> {
    let Planned { plan, common, ca } = planned;
    if !common.workers.is_empty() {
        return Err(refuse(
            "--workers: these clients are of one process; `quick` and scenarios of chat clients take workers".into(),
        ));
    }
    super::run::check_carrying(plan.transport, plan.migrating, ca.as_deref(), common)?;
    super::run::check_impairment(plan.transport, plan.impairment)?;
    if plan.transport.is_quic() && (plan.protocol != Dialect::Roost || plan.echo.is_some()) {
        return Err(refuse("by QUIC there is nothing but roost: leave out --protocol, or --transport".into()));
    }
    if plan.tickets && !plan.transport.has_tls() {
        return Err(refuse("--tickets: there are none without TLS: give --transport wss or quic".into()));
    }
    if plan.protocol != Dialect::Roost && common.token_key.is_some() {
        return Err(refuse("only roost knows these tokens: leave out --token-key".into()));
    }
    if plan.protocol != Dialect::Plain && plan.echo.is_some() {
        return Err(refuse("only a plain server sends back what it gets: leave out --protocol".into()));
    }
    if plan.protocol.full().is_none() && common.target.is_none() {
        return Err(refuse("the server started here speaks roost: another --protocol needs a --target".into()));
    }
    if plan.protocol == Dialect::Plain && common.target.is_none() && plan.broadcast.is_some() {
        return Err(refuse("a plain broadcast needs a --target: the server started here speaks roost".into()));
    }
    if common.target.as_ref().is_some_and(|targets| !targets.others.is_empty()) {
        return Err(refuse("several targets: only `quick` takes them".into()));
    }
    if plan.drain && common.target.is_some() && common.server_pid.is_none() {
        return Err(refuse("--drain needs the --server-pid of the target".into()));
    }
    super::run::check_pid(common)
}

/// Why there is no io_uring here, and what to do.
fn why_not(error: &std::io::Error) -> String {
    let advice = "these clients need io_uring (Linux 6.11): where a container forbids it, allow io_uring_setup, io_uring_enter and \
        io_uring_register, and see sysctl kernel.io_uring_disabled; `quick`, `idle` and small broadcasts do without";
    match error.kind() {
        ErrorKind::PermissionDenied => format!("io_uring is forbidden here ({error}): {advice}"),
        ErrorKind::Unsupported => format!("io_uring is missing something here ({error}): {advice}"),
        _ => format!("io_uring does not work here ({error}): {advice}"),
    }
}
