//! Accepts under way: as many as there are free places, so that no connection finds the table full.
//!
//! An accept is armed once for one connection and takes it into a place that was set aside for it. (A multishot accept goes
//! on when the table is full, and what it takes then is closed: clients would be lost.) How many wait at once grows with
//! the connections held, so that few of them are spread over the shards as well.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use roost_uring::op::cancel;
use roost_uring::{Addresses, How};

use super::door::Entrance;
use super::op;
use super::place::Place;
use super::rings::Rings;
use super::token::Token;
use crate::Permit;
use crate::accept::ran_out;

/// Accepts of one shard under way at most, and at least while it accepts.
const WINDOW_MAX: u32 = 64;
const WINDOW_MIN: u32 = 4;
/// One more waits for so many connections held.
const WINDOW_SHARE: u32 = 16;
/// Places kept back to tell clients that there are no more.
const RESERVE: u32 = 16;
/// Places that are free and no accept's, below which connections that leave are closed early.
pub(super) const SCARCE: u32 = RESERVE + WINDOW_MAX;
/// How long accepting pauses when something ran out.
const PAUSE: Duration = Duration::from_millis(100);
/// How often running out is logged.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// What became of an accept.
pub(super) enum Arrival {
    /// Nobody came.
    Nobody,
    /// A connection.
    Come(Place, Option<Permit>, SocketAddr),
    /// A connection that is to hear why not.
    Refused(Place, Vec<u8>),
}

/// The accepts of a shard.
pub(super) struct Accepts {
    entrance: Entrance,
    /// Connections above which another shard is to take them, as long as one has room.
    connections_max: u32,
    peers: Addresses,
    /// The ring of each row that is lent.
    rings: [u16; WINDOW_MAX as usize],
    /// The listener is let go once those under way have ended.
    closing: bool,
    paused_until: Option<Instant>,
    /// The next one is told that there is no room.
    turns_away: bool,
    logged: Option<Instant>,
}

impl Accepts {
    pub(super) fn new(entrance: Entrance, connections_max: u32) -> Self {
        Self {
            entrance,
            connections_max,
            peers: Addresses::new(WINDOW_MAX as u16),
            rings: [0; WINDOW_MAX as usize],
            closing: false,
            paused_until: None,
            turns_away: false,
            logged: None,
        }
    }

    #[cfg(test)]
    pub(super) fn control(&self) -> &crate::accept::Control {
        &self.entrance.door.control
    }

    /// True once the listener may be let go, by dropping this.
    pub(super) fn is_over(&self) -> bool {
        self.closing && self.peers.lent() == 0
    }

    /// When to call [`Accepts::arm`] at the latest.
    pub(super) const fn next_deadline(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Arms as many accepts as there may be. Returns true if it is short of places that closing would bring.
    ///
    /// # Errors
    /// A ring is broken.
    pub(super) fn arm(&mut self, rings: &mut Rings, now: Instant) -> io::Result<bool> {
        if self.entrance.is_closed() {
            return self.close(rings).map(|()| false);
        }
        if self.paused_until.is_some_and(|until| now < until) {
            self.entrance.share(None, 0, 0);
            return Ok(false);
        }
        self.paused_until = None;
        let held = rings.used();
        let window = (held / WINDOW_SHARE).clamp(WINDOW_MIN, WINDOW_MAX);
        let room = (held < self.connections_max).then_some(held);
        let window = self.entrance.share(room, window, window);
        for _ in self.peers.lent() as u32..window {
            let room = rings.has_room(RESERVE);
            if matches!(room, Ok(true)) {
                self.begin(rings)?;
                continue;
            }
            let error = room.err().unwrap_or_else(|| io::Error::other("the tables are as large as they may be"));
            return self.run_out(rings, now, &error);
        }
        Ok(false)
    }

    fn begin(&mut self, rings: &mut Rings) -> io::Result<()> {
        let Some(peer) = self.peers.lend() else { return Ok(()) };
        let Some(ring) = rings.begin_accept() else {
            self.peers.take_back(peer.row);
            return Ok(());
        };
        self.rings[usize::from(peer.row)] = ring;
        op::accept(rings.get(ring), &self.entrance.listener, &peer)
    }

    /// There is no room: pauses, and lets one of those who wait hear of it.
    fn run_out(&mut self, rings: &mut Rings, now: Instant, error: &io::Error) -> io::Result<bool> {
        self.pause(now, error);
        if self.peers.lent() == 0 && rings.spare() > 0 {
            self.turns_away = true;
            self.begin(rings)?;
        }
        Ok(true)
    }

    fn pause(&mut self, now: Instant, error: &io::Error) {
        if self.paused_until.is_some() {
            return;
        }
        self.entrance.door.control.metrics.pauses.fetch_add(1, Relaxed);
        self.paused_until = Some(now + PAUSE);
        if self.logged.is_none_or(|logged| now >= logged + LOG_EVERY) {
            self.logged = Some(now);
            tracing::warn!(%error, "accepting pauses: no place for further connections");
        }
    }

    /// Ends those under way; the listener must not outlive the connections.
    fn close(&mut self, rings: &mut Rings) -> io::Result<()> {
        if std::mem::replace(&mut self.closing, true) {
            return Ok(());
        }
        for row in 0..WINDOW_MAX as u16 {
            // Those that are not lent have ended, and there is nothing to cancel.
            if self.peers.is_lent(row) {
                let ring = rings.get(self.rings[usize::from(row)]);
                cancel::start(ring, Token::Accept(row), How::QUIET, Token::Done)?;
            }
        }
        Ok(())
    }

    /// Ends all that are under way, and waits for that.
    ///
    /// # Errors
    /// A ring is broken.
    pub(super) fn cancel_all(&mut self, rings: &mut Rings) -> io::Result<()> {
        self.close(rings)?;
        rings.submit()
    }

    /// The accept with row `row` has ended with `result`, in ring `ring`.
    pub(super) fn ended(&mut self, rings: &mut Rings, ring: u16, row: u16, result: i32) -> Arrival {
        let peer = self.peers.take_back(row);
        let turns_away = std::mem::take(&mut self.turns_away);
        let place = rings.end_accept(ring, result);
        let door = &self.entrance.door;
        let metrics = &door.control.metrics;
        match (place, peer) {
            (None, _) => {
                let error = io::Error::from_raw_os_error(-result);
                if ran_out(&error) {
                    self.pause(Instant::now(), &error);
                } else if error.raw_os_error() != Some(libc::ECANCELED) {
                    // The peer was gone before we came (ECONNABORTED and its like): the next one.
                    metrics.errors.fetch_add(1, Relaxed);
                }
                Arrival::Nobody
            }
            (Some(place), _) if turns_away || self.closing => {
                metrics.refused.fetch_add(1, Relaxed);
                Arrival::Refused(place, door.control.refusal(503, "Service Unavailable"))
            }
            (Some(place), Some(peer)) => match door.admit(peer.ip()) {
                Some(permit) => Arrival::Come(place, Some(permit), peer),
                None => {
                    metrics.refused_address.fetch_add(1, Relaxed);
                    Arrival::Refused(place, door.control.refusal(429, "too many connections from this address"))
                }
            },
            // No address of the internet: the listener is of another family than we know.
            (Some(place), None) => {
                metrics.errors.fetch_add(1, Relaxed);
                Arrival::Refused(place, door.control.refusal(503, "Service Unavailable"))
            }
        }
    }
}
