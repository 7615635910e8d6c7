//! Flags, and the scenarios they mean.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum as _};
use roost_client::url::Url;

use super::carrying::Carrying;
use super::target::{Targets, targets, url};
use crate::client::body::BODY_BYTES_MIN;
use crate::hostile::kinds::Kind;
use crate::hostile::windows::Schedule;
use crate::scenario::{Arrivals, Dialect, GroupSize, Load, Protocol, Scenario, Shares};
use crate::threshold::Threshold;

#[derive(Debug, Parser)]
#[command(
    name = "roost-load",
    version,
    about = "Puts a Roost server under load and proves what came of it.",
    after_help = "EXAMPLES\n  \
        roost-load quick                                        2 000 clients for 20 s on a server of its own\n  \
        roost-load run chat-day --scale 0.02                    a day of 20 000 users, an hour in a second\n  \
        roost-load scenarios                                    what else there is to run\n  \
        roost-load quick --clients 5000 --rate 4000 --for 60s --threshold 'delivery.p99<100ms'\n  \
        roost-load quick --target http://127.0.0.1:8080 --token-key roost-data/secrets/token-key\n  \
        roost-load quick --target http://127.0.0.1:8081,http://127.0.0.1:8082 --token-key key   a fleet\n  \
        roost-load sends --senders 256 --for 10s                durable sends per second\n  \
        roost-load idle --connections 10000                     memory per session\n  \
        roost-load broadcast --connections 2000 --publishes 500 deliveries per CPU-second\n  \
        roost-load hold --connections 15000 --for 2m            set-up rate, memory and CPU of idle sessions\n  \
        roost-load quick --transport quic --migrating 0.1       by QUIC, and 10 % change their address each second\n  \
        roost-load quick --transport quic --delay 40ms --jitter 10ms --loss 0.05    on a bad network\n  \
        roost-load hold --transport wss --tickets                by WebSocket over TLS, handshakes resumed\n  \
        roost-load storm --connections 15000                    all drop at once and come back\n  \
        roost-load echo --connections 1000                      echoes per CPU-second\n  \
        roost-load capacity --slo 'p99_delivery<250ms'          the highest load that meets it\n  \
        roost-load worker                                       puts a slice of another's load on\n  \
        roost-load udp-blocked                                  how long users wait where UDP does not come through\n  \
        roost-load hostile                                      sixteen kinds of attack beside a good load\n  \
        roost-load compare runs/old runs/new --fail-if-worse 5%  what changed, and whether it may be chance\n\n\
        EXIT CODES\n  \
        0    well\n  \
        2    wrong usage\n  \
        3    the server could not be reached, or went away in the middle: then there is a partial report\n  \
        4    something acknowledged was lost, doubled, reordered or changed\n  \
        5    the generator was the limit: above 90 % of its cores, or more than 10 ms late at the 99th percentile\n  \
        99   a threshold failed\n  \
        130  stopped by Ctrl-C; the report is partial\n\
        Where several hold, the first of 130, 3, 4, 5, 99 is told."
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Runs a scenario: a file in TOML, or a ready one by its name
    #[command(after_help = "EXAMPLES\n  \
        roost-load run chat-day --scale 0.02\n  \
        roost-load run my.toml --target https://chat.example.org --ca ca.pem --token-key key --threshold 'p99_delivery<250ms'\n  \
        roost-load run broadcast --target centrifugo:ws://127.0.0.1:8000/connection/websocket --server-pid 4242\n  \
        roost-load run reconnect --set phase.storm.share=1 --set graph.groups=0 --for 20s\n\n\
        docs/scenarios.md has every key. Exit codes are those of `roost-load --help`; 3 with a report: the target went away in the \
        middle, and the report is partial.")]
    Run(super::scenario::Run),
    /// Says of scenarios what is wrong with them, or what they would do: users, messages, peak rate, minutes, memory
    #[command(after_help = "EXAMPLES\n  roost-load check my.toml\n  roost-load check chat-day --scale 0.02")]
    Check(super::scenario::Check),
    /// Lists the scenarios that come along
    #[command(after_help = "EXAMPLES\n  roost-load scenarios\n  roost-load scenarios --show chat-day > my.toml")]
    Scenarios(super::scenario::Scenarios),
    /// Direct and group messages of many clients, with every delivery checked
    #[command(after_help = "EXAMPLES\n  \
        roost-load quick\n  \
        roost-load quick --clients 500 --rate 200 --for 10s --out report\n  \
        roost-load quick --target http://10.0.0.7:8080 --threshold 'ack.p99<50ms' --threshold 'lost==0'\n\n\
        Without --target it starts a server of its own, and stops it. Without --token-key a target is entered as guests.")]
    Quick(Quick),
    /// Durable sends per second: every sender sends its next when the one before it was acknowledged
    #[command(after_help = "EXAMPLE\n  roost-load sends --senders 256 --for 10s")]
    Sends(Sends),
    /// Holds idle connections and tells what memory they take
    #[command(after_help = "EXAMPLES\n  \
        roost-load idle --connections 10000\n  \
        roost-load idle --connections 10000 --protocol plain --target ws://127.0.0.1:9001/ --server-pid 4242")]
    Idle(Idle),
    /// One publisher, everybody listens: deliveries per CPU-second of the server
    #[command(after_help = "EXAMPLES\n  \
        roost-load broadcast --connections 2000 --publishes 500 --bytes 128\n  \
        roost-load broadcast --connections 15000 --publishes 20 --rate 2 --threshold 'delivery.p99<1s'\n  \
        roost-load broadcast --protocol plain --target ws://127.0.0.1:9001/ --server-pid 4242\n\n\
        Above 5 000 connections, or with --mass, clients are those of `hold`: then latency is told to the first and to the last as well.")]
    Broadcast(Broadcast),
    /// Holds up to millions of sessions with heartbeats: set-up rate, memory, CPU, losses
    #[cfg(target_os = "linux")]
    #[command(after_help = "EXAMPLES\n  \
        roost-load hold --connections 1000000 --rate 20000 --for 2m\n  \
        roost-load hold --connections 50000 --publishes 5 --storm rst --drain --serve '--driver poll'\n  \
        roost-load hold --connections 15000 --protocol plain --target ws://127.0.0.1:9001/ --server-pid 4242\n  \
        roost-load hold --connections 15000 --protocol mqtt --target ws://127.0.0.1:9883/ --publishes 10 --server-pid 4242\n\n\
        Clients are sockets without descriptors, in the tables of io_uring rings: their number is bounded by memory. Against a target on \
        the loopback network they come from addresses of 127.1.0.0/16 and up, so that ports do not run out.")]
    Hold(super::mass::Hold),
    /// Everybody drops at once, and comes back in a slot of its own: how long until all are live again
    #[cfg(target_os = "linux")]
    #[command(after_help = "EXAMPLES\n  \
        roost-load storm --connections 15000 --how rst\n  \
        roost-load storm --connections 15000 --how fin --window 3s --target http://127.0.0.1:8080 --token-key roost-data/secrets/token-key")]
    Storm(super::mass::Storm),
    /// Every client has one text under way, which the server sends back: messages per CPU-second of the server
    #[cfg(target_os = "linux")]
    #[command(after_help = "EXAMPLES\n  \
        roost-load echo --connections 1000 --bytes 128 --for 10s\n  \
        roost-load echo --connections 1000 --target ws://127.0.0.1:9001/ --server-pid 4242")]
    Echo(super::mass::Echo),
    /// The highest load that meets objectives: climbs, bisects and confirms, then says how cost grows with load
    #[command(after_help = "EXAMPLES\n  \
        roost-load capacity --slo 'p99_delivery<250ms'\n  \
        roost-load capacity --slo 'p99_delivery<250ms' --slo 'lost==0' --from 500 --for 30s --clients 2000\n  \
        roost-load capacity --slo 'delivery.p99<1s' --vary connections --scenario broadcast -- --publishes 100 --rate 10\n  \
        roost-load capacity --slo 'ack.p99<50ms' --target http://10.0.0.7:8080 -- --token-key key\n\n\
        Each step is a run of its own, on a fresh server of its own if there is no --target, with its report below steps/.")]
    Capacity(super::capacity::CapacityArgs),
    /// Waits for coordinators, `quick` or `run` with --workers, and puts a slice of their load on
    #[command(after_help = "EXAMPLES\n  \
        roost-load worker\n  \
        roost-load worker --listen 0.0.0.0:7070 --token-file secret --token-key key\n  \
        roost-load quick --workers 10.0.0.8:7070,10.0.0.9:7070 --workers-token-file secret --target http://10.0.0.7:8080 --token-key key")]
    Worker(super::worker::WorkerArgs),
    /// Real clients, which try QUIC first, where UDP comes through, is refused, or is swallowed: how long users wait
    #[command(after_help = "EXAMPLES\n  \
        roost-load udp-blocked\n  \
        roost-load udp-blocked --clients 1000 --rate 100")]
    UdpBlocked(UdpBlocked),
    /// Attacks of every kind beside a load that means well: by how much its latency grows, and what attackers are told
    #[command(after_help = "EXAMPLES\n  \
        roost-load hostile\n  \
        roost-load hostile --kind pings --kind slow-heads --attack-for 20s\n  \
        roost-load hostile --target http://127.0.0.1:8080 --token-key roost-data/secrets/token-key --admin http://127.0.0.1:9090\n\n\
        Only against servers of your own. Attackers run on this machine, at bounded rates that the report tells. A server of its own \
        has default limits, and 127.0.0.1, where the good load comes from, is exempt from those of an address.")]
    Hostile(Hostile),
    /// Runs against runs: by how much each figure differs, and whether that may be chance
    #[command(after_help = "EXAMPLES\n  \
        roost-load compare old/report.json new/report.json\n  \
        roost-load compare runs/old runs/new --fail-if-worse 5%      directories with several runs each\n  \
        roost-load compare --criterion target/criterion\n\n\
        With --fail-if-worse the exit code is 99 if something is worse, and 5 if the generator was the limit in all runs of a side.")]
    Compare(super::compare::Compare),
    /// Draws report.html anew from a report.json
    Page(super::compare::Page),
    /// Prints the JSON schema of report.json
    Schema,
}

#[derive(Debug, Args)]
pub(super) struct UdpBlocked {
    /// Clients in each of the three worlds
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) clients: u32,
    /// Clients that begin to enter, per second
    #[arg(long, value_name = "N", default_value_t = 50.0, value_parser = rate)]
    pub(super) rate: f64,
    /// Directory of report.html and report.json
    #[arg(long, value_name = "DIR", default_value = "roost-report")]
    pub(super) out: PathBuf,
    /// Further settings of the servers, as '--driver uring --shards 2'
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub(super) serve: Option<String>,
    /// Tell nothing while it runs
    #[arg(long)]
    pub(super) quiet: bool,
}

#[derive(Debug, Args)]
pub(super) struct Hostile {
    /// Sessions that mean well
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    clients: u32,
    /// Messages per second, of all of them together
    #[arg(long, value_name = "N", default_value_t = 1000.0, value_parser = rate)]
    rate: f64,
    /// A kind of attack; may be given again [default: all of them]
    #[arg(long = "kind", value_name = "KIND")]
    pub(super) kinds: Vec<Kind>,
    /// How long each attack lasts
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = seconds)]
    attack_for: u64,
    /// How long it is quiet before each
    #[arg(long, value_name = "TIME", default_value = "6s", value_parser = seconds)]
    quiet_for: u64,
    /// Length of a window: numbers are medians over them
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = seconds)]
    window: u64,
    /// How many times the quiet 99th percentile of deliveries it may be under attack
    #[arg(long, value_name = "N", default_value_t = 2.0, value_parser = rate)]
    pub(super) ratio_max: f64,
    #[command(flatten)]
    common: Common,
}

impl Hostile {
    /// The kinds to try, and when.
    pub(super) fn plan(&self) -> (Vec<Kind>, Schedule) {
        let kinds = if self.kinds.is_empty() { Kind::value_variants().to_vec() } else { self.kinds.clone() };
        let schedule = Schedule {
            attacks: kinds.len() as u64,
            quiet: self.quiet_for.max(self.window),
            attack: self.attack_for.max(self.window + 2),
            window: self.window,
        };
        (kinds, schedule)
    }

    /// Messages per second of the good load.
    pub(super) const fn rate(&self) -> f64 {
        self.rate
    }
}

#[derive(Debug, Args)]
pub(super) struct Common {
    /// Server to put under load, http://, https:// or quic://, with what it speaks before it: centrifugo:ws://…, nats:, mqtt:, plain:;
    /// nodes of one fleet with commas between [default: one of its own]
    #[arg(long, value_name = "URL", value_parser = targets)]
    pub(super) target: Option<Targets>,
    /// Directory of report.html and report.json
    #[arg(long, value_name = "DIR", default_value = "roost-report")]
    pub(super) out: PathBuf,
    /// Key that signs the target's tokens, <data>/secrets/token-key [default: enter as guests]
    #[arg(long, value_name = "FILE", requires = "target")]
    pub(super) token_key: Option<PathBuf>,
    /// The target's admin address, to report its version
    #[arg(long, value_name = "URL", requires = "target", value_parser = url)]
    pub(super) admin: Option<Url>,
    /// The target's process on this host, to measure its memory and CPU time
    #[arg(long, value_name = "PID", requires = "target")]
    pub(super) server_pid: Option<u32>,
    /// Further settings of a server of its own, as '--driver uring --shards 2'
    #[arg(long, value_name = "FLAGS", conflicts_with = "target", allow_hyphen_values = true)]
    pub(super) serve: Option<String>,
    /// A bound the report must keep, as 'delivery.p99<250ms'; may be given again
    #[arg(long, value_name = "BOUND")]
    pub(super) threshold: Vec<Threshold>,
    /// Where chance begins: the same seed gives the same plan and the same intended times [default: 1, or the scenario's]
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    /// Threads of the generator [default: a quarter of the cores, at least 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(super) threads: Option<u32>,
    /// Connections begun per second [default: 4000, or the scenario's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) connect_rate: Option<u32>,
    /// How long answers and deliveries may take after the load [default: 10s, or the scenario's]
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub(super) grace: Option<Duration>,
    /// Workers that put the load on, a slice of the clients each, as host:port with commas between
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',')]
    pub(super) workers: Vec<String>,
    /// Secret that the workers want
    #[arg(long, value_name = "FILE", requires = "workers")]
    pub(super) workers_token_file: Option<PathBuf>,
    /// Also write the verdict, thresholds and promises as JUnit test cases
    #[arg(long, value_name = "FILE")]
    pub(super) junit: Option<PathBuf>,
    /// Tell nothing while it runs
    #[arg(long)]
    pub(super) quiet: bool,
    /// A plain line every second instead of the dashboard
    #[arg(long, conflicts_with = "quiet")]
    pub(super) plain: bool,
}

#[derive(Debug, Args)]
pub(super) struct Quick {
    /// Sessions
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(2..=4_000_000))]
    clients: u32,
    /// Messages per second, of all clients together
    #[arg(long, value_name = "N", default_value_t = 2000.0, value_parser = rate)]
    rate: f64,
    /// How long to send
    #[arg(long = "for", value_name = "TIME", default_value = "20s", value_parser = span)]
    hold: Duration,
    /// Length of a message's text
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = body)]
    bytes: usize,
    /// Members of a group; half of the clients are in one
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=512))]
    group_size: u32,
    /// Share of the messages that goes to groups, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.4, value_parser = share)]
    group_share: f64,
    /// How intended times are spread
    #[arg(long, value_name = "HOW", default_value = "poisson")]
    arrivals: Arrivals,
    #[command(flatten)]
    carrying: Carrying,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Sends {
    /// Clients that send, in pairs
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    senders: u32,
    /// How long to send
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = span)]
    hold: Duration,
    /// Length of a message's text
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = body)]
    bytes: usize,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Idle {
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    connections: u32,
    /// How long to hold them
    #[arg(long = "for", value_name = "TIME", default_value = "5s", value_parser = span)]
    hold: Duration,
    /// What the target speaks
    #[arg(long, value_name = "WHAT", default_value = "roost")]
    protocol: Protocol,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Broadcast {
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    pub(super) connections: u32,
    /// Messages to publish
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) publishes: u32,
    /// Messages per second
    #[arg(long, value_name = "N", default_value_t = 25.0, value_parser = rate)]
    pub(super) rate: f64,
    /// Messages that are due at the same moment
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) burst: u32,
    /// Length of a message's text
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = body)]
    pub(super) bytes: usize,
    /// What the target speaks
    #[arg(long, value_name = "WHAT", default_value = "roost")]
    pub(super) protocol: Dialect,
    /// Take the clients of `hold`, whatever the number
    #[cfg(target_os = "linux")]
    #[arg(long)]
    pub(super) mass: bool,
    #[command(flatten)]
    pub(super) carrying: Carrying,
    #[command(flatten)]
    pub(super) common: Common,
}

#[cfg(target_os = "linux")]
impl Command {
    /// The plan of many clients that the flags mean, or the command itself: it is another one.
    pub(super) fn planned(self) -> Result<super::mass::Planned, Box<Self>> {
        match self {
            Self::Hold(hold) => Ok(hold.planned()),
            Self::Storm(storm) => Ok(storm.planned()),
            Self::Echo(echo) => Ok(echo.planned()),
            Self::Broadcast(broadcast) if broadcast.is_mass() => Ok(broadcast.planned_mass()),
            other => Err(Box::new(other)),
        }
    }
}

impl Command {
    /// The scenario that the flags mean, the certificate that is believed, and what is the same for all of them.
    pub(super) fn scenario(self) -> (Scenario, Option<PathBuf>, Common) {
        let mut ca = None;
        let (mut scenario, common) = match self {
            Self::Quick(quick) => {
                let mut scenario = Scenario::quick(quick.clients, quick.rate, quick.hold);
                scenario.body_bytes = quick.bytes;
                scenario.population.group_sizes = vec![GroupSize { members: quick.group_size, weight: 1.0 }];
                scenario.load = Load::Open { arrivals: quick.arrivals, hold: quick.hold };
                let shares = Shares { direct: 1.0 - quick.group_share, group: quick.group_share, channel: 0.0 };
                scenario.crowds[0].shares = shares;
                #[cfg(target_os = "linux")]
                scenario.carry(
                    quick.carrying.transport,
                    quick.carrying.migrating,
                    quick.carrying.impairment.impairment(),
                );
                ca = quick.carrying.ca;
                (scenario, quick.common)
            }
            Self::Sends(sends) => {
                let scenario = Scenario { body_bytes: sends.bytes, ..Scenario::sends(sends.senders, sends.hold) };
                (scenario, sends.common)
            }
            Self::Idle(idle) => {
                let scenario = Scenario { protocol: idle.protocol, ..Scenario::idle(idle.connections, idle.hold) };
                (scenario, idle.common)
            }
            Self::Broadcast(broadcast) => {
                let Broadcast { connections, publishes, rate, burst: together, bytes, protocol, common, .. } =
                    broadcast;
                let mut scenario = Scenario::broadcast(connections, publishes, rate, bytes);
                scenario.phases[0].together = together;
                let protocol = protocol.full().expect("it has a plan of its own otherwise");
                (Scenario { protocol, ..scenario }, common)
            }
            #[cfg(target_os = "linux")]
            Self::Hold(_) | Self::Storm(_) | Self::Echo(_) => unreachable!("they have plans of their own"),
            Self::UdpBlocked(_)
            | Self::Capacity(_)
            | Self::Worker(_)
            | Self::Run(_)
            | Self::Check(_)
            | Self::Scenarios(_) => {
                unreachable!("they have plans of their own")
            }
            Self::Compare(_) | Self::Page(_) | Self::Schema => unreachable!("they put no load on anything"),
            Self::Hostile(hostile) => {
                let hold = Duration::from_secs(hostile.plan().1.seconds());
                (
                    Scenario { name: "hostile".into(), ..Scenario::quick(hostile.clients, hostile.rate, hold) },
                    hostile.common,
                )
            }
        };
        scenario.seed = common.seed();
        scenario.grace = common.grace();
        scenario.connects_per_second = common.connect_rate();
        scenario.thresholds.extend(common.threshold.iter().cloned());
        (scenario, ca, common)
    }
}

impl Common {
    /// Where chance begins, if no scenario says it.
    pub(super) fn seed(&self) -> u64 {
        self.seed.unwrap_or(1)
    }

    /// Connections begun per second, if no scenario says it.
    pub(super) fn connect_rate(&self) -> u32 {
        self.connect_rate.unwrap_or(4000)
    }

    /// How long answers may take, if no scenario says it.
    pub(super) fn grace(&self) -> Duration {
        self.grace.unwrap_or(Duration::from_secs(10))
    }

    /// Further settings of a server of our own, one by one.
    pub(super) fn settings(&self) -> impl Iterator<Item = &str> {
        self.serve.iter().flat_map(|flags| flags.split_whitespace())
    }
}

pub(super) fn span(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| format!("{error} (write it as 20s)"))?;
    match time {
        Duration::ZERO => Err("longer than nothing, please".into()),
        time if time > Duration::from_secs(7 * 24 * 3600) => Err("a week at most".into()),
        time => Ok(time),
    }
}

fn seconds(text: &str) -> Result<u64, String> {
    let time = span(text)?;
    if time.subsec_nanos() == 0 { Ok(time.as_secs()) } else { Err("whole seconds, please".into()) }
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "a number is needed")?;
    if (0.001..=10_000_000.0).contains(&rate) { Ok(rate) } else { Err("between 0.001 and 10000000".into()) }
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "a number is needed")?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("between 0 and 1".into()) }
}

pub(super) fn body(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|_| "a whole number is needed")?;
    let range = BODY_BYTES_MIN..=roost_wire::limits::TEXT_BYTES_MAX;
    if range.contains(&bytes) { Ok(bytes) } else { Err(format!("between {} and {}", range.start(), range.end())) }
}
