//! What a run does, as plain data: another scenario is another value, not other code.
//!
//! - [`Scenario`]: resolved numbers, what the engine runs and the report shows;
//! - `spec`: the form in TOML that people write, `keys`: its keys, `read`: from a text to it, `fault`: what may be wrong,
//!   `check`: whether it means anything; `compile`: from there to a [`Scenario`], or to a plan of lean clients; `ready`:
//!   those that come along; `summary`: what one would do, in words;
//! - `short`: what sub-commands without a file run;
//! - `needs`: what a run takes of this machine, and whether it has it; `slice`: a part of a scenario, for one of several
//!   workers.

pub(crate) mod check;
pub(crate) mod compile;
pub(crate) mod fault;
pub(crate) mod keys;
pub(crate) mod needs;
pub(crate) mod read;
pub(crate) mod ready;
mod short;
mod slice;
pub(crate) mod spec;
pub(crate) mod summary;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(target_os = "linux")]
use crate::lines::Impairment;
use crate::report::PhaseMark;
use crate::threshold::Threshold;

/// One run: who connects, who talks to whom, how much, for how long, and what counts as well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// Its name, for the report.
    pub name: String,
    /// What the server speaks.
    pub protocol: Protocol,
    /// What carries the connections of the first population.
    pub transport: Transport,
    /// Share of its clients that go on from another address each second, 0 to 1.
    pub migrating: f64,
    /// What befalls its datagrams on their way.
    #[cfg(target_os = "linux")]
    pub(crate) impairment: Impairment,
    /// Sessions at the fullest.
    pub clients: u32,
    /// Connections begun per second.
    pub connects_per_second: u32,
    /// Who talks to whom.
    pub population: Population,
    /// Who there is, and how they behave. Their clients are numbered in this order.
    pub crowds: Vec<Crowd>,
    /// What is sent.
    pub load: Load,
    /// What happens, one after the other.
    pub phases: Vec<Phase>,
    /// Length of a message's text in bytes; never less than what [`crate::client::body`] needs.
    pub body_bytes: usize,
    /// How long a client gathers what it received before it sends an ACK.
    #[serde(rename = "marks_after_ms", with = "millis")]
    pub marks_after: Duration,
    /// How long deliveries and answers may take after the load has ended.
    #[serde(rename = "grace_ms", with = "millis")]
    pub grace: Duration,
    /// Share of the users that have the real SDK as one more device, 0 to 1.
    pub sdk_share: f64,
    /// What the report is held to.
    pub thresholds: Vec<Threshold>,
    /// Where randomness begins: the same seed gives the same plan and the same intended times.
    pub seed: u64,
}

/// What carries a run's connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// WebSocket over TCP.
    #[default]
    Ws,
    /// WebSocket over TLS.
    #[cfg(target_os = "linux")]
    Wss,
    /// QUIC, with TLS as always.
    #[cfg(target_os = "linux")]
    Quic,
}

impl Transport {
    /// Whether it encrypts.
    pub(crate) const fn has_tls(self) -> bool {
        !matches!(self, Self::Ws)
    }

    /// Whether connections share sockets, and can change their address.
    pub(crate) const fn is_quic(self) -> bool {
        match self {
            Self::Ws => false,
            #[cfg(target_os = "linux")]
            Self::Wss => false,
            #[cfg(target_os = "linux")]
            Self::Quic => true,
        }
    }

    /// For people.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Ws => "WebSocket",
            #[cfg(target_os = "linux")]
            Self::Wss => "WebSocket over TLS",
            #[cfg(target_os = "linux")]
            Self::Quic => "QUIC",
        }
    }
}

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Roost: WebSocket with `roost.v1.pb`.
    Roost,
    /// A plain WebSocket server at `/`: echoes text, and sends what begins with `!` to everybody. For comparisons.
    Plain,
}

/// What a server speaks whom clients by the million meet: more than [`Protocol`], as they need less of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Dialect {
    /// Roost: WebSocket with `roost.v1.pb`.
    Roost,
    /// A plain WebSocket server at `/`: echoes text, and sends what begins with `!` to everybody. For comparisons.
    Plain,
    /// NATS over WebSocket: text lines, a session with CONNECT, no credentials.
    #[cfg(target_os = "linux")]
    Nats,
    /// MQTT 3.1.1 over WebSocket, QoS 0, anonymous.
    #[cfg(target_os = "linux")]
    Mqtt,
    /// Centrifugo's protocol in JSON, without a token.
    #[cfg(target_os = "linux")]
    Centrifugo,
}

impl Dialect {
    /// The same for clients that do all that a user's client does; `None`: they do not speak it.
    pub(crate) const fn full(self) -> Option<Protocol> {
        match self {
            Self::Roost => Some(Protocol::Roost),
            Self::Plain => Some(Protocol::Plain),
            #[cfg(target_os = "linux")]
            Self::Nats | Self::Mqtt | Self::Centrifugo => None,
        }
    }

    /// As it stands before a target.
    pub(crate) fn word(self) -> String {
        use clap::ValueEnum as _;
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Who talks to whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Population {
    /// With how many others a user has a direct conversation, on average.
    pub partners: f64,
    /// How many groups a user is in, on average.
    pub groups: f64,
    /// Sizes of groups, drawn by weight.
    pub group_sizes: Vec<GroupSize>,
    /// Channels.
    pub channels: Vec<Channel>,
}

/// A size of groups and how common it is among groups.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupSize {
    /// Users, at least 2.
    pub members: u32,
    /// Against the weights of the other sizes.
    pub weight: f64,
}

/// A channel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    /// Share of the users that subscribe to it, 0 to 1.
    pub subscribers: f64,
    /// How many of them write.
    pub publishers: u32,
}

/// Users that behave alike and come by the same way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Crowd {
    /// Of the population, in the scenario.
    pub name: String,
    /// Users with sessions.
    pub users: u32,
    /// Sessions of each.
    pub devices: u32,
    /// What carries them.
    pub transport: Transport,
    /// Share of the clients that go on from another address each second, 0 to 1.
    pub migrating: f64,
    /// What befalls their datagrams on their way.
    #[cfg(target_os = "linux")]
    pub(crate) impairment: Impairment,
    /// Messages per second of all of them together, at a pace of 1.
    pub sends_per_second: f64,
    /// Which conversations they go to.
    pub shares: Shares,
    /// `None`: they stay.
    pub sleeps: Option<Sleeps>,
    /// `None`: they do not answer.
    pub answers: Option<Answers>,
}

impl Crowd {
    /// Sessions of all of them.
    #[must_use]
    pub const fn clients(&self) -> u32 {
        self.users * self.devices
    }
}

/// Clients that leave and come back. Times are exponential.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sleeps {
    /// How long they stay, on average.
    #[serde(rename = "awake_ms", with = "millis")]
    pub awake: Duration,
    /// How long they are away, on average.
    #[serde(rename = "asleep_ms", with = "millis")]
    pub asleep: Duration,
}

/// Clients that answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// The share of messages that are answered. Answers are not.
    pub share: f64,
    /// How long that takes them.
    #[serde(rename = "after_ms", with = "millis")]
    pub after: Duration,
}

/// What is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "model", rename_all = "lowercase")]
pub enum Load {
    /// Nothing: sessions are held.
    Idle {
        /// For how long.
        #[serde(rename = "for_ms", with = "millis")]
        hold: Duration,
    },
    /// Messages have intended times that do not depend on how the server does.
    Open {
        /// How intended times are spread.
        arrivals: Arrivals,
        /// For how long.
        #[serde(rename = "for_ms", with = "millis")]
        hold: Duration,
    },
    /// Every client sends its next direct message when the one before it was acknowledged.
    Closed {
        /// So long after that.
        #[serde(rename = "think_ms", with = "millis")]
        think: Duration,
        /// For how long.
        #[serde(rename = "for_ms", with = "millis")]
        hold: Duration,
    },
}

impl Load {
    /// How long it lasts.
    #[must_use]
    pub const fn hold(&self) -> Duration {
        match self {
            Self::Idle { hold } | Self::Open { hold, .. } | Self::Closed { hold, .. } => *hold,
        }
    }
}

/// How intended times are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// As of many people who do not know of each other: exponential gaps.
    Poisson,
    /// Equal gaps.
    Constant,
}

/// How messages are shared out among kinds of conversation. Only the ratios count.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// To direct conversations.
    pub direct: f64,
    /// To groups.
    pub group: f64,
    /// To channels.
    pub channel: f64,
}

/// A part of the load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// For the report.
    pub name: String,
    /// What happens in it.
    #[serde(flatten)]
    pub event: Event,
    /// How long it lasts.
    #[serde(rename = "for_ms", with = "millis")]
    pub hold: Duration,
    /// How many times as much as at a pace of 1 is sent, at its end.
    pub pace: f64,
    /// Share of the clients that are there at its end, 0 to 1.
    pub online: f64,
    /// Pace and presence go there evenly; otherwise they are there at once.
    pub gradual: bool,
    /// So many messages are due at the same moment.
    pub together: u32,
}

/// What happens in a phase, beside messages.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Event {
    /// Clients come (or go) over its time.
    Ramp,
    /// Nothing.
    Steady,
    /// Much is sent at once.
    Burst,
    /// A share of the clients drops at its beginning, and comes back.
    Storm {
        /// How many of them.
        share: f64,
        /// How they drop.
        how: Cut,
        /// Everybody comes back at a moment of its own within this time.
        #[serde(rename = "window_ms", with = "millis")]
        window: Duration,
    },
    /// At its beginning the server is asked to leave, and starts anew.
    Deploy,
    /// A share of the clients changes to another network, each at a moment of its own: QUIC goes on, TCP comes anew.
    Network {
        /// How many of them.
        share: f64,
    },
    /// Everybody leaves over its time.
    Drain,
}

/// How connections are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Cut {
    /// The end of TCP, without a WebSocket close.
    Fin,
    /// A reset.
    Rst,
}

impl Scenario {
    /// What carries the connections, for people.
    pub(crate) fn by(&self) -> String {
        let mut ways: Vec<String> = Vec::new();
        for crowd in &self.crowds {
            let by = crowd.transport.words().to_owned();
            #[cfg(target_os = "linux")]
            let by = by + &crowd.impairment.words();
            if !ways.contains(&by) {
                ways.push(by);
            }
        }
        ways.join("; ")
    }

    /// Users with sessions.
    #[must_use]
    pub fn users(&self) -> u32 {
        self.crowds.iter().map(|crowd| crowd.users).sum()
    }

    /// Messages per second of everybody, at a pace of 1. 0 where they do not come by time.
    #[must_use]
    pub fn sends_per_second(&self) -> f64 {
        match self.load {
            Load::Open { .. } => self.crowds.iter().map(|crowd| crowd.sends_per_second).sum(),
            Load::Idle { .. } | Load::Closed { .. } => 0.0,
        }
    }

    /// Whether the server starts anew in the middle.
    #[must_use]
    pub fn deploys(&self) -> bool {
        self.phases.iter().any(|phase| phase.event == Event::Deploy)
    }

    /// When each phase is.
    pub(crate) fn marks(&self) -> Vec<PhaseMark> {
        let mut from_s = 0.0;
        let mark = |phase: &Phase| {
            let mark = PhaseMark { name: phase.name.clone(), from_s, to_s: from_s + phase.hold.as_secs_f64() };
            from_s = mark.to_s;
            mark
        };
        self.phases.iter().map(mark).collect()
    }

    /// The crowd of a client, and its number.
    #[must_use]
    pub fn crowd_of(&self, client: u32) -> (usize, &Crowd) {
        let mut first = 0;
        for (at, crowd) in self.crowds.iter().enumerate() {
            first += crowd.clients();
            if client < first {
                return (at, crowd);
            }
        }
        panic!("client {client} is of no crowd");
    }

    /// Everybody comes this way.
    #[cfg(target_os = "linux")]
    pub(crate) fn carry(&mut self, transport: Transport, migrating: f64, impairment: Impairment) {
        (self.transport, self.migrating, self.impairment) = (transport, migrating, impairment);
        for crowd in &mut self.crowds {
            (crowd.transport, crowd.migrating, crowd.impairment) = (transport, migrating, impairment);
        }
    }
}

/// Durations as milliseconds; fractions are kept where there are any.
pub(crate) mod millis {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        match u64::try_from(time.as_millis()) {
            Ok(whole) if Duration::from_millis(whole) == *time => to.serialize_u64(whole),
            _ => to.serialize_f64(time.as_secs_f64() * 1e3),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let ms = f64::deserialize(from)?;
        Duration::try_from_secs_f64(ms / 1e3).map_err(serde::de::Error::custom)
    }
}
