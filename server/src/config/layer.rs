//! One layer of settings: the flags with their environment variables, or the file. Every setting may be absent.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use roost_edge_core::config::OriginPolicy;
use roost_router::PublishPolicy;
use serde::Deserialize;

use super::{Config, ConfigError};

/// A length of time as people write it: `30s`, `1500ms`, `2h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = humantime::DurationError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        humantime::parse_duration(text).map(Self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        text.parse().map_err(|error| serde::de::Error::custom(format!("\"{text}\": {error} (write it as \"30s\")")))
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// One object per line.
    Json,
}

/// Who may publish, as written in settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Publish {
    /// Every session.
    Anyone,
    /// No session: only who calls the HTTP API with a service token.
    Service,
}

macro_rules! layer {
    ($($(#[$attribute:meta])* $name:ident: $type:ty => $env:literal;)+) => {
        /// Settings that were given; see [`Config`] for what they mean.
        #[derive(Clone, Debug, Default, clap::Args, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Layer {
            $($(#[$attribute])* #[arg(long, env = $env)] pub $name: Option<$type>,)+
        }

        impl Layer {
            /// The environment variables that are settings.
            pub const ENVIRONMENT: &[&str] = &[$($env),+];

            /// This layer over `below`.
            #[must_use]
            pub fn or(self, below: Self) -> Self {
                Self { $($name: self.$name.or(below.$name),)+ }
            }
        }
    };
}

layer! {
    /// Address for clients: HTTP and WebSocket [default: 127.0.0.1:8080]
    #[arg(value_name = "ADDR")]
    listen: SocketAddr => "ROOST_LISTEN";
    /// Address for /livez, /readyz, /metrics and /version [default: 127.0.0.1:9090]
    #[arg(value_name = "ADDR")]
    admin: SocketAddr => "ROOST_ADMIN";
    /// Directory of the embedded store and the token key [default: ./roost-data]
    #[arg(value_name = "DIR")]
    data: PathBuf => "ROOST_DATA";
    /// Name of this node, told to clients [default: roost]
    #[arg(value_name = "NAME")]
    node: String => "ROOST_NODE";
    /// Shards: threads that hold connections; 0 is one per core [default: 0]
    #[arg(value_name = "N", hide_short_help = true)]
    shards: usize => "ROOST_SHARDS";
    /// Most connections [default: 1000000, and what file descriptors allow]
    #[arg(value_name = "N", hide_short_help = true)]
    connections_max: usize => "ROOST_CONNECTIONS_MAX";
    /// Whether people may enter with a display name only [default: true]
    #[arg(value_name = "BOOL", hide_short_help = true)]
    guests: bool => "ROOST_GUESTS";
    /// How long a guest's token is valid [default: 30days]
    #[arg(value_name = "TIME", hide_short_help = true)]
    guest_token_ttl: Span => "ROOST_GUEST_TOKEN_TTL";
    /// Who may publish to channels from a socket [default: anyone]
    #[arg(value_name = "WHO", hide_short_help = true)]
    publish: Publish => "ROOST_PUBLISH";
    /// Web origins that may open sockets, with commas between; "same-host" for pages of this server, "any" for
    /// every page [default: same-host]
    #[arg(value_name = "ORIGINS", hide_short_help = true)]
    origins: String => "ROOST_ORIGINS";
    /// Largest frame of a client, in bytes [default: 65536]
    #[arg(value_name = "BYTES", hide_short_help = true)]
    frame_bytes_max: usize => "ROOST_FRAME_BYTES_MAX";
    /// Bytes that may wait for one session before it counts as slow [default: 262144]
    #[arg(value_name = "BYTES", hide_short_help = true)]
    outbound_bytes_max: usize => "ROOST_OUTBOUND_BYTES_MAX";
    /// Messages a session may send per second, 0 for any number [default: 20]
    #[arg(value_name = "N", hide_short_help = true)]
    sends_per_second: u32 => "ROOST_SENDS_PER_SECOND";
    /// How many of them at once after a pause [default: 60]
    #[arg(value_name = "N", hide_short_help = true)]
    sends_burst: u32 => "ROOST_SENDS_BURST";
    /// How often clients send PING [default: 25s]
    #[arg(value_name = "TIME", hide_short_help = true)]
    heartbeat: Span => "ROOST_HEARTBEAT";
    /// How long a connection may take to CONNECT [default: 10s]
    #[arg(value_name = "TIME", hide_short_help = true)]
    connect_within: Span => "ROOST_CONNECT_WITHIN";
    /// Over how long clients are asked to leave when the server stops [default: 1s]
    #[arg(value_name = "TIME", hide_short_help = true)]
    drain_window: Span => "ROOST_DRAIN_WINDOW";
    /// When clients that have not left a stopping server are closed [default: 5s]
    #[arg(value_name = "TIME", hide_short_help = true)]
    drain_deadline: Span => "ROOST_DRAIN_DEADLINE";
    /// What is logged, in the syntax of RUST_LOG [default: info]
    #[arg(value_name = "FILTER")]
    log: String => "ROOST_LOG";
    /// How log lines are written [default: auto]
    #[arg(value_name = "FORMAT", hide_short_help = true)]
    log_format: LogFormat => "ROOST_LOG_FORMAT";
    /// Write one line of JSON with the addresses here once the server is ready
    #[arg(value_name = "FILE", hide_short_help = true)]
    ready_file: PathBuf => "ROOST_READY_FILE";
}

impl Layer {
    /// Reads a settings file.
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        toml::from_str(&text).map_err(|error| ConfigError::Parse { path: path.to_owned(), error: Box::new(error) })
    }

    /// Fills what is absent with the defaults.
    pub(super) fn into_config(self) -> Config {
        let default = Config::default();
        let span = |span: Option<Span>, default: Duration| span.map_or(default, |Span(time)| time);
        Config {
            node: self.node.unwrap_or(default.node),
            listen: self.listen.unwrap_or(default.listen),
            admin: self.admin.unwrap_or(default.admin),
            data: self.data.unwrap_or(default.data),
            shards: self.shards.unwrap_or(default.shards),
            connections_max: self.connections_max.unwrap_or(default.connections_max),
            guests: self.guests.unwrap_or(default.guests),
            guest_token_ttl: span(self.guest_token_ttl, default.guest_token_ttl),
            publish: self.publish.map_or(default.publish, |publish| match publish {
                Publish::Anyone => PublishPolicy::Anyone,
                Publish::Service => PublishPolicy::Service,
            }),
            origins: self.origins.map_or(default.origins, |origins| match origins.trim() {
                "same-host" => OriginPolicy::SameHost,
                "any" => OriginPolicy::Any,
                list => OriginPolicy::Listed(list.split(',').map(|origin| origin.trim().to_owned()).collect()),
            }),
            frame_bytes_max: self.frame_bytes_max.unwrap_or(default.frame_bytes_max),
            outbound_bytes_max: self.outbound_bytes_max.unwrap_or(default.outbound_bytes_max),
            sends_per_second: self.sends_per_second.unwrap_or(default.sends_per_second),
            sends_burst: self.sends_burst.unwrap_or(default.sends_burst),
            heartbeat: span(self.heartbeat, default.heartbeat),
            connect_within: span(self.connect_within, default.connect_within),
            drain_window: span(self.drain_window, default.drain_window),
            drain_deadline: span(self.drain_deadline, default.drain_deadline),
            log: self.log.unwrap_or(default.log),
            log_format: self.log_format.unwrap_or(default.log_format),
            ready_file: self.ready_file.or(default.ready_file),
        }
    }
}
