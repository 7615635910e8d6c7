//! HISTORY: pages of a log in both directions, in order and without gaps, for those who may read it now.

use std::sync::Arc;

use roost_storage::{Range, Store};
use roost_wire::limits::{PAGE_ENTRIES_DEFAULT, PAGE_ENTRIES_MAX};
use roost_wire::{ConvId, ErrorCode, FrameBody, Seq, UserId, pb};

use crate::conversation::Conversation;
use crate::fanout::wire_entry;
use crate::outbox::Answer;
use crate::size::{ITEMS_BYTES_MAX, entry_bytes};
use crate::{Bus, Downstream, Env, Router};

/// Entries read at once: a page of large entries is full after a few.
const CHUNK_ENTRIES: usize = 64;

/// A page that may be read.
pub(crate) struct Reading {
    conv: ConvId,
    range: Range,
    limit: usize,
    head: Seq,
}

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// Checks that `user` may read `conv` now. A channel may be read by anybody.
    pub(crate) async fn history_allowed(
        &self,
        conv: &Arc<Conversation>,
        user: &UserId,
        history: &pb::History,
    ) -> Result<Reading, pb::Error> {
        let range = match (history.after, history.before) {
            (Some(after), None) => Range::After(after),
            (None, Some(before)) => Range::Before(before),
            (None, None) => Range::Before(Seq::MAX),
            (Some(_), Some(_)) => return Err(ErrorCode::BadField.because("after or before, not both")),
        };
        self.load_readable(conv, user).await?;
        let head = conv.peek(|loaded| loaded.meta.head).ok_or_else(|| ErrorCode::Overloaded.error())?;
        let limit = if history.limit == 0 { PAGE_ENTRIES_DEFAULT } else { history.limit.min(PAGE_ENTRIES_MAX) };
        Ok(Reading { conv: conv.id.clone(), range, limit: limit as usize, head })
    }

    /// Reads the page. It is shorter than asked if it would not fit a frame.
    pub(crate) async fn history(&self, reading: Reading) -> Answer {
        let Reading { conv, mut range, limit, head } = reading;
        let mut entries: Vec<pb::Entry> = Vec::new();
        let mut bytes = 0;
        'page: while entries.len() < limit {
            let wanted = CHUNK_ENTRIES.min(limit - entries.len());
            let mut chunk = self.read(self.store.range(&conv, range, wanted)).await?;
            let full = chunk.len() == wanted;
            // Nearest first; a page backwards is turned round in the end.
            if matches!(range, Range::Before(_)) {
                chunk.reverse();
            }
            for entry in chunk {
                range = match range {
                    Range::After(_) => Range::After(entry.seq),
                    Range::Before(_) => Range::Before(entry.seq),
                };
                let entry = wire_entry(conv.as_str(), entry);
                bytes += entry_bytes(&entry);
                if bytes > ITEMS_BYTES_MAX && !entries.is_empty() {
                    break 'page;
                }
                entries.push(entry);
            }
            if !full {
                break;
            }
        }
        if matches!(range, Range::Before(_)) {
            entries.reverse();
        }
        let head = entries.last().map_or(head, |last| last.seq.max(head));
        Ok(FrameBody::Page(pb::Page { conv: conv.into(), entries, head }))
    }
}
