//! Connections that the session let go: they say their end, and are closed a moment later.
//!
//! Closing while bytes of the peer are unread, or still come, resets the connection, and the reset may overtake what we
//! sent last. So say the end first, and close a moment later.
//!
//! How to say it: rings have IORING_OP_SHUTDOWN, but the kernel does that on threads of its own, one request at a time with
//! a change of threads each, and queues as many requests as are given: half a million closings would be 128 MB of them,
//! behind which everything else waits. Instead the socket gets a descriptor for the time of one shutdown(2), some at a
//! time ([`DESCRIPTORS`]): two short calls more a closing, on this thread, in order, and nothing is queued. Where the
//! kernel cannot do that (before 6.8) it is IORING_OP_SHUTDOWN after all, with one such thread.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use roost_uring::op::{close, shutdown};
use roost_uring::{How, Target};
use roost_wire::link::SessionKey;

use super::place::Place;
use super::rings::Rings;
use super::token::Token;
use crate::Permit;
use crate::driver::linger::Linger;

/// Descriptors for that, at most.
const DESCRIPTORS: usize = 32;
/// Connections of a shard kept at most after they said their end. They cost what they did before, and no descriptor.
const LINGERING_MAX: usize = 1 << 16;
/// Closings per turn; those that are due go with the next ones.
const CLOSINGS_PER_TURN: usize = 1024;

/// A connection without a session.
pub(super) struct Leaving {
    pub(super) place: Place,
    /// Whose poll is armed there; `None`: none was.
    pub(super) armed: Option<SessionKey>,
    /// Whoever counts it counts it until it is closed.
    pub(super) _permit: Option<Permit>,
}

/// The connections that leave.
pub(super) struct Farewell {
    linger: Linger<Leaving>,
    /// Places whose end is not said yet, all of ring `of`.
    unsaid: Vec<u32>,
    of: u16,
    /// Whether a place can have a descriptor for a moment.
    installs: bool,
}

impl Farewell {
    pub(super) fn new(installs: bool) -> Self {
        Self { linger: Linger::new(LINGERING_MAX), unsaid: Vec::with_capacity(DESCRIPTORS), of: 0, installs }
    }

    /// Closes at once: the peer has ended or failed already.
    ///
    /// # Errors
    /// A ring is broken.
    pub(super) fn close(rings: &mut Rings, leaving: &Leaving) -> io::Result<()> {
        let (ring, slot) = (rings.get(leaving.place.ring()), leaving.place.slot());
        match leaving.armed {
            // While a poll is armed it holds the socket.
            Some(key) => close::after_cancel(ring, slot, Token::poll(key), Token::Done, Token::Close),
            None => close::start(ring, slot, How::PLAIN, Token::Close),
        }
    }

    /// Says the end behind what was sent, and closes later.
    ///
    /// # Errors
    /// A ring is broken.
    pub(super) fn begin(&mut self, rings: &mut Rings, leaving: Leaving, now: Instant) -> io::Result<()> {
        let (number, slot) = (leaving.place.ring(), leaving.place.slot());
        if self.installs {
            if self.of != number || self.unsaid.len() == DESCRIPTORS {
                self.say(rings)?;
            }
            self.of = number;
            self.unsaid.push(slot);
        } else {
            shutdown::start(rings.get(number), Target::fixed(slot), How::QUIET, Token::Done)?;
        }
        match self.linger.keep(leaving, now) {
            Some(early) => self.close_behind(rings, &early),
            None => Ok(()),
        }
    }

    /// Says the ends that are to be said. What waits in their ring is submitted.
    ///
    /// # Errors
    /// A ring is broken.
    pub(super) fn say(&mut self, rings: &mut Rings) -> io::Result<()> {
        if self.unsaid.is_empty() {
            return Ok(());
        }
        let said = rings.get(self.of).install(&self.unsaid, |socket| {
            // Without a descriptor left, or with a peer that is gone, the close a moment later says it.
            if let Ok(socket) = socket {
                let _ = TcpStream::from(socket).shutdown(Shutdown::Write);
            }
        });
        self.unsaid.clear();
        said
    }

    /// Closes those whose time is over, within a budget. True: there are more.
    ///
    /// # Errors
    /// A ring is broken.
    pub(super) fn let_go(&mut self, rings: &mut Rings, now: Instant) -> io::Result<bool> {
        for _ in 0..CLOSINGS_PER_TURN {
            let Some(leaving) = self.linger.over(now) else { return Ok(false) };
            self.close_behind(rings, &leaving)?;
        }
        Ok(self.linger.next_deadline().is_some_and(|deadline| deadline <= now))
    }

    /// Closes up to `count` whose time is not over. Returns whether there was one.
    ///
    /// # Errors
    /// A ring is broken.
    pub(super) fn hurry(&mut self, rings: &mut Rings, count: usize) -> io::Result<bool> {
        let mut any = false;
        for _ in 0..count {
            let Some(leaving) = self.linger.oldest() else { break };
            self.close_behind(rings, &leaving)?;
            any = true;
        }
        Ok(any)
    }

    /// Closes, but not before the end was said.
    fn close_behind(&mut self, rings: &mut Rings, leaving: &Leaving) -> io::Result<()> {
        if self.of == leaving.place.ring() && self.unsaid.contains(&leaving.place.slot()) {
            self.say(rings)?;
        }
        Self::close(rings, leaving)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.linger.next_deadline()
    }
}
