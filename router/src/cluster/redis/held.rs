//! Messages that did not arrive, kept for a moment.
//!
//! After a crash of Redis, or a fail-over, nodes connect again within a second or so, each at its own time. What is sent
//! to one that has not subscribed yet would be lost, and have all its sessions sync. So it is held, and one message of
//! it is tried again and again; once that is received the others follow. What waits too long is given up.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::NodeId;

/// Bytes that are held for all nodes together. What comes above it is given up.
const HELD_BYTES_MAX: usize = 32 << 20;

/// A message to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outbound {
    pub(super) node: NodeId,
    pub(super) message: Bytes,
    /// When it was first sent.
    pub(super) since: Instant,
}

/// What is held, by node.
#[derive(Debug, Default)]
pub(super) struct Held {
    nodes: BTreeMap<NodeId, Waiting>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Outbound>,
    /// One of them is being tried.
    tried: bool,
}

impl Held {
    /// Messages that are held.
    pub(super) fn len(&self) -> usize {
        self.nodes.values().map(|waiting| waiting.messages.len()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether messages to `node` are to be held.
    pub(super) fn holds(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node)
    }

    /// Holds a message, in the order of first sending; `false`: there is no room.
    pub(super) fn hold(&mut self, outbound: Outbound) -> bool {
        let waiting = self.nodes.entry(outbound.node).or_default();
        if self.bytes + outbound.message.len() > HELD_BYTES_MAX {
            return false;
        }
        self.bytes += outbound.message.len();
        let place = waiting.messages.partition_point(|earlier| earlier.since <= outbound.since);
        waiting.messages.insert(place, outbound);
        true
    }

    /// A message that was sent was not received: it is held, and one is to be tried. `false`: there is no room.
    pub(super) fn back(&mut self, outbound: Outbound) -> bool {
        self.nodes.entry(outbound.node).or_default().tried = false;
        self.hold(outbound)
    }

    /// `node` received something: all that is held for it follows.
    pub(super) fn release(&mut self, node: NodeId) -> impl Iterator<Item = Outbound> + use<> {
        let waiting = self.nodes.remove(&node).unwrap_or_default();
        self.bytes -= waiting.messages.iter().map(|outbound| outbound.message.len()).sum::<usize>();
        waiting.messages.into_iter()
    }

    /// The messages to be tried now: one for each node.
    pub(super) fn tries(&mut self) -> Vec<Outbound> {
        let mut tries = Vec::new();
        for waiting in self.nodes.values_mut().filter(|waiting| !waiting.tried) {
            if let Some(first) = waiting.messages.pop_front() {
                self.bytes -= first.message.len();
                waiting.tried = true;
                tries.push(first);
            }
        }
        // Nothing is left that could be tried: what comes next is.
        self.nodes.retain(|_, waiting| waiting.tried || !waiting.messages.is_empty());
        tries
    }

    /// Gives up what is older than `age`, and says how many.
    pub(super) fn give_up_older(&mut self, now: Instant, age: Duration) -> usize {
        let mut given_up = 0;
        for waiting in self.nodes.values_mut() {
            waiting.messages.retain(|outbound| {
                let keep = now.duration_since(outbound.since) <= age;
                if !keep {
                    self.bytes -= outbound.message.len();
                    given_up += 1;
                }
                keep
            });
        }
        self.nodes.retain(|_, waiting| waiting.tried || !waiting.messages.is_empty());
        given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbound(node: u64, text: &'static str, since: Instant) -> Outbound {
        Outbound { node: NodeId(node), message: Bytes::from_static(text.as_bytes()), since }
    }

    fn texts(messages: impl IntoIterator<Item = Outbound>) -> Vec<String> {
        messages.into_iter().map(|held| String::from_utf8(held.message.to_vec()).unwrap()).collect()
    }

    #[test]
    fn one_message_of_a_node_is_tried_until_it_is_received_and_then_the_others_follow() {
        let (mut held, now) = (Held::default(), Instant::now());
        let later = now + Duration::from_millis(1);
        assert!(held.hold(outbound(1, "b", later)) && held.hold(outbound(2, "x", later)));
        assert!(held.back(outbound(1, "a", now)));
        assert!(held.holds(NodeId(1)) && !held.holds(NodeId(3)));
        assert_eq!(texts(held.tries()), ["a", "x"]);
        assert_eq!(texts(held.tries()), [""; 0], "they are under way");
        assert!(held.hold(outbound(1, "c", later)));
        assert!(held.back(outbound(1, "a", now)));
        assert_eq!(texts(held.tries()), ["a"]);
        assert_eq!(texts(held.release(NodeId(1))), ["b", "c"]);
        assert!(held.holds(NodeId(2)), "its own is under way");
        assert_eq!(texts(held.release(NodeId(2))), [""; 0]);
        assert!(held.is_empty() && held.bytes == 0);
    }

    #[test]
    fn what_waits_too_long_or_is_too_much_is_given_up() {
        let (mut held, now, age) = (Held::default(), Instant::now(), Duration::from_secs(2));
        assert!(held.hold(outbound(1, "old", now)) && held.hold(outbound(1, "new", now + age)));
        assert_eq!(held.give_up_older(now + age + age / 2, age), 1);
        assert_eq!((held.len(), held.bytes), (1, 3));
        let large = Outbound { node: NodeId(1), message: vec![0; HELD_BYTES_MAX - 3].into(), since: now };
        assert!(held.hold(large.clone()));
        assert!(!held.hold(outbound(2, "x", now)) && !held.back(large));
        assert_eq!(held.give_up_older(now + age * 3, age), 2);
        assert_eq!(held.bytes, 0);
        assert!(held.is_empty() && held.tries().is_empty());
    }
}
