//! The endpoint of a shard and its connections, without a socket and without a clock.
//!
//! Datagrams come in by [`Hub::datagram`] and leave through a [`Port`]; what became of them is told to a
//! [`Sink`](roost_edge_core::driver::Sink). Whoever has a socket is above; a simulation could be.
//!
//! - here: datagrams in, events of connections, timers;
//! - `lane`: the stream that carries a session, and datagrams beside it;
//! - `young`: connections that are no session yet, and how many there may be;
//! - `web`: sessions by WebTransport, whose stream is one among those of HTTP/3;
//! - `pages`: streams beside it, for pages of history;
//! - `outgoing`: datagrams out;
//! - `moves`: how often a connection may come from elsewhere.
//!
//! Invariants:
//! - a connection stands in a list at most once, and its flag says so;
//! - nothing is kept of a connection that is drained;
//! - a turn reads a connection once, and sends a bounded number of datagrams of it before the next.

mod lane;
mod moves;
mod outgoing;
mod pages;
#[cfg(test)]
mod tests;
mod web;
mod young;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quinn_proto::{
    ConnectionError, ConnectionHandle, DatagramEvent, Dir, EcnCodepoint, Endpoint, EndpointEvent, Event, StreamEvent,
    VarInt,
};
use roost_edge_core::driver::Sink;
use roost_edge_core::{End, Wheel};
use roost_wire::CloseCode;
use roost_wire::link::SessionKey;

pub(super) use self::lane::{Read, fill};
use self::outgoing::Outgoing;
pub(super) use self::outgoing::Port;
use self::young::Young;
use super::QuicConn;
use super::conns::{Conns, Flags, Handle, Stage, Ticks};
use super::h3::{self, Doors, Web};
use super::metrics::QuicMetrics;
use crate::driver::linger::Linger;
use crate::driver::table::Table;

/// Timers that one turn looks at.
const TIMERS_PER_TURN: usize = 1024;
/// Connections whose last words are on the way. Above, the oldest is closed early.
const LINGERING_MAX: usize = 65_536;
/// After so many datagrams without an answer the peer is made to acknowledge. Some clients acknowledge no packet that holds
/// acknowledgements alone, and each of those is kept until it is: 200 KB a connection, in time.
const UNANSWERED_MAX: u8 = 16;
/// When time in ticks is counted anew: long before it ends, after 24 days.
const TICKS_MAX: u32 = 1 << 31;

/// Where a datagram came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) remote: SocketAddr,
    pub(super) local_ip: Option<IpAddr>,
    pub(super) ecn: Option<EcnCodepoint>,
}

/// What a hub is made of.
pub(super) struct Setup {
    pub(super) endpoint: Endpoint,
    pub(super) shard: u16,
    pub(super) metrics: Arc<QuicMetrics>,
    pub(super) now: Instant,
    /// See [`super::QuicConfig`].
    pub(super) unproven_max: usize,
    pub(super) open_within: Duration,
    /// Connections that may have opened no stream.
    pub(super) young_max: usize,
    /// Whom WebTransport lets in.
    pub(super) doors: Doors,
}

/// The endpoint of one shard and its connections.
pub(super) struct Hub {
    endpoint: Endpoint,
    shard: u16,
    metrics: Arc<QuicMetrics>,
    conns: Conns,
    keys: Table<Handle>,
    /// What more there is of those that speak HTTP/3, by handle.
    webs: HashMap<u32, Box<Web>>,
    doors: Doors,
    wheel: Wheel,
    ticks: Ticks,
    /// Who has events to be looked at.
    stirred: VecDeque<u32>,
    /// Who may have something to be read.
    ready: VecDeque<u32>,
    young: Young,
    /// Whose last words are on the way.
    linger: Linger<(u32, u32)>,
    /// How many they are.
    closing: usize,
    outgoing: Outgoing,
    /// Handshakes that went on, and are not answered yet.
    greeted: Vec<u32>,
    /// For frames on their way to a connection.
    chunks: Vec<Bytes>,
    /// For bytes on their way from one.
    buffer: Box<[u8]>,
    serial: u32,
    /// Nobody new is taken.
    stopping: bool,
}

impl Hub {
    pub(super) fn new(setup: Setup) -> Self {
        let Setup { endpoint, shard, metrics, now, unproven_max, open_within, young_max, doors } = setup;
        Self {
            endpoint,
            shard,
            metrics,
            conns: Conns::default(),
            keys: Table::new(),
            webs: HashMap::new(),
            doors,
            wheel: Wheel::new(),
            ticks: Ticks::new(now),
            stirred: VecDeque::new(),
            ready: VecDeque::new(),
            young: Young::new(unproven_max, young_max, open_within),
            linger: Linger::new(LINGERING_MAX),
            closing: 0,
            outgoing: Outgoing::default(),
            greeted: Vec::new(),
            chunks: Vec::new(),
            buffer: vec![0; lane::READ_BYTES_MAX].into(),
            serial: 0,
            stopping: false,
        }
    }

    /// A datagram arrived. What is answered to strangers leaves at once.
    pub(super) fn datagram(&mut self, origin: Origin, bytes: BytesMut, now: Instant, port: &mut impl Port) {
        let Origin { remote, local_ip, ecn } = origin;
        let len = bytes.len();
        let answer = self.outgoing.answer();
        match self.endpoint.handle(now, remote, local_ip, ecn, bytes, answer) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                let handle = handle.0 as u32;
                if !self.may_come(handle, remote, len, now) {
                    return;
                }
                let Some(conn) = self.conns.get(handle) else { return };
                let before = conn.quic.remote_address();
                conn.quic.handle_event(event);
                if conn.quic.remote_address() != before {
                    self.moved(handle, now);
                }
                let Some(conn) = self.conns.get(handle) else { return };
                if remote == before {
                    conn.heard_bytes = conn.heard_bytes.saturating_add(len as u32);
                }
                let greets = conn.stage == Stage::Handshake;
                conn.unanswered += 1;
                if conn.unanswered >= UNANSWERED_MAX {
                    conn.unanswered = 0;
                    if matches!(conn.stage, Stage::Open | Stage::Carrying) {
                        conn.quic.ping();
                        self.metrics.pings(1);
                    }
                }
                self.stir(handle);
                if greets {
                    self.notice_h3(handle, now);
                    self.greet(handle, now, port);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => self.incoming(incoming, len, now, port),
            Some(DatagramEvent::Response(transmit)) => self.answer(&transmit, port),
            None => self.metrics.dropped_stray(1),
        }
    }

    /// Sends what the endpoint answers to a stranger, or drops it.
    fn answer(&self, transmit: &quinn_proto::Transmit, port: &mut impl Port) {
        if port.send(transmit, &self.outgoing.answered()[..transmit.size]) {
            self.metrics.datagrams_out(1);
        } else {
            self.metrics.dropped_answer(1);
        }
    }

    /// Looks at the connection before the turn ends.
    fn stir(&mut self, handle: u32) {
        if let Some(conn) = self.conns.get(handle)
            && conn.flags.raise(Flags::STIRRED)
        {
            self.stirred.push_back(handle);
        }
    }

    /// Runs what is due. True: more is.
    pub(super) fn run_timers(&mut self, now: Instant) -> bool {
        self.rebase(now);
        self.let_late_go(now);
        while let Some((handle, serial)) = self.linger.over(now) {
            self.say_code(handle, serial, now);
        }
        let tick = self.ticks.at(now);
        for _ in 0..TIMERS_PER_TURN {
            let Some(handle) = self.wheel.expired(tick) else { return false };
            let Some(conn) = self.conns.get(handle) else { continue };
            // What moves a deadline away does not arm the timer again.
            if conn.quic.poll_timeout().is_some_and(|due| due <= now) {
                conn.quic.handle_timeout(now);
                self.stir(handle);
            } else {
                self.arm(handle);
            }
        }
        self.wheel.next().is_some_and(|next| next <= tick)
    }

    /// Arms the timer of a connection, unless it goes off soon enough.
    fn arm(&mut self, handle: u32) {
        let due = self.conns.get(handle).and_then(|conn| conn.quic.poll_timeout());
        if let Some(due) = due {
            self.wheel.arm_by(handle, self.ticks.no_sooner(due));
        }
    }

    /// Counts time anew when it has been counted for too long.
    fn rebase(&mut self, now: Instant) {
        if self.ticks.at(now) < TICKS_MAX {
            return;
        }
        (self.wheel, self.ticks) = (Wheel::new(), Ticks::new(now));
        for handle in self.conns.handles() {
            if let Some(conn) = self.conns.get(handle) {
                conn.moves_until = 0;
            }
            self.arm(handle);
        }
    }

    /// Tells what happened. True: there is more.
    pub(super) fn deliver<S: Sink<Conn = QuicConn>>(&mut self, now: Instant, sink: &mut S) -> bool {
        self.drive_stirred(now, sink);
        let more = self.read_ready(now, sink);
        // Reading and ending may have stirred some.
        self.drive_stirred(now, sink);
        more
    }

    fn drive_stirred<S: Sink<Conn = QuicConn>>(&mut self, now: Instant, sink: &mut S) {
        while let Some(handle) = self.stirred.pop_front() {
            if let Some(conn) = self.conns.get(handle) {
                conn.flags.clear(Flags::STIRRED);
            }
            self.drive(handle, now, sink);
        }
    }

    /// Works off the events of a connection.
    fn drive<S: Sink<Conn = QuicConn>>(&mut self, handle: u32, now: Instant, sink: &mut S) {
        loop {
            while let Some(event) = self.conns.get(handle).and_then(|conn| conn.quic.poll_endpoint_events()) {
                let back = self.endpoint.handle_event(ConnectionHandle(handle as usize), event);
                if let (Some(conn), Some(back)) = (self.conns.get(handle), back) {
                    conn.quic.handle_event(back);
                }
            }
            let Some(event) = self.conns.get(handle).and_then(|conn| conn.quic.poll()) else { break };
            self.event(handle, event, now, sink);
        }
        match self.conns.get(handle) {
            None => {}
            Some(conn) if conn.quic.is_drained() => self.forget(handle),
            Some(_) => {
                self.arm(handle);
                self.unsent(handle);
            }
        }
    }

    fn event<S: Sink<Conn = QuicConn>>(&mut self, handle: u32, event: Event, now: Instant, sink: &mut S) {
        let Some(conn) = self.conns.get(handle) else { return };
        match event {
            Event::HandshakeDataReady | Event::DatagramsUnblocked => {}
            Event::Connected => {
                self.connected(handle, now);
                // Its first bytes may have overtaken the end of the handshake.
                self.lane_opened(handle, sink);
            }
            Event::ConnectionLost { reason } => self.lost(handle, &reason, sink),
            Event::Stream(StreamEvent::Readable { id }) if id == conn.lane() => self.readable(handle, now, sink),
            Event::Stream(StreamEvent::Opened { .. } | StreamEvent::Readable { .. }) if conn.flags.has(Flags::H3) => {
                self.web_turn(handle, now, sink);
            }
            Event::Stream(StreamEvent::Opened { dir: Dir::Bi }) => self.lane_opened(handle, sink),
            Event::Stream(StreamEvent::Writable { id }) if id == conn.lane() => {
                conn.flags.clear(Flags::BLOCKED);
                if let Some(key) = conn.key {
                    sink.writable(key);
                }
            }
            Event::Stream(StreamEvent::Finished { id }) if id == conn.lane() && !conn.flags.has(Flags::SAID) => {
                let serial = conn.serial;
                self.say_code(handle, serial, now);
            }
            Event::Stream(StreamEvent::Stopped { id, .. }) if id == conn.lane() => self.broken(handle, now, sink),
            Event::Stream(StreamEvent::Stopped { id, .. }) if conn.flags.has(Flags::H3) => {
                self.web_stopped(handle, id, now, sink);
            }
            Event::Stream(_) => {}
            Event::DatagramReceived => {
                conn.flags.set(Flags::DATAGRAMS);
                self.queue_read(handle);
            }
        }
    }

    /// The transport has ended, without us.
    fn lost<S: Sink<Conn = QuicConn>>(&mut self, handle: u32, reason: &ConnectionError, sink: &mut S) {
        let Some(conn) = self.conns.get(handle) else { return };
        let was = conn.stage;
        self.closed(handle);
        if was == Stage::Handshake {
            self.metrics.failed_handshake(1);
        }
        self.grown(handle);
        let end = match reason {
            ConnectionError::ApplicationClosed(_) => End::Eof,
            _ => End::Error,
        };
        self.end(handle, end, sink);
    }

    /// Takes the key away, and tells so.
    fn end<S: Sink<Conn = QuicConn>>(&mut self, handle: u32, end: End, sink: &mut S) {
        if let Some(key) = self.detach(handle) {
            sink.ended(key, end);
        }
    }

    /// Takes the key away.
    fn detach(&mut self, handle: u32) -> Option<SessionKey> {
        let key = self.conns.get(handle)?.key.take()?;
        self.keys.take(key);
        Some(key)
    }

    /// Ends a connection at once, and tells the peer `code`.
    fn close_now(&mut self, handle: u32, code: CloseCode, now: Instant) {
        self.closed(handle);
        let Some(conn) = self.conns.get(handle) else { return };
        let number = if conn.flags.has(Flags::H3) { h3::close_number(code) } else { code.number().into() };
        conn.quic.close(now, VarInt::from_u32(number), Bytes::from_static(code.text().as_bytes()));
        self.grown(handle);
        self.stir(handle);
    }

    /// Nothing is read or written any more.
    fn closed(&mut self, handle: u32) {
        if let Some(conn) = self.conns.get(handle)
            && let Stage::Closing(_) = std::mem::replace(&mut conn.stage, Stage::Closed)
        {
            self.closing -= 1;
        }
    }

    /// Drops a connection without a word.
    fn drop_silently(&mut self, handle: u32) {
        self.endpoint.handle_event(ConnectionHandle(handle as usize), EndpointEvent::drained());
        self.forget(handle);
    }

    /// Nothing is left of a connection: its handle may be given again.
    fn forget(&mut self, handle: u32) {
        self.grown(handle);
        self.closed(handle);
        self.wheel.disarm(handle);
        self.webs.remove(&handle);
        if self.conns.remove(handle).is_some() {
            self.metrics.closed(1);
        }
    }

    /// When to look again at the latest. `None`: nothing is timed.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let timer = self.wheel.next().map(|tick| self.ticks.instant(tick));
        [timer, self.young.next_deadline(), self.linger.next_deadline()].into_iter().flatten().min()
    }

    /// Whether there is something to do at once.
    pub(super) fn is_busy(&self) -> bool {
        !self.stirred.is_empty() || !self.ready.is_empty() || self.outgoing.is_due()
    }

    /// Takes nobody new from now on.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    /// How many keys are attached.
    pub(super) fn attached(&self) -> usize {
        self.keys.len()
    }

    /// How many connections wait until their last words have arrived.
    pub(super) fn closing(&self) -> usize {
        self.closing
    }

    /// Every attached key.
    pub(super) fn keys(&self) -> Vec<SessionKey> {
        self.keys.keys(self.shard).collect()
    }

    /// Connections that have opened no stream, and those of them whose address may be forged.
    pub(super) fn young(&self) -> (usize, usize) {
        (self.young.count, self.young.unproven)
    }

    /// Entries of all lists together.
    pub(super) fn listed(&self) -> usize {
        self.stirred.len() + self.ready.len() + self.greeted.len() + self.young.listed() + self.outgoing.listed()
    }

    /// Connections of every kind, those of which only the end is awaited included.
    pub(super) fn held(&self) -> usize {
        self.conns.len()
    }
}
