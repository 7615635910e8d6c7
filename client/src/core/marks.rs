//! ACK and READ: gathered for a moment, sent without asking for a reply, and sent again until a PONG proves that they
//! arrived.
//!
//! A connection delivers in order, so a PONG to a PING that left after a mark shows that the mark was taken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use roost_wire::{ConvId, FrameBody, Seq, pb};

#[derive(Debug, Default)]
struct Mark {
    received: Seq,
    acked: Seq,
    read: Seq,
    read_sent: Seq,
}

/// Marks of all conversations.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    marks: BTreeMap<ConvId, Mark>,
    dirty: BTreeSet<ConvId>,
    /// Sent since the last PING, and before it.
    sent: BTreeSet<ConvId>,
    probed: BTreeSet<ConvId>,
    flush_at: Option<Instant>,
}

impl Marks {
    /// The server already has these: what is below needs no mark.
    pub(crate) fn known(&mut self, conv: &ConvId, delivered: Seq, read: Seq) {
        let mark = self.marks.entry(conv.clone()).or_default();
        mark.acked = mark.acked.max(delivered);
        mark.read_sent = mark.read_sent.max(read);
    }

    /// The app has every entry up to `seq`.
    pub(crate) fn received(&mut self, conv: &ConvId, seq: Seq, flush_at: Instant) {
        let mark = self.marks.entry(conv.clone()).or_default();
        mark.received = mark.received.max(seq);
        if mark.received > mark.acked {
            self.touch(conv, flush_at);
        }
    }

    /// The user has read up to `seq`.
    pub(crate) fn read(&mut self, conv: &ConvId, seq: Seq, flush_at: Instant) {
        let mark = self.marks.entry(conv.clone()).or_default();
        mark.read = mark.read.max(seq);
        if mark.read > mark.read_sent {
            self.touch(conv, flush_at);
        }
    }

    fn touch(&mut self, conv: &ConvId, flush_at: Instant) {
        if self.dirty.insert(conv.clone()) && self.flush_at.is_none() {
            self.flush_at = Some(flush_at);
        }
    }

    /// When to call [`Marks::flush`].
    pub(crate) const fn flush_at(&self) -> Option<Instant> {
        self.flush_at
    }

    /// The marks to send now.
    pub(crate) fn flush(&mut self) -> Vec<FrameBody> {
        self.flush_at = None;
        let mut frames = Vec::new();
        for conv in std::mem::take(&mut self.dirty) {
            let Some(mark) = self.marks.get_mut(&conv) else { continue };
            if mark.received > mark.acked {
                mark.acked = mark.received;
                frames.push(FrameBody::Ack(pb::Ack { conv: conv.to_string(), seq: mark.received }));
            }
            if mark.read > mark.read_sent {
                mark.read_sent = mark.read;
                frames.push(FrameBody::Read(pb::Read { conv: conv.to_string(), seq: mark.read }));
            }
            self.sent.insert(conv);
        }
        frames
    }

    /// A PING leaves: what was sent before it is proven by its PONG.
    pub(crate) fn pinged(&mut self) {
        self.probed.append(&mut self.sent);
    }

    /// The PONG came.
    pub(crate) fn ponged(&mut self) {
        self.probed.clear();
    }

    /// The connection is gone: what no PONG has proven goes out again.
    pub(crate) fn lost(&mut self, flush_at: Instant) {
        let mut unproven = std::mem::take(&mut self.sent);
        unproven.append(&mut self.probed);
        for conv in unproven {
            if let Some(mark) = self.marks.get_mut(&conv) {
                (mark.acked, mark.read_sent) = (0, 0);
                self.dirty.insert(conv);
            }
        }
        self.flush_at = (!self.dirty.is_empty()).then_some(flush_at);
    }

    /// The user has left the conversation.
    pub(crate) fn forget(&mut self, conv: &ConvId) {
        self.marks.remove(conv);
        self.dirty.remove(conv);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acks(frames: &[FrameBody]) -> Vec<Seq> {
        frames.iter().filter_map(|frame| if let FrameBody::Ack(ack) = frame { Some(ack.seq) } else { None }).collect()
    }

    #[test]
    fn marks_are_gathered_and_only_rise() {
        let (mut marks, now) = (Marks::default(), Instant::now());
        let conv = ConvId::new("c_a").expect("an id");
        for seq in [1, 2, 3, 2] {
            marks.received(&conv, seq, now);
        }
        marks.read(&conv, 2, now);
        let frames = marks.flush();
        assert_eq!((acks(&frames), frames.len()), (vec![3], 2));
        marks.received(&conv, 3, now);
        assert_eq!(marks.flush_at(), None, "nothing new");
    }

    #[test]
    fn f38_marks_that_no_pong_has_proven_go_out_again() {
        let (mut marks, now) = (Marks::default(), Instant::now());
        let conv = ConvId::new("c_a").expect("an id");
        marks.received(&conv, 3, now);
        marks.flush();
        marks.pinged();
        marks.lost(now);
        assert_eq!(acks(&marks.flush()), [3]);
        marks.pinged();
        marks.ponged();
        marks.lost(now);
        assert!(marks.flush().is_empty());
    }
}
