//! What is to be posted, gathered per shard: one post per shard, whatever the number of items.

use roost_wire::FrameBody;
use roost_wire::link::{Down, SessionKey};
use roost_wire::pb::{self, Frame};
use smallvec::SmallVec;

use crate::Downstream;

/// What a command is answered with.
pub(crate) type Answer = Result<FrameBody, pb::Error>;

/// Items on their way down, in order per shard.
#[derive(Default)]
pub(crate) struct Outbox {
    batches: SmallVec<[(u16, Vec<Down>); 2]>,
    /// Where the next shard stands most likely: a push to all of them takes them in turn, entry by entry.
    next: usize,
    /// The highest shard so far.
    highest: u16,
}

impl Outbox {
    pub(crate) fn push(&mut self, shard: u16, down: Down) {
        let at = match self.batches.get(self.next) {
            Some((of, _)) if *of == shard => Some(self.next),
            _ if self.batches.is_empty() || shard > self.highest => None,
            _ => self.batches.iter().position(|(of, _)| *of == shard),
        };
        match at {
            Some(at) => self.batches[at].1.push(down),
            None => self.batches.push((shard, vec![down])),
        }
        self.highest = self.highest.max(shard);
        self.next = at.map_or(0, |at| at + 1) % self.batches.len();
    }

    /// Ends the command `rid` of `session`. A success without a rid tells only that it is done.
    pub(crate) fn answer(&mut self, session: SessionKey, rid: u64, answer: Answer) {
        let body = match answer {
            Ok(_) if rid == 0 => None,
            Ok(body) => Some(body),
            Err(error) => Some(FrameBody::Error(error)),
        };
        let frame = body.map(|body| Box::new(Frame { rid, body: Some(body) }));
        self.push(session.shard(), Down::Reply { session, frame });
    }

    /// Posts everything, one batch per shard.
    pub(crate) fn flush(mut self, down: &impl Downstream) {
        if !self.batches.is_empty() {
            down.post_all(&mut self.batches);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Shards(parking_lot::Mutex<Vec<(u16, usize)>>);

    impl Downstream for Shards {
        fn shards(&self) -> u16 {
            9
        }

        fn post(&self, shard: u16, batch: &mut Vec<Down>) {
            let mut got = self.0.lock();
            assert!(got.iter().all(|(of, _)| *of != shard), "one post per shard");
            got.push((shard, batch.drain(..).len()));
        }
    }

    proptest! {
        #[test]
        fn everything_is_posted_once_per_shard(shards in prop::collection::vec(0u16..9, 0..60)) {
            let mut out = Outbox::default();
            shards.iter().for_each(|shard| out.push(*shard, Down::Doubt));
            let down = Shards(parking_lot::Mutex::default());
            out.flush(&down);
            let mut got = down.0.into_inner();
            got.sort_unstable();
            let count = |shard| shards.iter().filter(|of| **of == shard).count();
            let want: Vec<(u16, usize)> = (0..9).map(|shard| (shard, count(shard))).filter(|(_, n)| *n > 0).collect();
            prop_assert_eq!(got, want);
        }
    }
}
