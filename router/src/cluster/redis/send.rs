//! What goes out: everything that waits for a node in one message, and few messages on their way at once.
//!
//! While one round of messages is on its way parcels gather for the next one: so a busy node sends large messages, and
//! an idle one sends at once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fred::prelude::*;
use fred::types::config::Options;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, MissedTickBehavior};

use super::codec::{self, BATCH_BYTES_MAX};
use super::held::{Held, Outbound};
use super::shared::Shared;
use crate::NodeId;

/// Rounds of messages that are on their way at once.
const ROUNDS_MAX: usize = 4;
/// What did not arrive is tried again, and what waits too long is looked for, so often.
const TRY_EVERY: Duration = Duration::from_millis(50);

/// A message that was sent, and whether somebody received it.
type Sent = (Outbound, bool);

/// Parcels as they are encoded for a round.
struct Encoded {
    bytes: Vec<u8>,
    /// To whom, and where it ends in `bytes`.
    parcels: Vec<(Option<NodeId>, usize)>,
}

impl Shared {
    pub(super) async fn send_loop(self: Arc<Self>) {
        let mut under_way = FuturesUnordered::new();
        let mut held = Held::default();
        let mut tries = tokio::time::interval(TRY_EVERY);
        tries.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            while under_way.len() < ROUNDS_MAX && self.may_send() {
                let Some(round) = self.next_round(&mut held) else { break };
                under_way.push(self.publish(round));
            }
            tokio::select! {
                Some(sent) = under_way.next() => {
                    let follow = self.note_sent(sent, &mut held);
                    if !follow.is_empty() {
                        under_way.push(self.publish(follow));
                    }
                }
                () = self.outgoing.wake.notified(), if under_way.len() < ROUNDS_MAX && self.may_send() => {}
                () = self.resume.notified() => {}
                _ = tries.tick() => {
                    self.give_up(&mut held);
                    if self.may_send() && !held.is_empty() {
                        under_way.push(self.publish(held.tries()));
                    }
                }
            }
        }
    }

    /// Takes what waits, and makes a message of it for each node. `None`: nothing waits.
    fn next_round(&self, held: &mut Held) -> Option<Vec<Outbound>> {
        let now = Instant::now();
        let mut encoded = Encoded { bytes: Vec::new(), parcels: Vec::new() };
        while encoded.bytes.len() < BATCH_BYTES_MAX {
            let (posted, dropped) = self.outgoing.pop(now, self.options.parcel_age_max);
            self.metrics.parcels_aged.add(dropped);
            let Some(posted) = posted else { break };
            match codec::append(&posted.parcel, &mut encoded.bytes) {
                Ok(()) => encoded.parcels.push((posted.to, encoded.bytes.len())),
                Err(_) => self.metrics.parcels_too_large.add(1),
            }
        }
        if encoded.parcels.is_empty() {
            return None;
        }
        self.metrics.parcels_sent.add(encoded.parcels.len());
        let header = codec::header(self.node, self.info.incarnation, 0);
        let targets = Arc::clone(&self.targets.lock());
        let targets: Vec<NodeId> = targets.iter().map(|target| target.node).collect();
        let mut round = Vec::new();
        for (node, message) in address(&header, &encoded, &targets) {
            let outbound = Outbound { node, message, since: now };
            if !held.holds(node) {
                round.push(outbound);
            } else if !held.hold(outbound) {
                self.metrics.messages_unheard.add(1);
            }
        }
        Some(round)
    }

    /// Sends messages, and tells which of them were received.
    async fn publish(&self, round: Vec<Outbound>) -> Vec<Sent> {
        if round.is_empty() {
            return Vec::new();
        }
        let options = Options {
            timeout: Some(self.options.publish_timeout),
            // What is to be tried again is known here better.
            max_attempts: Some(1),
            fail_fast: true,
            ..Options::default()
        };
        let metrics = &self.metrics;
        let pipeline = self.commands.pipeline().with_options(&options);
        for Outbound { node, message, .. } in &round {
            metrics.bytes_sent.add(message.len());
            let queued: Result<(), Error> = pipeline.spublish(self.names.channel(*node), message.clone()).await;
            debug_assert!(queued.is_ok(), "a pipeline queues");
        }
        metrics.messages_sent.add(round.len());
        let answers: Vec<Result<i64, Error>> = pipeline.try_all().await;
        if answers.len() != round.len() {
            // One answer for all: none was given.
            metrics.messages_failed.add(round.len());
            self.note(answers.into_iter().find_map(Result::err));
            return round.into_iter().map(|outbound| (outbound, false)).collect();
        }
        let sent = round.into_iter().zip(answers).map(|(outbound, answer)| match answer {
            Ok(receivers) => (outbound, receivers > 0),
            Err(error) => {
                metrics.messages_failed.add(1);
                self.note(Some(error));
                (outbound, false)
            }
        });
        sent.collect()
    }

    /// Holds what was not received, and returns what may follow as its node receives again.
    fn note_sent(&self, sent: Vec<Sent>, held: &mut Held) -> Vec<Outbound> {
        let mut follow = Vec::new();
        for (outbound, received) in sent {
            if received {
                follow.extend(held.release(outbound.node));
            } else if !held.back(outbound) {
                self.metrics.messages_unheard.add(1);
            }
        }
        self.metrics.messages_held.set(held.len());
        follow
    }

    /// Drops what waited too long. Whoever should have heard it notices by the numbers of what comes next.
    fn give_up(&self, held: &mut Held) {
        let (now, age) = (Instant::now(), self.options.parcel_age_max);
        self.metrics.parcels_aged.add(self.outgoing.drop_older(now, age));
        self.metrics.messages_unheard.add(held.give_up_older(now, age));
        self.metrics.messages_held.set(held.len());
    }

    /// Remembers what was wrong.
    pub(super) fn note(&self, error: Option<Error>) {
        if let Some(error) = error {
            *self.trouble.lock() = error;
        }
    }
}

/// Makes a message for each node that something is for.
fn address(header: &[u8], encoded: &Encoded, targets: &[NodeId]) -> Vec<(NodeId, Bytes)> {
    let direct: Vec<NodeId> = encoded.parcels.iter().filter_map(|(to, _)| *to).collect();
    if direct.is_empty() {
        // The same for all of them.
        let message = Bytes::from([header, &encoded.bytes].concat());
        return targets.iter().map(|node| (*node, message.clone())).collect();
    }
    let mut nodes = targets.to_vec();
    for node in direct {
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    let only_for = |node: NodeId| {
        let is_target = targets.contains(&node);
        let mut message = header.to_vec();
        let mut begin = 0;
        for (to, end) in &encoded.parcels {
            if to.map_or(is_target, |to| to == node) {
                message.extend_from_slice(&encoded.bytes[begin..*end]);
            }
            begin = *end;
        }
        (message.len() > header.len()).then(|| (node, Bytes::from(message)))
    };
    nodes.into_iter().filter_map(only_for).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_gets_what_is_for_it_in_one_message_and_in_order() {
        let [a, b, c] = [NodeId(1), NodeId(2), NodeId(3)];
        let encoded =
            Encoded { bytes: b"1223334444".to_vec(), parcels: vec![(None, 1), (Some(b), 3), (Some(c), 6), (None, 10)] };
        let told = |round: Vec<(NodeId, Bytes)>| -> Vec<(u64, String)> {
            let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
            round.iter().map(|(node, message)| (node.0, text(message))).collect()
        };
        let expected = [(1, "h14444"), (2, "h1224444"), (3, "h333")];
        let expected = expected.map(|(node, text)| (node, text.to_owned()));
        assert_eq!(told(address(b"h", &encoded, &[a, b])), expected);

        let same = Encoded { bytes: b"12".to_vec(), parcels: vec![(None, 1), (None, 2)] };
        let round = told(address(b"h", &same, &[a, b]));
        assert_eq!(round, [(1, "h12".to_owned()), (2, "h12".to_owned())]);
        assert_eq!(told(address(b"h", &same, &[])), []);
    }
}
