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
    /// Nodes of `roost`.
    pub(crate) nodes: usize,
    /// Nodes of Cassandra; the replication factor is the same, up to 3.
    pub(crate) ring: usize,
}

/// A running fleet.
pub(crate) struct Fleet {
    pub(crate) redis: Redis,
    pub(crate) cassandra: Cassandra,
    pub(crate) nodes: Vec<Node>,
    /// Where clients connect.
    pub(crate) balancer: Proxy,
    folder: tempfile::TempDir,
    shape: Shape,
    store: String,
}

/// A node, its process, and what stands between it and Redis.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) to_redis: Proxy,
    child: Option<Child>,
    listen: Option<SocketAddr>,
    admin: Option<SocketAddr>,
}

impl Fleet {
    /// Starts everything.
    pub(crate) async fn start(shape: &Shape) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let redis = Redis::start()?;
        let cassandra = Cassandra::start(&Options { nodes: shape.ring, ..Options::default() })?;
        let points: Vec<String> = cassandra.contact_points().iter().map(ToString::to_string).collect();
        let store = format!("cql://{}/roost?timeout=3s", points.join(","));
        let factor = shape.ring.min(3).to_string();
        let migrated = Command::new(&shape.roost)
            .args(["store", "migrate", &store, "--replication", &factor])
            .env_clear()
            .stdout(Stdio::null())
            .status()
            .with_context(|| format!("cannot start {}", shape.roost.display()))?;
        ensure!(migrated.success(), "`roost store migrate` failed: {migrated}");
        let balancer = Proxy::start(Vec::new()).await?;
        let mut fleet = Self { redis, cassandra, nodes: Vec::new(), balancer, folder, shape: shape.clone(), store };
        let redis_at: SocketAddr = format!("127.0.0.1:{}", fleet.redis.port()).parse()?;
        for number in 1..=shape.nodes {
            let to_redis = Proxy::start(vec![redis_at]).await?;
            fleet.nodes.push(Node { name: format!("n{number}"), to_redis, child: None, listen: None, admin: None });
        }
        for place in 0..shape.nodes {
            fleet.launch(place)?;
        }
        for place in 0..shape.nodes {
            fleet.await_ready(place).await?;
        }
        fleet.balance();
        Ok(fleet)
    }

    /// Starts the process of a node, at the address it had before.
    pub(crate) fn launch(&mut self, place: usize) -> anyhow::Result<()> {
        let ready = self.ready_file(place);
        let _ = std::fs::remove_file(&ready);
        let node = &mut self.nodes[place];
        let listen = node.listen.map_or_else(|| "127.0.0.1:0".to_owned(), |addr| addr.to_string());
        let data = self.folder.path().join(&node.name);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(data.with_extension("log"))?;
        let redis = format!("redis://{}", node.to_redis.addr());
        let child = Command::new(&self.shape.roost)
            .args(["serve", "--listen", &listen, "--admin", "127.0.0.1:0", "--node", &node.name])
            .args(["--store", &self.store, "--redis", &redis, "--quic", "off", "--shards", "1"])
            .args(["--log", "info", "--drain-window", "500ms", "--drain-deadline", "3s"])
            .arg("--data")
            .arg(&data)
            .arg("--ready-file")
            .arg(&ready)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.shape.roost.display()))?;
        node.child = Some(child);
        Ok(())
    }

    /// Waits until a node serves.
    pub(crate) async fn await_ready(&mut self, place: usize) -> anyhow::Result<()> {
        let (ready, began) = (self.ready_file(place), Instant::now());
        loop {
            if let Ok(line) = std::fs::read_to_string(&ready) {
                let told: serde_json::Value = serde_json::from_str(&line)?;
                let addr = |name: &str| {
                    told[name].as_str().context("the ready file lacks an address")?.parse().map_err(anyhow::Error::from)
                };
                let node = &mut self.nodes[place];
                (node.listen, node.admin) = (Some(addr("listen")?), Some(addr("admin")?));
                return Ok(());
            }
            let ended = self.nodes[place].child.as_mut().and_then(|child| child.try_wait().transpose());
            if let Some(status) = ended {
                bail!("node {} ended with {}:\n{}", self.nodes[place].name, status?, self.log(place));
            }
            ensure!(
                began.elapsed() < READY_WITHIN,
                "node {} was not ready:\n{}",
                self.nodes[place].name,
                self.log(place)
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Clients go to all nodes from now on.
    pub(crate) fn balance(&self) {
        self.balancer.set_servers(self.nodes.iter().filter_map(|node| node.listen).collect());
    }

    fn ready_file(&self, place: usize) -> PathBuf {
        self.folder.path().join(format!("{}.ready", self.nodes[place].name))
    }

    /// The last lines of what a node logged.
    pub(crate) fn log(&self, place: usize) -> String {
        let path = self.folder.path().join(format!("{}.log", self.nodes[place].name));
        last_lines(&path, 40)
    }
}

fn last_lines(path: &Path, count: usize) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

impl Node {
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
