//! The form in TOML that people write: users and their habits, in units of people. `docs/scenarios.md` says what each key
//! means; `keys` is the list of them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Transport;

/// A scenario as it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) clients: Engine,
    pub(crate) seed: u64,
    pub(crate) arrivals: Arrivals,
    pub(crate) bytes: u64,
    pub(crate) connect_rate: f64,
    pub(crate) grace: Time,
    pub(crate) marks_after: Time,
    pub(crate) sdk_share: f64,
    pub(crate) heartbeat: Time,
    pub(crate) tickets: bool,
    pub(crate) twice: bool,
    pub(crate) thresholds: Vec<String>,
    pub(crate) population: Vec<Population>,
    pub(crate) network: BTreeMap<String, Network>,
    pub(crate) behaviour: BTreeMap<String, Behaviour>,
    pub(crate) graph: Graph,
    pub(crate) phase: Vec<Phase>,
}

/// Which clients run it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Engine {
    /// Those that do all that a user's client does.
    #[default]
    Full,
    /// Those of a few bytes.
    Lean,
}

/// How intended times are spread, or that there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Arrivals {
    #[default]
    Poisson,
    Uniform,
    Closed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Population {
    pub(crate) name: String,
    pub(crate) users: f64,
    pub(crate) connected: f64,
    pub(crate) devices: u32,
    pub(crate) transport: Transport,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) behaviour: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Network {
    pub(crate) delay: Time,
    pub(crate) jitter: Time,
    pub(crate) loss: f64,
    pub(crate) migrating: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Behaviour {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) think: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<f64>,
    pub(crate) direct: f64,
    pub(crate) group: f64,
    pub(crate) channel: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) awake: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) asleep: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) answers: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<Time>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Graph {
    pub(crate) partners: f64,
    pub(crate) groups: f64,
    pub(crate) group_min: u32,
    pub(crate) group_max: u32,
    pub(crate) group_zipf: f64,
    pub(crate) channels: u32,
    pub(crate) subscribers: f64,
    pub(crate) publishers: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Phase {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    #[serde(rename = "for")]
    pub(crate) hold: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pace: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) online: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) together: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) how: Option<super::Cut>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) window: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) publishes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<f64>,
}

/// What happens in a phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Ramp,
    #[default]
    Steady,
    Burst,
    Broadcast,
    Echo,
    Storm,
    Deploy,
    Network,
    Drain,
}

impl Kind {
    /// As it is written.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Ramp => "ramp",
            Self::Steady => "steady",
            Self::Burst => "burst",
            Self::Broadcast => "broadcast",
            Self::Echo => "echo",
            Self::Storm => "storm",
            Self::Deploy => "deploy",
            Self::Network => "network",
            Self::Drain => "drain",
        }
    }
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            name: String::new(),
            about: String::new(),
            clients: Engine::default(),
            seed: 1,
            arrivals: Arrivals::default(),
            bytes: 128,
            connect_rate: 4000.0,
            grace: Time::seconds(10),
            marks_after: Time::seconds(1),
            sdk_share: 0.0,
            heartbeat: Time::seconds(60),
            tickets: false,
            twice: false,
            thresholds: Vec::new(),
            population: Vec::new(),
            network: BTreeMap::new(),
            behaviour: BTreeMap::new(),
            graph: Graph::default(),
            phase: Vec::new(),
        }
    }
}

impl Default for Population {
    fn default() -> Self {
        Self {
            name: String::new(),
            users: 0.0,
            connected: 1.0,
            devices: 1,
            transport: Transport::Ws,
            network: None,
            behaviour: None,
        }
    }
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            think: None,
            rate: None,
            direct: 1.0,
            group: 1.0,
            channel: 0.0,
            awake: None,
            asleep: None,
            answers: None,
            after: None,
        }
    }
}

impl Default for Graph {
    fn default() -> Self {
        Self {
            partners: 1.0,
            groups: 0.0,
            group_min: 3,
            group_max: 50,
            group_zipf: 1.5,
            channels: 0,
            subscribers: 1.0,
            publishers: 1,
        }
    }
}

/// A time as people write it: `20s`, `1m 30s`, `250ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub(crate) struct Time(pub(crate) Duration);

impl Time {
    pub(crate) const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "0" => Ok(Self::default()),
            text => humantime::parse_duration(text)
                .map(Self)
                .map_err(|error| format!("`{text}` is no time: {error}; write it as \"20s\", \"250ms\" or \"1h 30m\"")),
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // To the microsecond: what is scaled has odd ends.
        let rounded = Duration::from_micros(u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX));
        write!(f, "{}", humantime::format_duration(rounded))
    }
}

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time with its unit, such as \"20s\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Time, E> {
                text.parse().map_err(E::custom)
            }
        }
        from.deserialize_str(Text)
    }
}
