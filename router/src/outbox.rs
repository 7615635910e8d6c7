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
}

impl Outbox {
    pub(crate) fn push(&mut self, shard: u16, down: Down) {
        match self.batches.iter_mut().find(|(of, _)| *of == shard) {
            Some((_, batch)) => batch.push(down),
            None => self.batches.push((shard, vec![down])),
        }
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
    pub(crate) fn flush(self, down: &impl Downstream) {
        for (shard, mut batch) in self.batches {
            down.post(shard, &mut batch);
        }
    }
}
