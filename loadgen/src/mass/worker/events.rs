//! What happened to sockets, and what clients heard.

use std::cmp::Reverse;
use std::io;

use super::{EVENTS_PER_TURN, Later, MILLISECOND, Worker};
use crate::lines::Event;
use crate::mass::client::{Arrival, Phase};
use crate::mass::crowd::{Again, Asked, Heard};
use crate::mass::gaps::Late;
use crate::mass::hear::Ears;
use crate::recorder::record;

/// How long to wait at least before asking for the channel again, if the server was too busy.
const SUBSCRIBE_AGAIN_MS: u64 = 100;

impl Worker {
    pub(super) fn events(&mut self) -> io::Result<()> {
        for _ in 0..EVENTS_PER_TURN {
            let Some((at, event)) = self.lines.event()? else { return Ok(()) };
            let now = self.clock.now_ns();
            match event {
                Event::Received(bytes) => {
                    self.tally.counts.received_bytes += bytes.len() as u64;
                    let mut ears = Ears { voice: &mut self.voice, out: &mut self.out, heard: &mut self.heard };
                    self.crowd.received(at, bytes, &mut ears);
                    self.flush(at)?;
                    self.heard(at, now)?;
                }
                Event::Connected => self.connected(at, now)?,
                Event::Over(why) => self.ended(at, &why, now)?,
                Event::Told(code) => self.closed(at, Some(code), now)?,
                Event::Closed => self.crowd.gone(at),
            }
        }
        Ok(())
    }

    fn connected(&mut self, at: u32, now: u64) -> io::Result<()> {
        if self.crowd.phase(at) != Phase::Connecting {
            return Ok(());
        }
        self.out.clear();
        let mut ears = Ears { voice: &mut self.voice, out: &mut self.out, heard: &mut self.heard };
        match self.crowd.connected(at, &mut ears) {
            Ok(()) => self.flush(at),
            Err(error) => self.ended(at, &error.to_string(), now),
        }
    }

    fn heard(&mut self, at: u32, now: u64) -> io::Result<()> {
        let mut heard = std::mem::take(&mut self.heard);
        let mut result = Ok(());
        for heard in heard.drain(..) {
            result = result.and_then(|()| self.happened(at, heard, now));
        }
        self.heard = heard;
        result
    }

    fn happened(&mut self, at: u32, heard: Heard, now: u64) -> io::Result<()> {
        let counts = &mut self.tally.counts;
        match heard {
            Heard::Upgraded | Heard::Other => {}
            Heard::Live { heartbeat_ms } => self.entered(at, heartbeat_ms, now)?,
            Heard::Pong => {
                if let Some(beat_ms) = self.crowd.awaits_pong(at) {
                    counts.beats_answered += 1;
                    record(&mut self.tally.beat, u64::from(beat_ms) * MILLISECOND, now);
                    self.crowd.answered(at);
                }
            }
            Heard::Subscribed => {
                counts.subscribed += 1;
                self.subscribed();
            }
            Heard::Pushed { stamp, arrival } => {
                let (client, seq) = (self.crowd.number(at), stamp.serial + 1);
                let new = match arrival {
                    Arrival::Next => true,
                    Arrival::After(missing) => {
                        counts.missing += u64::from(missing);
                        self.gaps.open(client, seq - missing, seq - 1);
                        true
                    }
                    Arrival::Doubled => {
                        counts.doubled += 1;
                        false
                    }
                    Arrival::Late => {
                        let late = self.gaps.late(client, seq);
                        counts.doubled += u64::from(late == Late::Doubled);
                        counts.reordered += u64::from(late != Late::Doubled);
                        late == Late::Filled
                    }
                };
                if new {
                    counts.pushed += 1;
                    record(&mut self.tally.delivery, stamp.intended_ns, now);
                    self.tally.arrived(stamp.serial, stamp.intended_ns, now);
                    self.pushed();
                }
            }
            Heard::Published { stamp_serial, seq } => {
                counts.acknowledged += 1;
                // The channel has one writer: its n-th message is the n-th entry.
                counts.garbled += u64::from(seq != u64::from(stamp_serial) + 1);
                self.published(stamp_serial, now);
            }
            Heard::Echoed(stamp) => {
                counts.echoed += 1;
                record(&mut self.tally.answer, stamp.intended_ns, now);
                self.echoed(at, now)?;
            }
            Heard::Garbled => counts.garbled += 1,
            Heard::Behind => counts.behind += 1,
            Heard::GoAway { slot_ms } => {
                counts.goaways += 1;
                let leave = Later::Leave(self.crowd.opening_of(at));
                self.later.push(Reverse((now + u64::from(slot_ms) * MILLISECOND, at, leave)));
            }
            Heard::Refused { asked: Asked::Subscribe, again: Again::After(after_ms), .. } => {
                counts.subscribes_repeated += 1;
                let wait_ns = u64::from(after_ms).max(SUBSCRIBE_AGAIN_MS) * MILLISECOND;
                let again = Later::Subscribe(self.crowd.opening_of(at));
                // Not all that were refused together come together again.
                let due = now + wait_ns + self.chance(at, now) % wait_ns;
                self.later.push(Reverse((due, at, again)));
            }
            Heard::Refused { asked: Asked::Connect, code, again } => {
                counts.refused += 1;
                *self.tally.errors.entry(code).or_default() += 1;
                self.connect_refused(at, code, again, now)?;
            }
            Heard::Refused { code, .. } => {
                counts.refused += 1;
                *self.tally.errors.entry(code).or_default() += 1;
            }
            Heard::TurnedAway { status, retry_after_s } => self.turned_away(at, status, retry_after_s, now)?,
            Heard::Closed(code) => self.closed(at, code, now)?,
            Heard::Failed(why) => self.ended(at, &why, now)?,
        }
        Ok(())
    }

    /// It is a session now.
    fn entered(&mut self, at: u32, heartbeat_ms: u32, now: u64) -> io::Result<()> {
        self.tally.counts.entered += 1;
        record(&mut self.tally.setup, self.crowd.intended_ns(at), now);
        self.beat_every(heartbeat_ms, now);
        self.subscribe_again(at)
    }
}
