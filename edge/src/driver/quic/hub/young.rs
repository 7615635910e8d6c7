//! Connections that are no session yet: how long they may take, and how many there may be.
//!
//! An Initial costs its sender nothing, and may come from a forged address. So a connection has a moment to become a
//! session; when there are too many the oldest makes room; and when too many of them have not shown that they are where
//! they say, further ones have to (Retry, RFC 9000 §8.1.2), which costs us nothing to remember.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use quinn_proto::Incoming;
use roost_wire::CloseCode;

use super::super::conns::{Conn, Flags, Stage};
use super::{Hub, Port};

/// Connections of a client at one address are judged by this, if there is a limit.
pub(in super::super) type Judge = Box<dyn FnMut(std::net::IpAddr) -> Option<crate::Permit> + Send>;

/// The list, oldest first. Those that are none any more are dropped from the front, and from everywhere once they are the
/// most.
pub(super) struct Young {
    queue: VecDeque<(Instant, u32, u32)>,
    pub(super) count: usize,
    /// Of these, with addresses that may be forged.
    pub(super) unproven: usize,
    unproven_max: usize,
    max: usize,
    within: Duration,
    judge: Option<Judge>,
}

impl Young {
    pub(super) const fn new(unproven_max: usize, max: usize, within: Duration) -> Self {
        Self { queue: VecDeque::new(), count: 0, unproven: 0, unproven_max, max, within, judge: None }
    }

    pub(super) fn listed(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.queue.front().map(|(deadline, ..)| *deadline)
    }
}

impl Hub {
    /// From now on connections need a permit, once their address is known to be theirs.
    pub(in super::super) fn judge_by(&mut self, judge: Judge) {
        self.young.judge = Some(judge);
    }

    /// An Initial of a new connection came in a datagram of `len` bytes.
    pub(super) fn incoming(&mut self, incoming: Incoming, len: usize, now: Instant, port: &mut impl Port) {
        let proven = incoming.remote_address_validated();
        let buffer = self.outgoing.answer();
        if self.stopping {
            self.metrics.failed_stopping(1);
            let transmit = self.endpoint.refuse(incoming, buffer);
            return self.answer(&transmit, port);
        }
        if !proven && self.young.unproven >= self.young.unproven_max && incoming.may_retry() {
            if let Ok(transmit) = self.endpoint.retry(incoming, buffer) {
                self.metrics.retries(1);
                self.answer(&transmit, port);
            }
            return;
        }
        match self.endpoint.accept(incoming, now, buffer, None) {
            Ok((handle, quic)) => {
                let handle = handle.0 as u32;
                self.serial = self.serial.wrapping_add(1);
                let mut conn = Conn::new(quic, self.serial);
                conn.heard_bytes = len as u32;
                conn.flags.set(Flags::YOUNG);
                if !proven {
                    conn.flags.set(Flags::UNPROVEN);
                    self.young.unproven += 1;
                }
                self.conns.put(handle, conn);
                self.metrics.opened(1);
                self.young.count += 1;
                self.young.queue.push_back((now + self.young.within, handle, self.serial));
                self.stir(handle);
                self.make_room(now);
                self.notice_h3(handle, now);
                self.greet(handle, now, port);
            }
            Err(error) => {
                self.metrics.failed_handshake(1);
                if let Some(transmit) = error.response {
                    self.answer(&transmit, port);
                }
            }
        }
    }

    /// Lets the oldest go while there are too many.
    fn make_room(&mut self, now: Instant) {
        while self.young.count > self.young.max {
            let Some((_, handle, serial)) = self.young.queue.pop_front() else { break };
            if self.let_young_go(handle, serial, CloseCode::Overloaded, now) {
                self.metrics.failed_crowded(1);
            }
        }
        if self.young.queue.len() > 64 + 2 * self.young.count {
            let conns = &mut self.conns;
            self.young.queue.retain(|(_, handle, serial)| {
                conns.get_if(*handle, *serial).is_some_and(|conn| conn.flags.has(Flags::YOUNG))
            });
        }
    }

    /// Lets those go that took too long.
    pub(super) fn let_late_go(&mut self, now: Instant) {
        while let Some(&(deadline, handle, serial)) = self.young.queue.front()
            && deadline <= now
        {
            self.young.queue.pop_front();
            if self.let_young_go(handle, serial, CloseCode::ConnectLate, now) {
                self.metrics.failed_late(1);
            }
        }
    }

    /// Lets a connection go if it is still young: with a word if it is known to be where it says.
    fn let_young_go(&mut self, handle: u32, serial: u32, code: CloseCode, now: Instant) -> bool {
        let Some(conn) = self.conns.get_if(handle, serial).filter(|conn| conn.flags.has(Flags::YOUNG)) else {
            return false;
        };
        match conn.stage {
            Stage::Handshake => self.drop_silently(handle),
            _ => self.close_now(handle, code, now),
        }
        true
    }

    /// The handshake is over.
    pub(super) fn connected(&mut self, handle: u32, now: Instant) {
        let Some(conn) = self.conns.get(handle).filter(|conn| conn.stage == Stage::Handshake) else { return };
        conn.stage = Stage::Open;
        self.metrics.handshakes(1);
        let ip = conn.quic.remote_address().ip();
        self.proved(handle);
        let Some(judge) = &mut self.young.judge else { return };
        match judge(ip) {
            Some(permit) => {
                if let Some(conn) = self.conns.get(handle) {
                    conn.permit = Some(permit);
                }
            }
            None => {
                self.metrics.failed_address(1);
                self.close_now(handle, CloseCode::Overloaded, now);
            }
        }
    }

    /// It is young no more, for whatever reason.
    pub(super) fn grown(&mut self, handle: u32) {
        let Some(conn) = self.conns.get(handle) else { return };
        if conn.flags.has(Flags::YOUNG) {
            conn.flags.clear(Flags::YOUNG);
            self.young.count -= 1;
        }
        self.proved(handle);
    }

    /// Its address is not forged, or does not matter any more.
    pub(super) fn proved(&mut self, handle: u32) {
        let Some(conn) = self.conns.get(handle) else { return };
        if conn.flags.has(Flags::UNPROVEN) {
            conn.flags.clear(Flags::UNPROVEN);
            self.young.unproven -= 1;
        }
    }
}
