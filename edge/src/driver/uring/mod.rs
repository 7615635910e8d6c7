//! Completion by io_uring: the kernel is handed hundreds of sends or receives in one call. Linux 6.1 or later.
//!
//! Connections have no descriptors: the driver accepts them into the tables of its rings, and makes another ring when a
//! table is full. So their number is limited by memory, not by the limit of descriptors.
//!
//! - `rings`: one ring, or several in one thread; `place`: where in them a connection is; `token`: whom a completion is
//!   for; `op`: what is asked of the kernel (`roost_uring` has the operations);
//! - `door`: what shards share to accept, `accepts`: one shard's part; `farewell`: connections that leave;
//! - `batch`: sends under way; `socket`: a connection; `conn`: one without a session; `waker`: an eventfd;
//! - `io`: what came of sends and receives; `probe`: whether this kernel allows it all.
//!
//! Invariants:
//! - sends and receives are told not to wait, so they end in the call that submits them; what is armed for longer is
//!   one poll a connection, which holds no memory of ours, and some accepts;
//! - a connection has at most one send under way, one receive and one poll, and stands in `ready` at most once;
//! - a ring does what it is asked in order: a place is closed, and used again, after what names it;
//! - a completion finds its connection by slot and generation, or through a buffer or a place in the batch that is
//!   its own until then: a stale one finds nothing.
//!
//! Absent on purpose: provided buffers (no receive waits, so none needs a buffer for long), zero-copy sends (dearer
//! below several KiB), SQPOLL (takes a core).
#![deny(clippy::multiple_unsafe_ops_per_block)]

mod accepts;
#[expect(unsafe_code, reason = "bytes that the kernel reads")]
mod batch;
mod conn;
mod door;
mod farewell;
mod io;
#[expect(unsafe_code, reason = "entries say what the kernel reads and writes")]
mod op;
mod place;
mod probe;
mod rings;
mod socket;
#[cfg(test)]
mod tests;
mod token;
mod waker;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use roost_edge_core::driver::{Driver, Sink, Wake};
use roost_edge_core::{End, Outbound};
use roost_uring::op::poll;
use roost_uring::{Arena, How, Target};
use roost_wire::link::SessionKey;

use self::accepts::{Accepts, Arrival};
use self::batch::Batch;
pub use self::conn::Conn;
pub(crate) use self::door::{Door, Entrance};
use self::farewell::{Farewell, Leaving};
use self::place::Place;
pub use self::probe::probe;
use self::rings::Rings;
use self::socket::Socket;
use self::token::Token;
pub use self::waker::UringWaker;
use super::flags::Flags;
use super::table::Table;
use crate::Permit;
use crate::accept::Control;
use crate::address::Gate;
use crate::metrics::LoopMetrics;

/// Receives per turn, of all connections.
const RECEIVES_PER_TURN: usize = 1024;
/// Bytes received per turn, of all connections; the last batch may go beyond it.
const BYTES_PER_TURN: usize = 2 << 20;
/// Receive buffers, and so receives of one batch, and the bytes of each.
const BUFFERS: u16 = 64;
const BUFFER_BYTES: usize = 16 * 1024;
/// Sends of one submission: beyond some hundreds the caches are worse for it than the calls saved.
const SENDS_PER_SUBMISSION: usize = 256;
/// Places of one table at most, even if the system allows more. The kernel finds the poll that a close ends in one of 256
/// lists of the ring: a close takes 5 us with a thousand polls, 8 with twenty thousand, and more with more (the example
/// `closings` of `roost-uring` measures it), while further rings cost little.
const PLACES_PER_RING_MAX: u32 = 1 << 15;
/// Places beside those of sessions: for connections that are refused, or that leave.
const MORE_PLACES: usize = 2048;

/// The completion driver of one shard.
pub struct UringDriver {
    rings: Rings,
    shard: u16,
    sockets: Table<Socket>,
    /// Who may have bytes to receive, each at most once.
    ready: VecDeque<SessionKey>,
    arena: Arena<SessionKey>,
    batch: Batch,
    accepts: Option<Accepts>,
    connections_max: u32,
    farewell: Farewell,
    waker: Arc<UringWaker>,
    waker_armed: bool,
    /// Something is due that no completion will tell of.
    hurried: bool,
    /// Polls that the kernel ended and that were armed again.
    rearmed: u64,
    metrics: Arc<LoopMetrics>,
    /// Why a ring cannot go on: the next wait says so.
    broken: Option<std::io::Error>,
}

impl UringDriver {
    /// The driver of `shard`, for about `connections_max` connections, and what wakes it. It accepts none.
    ///
    /// # Errors
    /// What [`probe`] would find, or no descriptor or memory is left.
    pub fn new(shard: u16, connections_max: usize) -> std::io::Result<(Self, Arc<UringWaker>)> {
        Self::with_tables(shard, connections_max, PLACES_PER_RING_MAX)
    }

    /// The same, with at most `places_per_ring_max` connections a ring.
    ///
    /// # Errors
    /// As [`UringDriver::new`].
    pub fn with_tables(
        shard: u16,
        connections_max: usize,
        places_per_ring_max: u32,
    ) -> std::io::Result<(Self, Arc<UringWaker>)> {
        let waker = Arc::new(UringWaker::new()?);
        let places = u32::try_from(connections_max.saturating_add(MORE_PLACES)).unwrap_or(u32::MAX);
        let driver = Self {
            rings: Rings::new(places, places_per_ring_max)?,
            shard,
            sockets: Table::new(),
            ready: VecDeque::new(),
            arena: Arena::new(BUFFERS, BUFFER_BYTES as u32),
            batch: Batch::default(),
            accepts: None,
            connections_max: u32::try_from(connections_max).unwrap_or(u32::MAX),
            farewell: Farewell::new(probe::installs()),
            waker: waker.clone(),
            waker_armed: false,
            hurried: false,
            rearmed: 0,
            metrics: Arc::default(),
            broken: None,
        };
        Ok((driver, waker))
    }

    /// Accepts what comes to `listener`, whoever it is from.
    pub fn accept_from(&mut self, listener: TcpListener) {
        let gate = Gate::new(0, Vec::new(), usize::MAX);
        let waker: Arc<dyn Wake> = self.waker.clone();
        let control = Arc::new(Control::new(vec![waker.clone()]));
        let entrances = Door::open(listener, gate, control, [waker]);
        for entrance in entrances {
            self.enter(entrance, Arc::default());
        }
    }

    /// Accepts at a door that shards share, and counts in `metrics`.
    pub(crate) fn enter(&mut self, entrance: Entrance, metrics: Arc<LoopMetrics>) {
        self.accepts = Some(Accepts::new(entrance, self.connections_max));
        self.metrics = metrics;
    }

    /// Hands everything to the kernel. What it completes at once is there afterwards.
    fn submit(&mut self) {
        let submitted = self.rings.submit();
        self.note_failure(submitted);
    }

    /// Remembers if a ring is broken. Returns whether it is not.
    fn note_failure(&mut self, result: std::io::Result<()>) -> bool {
        result.map_err(|error| self.broken.get_or_insert(error)).is_ok()
    }

    /// Arms the poll of `key`.
    fn arm(&mut self, key: SessionKey) {
        let Some(socket) = self.sockets.get(key) else { return };
        let (ring, target) = (self.rings.get(socket.place.ring()), Target::fixed(socket.place.slot()));
        let armed = poll::start(ring, target, poll::SOCKET, How::PLAIN, Token::poll(key));
        self.note_failure(armed);
    }

    /// Arms the poll of the waker, if it is not.
    fn arm_waker(&mut self) {
        if !self.waker_armed {
            let armed = op::hear(self.rings.get(0), &self.waker);
            self.waker_armed = self.note_failure(armed);
        }
    }

    /// Takes the socket of `key` out: from now on nothing is heard of it. `None`: the key is stale.
    fn detach(&mut self, key: SessionKey) -> Option<(Leaving, Flags)> {
        let Socket { place, permit, flags } = self.sockets.take(key)?;
        Some((Leaving { place, armed: Some(key), _permit: permit }, flags))
    }

    fn end<S: Sink>(&mut self, key: SessionKey, end: End, sink: &mut S) {
        if let Some((leaving, _)) = self.detach(key) {
            let closed = Farewell::close(&mut self.rings, &leaving);
            self.note_failure(closed);
            sink.ended(key, end);
        }
    }

    /// Gives a connection that somebody else made a place.
    fn place(&mut self, conn: Conn) -> std::io::Result<(Place, Option<Permit>)> {
        let place = match conn.socket {
            conn::Socket::Place(place) => place,
            conn::Socket::Stream(stream) => self.rings.adopt(stream.ok_or(ErrorKind::NotConnected)?.as_fd())?,
        };
        Ok((place, conn.permit))
    }

    /// Sends `answer` to `place`, and lets it go.
    fn turn_away(&mut self, place: Place, permit: Option<Permit>, answer: Bytes) {
        // Best effort: a fresh socket has room for a short answer, and a peer that is gone needs none.
        let (index, piece) = self.batch.add_answer(answer);
        let sent = op::send(self.rings.get(place.ring()), place, index, piece);
        let leaving = Leaving { place, armed: None, _permit: permit };
        let begun = sent.and_then(|()| self.farewell.begin(&mut self.rings, leaving, Instant::now()));
        self.note_failure(begun);
    }

    /// An accept has ended.
    fn note_accept<S: Sink<Conn = Conn>>(&mut self, ring: u16, row: u16, result: i32, sink: &mut S) {
        let Some(accepts) = &mut self.accepts else { return };
        match accepts.ended(&mut self.rings, ring, row, result) {
            Arrival::Nobody => {}
            Arrival::Come(place, permit, peer) => {
                sink.accepted(Conn { socket: conn::Socket::Place(place), permit }, peer);
            }
            Arrival::Refused(place, refusal) => self.turn_away(place, None, Bytes::from(refusal)),
        }
        self.accepts = self.accepts.take().filter(|accepts| !accepts.is_over());
    }

    /// What is due before a sleep. Returns when something will be.
    fn prepare(&mut self, now: Instant) -> std::io::Result<Option<Instant>> {
        self.farewell.say(&mut self.rings)?;
        self.hurried |= self.farewell.let_go(&mut self.rings, now)?;
        let mut next = self.farewell.next_deadline();
        if let Some(accepts) = &mut self.accepts {
            if accepts.arm(&mut self.rings, now)? || self.rings.is_short(accepts::SCARCE) {
                // Those who leave make room for those who come.
                self.hurried |= self.farewell.hurry(&mut self.rings, accepts::SCARCE as usize)?;
            }
            next = next.into_iter().chain(accepts.next_deadline()).min();
        }
        if self.accepts.as_ref().is_some_and(Accepts::is_over) {
            self.accepts = None;
        }
        Ok(next)
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

    fn wait(&mut self, mut timeout: Option<Duration>) -> std::io::Result<()> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        self.arm_waker();
        let now = Instant::now();
        if let Some(deadline) = self.prepare(now)? {
            let until = deadline.saturating_duration_since(now);
            timeout = Some(timeout.map_or(until, |timeout| timeout.min(until)));
        }
        self.metrics.rings(self.rings.len(), self.rings.used(), self.rearmed, self.rings.overflows());
        if std::mem::take(&mut self.hurried) || !self.ready.is_empty() || self.rings.has_completions() {
            // No completion will come for what is there already.
            timeout = Some(Duration::ZERO);
        }
        self.rings.wait(timeout)
    }

    /// What completes meanwhile the kernel holds back until the next wait, without waking the thread.
    fn gather(&mut self, span: Duration) {
        // Armed first, so that it happens meanwhile.
        self.submit();
        if !self.rings.has_completions() && self.ready.is_empty() {
            let slept = self.waker.sleep(span);
            self.note_failure(slept);
        }
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

    fn attach(&mut self, key: SessionKey, conn: Conn) -> std::io::Result<()> {
        let (place, permit) = self.place(conn)?;
        self.sockets.put(key.slot(), Socket::new(place, permit, key));
        self.arm(key);
        Ok(())
    }

    fn refuse(&mut self, conn: Conn, answer: &[u8]) {
        // Without a place the peer hears the end alone.
        if let Ok((place, permit)) = self.place(conn) {
            self.turn_away(place, permit, Bytes::copy_from_slice(answer));
        }
    }

    fn write(&mut self, key: SessionKey, outbound: &Outbound) -> std::io::Result<usize> {
        let Some(socket) = self.sockets.get(key) else { return Ok(0) };
        if socket.flags.has(Flags::BLOCKED | Flags::SENDING) {
            return Ok(0);
        }
        let Some((index, piece)) = self.batch.add(key, outbound) else { return Ok(0) };
        socket.flags.set(Flags::SENDING);
        let place = socket.place;
        let ring = self.rings.get(place.ring());
        let asked = op::send(ring, place, index, piece);
        let full = ring.pending() >= SENDS_PER_SUBMISSION;
        self.note_failure(asked);
        if full {
            self.submit();
        }
        Ok(0)
    }

    fn flush<S: Sink<Conn = Conn>>(&mut self, sink: &mut S) {
        let said = self.farewell.say(&mut self.rings);
        self.note_failure(said);
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
            if socket.flags.may_queue() {
                self.ready.push_back(key);
            }
        }
    }

    fn close(&mut self, key: SessionKey) {
        let Some((leaving, flags)) = self.detach(key) else { return };
        // Whoever has ended or failed already can be closed at once.
        let begun = if flags.has(Flags::ENDING) {
            Farewell::close(&mut self.rings, &leaving)
        } else {
            self.farewell.begin(&mut self.rings, leaving, Instant::now())
        };
        self.note_failure(begun);
    }

    fn connections(&self) -> usize {
        self.sockets.len()
    }

    fn keys(&self) -> Vec<SessionKey> {
        self.sockets.keys(self.shard).collect()
    }
}

impl Drop for UringDriver {
    /// The listener goes first, so that nobody comes any more. Polls hold sockets: they are ended before the places are
    /// closed, so that the peers hear the end now; what the kernel ends with the ring, it ends in its own time.
    fn drop(&mut self) {
        let mut tries = self.accepts.as_mut().map_or(Ok(()), |accepts| accepts.cancel_all(&mut self.rings));
        for key in self.keys() {
            if let Some((leaving, _)) = self.detach(key) {
                tries = tries.and_then(|()| Farewell::close(&mut self.rings, &leaving));
            }
        }
        tries = tries.and_then(|()| self.farewell.hurry(&mut self.rings, usize::MAX).map(drop));
        // What ends by that is put down only for who waits.
        if let Err(error) = tries.and_then(|()| self.rings.wait(Some(Duration::ZERO))) {
            tracing::warn!(%error, "connections are left to the kernel");
        }
        // What is still under way now, batch, arena and addresses leave to the kernel.
        while let Some((ring, completion)) = self.rings.pop() {
            match completion.token {
                Token::Send(index) => _ = self.batch.ended(index),
                Token::Recv(buffer) => _ = self.arena.take_back(buffer, 0),
                Token::Accept(row) => {
                    if let Some(accepts) = &mut self.accepts {
                        accepts.ended(&mut self.rings, ring, row, completion.result);
                    }
                }
                Token::Wake | Token::Poll { .. } | Token::Done | Token::Close => {}
            }
        }
    }
}
