//! `run`, `check` and `scenarios`: scenarios as data.

use std::time::Duration;

use clap::Args;

use super::args::{Common, rate, span};
use super::run::{Failed, refuse};
use crate::scenario::compile::Compiled;
use crate::scenario::fault::Faults;
use crate::scenario::keys::KEYS;
use crate::scenario::read::Set;
use crate::scenario::spec::{Spec, Time};
use crate::scenario::{Dialect, Protocol, Scenario, Transport, check, ready, summary};

#[derive(Debug, Args)]
pub(super) struct Run {
    /// A scenario: a file in TOML, or the name of a ready one (`roost-load scenarios`)
    #[arg(value_name = "SCENARIO")]
    scenario: String,
    /// So many times as many users
    #[arg(long, value_name = "F", value_parser = factor)]
    scale: Option<f64>,
    /// Sessions at the fullest, whatever the scenario says
    #[arg(long, value_name = "N", conflicts_with = "scale", value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    clients: Option<u32>,
    /// Messages per second of all clients together, at a pace of 1
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Length of the load, all of its phases in proportion
    #[arg(long = "for", value_name = "TIME", value_parser = span)]
    hold: Option<Duration>,
    /// A key of the scenario with another value, as 'phase.storm.share=0.5'; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Set>,
    /// PEM file with the certificate of a target that is met by TLS or QUIC
    #[arg(long, value_name = "FILE", requires = "target")]
    ca: Option<std::path::PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Scenarios: files in TOML, or names of ready ones
    #[arg(value_name = "SCENARIO", required = true)]
    scenarios: Vec<String>,
    /// A key with another value; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Set>,
    /// As with so many times as many users
    #[arg(long, value_name = "F", value_parser = factor)]
    scale: Option<f64>,
}

#[derive(Debug, Args)]
pub(super) struct Scenarios {
    /// Print a ready scenario's TOML
    #[arg(long, value_name = "NAME")]
    show: Option<String>,
    /// Print every key of a scenario, its default and its limits
    #[arg(long, conflicts_with = "show")]
    keys: bool,
}

/// What the flags make of a scenario.
pub(super) struct Planned {
    pub(super) spec: Spec,
    pub(super) compiled: Compiled,
    pub(super) ca: Option<std::path::PathBuf>,
    pub(super) common: Common,
}

impl Run {
    /// The scenario as it is to be run.
    pub(super) fn planned(self) -> Result<Planned, Failed> {
        let Self { scenario, scale, clients, rate, hold, set, ca, mut common } = self;
        let mut spec = Spec::find(&scenario, &set).map_err(|faults| refused(&faults))?;
        if let Some(by) = scale {
            spec.scale(by);
        }
        if let Some(clients) = clients {
            spec.with_clients(clients);
        }
        if let Some(rate) = rate
            && !spec.with_rate(rate)
        {
            return Err(refuse(format!("--rate: nobody sends by time in {}: leave it out", spec.name)));
        }
        if let Some(hold) = hold {
            spec.with_length(hold);
        }
        spec.seed = common.seed.unwrap_or(spec.seed);
        spec.grace = common.grace.map_or(spec.grace, Time);
        spec.connect_rate = common.connect_rate.map_or(spec.connect_rate, f64::from);
        spec.thresholds.extend(common.threshold.iter().map(ToString::to_string));
        if let Some(targets) = &common.target {
            for population in &mut spec.population {
                population.transport = carried(population.transport, targets.is_tls(), targets.quic);
            }
        }
        let faults = check::faults(&spec);
        if !faults.is_empty() {
            return Err(refused(&Faults { of: format!("{scenario}, as the flags change it"), all: faults }));
        }
        let mut compiled = spec.compile();
        if let Some(dialect) = common.target.as_ref().and_then(|targets| targets.dialect) {
            speak(&mut compiled, dialect, &spec).map_err(refuse)?;
        } else if let (Compiled::Lean(plan), Some(_)) = (&compiled, &common.target)
            && plan.echo.is_some()
        {
            return Err(refuse(cannot(Dialect::Roost, "send back what it gets (echo)", "plain:")));
        }
        // They stand in the scenario now.
        common.threshold.clear();
        Ok(Planned { spec, compiled, ca, common })
    }
}

/// WebSocket to a target with TLS has TLS too.
fn carried(transport: Transport, tls: bool, quic: bool) -> Transport {
    match transport {
        #[cfg(target_os = "linux")]
        _ if quic => Transport::Quic,
        #[cfg(target_os = "linux")]
        Transport::Ws if tls => Transport::Wss,
        other => {
            let _ = (tls, quic);
            other
        }
    }
}

/// Lets it speak another protocol, if that can do all that it does.
fn speak(compiled: &mut Compiled, dialect: Dialect, spec: &Spec) -> Result<(), String> {
    match compiled {
        Compiled::Full(scenario) => match dialect.full() {
            Some(Protocol::Roost) => Ok(()),
            Some(Protocol::Plain) if is_broadcast(scenario) => {
                scenario.protocol = Protocol::Plain;
                Ok(())
            }
            _ => Err(cannot(dialect, &wants(scenario), "broadcast, hold or storm, with")),
        },
        #[cfg(target_os = "linux")]
        Compiled::Lean(plan) => {
            let foreign = dialect != Dialect::Roost;
            if plan.echo.is_some() && dialect != Dialect::Plain {
                return Err(cannot(dialect, "send back what it gets (echo)", "plain:"));
            }
            if foreign && plan.transport.is_quic() {
                return Err(cannot(dialect, "come by QUIC (transport)", "roost:"));
            }
            if foreign && plan.tickets {
                return Err(cannot(dialect, "be met with tickets (tickets)", "roost:"));
            }
            let _ = spec;
            plan.protocol = dialect;
            Ok(())
        }
    }
}

/// One channel, and nothing that only users have.
fn is_broadcast(scenario: &Scenario) -> bool {
    let population = &scenario.population;
    population.partners <= 0.0
        && population.groups <= 0.0
        && population.channels.len() == 1
        && scenario.sdk_share <= 0.0
}

/// What of a scenario is Roost's alone.
fn wants(scenario: &Scenario) -> String {
    let population = &scenario.population;
    let sleeps = scenario.crowds.iter().any(|crowd| crowd.sleeps.is_some());
    let all = [
        (population.partners > 0.0, "direct conversations (graph.partners)"),
        (population.groups > 0.0, "groups (graph.groups)"),
        (sleeps, "catch up from a log after sleep (behaviour.awake)"),
        (scenario.sdk_share > 0.0, "the SDK (sdk_share)"),
        (true, "logs in which losses are looked for (clients = \"full\")"),
    ];
    let named: Vec<&str> = all.iter().filter(|(there, _)| *there).map(|(_, what)| *what).collect();
    named.join(", ")
}

/// Without the marks of a document.
fn plain(text: &str) -> String {
    text.replace('`', "")
}

fn cannot(dialect: Dialect, what: &str, instead: &str) -> String {
    format!("{} cannot do this: {what}; take {instead} another target", dialect.word())
}

fn refused(faults: &Faults) -> Failed {
    refuse(faults.to_string())
}

fn factor(text: &str) -> Result<f64, String> {
    let factor: f64 = text.parse().map_err(|_| "a number is needed")?;
    if (1e-6..=1000.0).contains(&factor) { Ok(factor) } else { Err("between 0.000001 and 1000".into()) }
}

/// Tells of each scenario what it would do, or all that is wrong with it. Returns the exit code.
pub(super) fn check(asked: &Check) -> u8 {
    let mut code = 0;
    for name in &asked.scenarios {
        match Spec::find(name, &asked.set) {
            Ok(mut spec) => {
                spec.scale(asked.scale.unwrap_or(1.0));
                let faults = check::faults(&spec);
                if faults.is_empty() {
                    print!("{}", summary::of(&spec));
                } else {
                    eprintln!("{}", Faults { of: name.clone(), all: faults });
                    code = 2;
                }
            }
            Err(faults) => {
                eprintln!("{faults}");
                code = 2;
            }
        }
    }
    code
}

/// Lists the ready ones. Returns the exit code.
pub(super) fn list(asked: &Scenarios) -> Result<u8, Failed> {
    if let Some(name) = &asked.show {
        let missing = || refuse(ready::missing(name, &std::io::ErrorKind::NotFound.into()));
        print!("{}", ready::text(name).ok_or_else(missing)?);
        return Ok(0);
    }
    if asked.keys {
        for key in KEYS {
            let name = if key.table.is_empty() { key.name.to_owned() } else { format!("{}.{}", key.table, key.name) };
            println!("{name:<24}{:<36}{}", plain(key.default), plain(key.limits));
        }
        return Ok(0);
    }
    for (name, _) in ready::READY {
        let spec = Spec::find(name, &[]).map_err(|faults| refused(&faults))?;
        println!("{name:<14}{}", spec.about);
    }
    println!(
        "\nroost-load run NAME runs one; roost-load check NAME says what it would do; roost-load scenarios --show NAME prints it."
    );
    Ok(0)
}
