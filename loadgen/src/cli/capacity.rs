//! `roost-load capacity`: flags, and the search they mean.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::args::{rate, share, span};
use super::run::{Failed, refuse};
use crate::capacity::answer::{self, Beside, Capacity, Material};
use crate::capacity::search::{Judged, Next, Purpose, Search, Settings};
use crate::capacity::step::{self, NoReport, Step, Vary};
use crate::host::Environment;
use crate::interrupt::Interrupt;
use crate::progress::time;
use crate::report::draw::number;
use crate::threshold::Threshold;

#[derive(Debug, Args)]
pub(super) struct CapacityArgs {
    /// An objective, as 'p99_delivery<250ms'; may be given again. A run must pass by its own thresholds as well
    #[arg(long, value_name = "BOUND", required = true)]
    slo: Vec<Threshold>,
    /// What is varied
    #[arg(long, value_name = "WHAT", default_value = "rate")]
    vary: Vary,
    /// What is run at each step: quick, sends, idle, broadcast, hold, storm, echo, or a scenario of `run` by name or file
    #[arg(long, value_name = "NAME|FILE", default_value = "quick")]
    scenario: String,
    /// The load to begin with [default: 100 messages per second, or 100 sessions]
    #[arg(long, value_name = "N", value_parser = rate)]
    from: Option<f64>,
    /// No more than this is tried
    #[arg(long, value_name = "N", value_parser = rate)]
    to: Option<f64>,
    /// Sessions while the rate is varied [default: 500, or what the scenario says]
    #[arg(long, value_name = "N")]
    clients: Option<u32>,
    /// Messages per second of each session while sessions are varied in `quick`
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = rate)]
    rate_per_client: f64,
    /// How long each step loads
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = span)]
    hold: Duration,
    /// How close what holds and what is too much may come, as a share
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = share)]
    precision: f64,
    /// By what the load rises at first
    #[arg(long, value_name = "N", default_value_t = 2.0, value_parser = growth)]
    growth: f64,
    /// Runs of the answer, two in three of which must hold
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    confirm: u32,
    /// Runs in all
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs_max: u32,
    /// Server to put under load [default: a fresh one of its own at each step]
    #[arg(long, value_name = "URL")]
    target: Option<String>,
    /// Nodes of the target's fleet [default: as many as --target names]
    #[arg(long, value_name = "N", requires = "target", value_parser = clap::value_parser!(u32).range(1..))]
    nodes: Option<u32>,
    /// capacity.json of another size of the fleet, for what more machines carry; may be given again
    #[arg(long, value_name = "FILE")]
    beside: Vec<PathBuf>,
    /// Directory of capacity.html and capacity.json, and of each step's report
    #[arg(long, value_name = "DIR", default_value = "roost-capacity")]
    out: PathBuf,
    /// Where chance begins [default: 1, or the scenario's]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Tell nothing while it runs
    #[arg(long)]
    quiet: bool,
    /// Further flags of each run, behind `--`
    #[arg(last = true, value_name = "FLAGS")]
    further: Vec<String>,
}

fn growth(text: &str) -> Result<f64, String> {
    let growth: f64 = text.parse().map_err(|_| "a number is needed")?;
    if (1.05..=10.0).contains(&growth) { Ok(growth) } else { Err("between 1.05 and 10".into()) }
}

/// Runs the search and returns its exit code.
pub(super) fn run(args: &CapacityArgs) -> Result<u8, Failed> {
    let flags = Flags::of(args)?;
    let beside = args.beside.iter().map(|path| read_beside(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let interrupt = Interrupt::listen().context("cannot listen for signals")?;
    let environment = Environment::look(None);
    let settings = Settings {
        from: args.from.unwrap_or(100.0).max(if args.vary == Vary::Connections { 2.0 } else { 1.0 }),
        to: args.to,
        growth: args.growth,
        precision: args.precision.max(0.005),
        confirmations: args.confirm,
        runs_max: args.runs_max,
    };
    let mut search = Search::new(settings);
    let steps = climb(args, &flags, &mut search, &interrupt)?;
    let nodes = args.nodes.unwrap_or_else(|| args.target.as_ref().map_or(1, |target| target.split(',').count() as u32));
    let capacity = answer::capacity(Material {
        found: search.found(),
        vary: args.vary,
        slo: args.slo.iter().map(ToString::to_string).collect(),
        scenario: format!("{} {}", args.scenario, flags.described()),
        search: settings,
        nodes,
        beside,
        steps,
        environment,
    });
    capacity.write(&args.out)?;
    print!("{}", summary(&capacity, &args.out));
    Ok(capacity.exit_code)
}

/// Runs one step after the other until the search is over.
fn climb(args: &CapacityArgs, flags: &Flags, search: &mut Search, interrupt: &Interrupt) -> Result<Vec<Step>, Failed> {
    let teller = Teller { quiet: args.quiet, live: !args.quiet && std::io::stderr().is_terminal() };
    let mut steps: Vec<Step> = Vec::new();
    teller.head(args.vary);
    while let Next::Run(load, purpose) = search.next() {
        let at = (steps.len() as u32 + 1, load, purpose);
        let folder = format!("steps/{:02}", at.0);
        let page = format!("{folder}/report.html");
        let ran = step::run(&flags.args(args, load), &args.out.join(&folder), interrupt, |line| teller.live(at, line));
        let step = match ran {
            Ok(report) => Step::of(&report, at, &args.slo, page),
            Err(NoReport::Stopped) => {
                search.stop();
                continue;
            }
            // What had answered and does so no more was overwhelmed.
            Err(NoReport::Unreachable(why)) if !steps.is_empty() => Step::died(at, why, page),
            Err(NoReport::Unreachable(why)) => return Err(Failed::Unreachable(why)),
            Err(NoReport::Failed(why)) => {
                return Err(Failed::Other(anyhow::anyhow!("step {} could not be run:\n{why}", at.0)));
            }
            Err(NoReport::System(error)) => return Err(Failed::Other(error)),
        };
        teller.step(&step);
        search.tell(load, step.outcome);
        steps.push(step);
    }
    teller.clear();
    Ok(steps)
}

/// How the scenario's command is asked for a load.
enum Flags {
    /// `--rate`, with so many sessions.
    QuickRate {
        clients: u32,
    },
    /// `--clients`, and as much more of the rate.
    QuickClients,
    SendsClients,
    /// `--connections` of this command.
    Connections,
    BroadcastRate {
        clients: u32,
    },
    /// `run NAME|FILE` with `--rate` or `--clients`.
    Scenario {
        flag: &'static str,
    },
}

impl Flags {
    fn of(args: &CapacityArgs) -> Result<Self, Failed> {
        let clients = args.clients.unwrap_or(500);
        Ok(match (args.scenario.as_str(), args.vary) {
            ("quick", Vary::Rate) => Self::QuickRate { clients },
            ("quick", Vary::Connections) => Self::QuickClients,
            ("sends", Vary::Connections) => Self::SendsClients,
            ("broadcast", Vary::Rate) => Self::BroadcastRate { clients },
            ("idle" | "hold" | "storm" | "echo" | "broadcast", Vary::Connections) => Self::Connections,
            (name @ ("sends" | "idle" | "hold" | "storm" | "echo"), Vary::Rate) => {
                return Err(refuse(format!("--vary rate: `{name}` has no rate, give --vary connections")));
            }
            (_, Vary::Rate) => Self::Scenario { flag: "--rate" },
            (_, Vary::Connections) => Self::Scenario { flag: "--clients" },
        })
    }

    /// What is run, for people.
    fn described(&self) -> String {
        match self {
            Self::QuickRate { clients } | Self::BroadcastRate { clients } => {
                format!("with {clients} sessions, by --rate")
            }
            Self::QuickClients => "by --clients, and the rate with them".into(),
            Self::SendsClients => "by --senders".into(),
            Self::Connections => "by --connections".into(),
            Self::Scenario { flag } => format!("by {flag}"),
        }
    }

    /// The command line of a run.
    fn args(&self, args: &CapacityArgs, load: f64) -> Vec<String> {
        let hold = format!("{}ms", args.hold.as_millis());
        let whole = (load.round() as u64).max(1);
        let name = args.scenario.as_str();
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let mut line = match self {
            Self::QuickRate { clients } => {
                list(&["quick", "--clients", &clients.to_string(), "--rate", &load.to_string(), "--for", &hold])
            }
            Self::QuickClients => {
                let rate = (load * args.rate_per_client).to_string();
                list(&["quick", "--clients", &whole.max(2).to_string(), "--rate", &rate, "--for", &hold])
            }
            Self::SendsClients => list(&["sends", "--senders", &whole.max(2).to_string(), "--for", &hold]),
            Self::Connections if name == "broadcast" => list(&[name, "--connections", &whole.to_string()]),
            Self::Connections => list(&[name, "--connections", &whole.to_string(), "--for", &hold]),
            Self::BroadcastRate { clients } => {
                let publishes = (load * args.hold.as_secs_f64()).ceil().max(1.0).to_string();
                let (clients, rate) = (clients.to_string(), load.to_string());
                list(&["broadcast", "--connections", &clients, "--rate", &rate, "--publishes", &publishes])
            }
            Self::Scenario { flag } => {
                let mut line = list(&["run", name, flag, &whole.to_string(), "--for", &hold]);
                if let (Some(clients), Vary::Rate) = (args.clients, args.vary) {
                    line.extend(list(&["--clients", &clients.to_string()]));
                }
                line
            }
        };
        line.extend(args.seed.into_iter().flat_map(|seed| list(&["--seed", &seed.to_string()])));
        line.extend(args.target.iter().flat_map(|target| list(&["--target", target])));
        line.extend(args.further.iter().cloned());
        line
    }
}

/// The answer of another search.
fn read_beside(path: &Path) -> anyhow::Result<Beside> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let json: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
    let (nodes, load) = (json["nodes"].as_u64(), json["answer"]["load"].as_f64());
    let (nodes, load) = nodes.zip(load).with_context(|| format!("{} is no answer of a search", path.display()))?;
    Ok(Beside { nodes: u32::try_from(nodes)?, load })
}

/// Tells how the search goes on, on standard error: a line for each step, and what the run says meanwhile.
struct Teller {
    quiet: bool,
    live: bool,
}

impl Teller {
    fn head(&self, vary: Vary) {
        if !self.quiet {
            eprintln!(
                "{:>4}  {:>12}  {:<8}  {:>10}  {:>11}  {:>12}  outcome",
                "run",
                vary.unit(),
                "why",
                "p99",
                "delivered/s",
                "server cores"
            );
        }
    }

    fn live(&self, (number_of, load, purpose): (u32, f64, Purpose), line: &str) {
        if self.live {
            let line: String = line.trim().chars().take(100).collect();
            let _ = write!(
                std::io::stderr(),
                "\r\x1b[K{number_of:>4}  {:>12}  {:<8}  {line}",
                number(load),
                purpose.word()
            );
            let _ = std::io::stderr().flush();
        }
    }

    fn step(&self, step: &Step) {
        self.clear();
        if self.quiet {
            return;
        }
        let times = if step.delivery_us.count > 0 { step.delivery_us } else { step.ack_us };
        let or = |text: Option<String>| text.unwrap_or("–".into());
        let outcome = match step.outcome {
            Judged::Held => "held".to_owned(),
            Judged::Failed => format!("too much: {}", step.why.first().map_or("", String::as_str)),
            Judged::Generator => {
                format!("the generator was the limit: {}", step.why.last().map_or("", String::as_str))
            }
        };
        eprintln!(
            "{:>4}  {:>12}  {:<8}  {:>10}  {:>11}  {:>12}  {outcome}",
            step.step,
            number(step.load),
            step.purpose.word(),
            or(times.p99.map(time)),
            or(step.deliveries_per_second.or(step.sends_per_second).map(number)),
            or(step.server_cpu_cores.map(|cores| format!("{cores:.2}"))),
        );
    }

    fn clear(&self) {
        if self.live {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// The answer in one sentence, and where the rest is.
fn summary(capacity: &Capacity, out: &Path) -> String {
    let mut text = format!("{}\n", capacity.answer.sentence);
    if let Some(scalability) = &capacity.scalability {
        text += &format!("{}\n", scalability.limit());
    }
    text + &format!("{:<12}{}\n", "report", out.join("capacity.html").display())
}
