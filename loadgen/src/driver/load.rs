//! Sending: whose turn it is, and when.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::worker::{MILLISECOND, Worker};
use crate::client::Message;
use crate::pacer::Pacer;
use crate::plan::{ClientNo, Conv, Kind, Plan};
use crate::recorder::record;
use crate::scenario::{Load, Shares};

/// Messages sent before sockets are looked at again.
const SENDS_PER_TURN: usize = 256;

/// Who of this thread may speak where.
#[derive(Debug)]
pub(super) struct Speakers {
    /// Direct, group, channel.
    kinds: [Vec<(ClientNo, Conv)>; 3],
    /// How many there are in all threads.
    total: [usize; 3],
    /// The direct conversation of a client.
    direct: HashMap<ClientNo, Conv>,
    rng: StdRng,
}

impl Speakers {
    pub(super) fn new(plan: &Plan, thread: u32, threads: u32) -> Self {
        let mut kinds: [Vec<_>; 3] = Default::default();
        let mut total = [0; 3];
        for (conv, planned) in plan.conversations.iter().enumerate() {
            let (kind, speakers) = match planned.kind {
                Kind::Direct => (0, planned.members.len()),
                Kind::Group => (1, planned.members.len()),
                // One publisher.
                Kind::Channel => (2, 1),
            };
            total[kind] += speakers;
            let here = planned.members[..speakers].iter().filter(|member| *member % threads == thread);
            kinds[kind].extend(here.map(|member| (*member, conv as Conv)));
        }
        let direct = kinds[0].iter().copied().collect();
        Self { kinds, total, direct, rng: StdRng::seed_from_u64(0) }
    }

    /// Begins anew, for reproducible choices.
    fn seed(&mut self, seed: u64) {
        self.rng = StdRng::seed_from_u64(seed);
    }

    /// The part of each kind's messages that speakers of this thread send, per message of all threads.
    fn weights(&self, shares: Shares) -> [f64; 3] {
        let shares = [shares.direct, shares.group, shares.channel];
        // Kinds without speakers get nothing: their share goes to the others.
        let sum: f64 = shares.iter().zip(self.total).filter(|(_, total)| *total > 0).map(|(share, _)| share).sum();
        std::array::from_fn(|kind| match self.total[kind] {
            0 => 0.0,
            total if sum > 0.0 => shares[kind] / sum * self.kinds[kind].len() as f64 / total as f64,
            _ => 0.0,
        })
    }

    /// Draws who speaks next, and where.
    fn draw(&mut self, weights: [f64; 3]) -> Option<(ClientNo, Conv, Kind)> {
        let mut at = self.rng.random::<f64>() * weights.iter().sum::<f64>();
        let kind = weights.iter().position(|weight| {
            at -= weight;
            at < 0.0
        });
        let kind = kind.or_else(|| weights.iter().rposition(|weight| *weight > 0.0))?;
        let speakers = &self.kinds[kind];
        let (client, conv) = *speakers.get(self.rng.random_range(0..speakers.len().max(1)))?;
        Some((client, conv, [Kind::Direct, Kind::Group, Kind::Channel][kind]))
    }

    /// The clients that have a direct conversation.
    fn direct_clients(&self) -> Vec<ClientNo> {
        self.kinds[0].iter().map(|(client, _)| *client).collect()
    }
}

impl Worker {
    /// The load begins at `start_ns`.
    pub(super) fn start_load(&mut self, start_ns: u64) {
        let scenario = &self.shared.scenario;
        let end_ns = start_ns + crate::clock::ns(scenario.load.hold());
        let seed = scenario.seed ^ (u64::from(self.number) << 32);
        self.speakers.seed(seed);
        self.pacer = match &scenario.load {
            Load::Idle { .. } => None,
            Load::Open { sends_per_second, arrivals, burst, shares, .. } => {
                let part: f64 = self.speakers.weights(*shares).iter().sum();
                Some(Pacer::new(*arrivals, sends_per_second * part, *burst, start_ns, end_ns, seed))
            }
            Load::Closed { .. } => {
                for client in self.speakers.direct_clients() {
                    if let Some(slot) = self.slot_of(client) {
                        self.send_next(slot, start_ns);
                    }
                }
                None
            }
        };
    }

    /// Sends what is due by the pacer.
    pub(super) fn send_due(&mut self) {
        let Load::Open { shares, .. } = self.shared.scenario.load else { return };
        let weights = self.speakers.weights(shares);
        for _ in 0..SENDS_PER_TURN {
            let now = self.now();
            let Some(pacer) = &mut self.pacer else { return };
            let Some(intended_ns) = pacer.peek().filter(|intended| *intended <= now) else { return };
            pacer.take();
            self.recorder.counts.intended += 1;
            record(&mut self.recorder.late, intended_ns, now);
            if let Some((client, conv, kind)) = self.speakers.draw(weights) {
                self.send(client, conv, kind == Kind::Channel, intended_ns);
            }
        }
    }

    /// Sends the next message of a closed model.
    pub(super) fn send_next(&mut self, slot: u32, now: u64) {
        if !self.is_loading(now) {
            return;
        }
        let client = self.client_no(slot);
        let Some(conv) = self.speakers.direct.get(&client).copied() else { return };
        self.recorder.counts.intended += 1;
        if self.slots[slot as usize].client.is_live() {
            self.send(client, conv, false, now);
        } else {
            // It goes on when it is back.
            self.recorder.counts.unsent += 1;
        }
    }

    fn send(&mut self, client: ClientNo, conv: Conv, channel: bool, intended_ns: u64) {
        let Some(slot) = self.slot_of(client) else { return };
        let state = &mut self.slots[slot as usize];
        if !state.client.may_send() || (self.names.id(conv).is_empty() && !self.is_plain()) {
            self.recorder.counts.unsent += 1;
            return;
        }
        let names = std::sync::Arc::clone(&self.names);
        let body_bytes = self.shared.scenario.body_bytes;
        let message = Message { client, conv, channel, intended_ns, body_bytes, names: &names };
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn the_parts_of_all_threads_are_the_whole() {
        let plan = Plan::draw(&Scenario::quick(101, 1.0, Duration::ZERO));
        let shares = Shares { direct: 3.0, group: 1.0, channel: 5.0 };
        let parts: f64 = (0..3).map(|thread| Speakers::new(&plan, thread, 3).weights(shares).iter().sum::<f64>()).sum();
        assert!((parts - 1.0).abs() < 1e-9, "{parts}");
    }

    #[test]
    fn kinds_are_drawn_by_their_shares_and_speakers_by_chance() {
        let plan = Plan::draw(&Scenario::quick(100, 1.0, Duration::ZERO));
        let shares = Shares { direct: 3.0, group: 1.0, channel: 0.0 };
        let mut speakers = Speakers::new(&plan, 0, 1);
        speakers.seed(9);
        let weights = speakers.weights(shares);
        let drawn: Vec<_> = (0..4000).filter_map(|_| speakers.draw(weights)).collect();
        let direct = drawn.iter().filter(|(.., kind)| *kind == Kind::Direct).count();
        assert!((2800..3200).contains(&direct), "{direct}");
        for (client, conv, _) in drawn {
            assert!(plan.conversations[conv as usize].members.contains(&client));
        }
    }
}
