//! What concerns every session, a few at a time: doubt, drain, stop.

use std::time::Duration;

use roost_wire::link::SessionKey;
use roost_wire::pb::{self, Frame};
use roost_wire::{CloseCode, FrameBody};

use super::Shard;
use crate::clock::{TICK_MS, Tick, ticks};
use crate::session::Connection;

/// Slots that one walk looks at in a turn, used or not.
const VISITS_PER_TURN: u32 = 16_384;
/// Ticks that a late turn may make up for.
const TICKS_MADE_UP_MAX: Tick = 4;
/// GOAWAYs are told within this share of the drain's window, so that clients know their slot early.
const TELLING_SHARE: u32 = 8;

/// The walks under way.
#[derive(Debug, Default)]
pub(super) struct Walks {
    doubt: Walk,
    drain: Option<Drain>,
    close: Walk,
    close_code: Option<CloseCode>,
    /// Everything is closed, and no connection taken any more.
    pub(super) stopping: bool,
}

/// A walk over all slots.
#[derive(Clone, Copy, Debug, Default)]
struct Walk {
    cursor: u32,
    /// Slots still to visit.
    left: u32,
    /// The tick of its next step.
    due: Tick,
}

/// A node that drains.
#[derive(Debug)]
struct Drain {
    reason: String,
    urls: Vec<String>,
    window_ms: u64,
    began: Tick,
    /// When those still here are closed; then nothing is told any more.
    ends: Tick,
    /// How many were here when it began, and how many were told since.
    sessions: u64,
    told: u64,
    per_tick: u32,
    random: u64,
    walk: Walk,
}

impl Walk {
    /// Visits all slots from now on, those that a walk under way has visited too.
    fn begin(&mut self, slots: u32, now: Tick) {
        if self.left == 0 {
            self.due = now;
        }
        self.left = slots;
    }

    /// The next slot to visit.
    fn step(&mut self, slots: u32) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        self.cursor = (self.cursor + 1) % slots.max(1);
        Some(self.cursor)
    }

    /// When a paced walk goes on.
    fn next(&self) -> Option<Tick> {
        (self.left > 0).then_some(self.due)
    }

    /// How many sessions a paced walk may tell now.
    fn allowance(&mut self, per_tick: u32, now: Tick) -> u32 {
        let passed = (now - self.due.min(now)).saturating_add(1).min(TICKS_MADE_UP_MAX);
        self.due = now.saturating_add(1);
        per_tick.saturating_mul(passed)
    }
}

impl Walks {
    /// When the next step of any is due.
    pub(super) fn next(&self) -> Option<Tick> {
        let drain = self.drain.as_ref().map(|drain| drain.walk.next().unwrap_or(drain.ends).min(drain.ends));
        let close = (self.close.left > 0).then_some(0);
        [self.doubt.next(), drain, close].into_iter().flatten().min()
    }
}

impl Shard {
    pub(super) fn begin_doubt(&mut self) {
        self.metrics.doubts(1);
        self.walks.doubt.begin(self.slots.slots(), self.tick);
    }

    pub(super) fn begin_drain(
        &mut self,
        reason: &str,
        window: Duration,
        deadline: Duration,
        urls: Vec<String>,
        seed: u64,
    ) {
        let telling_ticks = (ticks(window) / TELLING_SHARE).max(1);
        let sessions = self.live_sessions as u64;
        let mut walk = Walk::default();
        walk.begin(self.slots.slots(), self.tick);
        self.walks.drain = Some(Drain {
            reason: reason.to_owned(),
            urls,
            window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
            began: self.tick,
            ends: self.clock.tick_after(self.now, deadline),
            sessions,
            told: 0,
            per_tick: u32::try_from(sessions.div_ceil(telling_ticks.into())).unwrap_or(u32::MAX).max(1),
            random: seed,
            walk,
        });
    }

    pub(super) fn begin_stop(&mut self, code: CloseCode) {
        self.walks.stopping = true;
        self.begin_closing_all(code);
    }

    fn begin_closing_all(&mut self, code: CloseCode) {
        self.walks.close_code = Some(code);
        self.walks.close.begin(self.slots.slots(), self.tick);
    }

    /// A slice of each walk. True: there is more to do at once.
    pub(super) fn run_walks(&mut self) -> bool {
        self.run_doubt();
        self.run_drain();
        self.run_close()
    }

    fn run_doubt(&mut self) {
        let mut walk = self.walks.doubt;
        if walk.next().is_none_or(|next| next > self.tick) {
            return;
        }
        let per_second = u64::from(self.config.doubt_sessions_per_second);
        let per_tick = u32::try_from((per_second * TICK_MS).div_ceil(1000)).unwrap_or(u32::MAX);
        let allowance = walk.allowance(per_tick, self.tick);
        let told = self.visit(&mut walk, allowance, Self::tell_changed);
        self.metrics.doubts_told(told.into());
        self.walks.doubt = walk;
    }

    /// Goes on with `walk` until `allowance` sessions were told or this turn's visits are done; `tell` says whether it
    /// told somebody. Returns how many were.
    fn visit(&mut self, walk: &mut Walk, allowance: u32, tell: fn(&mut Self, SessionKey) -> bool) -> u32 {
        let mut told = 0;
        for _ in 0..VISITS_PER_TURN {
            if told == allowance {
                break;
            }
            let Some(slot) = walk.step(self.slots.slots()) else { break };
            if let Some(key) = self.slots.key_at(slot)
                && tell(self, key)
            {
                told += 1;
            }
        }
        told
    }

    fn run_drain(&mut self) {
        let Some(drain) = &mut self.walks.drain else { return };
        if drain.ends <= self.tick {
            self.walks.drain = None;
            self.begin_closing_all(CloseCode::Drain);
            return;
        }
        if drain.walk.next().is_none_or(|next| next > self.tick) {
            return;
        }
        let (mut walk, per_tick) = (drain.walk, drain.per_tick);
        let allowance = walk.allowance(per_tick, self.tick);
        self.visit(&mut walk, allowance, Self::goaway_if_draining);
        if let Some(drain) = &mut self.walks.drain {
            drain.walk = walk;
        }
    }

    fn run_close(&mut self) -> bool {
        let Some(code) = self.walks.close_code else { return false };
        let mut allowance = self.config.fanout_slice;
        for _ in 0..VISITS_PER_TURN {
            if allowance == 0 {
                break;
            }
            let Some(slot) = self.walks.close.step(self.slots.slots()) else {
                self.walks.close_code = None;
                return false;
            };
            let Some(key) = self.slots.key_at(slot) else { continue };
            let is_session = self.slots.get(key).and_then(Connection::session).is_some();
            // A drain leaves requests to the HTTP service, which knows when they are answered.
            if is_session || self.walks.stopping {
                allowance -= 1;
                self.close(key, code);
            }
        }
        true
    }

    /// Asks a live session to go elsewhere, if the node drains. True if it did.
    pub(super) fn goaway_if_draining(&mut self, key: SessionKey) -> bool {
        let Some(session) = self.slots.get(key).and_then(Connection::session) else { return false };
        let Some(drain) = &mut self.walks.drain else { return false };
        if session.user().is_none() {
            return false;
        }
        let (slot_ms, deadline_ms) = drain.next_slot(self.tick);
        let goaway = pb::Goaway { reason: drain.reason.clone(), deadline_ms, slot_ms, urls: drain.urls.clone() };
        self.metrics.goaways(1);
        self.queue_frame(key, &Frame { rid: 0, body: Some(FrameBody::Goaway(goaway)) });
        true
    }
}

impl Drain {
    /// Slot and deadline of the next session, in milliseconds from now: the window has a part for each session that
    /// was here, and it goes anywhere within its part.
    fn next_slot(&mut self, now: Tick) -> (u32, u32) {
        let parts = self.sessions.max(1);
        let part_us = self.window_ms.saturating_mul(1000) / parts;
        // A session that came later takes a part again.
        let begins_us = (self.told % parts).saturating_mul(part_us);
        self.told += 1;
        let jitter_us = self.draw() % part_us.max(1);
        let passed_ms = u64::from(now.saturating_sub(self.began)) * TICK_MS;
        let slot_ms = ((begins_us + jitter_us) / 1000).saturating_sub(passed_ms);
        let deadline_ms = u64::from(self.ends.saturating_sub(now)) * TICK_MS;
        let number = |ms: u64| u32::try_from(ms).unwrap_or(u32::MAX);
        (number(slot_ms), number(deadline_ms))
    }

    /// SplitMix64: enough to spread clients.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}
