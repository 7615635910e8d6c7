//! What the events of a client mean.

use super::Credentials;
use super::conn::Slot;
use super::worker::{Due, MILLISECOND, Worker};
use crate::client::{Arrival, Asked, Event, Stamp};
use crate::plan::Conv;
use crate::recorder::record;
use crate::scenario::{Load, Protocol};
use crate::schedule::share_of;

/// Pause of a closed model after an ERROR.
const PAUSE_AFTER_REFUSAL_NS: u64 = 10 * MILLISECOND;

impl Worker {
    pub(super) fn happened(&mut self, slot: u32, event: Event, now: u64) {
        let at = slot as usize;
        match event {
            Event::Upgraded => match self.shared.scenario.protocol {
                Protocol::Plain => self.entered(slot, now),
                Protocol::Roost => {
                    let client = self.client_no(slot);
                    let device = self.shared.device(client);
                    let user = self.shared.plan.user_of(client);
                    let connect = self.shared.credentials.connect(user, &device, self.slots[at].token.as_deref());
                    self.slots[at].client.connect(connect, &mut self.pen);
                }
            },
            Event::Welcomed { user, token, heartbeat_ms } => {
                let state = &mut self.slots[at];
                state.user = Some(user.into());
                state.heartbeat_ns = u64::from(heartbeat_ms) * MILLISECOND;
                if matches!(self.shared.credentials, Credentials::Guests) {
                    state.token = Some(token.into());
                }
                self.entered(slot, now);
            }
            Event::Created { conv, id } => self.created(conv, id),
            Event::Subscribed { .. } => self.subscribed(),
            Event::Acknowledged { conv, seq, stamp } => self.acknowledged(slot, conv, seq, stamp, now),
            Event::Pushed { conv, seq, stamp, arrival } => self.pushed(slot, conv, seq, stamp, arrival, now),
            Event::Fetched { conv, seq, stamp, new } => {
                self.recorder.counts.caught_up += u64::from(new && self.is_of_load(stamp));
                self.evidence.fetched(conv, seq, stamp);
            }
            Event::Absent { conv, seq } => self.evidence.absent(conv, seq),
            Event::LogEnded { conv, at } => self.log_ended(slot, conv, at),
            Event::Garbled => self.recorder.counts.garbled += 1,
            Event::Gap { conv } => self.gap_later(slot, conv, now),
            Event::Behind => {
                self.recorder.counts.behind += 1;
                self.slots[at].client.sync(&mut self.pen);
            }
            Event::Other => self.recorder.counts.other_pushes += 1,
            Event::AskedToMove { slot_ms } => {
                self.slots[at].moves = true;
                self.later(now + u64::from(slot_ms) * MILLISECOND, slot, Due::Move);
            }
            Event::Refused { asked, code } => self.refused(slot, asked, code, now),
            Event::Closed(Some(code)) => self.end(slot, &format!("closed by the server with {code}")),
            Event::Closed(None) => self.end(slot, "closed by the server without a code"),
            Event::Failed(why) => self.end(slot, &why),
        }
    }

    /// It is a session now.
    fn entered(&mut self, slot: u32, now: u64) {
        let state = &mut self.slots[slot as usize];
        record(&mut self.recorder.connect, state.opened_ns, now);
        self.recorder.counts.connected += 1;
        self.live += 1;
        state.tries = 0;
        self.recorder.counts.returned += u64::from(std::mem::take(&mut state.planned));
        let again = std::mem::replace(&mut state.was_live, true);
        let heartbeat_ns = state.heartbeat_ns;
        if again {
            return self.came_back(slot, now);
        }
        self.decided += 1;
        if heartbeat_ns > 0 {
            self.later(now + heartbeat_ns * 4 / 5, slot, Due::Heartbeat);
        }
    }

    /// After a lost connection: what was missed is in the log.
    fn came_back(&mut self, slot: u32, now: u64) {
        let Slot { client, .. } = &mut self.slots[slot as usize];
        let channels: Vec<Conv> = client.tracks().iter().map(|track| track.conv).collect();
        for conv in channels {
            if self.shared.plan.conversations[conv as usize].kind == crate::plan::Kind::Channel {
                client.subscribe(conv, &self.names, &mut self.pen);
                client.catch_up(conv, &self.names, &mut self.pen);
            }
        }
        client.sync(&mut self.pen);
        if matches!(self.shared.scenario.load, Load::Closed { .. }) {
            self.later(now, slot, Due::Next);
        }
    }

    fn acknowledged(&mut self, slot: u32, conv: Conv, seq: u64, stamp: Stamp, now: u64) {
        self.unanswered = self.unanswered.saturating_sub(1);
        self.recorder.counts.acknowledged += 1;
        record(&mut self.recorder.ack, stamp.intended_ns, now);
        self.evidence.acknowledged(conv, seq, stamp);
        match self.shared.scenario.load {
            Load::Closed { think, .. } if think.is_zero() => self.send_next(slot, now),
            Load::Closed { think, .. } => self.later(now + crate::clock::ns(think), slot, Due::Next),
            Load::Open { .. } | Load::Idle { .. } => {}
        }
    }

    fn pushed(&mut self, slot: u32, conv: Conv, seq: u64, stamp: Stamp, arrival: Arrival, now: u64) {
        let own = self.client_no(slot) == stamp.sender;
        let of_load = self.is_of_load(stamp);
        let counts = &mut self.recorder.counts;
        match arrival {
            Arrival::New | Arrival::Late if !of_load => {
                counts.other_pushes += 1;
                self.mark_later(slot, now);
            }
            Arrival::New | Arrival::Late => {
                counts.delivered += 1;
                counts.reordered += u64::from(arrival == Arrival::Late);
                record(&mut self.recorder.delivery, stamp.intended_ns, now);
                if !self.is_plain() {
                    self.mark_later(slot, now);
                    self.consider_answer(slot, conv, stamp, now);
                }
            }
            // On a channel the publisher gets its own: it is a delivery like any other.
            Arrival::Repeated if own => {
                counts.delivered += 1;
                record(&mut self.recorder.delivery, stamp.intended_ns, now);
            }
            Arrival::Doubled => counts.duplicated += 1,
            Arrival::Repeated => {}
        }
        if self.shared.scenario.protocol == Protocol::Roost {
            self.evidence.pushed(conv, seq, stamp);
        }
    }

    /// Whether a client of the load sent it, and not one of the SDK.
    fn is_of_load(&self, stamp: Stamp) -> bool {
        stamp.sender < self.shared.scenario.clients
    }

    /// Agents and bots answer what others said by themselves.
    fn consider_answer(&mut self, slot: u32, conv: Conv, stamp: Stamp, now: u64) {
        let crowd = &self.shared.scenario.crowds[usize::from(self.slots[slot as usize].crowd)];
        let Some(answers) = crowd.answers.filter(|_| !stamp.is_answer()) else { return };
        let writes = self.shared.plan.conversations[conv as usize].kind != crate::plan::Kind::Channel;
        let of = u64::from(stamp.sender) << 32 | u64::from(stamp.serial);
        if writes
            && share_of(of ^ self.shared.scenario.seed ^ u64::from(slot) << 40) < answers.share
            && self.is_loading(now)
        {
            self.later(now + crate::clock::ns(answers.after), slot, Due::Answer(conv));
        }
    }

    fn refused(&mut self, slot: u32, asked: Option<Asked>, code: u32, now: u64) {
        *self.recorder.errors.entry(code).or_default() += 1;
        match asked {
            Some(Asked::Send(..)) => {
                self.unanswered = self.unanswered.saturating_sub(1);
                self.recorder.counts.refused += 1;
                if matches!(self.shared.scenario.load, Load::Closed { .. }) {
                    self.later(now + PAUSE_AFTER_REFUSAL_NS, slot, Due::Next);
                }
            }
            Some(Asked::Create(conv)) => self.created(conv, String::new()),
            Some(Asked::Subscribe(_)) => self.subscribed(),
            Some(Asked::History(conv)) => self.log_failed(slot, conv),
            Some(Asked::Connect) => self.end(slot, &format!("CONNECT was refused with {code}")),
            Some(Asked::Sync) | None => {}
        }
    }
}
