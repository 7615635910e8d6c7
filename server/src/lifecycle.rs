//! A node's life: start, tell, wait for a signal, drain, stop.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::config::Config;
use crate::descriptors;
use crate::serve::{self, Node};
use crate::telemetry;
use crate::tls;

/// How long sessions that are closed at the drain's deadline may take to end.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// How often a draining node looks whether its sessions have left.
const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(50);

/// A runtime for commands that are clients.
pub(crate) fn client_runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}

/// Threads of the router and of the HTTP service. Every core has a shard already, and a router thread that wakes another to
/// help it with little costs more than the help is worth.
fn router_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.div_ceil(2)
}

/// Serves until told to stop.
pub(crate) fn run(config: &Config) -> anyhow::Result<()> {
    telemetry::start(config);
    descriptors::raise_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("roost-router")
        .worker_threads(router_threads())
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(live(config));
    // Tasks that still wait for peers do not hold the process up.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn live(config: &Config) -> anyhow::Result<()> {
    let mut stop = Stop::new()?;
    let node = serve::start(config).await?;
    tracing::info!(listen = %node.listen, tls = node.tls.is_some(), quic = node.quic.map(tracing::field::display), admin = %node.admin, data = %config.data.display(), "ready");
    if let Some(path) = &config.ready_file {
        tell_ready(path, &node)?;
    }
    if std::io::stdout().is_terminal() || config.ready_file.is_none() {
        greet(config, &node);
    }
    stop.asked().await;
    drain(config, &node, &mut stop).await;
    let Node { edge, router, memory, admin_stop, .. } = node;
    // Ends its thread.
    drop(memory);
    edge.handle().stop();
    tokio::task::spawn_blocking(move || edge.join()).await.context("a shard failed")?;
    router.close().await;
    admin_stop.cancel();
    tracing::info!("stopped");
    Ok(())
}

/// Asks every client to leave, and waits until they have, the deadline, or a second signal.
async fn drain(config: &Config, node: &Node, stop: &mut Stop) {
    node.phase.draining();
    let edge = node.edge.handle();
    tracing::info!(sessions = edge.metrics().sessions_open(), "draining; a second signal stops at once");
    edge.drain("drain", config.drain_window, config.drain_deadline);
    // The shards close at the deadline with 4000, "come back later"; what follows would say 1001.
    let deadline = Instant::now() + config.drain_deadline + CLOSE_WITHIN;
    while edge.metrics().sessions_open() > 0 && Instant::now() < deadline {
        tokio::select! {
            () = tokio::time::sleep(DRAIN_LOOK_EVERY) => {}
            () = stop.asked() => return,
        }
    }
}

/// SIGTERM and SIGINT.
struct Stop {
    term: Signal,
    int: Signal,
}

impl Stop {
    fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { term: on(SignalKind::terminate())?, int: on(SignalKind::interrupt())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// Writes the ready file in one step: who waits for it never reads half of it.
fn tell_ready(path: &Path, node: &Node) -> anyhow::Result<()> {
    let line = json!({ "listen": node.listen, "quic": node.quic, "admin": node.admin, "pid": std::process::id() });
    let half = path.with_extension("half");
    std::fs::write(&half, format!("{line}\n"))
        .and_then(|()| std::fs::rename(&half, path))
        .with_context(|| format!("ready_file: cannot write {}", path.display()))
}

fn greet(config: &Config, node: &Node) {
    let mut host = node.listen;
    if host.ip().is_unspecified() {
        host.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let scheme = if node.tls.is_some() { "https" } else { "http" };
    let key = crate::commands::key::path(&config.data);
    // A certificate of one's own is for a name, and this machine has that one.
    let url = match &config.tls_cert {
        Some(_) if host.ip().is_loopback() => format!("{scheme}://localhost:{}", host.port()),
        _ => format!("{scheme}://{host}"),
    };
    let mut server =
        if url.starts_with("http:") && host.port() == 8080 { String::new() } else { format!(" --server {url}") };
    if config.dev_tls {
        server = format!("{server} --ca {}", tls::dev_dir(&config.data).join("cert.pem").display());
    }
    let load = if node.tls.is_none() || config.plaintext {
        format!(
            "  Put it under load     cargo run --release -p roost-loadgen -- quick --target http://{host} --token-key {}\n",
            key.display()
        )
    } else {
        String::new()
    };
    let text = format!(
        "Roost {version} serves. Messages are kept in {data}.\n\n  \
           Chat in a browser     {url}/\n  \
           Chat in a terminal    roost chat --as Ada --to Bob{server}\n{load}  \
           Health and metrics    http://{admin}/readyz  http://{admin}/metrics\n\n\
         Ctrl-C drains and stops it.\n",
        version = env!("CARGO_PKG_VERSION"),
        data = config.data.display(),
        admin = node.admin,
    );
    // Nobody may be reading; the node serves all the same.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
