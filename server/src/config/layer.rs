//! One layer of settings: the flags with their environment variables, or the file. Every setting may be absent.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use roost_edge::{DriverKind, Subnet};
use roost_edge_core::config::OriginPolicy;
use roost_router::PublishPolicy;
use serde::Deserialize;

use super::{Config, ConfigError, RedisAt, Role, RoutersAt, StoreAt};
use crate::admission::Reserve;

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

/// What moves the bytes of connections, as written in settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// What is best here: poll, for now.
    Auto,
    /// io_uring (Linux 6.1 or later, not forbidden by a container's profile), or the server does not start.
    Uring,
    /// epoll or kqueue.
    Poll,
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

/// Subnets as people write them, with commas between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnets(pub Vec<Subnet>);

impl FromStr for Subnets {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim() == "none" {
            return Ok(Self(Vec::new()));
        }
        let subnet = |text: &str| text.trim().parse().map_err(|error| format!("\"{}\": {error}", text.trim()));
        text.split(',').map(subnet).collect::<Result<_, _>>().map(Self)
    }
}

impl<'de> Deserialize<'de> for Subnets {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where clients come by QUIC, as written in settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuicListen {
    /// At the address of `listen`, if it speaks TLS.
    Auto,
    /// Nowhere.
    Off,
    /// There.
    At(SocketAddr),
}

impl FromStr for QuicListen {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            _ => text.parse().map(Self::At).map_err(|_| "write it as 0.0.0.0:443, auto or off".to_owned()),
        }
    }
}

impl<'de> Deserialize<'de> for QuicListen {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Whether messages may be compressed, as written in settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Never.
    Off,
    /// For clients that offer permessage-deflate.
    On,
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
    /// Where messages are kept: embedded, in --data; or cql://HOST[,HOST…]/KEYSPACE, in Cassandra or ScyllaDB, shared by all
    /// nodes (make it with `roost store migrate`) [default: embedded]
    #[arg(value_name = "URL", hide_env_values = true)]
    store: StoreAt => "ROOST_STORE";
    /// The Redis by which nodes on one CQL store find and tell each other: redis://HOST:PORT, or redis://USER:PASSWORD@HOST:PORT;
    /// rediss:// by TLS, redis-cluster://HOST:PORT?node=HOST:PORT. Without it the node is the only one
    #[arg(value_name = "URL", hide_env_values = true)]
    redis: RedisAt => "ROOST_REDIS";
    /// What this node does: all; edge, which holds connections and has routers elsewhere; router, which has none of its own
    /// [default: all]
    #[arg(value_name = "ROLE")]
    role: Role => "ROOST_ROLE";
    /// Where edges and back ends reach this node by gRPC; not served if it is not given
    #[arg(value_name = "ADDR")]
    grpc: SocketAddr => "ROOST_GRPC";
    /// The address by which edges find this node, host:port, if it is not that of --grpc
    #[arg(value_name = "HOST:PORT", hide_short_help = true)]
    grpc_advertise: String => "ROOST_GRPC_ADVERTISE";
    /// The routers of an edge: host:port with commas between, dns:NAME:PORT, or redis: those that --redis knows
    /// [default: redis]
    #[arg(value_name = "WHERE")]
    routers: RoutersAt => "ROOST_ROUTERS";
    /// PEM file with the certificate by which this node shows itself to others by gRPC
    #[arg(value_name = "FILE", hide_short_help = true)]
    grpc_cert: PathBuf => "ROOST_GRPC_CERT";
    /// PEM file with its private key
    #[arg(value_name = "FILE", hide_short_help = true)]
    grpc_key: PathBuf => "ROOST_GRPC_KEY";
    /// PEM file with the authority that signed the certificates of all nodes and back ends: others are refused
    #[arg(value_name = "FILE", hide_short_help = true)]
    grpc_ca: PathBuf => "ROOST_GRPC_CA";
    /// Speak gRPC without TLS with other machines too: where the network is trusted [default: false]
    #[arg(value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_short_help = true)]
    grpc_insecure: bool => "ROOST_GRPC_INSECURE";
    /// The name of the fleet, for several on one Redis [default: roost]
    #[arg(value_name = "NAME", hide_short_help = true)]
    fleet: String => "ROOST_FLEET";
    /// PEM file with the server's certificate, and those it is signed with: then the port speaks TLS (https://, wss://). Read
    /// anew when it changes, and on SIGHUP
    #[arg(value_name = "FILE")]
    tls_cert: PathBuf => "ROOST_TLS_CERT";
    /// PEM file with its private key
    #[arg(value_name = "FILE")]
    tls_key: PathBuf => "ROOST_TLS_KEY";
    /// Speak TLS with a self-made certificate for localhost, kept in dev-tls in the data directory: for trying it on one's own
    /// machine [default: false]
    #[arg(value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    dev_tls: bool => "ROOST_DEV_TLS";
    /// Where the port speaks TLS, whether http:// and ws:// are served there as well [default: false, but true with dev-tls]
    #[arg(value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_short_help = true)]
    plaintext: bool => "ROOST_PLAINTEXT";
    /// Where clients come by QUIC (UDP): an address, off, or auto for the address and port of --listen where that speaks TLS.
    /// The certificate is the same [default: auto]
    #[arg(value_name = "ADDR")]
    quic: QuicListen => "ROOST_QUIC";
    /// Name of this node, told to clients [default: roost]
    #[arg(value_name = "NAME")]
    node: String => "ROOST_NODE";
    /// Shards: threads that hold connections; 0 is three quarters of the cores, and one on two [default: 0]
    #[arg(value_name = "N", hide_short_help = true)]
    shards: usize => "ROOST_SHARDS";
    /// What moves the bytes of connections [default: auto]
    #[arg(value_name = "DRIVER", hide_short_help = true)]
    driver: Driver => "ROOST_DRIVER";
    /// Most connections [default: 1000000, and what file descriptors allow]
    #[arg(value_name = "N", hide_short_help = true)]
    connections_max: usize => "ROOST_CONNECTIONS_MAX";
    /// Connections from one address (IPv6: one /64) above which a further one gets 429; 0 for any number
    /// [default: 1000]
    #[arg(value_name = "N", hide_short_help = true)]
    connections_per_address_max: usize => "ROOST_CONNECTIONS_PER_ADDRESS_MAX";
    /// Addresses without limits of their own, with commas between, as 10.0.0.0/8: proxies above all; "none" for no
    /// exception [default: 127.0.0.0/8,::1/128]
    #[arg(value_name = "SUBNETS", hide_short_help = true)]
    addresses_exempt: Subnets => "ROOST_ADDRESSES_EXEMPT";
    /// Connections that have not sent CONNECT; above it the oldest of them goes for each new one [default: 20000]
    #[arg(value_name = "N", hide_short_help = true)]
    unauthenticated_max: usize => "ROOST_UNAUTHENTICATED_MAX";
    /// Memory kept free: below it new sessions get 503 with a time to come back, as 5% or 256MiB; 0 refuses nobody
    /// [default: 5%]
    #[arg(value_name = "SIZE", hide_short_help = true)]
    memory_reserve: Reserve => "ROOST_MEMORY_RESERVE";
    /// Guests that may enter per minute from one address, 0 for any number [default: 60]
    #[arg(value_name = "N", hide_short_help = true)]
    guests_per_minute: u32 => "ROOST_GUESTS_PER_MINUTE";
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
    /// permessage-deflate for clients that offer it: a third to a tenth of the bytes of history, lists and long texts,
    /// little of short messages; costs 10 to 50 µs of CPU per message sent, once per fan-out, and 0.4 MB per shard
    /// [default: off]
    #[arg(value_name = "SWITCH", hide_short_help = true)]
    compression: Compression => "ROOST_COMPRESSION";
    /// Serve /echo, a WebSocket that sends back what it gets: for conformance tests and benchmarks only, never where
    /// strangers connect, since it knows no rates and takes messages of 16 MiB [default: false]
    #[arg(value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_short_help = true)]
    bench_paths: bool => "ROOST_BENCH_PATHS";
    /// Bytes that may wait for one session before it counts as slow [default: 262144]
    #[arg(value_name = "BYTES", hide_short_help = true)]
    outbound_bytes_max: usize => "ROOST_OUTBOUND_BYTES_MAX";
    /// Messages a session may send per second, 0 for any number [default: 20]
    #[arg(value_name = "N", hide_short_help = true)]
    sends_per_second: u32 => "ROOST_SENDS_PER_SECOND";
    /// How many of them at once after a pause [default: 60]
    #[arg(value_name = "N", hide_short_help = true)]
    sends_burst: u32 => "ROOST_SENDS_BURST";
    /// Frames of any kind a session may send per second, 0 for any number; a ping counts as 50 [default: 500]
    #[arg(value_name = "N", hide_short_help = true)]
    frames_per_second: u32 => "ROOST_FRAMES_PER_SECOND";
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
            store: self.store.unwrap_or(default.store),
            redis: self.redis.or(default.redis),
            fleet: self.fleet.unwrap_or(default.fleet),
            role: self.role.unwrap_or(default.role),
            grpc: self.grpc.or(default.grpc),
            grpc_advertise: self.grpc_advertise.or(default.grpc_advertise),
            routers: self.routers.or(default.routers),
            grpc_cert: self.grpc_cert.or(default.grpc_cert),
            grpc_key: self.grpc_key.or(default.grpc_key),
            grpc_ca: self.grpc_ca.or(default.grpc_ca),
            grpc_insecure: self.grpc_insecure.unwrap_or(default.grpc_insecure),
            plaintext: self.plaintext.unwrap_or(self.dev_tls.unwrap_or(default.dev_tls)),
            tls_cert: self.tls_cert.or(default.tls_cert),
            tls_key: self.tls_key.or(default.tls_key),
            dev_tls: self.dev_tls.unwrap_or(default.dev_tls),
            quic: self.quic.unwrap_or(default.quic),
            shards: self.shards.unwrap_or(default.shards),
            driver: self.driver.map_or(default.driver, |driver| match driver {
                Driver::Auto => DriverKind::Auto,
                Driver::Uring => DriverKind::Uring,
                Driver::Poll => DriverKind::Poll,
            }),
            connections_max: self.connections_max.unwrap_or(default.connections_max),
            connections_per_address_max: self
                .connections_per_address_max
                .unwrap_or(default.connections_per_address_max),
            addresses_exempt: self.addresses_exempt.map_or(default.addresses_exempt, |Subnets(subnets)| subnets),
            unauthenticated_max: self.unauthenticated_max.unwrap_or(default.unauthenticated_max),
            memory_reserve: self.memory_reserve.unwrap_or(default.memory_reserve),
            guests_per_minute: self.guests_per_minute.unwrap_or(default.guests_per_minute),
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
            compression: self.compression.map_or(default.compression, |compression| compression == Compression::On),
            bench_paths: self.bench_paths.unwrap_or(default.bench_paths),
            outbound_bytes_max: self.outbound_bytes_max.unwrap_or(default.outbound_bytes_max),
            sends_per_second: self.sends_per_second.unwrap_or(default.sends_per_second),
            sends_burst: self.sends_burst.unwrap_or(default.sends_burst),
            frames_per_second: self.frames_per_second.unwrap_or(default.frames_per_second),
            heartbeat: span(self.heartbeat, default.heartbeat),
            connect_within: span(self.connect_within, default.connect_within),
            drain_window: span(self.drain_window, default.drain_window),
            drain_deadline: span(self.drain_deadline, default.drain_deadline),
            log: self.log.unwrap_or(default.log),
            log_format: self.log_format.unwrap_or(default.log_format),
            ready_file: self.ready_file.or(default.ready_file),
            system_root: default.system_root,
        }
    }
}
