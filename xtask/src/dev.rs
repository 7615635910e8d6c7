//! `cargo xtask dev cluster`: a whole fleet on this machine, until Ctrl-C.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use roost_fixtures::cassandra::{Cassandra, Options};
use roost_fixtures::redis::Redis;
use roost_fixtures::roost::Roost;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::steps::{Steps, cargo, target};
use crate::tools;

/// The first node's port for clients; the others follow.
const FIRST_PORT: u16 = 8081;
/// The first node's port for health and metrics; routers come behind.
const FIRST_ADMIN_PORT: u16 = 9091;
/// The first router's port for edges.
const FIRST_GRPC_PORT: u16 = 7001;

/// What a fleet is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Processes that clients connect to.
    pub(crate) nodes: u16,
    /// Routers behind them; 0: each routes for itself.
    pub(crate) routers: u16,
    /// Nodes of Cassandra.
    pub(crate) ring: usize,
}

/// Starts it, tells where it is, and waits until somebody wants it to stop.
pub(crate) fn cluster(steps: &mut Steps, shape: Shape) -> anyhow::Result<()> {
    ensure!((1..=9).contains(&shape.nodes), "--nodes: 1 to 9");
    ensure!(shape.routers <= 9, "--routers: 0 to 9");
    tools::databases()?;
    steps.run("build the server", &mut cargo(["build", "--release", "--package", "roost-server"]))?;
    let stop = stop_when_asked()?;
    println!("\nstarting Redis and {} of Cassandra…", shape.ring);
    let mut fleet = Fleet::start(shape)?;
    fleet.tell();
    while stop.recv_timeout(Duration::from_secs(1)).is_err() {
        for Node { process, .. } in fleet.routers.iter_mut().chain(&mut fleet.nodes) {
            if let Some(status) = process.ended()? {
                bail!("{} ended with {status}:\n{}", process.name(), process.last_words());
            }
        }
    }
    println!("\nstopping…");
    // Edges first: what they still have to say goes through routers.
    for nodes in [&mut fleet.nodes, &mut fleet.routers] {
        nodes.iter().try_for_each(|node| node.process.stop())?;
        nodes.iter_mut().try_for_each(|node| node.process.await_end())?;
    }
    Ok(())
}

/// A fleet on this machine; ends when it is dropped.
pub(crate) struct Fleet {
    /// Where clients connect.
    nodes: Vec<Node>,
    /// Behind them.
    routers: Vec<Node>,
    pub(crate) redis: Redis,
    pub(crate) cassandra: Cassandra,
    store: String,
    /// The file with the key that signs its tokens.
    pub(crate) key: PathBuf,
    _folder: tempfile::TempDir,
}

impl Fleet {
    /// Starts the release build of the server.
    pub(crate) fn start(shape: Shape) -> anyhow::Result<Self> {
        let Shape { nodes, routers, ring } = shape;
        let roost = target().join("release").join("roost");
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        let redis = Redis::start()?;
        let cassandra = Cassandra::start(&Options { nodes: ring, ..Options::default() })?;
        let points: Vec<String> = cassandra.contact_points().iter().map(ToString::to_string).collect();
        let store = format!("cql://{}/roost", points.join(","));
        run(&roost, &["store", "migrate", &store, "--replication", &ring.min(3).to_string()])?;
        let key = folder.path().join("token-key");
        run(&roost, &["store", "key", &store, "--out", &key.to_string_lossy()])?;
        let launch = Launch { roost: &roost, folder: folder.path(), store: &store, redis: &redis.url(), shape };
        // Edges look for routers when they start.
        let routers = launch.all(Role::Router, routers)?;
        let nodes = launch.all(Role::Node, nodes)?;
        Ok(Self { nodes, routers, redis, cassandra, store, key, _folder: folder })
    }

    /// Where clients connect, node by node.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("http://127.0.0.1:{}", node.port)).collect()
    }

    fn tell(&self) {
        let Self { nodes, routers, redis, store, key, .. } = self;
        println!("\nA fleet serves, on one Cassandra keyspace and one Redis.\n");
        for Node { process, port, admin } in nodes {
            let (name, log) = (process.name(), process.log());
            println!("  {name}   http://127.0.0.1:{port}/   http://127.0.0.1:{admin}/readyz   {}", log.display());
        }
        for Node { process, port, admin } in routers {
            let (name, log) = (process.name(), process.log());
            println!("  {name}   gRPC at 127.0.0.1:{port}   http://127.0.0.1:{admin}/readyz   {}", log.display());
        }
        println!("\n  store  {store}\n  redis  {}\n", redis.url());
        println!(
            "Open two of the pages in two windows, enter two names, and chat across nodes. Or put it under load:\n"
        );
        let (target, key) = (self.urls().join(","), key.display());
        println!("  cargo run --release -p roost-loadgen -- quick --target {target} --token-key {key}\n");
        println!("Ctrl-C stops everything; nothing is kept.");
    }
}

/// Gets something once Ctrl-C is pressed or SIGTERM comes.
fn stop_when_asked() -> anyhow::Result<std::sync::mpsc::Receiver<()>> {
    let (ask, asked) = std::sync::mpsc::channel();
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot listen for signals")?;
    std::thread::spawn(move || signals.forever().try_for_each(|_| ask.send(()).map_err(drop)));
    Ok(asked)
}

fn run(roost: &Path, args: &[&str]) -> anyhow::Result<()> {
    let status =
        Command::new(roost).args(args).status().with_context(|| format!("cannot start {}", roost.display()))?;
    ensure!(status.success(), "`roost {}` failed", args.join(" "));
    Ok(())
}

/// What processes are started with.
struct Launch<'a> {
    roost: &'a Path,
    folder: &'a Path,
    store: &'a str,
    redis: &'a str,
    shape: Shape,
}

impl Launch<'_> {
    /// Starts so many, and waits until all serve.
    fn all(&self, role: Role, count: u16) -> anyhow::Result<Vec<Node>> {
        let mut nodes = (0..count).map(|number| self.one(role, number)).collect::<anyhow::Result<Vec<Node>>>()?;
        nodes.iter_mut().try_for_each(|node| node.process.await_ready().map(drop))?;
        Ok(nodes)
    }

    fn one(&self, role: Role, number: u16) -> anyhow::Result<Node> {
        let process = Roost::new(self.roost, self.folder, &format!("{}{}", role.letter(), number + 1));
        let mut node = Node { process, port: role.port(number), admin: role.admin(number, self.shape.nodes) };
        let (at, admin) = (local(node.port), local(node.admin));
        let mut flags = vec!["--redis", self.redis, "--admin", &admin];
        match role {
            Role::Router => flags.extend(["--role", "router", "--grpc", &at, "--store", self.store]),
            Role::Node if self.shape.routers == 0 => flags.extend(["--listen", &at, "--store", self.store]),
            Role::Node => flags.extend(["--role", "edge", "--routers", "redis", "--listen", &at]),
        }
        node.process.launch(flags)?;
        Ok(node)
    }
}

/// A process of the fleet.
struct Node {
    process: Roost,
    /// For clients; of a router, for edges.
    port: u16,
    admin: u16,
}

/// What a process is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Clients connect to it.
    Node,
    Router,
}

impl Role {
    const fn letter(self) -> char {
        match self {
            Self::Node => 'n',
            Self::Router => 'r',
        }
    }

    const fn port(self, number: u16) -> u16 {
        number
            + match self {
                Self::Node => FIRST_PORT,
                Self::Router => FIRST_GRPC_PORT,
            }
    }

    const fn admin(self, number: u16, nodes: u16) -> u16 {
        FIRST_ADMIN_PORT
            + number
            + match self {
                Self::Node => 0,
                Self::Router => nodes,
            }
    }
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}
