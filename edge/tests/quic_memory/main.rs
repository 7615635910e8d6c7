//! What idle sessions cost by QUIC: live bytes on the heap of the shard's thread, the clients' left out.
//!
//! In a process of their own, each test with threads of its own. What the cryptography library allocates by itself is not seen; it keeps nothing of a
//! connection once its handshake is over.
#![allow(unsafe_code, reason = "an allocator can be written in no other way")]

#[path = "../edge/quic/certificates.rs"]
mod certificates;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use roost_edge::driver::quic::{QuicConfig, QuicConn, QuicDriver};
use roost_edge_core::driver::{Driver, Sink};
use roost_edge_core::{Effect, End, Shard, ShardConfig, ShardMetrics};
use roost_wire::link::{Down, SessionKey, Up};
use roost_wire::pb::{self, Frame};
use roost_wire::{Encoding, FrameBody, UserId};
use web_transport_proto::{ConnectRequest, ConnectResponse, Settings};

/// Bytes an idle session may cost, its stream open.
const IDLE_BYTES_MAX: isize = 13_000;
/// The same by WebTransport, with the streams that HTTP/3 needs.
const WEB_IDLE_BYTES_MAX: isize = 16_000;
/// What heartbeats may add, however many: one packet that is not acknowledged yet keeps a leaf of quinn-proto's map of them, of
/// 1 160 bytes.
const HEARTBEATS_BYTES_MAX: isize = 1_300;
/// A whole number of chunks, so that no room for more counts.
const SESSIONS: usize = 512;
/// Those before, for what is made once.
const FIRST: usize = 256;
/// Clients that begin at once.
const TOGETHER: usize = 16;
const HEARTBEATS: usize = 40;
/// Turns that lead nowhere before the test gives up. Each sleeps for 10 ms at most.
const PATIENCE: u32 = 20_000;

thread_local! {
    static LIVE_BYTES: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counting for each thread what it took and gave back.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: isize) {
    // A thread that ends counts no more.
    let _ = LIVE_BYTES.try_with(|live| live.set(live.get() + bytes));
}

// SAFETY: every call is passed to `System` as it came; counting touches no memory but the thread's counter.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above; `block` came from `System`.
        unsafe { System.dealloc(block, layout) }
    }
}

/// A shard and its driver, and a router that lets everybody in.
struct Server {
    driver: QuicDriver,
    side: Side,
}

struct Side {
    shard: Shard,
    arrivals: Vec<(QuicConn, SocketAddr)>,
    heartbeats: usize,
}

impl Sink for Side {
    type Conn = QuicConn;

    fn accepted(&mut self, conn: QuicConn, peer: SocketAddr) {
        self.arrivals.push((conn, peer));
    }

    fn received(&mut self, key: SessionKey, bytes: &mut [u8]) {
        self.heartbeats += 1;
        self.shard.received(key, bytes, std::time::Instant::now());
    }

    fn sent(&mut self, _: SessionKey, _: usize) {}

    fn writable(&mut self, _: SessionKey) {}

    fn half_closed(&mut self, _: SessionKey) -> bool {
        false
    }

    fn ended(&mut self, key: SessionKey, end: End) {
        self.shard.ended(key, end, std::time::Instant::now());
    }
}

impl Server {
    fn turn(&mut self) {
        self.driver.wait(Some(Duration::from_millis(10))).unwrap();
        self.driver.deliver(&mut self.side);
        let now = self.driver.now();
        for (conn, peer) in std::mem::take(&mut self.side.arrivals) {
            let key = self.side.shard.opened_native(peer, true, now).expect("room");
            self.driver.attach(key, conn).unwrap();
        }
        loop {
            self.side.shard.turn(now);
            let Some(effect) = self.side.shard.poll_effect() else { break };
            match effect {
                Effect::Up(Up::Connect { session, rid, .. }) => {
                    let (user, welcome) = (UserId::new("u_ada").unwrap(), Box::default());
                    self.side.shard.down(Down::Accepted { session, rid, user, welcome }, now);
                }
                Effect::Write(key) => {
                    let written = self.driver.write(key, self.side.shard.outbound(key).unwrap()).unwrap();
                    self.side.shard.sent(key, written, now);
                }
                _ => {}
            }
        }
        self.driver.flush(&mut self.side);
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        for _ in 0..PATIENCE {
            if done(self) {
                return;
            }
            self.turn();
        }
        panic!("never: {what}: {} sessions, {} connections", self.side.shard.sessions(), self.driver.connections());
    }

    /// Until nothing more is under way.
    fn settle(&mut self) {
        for _ in 0..200 {
            self.turn();
        }
    }
}

fn bytes_of(rid: u64, body: FrameBody) -> BytesMut {
    let mut out = BytesMut::new();
    Encoding::Protobuf.encode(&Frame { rid, body: Some(body) }, &mut out);
    out
}

/// A client's session, and what must not be dropped before it.
struct Client {
    tx: SendStream,
    _rx: RecvStream,
    _connection: Connection,
    _more: Vec<SendStream>,
    _answer: Option<RecvStream>,
}

async fn enter(endpoint: Endpoint, addr: SocketAddr, web: bool) -> Client {
    let connection = endpoint.connect(addr, "localhost").unwrap().await.unwrap();
    let (more, answer) = if web { ask(&connection).await } else { (Vec::new(), None) };
    let (mut tx, rx) = connection.open_bi().await.unwrap();
    if web {
        tx.write_all(b"\x40\x41\x00").await.unwrap();
    }
    tx.write_all(&bytes_of(1, FrameBody::Connect(pb::Connect::default()))).await.unwrap();
    Client { tx, _rx: rx, _connection: connection, _more: more, _answer: answer }
}

/// What a browser says before its lane: SETTINGS, two streams of QPACK, and a request for a session, whose answer is awaited.
async fn ask(connection: &Connection) -> (Vec<SendStream>, Option<RecvStream>) {
    let mut settings = Settings::default();
    settings.enable_webtransport(1);
    let mut control = connection.open_uni().await.unwrap();
    settings.write(&mut control).await.unwrap();
    let mut more = vec![control];
    for kind in [2, 3] {
        let mut qpack = connection.open_uni().await.unwrap();
        qpack.write_all(&[kind]).await.unwrap();
        more.push(qpack);
    }
    let (mut session, mut answer) = connection.open_bi().await.unwrap();
    let request = ConnectRequest::new("https://localhost/wt".parse::<url::Url>().unwrap());
    request.write(&mut session).await.unwrap();
    ConnectResponse::read(&mut answer).await.unwrap();
    more.push(session);
    (more, Some(answer))
}

#[test]
fn f02_an_idle_session_by_quic_costs_less_than_13000_bytes() {
    hold(false, IDLE_BYTES_MAX);
}

#[test]
fn f02_an_idle_session_by_webtransport_costs_less_than_16000_bytes() {
    hold(true, WEB_IDLE_BYTES_MAX);
}

fn hold(web: bool, bytes_max: isize) {
    let (tls, cert) = certificates::server();
    let config = ShardConfig { frames_per_second: 0, ..ShardConfig::default() };
    let mut quic = QuicConfig::new((Ipv4Addr::LOCALHOST, 0).into(), tls, [1; 32]);
    // An unoptimised build takes its time.
    (quic.open_within, quic.unproven_max) = (Duration::from_secs(3600), usize::MAX);
    let (mut driver, _waker, addr) = QuicDriver::alone(&quic, &config).unwrap();
    driver.begin().unwrap();
    let shard = Shard::new(Arc::new(config), 0, Arc::new(ShardMetrics::default()), driver.now(), driver.unix_ms());
    let mut server = Server { driver, side: Side { shard, arrivals: Vec::new(), heartbeats: 0 } };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let endpoint = {
        let _runtime = runtime.enter();
        let mut endpoint = certificates::endpoint(&cert);
        if web {
            let provider = rustls::crypto::aws_lc_rs::default_provider();
            endpoint.set_default_client_config(certificates::client(&cert, &[b"h3"], provider));
        }
        endpoint
    };
    // Before anything is counted.
    let mut clients = Vec::with_capacity(FIRST + SESSIONS);
    let mut before = 0;
    for count in [FIRST, FIRST + SESSIONS] {
        before = LIVE_BYTES.get();
        while clients.len() < count {
            // A few at a time: their socket has room for so many answers.
            let more: Vec<_> = (0..TOGETHER).map(|_| runtime.spawn(enter(endpoint.clone(), addr, web))).collect();
            let wanted = clients.len() + TOGETHER;
            server.until("all are sessions", |server| server.side.shard.sessions() == wanted);
            for client in more {
                clients.push(runtime.block_on(client).unwrap());
            }
        }
        server.settle();
    }
    let each = (LIVE_BYTES.get() - before) / SESSIONS as isize;
    println!("{each} B a session{}", if web { " by WebTransport" } else { "" });
    assert!(each <= bytes_max, "{each} B a session");
    // And it stays so.
    for _ in 0..HEARTBEATS {
        let wanted = server.side.heartbeats + clients.len();
        clients = runtime
            .block_on(runtime.spawn(async move {
                for client in &mut clients {
                    client.tx.write_all(&bytes_of(0, FrameBody::Ping(pb::Ping {}))).await.unwrap();
                }
                clients
            }))
            .unwrap();
        server.until("heartbeats", |server| server.side.heartbeats >= wanted);
    }
    server.settle();
    let later = (LIVE_BYTES.get() - before) / SESSIONS as isize;
    println!("{later} B a session after {HEARTBEATS} heartbeats");
    assert!(later <= each + HEARTBEATS_BYTES_MAX, "{later} B a session after {HEARTBEATS} heartbeats, {each} B before");
}
