//! Deadlines.
//!
//! A connection has one timer. It is armed for the earliest moment at which something may be due; what would move that
//! moment away (a frame, a write) only notes when it happened, and the timer is armed again when it goes off too soon.

use roost_wire::CloseCode;
use roost_wire::link::SessionKey;
use roost_wire::ws::handshake::refusal;

use super::Shard;
use crate::clock::NEVER;
use crate::session::{Phase, Stage};

/// Timers that one turn looks at.
const TIMERS_PER_TURN: usize = 1024;

impl Shard {
    /// Arms the timer of `key`, unless it goes off soon enough.
    pub(super) fn arm(&mut self, key: SessionKey) {
        let Some(conn) = self.slots.get(key) else { return };
        let deadline = conn.deadline(&self.times);
        if deadline != NEVER {
            self.wheel.arm_by(key.slot(), deadline);
        }
    }

    /// Runs what is due. True: more is.
    pub(super) fn run_timers(&mut self) -> bool {
        for _ in 0..TIMERS_PER_TURN {
            let Some(slot) = self.wheel.expired(self.tick) else { return false };
            if let Some(key) = self.slots.key_at(slot) {
                self.timer(key);
            }
        }
        self.wheel.next().is_some_and(|tick| tick <= self.tick)
    }

    fn timer(&mut self, key: SessionKey) {
        let Some(conn) = self.slots.get(key) else { return };
        if conn.deadline(&self.times) > self.tick {
            self.arm(key);
            return;
        }
        match &conn.stage {
            Stage::Head(_) => {
                self.metrics.refused_head_late(1);
                self.refuse_head(key, refusal(408, "no request in time"));
            }
            Stage::Http(http) if !http.answered => {
                self.metrics.refused_request_late(1);
                self.refuse_request(key);
            }
            Stage::Http(_) | Stage::Closing(_) => self.let_go(key),
            Stage::Session(session) if session.throttled_until <= self.tick => {
                self.end_throttle(key);
                self.arm(key);
            }
            Stage::Session(session) => {
                let code = match session.phase {
                    Phase::AwaitConnect(_) if conn.until <= self.tick => CloseCode::ConnectLate,
                    // The router did not answer.
                    Phase::Authorizing if conn.until <= self.tick => CloseCode::Overloaded,
                    Phase::Live(_) if conn.until <= self.tick => CloseCode::TokenExpired,
                    _ if conn.message_late() <= self.tick => CloseCode::MessageLate,
                    Phase::AwaitConnect(_) | Phase::Authorizing => return,
                    Phase::Live(_) | Phase::Bench(_) if conn.stalled(&self.times) <= self.tick => {
                        CloseCode::SlowConsumer
                    }
                    Phase::Live(_) | Phase::Bench(_) => CloseCode::HeartbeatMissed,
                };
                self.close(key, code);
            }
            Stage::Dead => {}
        }
    }
}
