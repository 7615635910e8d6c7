//! Making links, and keeping them.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::stream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use super::Inner;
use super::peer::{Peer, Queue};
use crate::config::{MESSAGE_BYTES_MAX, WINDOW_BYTES};
use crate::proto::link::link_client::LinkClient;
use crate::proto::link::{EdgeBatch, EdgeHello, RouterBatch};
use crate::{NodeName, RouterAddr};

/// How often the list of routers is looked at, changed or not.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A link that lasted this long was a good one: the next attempt comes soon.
const GOOD_AFTER: Duration = Duration::from_secs(5);

/// Ends the tasks of all links when dropped.
struct Keepers(HashMap<RouterAddr, JoinHandle<()>>);

impl Drop for Keepers {
    fn drop(&mut self) {
        self.0.values().for_each(JoinHandle::abort);
    }
}

/// Sees that there is a task for each address.
pub(crate) async fn supervise(inner: Arc<Inner>, mut routers: watch::Receiver<Vec<RouterAddr>>) {
    let mut keepers = Keepers(HashMap::new());
    loop {
        let named = routers.borrow_and_update().clone();
        keepers.0.retain(|_, keeper| !keeper.is_finished());
        for addr in named {
            keepers.0.entry(addr.clone()).or_insert_with(|| {
                let (inner, routers) = (Arc::clone(&inner), routers.clone());
                tokio::spawn(async move { keep(&inner, &addr, &routers).await })
            });
        }
        // A keeper may have ended just before its address was named again: look now and then.
        match timeout(LOOK_EVERY, routers.changed()).await {
            Ok(Ok(())) | Err(_) => {}
            // Nobody changes it any more: it stands, and so do the keepers.
            Ok(Err(_)) => std::future::pending().await,
        }
    }
}

/// Keeps a link to the router at `addr` while it is named.
async fn keep(inner: &Arc<Inner>, addr: &RouterAddr, routers: &watch::Receiver<Vec<RouterAddr>>) {
    let mut pause = inner.config.retry_after;
    let mut told = String::new();
    loop {
        if inner.leaving.load(Relaxed) || !routers.borrow().contains(addr) {
            return;
        }
        let began = Instant::now();
        match attach(inner, addr).await {
            Ok((peer, incoming)) => {
                told.clear();
                inner.metrics.attached.add(1);
                tracing::info!(router = peer.name.node, addr = addr.addr, "linked to a router");
                let guard = Linked { inner: Arc::clone(inner), peer };
                let why = listen(inner, &guard.peer, incoming).await;
                match why {
                    None => tracing::info!(router = guard.peer.name.node, "the link to a router ended"),
                    Some(why) => tracing::warn!(router = guard.peer.name.node, %why, "a router is gone"),
                }
            }
            Err(why) => {
                inner.metrics.attach_failed.add(1);
                // Once for each reason, not once for each attempt.
                if told != why {
                    tracing::warn!(addr = addr.addr, %why, "cannot link to a router");
                    told = why;
                }
            }
        }
        pause = if began.elapsed() > GOOD_AFTER { inner.config.retry_after } else { pause };
        let jitter = pause.mul_f64(rand::random::<f64>() / 2.0);
        tokio::time::sleep(pause + jitter).await;
        pause = (pause * 2).min(inner.config.retry_after_max);
    }
}

/// A link that stands; when it is dropped it is lost.
struct Linked {
    inner: Arc<Inner>,
    peer: Arc<Peer>,
}

impl Drop for Linked {
    fn drop(&mut self) {
        self.inner.metrics.lost.add(1);
        self.inner.lose(&self.peer);
    }
}

/// An error and what caused it, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}

fn is_loopback(addr: &str) -> bool {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

fn endpoint(inner: &Inner, addr: &RouterAddr) -> Result<Endpoint, String> {
    let scheme = if inner.tls.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{}", addr.addr)).map_err(|error| chain(&error))?;
    let endpoint = endpoint
        .connect_timeout(inner.config.attach_within)
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    let Some(tls) = &inner.tls else {
        if !inner.insecure && !is_loopback(&addr.addr) {
            return Err("without TLS links are for loopback only (say so if the network is trusted)".to_owned());
        }
        return Ok(endpoint);
    };
    let host = addr.addr.rsplit_once(':').map_or(addr.addr.as_str(), |(host, _)| host).trim_matches(['[', ']']);
    let tls = tls.client(addr.name.as_deref().unwrap_or(host)).map_err(|error| chain(&error))?;
    endpoint.tls_config(tls).map_err(|error| chain(&error))
}

/// Greets the router at `addr`.
///
/// # Errors
/// Why there is no link, for people.
async fn attach(inner: &Arc<Inner>, addr: &RouterAddr) -> Result<(Arc<Peer>, Streaming<RouterBatch>), String> {
    // A router that stands still accepts connections all the same: its kernel does.
    let connecting = timeout(inner.config.attach_within, endpoint(inner, addr)?.connect()).await;
    let channel = connecting.map_err(|_| "no connection in time".to_owned())?.map_err(|error| chain(&error))?;
    let greeting = timeout(inner.config.attach_within, greet(inner, channel.clone()));
    let (name, queue, incoming) = greeting.await.map_err(|_| "it did not greet in time".to_owned())??;
    let peer = Arc::new(Peer::new(name, queue, channel));
    inner.enlist(&peer);
    Ok((peer, incoming))
}

type Greeted = (NodeName, Arc<Queue>, Streaming<RouterBatch>);

async fn greet(inner: &Inner, channel: Channel) -> Result<Greeted, String> {
    let (version_min, version_max) = inner.config.versions;
    let hello = EdgeHello {
        version_min,
        version_max,
        node: inner.name.node.clone(),
        incarnation: inner.name.incarnation,
        shards: inner.tables.len() as u32,
        linked: inner.live.read().iter().map(|peer| (&peer.name).into()).collect(),
    };
    let first = EdgeBatch { hello: Some(hello), items: Vec::new() };
    let queue = Arc::new(Queue::new(&inner.config));
    let beat = inner.config.beat_every;
    let up = stream::unfold((Some(first), Arc::clone(&queue)), move |(first, queue)| async move {
        let batch = match first {
            Some(first) => first,
            None => queue.next(beat).await?,
        };
        Some((batch, (None, queue)))
    });
    let mut client = LinkClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let said = |status: tonic::Status| match status.message() {
        "" => chain(&status),
        why => why.to_owned(),
    };
    let mut incoming = client.attach(up).await.map_err(said)?.into_inner();
    let first = incoming.message().await.map_err(said)?;
    let Some(hello) = first.and_then(|batch| batch.hello) else { return Err("it did not greet".to_owned()) };
    if !(version_min..=version_max).contains(&hello.version) {
        let version = hello.version;
        return Err(format!(
            "it wants to speak version {version} of the link, this edge {version_min} to {version_max}"
        ));
    }
    Ok((NodeName { node: hello.node, incarnation: hello.incarnation }, queue, incoming))
}

/// Takes what a router says until it is gone. `None`: it ended in good order.
async fn listen(inner: &Inner, peer: &Arc<Peer>, mut incoming: Streaming<RouterBatch>) -> Option<String> {
    loop {
        let batch = match timeout(inner.config.dead_after, incoming.message()).await {
            Ok(Ok(Some(batch))) => batch,
            Ok(Ok(None)) => return None,
            Ok(Err(status)) => return Some(status.message().to_owned()),
            Err(_) => return Some("nothing came from it".to_owned()),
        };
        if batch.goodbye && !peer.is_leaving() {
            tracing::info!(router = peer.name.node, "a router says goodbye");
            inner.part_from(peer);
        }
        if !batch.items.is_empty() {
            inner.take(peer, batch.items);
        }
    }
}
