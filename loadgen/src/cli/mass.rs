//! The scenarios of many clients: their flags, and the plans they mean.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use roost_uring::fleet::Fleet;

use super::args::{Broadcast, Common, body, rate, span};
use super::carrying::Carrying;
use crate::mass::CLIENT_BYTES_MAX;
use crate::mass::plan::{self, Plan};
use crate::scenario::{Cut, Dialect, Transport};
use crate::threshold::Threshold;

/// Connections above which `broadcast` takes these clients.
const BROADCAST_MASS_ABOVE: u32 = 5_000;
/// Clients of which the memory of one can be told.
const BYTES_TOLD_FROM: u32 = 50_000;

/// What these scenarios have in common.
#[derive(Debug, Args)]
pub(super) struct Mass {
    /// Clients
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    connections: u32,
    /// Connections begun per second [default: that of --connect-rate]
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// How often each client sends a heartbeat, unless the server wants it more often
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = span)]
    heartbeat: Duration,
    /// What the target speaks; plain: the upgrade is all; of nats, mqtt and centrifugo: a session without credentials
    #[arg(long, value_name = "WHAT", default_value = "roost")]
    protocol: Dialect,
    #[command(flatten)]
    carrying: Carrying,
    /// Clients come with tickets that the server gave to earlier ones: resumed handshakes
    #[arg(long)]
    tickets: bool,
    /// Upgrade, and no more: a server of our own is met at /echo
    #[arg(long)]
    no_connect: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Hold {
    /// How long to hold them
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = span)]
    hold: Duration,
    /// Then publish so many messages to everybody
    #[arg(long, value_name = "N", default_value_t = 0)]
    publishes: u32,
    /// Messages per second
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = rate)]
    publish_rate: f64,
    /// Messages that are due at the same moment
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    burst: u32,
    /// Length of a message's text
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = body)]
    bytes: usize,
    /// Then drop everybody at once this way, and let them come back
    #[arg(long, value_name = "HOW")]
    storm: Option<Cut>,
    /// Over how long they come back [default: as long as connecting took by the rate]
    #[arg(long, value_name = "TIME", value_parser = span)]
    window: Option<Duration>,
    /// Then ask the server to stop, and see everybody go
    #[arg(long)]
    drain: bool,
    #[command(flatten)]
    mass: Mass,
}

#[derive(Debug, Args)]
pub(super) struct Storm {
    /// How they drop
    #[arg(long, value_name = "HOW", default_value = "rst")]
    how: Cut,
    /// Over how long they come back [default: as long as connecting took by the rate]
    #[arg(long, value_name = "TIME", value_parser = span)]
    window: Option<Duration>,
    /// How long to hold them before
    #[arg(long = "for", value_name = "TIME", default_value = "2s", value_parser = span)]
    hold: Duration,
    #[command(flatten)]
    mass: Mass,
}

#[derive(Debug, Args)]
pub(super) struct Echo {
    /// How long to talk
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = span)]
    hold: Duration,
    /// Length of a text
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = body)]
    bytes: usize,
    #[command(flatten)]
    mass: Mass,
}

/// A plan, and what is needed to run it.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) common: Common,
    pub(super) ca: Option<PathBuf>,
}

impl Hold {
    pub(super) fn planned(self) -> Planned {
        let Self { hold, publishes, publish_rate, burst, bytes, storm, window, drain, mass } = self;
        let mut planned = mass.planned("hold");
        let plan = &mut planned.plan;
        plan.hold = hold;
        plan.drain = drain;
        if publishes > 0 {
            let (publishes_per_second, body_bytes) = (publish_rate, bytes);
            plan.broadcast = Some(plan::Broadcast { publishes, publishes_per_second, burst, body_bytes });
            plan.thresholds.extend(Threshold::all(&["deliveries.missing==0"]));
        }
        if let Some(how) = storm {
            plan.storms(how, window);
        }
        planned.finished()
    }
}

impl Storm {
    pub(super) fn planned(self) -> Planned {
        let Self { how, window, hold, mass } = self;
        let mut planned = mass.planned("storm");
        planned.plan.hold = hold;
        planned.plan.storms(how, window);
        planned.finished()
    }
}

impl Echo {
    pub(super) fn planned(self) -> Planned {
        let Self { hold, bytes, mut mass } = self;
        // There is nothing that a Roost session would send back.
        mass.no_connect |= mass.protocol == Dialect::Roost;
        let mut planned = mass.planned("echo");
        planned.plan.echo = Some(plan::Echo { hold, body_bytes: bytes });
        planned.plan.thresholds.extend(Threshold::all(&["echo.unanswered==0"]));
        planned.finished()
    }
}

impl Broadcast {
    /// Whether it is for these clients: it was asked for, only they speak it, or there are many and the system lets them
    /// be.
    pub(super) fn is_mass(&self) -> bool {
        self.mass
            || self.carrying.transport != Transport::Ws
            || self.protocol.full().is_none()
            || (self.connections > BROADCAST_MASS_ABOVE && Fleet::new(1).is_ok())
    }

    pub(super) fn planned_mass(self) -> Planned {
        let Self { connections, publishes, rate: publish_rate, burst, bytes, protocol, mass: _, carrying, common } =
            self;
        let heartbeat = Duration::from_secs(60);
        let (rate, tickets, no_connect) = (None, false, false);
        let mass = Mass { connections, rate, heartbeat, protocol, carrying, tickets, no_connect, common };
        let mut planned = mass.planned("broadcast");
        let plan = &mut planned.plan;
        let (publishes_per_second, body_bytes) = (publish_rate, bytes);
        plan.broadcast = Some(plan::Broadcast { publishes, publishes_per_second, burst, body_bytes });
        plan.thresholds.extend(Threshold::all(&["deliveries.missing==0"]));
        planned.finished()
    }
}

impl Plan {
    fn storms(&mut self, how: Cut, window: Option<Duration>) {
        let took = f64::from(self.connections) / self.connects_per_second;
        let window = window.unwrap_or_else(|| Duration::from_secs_f64(took.max(1.0)));
        self.storm = Some(plan::Storm { how, window });
        self.thresholds.extend(Threshold::all(&["storm.failed==0"]));
    }
}

impl Mass {
    fn planned(self, name: &str) -> Planned {
        let Self { connections, rate, heartbeat, protocol, carrying, tickets, no_connect, common } = self;
        let Carrying { transport, ca, migrating, impairment } = carrying;
        let said = common.target.as_ref().and_then(|targets| targets.dialect).unwrap_or(protocol);
        let protocol = if no_connect { Dialect::Plain } else { said };
        let mut thresholds =
            Threshold::all(&["sessions.failed==0", "sessions.lost==0", "heartbeats.unanswered==0", "errors==0"]);
        if connections >= BYTES_TOLD_FROM && transport == Transport::Ws {
            thresholds.extend(Threshold::all(&[&format!("generator.bytes_per_client<={CLIENT_BYTES_MAX}")]));
        }
        let plan = Plan {
            name: name.to_owned(),
            protocol,
            connections,
            connects_per_second: rate.unwrap_or_else(|| common.connect_rate().into()),
            heartbeat,
            transport,
            migrating,
            impairment: impairment.impairment(),
            tickets,
            hold: Duration::ZERO,
            broadcast: None,
            echo: None,
            storm: None,
            drain: false,
            grace: common.grace(),
            thresholds,
            seed: common.seed(),
        };
        Planned { plan, common, ca }
    }
}

impl Planned {
    fn finished(mut self) -> Self {
        self.plan.thresholds.extend(self.common.threshold.iter().cloned());
        self
    }
}
