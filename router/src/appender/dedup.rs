//! Which entries were sent under which cmid: a resend is answered with the entry it made, never stored twice.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use prost::Message;
use roost_storage::Entry;
use roost_wire::pb::Body;
use roost_wire::{Seq, UserId};

/// Makes the fingerprints that [`Recents`] compares. Its keys are random, so nobody can aim at a collision.
#[derive(Default)]
pub(crate) struct Fingerprints {
    low: RandomState,
    high: RandomState,
    body: RandomState,
}

impl Fingerprints {
    /// Of sender and cmid: 128 bits, so that a collision by chance never happens.
    pub(crate) fn key(&self, from: &UserId, cmid: &str) -> u128 {
        let pair = (from.as_str(), cmid);
        (u128::from(self.high.hash_one(pair)) << 64) | u128::from(self.low.hash_one(pair))
    }

    /// Of a body. Compared only where the key is equal.
    pub(crate) fn body(&self, body: &Body) -> u64 {
        match &body.event {
            None => self.body.hash_one(&body.text),
            Some(_) => self.body.hash_one(body.encode_to_vec()),
        }
    }

    /// What to remember of an entry.
    pub(crate) fn recent(&self, entry: &Entry) -> Recent {
        Recent {
            key: self.key(&entry.from, &entry.cmid),
            body: self.body(&entry.body),
            seq: entry.seq,
            ts_ms: entry.ts_ms,
        }
    }
}

/// What is remembered of an entry: 48 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recent {
    pub(crate) key: u128,
    pub(crate) body: u64,
    pub(crate) seq: Seq,
    pub(crate) ts_ms: u64,
}

/// The end of a log as [`Recent`]s, without gaps, up to its head.
#[derive(Debug)]
pub(crate) struct Recents {
    tail: VecDeque<Recent>,
    /// Everything above this seq is here.
    above: Seq,
}

impl Recents {
    /// An empty tail of a log whose entries up to `above` are not known.
    pub(crate) const fn new(above: Seq) -> Self {
        Self { tail: VecDeque::new(), above }
    }

    /// The entry with this key, if it is remembered.
    pub(crate) fn find(&self, key: u128) -> Option<Recent> {
        self.tail.iter().rev().find(|recent| recent.key == key).copied()
    }

    /// Everything above this seq is known here.
    pub(crate) const fn above(&self) -> Seq {
        self.above
    }

    /// Adds the next entry of the log. One that is known already is ignored; after a gap the tail starts anew.
    pub(crate) fn push(&mut self, recent: Recent) {
        let next = self.tail.back().map_or(self.above, |last| last.seq) + 1;
        if recent.seq < next {
            return;
        }
        if recent.seq > next {
            self.tail.clear();
            self.above = recent.seq - 1;
        }
        self.tail.push_back(recent);
    }

    /// Forgets the oldest beyond `entries_max`.
    pub(crate) fn trim(&mut self, entries_max: usize) {
        while self.tail.len() > entries_max {
            if let Some(oldest) = self.tail.pop_front() {
                self.above = oldest.seq;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent(seq: Seq) -> Recent {
        Recent { key: u128::from(seq) * 7, body: seq, seq, ts_ms: 0 }
    }

    #[test]
    fn remembers_a_tail_without_gaps() {
        let mut recents = Recents::new(10);
        (11..=20).for_each(|seq| recents.push(recent(seq)));
        recents.push(recent(15));
        recents.trim(4);
        assert_eq!(recents.above(), 16);
        assert_eq!(recents.find(7 * 16), None);
        assert_eq!(recents.find(7 * 17), Some(recent(17)));
        recents.push(recent(30));
        assert_eq!(recents.above(), 29);
        assert_eq!(recents.find(7 * 20), None);
        assert_eq!(recents.find(7 * 30), Some(recent(30)));
    }

    #[test]
    fn fingerprints_differ_where_sender_cmid_or_body_differ() {
        let prints = Fingerprints::default();
        let [ada, bob] = ["ada", "bob"].map(|id| UserId::new(id).unwrap());
        let body = |text: &str| Body { text: text.into(), event: None };
        assert_eq!(prints.key(&ada, "1"), prints.key(&ada, "1"));
        assert_ne!(prints.key(&ada, "1"), prints.key(&bob, "1"));
        assert_ne!(prints.key(&ada, "1"), prints.key(&ada, "2"));
        assert_eq!(prints.body(&body("a")), prints.body(&body("a")));
        assert_ne!(prints.body(&body("a")), prints.body(&body("b")));
    }
}
