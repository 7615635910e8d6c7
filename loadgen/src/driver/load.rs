//! Sending: whose turn it is, and when.

use std::sync::Arc;

use super::worker::{MILLISECOND, Worker};
use crate::client::Message;
use crate::plan::{ClientNo, Conv, Kind};
use crate::recorder::record;
use crate::scenario::Load;
use crate::schedule::Intended;

/// Messages sent before sockets are looked at again.
const SENDS_PER_TURN: usize = 256;

impl Worker {
    /// The load begins at `start_ns`.
    pub(super) fn start_load(&mut self, start_ns: u64) {
        let shared = Arc::clone(&self.shared);
        match shared.scenario.load {
            Load::Idle { .. } => {}
            Load::Open { .. } => {
                let mine = (shared.threads, self.number);
                self.intended = Some(Intended::new(&shared.scenario, &shared.plan, Arc::clone(&shared.speakers), mine));
            }
            Load::Closed { .. } => {
                for client in shared.speakers.direct_clients() {
                    if let Some(slot) = self.slot_of(client) {
                        self.send_next(slot, start_ns);
                    }
                }
            }
        }
        self.foresee(start_ns);
    }

    /// When the next message is meant to be sent.
    pub(super) fn next_send(&self) -> Option<u64> {
        let next = self.intended.as_ref()?.peek()?;
        Some(self.load_start_ns?.saturating_add(next.at_ns))
    }

    /// Sends what is due by its intended time.
    pub(super) fn send_due(&mut self) {
        for _ in 0..SENDS_PER_TURN {
            let now = self.now();
            let Some(intended_ns) = self.next_send().filter(|intended| *intended <= now) else { return };
            let Some(send) = self.intended.as_mut().and_then(Intended::take) else { return };
            self.digest.add(&send);
            self.recorder.counts.intended += 1;
            record(&mut self.recorder.late, intended_ns, now);
            self.send(send.client, send.conv, send.channel, intended_ns, false);
        }
    }

    /// Sends the next message of a closed model.
    pub(super) fn send_next(&mut self, slot: u32, now: u64) {
        if !self.is_loading(now) {
            return;
        }
        let client = self.client_no(slot);
        let Some(conv) = self.shared.speakers.direct(client) else { return };
        if self.slots[slot as usize].away {
            return;
        }
        self.recorder.counts.intended += 1;
        if self.slots[slot as usize].client.is_live() {
            self.send(client, conv, false, now, false);
        } else {
            // It goes on when it is back.
            self.recorder.counts.unsent += 1;
        }
    }

    /// Answers in a conversation, as it was meant to at `intended_ns`.
    pub(super) fn send_answer(&mut self, slot: u32, conv: Conv, intended_ns: u64) {
        let now = self.now();
        if !self.is_loading(now) || self.slots[slot as usize].away {
            return;
        }
        let channel = self.shared.plan.conversations[conv as usize].kind == Kind::Channel;
        self.recorder.counts.intended += 1;
        self.recorder.counts.answers += 1;
        record(&mut self.recorder.late, intended_ns, now);
        let client = self.client_no(slot);
        self.send(client, conv, channel, intended_ns, true);
    }

    fn send(&mut self, client: ClientNo, conv: Conv, channel: bool, intended_ns: u64, answer: bool) {
        let Some(slot) = self.slot_of(client) else { return };
        let state = &mut self.slots[slot as usize];
        if !state.client.may_send() || (self.names.id(conv).is_empty() && !self.is_plain()) {
            self.recorder.counts.unsent += 1;
            return;
        }
        let names = Arc::clone(&self.names);
        let body_bytes = self.shared.scenario.body_bytes;
        let message = Message { client, conv, channel, intended_ns, body_bytes, answer, names: &names };
        self.slots[slot as usize].client.send(&message, &mut self.pen);
        self.recorder.counts.sent += 1;
        self.sent += 1;
        if !self.is_plain() {
            self.unanswered += 1;
        }
        self.flush(slot);
    }

    /// When the load that began at `start_ns` ends, with a moment for what was due at its end.
    pub(super) fn load_end(&self, start_ns: u64) -> u64 {
        start_ns + crate::clock::ns(self.shared.scenario.load.hold()) + MILLISECOND
    }
}
