//! What a run does, as plain data: another scenario is another value, not other code.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(target_os = "linux")]
use crate::lines::Impairment;
use crate::threshold::Threshold;

/// One run: who connects, who talks to whom, how much, for how long, and what counts as well.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scenario {
    /// Its name, for the report.
    pub name: String,
    /// What the server speaks.
    pub protocol: Protocol,
    /// What carries the connections.
    pub transport: Transport,
    /// Share of the clients that go on from another address each second, 0 to 1.
    pub migrating: f64,
    /// What befalls datagrams on their way.
    #[cfg(target_os = "linux")]
    pub(crate) impairment: Impairment,
    /// Sessions to hold.
    pub clients: u32,
    /// Connections begun per second.
    pub connects_per_second: u32,
    /// Who talks to whom.
    pub population: Population,
    /// What is sent.
    pub load: Load,
    /// Length of a message's text in bytes; never less than what [`crate::client::body`] needs.
    pub body_bytes: usize,
    /// How long a client gathers what it received before it sends an ACK.
    #[serde(rename = "marks_after_ms", serialize_with = "millis")]
    pub marks_after: Duration,
    /// How long deliveries and answers may take after the load has ended.
    #[serde(rename = "grace_ms", serialize_with = "millis")]
    pub grace: Duration,
    /// What the report is held to.
    pub thresholds: Vec<Threshold>,
    /// Where randomness begins: the same seed gives the same plan and the same intended times.
    pub seed: u64,
}

/// What carries a run's connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
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
}

/// Who talks to whom.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Population {
    /// Share of the clients that have a partner for direct messages, 0 to 1.
    pub paired: f64,
    /// Share of the clients that are in a group, 0 to 1.
    pub grouped: f64,
    /// Sizes of groups, drawn by weight.
    pub group_sizes: Vec<GroupSize>,
    /// Whether everybody subscribes to one channel that the first client publishes to.
    pub channel: bool,
}

/// A size of groups and how common it is among groups.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct GroupSize {
    /// Members, at least 2.
    pub members: u32,
    /// Against the weights of the other sizes.
    pub weight: f64,
}

/// What is sent.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "model", rename_all = "lowercase")]
pub enum Load {
    /// Nothing: sessions are held.
    Idle {
        /// For how long.
        #[serde(rename = "for_ms", serialize_with = "millis")]
        hold: Duration,
    },
    /// Messages have intended times that do not depend on how the server does.
    Open {
        /// Messages per second, of all clients together.
        sends_per_second: f64,
        /// How intended times are spread.
        arrivals: Arrivals,
        /// So many are due at the same moment.
        burst: u32,
        /// Which conversations they go to.
        shares: Shares,
        /// For how long.
        #[serde(rename = "for_ms", serialize_with = "millis")]
        hold: Duration,
    },
    /// Every client sends its next direct message when the one before it was acknowledged.
    Closed {
        /// For how long.
        #[serde(rename = "for_ms", serialize_with = "millis")]
        hold: Duration,
    },
}

impl Load {
    /// How long it lasts.
    #[must_use]
    pub const fn hold(&self) -> Duration {
        match self {
            Self::Idle { hold } | Self::Open { hold, .. } | Self::Closed { hold } => *hold,
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
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Shares {
    /// To direct conversations.
    pub direct: f64,
    /// To groups.
    pub group: f64,
    /// To the channel.
    pub channel: f64,
}

impl Scenario {
    /// What carries the connections, for people.
    pub(crate) fn by(&self) -> String {
        let by = self.transport.words().to_owned();
        #[cfg(target_os = "linux")]
        let by = by + &self.impairment.words();
        by
    }

    /// Direct and group messages of many people: what `roost-load quick` runs.
    #[must_use]
    pub fn quick(clients: u32, sends_per_second: f64, hold: Duration) -> Self {
        Self {
            name: "quick".into(),
            population: Population {
                paired: 1.0,
                grouped: 0.5,
                group_sizes: vec![GroupSize { members: 10, weight: 1.0 }],
                channel: false,
            },
            load: Load::Open {
                sends_per_second,
                arrivals: Arrivals::Poisson,
                burst: 1,
                shares: Shares { direct: 0.6, group: 0.4, channel: 0.0 },
                hold,
            },
            thresholds: Threshold::all(&[
                "sessions.failed==0",
                "sends.unanswered==0",
                "sends.unsent==0",
                "errors==0",
                "unverified==0",
            ]),
            ..Self::idle(clients, hold)
        }
    }

    /// Durable sends per second: every sender waits for its acknowledgement, then sends the next.
    #[must_use]
    pub fn sends(senders: u32, hold: Duration) -> Self {
        Self {
            name: "sends".into(),
            population: Population { paired: 1.0, ..Population::nobody() },
            load: Load::Closed { hold },
            thresholds: Threshold::all(&["sessions.failed==0", "sends.unanswered==0", "unverified==0"]),
            ..Self::idle(senders, hold)
        }
    }

    /// Sessions that say nothing: what memory they take.
    #[must_use]
    pub fn idle(connections: u32, hold: Duration) -> Self {
        Self {
            name: "idle".into(),
            protocol: Protocol::Roost,
            transport: Transport::Ws,
            migrating: 0.0,
            #[cfg(target_os = "linux")]
            impairment: Impairment::default(),
            clients: connections,
            connects_per_second: 4000,
            population: Population::nobody(),
            load: Load::Idle { hold },
            body_bytes: 128,
            marks_after: Duration::from_secs(1),
            grace: Duration::from_secs(10),
            thresholds: Threshold::all(&["sessions.failed==0"]),
            seed: 1,
        }
    }

    /// One publisher, everybody listens.
    #[must_use]
    pub fn broadcast(connections: u32, publishes: u32, publishes_per_second: f64, body_bytes: usize) -> Self {
        let hold = Duration::from_secs_f64(f64::from(publishes) / publishes_per_second);
        Self {
            name: "broadcast".into(),
            population: Population { channel: true, ..Population::nobody() },
            load: Load::Open {
                sends_per_second: publishes_per_second,
                arrivals: Arrivals::Constant,
                burst: 1,
                shares: Shares { direct: 0.0, group: 0.0, channel: 1.0 },
                hold,
            },
            body_bytes,
            thresholds: Threshold::all(&["sessions.failed==0", "unverified==0"]),
            ..Self::idle(connections, hold)
        }
    }
}

impl Population {
    /// Nobody talks.
    const fn nobody() -> Self {
        Self { paired: 0.0, grouped: 0.0, group_sizes: Vec::new(), channel: false }
    }
}

fn millis<S: serde::Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
