//! What goes out: everything that waits for a node in one message, and few messages on their way at once.
//!
//! While one round of messages is on its way parcels gather for the next one: so a busy node sends large messages, and
//! an idle one sends at once.

use std::sync::Arc;

use bytes::Bytes;
use fred::prelude::*;
use fred::types::config::Options;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use super::codec::{self, BATCH_BYTES_MAX};
use super::shared::Shared;
use crate::NodeId;

/// Rounds of messages that are on their way at once.
const ROUNDS_MAX: usize = 4;
/// While nothing can be sent, what waits too long is looked for so often.
const AGE_LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(250);

/// A round: for each node all that waits for it, up to the size of a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Round {
    /// To whom, what, and whether the node is on the table.
    messages: Vec<(NodeId, Bytes, bool)>,
}

/// Parcels as they are encoded for a round.
struct Encoded {
    bytes: Vec<u8>,
    /// To whom, and where it ends in `bytes`.
    parcels: Vec<(Option<NodeId>, usize)>,
}

impl Shared {
    pub(super) async fn send_loop(self: Arc<Self>) {
        let mut under_way = FuturesUnordered::new();
        loop {
            while under_way.len() < ROUNDS_MAX && self.may_send() {
                let Some(round) = self.next_round() else { break };
                under_way.push(self.publish(round));
            }
            tokio::select! {
                Some(()) = under_way.next() => {}
                () = self.outgoing.wake.notified(), if under_way.len() < ROUNDS_MAX && self.may_send() => {}
                () = self.resume.notified() => {}
                () = tokio::time::sleep(AGE_LOOK_EVERY) => {
                    let dropped = self.outgoing.drop_older(Instant::now(), self.options.parcel_age_max);
                    self.metrics.parcels_aged.add(dropped);
                }
            }
        }
    }

    /// Takes what waits. `None`: nothing does.
    fn next_round(&self) -> Option<Round> {
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
        let targets: Vec<(NodeId, bool)> = targets.iter().map(|target| (target.node, target.live)).collect();
        Some(address(&header, &encoded, &targets))
    }

    async fn publish(&self, round: Round) {
        let options = Options {
            timeout: Some(self.options.publish_timeout),
            // What is tried again after a reconnect reaches nobody, or comes twice.
            max_attempts: Some(1),
            fail_fast: true,
            ..Options::default()
        };
        let metrics = &self.metrics;
        let pipeline = self.commands.pipeline().with_options(&options);
        for (node, message, _) in &round.messages {
            metrics.bytes_sent.add(message.len());
            let queued: Result<(), Error> = pipeline.spublish(self.names.channel(*node), message.clone()).await;
            debug_assert!(queued.is_ok(), "a pipeline queues");
        }
        metrics.messages_sent.add(round.messages.len());
        let answers: Vec<Result<i64, Error>> = pipeline.try_all().await;
        if answers.len() != round.messages.len() {
            // One answer for all: none was given.
            metrics.messages_failed.add(round.messages.len());
            self.note(answers.into_iter().find_map(Result::err));
            return;
        }
        for ((_, _, live), answer) in round.messages.iter().zip(answers) {
            match answer {
                // Whoever should have heard it notices by the numbers of what comes next.
                Ok(0) if *live => metrics.messages_unheard.add(1),
                Ok(_) => {}
                Err(error) => {
                    metrics.messages_failed.add(1);
                    self.note(Some(error));
                }
            }
        }
    }

    /// Remembers what was wrong.
    pub(super) fn note(&self, error: Option<Error>) {
        if let Some(error) = error {
            *self.trouble.lock() = error;
        }
    }
}

/// Makes a message for each node that something is for.
fn address(header: &[u8], encoded: &Encoded, targets: &[(NodeId, bool)]) -> Round {
    let mut messages = Vec::with_capacity(targets.len());
    let direct: Vec<NodeId> = encoded.parcels.iter().filter_map(|(to, _)| *to).collect();
    let only_for = |node: NodeId| {
        let mut message = header.to_vec();
        let mut begin = 0;
        for (to, end) in &encoded.parcels {
            let to_all = to.is_none() && targets.iter().any(|(target, _)| *target == node);
            if to_all || *to == Some(node) {
                message.extend_from_slice(&encoded.bytes[begin..*end]);
            }
            begin = *end;
        }
        (message.len() > header.len()).then(|| Bytes::from(message))
    };
    if direct.is_empty() {
        // The same for all of them.
        let message = Bytes::from([header, &encoded.bytes].concat());
        messages.extend(targets.iter().map(|(node, live)| (*node, message.clone(), *live)));
        return Round { messages };
    }
    let mut nodes: Vec<(NodeId, bool)> = targets.to_vec();
    for node in direct {
        if !nodes.iter().any(|(known, _)| *known == node) {
            nodes.push((node, false));
        }
    }
    messages.extend(nodes.into_iter().filter_map(|(node, live)| Some((node, only_for(node)?, live))));
    Round { messages }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_gets_what_is_for_it_in_one_message_and_in_order() {
        let [a, b, c] = [NodeId(1), NodeId(2), NodeId(3)];
        let encoded =
            Encoded { bytes: b"1223334444".to_vec(), parcels: vec![(None, 1), (Some(b), 3), (Some(c), 6), (None, 10)] };
        let told = |round: &Round| -> Vec<(u64, String, bool)> {
            let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
            round.messages.iter().map(|(node, message, live)| (node.0, text(message), *live)).collect()
        };
        let round = address(b"h", &encoded, &[(a, true), (b, true)]);
        let expected = [(1, "h14444", true), (2, "h1224444", true), (3, "h333", false)];
        assert_eq!(told(&round), expected.map(|(node, text, live)| (node, text.to_owned(), live)));

        let same = Encoded { bytes: b"12".to_vec(), parcels: vec![(None, 1), (None, 2)] };
        let round = address(b"h", &same, &[(a, true), (b, false)]);
        assert_eq!(told(&round), [(1, "h12".to_owned(), true), (2, "h12".to_owned(), false)]);
        assert_eq!(address(b"h", &same, &[]), Round::default());
    }
}
