//! `cargo xtask dev cluster`: a whole fleet on this machine, until Ctrl-C.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use roost_fixtures::cassandra::{Cassandra, Options};
use roost_fixtures::redis::Redis;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::steps::{Steps, cargo, target};
use crate::tools;

/// How long a node may take until it is ready, or to stop.
const NODE_WITHIN: Duration = Duration::from_secs(60);
/// The first node's port for clients; the others follow.
const FIRST_PORT: u16 = 8081;
/// The first node's port for health and metrics.
const FIRST_ADMIN_PORT: u16 = 9091;

/// Starts it, tells where it is, and waits until somebody wants it to stop.
pub(crate) fn cluster(steps: &mut Steps, nodes: u16, ring: usize) -> anyhow::Result<()> {
    ensure!((1..=9).contains(&nodes), "--nodes: 1 to 9");
    tools::redis(steps)?;
    tools::cassandra(steps)?;
    steps.run("build the server", &mut cargo(["build", "--release", "--package", "roost-server"]))?;
    let stop = stop_when_asked()?;
    println!("\nstarting Redis and {ring} of Cassandra…");
    let mut fleet = Fleet::start(nodes, ring)?;
    fleet.tell();
    while stop.recv_timeout(Duration::from_secs(1)).is_err() {
        for node in &mut fleet.nodes {
            if let Some(status) = node.child.try_wait()? {
                bail!("{} ended with {status}: see {}", node.name, node.log.display());
            }
        }
    }
    println!("\nstopping…");
    fleet.nodes.iter().try_for_each(|node| kill_process(Pid::from_child(&node.child), Signal::TERM))?;
    fleet.nodes.iter_mut().try_for_each(Node::await_end)
}

/// A fleet on this machine; ends when it is dropped.
pub(crate) struct Fleet {
    nodes: Vec<Node>,
    pub(crate) redis: Redis,
    pub(crate) cassandra: Cassandra,
    store: String,
    /// The file with the key that signs its tokens.
    pub(crate) key: PathBuf,
    _folder: tempfile::TempDir,
}

impl Fleet {
    /// Starts the release build of the server, `nodes` times, on `ring` nodes of Cassandra.
    pub(crate) fn start(nodes: u16, ring: usize) -> anyhow::Result<Self> {
        let roost = target().join("release").join("roost");
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        let redis = Redis::start()?;
        let cassandra = Cassandra::start(&Options { nodes: ring, ..Options::default() })?;
        let points: Vec<String> = cassandra.contact_points().iter().map(ToString::to_string).collect();
        let store = format!("cql://{}/roost", points.join(","));
        run(&roost, &["store", "migrate", &store, "--replication", &ring.min(3).to_string()])?;
        let key = folder.path().join("token-key");
        run(&roost, &["store", "key", &store, "--out", &key.to_string_lossy()])?;
        let start = |number| Node::start(&roost, folder.path(), number, &store, &redis.url());
        let mut nodes = (0..nodes).map(start).collect::<anyhow::Result<Vec<Node>>>()?;
        nodes.iter_mut().try_for_each(Node::await_ready)?;
        Ok(Self { nodes, redis, cassandra, store, key, _folder: folder })
    }

    /// Where clients connect, node by node.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("http://127.0.0.1:{}", node.port)).collect()
    }

    fn tell(&self) {
        let Self { nodes, redis, store, key, .. } = self;
        println!("\nA fleet of {} nodes serves, on one Cassandra keyspace and one Redis.\n", nodes.len());
        for Node { name, port, admin, log, .. } in nodes {
            println!("  {name}   http://127.0.0.1:{port}/   http://127.0.0.1:{admin}/readyz   {}", log.display());
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

/// A node of the fleet; killed when it is dropped.
struct Node {
    name: String,
    port: u16,
    admin: u16,
    log: PathBuf,
    ready: PathBuf,
    child: Child,
}

impl Node {
    fn start(roost: &Path, folder: &Path, number: u16, store: &str, redis: &str) -> anyhow::Result<Self> {
        let (name, port, admin) = (format!("n{}", number + 1), FIRST_PORT + number, FIRST_ADMIN_PORT + number);
        let [log, ready, data] = ["log", "ready", "data"].map(|end| folder.join(format!("{name}.{end}")));
        let written = std::fs::File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let child = Command::new(roost)
            .args(["serve", "--node", &name, "--store", store, "--redis", redis])
            .args(["--listen", &format!("127.0.0.1:{port}"), "--admin", &format!("127.0.0.1:{admin}")])
            .arg("--data")
            .arg(data)
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(written.try_clone()?)
            .stderr(written)
            .spawn()
            .with_context(|| format!("cannot start {}", roost.display()))?;
        Ok(Self { name, port, admin, log, ready, child })
    }

    fn await_ready(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        while !self.ready.exists() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || began.elapsed() > NODE_WITHIN {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                bail!("{} does not serve ({ended:?}):\n{log}", self.name);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn await_end(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(began.elapsed() < NODE_WITHIN, "{} does not stop: see {}", self.name, self.log.display());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
