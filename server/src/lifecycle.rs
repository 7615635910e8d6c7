//! A node's life: start, tell, wait for a signal, drain, stop.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::config::{Config, StoreAt};
use crate::descriptors;
use crate::serve::{self, Node, Public};
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
    tell_log(config, &node);
    if let Some(path) = &config.ready_file {
        tell_ready(path, &node)?;
    }
    if std::io::stdout().is_terminal() || config.ready_file.is_none() {
        greet(config, &node);
    }
    tokio::select! {
        () = stop.asked() => {}
        () = node.phase.asked() => {}
        () = node.core.superseded() => {}
    }
    node.phase.draining();
    tokio::select! {
        () = drain(config, &node) => {}
        () = stop.asked() => {}
    }
    let Node { public, core, admin_stop, .. } = node;
    if let Some(Public { edge, memory, .. }) = public {
        // Ends its thread.
        drop(memory);
        edge.handle().stop();
        tokio::task::spawn_blocking(move || edge.join()).await.context("a shard failed")?;
    }
    core.stop().await;
    admin_stop.cancel();
    tracing::info!("stopped");
    Ok(())
}

fn tell_log(config: &Config, node: &Node) {
    let (admin, data, role) = (node.admin, config.data.display(), config.role);
    let grpc = node.grpc().map(tracing::field::display);
    match &node.public {
        Some(Public { listen, quic, tls, .. }) => {
            let (tls, quic) = (tls.is_some(), quic.map(tracing::field::display));
            tracing::info!(%listen, tls, quic, %admin, grpc, %data, ?role, "ready");
        }
        None => tracing::info!(%admin, grpc, ?role, "ready"),
    }
}

/// Asks every edge and every client to go elsewhere, and waits until they have, or the deadline.
async fn drain(config: &Config, node: &Node) {
    tracing::info!("draining; a second signal stops at once");
    node.core.hand_over().await;
    let Some(public) = &node.public else { return };
    let edge = public.edge.handle();
    tracing::info!(sessions = edge.metrics().sessions_open(), "asking clients to leave");
    edge.drain("drain", config.drain_window, config.drain_deadline);
    // The shards close at the deadline with 4000, "come back later"; what follows would say 1001.
    let deadline = Instant::now() + config.drain_deadline + CLOSE_WITHIN;
    while edge.metrics().sessions_open() > 0 && Instant::now() < deadline {
        tokio::time::sleep(DRAIN_LOOK_EVERY).await;
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
    let (listen, quic) = node.public.as_ref().map_or((None, None), |public| (Some(public.listen), public.quic));
    let (grpc, pid) = (node.grpc(), std::process::id());
    let line = json!({ "listen": listen, "quic": quic, "admin": node.admin, "grpc": grpc, "pid": pid });
    let half = path.with_extension("half");
    std::fs::write(&half, format!("{line}\n"))
        .and_then(|()| std::fs::rename(&half, path))
        .with_context(|| format!("ready_file: cannot write {}", path.display()))
}

fn greet(config: &Config, node: &Node) {
    let Some(public) = &node.public else { return };
    let mut host = public.listen;
    if host.ip().is_unspecified() {
        host.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let scheme = if public.tls.is_some() { "https" } else { "http" };
    let key = match config.store {
        StoreAt::Embedded => crate::commands::key::path(&config.data).display().to_string(),
        StoreAt::Cql(_) => "FILE   (roost store key makes it)".to_owned(),
    };
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
    let load = if public.tls.is_none() || config.plaintext {
        format!(
            "  Put it under load     cargo run --release -p roost-loadgen -- quick --target http://{host} --token-key {key}\n"
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
        data = match &config.store {
            StoreAt::Embedded => config.data.display().to_string(),
            StoreAt::Cql(at) => format!("the keyspace {}", at.keyspace),
        },
        admin = node.admin,
    );
    // Nobody may be reading; the node serves all the same.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
