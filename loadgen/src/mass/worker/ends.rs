//! How connections end, and whether their clients come back.

use std::cmp::Reverse;
use std::io;

use roost_uring::fleet::Close;
use roost_wire::code::should_reconnect;

use super::{Later, MILLISECOND, SECOND, Worker};
use crate::mass::client::Phase;
use crate::mass::crowd::Again;
use crate::mass::voice::mixed;

/// Tries in a row before a client is given up.
const TRIES_MAX: u8 = 10;
/// Most that a client waits between two of them, in seconds, and the least.
const BACK_OFF_S_MAX: u64 = 60;
/// What an HTTP server says who is full for now.
const BUSY: [u16; 2] = [503, 429];

/// What comes after an end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Come back after this time, if it was not tried too often.
    Back(u64),
    /// Come back after the time that the server named, as often as it does.
    Told(u64),
    /// Stay away.
    Never,
}

impl Worker {
    /// The connection is over, for this reason. A session comes back, a failed attempt is repeated.
    pub(super) fn ended(&mut self, at: u32, why: &str, now: u64) -> io::Result<()> {
        let next = Next::Back(self.back_off_ns(at, now));
        self.end(at, why, next, now)
    }

    /// The server closed, with a code if it gave one.
    pub(super) fn closed(&mut self, at: u32, code: Option<u16>, now: u64) -> io::Result<()> {
        let why = code
            .map_or("closed by the server without a code".into(), |code| format!("closed by the server with {code}"));
        let next = if should_reconnect(code) { Next::Back(self.back_off_ns(at, now)) } else { Next::Never };
        self.end(at, &why, next, now)
    }

    /// The server took no WebSocket.
    pub(super) fn turned_away(&mut self, at: u32, status: u16, retry_after_s: Option<u32>, now: u64) -> io::Result<()> {
        self.tally.counts.turned_away += 1;
        self.tally.counts.told_when += u64::from(retry_after_s.is_some());
        let next = match retry_after_s {
            // As it said, and a little later, so that those who were turned away together do not come together.
            Some(after) => Next::Told(u64::from(after) * SECOND + self.chance(at, now) % SECOND),
            None if BUSY.contains(&status) => Next::Back(self.back_off_ns(at, now)),
            // It will say the same again.
            None => Next::Never,
        };
        self.end(at, &format!("status {status}"), next, now)
    }

    /// CONNECT was refused: the server closes, or may as well.
    pub(super) fn connect_refused(&mut self, at: u32, code: u32, again: Again, now: u64) -> io::Result<()> {
        let next = match again {
            Again::No => Next::Never,
            Again::After(0) => Next::Back(self.back_off_ns(at, now)),
            Again::After(ms) => Next::Told(u64::from(ms) * MILLISECOND + self.chance(at, now) % SECOND),
        };
        self.end(at, &format!("CONNECT was refused with {code}"), next, now)
    }

    /// Goes, as the server asked connection `opening` to.
    pub(super) fn leave(&mut self, at: u32, opening: u8, now: u64) -> io::Result<()> {
        if self.crowd.phase(at) != Phase::Live || self.crowd.opening_of(at) != opening {
            return Ok(());
        }
        self.out.clear();
        self.crowd.say_goodbye(&mut self.voice, &mut self.out);
        self.flush(at)?;
        self.crowd.closes(at);
        self.tally.ended("left as the server asked");
        if !self.stage.is_last() {
            self.later.push(Reverse((now, at, Later::Open(now))));
        }
        // Submitted in this order, so the goodbye goes first.
        self.lines.close(at, Close::Fin)
    }

    fn end(&mut self, at: u32, why: &str, next: Next, now: u64) -> io::Result<()> {
        if matches!(self.crowd.phase(at), Phase::Gone | Phase::Closing) {
            return Ok(());
        }
        let was = self.crowd.closes(at);
        self.lines.close(at, Close::Fin)?;
        self.tally.ended(why);
        if self.stage.is_last() {
            return Ok(());
        }
        let counts = &mut self.tally.counts;
        match was {
            Phase::Live => {
                counts.lost += 1;
                self.stage_lost += 1;
            }
            _ => counts.attempts_failed += 1,
        }
        let after_ns = match next {
            Next::Told(after_ns) => after_ns,
            Next::Back(after_ns) if self.crowd.tries(at) < TRIES_MAX => after_ns,
            Next::Back(_) | Next::Never => {
                counts.given_up += 1;
                return Ok(());
            }
        };
        // The return of a session counts from its loss; an attempt that is repeated was meant to be when the first was.
        let intended = if was == Phase::Live { now } else { self.crowd.intended_ns(at) };
        self.later.push(Reverse((now + after_ns, at, Later::Open(intended))));
        Ok(())
    }

    /// Full jitter: between nothing and a limit that doubles.
    fn back_off_ns(&self, at: u32, now: u64) -> u64 {
        let limit = (1 << self.crowd.tries(at).min(10)).min(BACK_OFF_S_MAX) * SECOND;
        self.chance(at, now) % limit
    }

    pub(super) fn chance(&self, at: u32, now: u64) -> u64 {
        mixed(self.seed ^ now ^ u64::from(at) << 24)
    }
}
