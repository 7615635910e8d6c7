//! The fleet: Redis, Cassandra, and nodes of `roost`, all real processes on loopback.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use roost_fixtures::cassandra::{Cassandra, Options};
use roost_fixtures::redis::Redis;
use roost_fixtures::roost::{Addresses, Roost};
use rustix::process::Signal;

use crate::proxy::Proxy;

/// What a fleet is made of.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) roost: PathBuf,
    /// Nodes that clients connect to.
    pub(crate) nodes: usize,
    /// Routers behind them; 0: every node is its own.
    pub(crate) routers: usize,
    /// Nodes of Cassandra; the replication factor is the same, up to 3.
    pub(crate) ring: usize,
}

/// A running fleet.
pub(crate) struct Fleet {
    pub(crate) redis: Redis,
    pub(crate) cassandra: Cassandra,
    /// Where clients connect.
    pub(crate) nodes: Vec<Node>,
    /// Behind them; empty if every node is its own.
    pub(crate) routers: Vec<Node>,
    /// Before them.
    pub(crate) balancer: Proxy,
    folder: tempfile::TempDir,
    roost: PathBuf,
    store: String,
}

/// A process of `roost`, and what stands between it and others.
pub(crate) struct Node {
    process: Roost,
    role: Role,
    /// Where it served last.
    addresses: Addresses,
}

/// What a process does, with its ways to others.
enum Role {
    All { to_redis: Proxy },
    Router { to_redis: Proxy },
    Edge { to_routers: Vec<Proxy> },
}

impl Fleet {
    /// Starts everything.
    pub(crate) async fn start(shape: &Shape) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let redis = Redis::start()?;
        let cassandra = Cassandra::start(&Options { nodes: shape.ring, ..Options::default() })?;
        let points: Vec<String> = cassandra.contact_points().iter().map(ToString::to_string).collect();
        let store = format!("cql://{}/roost?timeout=3s", points.join(","));
        migrate(shape, &store)?;
        let balancer = Proxy::start(Vec::new()).await?;
        let (nodes, routers, roost) = (Vec::new(), Vec::new(), shape.roost.clone());
        let mut fleet = Self { redis, cassandra, nodes, routers, balancer, folder, roost, store };
        let redis_at: SocketAddr = format!("127.0.0.1:{}", fleet.redis.port()).parse()?;
        for number in 1..=shape.routers {
            let role = Role::Router { to_redis: Proxy::start(vec![redis_at]).await? };
            let node = Node::new(&fleet.roost, fleet.folder.path(), &format!("r{number}"), role);
            fleet.routers.push(node);
        }
        fleet.start_all(true)?;
        for number in 1..=shape.nodes {
            let role = if shape.routers == 0 {
                Role::All { to_redis: Proxy::start(vec![redis_at]).await? }
            } else {
                let mut to_routers = Vec::new();
                for router in &fleet.routers {
                    to_routers.push(Proxy::start(router.addresses.grpc.into_iter().collect()).await?);
                }
                Role::Edge { to_routers }
            };
            let node = Node::new(&fleet.roost, fleet.folder.path(), &format!("n{number}"), role);
            fleet.nodes.push(node);
        }
        fleet.start_all(false)?;
        fleet.balancer.set_servers(fleet.nodes.iter().filter_map(|node| node.addresses.listen).collect());
        Ok(fleet)
    }

    fn start_all(&mut self, routers: bool) -> anyhow::Result<()> {
        for begin in [true, false] {
            let nodes = if routers { &mut self.routers } else { &mut self.nodes };
            for node in nodes {
                if begin {
                    node.launch(&self.store)?;
                } else {
                    node.await_ready()?;
                }
            }
        }
        Ok(())
    }

    /// Starts a node anew, at the addresses it had before, and waits until it serves.
    pub(crate) fn start_again(&mut self, which: Which) -> anyhow::Result<()> {
        let node = match which {
            Which::Node(place) => &mut self.nodes[place],
            Which::Router(place) => &mut self.routers[place],
        };
        node.launch(&self.store)?;
        node.await_ready()
    }

    /// The ways of all processes to Redis.
    pub(crate) fn ways_to_redis(&self) -> impl Iterator<Item = &Proxy> {
        self.routers.iter().chain(&self.nodes).filter_map(|node| match &node.role {
            Role::All { to_redis } | Role::Router { to_redis } => Some(to_redis),
            Role::Edge { .. } => None,
        })
    }

    /// The ways of an edge to its routers.
    pub(crate) fn ways_to_routers(&self, place: usize) -> &[Proxy] {
        match &self.nodes[place].role {
            Role::Edge { to_routers } => to_routers,
            Role::All { .. } | Role::Router { .. } => &[],
        }
    }

    /// What all processes logged last.
    pub(crate) fn logs(&self) -> String {
        let log = |node: &Node| format!("--- {}\n{}\n", node.process.name(), node.process.last_words());
        self.routers.iter().chain(&self.nodes).map(log).collect()
    }
}

/// Names a process of the fleet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which {
    Node(usize),
    Router(usize),
}

fn migrate(shape: &Shape, store: &str) -> anyhow::Result<()> {
    let factor = shape.ring.min(3).to_string();
    let migrated = Command::new(&shape.roost)
        .args(["store", "migrate", store, "--replication", &factor])
        .env_clear()
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {}", shape.roost.display()))?;
    ensure!(migrated.success(), "`roost store migrate` failed: {migrated}");
    Ok(())
}

impl Node {
    fn new(binary: &Path, folder: &Path, name: &str, role: Role) -> Self {
        Self { process: Roost::new(binary, folder, name), role, addresses: Addresses::default() }
    }

    /// Starts its process, at the addresses it had before.
    fn launch(&mut self, store: &str) -> anyhow::Result<()> {
        let at = |addr: Option<SocketAddr>| addr.map_or_else(|| "127.0.0.1:0".to_owned(), |addr| addr.to_string());
        let mut flags: Vec<String> = ["--admin", "127.0.0.1:0", "--log", "info"].map(str::to_owned).into();
        let mut add = |more: &[&str]| flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        match &self.role {
            Role::All { to_redis } => add(&["--store", store, "--redis", &format!("redis://{}", to_redis.addr())]),
            Role::Router { to_redis } => {
                add(&["--role", "router", "--grpc", &at(self.addresses.grpc)]);
                add(&["--store", store, "--redis", &format!("redis://{}", to_redis.addr())]);
            }
            Role::Edge { to_routers } => {
                let routers: Vec<String> = to_routers.iter().map(|way| way.addr().to_string()).collect();
                add(&["--role", "edge", "--routers", &routers.join(",")]);
            }
        }
        if !matches!(self.role, Role::Router { .. }) {
            add(&["--listen", &at(self.addresses.listen), "--quic", "off", "--shards", "1"]);
            add(&["--drain-window", "500ms", "--drain-deadline", "3s"]);
        }
        self.process.launch(flags)
    }

    /// Waits until it serves. Proxies go on meanwhile, on other threads.
    fn await_ready(&mut self) -> anyhow::Result<()> {
        self.addresses = tokio::task::block_in_place(|| self.process.await_ready())?;
        Ok(())
    }

    /// Its process; `None` while there is none.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM, and waits until it has drained. Proxies go on meanwhile, on other threads.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        self.process.stop()?;
        tokio::task::block_in_place(|| self.process.await_end())
    }

    /// SIGSTOP.
    pub(crate) fn pause(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::CONT)
    }
}
