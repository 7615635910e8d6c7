//! Leaving and coming back by will: sleep, phases in which fewer are there, storms, other networks, servers that ask to go.

use super::worker::{Due, MILLISECOND, SECOND, Worker};
use crate::clock::ns;
use crate::scenario::{Cut, Event};
use crate::schedule::{Course, share_of};

/// How long a client that leaves waits for its answers.
const ANSWERS_WITHIN_NS: u64 = 2 * SECOND;
/// How often it looks whether they are there.
const LOOK_EVERY_NS: u64 = 20 * MILLISECOND;
/// How long a device is between two networks.
const BETWEEN_NETWORKS_NS: u64 = 300 * MILLISECOND;

impl Worker {
    /// Everybody who is not meant to be there when the load begins leaves.
    pub(super) fn assemble(&mut self) {
        let presences = crate::schedule::Presences::of(&self.shared.scenario);
        for slot in 0..self.slots.len() as u32 {
            let client = self.client_no(slot);
            let Some(mut presence) = presences.of_client(&self.shared.scenario, &self.shared.plan, client) else {
                continue;
            };
            let mut next = presence.next();
            while let Some((0, there)) = next {
                self.turn(slot, there);
                next = presence.next();
            }
            self.presences.insert(slot, (presence, next));
        }
    }

    /// What the phases have in store for the clients of this thread.
    pub(super) fn foresee(&mut self, start_ns: u64) {
        let firsts: Vec<(u32, u64)> =
            self.presences.iter().filter_map(|(slot, (_, next))| Some((*slot, next.as_ref()?.0))).collect();
        for (slot, at) in firsts {
            self.later(start_ns + at, slot, Due::Turn);
        }
        let course = Course::of(&self.shared.scenario);
        for (number, leg) in course.legs.iter().enumerate() {
            let from = start_ns + leg.from_ns;
            for slot in 0..self.slots.len() as u32 {
                // Of every client and phase two numbers of chance: whether it is hit, and when it comes back.
                let of = self.shared.scenario.seed ^ (number as u64 + 1) << 56 ^ u64::from(self.client_no(slot)) << 8;
                match leg.event {
                    Event::Storm { share, how, window } if share_of(of) < share => {
                        self.later(from, slot, Due::Cut(how == Cut::Rst));
                        self.later(from + (share_of(of ^ 1) * ns(window) as f64) as u64, slot, Due::Back);
                    }
                    Event::Network { share } if share_of(of) < share => {
                        let time = (leg.to_ns - leg.from_ns) as f64;
                        self.later(from + (share_of(of ^ 1) * time) as u64, slot, Due::Change);
                    }
                    _ => {}
                }
            }
        }
    }

    /// The next of the comings and goings of a client is due.
    pub(super) fn turn_due(&mut self, slot: u32, at_ns: u64) {
        let Some(start_ns) = self.load_start_ns.filter(|_| !self.is_settled()) else { return };
        let Some((presence, next)) = self.presences.get_mut(&slot) else { return };
        let Some((turn, there)) = next.take() else { return };
        *next = presence.next();
        if let Some((following, _)) = next {
            let following = start_ns + *following;
            self.later(following, slot, Due::Turn);
        }
        debug_assert_eq!(start_ns + turn, at_ns, "turns come in their order");
        self.turn_at(slot, there, at_ns);
    }

    fn turn(&mut self, slot: u32, there: bool) {
        let now = self.now();
        self.turn_at(slot, there, now);
    }

    fn turn_at(&mut self, slot: u32, there: bool, intended_ns: u64) {
        let now = self.now();
        let state = &mut self.slots[slot as usize];
        state.away = !there;
        if !there {
            state.leaves_ns = now + ANSWERS_WITHIN_NS;
            self.leave(slot);
        } else if state.is_wanted() && self.is_session(&self.slots[slot as usize]) {
            self.open(slot, intended_ns);
        }
    }

    /// Leaves once all answers are there, or late enough.
    pub(super) fn leave(&mut self, slot: u32) {
        let now = self.now();
        let state = &mut self.slots[slot as usize];
        if !state.away && !state.moves {
            return;
        }
        if state.client.is_live() && !state.client.is_idle() && now < state.leaves_ns {
            return self.later(now + LOOK_EVERY_NS, slot, Due::Leave);
        }
        let moves = std::mem::take(&mut state.moves);
        self.part(slot, true, false);
        if moves && self.slots[slot as usize].is_wanted() {
            self.open(slot, now);
        }
    }

    /// The server asked for it.
    pub(super) fn move_elsewhere(&mut self, slot: u32) {
        let now = self.now();
        let state = &mut self.slots[slot as usize];
        if state.moves {
            state.leaves_ns = now + ANSWERS_WITHIN_NS;
            self.leave(slot);
        }
    }

    /// Ends a connection by our will.
    fn part(&mut self, slot: u32, politely: bool, reset: bool) {
        let state = &mut self.slots[slot as usize];
        if state.line.is_none() {
            return;
        }
        if politely && state.client.is_live() {
            state.client.close(&mut self.pen);
            self.flush(slot);
        }
        // Saying so may have ended it.
        if self.slots[slot as usize].line.is_some() && self.close(slot, politely, reset) {
            self.recorder.counts.left += 1;
            self.slots[slot as usize].planned = true;
        }
    }

    /// A storm takes it.
    pub(super) fn cut(&mut self, slot: u32, reset: bool) {
        if self.is_settled() {
            return;
        }
        self.slots[slot as usize].cut = true;
        self.part(slot, false, reset);
    }

    /// It comes back from a storm, or from between two networks.
    pub(super) fn back(&mut self, slot: u32, intended_ns: u64) {
        let state = &mut self.slots[slot as usize];
        state.cut = false;
        if state.is_wanted() && state.line.is_none() && self.is_session(&self.slots[slot as usize]) {
            self.open(slot, intended_ns);
        }
    }

    /// Another network: QUIC goes on from another address, everybody else comes anew.
    pub(super) fn change_network(&mut self, slot: u32, now: u64) {
        if self.is_settled() || self.slots[slot as usize].line.is_none() {
            return;
        }
        #[cfg(target_os = "linux")]
        if let Some(moved) = self.migrate_quic(slot) {
            self.recorder.counts.migrated += u64::from(moved);
            return;
        }
        self.slots[slot as usize].cut = true;
        self.part(slot, false, false);
        self.later(now + BETWEEN_NETWORKS_NS, slot, Due::Back);
    }

    /// The load is over: whoever is away comes to look what it missed, as fast as clients may.
    pub(super) fn gather(&mut self, now: u64) {
        let per_second = (self.shared.scenario.connects_per_second / self.shared.threads).max(1);
        let mut begun = 0;
        for slot in 0..self.slots.len() as u32 {
            let state = &mut self.slots[slot as usize];
            (state.away, state.cut) = (false, false);
            if state.line.is_none() && self.is_session(&self.slots[slot as usize]) {
                self.later(now + begun * SECOND / u64::from(per_second), slot, Due::Back);
                begun += 1;
            }
        }
    }

    /// Sessions that are on their way back.
    pub(super) fn coming_back(&self) -> u64 {
        let gone = |slot: &&super::conn::Slot| self.is_session(slot) && !slot.client.is_live();
        self.slots.iter().filter(gone).count() as u64
    }
}
