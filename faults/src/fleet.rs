//! The fleet: Redis, Cassandra, and nodes of `roost`, all real processes on loopback.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use roost_fixtures::cassandra::{Cassandra, Options};
use roost_fixtures::redis::Redis;
use rustix::process::{Pid, Signal, kill_process};

use crate::proxy::Proxy;

/// How long a node may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a node may take to stop in good order.
const STOP_WITHIN: Duration = Duration::from_secs(30);

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
    pub(crate) name: String,
    role: Role,
    child: Option<Child>,
    listen: Option<SocketAddr>,
    grpc: Option<SocketAddr>,
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
            fleet.routers.push(Node::new(format!("r{number}"), role));
        }
        fleet.start_all(true).await?;
        for number in 1..=shape.nodes {
            let role = if shape.routers == 0 {
                Role::All { to_redis: Proxy::start(vec![redis_at]).await? }
            } else {
                let mut to_routers = Vec::new();
                for router in &fleet.routers {
                    to_routers.push(Proxy::start(router.grpc.into_iter().collect()).await?);
                }
                Role::Edge { to_routers }
            };
            fleet.nodes.push(Node::new(format!("n{number}"), role));
        }
        fleet.start_all(false).await?;
        fleet.balancer.set_servers(fleet.nodes.iter().filter_map(|node| node.listen).collect());
        Ok(fleet)
    }

    async fn start_all(&mut self, routers: bool) -> anyhow::Result<()> {
        for begin in [true, false] {
            let nodes = if routers { &mut self.routers } else { &mut self.nodes };
            for node in nodes {
                if begin {
                    node.launch(&self.roost, self.folder.path(), &self.store)?;
                } else {
                    node.await_ready(self.folder.path()).await?;
                }
            }
        }
        Ok(())
    }

    /// Starts a node anew, at the addresses it had before, and waits until it serves.
    pub(crate) async fn start_again(&mut self, which: Which) -> anyhow::Result<()> {
        let node = match which {
            Which::Node(place) => &mut self.nodes[place],
            Which::Router(place) => &mut self.routers[place],
        };
        node.launch(&self.roost, self.folder.path(), &self.store)?;
        node.await_ready(self.folder.path()).await
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
        let log =
            |node: &Node| format!("--- {}\n{}\n", node.name, last_lines(&node.file(self.folder.path(), "log"), 40));
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

fn last_lines(path: &Path, count: usize) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

impl Node {
    fn new(name: String, role: Role) -> Self {
        Self { name, role, child: None, listen: None, grpc: None }
    }

    fn file(&self, folder: &Path, end: &str) -> PathBuf {
        folder.join(format!("{}.{end}", self.name))
    }

    /// Starts its process, at the addresses it had before.
    fn launch(&mut self, roost: &Path, folder: &Path, store: &str) -> anyhow::Result<()> {
        let ready = self.file(folder, "ready");
        let _ = std::fs::remove_file(&ready);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.file(folder, "log"))?;
        let at = |addr: Option<SocketAddr>| addr.map_or_else(|| "127.0.0.1:0".to_owned(), |addr| addr.to_string());
        let mut command = Command::new(roost);
        command.args(["serve", "--admin", "127.0.0.1:0", "--node", &self.name, "--log", "info"]);
        match &self.role {
            Role::All { to_redis } => {
                command.args(["--store", store, "--redis", &format!("redis://{}", to_redis.addr())]);
            }
            Role::Router { to_redis } => {
                command.args(["--role", "router", "--grpc", &at(self.grpc)]);
                command.args(["--store", store, "--redis", &format!("redis://{}", to_redis.addr())]);
            }
            Role::Edge { to_routers } => {
                let routers: Vec<String> = to_routers.iter().map(|way| way.addr().to_string()).collect();
                command.args(["--role", "edge", "--routers", &routers.join(",")]);
            }
        }
        if !matches!(self.role, Role::Router { .. }) {
            command.args(["--listen", &at(self.listen), "--quic", "off", "--shards", "1"]);
            command.args(["--drain-window", "500ms", "--drain-deadline", "3s"]);
        }
        command.arg("--data").arg(self.file(folder, "data")).arg("--ready-file").arg(&ready);
        let child = command.env_clear().stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        self.child = Some(child.with_context(|| format!("cannot start {}", roost.display()))?);
        Ok(())
    }

    /// Waits until it serves.
    async fn await_ready(&mut self, folder: &Path) -> anyhow::Result<()> {
        let (ready, began) = (self.file(folder, "ready"), Instant::now());
        let log = self.file(folder, "log");
        loop {
            if let Ok(line) = std::fs::read_to_string(&ready) {
                let told: serde_json::Value = serde_json::from_str(&line)?;
                let addr = |name: &str| told[name].as_str().and_then(|text| text.parse().ok());
                (self.listen, self.grpc) = (addr("listen"), addr("grpc"));
                return Ok(());
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().transpose());
            if let Some(status) = ended {
                bail!("{} ended with {}:\n{}", self.name, status?, last_lines(&log, 40));
            }
            ensure!(began.elapsed() < READY_WITHIN, "{} was not ready:\n{}", self.name, last_lines(&log, 40));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its process; `None` while there is none.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let child = self.child.as_ref().context("the node does not run")?;
        Ok(kill_process(Pid::from_child(child), signal)?)
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, and waits until it has drained.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let began = Instant::now();
        while child.try_wait()?.is_none() {
            if began.elapsed() > STOP_WITHIN {
                child.kill()?;
                child.wait()?;
                bail!("{} did not stop within {STOP_WITHIN:?}", self.name);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// SIGSTOP.
    pub(crate) fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
