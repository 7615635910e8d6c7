//! TLS between a driver and a shard: a driver around any other.
//!
//! Invariants:
//! - the first byte of a connection decides: 22 begins a handshake, anything else is plain;
//! - plaintext counts as written when all its ciphertext is: until then the shard holds it, as for a driver whose sends are
//!   under way, and at most one record of it is encrypted ahead;
//! - a plain connection has nothing here once it has sent a byte; one with TLS has no buffer while nothing is cut or blocked;
//! - the driver inside is not called while it delivers: what follows from that is done right after, by `settle`.
//!
//! Absent on purpose: time. A handshake has to end within the time that the shard gives a request head.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use roost_edge_core::driver::{Beginning, Driver, Sink};
use roost_edge_core::{End, Outbound};
use roost_wire::link::SessionKey;
use roost_wire::ws::handshake;
use rustls::ServerConfig;

use super::broken::Reason;
use super::metrics::TlsMetrics;
use super::record::{OVERHEAD_BYTES, PLAIN_BYTES_MAX, Records};
use super::secrets::Catcher;
use super::session::Session;
use crate::driver::table::{Row, Table};

/// The first byte of a record of a handshake.
const HANDSHAKE: u8 = 22;
/// What a TLS client is told that there is no room for: the fatal alert `internal_error` (RFC 8446 §6.2).
pub(crate) const NO_ROOM: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];
/// What a plain client is told.
const SPEAK_TLS: &str = "this port speaks TLS: use https:// or wss://";
/// How often a flush looks at what came of it.
const FLUSHES: usize = 3;

/// How a port speaks TLS.
#[derive(Clone, Debug)]
pub struct TlsSetup {
    /// Certificates, versions, application protocols. Secrets may be taken from it: see [`TlsSetup::new`].
    config: Arc<ServerConfig>,
    /// Whether those who begin without TLS are served as well.
    plaintext: bool,
}

impl TlsSetup {
    /// TLS by `config`; `plaintext`: whether plain HTTP is served on the same port.
    #[must_use]
    pub fn new(mut config: ServerConfig, plaintext: bool) -> Self {
        // The record layer takes the keys of a session over after its handshake, and what they are made of.
        config.enable_secret_extraction = true;
        config.key_log = Arc::new(Catcher);
        Self { config: Arc::new(config), plaintext }
    }

    /// Whether plain HTTP is served on the same port.
    pub(crate) const fn takes_plaintext(&self) -> bool {
        self.plaintext
    }
}

/// A driver whose connections may speak TLS.
pub struct TlsDriver<D> {
    inner: D,
    side: Side,
}

/// Everything but the driver inside.
struct Side {
    setup: TlsSetup,
    peers: Table<Peer>,
    /// Who has something to be sent, or is to be let go; each at most once.
    todo: Vec<SessionKey>,
    metrics: Arc<TlsMetrics>,
}

/// A connection that is not known to be plain.
struct Peer {
    /// One more than the generation of its key.
    mark: NonZeroU32,
    /// `None`: it has said nothing yet.
    tls: Option<Box<Tls>>,
}

const _: () = assert!(size_of::<Option<Peer>>() == 16);

struct Tls {
    session: Session,
    /// Ciphertext that is not out: one record, or what a handshake says at once.
    cipher: Outbound,
    /// Bytes in front of the shard's queue whose ciphertext is the end of `cipher`.
    pending: usize,
    /// It is to be let go, and the shard to be told.
    leaving: Option<End>,
    /// It stands in `todo`.
    queued: bool,
    /// Its handshake is over: it counts as open.
    open: bool,
    /// Its handshake failed, and was counted.
    failed: bool,
    /// The shard knows that the peer sends no more, and keeps it.
    half_closed: bool,
}

const _: () = assert!(size_of::<Tls>() <= 112);

/// What a session of TLS 1.3 takes while nothing is on its way: itself and its keys, nothing else.
pub(super) const SESSION_BYTES: u64 = (size_of::<Tls>() + size_of::<Records>()) as u64;

impl Row for Peer {
    fn generation(&self) -> u32 {
        self.mark.get() - 1
    }
}

impl Peer {
    const fn new(key: SessionKey) -> Self {
        Self { mark: NonZeroU32::MIN.saturating_add(key.generation()), tls: None }
    }
}

impl Tls {
    fn new(session: Session) -> Self {
        Self {
            session,
            cipher: Outbound::default(),
            pending: 0,
            leaving: None,
            queued: false,
            open: false,
            failed: false,
            half_closed: false,
        }
    }

    fn push(&mut self, out: Vec<u8>) {
        // What is kept is to be no larger than what is in it.
        let out = if out.capacity() > out.len() + 64 { Bytes::copy_from_slice(&out) } else { Bytes::from(out) };
        self.cipher.push(out);
    }

    /// Writes ciphertext as far as it goes. True: nothing is left of it.
    fn pump<D: Driver>(&mut self, inner: &mut D, key: SessionKey) -> io::Result<bool> {
        while !self.cipher.is_empty() {
            match inner.write(key, &self.cipher)? {
                0 => return Ok(false),
                n => self.cipher.advance(n),
            };
        }
        Ok(true)
    }

    /// Ciphertext is out: tells what that means for the shard.
    fn pumped<S: Sink>(&mut self, key: SessionKey, sink: &mut S) {
        match std::mem::take(&mut self.pending) {
            0 if self.session.is_open() => sink.writable(key),
            0 => {}
            pending => sink.sent(key, pending),
        }
    }
}

impl Side {
    fn tls(&mut self, key: SessionKey) -> Option<&mut Tls> {
        self.peers.get(key)?.tls.as_deref_mut()
    }

    /// Puts `key` into the list of what is to be done.
    fn queue(&mut self, key: SessionKey) {
        if let Some(tls) = self.tls(key)
            && !std::mem::replace(&mut tls.queued, true)
        {
            self.todo.push(key);
        }
    }

    /// The connection is gone.
    fn forget(&mut self, key: SessionKey) {
        let Some(tls) = self.peers.take(key).and_then(|peer| peer.tls) else { return };
        if tls.open {
            self.metrics.closed();
        } else if !tls.failed {
            self.metrics.failed(Reason::Ended);
        }
    }

    /// The first byte of `key` came. False: it is plain.
    fn begin(&mut self, key: SessionKey, first: u8) -> bool {
        let Some(peer) = self.peers.get(key) else { return false };
        if first != HANDSHAKE && self.setup.plaintext {
            self.peers.take(key);
            return false;
        }
        let reason = match Session::new(&self.setup.config) {
            Ok(session) => {
                let tls = peer.tls.insert(Box::new(Tls::new(session)));
                if first == HANDSHAKE {
                    return true;
                }
                tls.push(handshake::refusal(400, SPEAK_TLS).to_vec());
                tls.failed = true;
                tls.leaving = Some(End::Eof);
                Reason::Plaintext
            }
            Err(broken) => broken.reason,
        };
        self.metrics.failed(reason);
        self.queue(key);
        true
    }
}

/// The shard's sink, with plaintext.
struct Through<'a, S> {
    side: &'a mut Side,
    sink: &'a mut S,
}

impl<S: Sink> Sink for Through<'_, S> {
    type Conn = S::Conn;

    fn accepted(&mut self, conn: S::Conn, peer: SocketAddr) {
        self.sink.accepted(conn, peer);
    }

    fn received(&mut self, key: SessionKey, bytes: &mut [u8]) {
        let waits = self.side.peers.get(key).map(|peer| peer.tls.is_none());
        let first = bytes.first().copied().unwrap_or(HANDSHAKE);
        match waits {
            None => return self.sink.received(key, bytes),
            Some(true) if !self.side.begin(key, first) => return self.sink.received(key, bytes),
            Some(_) => {}
        }
        let Some(tls) = self.side.peers.get(key).and_then(|peer| peer.tls.as_deref_mut()) else { return };
        if tls.leaving.is_some() {
            return;
        }
        let (mut out, mut quiet) = (Vec::new(), false);
        let result = tls.session.receive(bytes, &mut out, &mut |plain| self.sink.received(key, plain));
        match result {
            Ok(progress) => {
                if let Some(kind) = progress.shaken {
                    tls.open = true;
                    self.side.metrics.shaken(kind);
                }
                if progress.ended && !tls.half_closed {
                    tls.half_closed = true;
                    quiet = true;
                    if !self.sink.half_closed(key) {
                        tls.session.close_notify(&mut out);
                        tls.leaving = Some(End::Eof);
                    }
                }
            }
            Err(broken) => {
                if tls.open {
                    self.side.metrics.broke();
                } else {
                    tls.failed = true;
                    self.side.metrics.failed(broken.reason);
                }
                tls.leaving = Some(End::Error);
            }
        }
        let sends = !out.is_empty();
        if sends {
            tls.push(out);
        }
        if sends || quiet || tls.leaving.is_some() {
            self.side.queue(key);
        }
    }

    fn datagram(&mut self, key: SessionKey, bytes: &mut [u8]) {
        self.sink.datagram(key, bytes);
    }

    fn sent(&mut self, key: SessionKey, n: usize) {
        let Some(tls) = self.side.tls(key) else { return self.sink.sent(key, n) };
        tls.cipher.advance(n.min(tls.cipher.bytes()));
        if tls.cipher.is_empty() {
            tls.pumped(key, self.sink);
        } else {
            self.side.queue(key);
        }
    }

    fn writable(&mut self, key: SessionKey) {
        match self.side.tls(key) {
            Some(tls) if !tls.cipher.is_empty() => self.side.queue(key),
            _ => self.sink.writable(key),
        }
    }

    fn half_closed(&mut self, key: SessionKey) -> bool {
        let Some(peer) = self.side.peers.get(key) else { return self.sink.half_closed(key) };
        match peer.tls.as_deref_mut() {
            None if self.side.setup.plaintext => self.sink.half_closed(key),
            // Nobody can be answered before the end of a handshake.
            None => false,
            Some(tls) if tls.leaving.is_some() || !tls.session.is_open() => false,
            // It said its end before, by an alert.
            Some(tls) if tls.half_closed => true,
            Some(tls) => {
                tls.half_closed = true;
                self.sink.half_closed(key)
            }
        }
    }

    fn ended(&mut self, key: SessionKey, end: End) {
        self.side.forget(key);
        self.sink.ended(key, end);
    }
}

impl<D: Driver> TlsDriver<D> {
    /// Puts TLS around `inner`, counting in `metrics`.
    pub const fn new(inner: D, setup: TlsSetup, metrics: Arc<TlsMetrics>) -> Self {
        Self { inner, side: Side { setup, peers: Table::new(), todo: Vec::new(), metrics } }
    }

    /// The driver inside.
    pub const fn inner_mut(&mut self) -> &mut D {
        &mut self.inner
    }

    /// Does what followed from what the driver inside delivered.
    fn settle<S: Sink<Conn = D::Conn>>(&mut self, sink: &mut S) {
        let mut todo = std::mem::take(&mut self.side.todo);
        for key in todo.drain(..) {
            let Some(tls) = self.side.tls(key) else { continue };
            tls.queued = false;
            let leaving = tls.leaving;
            if tls.half_closed {
                // Nothing of it is read any more, and a reset is told all the same.
                self.inner.pause(key);
            }
            match tls.pump(&mut self.inner, key) {
                Ok(true) if leaving.is_none() => tls.pumped(key, sink),
                Ok(_) => {}
                Err(_) => {
                    self.side.forget(key);
                    sink.ended(key, End::Error);
                    continue;
                }
            }
            if let Some(end) = leaving {
                self.side.forget(key);
                self.inner.close(key);
                sink.ended(key, end);
            }
        }
        if self.side.todo.is_empty() {
            // Only its room is used again.
            self.side.todo = todo;
        }
    }
}

impl<D: Driver> Driver for TlsDriver<D> {
    type Conn = D::Conn;

    fn begin(&mut self) -> io::Result<()> {
        self.inner.begin()
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn unix_ms(&self) -> u64 {
        self.inner.unix_ms()
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.inner.wait(if self.side.todo.is_empty() { timeout } else { Some(Duration::ZERO) })
    }

    fn gather(&mut self, span: Duration) {
        self.inner.gather(span);
    }

    fn deliver<S: Sink<Conn = D::Conn>>(&mut self, sink: &mut S) -> bool {
        let more = self.inner.deliver(&mut Through { side: &mut self.side, sink });
        self.settle(sink);
        more || !self.side.todo.is_empty()
    }

    fn beginning(&self, conn: &D::Conn) -> Beginning {
        self.inner.beginning(conn)
    }

    fn attach(&mut self, key: SessionKey, conn: D::Conn) -> io::Result<()> {
        self.inner.attach(key, conn)?;
        self.side.peers.put(key.slot(), Peer::new(key));
        Ok(())
    }

    fn refuse(&mut self, conn: D::Conn, answer: &[u8]) {
        self.inner.refuse(conn, if self.side.setup.plaintext { answer } else { &NO_ROOM });
    }

    fn write(&mut self, key: SessionKey, outbound: &Outbound) -> io::Result<usize> {
        let Some(peer) = self.side.peers.get(key) else { return self.inner.write(key, outbound) };
        let tls = match peer.tls.as_deref_mut() {
            None if self.side.setup.plaintext => return self.inner.write(key, outbound),
            Some(tls) if tls.leaving.is_none() && tls.session.is_open() => tls,
            // Whoever hears the shard before the end of a handshake could not understand it: a farewell to nobody.
            _ => return Ok(outbound.bytes()),
        };
        loop {
            match tls.pump(&mut self.inner, key) {
                Ok(true) => {}
                Ok(false) => return Ok(0),
                Err(error) => {
                    self.side.forget(key);
                    return Err(error);
                }
            }
            if tls.pending > 0 {
                return Ok(std::mem::take(&mut tls.pending));
            }
            let mut out = Vec::with_capacity(outbound.bytes().min(PLAIN_BYTES_MAX) + OVERHEAD_BYTES);
            match tls.session.seal(outbound.chunks(), &mut out) {
                Ok(0) => return Ok(0),
                Ok(taken) => {
                    tls.pending = taken;
                    tls.push(out);
                }
                Err(_) => {
                    tls.leaving = Some(End::Error);
                    self.side.queue(key);
                    return Ok(0);
                }
            }
        }
    }

    fn flush<S: Sink<Conn = D::Conn>>(&mut self, sink: &mut S) {
        self.inner.flush(&mut Through { side: &mut self.side, sink });
        for _ in 0..FLUSHES {
            if self.side.todo.is_empty() {
                return;
            }
            self.settle(sink);
            self.inner.flush(&mut Through { side: &mut self.side, sink });
        }
    }

    fn pause(&mut self, key: SessionKey) {
        self.inner.pause(key);
    }

    fn resume(&mut self, key: SessionKey) {
        self.inner.resume(key);
    }

    fn close(&mut self, key: SessionKey) {
        if let Some(tls) = self.side.tls(key) {
            let mut out = Vec::new();
            // Behind half a record that the shard gave up nothing can be said.
            if tls.cipher.is_empty() {
                tls.session.close_notify(&mut out);
                tls.push(out);
                // Best effort, and who failed has nothing left to be closed.
                let _ = tls.pump(&mut self.inner, key);
            }
        }
        self.side.forget(key);
        self.inner.close(key);
    }

    fn connections(&self) -> usize {
        self.inner.connections()
    }

    fn keys(&self) -> Vec<SessionKey> {
        self.inner.keys()
    }
}
