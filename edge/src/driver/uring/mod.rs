//! Completion by io_uring: the kernel is handed hundreds of sends or receives in one call. Linux 6.0 or later.
//!
//! - `ring`: entries in, completions out; `token`: whom a completion is for; `op`: one operation a file;
//! - `batch`: sends under way; `arena`: receive buffers; `socket`: a connection; `waker`: an eventfd;
//! - `probe`: whether this kernel allows it all.
//!
//! Invariants:
//! - sends and receives are told not to wait, so they end in the call that submits them; what is armed for longer is
//!   one poll a connection, which holds no memory of ours;
//! - a connection has at most one send under way, one receive and one poll, and stands in `ready` at most once;
//! - the kernel has every entry before a descriptor is closed, else its number might be another connection's by then;
//! - a completion finds its connection by slot and generation, or through a buffer or a place in the batch that is
//!   its own until then: a stale one finds nothing.
//!
//! Absent on purpose: provided buffers (no receive waits, so none needs a buffer for long), zero-copy sends (dearer
//! below several KiB), SQPOLL (takes a core).
#![deny(clippy::multiple_unsafe_ops_per_block)]

#[expect(unsafe_code, reason = "buffers that the kernel writes into")]
mod arena;
#[expect(unsafe_code, reason = "bytes that the kernel reads")]
mod batch;
#[expect(unsafe_code, reason = "entries say what the kernel reads and writes")]
mod op;
mod probe;
mod ring;
mod socket;
#[cfg(test)]
mod tests;
mod token;
mod waker;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use roost_edge_core::driver::{Driver, Sink};
use roost_edge_core::{End, Outbound};
use roost_wire::link::SessionKey;

use super::conn::Conn;
use super::linger::Linger;
use super::table::Table;

use self::arena::{Arena, BUFFER_BYTES};
use self::batch::Batch;
use self::op::poll::Report;
pub use self::probe::probe;
use self::ring::{Completion, Ring};
use self::socket::{Flags, Socket};
use self::token::Token;
pub use self::waker::UringWaker;

/// Receives per turn, of all connections.
const RECEIVES_PER_TURN: usize = 1024;
/// Bytes received per turn, of all connections; the last batch may go beyond it.
const BYTES_PER_TURN: usize = 2 << 20;

/// Sends of one submission: beyond some hundreds the caches are worse for it than the calls saved.
const SENDS_PER_SUBMISSION: usize = 256;

/// The completion driver of one shard.
pub struct UringDriver {
    ring: Ring,
    shard: u16,
    sockets: Table<Socket>,
    /// Who may have bytes to receive, each at most once.
    ready: VecDeque<SessionKey>,
    arena: Arena,
    batch: Batch,
    linger: Linger,
    waker: Arc<UringWaker>,
    waker_armed: bool,
    /// Entries that name a descriptor may wait to be submitted.
    named: bool,
    /// Why the ring cannot go on: the next wait says so.
    broken: Option<io::Error>,
}

impl UringDriver {
    /// The driver of `shard`, and what wakes it.
    ///
    /// # Errors
    /// What [`probe`] would find, or no descriptor or memory is left.
    pub fn new(shard: u16) -> io::Result<(Self, Arc<UringWaker>)> {
        let waker = Arc::new(UringWaker::new()?);
        let driver = Self {
            ring: Ring::new()?,
            shard,
            sockets: Table::new(),
            ready: VecDeque::new(),
            arena: Arena::new(),
            batch: Batch::default(),
            linger: Linger::default(),
            waker: waker.clone(),
            waker_armed: false,
            named: false,
            broken: None,
        };
        Ok((driver, waker))
    }

    /// Hands everything to the kernel. What it completes at once is there afterwards.
    fn submit(&mut self) {
        if let Err(error) = self.ring.submit() {
            self.broken.get_or_insert(error);
        }
        self.named = false;
    }

    /// Remembers whether an entry went in.
    fn entered(&mut self, result: io::Result<()>) -> bool {
        self.named = true;
        match result {
            Ok(()) => true,
            Err(error) => {
                self.broken.get_or_insert(error);
                false
            }
        }
    }

    /// Arms the poll of `key`.
    fn arm(&mut self, key: SessionKey) {
        let Some(socket) = self.sockets.get(key) else { return };
        let armed = op::poll::start(&mut self.ring, socket.stream.as_fd(), op::poll::SOCKET, Token::poll(key));
        self.entered(armed);
    }

    /// Arms the poll of the waker, if it is not.
    fn arm_waker(&mut self) {
        if !self.waker_armed {
            let armed = op::poll::start(&mut self.ring, self.waker.as_fd(), op::poll::WAKER, Token::Wake);
            self.waker_armed = self.entered(armed);
        }
    }

    /// Takes the socket of `key` out: from now on nothing is heard of it. `None`: the key is stale.
    fn detach(&mut self, key: SessionKey) -> Option<Socket> {
        let socket = self.sockets.take(key)?;
        if self.named {
            // A send that was taken is to go out before the end, and entries name the descriptor.
            self.submit();
        }
        if let Err(error) = op::cancel::start(&mut self.ring, Token::poll(key)) {
            self.broken.get_or_insert(error);
        }
        Some(socket)
    }

    fn end<S: Sink>(&mut self, key: SessionKey, end: End, sink: &mut S) {
        if self.detach(key).is_some() {
            sink.ended(key, end);
        }
    }

    /// Tells what has completed. Returns how many bytes were received.
    fn note<S: Sink<Conn = Conn>>(&mut self, sink: &mut S) -> usize {
        let mut bytes = 0;
        while let Some(completion) = self.ring.pop() {
            match completion.token {
                Token::Wake => self.waker_armed = completion.more(),
                Token::Poll { slot, generation } => {
                    self.note_poll(SessionKey::new(self.shard, slot, generation), completion, sink);
                }
                Token::Send(index) => self.note_send(index, completion.result, sink),
                Token::Recv(buffer) => bytes += self.note_recv(buffer, completion, sink),
                Token::Cancel => {}
            }
        }
        self.batch.tidy();
        bytes
    }

    fn note_poll<S: Sink>(&mut self, key: SessionKey, completion: Completion, sink: &mut S) {
        let Some(socket) = self.sockets.get(key) else { return };
        let report = match completion.result {
            // Ended from outside, which nobody here did: it is armed again below.
            result if result == -libc::ECANCELED => Report(0),
            result if result < 0 => return self.end(key, End::Error, sink),
            events => Report(events),
        };
        if report.is_dead() && socket.flags.has(Flags::PAUSED) {
            // A reset. Nobody reads, so nobody else would notice; what is unread is lost with it.
            return self.end(key, End::Error, sink);
        }
        if report.is_writable() && socket.flags.has(Flags::BLOCKED) {
            socket.flags.clear(Flags::BLOCKED);
            sink.writable(key);
        }
        let ending = report.is_read_closed() || report.is_dead();
        if report.is_readable() || ending {
            socket.flags.set(Flags::READABLE);
            if ending {
                socket.flags.set(Flags::ENDING);
            }
            if socket.may_queue() {
                self.ready.push_back(key);
            }
        }
        if !completion.more() {
            self.arm(key);
        }
    }

    fn note_send<S: Sink>(&mut self, index: u32, result: i32, sink: &mut S) {
        let (key, len) = self.batch.ended(index);
        let Some(socket) = self.sockets.get(key) else { return };
        socket.flags.clear(Flags::SENDING);
        match result {
            0.. => {
                let sent = result as usize;
                // A short send has filled the socket: an event will tell when there is room again.
                if sent < len {
                    socket.flags.set(Flags::BLOCKED);
                }
                if sent > 0 {
                    sink.sent(key, sent);
                }
            }
            error if error == -libc::EAGAIN => socket.flags.set(Flags::BLOCKED),
            error if error == -libc::EINTR => sink.writable(key),
            _ => self.end(key, End::Error, sink),
        }
    }

    fn note_recv<S: Sink>(&mut self, buffer: u16, completion: Completion, sink: &mut S) -> usize {
        let (key, bytes) = self.arena.take_back(buffer, completion.result.max(0) as usize);
        let Some(socket) = self.sockets.get(key) else { return 0 };
        match completion.result {
            0 if sink.half_closed(key) => {
                // Nothing is left to be read, and everything may still be written.
                socket.flags.clear(Flags::READABLE);
                socket.flags.set(Flags::PAUSED);
            }
            0 => self.end(key, End::Eof, sink),
            1.. => {
                // A short read has emptied the socket, unless its end is already known to stand behind.
                let emptied = bytes.len() < BUFFER_BYTES && !completion.bytes_left();
                if emptied && !socket.flags.has(Flags::ENDING) {
                    socket.flags.clear(Flags::READABLE);
                } else if socket.may_queue() {
                    self.ready.push_back(key);
                }
                sink.received(key, bytes);
                return bytes.len();
            }
            error if error == -libc::EAGAIN => socket.flags.clear(Flags::READABLE),
            error if error == -libc::EINTR => {
                if socket.may_queue() {
                    self.ready.push_back(key);
                }
            }
            _ => self.end(key, End::Error, sink),
        }
        0
    }

    /// Asks for what up to `most` of those in `ready` have to read. Returns how many of them were looked at.
    fn receive(&mut self, most: usize) -> usize {
        for looked_at in 0..most {
            let Some(key) = self.ready.pop_front() else { return looked_at };
            let Some(socket) = self.sockets.get(key) else { continue };
            socket.flags.clear(Flags::QUEUED);
            if !socket.flags.has(Flags::READABLE) || socket.flags.has(Flags::PAUSED) {
                continue;
            }
            let Some(lent) = self.arena.lend(key) else {
                socket.flags.set(Flags::QUEUED);
                self.ready.push_front(key);
                return looked_at;
            };
            let asked = op::recv::start(&mut self.ring, socket.stream.as_fd(), &lent);
            self.entered(asked);
        }
        most
    }
}

impl Driver for UringDriver {
    type Conn = Conn;

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn wait(&mut self, mut timeout: Option<Duration>) -> io::Result<()> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        self.arm_waker();
        if let Some(deadline) = self.linger.next_deadline() {
            let now = Instant::now();
            self.linger.let_go(now);
            let linger = deadline.saturating_duration_since(now);
            timeout = Some(timeout.map_or(linger, |timeout| timeout.min(linger)));
        }
        if !self.ready.is_empty() || self.ring.has_completions() {
            // No completion will come for what is there already.
            timeout = Some(Duration::ZERO);
        }
        self.ring.wait(timeout)?;
        self.named = false;
        Ok(())
    }

    fn deliver<S: Sink<Conn = Conn>>(&mut self, sink: &mut S) -> bool {
        let mut bytes = self.note(sink);
        // Whoever has more goes to the end of the list, for the next turn.
        let mut left = self.ready.len().min(RECEIVES_PER_TURN);
        while left > 0 && bytes < BYTES_PER_TURN {
            let looked_at = self.receive(left);
            self.submit();
            bytes += self.note(sink);
            if looked_at == 0 {
                break;
            }
            left -= looked_at;
        }
        !self.ready.is_empty()
    }

    fn attach(&mut self, key: SessionKey, conn: Conn) -> io::Result<()> {
        self.sockets.put(key.slot(), Socket::new(conn, key));
        self.arm(key);
        Ok(())
    }

    fn refuse(&mut self, mut conn: Conn, answer: &[u8]) {
        // Best effort: a fresh socket has room for a short answer, and a peer that is gone needs none.
        let _ = conn.stream.write(answer);
        if conn.stream.shutdown(Shutdown::Write).is_ok() {
            self.linger.keep(conn, Instant::now());
        }
    }

    fn write(&mut self, key: SessionKey, outbound: &Outbound) -> io::Result<usize> {
        let Some(socket) = self.sockets.get(key) else { return Ok(0) };
        if socket.flags.has(Flags::BLOCKED | Flags::SENDING) {
            return Ok(0);
        }
        let Some((index, piece)) = self.batch.add(key, outbound) else { return Ok(0) };
        socket.flags.set(Flags::SENDING);
        let asked = op::send::start(&mut self.ring, socket.stream.as_fd(), index, piece);
        self.entered(asked);
        if self.ring.pending() >= SENDS_PER_SUBMISSION {
            self.submit();
        }
        Ok(0)
    }

    fn flush<S: Sink<Conn = Conn>>(&mut self, sink: &mut S) {
        if self.batch.under_way() > 0 {
            self.submit();
            self.note(sink);
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
            if socket.may_queue() {
                self.ready.push_back(key);
            }
        }
    }

    fn close(&mut self, key: SessionKey) {
        let Some(socket) = self.detach(key) else { return };
        // Closing while bytes of the peer are unread, or still come, resets the connection, and the reset may
        // overtake what we sent last. So say the end first, and close a moment later. Whoever has ended or failed
        // already can be closed at once.
        if socket.stream.shutdown(Shutdown::Write).is_ok() && !socket.flags.has(Flags::ENDING) {
            self.linger.keep(socket.into_conn(), Instant::now());
        }
    }

    fn connections(&self) -> usize {
        self.sockets.len()
    }

    fn keys(&self) -> Vec<SessionKey> {
        self.sockets.keys(self.shard).collect()
    }
}

impl Drop for UringDriver {
    /// Polls hold sockets: they are ended before the descriptors are closed, so that the peers hear the end.
    fn drop(&mut self) {
        for key in self.keys() {
            self.detach(key);
        }
        self.submit();
        // What is still under way now, batch and arena leave to the kernel.
        while let Some(completion) = self.ring.pop() {
            match completion.token {
                Token::Send(index) => _ = self.batch.ended(index),
                Token::Recv(buffer) => _ = self.arena.take_back(buffer, 0),
                Token::Wake | Token::Poll { .. } | Token::Cancel => {}
            }
        }
    }
}
