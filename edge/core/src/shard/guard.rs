//! What a connection may cost the others: how many have not said who they are, and how fast a session may send.
//!
//! A *stranger* is a connection that has neither sent CONNECT nor been answered by the HTTP service. Who means well is
//! one for a moment only, so when there are too many the oldest makes room.
//!
//! A session pays for what it sends in frames. One that is ahead of its rate is not read until it has waited, which is
//! no error: its bytes wait in its own buffers. One that is far ahead is closed.

use std::collections::VecDeque;
use std::ops::ControlFlow::{self, Break, Continue};
use std::time::Duration;

use roost_wire::limits::FLOOD_DEBT_MS;
use roost_wire::link::SessionKey;
use roost_wire::ws::handshake::refusal;
use roost_wire::{CloseCode, limits};

use super::Shard;
use crate::Effect;
use crate::clock::NEVER;
use crate::session::{Closing, Connection, Stage};

/// Bytes that count as one frame.
const BYTES_PER_FRAME: usize = 4096;
/// Bytes that come out of compressed messages: there may be a thousand times as many as came in.
const INFLATED_BYTES_PER_FRAME: usize = 1024;

/// Strangers, oldest first. Those that are none any more are dropped from the front, and from everywhere once they are
/// the most.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    queue: VecDeque<SessionKey>,
    pub(super) count: usize,
}

impl Shard {
    /// A connection began: a stranger. Above the limit the oldest one goes.
    pub(super) fn met(&mut self, key: SessionKey) {
        self.metrics.unauthenticated_opened(1);
        self.strangers.count += 1;
        self.strangers.queue.push_back(key);
        while self.strangers.count > self.config.unauthenticated_max {
            let Some(oldest) = self.strangers.queue.pop_front() else { break };
            self.let_stranger_go(oldest);
        }
        if self.strangers.queue.len() > 64 + 2 * self.strangers.count {
            let slots = &self.slots;
            self.strangers.queue.retain(|key| slots.get(*key).is_some_and(|conn| conn.stranger));
        }
    }

    /// Entries of the list, those included that are none any more.
    #[cfg(test)]
    pub(super) fn strangers_remembered(&self) -> usize {
        self.strangers.queue.len()
    }

    /// It is no stranger any more, for whatever reason.
    pub(super) fn known(&mut self, key: SessionKey) {
        let Some(conn) = self.slots.get_mut(key) else { return };
        if std::mem::replace(&mut conn.stranger, false) {
            self.strangers.count -= 1;
            self.metrics.unauthenticated_closed(1);
        }
    }

    /// A word to who makes room, written in this turn or never.
    fn let_stranger_go(&mut self, key: SessionKey) {
        let Some(conn) = self.slots.get(key).filter(|conn| conn.stranger) else { return };
        self.metrics.refused_unauthenticated(1);
        match conn.stage {
            Stage::Head(_) => {
                self.queue(key, refusal(503, "too many connections that say nothing").freeze());
                self.begin_closing(key, Closing::Heard);
            }
            Stage::Session(_) => self.close_now(key, CloseCode::Overloaded),
            Stage::Http(_) | Stage::Closing(_) | Stage::Dead => self.let_go(key),
        }
        debug_assert!(self.slots.get(key).is_none_or(|conn| !conn.stranger), "{key:?} makes room");
    }

    /// Pays for bytes that arrived.
    pub(super) fn pay_bytes(&mut self, key: SessionKey, bytes: usize) -> ControlFlow<()> {
        self.pay(key, bytes / BYTES_PER_FRAME)
    }

    /// Pays for a message that was inflated.
    pub(super) fn pay_inflated(&mut self, key: SessionKey, bytes: usize) -> ControlFlow<()> {
        self.metrics.inflated_bytes(bytes as u64);
        self.pay(key, bytes / INFLATED_BYTES_PER_FRAME)
    }

    /// Pays for a ping.
    pub(super) fn pay_ping(&mut self, key: SessionKey) -> ControlFlow<()> {
        self.pay(key, limits::PING_FRAMES as usize)
    }

    /// Pays for frames; breaks if the session was closed because it is too far ahead of its rate.
    pub(super) fn pay(&mut self, key: SessionKey, frames: usize) -> ControlFlow<()> {
        let Some(rate) = self.frame_rate else { return Continue(()) };
        let now_us = self.clock.us(self.now);
        let Some(session) = self.slots.get_mut(key).and_then(Connection::session_mut) else { return Break(()) };
        // There to be measured.
        if session.bench_path().is_some() {
            return Continue(());
        }
        if session.frames.spend(rate, now_us, frames as u64) > u64::from(FLOOD_DEBT_MS) * 1000 {
            self.close_now(key, CloseCode::Flood);
            return Break(());
        }
        Continue(())
    }

    /// Bytes of a session were worked off; `completed` if a message ended among them. Stops reading it while it is in
    /// debt, and notes when what is half received must be complete.
    pub(super) fn after_bytes(&mut self, key: SessionKey, completed: bool) {
        let (now_us, message_by) =
            (self.clock.us(self.now), self.clock.tick_after(self.now, self.config.message_within));
        let Some(session) = self.slots.get_mut(key).and_then(Connection::session_mut) else { return };
        if session.framing.is_idle() {
            session.message_by = NEVER;
        } else if completed || session.message_by == NEVER {
            session.message_by = message_by;
        }
        let debt_us = self.frame_rate.map_or(0, |rate| session.frames.debt_us(rate, now_us));
        if debt_us > 0 && !session.is_throttled() {
            session.throttled_until = self.clock.tick_after(self.now, Duration::from_micros(debt_us));
            self.metrics.throttles(1);
            if self.slots.get(key).is_some_and(|conn| !conn.paused) {
                self.effects.push_back(Effect::Pause(key));
            }
        }
    }

    /// The debt of a session is paid.
    pub(super) fn end_throttle(&mut self, key: SessionKey) {
        let Some(session) = self.slots.get_mut(key).and_then(Connection::session_mut) else { return };
        if std::mem::replace(&mut session.throttled_until, NEVER) != NEVER {
            self.read_again(key);
        }
    }

    /// A reason not to read a connection is gone; if it was the last one, it is read again.
    pub(super) fn read_again(&mut self, key: SessionKey) {
        let message_by = self.clock.tick_after(self.now, self.config.message_within);
        let Some(conn) = self.slots.get_mut(key).filter(|conn| !conn.is_unread()) else { return };
        // It was us who did not read.
        conn.heard = self.tick;
        if let Some(session) = conn.session_mut()
            && session.message_by != NEVER
        {
            session.message_by = message_by;
        }
        self.effects.push_back(Effect::Resume(key));
    }
}
