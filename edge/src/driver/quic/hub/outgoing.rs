//! Datagrams out: what connections have to send, fairly, as far as the socket takes it.

use std::collections::VecDeque;
use std::time::Instant;

use quinn_proto::Transmit;

use super::super::conns::{Flags, Stage};
use super::super::session::Told;
use super::Hub;

/// Sends of one connection before the others have their turn.
const SENDS_PER_CONNECTION: usize = 4;
/// Sends of all connections between two looks at what came in.
const SENDS_PER_TURN: usize = 1024;
/// Handshakes that are answered together.
const GREETED_MAX: usize = 8;
/// What an address that may be forged is sent at most, for each byte that came from it (RFC 9000 §8.1).
const AMPLIFICATION_MAX: u32 = 3;

/// Where datagrams leave.
pub(in super::super) trait Port {
    /// Sends `bytes`, one datagram or several of a size. False: there is no room now.
    fn send(&mut self, transmit: &Transmit, bytes: &[u8]) -> bool;

    /// Datagrams that one send may hold.
    fn segments_max(&self) -> usize;
}

/// Who has something to send, and what could not be sent.
#[derive(Default)]
pub(super) struct Outgoing {
    queue: VecDeque<u32>,
    buffer: Vec<u8>,
    /// What the socket had no room for stands in `buffer`.
    held: Option<Transmit>,
    /// What is answered to strangers.
    answer: Vec<u8>,
}

impl Outgoing {
    /// An empty buffer for an answer.
    pub(super) fn answer(&mut self) -> &mut Vec<u8> {
        self.answer.clear();
        &mut self.answer
    }

    pub(super) fn answered(&self) -> &[u8] {
        &self.answer
    }

    pub(super) fn listed(&self) -> usize {
        self.queue.len()
    }

    /// Something is to be sent, and the socket did not refuse the last.
    pub(super) fn is_due(&self) -> bool {
        self.held.is_none() && !self.queue.is_empty()
    }
}

/// How many datagrams a transmit holds.
fn datagrams(transmit: &Transmit) -> usize {
    transmit.segment_size.map_or(1, |segment| transmit.size.div_ceil(segment.max(1)))
}

impl Hub {
    /// The connection may have something to send.
    pub(super) fn unsent(&mut self, handle: u32) {
        if let Some(conn) = self.conns.get(handle)
            && conn.flags.raise(Flags::UNSENT)
        {
            self.outgoing.queue.push_back(handle);
        }
    }

    /// Sends what there is to send, within the budget of a turn.
    pub(in super::super) fn flush(&mut self, now: Instant, port: &mut impl Port) {
        if let Some(transmit) = self.outgoing.held.take()
            && !self.send(transmit, port)
        {
            return;
        }
        let mut budget = SENDS_PER_TURN;
        while budget > 0 {
            let Some(handle) = self.outgoing.queue.pop_front() else { return };
            let Some(conn) = self.conns.get(handle) else { continue };
            conn.flags.clear(Flags::UNSENT);
            if !self.flush_one(handle, &mut budget, now, port) {
                return;
            }
        }
    }

    /// A handshake went on. Its answers leave a few at a time, while others are worked on: a handshake takes a moment, and the answers
    /// of a turn's worth of them at once would find no room on the way.
    pub(super) fn greet(&mut self, handle: u32, now: Instant, port: &mut impl Port) {
        if self.greeted.last() != Some(&handle) {
            self.greeted.push(handle);
        }
        if self.greeted.len() < GREETED_MAX {
            return;
        }
        for handle in std::mem::take(&mut self.greeted) {
            // Those that do not leave now do so at the end of the turn.
            if self.outgoing.held.is_none() {
                let mut budget = SENDS_PER_CONNECTION;
                self.flush_one(handle, &mut budget, now, port);
            }
        }
    }

    /// Sends of one connection. False: the socket has no room.
    fn flush_one(&mut self, handle: u32, budget: &mut usize, now: Instant, port: &mut impl Port) -> bool {
        for _ in 0..SENDS_PER_CONNECTION {
            let datagrams_max = self.datagrams_max(handle, port.segments_max());
            let Some(conn) = self.conns.get(handle).filter(|_| datagrams_max > 0) else {
                // Held back until more has been heard.
                self.arm(handle);
                return true;
            };
            self.outgoing.buffer.clear();
            let Some(transmit) = conn.quic.poll_transmit(now, datagrams_max, &mut self.outgoing.buffer) else {
                // What was sent moves timers.
                self.arm(handle);
                return true;
            };
            *budget = budget.saturating_sub(1);
            conn.said_bytes = conn.said_bytes.saturating_add(transmit.size as u32);
            if !self.send(transmit, port) {
                self.unsent(handle);
                self.arm(handle);
                return false;
            }
        }
        self.arm(handle);
        self.unsent(handle);
        true
    }

    /// How many datagrams may be sent to a client: as many as fit one send, or, while its address may be forged, as it has paid
    /// for. quinn-proto lets a last one out as long as anything is left of what is allowed.
    fn datagrams_max(&mut self, handle: u32, segments_max: usize) -> usize {
        let Some(conn) = self.conns.get(handle) else { return 0 };
        if conn.stage != Stage::Handshake || !conn.flags.has(Flags::UNPROVEN) {
            return segments_max;
        }
        if Told::of(conn.quic.crypto_session()).is_some_and(|told| told.is_proven()) {
            self.proved(handle);
            return segments_max;
        }
        let paid = conn.heard_bytes.saturating_mul(AMPLIFICATION_MAX).saturating_sub(conn.said_bytes);
        let datagrams = (paid / u32::from(conn.quic.current_mtu())) as usize;
        if datagrams == 0 {
            self.metrics.held_back(1);
        }
        datagrams.min(segments_max)
    }

    /// Sends what stands in the buffer, or holds it.
    fn send(&mut self, transmit: Transmit, port: &mut impl Port) -> bool {
        if port.send(&transmit, &self.outgoing.buffer[..transmit.size]) {
            self.metrics.datagrams_out(datagrams(&transmit) as u64);
            true
        } else {
            self.outgoing.held = Some(transmit);
            false
        }
    }

    /// Something is to be sent, and the socket did not refuse the last.
    pub(in super::super) fn has_unsent(&self) -> bool {
        self.outgoing.is_due()
    }
}
