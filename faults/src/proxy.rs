//! A TCP proxy that can be told to misbehave: the load balancer before the nodes, and what stands between a node and
//! its Redis. The kernel here has no `tc netem`; this is the same at the level of connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A server that does not take a connection within this time is passed over.
const CONNECT_WITHIN: Duration = Duration::from_millis(500);
/// Bytes that are passed on at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// How connections fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Everything goes through.
    Fair,
    /// Every piece takes this much longer.
    Slow(Duration),
    /// Nothing goes through, in either direction, and nobody is told: a partition.
    Dark,
}

/// A proxy; it ends when it is dropped.
pub(crate) struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: tokio::task::JoinHandle<()>,
}

struct Shared {
    servers: Mutex<Vec<SocketAddr>>,
    next: AtomicUsize,
    weather: watch::Sender<Weather>,
    /// Counts up: connections that began before are reset.
    cut: watch::Sender<u64>,
}

impl Proxy {
    /// One on a free port of loopback before `servers`, which are taken in turns.
    pub(crate) async fn start(servers: Vec<SocketAddr>) -> std::io::Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            servers: Mutex::new(servers),
            next: AtomicUsize::new(0),
            weather: watch::Sender::new(Weather::Fair),
            cut: watch::Sender::new(0),
        });
        let of = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(Arc::clone(&of), stream));
            }
        });
        Ok(Self { addr, shared, accepting })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Other servers from now on; connections stay where they are.
    pub(crate) fn set_servers(&self, servers: Vec<SocketAddr>) {
        *self.shared.servers.lock() = servers;
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.shared.weather.send_replace(weather);
    }

    /// Resets every connection.
    pub(crate) fn cut(&self) {
        self.shared.cut.send_modify(|cut| *cut += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

/// One connection, to the first server that takes it.
async fn serve(shared: Arc<Shared>, near: TcpStream) {
    let mut cut = shared.cut.subscribe();
    let Some(far) = open(&shared).await else { return };
    let _ = near.set_nodelay(true);
    let _ = far.set_nodelay(true);
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let up = pass(near_in, far_out, shared.weather.subscribe());
    let down = pass(far_in, near_out, shared.weather.subscribe());
    tokio::select! {
        () = async { tokio::join!(up, down); } => {}
        _ = cut.changed() => {}
    }
}

async fn open(shared: &Shared) -> Option<TcpStream> {
    let servers = shared.servers.lock().clone();
    let first = shared.next.fetch_add(1, Relaxed);
    for place in 0..servers.len() {
        let server = servers[(first + place) % servers.len()];
        if let Ok(Ok(stream)) = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(server)).await {
            return Some(stream);
        }
    }
    None
}

/// Passes on what comes, as the weather allows, until either side ends.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut weather: watch::Receiver<Weather>) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        if weather.wait_for(|weather| *weather != Weather::Dark).await.is_err() {
            return;
        }
        let now = *weather.borrow();
        if let Weather::Slow(by) = now {
            tokio::time::sleep(by).await;
        }
        if to.write_all(&chunk[..read]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
