//! Runs a scenario: finds or starts the server, and writes the report.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap::error::ErrorKind;
use roost_client::url::Url;
use roost_router::auth::{Claims, Keys, Scope};
use roost_wire::UserId;

use super::args::{Cli, Command, Common, UdpBlocked};
use super::own::{deployer, given, sdk_setup, usual};
use super::scenario::{self, Planned};
use crate::blocked;
use crate::driver::{Credentials, Target};
use crate::engine::{self, Job, OnLoad, RunError};
use crate::fleet::coordinator::Whole;
use crate::host::{self, Environment, metrics};
use crate::hostile;
use crate::hostile::conduct::Conductor;
use crate::interrupt::Interrupt;
#[cfg(target_os = "linux")]
use crate::lines::{Carrier, Impairment, Tickets};
use crate::progress::{Progress, Telling};
use crate::report::build::{self, ServerFacts};
use crate::report::{Report, junit, summary};
use crate::scenario::compile::Compiled;
use crate::scenario::needs::Needs;
use crate::scenario::{Protocol, Scenario, Transport};
use crate::server::OwnServer;
use crate::verdict::Verdict;

/// Of a run that was stopped.
const EXIT_INTERRUPTED: u8 = 130;

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
    match command {
        Command::Run(asked) => return run_scenario(asked),
        Command::Check(asked) => return Ok(scenario::check(&asked)),
        Command::Scenarios(asked) => return scenario::list(&asked),
        Command::UdpBlocked(asked) => return udp_blocked(&asked),
        Command::Capacity(asked) => return super::capacity::run(&asked),
        Command::Worker(asked) => return super::worker::run(&asked),
        Command::Compare(compare) => return compare.run(),
        Command::Page(page) => return page.run(),
        Command::Schema => return Ok(super::compare::schema()),
        _ => {}
    }
    #[cfg(target_os = "linux")]
    let command = match command.planned() {
        Ok(planned) => return super::mass_run::run(&planned),
        Err(command) => *command,
    };
    let attacks = match &command {
        Command::Hostile(hostile) => Some((hostile.plan(), hostile.ratio_max, hostile.rate())),
        _ => None,
    };
    let (scenario, ca, common) = command.scenario();
    if let Some(dialect) = common.target.as_ref().and_then(|targets| targets.dialect)
        && dialect.full() != Some(scenario.protocol)
    {
        let name = &scenario.name;
        return Err(refuse(format!("{} cannot do this: clients of `{name}` speak another protocol", dialect.word())));
    }
    let out = common.out.clone();
    Ok(full(&scenario, ca.as_deref(), &common, &out, attacks.as_ref(), |_| {})?.0)
}

/// Runs a scenario in TOML.
fn run_scenario(asked: scenario::Run) -> Result<u8, Failed> {
    let Planned { spec, compiled, ca, common } = asked.planned()?;
    let there = match &common.target {
        Some(target) => Some(
            resolve(target)
                .ok_or_else(|| Failed::Unreachable(format!("cannot find the address of {}", target.host())))?,
        ),
        None => None,
    };
    let lacking = Needs::of(&compiled).lacking(there.map(|there| there.ip()));
    if !lacking.is_empty() {
        return Err(refuse(lacking.join("\n")));
    }
    match compiled {
        #[cfg(target_os = "linux")]
        Compiled::Lean(plan) => super::mass_run::run(&super::mass::Planned { plan: *plan, common, ca }),
        Compiled::Full(scenario) if spec.twice => twice(&scenario, ca.as_deref(), &common),
        Compiled::Full(scenario) => {
            let out = common.out.clone();
            Ok(full(&scenario, ca.as_deref(), &common, &out, None, |_| {})?.0)
        }
    }
}

/// The same seed twice: both must have meant to do the same.
fn twice(scenario: &Scenario, ca: Option<&Path>, common: &Common) -> Result<u8, Failed> {
    let first = common.out.join("first");
    let (code, before) = full(scenario, ca, common, &first, None, |_| {})?;
    if code == EXIT_INTERRUPTED {
        return Ok(code);
    }
    let judge = |report: &mut Report| {
        let digest = report.digest.clone().unwrap_or_default();
        if digest != before {
            let seed = scenario.seed;
            report.reasons.push(format!("Two runs of seed {seed} did not mean to do the same: {before} and {digest}."));
            if report.verdict == Verdict::Pass {
                report.verdict = Verdict::Threshold;
                report.exit_code = report.verdict.exit_code();
            }
        } else {
            report.reasons.push(format!("Two runs of this seed meant to do the same: {before}."));
        }
    };
    let (again, _) = full(scenario, ca, common, &common.out, None, judge)?;
    // Whatever the first one proved holds as well.
    Ok(if again == 0 { code } else { again })
}

/// Kinds and times of attacks, how much worse latency may get, and messages per second of the good load.
type Attacks = ((Vec<hostile::kinds::Kind>, hostile::windows::Schedule), f64, f64);

/// Runs a scenario of clients that do all that a user's does. Returns the exit code and the digest. `judge` has the last word about
/// the report.
fn full(
    scenario: &Scenario,
    ca: Option<&Path>,
    common: &Common,
    out: &Path,
    attacks: Option<&Attacks>,
    judge: impl FnOnce(&mut Report),
) -> Result<(u8, String), Failed> {
    check(scenario, ca, common)?;
    let interrupt = Interrupt::listen().context("cannot listen for signals")?;
    let mut progress = Progress::new(common.telling());
    progress.title(&title(&scenario.name, scenario.clients.into(), common));
    let server = match &common.target {
        Some(_) => None,
        None => {
            progress.phase("starting a server");
            Some(OwnServer::start(out, &usual(scenario, attacks.is_some()), &given(scenario, common))?)
        }
    };
    let environment = Environment::look(server.as_ref().map(OwnServer::data).as_deref());
    let target = target(scenario.transport, common, server.as_ref())?;
    #[cfg(target_os = "linux")]
    let carriers = scenario
        .crowds
        .iter()
        .map(|crowd| carrier(crowd.transport, ca.map(Path::to_owned), None, crowd.impairment, common, server.as_ref()));
    #[cfg(target_os = "linux")]
    let carriers = carriers.collect::<anyhow::Result<Vec<_>>>()?;
    let admin = admin_of(common, server.as_ref());
    let mut facts = own_facts(common, server.as_ref(), &target);
    let key = server.as_ref().map(OwnServer::token_key).or_else(|| common.token_key.clone());
    let threads = common.threads.unwrap_or_else(|| (environment.cores as u32 / 4).max(1)).min(scenario.clients);
    let conducting = Arc::new(Mutex::new(None));
    let on_load = match attacks {
        Some(((kinds, schedule), ..)) => {
            let (kinds, schedule, slot) = (kinds.clone(), *schedule, Arc::clone(&conducting));
            let conductor =
                Conductor { kinds, schedule, target: target.address, admin, token: attacker_token(key.as_deref())? };
            Some(Box::new(move |start| *lock(&slot) = Some(conductor.begin(start))) as OnLoad)
        }
        None => None,
    };
    let sdk = (scenario.sdk_share > 0.0).then(|| sdk_setup(common, ca, server.as_ref()));
    let tls = scenario.crowds.iter().any(|crowd| crowd.transport.has_tls());
    let certificate = server.as_ref().map(OwnServer::certificate).or_else(|| ca.map(Path::to_owned)).filter(|_| tls);
    let server = Arc::new(Mutex::new(server));
    let job = Job {
        scenario: scenario.clone(),
        target,
        #[cfg(target_os = "linux")]
        carriers,
        credentials: credentials(key.as_deref())?,
        threads,
        server_pid: facts.pid,
        on_load,
        peer: None,
        deployer: scenario.deploys().then(|| deployer(&server, common)),
        sdk,
    };
    progress.watch(facts.pid, admin);
    let (ran, workers, threads) = if common.workers.is_empty() {
        (engine::run(job, &mut progress, &interrupt), Vec::new(), threads)
    } else {
        super::worker::coordinate(job, common, certificate.as_deref(), key.as_deref(), &mut progress, &interrupt)?
    };
    let mut outcome = ran.map_err(|error| match error {
        RunError::Unreachable(why) => Failed::Unreachable(why),
        RunError::System(error) => Failed::Other(error.into()),
    })?;
    facts.seen = progress.end();
    let conducting = lock(&conducting).take().transpose().context("cannot start a conductor")?;
    let attacked = conducting.map_or_else(Vec::new, |conducting| conducting.end(outcome.interrupted));
    if let Some(epitaph) = lock(&server).as_mut().and_then(OwnServer::epitaph) {
        eprintln!("roost-load: {epitaph}");
        outcome.partial.get_or_insert_with(|| "the server ended during the run".into());
    }
    drop(lock(&server).take());
    let mut report = build::report(scenario, &outcome, facts, threads, environment);
    Whole::mark(workers, &mut report);
    judge(&mut report);
    common.write(&report, out)?;
    let Some(&((_, schedule), ratio_max, sends_per_second)) = attacks else {
        return Ok((report.exit_code, outcome.digest));
    };
    let seconds = &outcome.seconds;
    let hostile = hostile::report::report(hostile::report::Material {
        schedule,
        attacks: attacked,
        seconds,
        ratio_max,
        load: &report,
        sends_per_second,
    });
    hostile.write(out)?;
    print!("\n{}", hostile::page::summary(&hostile, out));
    Ok((hostile.exit_code, outcome.digest))
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
        ..ServerFacts::default()
    }
}

/// What is run, in a few words.
pub(super) fn title(name: &str, clients: u64, common: &Common) -> String {
    let target = common.target.as_ref().map_or("a server of its own".into(), |target| target.to_string());
    format!("{name} · {} clients · {target}", crate::report::number(clients as f64))
}

impl Common {
    /// How a run is told while it goes on.
    pub(super) const fn telling(&self) -> Telling {
        Telling { quiet: self.quiet, plain: self.plain }
    }

    /// Writes the report where it is wanted, and a summary to standard output.
    pub(super) fn write(&self, report: &Report, out: &Path) -> anyhow::Result<()> {
        report.write(out)?;
        if let Some(path) = &self.junit {
            junit::write(report, path)?;
        }
        print!("{}", summary(report, out));
        Ok(())
    }
}

pub(super) fn admin_of(common: &Common, server: Option<&OwnServer>) -> Option<SocketAddr> {
    server.map(|server| server.admin).or_else(|| common.admin.as_ref().and_then(resolve))
}

/// A panic while it was held left nothing half done.
pub(super) fn lock<T>(slot: &Mutex<T>) -> MutexGuard<'_, T> {
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
    for crowd in &scenario.crowds {
        check_carrying(crowd.transport, crowd.migrating, ca, common)?;
        #[cfg(target_os = "linux")]
        check_impairment(crowd.transport, crowd.impairment)?;
        if transport_takes_one(crowd.transport, common) {
            return refuse("several targets: by QUIC clients come to one".into());
        }
    }
    if scenario.protocol == Protocol::Plain && common.target.is_none() {
        return refuse("--protocol plain needs a --target: the server started here speaks roost".into());
    }
    if scenario.protocol == Protocol::Plain && common.token_key.is_some() {
        return refuse("--protocol plain knows no tokens: leave out --token-key".into());
    }
    let devices = scenario.crowds.iter().any(|crowd| crowd.devices > 1);
    if common.target.is_some() && common.token_key.is_none() && (devices || scenario.sdk_share > 0.0) {
        return refuse(
            "several devices of a user, the SDK's among them, need its token: give --token-key (or sdk_share = 0)"
                .into(),
        );
    }
    if scenario.deploys() && common.target.is_some() && common.admin.is_none() {
        return refuse(
            "a phase of kind deploy asks the target to leave: give its --admin address, and see that it starts anew"
                .into(),
        );
    }
    check_pid(common)?;
    let lacking = Needs::of(&Compiled::Full(Box::new(scenario.clone()))).lacking(None);
    if lacking.is_empty() { Ok(()) } else { refuse(lacking.join("\n")) }
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

pub(super) fn resolve(url: &Url) -> Option<SocketAddr> {
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

pub(super) fn secret(path: &Path) -> anyhow::Result<[u8; 32]> {
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
    let body: serde_json::Value = serde_json::from_str(&metrics::get(admin, "/version")?).ok()?;
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
