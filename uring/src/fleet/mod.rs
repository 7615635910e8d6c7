//! Client sockets by the hundred thousand: no descriptors, but places in the tables of as many rings as it takes.
//!
//! Everything here is safe to use: what the kernel reads and writes belongs to the fleet, and comes back to the caller
//! only when it is done.
//!
//! Invariants:
//! - a socket is at the same place of the same ring all its life; its connections are counted, so that what is told of
//!   an earlier one finds nothing;
//! - an idle socket costs an armed poll and two bytes: buffers are lent while bytes are taken out;
//! - a send of a socket begins when the one before it has ended, so that bytes keep their order.
//!
//! Absent on purpose: servers. Accepting, and sharing one buffer among receivers, are another driver's.

mod sends;
mod socket;
mod tag;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sends::Sends;
use socket::{AGAIN, CLOSING, CONNECTING, HUNG_UP, OPEN, RECEIVING, SENDING, Socket};
use tag::Tag;

use crate::op::setsockopt::Switch;
use crate::op::{self, How};
use crate::{Arena, Bell, Completion, Ring, Target, files};

/// Entries of a ring that fit before they are submitted: as many sends in one call as are worth it.
const ENTRIES: u32 = 512;
/// Completions that fit before the kernel has to keep them elsewhere.
const COMPLETIONS: u32 = 4096;
/// Receive buffers of a fleet, and bytes of each.
const BUFFERS: u16 = 1024;
const BUFFER_BYTES: u32 = 4096;
/// How often sockets that had no room are tried again.
const BLOCKED_EVERY: Duration = Duration::from_millis(10);
/// How often every ring is entered, whether it rang or not.
const ENTER_EVERY: Duration = Duration::from_secs(1);

/// What happened to a socket.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// It is connected.
    Connected,
    /// It could not be connected, for this error of the system. Close it.
    Refused(i32),
    /// Bytes came.
    Received(&'a mut [u8]),
    /// The connection is over, for this error of the system; 0: the peer ended it. Close it.
    Ended(i32),
    /// It is closed, and may be connected again.
    Closed,
}

/// How to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// As usual: what was sent arrives, then the end.
    Fin,
    /// At once, with a reset.
    Reset,
}

/// What a completion came to.
enum Step {
    Tell(u32, Told),
    /// Bytes in a buffer.
    Bytes(u32, u16, usize),
}

enum Told {
    Connected,
    Refused(i32),
    Ended(i32),
    Closed,
}

/// Client sockets, numbered from 0. It belongs to the thread that uses it first.
pub struct Fleet {
    rings: Vec<Ring<Tag>>,
    bell: Bell,
    arena: Arena<()>,
    /// Whose bytes come into a buffer.
    borrowers: Box<[(u32, u8)]>,
    sends: Sends,
    sockets: Box<[Socket]>,
    per_ring: u32,
    /// They wait for a buffer.
    hungry: VecDeque<(u32, u8)>,
    /// They had no room to send.
    blocked: Vec<(u32, u8)>,
    /// Too much waits for them: their peers read nothing.
    drowned: Vec<(u32, u8)>,
    /// The ring whose completions are being told.
    turn: usize,
    entered: Instant,
}

impl Fleet {
    /// Room for `count` sockets, in as many rings as the limit of descriptors demands.
    ///
    /// # Errors
    /// The system forbids io_uring (EPERM, ENOSYS), lacks an operation (`Unsupported`), or has no memory or descriptor
    /// left.
    pub fn new(count: u32) -> io::Result<Self> {
        Self::with_places(count, files::places(count))
    }

    fn with_places(count: u32, per_ring: u32) -> io::Result<Self> {
        let bell = Bell::new()?;
        let mut rings = Vec::new();
        for from in (0..count.max(1)).step_by(per_ring as usize) {
            let ring = Ring::new(ENTRIES, COMPLETIONS)?;
            if rings.is_empty() {
                check(&ring)?;
            }
            ring.register_files(per_ring.min(count.max(1) - from))?;
            ring.register_bell(&bell)?;
            rings.push(ring);
        }
        Ok(Self {
            rings,
            bell,
            arena: Arena::new(BUFFERS, BUFFER_BYTES),
            borrowers: vec![(0, 0); BUFFERS.into()].into(),
            sends: Sends::default(),
            sockets: vec![Socket::default(); count as usize].into(),
            per_ring,
            hungry: VecDeque::new(),
            blocked: Vec::new(),
            drowned: Vec::new(),
            turn: 0,
            entered: Instant::now(),
        })
    }

    /// How many rings it took.
    #[must_use]
    pub const fn rings(&self) -> usize {
        self.rings.len()
    }

    /// Connects socket `at`, which must be closed, from `source` (port 0: any) to `target`. [`Event::Connected`] or
    /// [`Event::Refused`] follows.
    ///
    /// # Errors
    /// As [`Ring::submit`]: the fleet is of no further use.
    ///
    /// # Panics
    /// If it is not closed.
    pub fn connect(&mut self, at: u32, source: Option<SocketAddr>, target: SocketAddr) -> io::Result<()> {
        let socket = &mut self.sockets[at as usize];
        assert_eq!(socket.flags, 0, "a socket that is closed");
        *socket = Socket { opening: socket.opening.wrapping_add(1), flags: OPEN | CONNECTING };
        let opening = socket.opening;
        let (ring, slot) = self.place(at);
        let tag = Tag::Connect { slot, opening };
        let step = How::LINKED.and(How::QUIET);
        let file = Target::fixed(slot);
        ring.make_room(4)?;
        op::socket::start(ring, Some(slot), target, step, tag)?;
        if let Some(source) = source {
            op::setsockopt::start(ring, file, Switch::BindAddressNoPort, step, tag)?;
            op::bind::start(ring, file, source, step, tag)?;
        }
        op::connect::start(ring, file, target, How::PLAIN, tag)
    }

    /// Sends `bytes`, behind what was to be sent before. Nothing happens if the socket is not connected. If the peer
    /// leaves too much unread, [`Event::Ended`] follows with ENOBUFS.
    ///
    /// # Errors
    /// As [`Ring::submit`].
    pub fn send(&mut self, at: u32, bytes: Box<[u8]>) -> io::Result<()> {
        let socket = &mut self.sockets[at as usize];
        if !socket.is_connected() || bytes.is_empty() {
            return Ok(());
        }
        if !socket.has(SENDING) {
            return self.begin_send(at, bytes, 0);
        }
        if !self.sends.wait(at, bytes) {
            self.sends.forget(at);
            self.drowned.push((at, self.sockets[at as usize].opening));
        }
        Ok(())
    }

    /// Closes socket `at`; [`Event::Closed`] follows, and nothing else of this connection.
    ///
    /// # Errors
    /// As [`Ring::submit`].
    pub fn close(&mut self, at: u32, how: Close) -> io::Result<()> {
        let socket = &mut self.sockets[at as usize];
        if !socket.has(OPEN) || socket.has(CLOSING) {
            return Ok(());
        }
        let (connecting, opening) = (socket.has(CONNECTING), socket.opening);
        socket.flags |= CLOSING;
        self.sends.forget(at);
        let (ring, slot) = self.place(at);
        // By its tag: cancelling by the file walks everything that is armed in the ring.
        let armed = match connecting {
            true => Tag::Connect { slot, opening },
            false => Tag::Poll { slot, opening },
        };
        let step = How::HARD_LINKED.and(How::QUIET);
        ring.make_room(3)?;
        if how == Close::Reset && !connecting {
            op::linger::none(ring, Target::fixed(slot), step, Tag::Nobody)?;
        }
        op::cancel::start(ring, armed, step, Tag::Nobody)?;
        op::close::start(ring, slot, How::PLAIN, Tag::Close { slot, opening })
    }

    /// Hands everything to the kernel, and sleeps until something happened or `timeout` is over. Take all events out
    /// before the next call.
    ///
    /// # Errors
    /// As [`Ring::submit`].
    pub fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        self.try_blocked()?;
        self.feed()?;
        let timeout = if self.blocked.is_empty() { timeout } else { timeout.min(BLOCKED_EVERY) };
        if !self.go_round()? && !timeout.is_zero() {
            self.bell.wait(Some(timeout))?;
            self.go_round()?;
        }
        self.turn = 0;
        Ok(())
    }

    /// What happened next, and to which socket. `None`: wait again.
    ///
    /// # Errors
    /// As [`Ring::submit`].
    pub fn event(&mut self) -> io::Result<Option<(u32, Event<'_>)>> {
        let Some(step) = self.step()? else { return Ok(None) };
        Ok(Some(match step {
            Step::Bytes(at, buffer, len) => (at, Event::Received(self.arena.take_back(buffer, len).1)),
            Step::Tell(at, told) => {
                let event = match told {
                    Told::Connected => Event::Connected,
                    Told::Refused(error) => Event::Refused(error),
                    Told::Ended(error) => Event::Ended(error),
                    Told::Closed => Event::Closed,
                };
                (at, event)
            }
        }))
    }

    /// Submits what is there and takes out what completed. True if something did.
    fn go_round(&mut self) -> io::Result<bool> {
        let mut found = false;
        let enter_all = self.entered.elapsed() >= ENTER_EVERY;
        if enter_all {
            self.entered = Instant::now();
        }
        for ring in &mut self.rings {
            if enter_all {
                ring.wait(Some(Duration::ZERO))?;
            } else if ring.pending() > 0 {
                ring.submit()?;
            }
            ring.look()?;
            found |= ring.has_completions();
        }
        Ok(found)
    }

    fn step(&mut self) -> io::Result<Option<Step>> {
        while let Some((at, opening)) = self.drowned.pop() {
            let socket = self.sockets[at as usize];
            if socket.opening == opening && socket.is_connected() {
                return Ok(Some(Step::Tell(at, Told::Ended(libc::ENOBUFS))));
            }
        }
        while let Some(ring) = self.rings.get_mut(self.turn) {
            let Some(completion) = ring.pop() else {
                self.turn += 1;
                continue;
            };
            if let Some(step) = self.completed(completion)? {
                return Ok(Some(step));
            }
        }
        Ok(None)
    }

    fn completed(&mut self, completion: Completion<Tag>) -> io::Result<Option<Step>> {
        let first = self.turn as u32 * self.per_ring;
        let result = completion.result;
        match completion.token {
            Tag::Connect { slot, opening } => self.connected(first + slot, opening, result),
            Tag::Poll { slot, opening } => self.polled(first + slot, opening, &completion),
            Tag::Recv(buffer) => self.received(buffer, &completion),
            Tag::Send(number) => self.sent(number, result),
            Tag::Close { slot, opening } => {
                let (at, socket) = (first + slot, &mut self.sockets[(first + slot) as usize]);
                if socket.opening != opening || !socket.has(CLOSING) {
                    return Ok(None);
                }
                socket.flags = 0;
                Ok(Some(Step::Tell(at, Told::Closed)))
            }
            Tag::Nobody => Ok(None),
        }
    }

    fn connected(&mut self, at: u32, opening: u8, result: i32) -> io::Result<Option<Step>> {
        let socket = &mut self.sockets[at as usize];
        // Of an earlier connection, or a step behind one that failed.
        if socket.opening != opening || !socket.has(CONNECTING) || socket.has(CLOSING) {
            return Ok(None);
        }
        socket.flags &= !CONNECTING;
        if result < 0 {
            return Ok(Some(Step::Tell(at, Told::Refused(-result))));
        }
        self.arm(at)?;
        Ok(Some(Step::Tell(at, Told::Connected)))
    }

    fn polled(&mut self, at: u32, opening: u8, completion: &Completion<Tag>) -> io::Result<Option<Step>> {
        let socket = &mut self.sockets[at as usize];
        if socket.opening != opening || !socket.is_connected() {
            return Ok(None);
        }
        if completion.result < 0 {
            return Ok(Some(Step::Tell(at, Told::Ended(-completion.result))));
        }
        let report = op::poll::Report(completion.result);
        if report.is_read_closed() || report.is_dead() {
            socket.flags |= HUNG_UP;
        }
        if socket.has(RECEIVING) {
            socket.flags |= AGAIN;
        } else {
            self.receive(at)?;
        }
        if !completion.more() {
            self.arm(at)?;
        }
        Ok(None)
    }

    fn received(&mut self, buffer: u16, completion: &Completion<Tag>) -> io::Result<Option<Step>> {
        let (at, opening) = self.borrowers[usize::from(buffer)];
        let result = completion.result;
        let socket = &mut self.sockets[at as usize];
        if socket.opening != opening || !socket.is_connected() {
            self.arena.take_back(buffer, 0);
            return self.feed().map(|()| None);
        }
        let more = socket.has(AGAIN) || completion.bytes_left() || (socket.has(HUNG_UP) && result > 0);
        socket.flags &= !(RECEIVING | AGAIN);
        if result > 0 {
            if more {
                self.receive(at)?;
            } else {
                self.feed()?;
            }
            return Ok(Some(Step::Bytes(at, buffer, result as usize)));
        }
        let nothing_there = matches!(-result, libc::EAGAIN | libc::EINTR);
        self.arena.take_back(buffer, 0);
        if !nothing_there {
            self.feed()?;
            return Ok(Some(Step::Tell(at, Told::Ended(-result))));
        }
        if more {
            self.receive(at)?;
        } else {
            self.feed()?;
        }
        Ok(None)
    }

    fn sent(&mut self, number: u32, result: i32) -> io::Result<Option<Step>> {
        let sends::Ended { socket: at, opening, bytes, from } = self.sends.ended(number);
        let socket = &mut self.sockets[at as usize];
        if socket.opening != opening || !socket.is_connected() {
            return Ok(None);
        }
        let from = from + usize::try_from(result).unwrap_or(0);
        if result < 0 && !matches!(-result, libc::EAGAIN | libc::EINTR) {
            return Ok(Some(Step::Tell(at, Told::Ended(-result))));
        }
        if from < bytes.len() {
            // No room: it still counts as sending.
            self.sends.put_back(at, bytes, from);
            self.blocked.push((at, opening));
            return Ok(None);
        }
        socket.flags &= !SENDING;
        if let Some((bytes, from)) = self.sends.next(at) {
            self.begin_send(at, bytes, from)?;
        }
        Ok(None)
    }

    fn try_blocked(&mut self) -> io::Result<()> {
        for (at, opening) in std::mem::take(&mut self.blocked) {
            let socket = self.sockets[at as usize];
            if socket.opening == opening
                && socket.is_connected()
                && let Some((bytes, from)) = self.sends.next(at)
            {
                self.begin_send(at, bytes, from)?;
            }
        }
        Ok(())
    }

    #[expect(unsafe_code, reason = "the kernel reads what is sent")]
    fn begin_send(&mut self, at: u32, bytes: Box<[u8]>, from: usize) -> io::Result<()> {
        let socket = &mut self.sockets[at as usize];
        socket.flags |= SENDING;
        let (number, start, len) = self.sends.begin(at, socket.opening, bytes, from);
        let (ring, slot) = self.place(at);
        // SAFETY: the bytes stay where and as they are until the send has ended (sends, A).
        unsafe { op::send::start(ring, Target::fixed(slot), start, len, How::PLAIN, Tag::Send(number)) }
    }

    /// Takes out what is there, as soon as there is a buffer for it.
    #[expect(unsafe_code, reason = "the kernel writes what it received")]
    fn receive(&mut self, at: u32) -> io::Result<()> {
        let socket = &mut self.sockets[at as usize];
        socket.flags |= RECEIVING;
        let opening = socket.opening;
        let Some(lent) = self.arena.lend(()) else {
            self.hungry.push_back((at, opening));
            return Ok(());
        };
        self.borrowers[usize::from(lent.buffer)] = (at, opening);
        let (ring, slot) = self.place(at);
        // SAFETY: the buffer is taken back by the completion that names it, and by nothing else.
        unsafe { op::recv::start(ring, Target::fixed(slot), &lent, How::PLAIN, Tag::Recv(lent.buffer)) }
    }

    /// A buffer came back, or will with the event that is told now: the next one who waits for it.
    fn feed(&mut self) -> io::Result<()> {
        while let Some((at, opening)) = self.hungry.pop_front() {
            let socket = self.sockets[at as usize];
            if socket.opening == opening && socket.is_connected() {
                return self.receive(at);
            }
        }
        Ok(())
    }

    fn arm(&mut self, at: u32) -> io::Result<()> {
        let opening = self.sockets[at as usize].opening;
        let (ring, slot) = self.place(at);
        op::poll::start(ring, Target::fixed(slot), op::poll::READS, How::PLAIN, Tag::Poll { slot, opening })
    }

    fn place(&mut self, at: u32) -> (&mut Ring<Tag>, u32) {
        (&mut self.rings[(at / self.per_ring) as usize], at % self.per_ring)
    }
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").field("sockets", &self.sockets.len()).field("rings", &self.rings.len()).finish()
    }
}

/// Whether the kernel knows all that is needed.
fn check(ring: &Ring<Tag>) -> io::Result<()> {
    let needed = [
        (op::socket::CODE, "socket"),
        (op::setsockopt::CODE, "setsockopt"),
        (op::bind::CODE, "bind"),
        (op::connect::CODE, "connect"),
        (op::poll::CODE, "poll"),
        (op::recv::CODE, "recv"),
        (op::send::CODE, "send"),
        (op::cancel::CODE, "cancel"),
        (op::close::CODE, "close"),
    ];
    match ring.unknown(&needed)? {
        None => Ok(()),
        Some(name) => {
            let text = format!("this kernel's io_uring has no {name} (Linux 6.11 has)");
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        }
    }
}

#[cfg(test)]
mod tests;
