//! Runs a scenario: finds or starts the server, and writes the report.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap::error::ErrorKind;
use roost_client::url::Url;
use roost_router::auth::{Claims, Keys, Scope};
use roost_wire::UserId;

use super::args::{Cli, Command, Common, UdpBlocked};
use super::summary;
use crate::blocked;
use crate::driver::{Credentials, Target};
use crate::engine::{self, Job, OnLoad, RunError};
use crate::host::{self, Environment};
use crate::hostile;
use crate::hostile::conduct::Conductor;
use crate::interrupt::Interrupt;
#[cfg(target_os = "linux")]
use crate::lines::{Carrier, Impairment, Tickets};
use crate::progress::Progress;
use crate::report::build::{self, ServerFacts};
use crate::scenario::{Protocol, Scenario, Transport};
use crate::server::{DEFENDED, NO_LIMITS, OwnServer};

/// Descriptors this process needs beside one for each client.
const DESCRIPTORS_SPARE: u64 = 64;
/// How long an admin page may take.
const ADMIN_WITHIN: Duration = Duration::from_secs(2);

/// Why there is no report.
#[derive(Debug)]
pub(super) enum Failed {
    Usage(clap::Error),
    Unreachable(String),
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

/// Runs the command and returns its exit code.
pub(super) fn run(command: Command) -> Result<u8, Failed> {
    #[cfg(target_os = "linux")]
    let command = match command.planned() {
        Ok(planned) => return super::mass_run::run(&planned),
        Err(command) => *command,
    };
    if let Command::UdpBlocked(asked) = &command {
        return udp_blocked(asked);
    }
    let attacks = match &command {
        Command::Hostile(hostile) => Some((hostile.plan(), hostile.ratio_max, hostile.rate())),
        _ => None,
    };
    let (scenario, ca, common) = command.scenario();
    check(&scenario, ca.as_deref(), &common)?;
    let interrupt = Interrupt::listen().context("cannot listen for signals")?;
    let mut progress = Progress::new(common.quiet);
    let mut server = match &common.target {
        Some(_) => None,
        None => {
            progress.phase("starting a server");
            let usual = if attacks.is_some() { DEFENDED } else { NO_LIMITS };
            let tls = scenario.transport.has_tls().then_some("--dev-tls");
            Some(OwnServer::start(&common.out, usual, &tls.into_iter().chain(common.settings()).collect::<Vec<_>>())?)
        }
    };
    let environment = Environment::look(server.as_ref().map(OwnServer::data).as_deref());
    let target = target(scenario.transport, &common, server.as_ref())?;
    #[cfg(target_os = "linux")]
    let carrier = carrier(scenario.transport, ca, None, scenario.impairment, &common, server.as_ref())?;
    let admin = admin_of(&common, server.as_ref());
    let facts = own_facts(&common, server.as_ref(), &target);
    let key = server.as_ref().map(OwnServer::token_key).or_else(|| common.token_key.clone());
    let threads = common.threads.unwrap_or_else(|| (environment.cores as u32 / 4).max(1)).min(scenario.clients);
    let conducting = Arc::new(Mutex::new(None));
    let on_load = match &attacks {
        Some(((kinds, schedule), ..)) => {
            let (kinds, schedule, slot) = (kinds.clone(), *schedule, Arc::clone(&conducting));
            let conductor =
                Conductor { kinds, schedule, target: target.address, admin, token: attacker_token(key.as_deref())? };
            Some(Box::new(move |start| *lock(&slot) = Some(conductor.begin(start))) as OnLoad)
        }
        None => None,
    };
    let job = Job {
        scenario: scenario.clone(),
        target,
        #[cfg(target_os = "linux")]
        carrier,
        credentials: credentials(key.as_deref())?,
        threads,
        server_pid: facts.pid,
        on_load,
    };
    let outcome = engine::run(job, &mut progress, &interrupt).map_err(|error| match error {
        RunError::Unreachable(why) => Failed::Unreachable(why),
        RunError::System(error) => Failed::Other(error.into()),
    })?;
    drop(progress);
    let conducting = lock(&conducting).take().transpose().context("cannot start a conductor")?;
    let attacked = conducting.map_or_else(Vec::new, |conducting| conducting.end(outcome.interrupted));
    if let Some(epitaph) = server.as_mut().and_then(OwnServer::epitaph) {
        eprintln!("roost-load: {epitaph}");
    }
    drop(server);
    let report = build::report(&scenario, &outcome, facts, threads, environment);
    report.write(&common.out)?;
    print!("{}", summary::of(&report, &common.out));
    let Some(((_, schedule), ratio_max, sends_per_second)) = attacks else { return Ok(report.exit_code) };
    let seconds = &outcome.seconds;
    let hostile = hostile::report::report(hostile::report::Material {
        schedule,
        attacks: attacked,
        seconds,
        ratio_max,
        load: &report,
        sends_per_second,
    });
    hostile.write(&common.out)?;
    print!("\n{}", hostile::page::summary(&hostile, &common.out));
    Ok(hostile.exit_code)
}

fn udp_blocked(asked: &UdpBlocked) -> Result<u8, Failed> {
    let plan = blocked::Plan { clients: asked.clients, rate: asked.rate };
    host::raise_descriptors();
    let interrupt = Interrupt::listen().context("cannot listen for signals")?;
    let mut progress = Progress::new(asked.quiet);
    let environment = Environment::look(None);
    let settings: Vec<&str> = asked.serve.iter().flat_map(|flags| flags.split_whitespace()).collect();
    let worlds = blocked::run(plan, &asked.out, &settings, |key| credentials(Some(key)), &mut progress, &interrupt)?;
    drop(progress);
    let report = blocked::report::Report::new(plan, &worlds, environment);
    report.write(&asked.out)?;
    print!("{}", report.summary(&asked.out));
    Ok(report.exit_code)
}

/// What is known of the server beforehand.
pub(super) fn own_facts(common: &Common, server: Option<&OwnServer>, target: &Target) -> ServerFacts {
    ServerFacts {
        address: target.host.clone(),
        own: server.is_some(),
        pid: server.map(OwnServer::pid).or(common.server_pid),
        version: admin_of(common, server).and_then(version),
        here: target.address.ip().is_loopback(),
    }
}

fn admin_of(common: &Common, server: Option<&OwnServer>) -> Option<SocketAddr> {
    server.map(|server| server.admin).or_else(|| common.admin.as_ref().and_then(resolve))
}

/// A panic while it was held left nothing half done.
fn lock<T>(slot: &Mutex<T>) -> MutexGuard<'_, T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A token of a user who means harm; empty without a key.
fn attacker_token(key: Option<&Path>) -> anyhow::Result<String> {
    let Credentials::Key { keys, run, now_ms } = credentials(key)? else { return Ok(String::new()) };
    let user = UserId::from_bits(u128::from(run) << 32 | u128::from(u32::MAX));
    Ok(keys.mint(&Claims::new(user, "Mallory", Scope::User, now_ms, 24 * 3600)))
}

/// Refuses what cannot work, before anything is started.
fn check(scenario: &Scenario, ca: Option<&Path>, common: &Common) -> Result<(), Failed> {
    let refuse = |why: String| Err(refuse(why));
    check_carrying(scenario.transport, scenario.migrating, ca, common)?;
    #[cfg(target_os = "linux")]
    check_impairment(scenario.transport, scenario.impairment)?;
    if scenario.transport.has_tls() && !scenario.transport.is_quic() {
        return refuse("these clients have no TLS but that of QUIC: give --transport quic, or take `hold`".into());
    }
    if scenario.protocol == Protocol::Plain && common.target.is_none() {
        return refuse("--protocol plain needs a --target: the server started here speaks roost".into());
    }
    if scenario.protocol == Protocol::Plain && common.token_key.is_some() {
        return refuse("--protocol plain knows no tokens: leave out --token-key".into());
    }
    if transport_takes_one(scenario.transport, common) {
        return refuse("several targets: by QUIC clients come to one".into());
    }
    check_pid(common)?;
    let sockets = if scenario.transport.is_quic() { 0 } else { u64::from(scenario.clients) };
    let needed = sockets + DESCRIPTORS_SPARE;
    if let Some(max) = host::raise_descriptors().filter(|max| *max < needed) {
        return refuse(format!(
            "{} connections need {needed} descriptors, and this process may open {max}: raise the limit (ulimit -n {needed})",
            scenario.clients
        ));
    }
    Ok(())
}

fn transport_takes_one(transport: Transport, common: &Common) -> bool {
    transport.is_quic() && common.target.as_ref().is_some_and(|targets| !targets.others.is_empty())
}

/// Refuses what the transport cannot do, and a target that it cannot reach.
pub(super) fn check_carrying(
    transport: Transport,
    migrating: f64,
    ca: Option<&Path>,
    common: &Common,
) -> Result<(), Failed> {
    if migrating > 0.0 && !transport.is_quic() {
        return Err(refuse("--migrating: only QUIC goes on from another address: give --transport quic".into()));
    }
    match common.target.as_deref() {
        Some(target) if transport.has_tls() && (!target.is_tls() || ca.is_none()) => {
            Err(refuse("wss and quic have TLS: give an https:// target, and its certificate with --ca".into()))
        }
        Some(target) if !transport.has_tls() && target.is_tls() => {
            Err(refuse("this load is without TLS: use http://, or --transport quic (`hold`: or wss)".into()))
        }
        _ => Ok(()),
    }
}

/// Impairment is of datagrams.
#[cfg(target_os = "linux")]
pub(super) fn check_impairment(transport: Transport, impairment: Impairment) -> Result<(), Failed> {
    if transport.is_quic() || impairment.is_none() {
        return Ok(());
    }
    Err(refuse("--delay and --loss: they are for datagrams, give --transport quic".into()))
}

/// What carries the connections, and whom they trust.
#[cfg(target_os = "linux")]
pub(super) fn carrier(
    transport: Transport,
    ca: Option<PathBuf>,
    tickets: Option<Arc<Tickets>>,
    impairment: Impairment,
    common: &Common,
    server: Option<&OwnServer>,
) -> anyhow::Result<Carrier> {
    let host = common.target.as_ref().map_or("localhost", |target| target.host());
    let ca = || server.map(OwnServer::certificate).or(ca).context("--ca is needed");
    Carrier::by(transport, ca, host, tickets, impairment)
}

/// A process that is to be looked at must be there.
pub(super) fn check_pid(common: &Common) -> Result<(), Failed> {
    match common.server_pid {
        Some(pid) if cfg!(target_os = "linux") && !Path::new(&format!("/proc/{pid}")).exists() => {
            Err(refuse(format!("--server-pid: there is no process {pid} here")))
        }
        _ => Ok(()),
    }
}

/// Wrong usage, in words.
pub(super) fn refuse(why: String) -> Failed {
    Failed::Usage(Cli::command().error(ErrorKind::ValueValidation, why))
}

pub(super) fn target(transport: Transport, common: &Common, server: Option<&OwnServer>) -> Result<Target, Failed> {
    if let Some(server) = server {
        let address = server.quic.filter(|_| transport.is_quic()).unwrap_or(server.listen);
        return Ok(Target { address, host: server.listen.to_string(), path: "/ws".into(), others: Vec::new() });
    }
    let targets = common.target.as_ref().context("there is a target or a server")?;
    let found = |url: &Url| {
        let unknown = || Failed::Unreachable(format!("cannot find the address of {}", url.host()));
        Ok((resolve(url).ok_or_else(unknown)?, parts(&url.to_string())))
    };
    let (address, (host, path)) = found(targets)?;
    let others = targets.others.iter().map(|url| found(url).map(|(address, (host, _))| (address, host)));
    Ok(Target { address, host, path, others: others.collect::<Result<_, Failed>>()? })
}

/// Host (with port) and path of `ws://host:port/path`.
fn parts(url: &str) -> (String, String) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let at = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(at);
    (host.to_owned(), if path.is_empty() { "/".to_owned() } else { path.to_owned() })
}

fn resolve(url: &Url) -> Option<SocketAddr> {
    (url.host(), url.port()).to_socket_addrs().ok()?.next()
}

fn credentials(key: Option<&Path>) -> anyhow::Result<Credentials> {
    let Some(path) = key else { return Ok(Credentials::Guests) };
    let secret = secret(path)?;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?.as_millis();
    Ok(Credentials::Key { keys: Box::new(Keys::new(&secret)), run: run_number(), now_ms: now_ms as u64 })
}

/// The key that signs the server's tokens, if it is known.
#[cfg(target_os = "linux")]
pub(super) fn key_of(common: &Common, server: Option<&OwnServer>) -> anyhow::Result<Option<[u8; 32]>> {
    server.map(OwnServer::token_key).or_else(|| common.token_key.clone()).map(|path| secret(&path)).transpose()
}

fn secret(path: &Path) -> anyhow::Result<[u8; 32]> {
    let secret = roost_storage::embedded::read_secret(path);
    secret.with_context(|| format!("cannot read the token key {}", path.display()))
}

/// A number of this run alone, so that its users and their conversations are new.
pub(super) fn run_number() -> u64 {
    let run = uuid::Uuid::new_v7(uuid::Timestamp::now(uuid::NoContext)).as_u64_pair();
    run.0.rotate_left(32) ^ run.1
}

/// Name and version of a server, by its admin pages.
fn version(admin: SocketAddr) -> Option<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect_timeout(&admin, ADMIN_WITHIN).ok()?;
    stream.set_read_timeout(Some(ADMIN_WITHIN)).ok()?;
    write!(stream, "GET /version HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.take(64 * 1024).read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
    Some(format!("{} {}", body["name"].as_str()?, body["version"].as_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_path() {
        for (url, host, path) in [
            ("ws://localhost:8080/ws", "localhost:8080", "/ws"),
            ("ws://[::1]:80/", "[::1]:80", "/"),
            ("ws://example.org", "example.org", "/"),
        ] {
            assert_eq!(parts(url), (host.into(), path.into()));
        }
    }
}
