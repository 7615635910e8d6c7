//! Settings: a flag wins over its environment variable, that over the file, that over the default.

mod check;
mod layer;
mod redis;
mod role;
mod store;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use roost_edge::{DriverKind, EdgeConfig, Subnet};
use roost_edge_core::ShardConfig;
use roost_edge_core::config::OriginPolicy;
use roost_link::LinkTls;
use roost_router::{PublishPolicy, RouterConfig};
use roost_wire::limits;

pub use crate::admission::Reserve;
pub use layer::{Layer, LogFormat, QuicListen, Span, Subnets};
pub use redis::RedisAt;
pub use role::{Role, RoutersAt};
pub use store::{CqlAt, StoreAt};

/// The settings in force, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name, told to clients in HELLO.
    pub node: String,
    /// Where clients connect: HTTP and WebSocket.
    pub listen: SocketAddr,
    /// Where health and metrics are served.
    pub admin: SocketAddr,
    /// The directory of the embedded store and of the token key.
    pub data: PathBuf,
    /// Where messages are kept.
    pub store: StoreAt,
    /// The Redis by which nodes find each other; `None`: there is no other node.
    pub redis: Option<RedisAt>,
    /// The name of the fleet there.
    pub fleet: String,
    /// What the node does.
    pub role: Role,
    /// Where it serves gRPC; `None`: nowhere.
    pub grpc: Option<SocketAddr>,
    /// Where edges find it, `host:port`; `None`: at `grpc`.
    pub grpc_advertise: Option<String>,
    /// The routers of an edge; `None`: those that Redis knows.
    pub routers: Option<RoutersAt>,
    /// The certificate that it shows to other nodes.
    pub grpc_cert: Option<PathBuf>,
    /// Its private key.
    pub grpc_key: Option<PathBuf>,
    /// Who signs the certificates of nodes.
    pub grpc_ca: Option<PathBuf>,
    /// Whether gRPC may go between machines without TLS.
    pub grpc_insecure: bool,
    /// The certificate with which the port speaks TLS, with those it is signed with; `None` for none, or a self-made one.
    pub tls_cert: Option<PathBuf>,
    /// Its private key.
    pub tls_key: Option<PathBuf>,
    /// Whether the port speaks TLS with a self-made certificate.
    pub dev_tls: bool,
    /// Whether a port that speaks TLS serves plain HTTP as well. Without TLS it says nothing.
    pub plaintext: bool,
    /// Where clients come by QUIC.
    pub quic: QuicListen,
    /// Shards, 0 for three quarters of the cores.
    pub shards: usize,
    /// What moves the bytes of connections.
    pub driver: DriverKind,
    /// Most connections of the node.
    pub connections_max: usize,
    /// Connections from one address, 0 for any number.
    pub connections_per_address_max: usize,
    /// Addresses without limits of their own.
    pub addresses_exempt: Vec<Subnet>,
    /// Connections that have not sent CONNECT.
    pub unauthenticated_max: usize,
    /// Memory kept free of new sessions.
    pub memory_reserve: Reserve,
    /// Guests that may enter per minute from one address, 0 for any number.
    pub guests_per_minute: u32,
    /// Whether people may enter with a display name only.
    pub guests: bool,
    /// How long a guest's token is valid.
    pub guest_token_ttl: Duration,
    /// Who may PUBLISH to channels from a socket.
    pub publish: PublishPolicy,
    /// Which web pages may open sockets.
    pub origins: OriginPolicy,
    /// Largest frame of a client, in bytes.
    pub frame_bytes_max: usize,
    /// Whether to agree on permessage-deflate with clients that offer it.
    pub compression: bool,
    /// Whether `/echo` is served, for conformance tests and benchmarks.
    pub bench_paths: bool,
    /// Bytes that may wait for one session.
    pub outbound_bytes_max: usize,
    /// SENDs and PUBLISHes a session may do per second, 0 for any number.
    pub sends_per_second: u32,
    /// How many at once after a pause.
    pub sends_burst: u32,
    /// Frames of any kind a session may send per second, 0 for any number.
    pub frames_per_second: u32,
    /// How often clients send PING.
    pub heartbeat: Duration,
    /// How long a connection may take to CONNECT.
    pub connect_within: Duration,
    /// Over how long GOAWAYs are spread when the node drains.
    pub drain_window: Duration,
    /// When sessions that have not left a draining node are closed.
    pub drain_deadline: Duration,
    /// What is logged, in the syntax of `RUST_LOG`.
    pub log: String,
    /// How it is written.
    pub log_format: LogFormat,
    /// Where to write one line of JSON once the node is ready; `None` for nowhere.
    pub ready_file: Option<PathBuf>,
    /// Where `/proc` and `/sys` are; another place in tests.
    pub system_root: PathBuf,
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the settings file {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is no TOML, or has a key or value that is not known. The text names line, key and reason.
    #[error("in the settings file {path}:\n{error}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        error: Box<toml::de::Error>,
    },
    /// A value that makes no sense.
    #[error("{key}: {reason}")]
    Value {
        /// The setting, as in the file; the flag is the same with dashes.
        key: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
}

impl Config {
    /// Lays `flags` (with the environment already in them) over `file` over the defaults, and checks the result.
    ///
    /// # Errors
    /// [`ConfigError`] with the name of the setting and the reason.
    pub fn load(flags: Layer, file: Option<&Path>) -> Result<Self, ConfigError> {
        let file = match file {
            Some(path) => Layer::read(path)?,
            None => Layer::default(),
        };
        let config = flags.or(file).into_config();
        check::check(&config)?;
        Ok(config)
    }

    /// What the edge is told.
    #[must_use]
    pub fn edge(&self) -> EdgeConfig {
        EdgeConfig {
            listen: self.listen,
            shards: self.shards,
            connections_max: self.connections_max,
            connections_per_address_max: self.connections_per_address_max,
            addresses_exempt: self.addresses_exempt.clone(),
            unauthenticated_max: self.unauthenticated_max,
            descriptors_max: crate::descriptors::for_connections(),
            driver: self.driver,
            shard: ShardConfig {
                node: self.node.clone(),
                origins: self.origins.clone(),
                frame_bytes_max: self.frame_bytes_max,
                compression: self.compression,
                bench_paths: self.bench_paths,
                outbound_bytes_max: self.outbound_bytes_max,
                sends_per_second: self.sends_per_second,
                sends_burst: self.sends_burst,
                frames_per_second: self.frames_per_second,
                heartbeat: self.heartbeat,
                connect_within: self.connect_within,
                ..ShardConfig::default()
            },
            ..EdgeConfig::default()
        }
    }

    /// How nodes know each other by gRPC; `None`: they do not speak TLS.
    #[must_use]
    pub fn link_tls(&self) -> Option<LinkTls> {
        let (cert, key, ca) = (self.grpc_cert.clone()?, self.grpc_key.clone()?, self.grpc_ca.clone()?);
        Some(LinkTls { cert, key, ca })
    }

    /// What the router is told.
    #[must_use]
    pub fn router(&self) -> RouterConfig {
        RouterConfig {
            guests: self.guests,
            guest_token_ttl: self.guest_token_ttl,
            publish: self.publish,
            ..RouterConfig::default()
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: "roost".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin: SocketAddr::from(([127, 0, 0, 1], 9090)),
            data: PathBuf::from("roost-data"),
            store: StoreAt::Embedded,
            redis: None,
            fleet: "roost".into(),
            role: Role::All,
            grpc: None,
            grpc_advertise: None,
            routers: None,
            grpc_cert: None,
            grpc_key: None,
            grpc_ca: None,
            grpc_insecure: false,
            tls_cert: None,
            tls_key: None,
            dev_tls: false,
            plaintext: false,
            quic: QuicListen::Auto,
            shards: 0,
            driver: DriverKind::default(),
            connections_max: 1_000_000,
            connections_per_address_max: 1000,
            addresses_exempt: Subnet::loopback(),
            unauthenticated_max: 20_000,
            memory_reserve: Reserve::default(),
            guests_per_minute: 60,
            guests: true,
            guest_token_ttl: Duration::from_secs(30 * 24 * 3600),
            publish: PublishPolicy::Anyone,
            origins: OriginPolicy::SameHost,
            frame_bytes_max: limits::FRAME_BYTES_MAX,
            compression: false,
            bench_paths: false,
            outbound_bytes_max: limits::OUTBOUND_BYTES_MAX,
            sends_per_second: limits::SENDS_PER_SECOND,
            sends_burst: limits::SENDS_BURST,
            frames_per_second: limits::FRAMES_PER_SECOND,
            heartbeat: Duration::from_millis(limits::HEARTBEAT_MS.into()),
            connect_within: Duration::from_millis(limits::CONNECT_WITHIN_MS.into()),
            drain_window: Duration::from_secs(1),
            drain_deadline: Duration::from_secs(5),
            log: "info".into(),
            log_format: LogFormat::Auto,
            ready_file: None,
            system_root: PathBuf::from("/"),
        }
    }
}
