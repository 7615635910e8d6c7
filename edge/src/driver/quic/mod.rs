//! QUIC: sessions that survive a change of the network.
//!
//! Its shards are of their own, beside those of streams: each has one UDP socket at the common port, one endpoint of
//! `quinn_proto`, one timer wheel, and all of its connections. A connection carries one session, on the first stream that the
//! client opens; ephemeral pushes may leave as datagrams beside it.
//!
//! - `hello`: what a client offers in its first words; `h3`: HTTP/3, where that is WebTransport;
//! - `hub`: the endpoint and its connections, without a socket and without a clock;
//! - `session`: TLS, let go after the handshake; `keys`: keys of packets, kept raw;
//! - `conns`: what is kept of each connection; `steer`: which shard a datagram belongs to, `post`: what happens where the
//!   kernel does not know; `settings`: what QUIC is set to, and why;
//! - here: the socket, and the [`Driver`].
//!
//! Invariants:
//! - a connection belongs to the shard its ids lead to, whatever address it comes from;
//! - an address that may be forged gets at most three times what came from it;
//! - nothing waits for a peer without a limit in time, and no list of strangers grows without a limit in number.
//!
//! Absent on purpose: 0-RTT (see `docs/adr/0016`), streams beside the one, a task per connection.

mod conns;
mod h3;
mod hello;
mod hub;
mod keys;
mod metrics;
mod post;
mod session;
mod settings;
mod socket;
mod steer;
pub mod testkit;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use mio::{Events, Interest, Poll, Token, Waker};
use quinn_proto::EcnCodepoint;
use quinn_udp::{BATCH_SIZE, RecvMeta};
use roost_edge_core::driver::{Beginning, Driver, Sink, Wake};
use roost_edge_core::{Outbound, ShardConfig};
use roost_wire::CloseCode;
use roost_wire::link::SessionKey;

pub use self::h3::ALPN as WEBTRANSPORT_ALPN;
use self::hub::{Hub, Origin, Setup};
pub use self::metrics::{QuicMetrics, QuicSnapshot};
use self::post::{Letter, Post};
pub(crate) use self::settings::Parts;
pub use self::settings::{QuicConfig, QuicConfigError, SECRET_BYTES};
use self::socket::Socket;
use self::steer::Steer;
use super::poll::PollWaker;
use crate::accept::Control;
use crate::address::Gate;
use crate::sync::Mutex;

/// Calls that receive, per turn; each may bring [`BATCH_SIZE`] trains of datagrams.
const RECEIVES_PER_TURN: usize = 32;
const SOCKET: Token = Token(0);
const WAKE: Token = Token(1);

/// A connection whose client opened its stream, on its way to a key.
#[derive(Debug)]
pub struct QuicConn {
    handle: u32,
    serial: u32,
    datagrams: bool,
}

/// One that no QUIC driver takes: accepted streams go to other shards, and have the same kind of mailbox.
impl From<super::Conn> for QuicConn {
    fn from(_: super::Conn) -> Self {
        Self { handle: u32::MAX, serial: 0, datagrams: false }
    }
}

/// The driver of one QUIC shard.
pub struct QuicDriver {
    poll: Poll,
    events: Events,
    socket: Socket,
    hub: Hub,
    steer: Steer,
    /// Its number among the shards of QUIC.
    number: u16,
    post: Arc<Post>,
    letters: VecDeque<Letter>,
    /// Where trains of datagrams are received.
    buffer: Box<[u8]>,
    metrics: Arc<QuicMetrics>,
    control: Option<Arc<Control>>,
    /// The socket was not read empty.
    readable: bool,
}

/// The drivers of all shards of QUIC, and what belongs to each.
pub(crate) struct Group {
    pub(crate) drivers: Vec<QuicDriver>,
    pub(crate) wakers: Vec<Arc<dyn Wake>>,
    pub(crate) metrics: Vec<Arc<QuicMetrics>>,
    pub(crate) local_addr: SocketAddr,
}

impl QuicDriver {
    /// One driver for shard 0, alone at its port, and what wakes it.
    ///
    /// # Errors
    /// The address cannot be had.
    ///
    /// # Panics
    /// If `config` cannot be: see [`QuicConfigError`].
    pub fn alone(config: &QuicConfig, shard: &ShardConfig) -> io::Result<(Self, Arc<dyn Wake>, SocketAddr)> {
        let parts = Parts::new(config, shard).expect("settings of QUIC");
        let mut group = Self::group(config, &parts, 0..1, shard)?;
        match (group.drivers.pop(), group.wakers.pop()) {
            (Some(driver), Some(waker)) => Ok((driver, waker, group.local_addr)),
            _ => Err(ErrorKind::NotFound.into()),
        }
    }

    /// Drivers for `shards`, all at one port.
    ///
    /// # Errors
    /// The address cannot be had, or no descriptor is left.
    pub(crate) fn group(
        config: &QuicConfig,
        parts: &Parts,
        shards: std::ops::Range<u16>,
        shard_config: &ShardConfig,
    ) -> io::Result<Group> {
        let count = shards.len() as u16;
        let sockets = socket::bind(config.listen, count)?;
        let local_addr = sockets.first().ok_or(ErrorKind::InvalidInput)?.local_addr()?;
        let steer = Steer::new(count, rand::random());
        if let (true, Some(socket)) = (config.steered && count > 1, sockets.first()) {
            match steer.attach(socket) {
                Ok(()) => tracing::info!(shards = count, "the kernel steers QUIC"),
                Err(error) => tracing::warn!(%error, "the kernel does not steer QUIC: shards hand datagrams on"),
            }
        }
        let mut polls = Vec::new();
        let mut wakers: Vec<Arc<dyn Wake>> = Vec::new();
        for _ in &sockets {
            let poll = Poll::new()?;
            wakers.push(Arc::new(PollWaker::from(Waker::new(poll.registry(), WAKE)?)));
            polls.push(poll);
        }
        let post = Arc::new(Post::new(wakers.clone()));
        let (mut drivers, mut all_metrics) = (Vec::new(), Vec::new());
        for ((number, shard), (socket, poll)) in (0..count).zip(shards).zip(sockets.into_iter().zip(polls)) {
            let metrics = Arc::new(QuicMetrics::default());
            let endpoint = parts.endpoint(steer, number, rand::random());
            let hub = Hub::new(Setup {
                endpoint,
                shard,
                metrics: metrics.clone(),
                now: Instant::now(),
                unproven_max: config.unproven_max,
                open_within: config.open_within,
                young_max: shard_config.unauthenticated_max,
                doors: parts.doors(),
            });
            let mut socket = Socket::new(socket, metrics.clone())?;
            poll.registry().register(socket.source(), SOCKET, Interest::READABLE | Interest::WRITABLE)?;
            let buffer = vec![0; BATCH_SIZE * socket.train_bytes()].into();
            drivers.push(Self {
                poll,
                events: Events::with_capacity(8),
                socket,
                hub,
                steer,
                number,
                post: post.clone(),
                letters: VecDeque::new(),
                buffer,
                metrics: metrics.clone(),
                control: None,
                readable: true,
            });
            all_metrics.push(metrics);
        }
        Ok(Group { drivers, wakers, metrics: all_metrics, local_addr })
    }

    /// Takes nobody new once `control` says stop, and no more from one address than `gate` lets in.
    pub(crate) fn enter(&mut self, control: Arc<Control>, gate: Arc<Mutex<Gate>>) {
        self.control = Some(control);
        self.hub.judge_by(Box::new(move |ip| gate.lock().admit(ip)));
    }

    /// Receives within the budget of a turn.
    fn receive(&mut self, now: Instant) {
        let train_bytes = self.socket.train_bytes();
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        for _ in 0..RECEIVES_PER_TURN {
            let received = {
                let mut trains = self.buffer.chunks_mut(train_bytes);
                let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                    std::array::from_fn(|_| IoSliceMut::new(trains.next().unwrap_or_default()));
                self.socket.receive(&mut slices, &mut metas)
            };
            let count = match received {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    return;
                }
                // The answer to something that was sent before: the next call goes on.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::Interrupted) => continue,
                Err(error) => {
                    // What comes later tells so.
                    tracing::warn!(%error, "cannot receive datagrams");
                    self.readable = false;
                    return;
                }
            };
            for (at, meta) in metas.iter().take(count).enumerate() {
                let train = at * train_bytes..at * train_bytes + meta.len.min(train_bytes);
                let origin = Origin {
                    remote: meta.addr,
                    local_ip: meta.dst_ip,
                    ecn: meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8)),
                };
                for from in train.clone().step_by(meta.stride.max(1)) {
                    let to = train.end.min(from + meta.stride.max(1));
                    let datagram = BytesMut::from(&self.buffer[from..to]);
                    self.sort(origin, datagram, now);
                }
            }
        }
    }

    /// Takes a datagram in, or hands it to the shard it belongs to.
    fn sort(&mut self, origin: Origin, bytes: BytesMut, now: Instant) {
        self.metrics.datagrams_in(1);
        match self.steer.shard(&bytes) {
            None => self.metrics.dropped_stray(1),
            Some(shard) if shard == self.number => self.hub.datagram(origin, bytes, now, &mut self.socket),
            Some(shard) => {
                if self.post.send(shard, Letter { origin, bytes }) {
                    self.metrics.forwarded(1);
                } else {
                    self.metrics.dropped_forward(1);
                }
            }
        }
    }

    /// Takes in what other shards handed on.
    fn open_letters(&mut self, now: Instant) {
        self.post.take(self.number, &mut self.letters);
        while let Some(Letter { origin, bytes }) = self.letters.pop_front() {
            self.hub.datagram(origin, bytes, now, &mut self.socket);
        }
    }
}

impl Driver for QuicDriver {
    type Conn = QuicConn;

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn unix_ms(&self) -> u64 {
        // Before 1970 no token is expired.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let now = self.now();
        self.hub.flush(now, &mut self.socket);
        let due = self.hub.next_deadline().map(|due| due.saturating_duration_since(now));
        let mut timeout = [timeout, due].into_iter().flatten().min();
        if self.readable || self.hub.is_busy() {
            // No event will come for what is there already.
            timeout = Some(Duration::ZERO);
        }
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        self.readable |= self.events.iter().any(|event| event.token() == SOCKET && event.is_readable());
        self.events.clear();
        Ok(())
    }

    fn gather(&mut self, span: Duration) {
        let now = self.now();
        self.hub.flush(now, &mut self.socket);
        if !self.readable && !self.hub.is_busy() {
            std::thread::sleep(span);
        }
    }

    fn deliver<S: Sink<Conn = QuicConn>>(&mut self, sink: &mut S) -> bool {
        let now = self.now();
        if self.control.as_ref().is_some_and(|control| control.stopped()) {
            self.hub.stop();
        }
        if self.readable {
            self.receive(now);
        }
        self.open_letters(now);
        let more_timers = self.hub.run_timers(now);
        let more = self.hub.deliver(now, sink);
        more || more_timers || self.readable
    }

    fn beginning(&self, conn: &QuicConn) -> Beginning {
        Beginning::Session { datagrams: conn.datagrams }
    }

    fn attach(&mut self, key: SessionKey, conn: QuicConn) -> io::Result<()> {
        self.hub.attach(key, &conn)
    }

    fn refuse(&mut self, conn: QuicConn, _: &[u8]) {
        let now = self.now();
        self.hub.refuse(&conn, now);
    }

    fn write(&mut self, key: SessionKey, outbound: &Outbound) -> io::Result<usize> {
        let now = self.now();
        self.hub.write(key, outbound, now)
    }

    fn flush<S: Sink<Conn = QuicConn>>(&mut self, _: &mut S) {
        let now = self.now();
        self.hub.flush(now, &mut self.socket);
    }

    fn pause(&mut self, key: SessionKey) {
        self.hub.pause(key);
    }

    fn resume(&mut self, key: SessionKey) {
        self.hub.resume(key);
    }

    fn close(&mut self, key: SessionKey) {
        self.close_with(key, CloseCode::Normal);
    }

    fn close_with(&mut self, key: SessionKey, code: CloseCode) {
        let now = self.now();
        self.hub.close(key, code, now);
    }

    fn datagram(&mut self, key: SessionKey, bytes: &Bytes) -> bool {
        self.hub.send_datagram(key, bytes)
    }

    fn page(&mut self, key: SessionKey, bytes: &Bytes) -> bool {
        self.hub.send_page(key, bytes)
    }

    fn connections(&self) -> usize {
        self.hub.attached()
    }

    fn lingering(&self) -> usize {
        self.hub.closing()
    }

    fn keys(&self) -> Vec<SessionKey> {
        self.hub.keys()
    }
}

/// Who is still here is told why the server goes.
impl Drop for QuicDriver {
    fn drop(&mut self) {
        let now = self.now();
        self.hub.close_all(now);
        while self.hub.has_unsent() {
            self.hub.flush(now, &mut self.socket);
        }
    }
}
