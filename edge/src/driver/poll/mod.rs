//! Readiness by mio: epoll on Linux, kqueue on the BSDs and macOS. The portable driver.
//!
//! Invariants:
//! - a connection owns sixteen bytes here and no buffer: all share one, lent per read, and for writes of many pieces;
//! - notifications are edge-triggered, so whoever was not read empty stands in `ready` (or is paused and remembers it);
//! - a connection is read once per turn, so at most [`READ_BYTES_MAX`] bytes of it delay the others.

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "a thread gets a table of descriptors of its own")]
mod hatch;
mod socket;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::{Events, Interest, Poll, Token, Waker};
use roost_edge_core::driver::{Driver, Sink, Wake};
use roost_edge_core::{End, Outbound};
use roost_wire::link::SessionKey;

use self::socket::Socket;
use super::flags::Flags;
use super::linger::Linger;
use super::table::Table;

#[cfg(target_os = "linux")]
pub(crate) use self::hatch::Hatch;
pub use super::conn::Conn;

/// Only Linux lets a thread have descriptors of its own.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(crate) enum Hatch {}

#[cfg(not(target_os = "linux"))]
impl Hatch {
    pub(crate) const fn give(&self, _: &TcpStream) -> io::Result<()> {
        match *self {}
    }
}

/// Bytes read from one connection per turn: the size of the lent buffer.
pub const READ_BYTES_MAX: usize = 64 * 1024;
/// Reads per turn, of all connections.
const READS_PER_TURN: usize = 1024;
/// Bytes read per turn, of all connections; the last read may go beyond it.
const BYTES_PER_TURN: usize = 2 << 20;
/// Events fetched per turn.
const EVENTS_PER_TURN: usize = 1024;
/// Slices per gathered write. The kernel takes up to 1024, but copying their addresses has a price too.
const SLICES_PER_WRITE: usize = 64;
/// Several small frames are copied into one piece up to this many bytes: cheaper than a list of slices.
const COPIED_BYTES_MAX: usize = 4096;
/// Sockets kept at most after we said the end: each is a descriptor.
const LINGERING_MAX: usize = 1024;
const WAKE: Token = Token(usize::MAX);

/// The readiness driver of one shard.
pub struct PollDriver {
    poll: Poll,
    events: Events,
    shard: u16,
    sockets: Table<Socket>,
    /// Who may have bytes to read, each at most once.
    ready: VecDeque<SessionKey>,
    buffer: Box<[u8]>,
    linger: Linger<Conn>,
    /// Where connections come from if this shard has descriptors of its own.
    #[cfg(target_os = "linux")]
    hatchway: Option<hatch::Hatchway>,
}

/// Wakes a [`PollDriver`].
pub struct PollWaker(Waker);

impl From<Waker> for PollWaker {
    fn from(waker: Waker) -> Self {
        Self(waker)
    }
}

impl Wake for PollWaker {
    fn wake(&self) {
        if let Err(error) = self.0.wake() {
            tracing::error!(%error, "cannot wake a thread");
        }
    }
}

impl PollDriver {
    /// The driver of `shard`, and what wakes it.
    ///
    /// # Errors
    /// No descriptor is left, most likely.
    pub fn new(shard: u16) -> io::Result<(Self, Arc<PollWaker>)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let driver = Self {
            poll,
            events: Events::with_capacity(EVENTS_PER_TURN),
            shard,
            sockets: Table::new(),
            ready: VecDeque::new(),
            buffer: vec![0; READ_BYTES_MAX].into(),
            linger: Linger::new(LINGERING_MAX),
            #[cfg(target_os = "linux")]
            hatchway: None,
        };
        Ok((driver, Arc::new(PollWaker(waker))))
    }

    /// Lets its thread have descriptors of its own, so that the limit counts its connections alone. They come through the
    /// hatch then.
    ///
    /// # Errors
    /// No descriptor is left, most likely.
    #[cfg(target_os = "linux")]
    pub(crate) fn open_hatch(&mut self) -> io::Result<Hatch> {
        let (hatch, hatchway) = hatch::pair()?;
        self.hatchway = Some(hatchway);
        Ok(hatch)
    }

    /// Elsewhere no thread can.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn open_hatch(&mut self) -> io::Result<Hatch> {
        Err(ErrorKind::Unsupported.into())
    }

    /// The socket of `conn`, whichever way it comes.
    fn socket(&self, conn: &mut Conn) -> io::Result<TcpStream> {
        if let Some(stream) = conn.take_stream() {
            return Ok(stream);
        }
        #[cfg(target_os = "linux")]
        if let Some(hatchway) = &self.hatchway {
            return hatchway.take();
        }
        Err(ErrorKind::NotConnected.into())
    }

    /// Notes what the last wait brought.
    fn note<S: Sink<Conn = Conn>>(&mut self, sink: &mut S) {
        for event in &self.events {
            if event.token() == WAKE {
                continue;
            }
            let key = key(self.shard, event.token());
            let Some(socket) = self.sockets.get(key) else { continue };
            let dead = event.is_error() || (event.is_read_closed() && event.is_write_closed());
            if dead && socket.flags.has(Flags::PAUSED) {
                // A reset. Nobody reads, so nobody else would notice; what is unread is lost with it.
                self.sockets.take(key);
                sink.ended(key, End::Error);
                continue;
            }
            if event.is_writable() && socket.flags.has(Flags::BLOCKED) {
                socket.flags.clear(Flags::BLOCKED);
                sink.writable(key);
            }
            if event.is_readable() || event.is_read_closed() || dead {
                socket.flags.set(Flags::READABLE);
                if event.is_read_closed() || dead {
                    socket.flags.set(Flags::ENDING);
                }
                if socket.flags.may_queue() {
                    self.ready.push_back(key);
                }
            }
        }
        self.events.clear();
    }

    /// Reads once from `key`. Returns how many bytes that brought.
    fn read<S: Sink<Conn = Conn>>(&mut self, key: SessionKey, sink: &mut S) -> usize {
        let Some(socket) = self.sockets.get(key) else { return 0 };
        socket.flags.clear(Flags::QUEUED);
        if !socket.flags.has(Flags::READABLE) || socket.flags.has(Flags::PAUSED) {
            return 0;
        }
        match socket.stream.read(&mut self.buffer) {
            Ok(0) if sink.half_closed(key) => {
                // Nothing is left to be read, and everything may still be written.
                socket.flags.clear(Flags::READABLE);
                socket.flags.set(Flags::PAUSED);
            }
            Ok(0) => self.end(key, End::Eof, sink),
            Ok(n) => {
                // A short read has emptied the socket (epoll(7)), unless its end is already known to stand behind.
                if n < self.buffer.len() && !socket.flags.has(Flags::ENDING) {
                    socket.flags.clear(Flags::READABLE);
                } else if socket.flags.may_queue() {
                    self.ready.push_back(key);
                }
                sink.received(key, &mut self.buffer[..n]);
                return n;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => socket.flags.clear(Flags::READABLE),
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                if socket.flags.may_queue() {
                    self.ready.push_back(key);
                }
            }
            Err(_) => self.end(key, End::Error, sink),
        }
        0
    }

    fn end<S: Sink<Conn = Conn>>(&mut self, key: SessionKey, end: End, sink: &mut S) {
        self.sockets.take(key);
        sink.ended(key, end);
    }
}

impl Driver for PollDriver {
    type Conn = Conn;

    fn begin(&mut self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if self.hatchway.is_some() {
            hatch::own_table()?;
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn unix_ms(&self) -> u64 {
        // Before 1970 no token is expired.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut timeout = timeout;
        if let Some(deadline) = self.linger.next_deadline() {
            let now = Instant::now();
            while self.linger.over(now).is_some() {}
            let linger = deadline.saturating_duration_since(now);
            timeout = Some(timeout.map_or(linger, |timeout| timeout.min(linger)));
        }
        if !self.ready.is_empty() {
            // No event will come for what is there already.
            timeout = Some(Duration::ZERO);
        }
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    fn gather(&mut self, span: Duration) {
        if self.ready.is_empty() {
            std::thread::sleep(span);
        }
    }

    fn deliver<S: Sink<Conn = Conn>>(&mut self, sink: &mut S) -> bool {
        self.note(sink);
        let mut bytes = 0;
        // Whoever has more goes to the end of the list, for the next turn.
        for _ in 0..self.ready.len().min(READS_PER_TURN) {
            let Some(key) = self.ready.pop_front() else { break };
            bytes += self.read(key, sink);
            if bytes >= BYTES_PER_TURN {
                break;
            }
        }
        !self.ready.is_empty()
    }

    fn attach(&mut self, key: SessionKey, mut conn: Conn) -> io::Result<()> {
        let mut stream = mio::net::TcpStream::from_std(self.socket(&mut conn)?);
        // Both interests once and for all: an edge costs nothing until the state changes.
        self.poll.registry().register(&mut stream, token(key), Interest::READABLE | Interest::WRITABLE)?;
        self.sockets.put(key.slot(), Socket::new(stream, conn.permit, key));
        Ok(())
    }

    fn refuse(&mut self, mut conn: Conn, answer: &[u8]) {
        let Ok(mut stream) = self.socket(&mut conn) else { return };
        // Best effort: a fresh socket has room for a short answer, and a peer that is gone needs none.
        let _ = stream.write(answer);
        if stream.shutdown(Shutdown::Write).is_ok() {
            conn.stream = Some(stream);
            drop(self.linger.keep(conn, Instant::now()));
        }
    }

    fn write(&mut self, key: SessionKey, outbound: &Outbound) -> io::Result<usize> {
        let Some(socket) = self.sockets.get(key) else { return Ok(0) };
        if socket.flags.has(Flags::BLOCKED) {
            return Ok(0);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_PER_WRITE];
        let (mut count, mut len) = (0, 0);
        for (slot, chunk) in slices.iter_mut().zip(outbound.chunks()) {
            *slot = IoSlice::new(chunk);
            count += 1;
            len += chunk.len();
        }
        let result = match &slices[..count] {
            [] => return Ok(0),
            [one] => socket.stream.write(one),
            many if len <= COPIED_BYTES_MAX => {
                let mut at = 0;
                for slice in many {
                    self.buffer[at..at + slice.len()].copy_from_slice(slice);
                    at += slice.len();
                }
                socket.stream.write(&self.buffer[..at])
            }
            many => socket.stream.write_vectored(many),
        };
        match result {
            Ok(n) => {
                // A short write has filled the socket (epoll(7)): an event will tell when there is room again.
                if n < len {
                    socket.flags.set(Flags::BLOCKED);
                }
                Ok(n)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                socket.flags.set(Flags::BLOCKED);
                Ok(0)
            }
            Err(error) => {
                self.sockets.take(key);
                Err(error)
            }
        }
    }

    fn pause(&mut self, key: SessionKey) {
        if let Some(socket) = self.sockets.get(key) {
            socket.flags.set(Flags::PAUSED);
        }
    }

    fn resume(&mut self, key: SessionKey) {
        if let Some(socket) = self.sockets.get(key) {
            socket.flags.clear(Flags::PAUSED);
            if socket.flags.may_queue() {
                self.ready.push_back(key);
            }
        }
    }

    fn close(&mut self, key: SessionKey) {
        let Some(socket) = self.sockets.take(key) else { return };
        // Closing while bytes of the peer are unread, or still come, resets the connection, and the reset may
        // overtake what we sent last. So say the end first, and close a moment later. Whoever has ended or failed
        // already can be closed at once.
        if socket.stream.shutdown(Shutdown::Write).is_ok() && !socket.flags.has(Flags::ENDING) {
            drop(self.linger.keep(socket.into_conn(), Instant::now()));
        }
    }

    fn connections(&self) -> usize {
        self.sockets.len()
    }

    fn keys(&self) -> Vec<SessionKey> {
        self.sockets.keys(self.shard).collect()
    }
}

/// Slot and generation; the shard goes without saying.
fn token(key: SessionKey) -> Token {
    const { assert!(usize::BITS >= 64, "a token holds 54 bits") };
    Token((key.generation() as usize) << 28 | key.slot() as usize)
}

fn key(shard: u16, token: Token) -> SessionKey {
    SessionKey::new(shard, (token.0 % SessionKey::SLOTS_MAX as usize) as u32, (token.0 >> 28) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_keep_slot_and_generation() {
        for (slot, generation) in [(0, 0), (7, 3), (SessionKey::SLOTS_MAX - 1, SessionKey::GENERATIONS - 1)] {
            let original = SessionKey::new(5, slot, generation);
            assert_eq!(key(5, token(original)), original);
            assert_ne!(token(original), WAKE);
        }
    }
}
