//! The queue of bytes that wait to be written to one connection.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// Frames queued to one connection, oldest first, as counted references.
///
/// It owns no memory while it is empty, and one frame alone needs none besides its bytes.
#[derive(Debug, Default)]
pub struct Outbound {
    /// The oldest frame, without what was written of it. Empty if and only if nothing is queued.
    first: Bytes,
    /// Boxed, since most of the time there is none: this is a part of every session. Never empty.
    #[allow(clippy::box_collection, reason = "8 bytes instead of 32")]
    rest: Option<Box<VecDeque<Bytes>>>,
    bytes: usize,
}

const _: () = assert!(size_of::<Outbound>() <= 48);

impl Outbound {
    /// Bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frames that wait, the half-written one included.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(!self.first.is_empty()) + self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    /// True if nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// What waits, in order, for a gathering write: the first piece is already cut to what was not written.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.frames().map(|frame| &frame[..])
    }

    /// The same as counted references, for drivers that must own what they write until it is written.
    pub fn frames(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.first)
            .filter(|first| !first.is_empty())
            .chain(self.rest.iter().flat_map(|rest| rest.iter()))
    }

    /// Queues a frame; an empty one is none.
    pub fn push(&mut self, frame: Bytes) {
        if frame.is_empty() {
            return;
        }
        self.bytes += frame.len();
        if self.first.is_empty() {
            self.first = frame;
        } else {
            self.rest.get_or_insert_default().push_back(frame);
        }
    }

    /// Takes `written` bytes off the front. Returns how many frames that completed.
    ///
    /// # Panics
    /// If more was written than waits: the driver counts wrong.
    pub fn advance(&mut self, written: usize) -> usize {
        assert!(written <= self.bytes, "{written} B written of {} B", self.bytes);
        self.bytes -= written;
        let (mut left, mut completed) = (written, 0);
        while left > 0 {
            if left < self.first.len() {
                self.first.advance(left);
                break;
            }
            left -= self.first.len();
            completed += 1;
            self.first = self.rest.as_mut().and_then(|rest| rest.pop_front()).unwrap_or_default();
        }
        // Only here is the memory of a burst given back: a queue that empties is the end of one.
        self.rest.take_if(|rest| rest.is_empty());
        completed
    }

    /// Drops everything that waits.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Heap bytes the queue itself owns, frames not counted.
    #[cfg(test)]
    pub(crate) fn heap_bytes(&self) -> usize {
        self.rest.as_ref().map_or(0, |rest| size_of::<VecDeque<Bytes>>() + rest.capacity() * size_of::<Bytes>())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_queue_owns_no_heap_and_one_frame_needs_none() {
        let mut outbound = Outbound::default();
        outbound.push(Bytes::from_static(b"one"));
        assert_eq!((outbound.heap_bytes(), outbound.len(), outbound.bytes()), (0, 1, 3));
        outbound.push(Bytes::from_static(b"two"));
        assert!(outbound.heap_bytes() > 0);
        assert_eq!(outbound.advance(6), 2);
        assert_eq!((outbound.heap_bytes(), outbound.len(), outbound.bytes()), (0, 0, 0));
    }

    #[test]
    #[should_panic(expected = "4 B written of 3 B")]
    fn writing_more_than_waits_is_a_fault_of_the_driver() {
        let mut outbound = Outbound::default();
        outbound.push(Bytes::from_static(b"one"));
        outbound.advance(4);
    }

    proptest! {
        #[test]
        fn every_byte_leaves_once_and_in_order(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20),
            cuts in prop::collection::vec(0usize..40, 0..40),
        ) {
            let mut outbound = Outbound::default();
            for frame in &frames {
                outbound.push(Bytes::copy_from_slice(frame));
            }
            let want = frames.concat();
            let mut got = Vec::new();
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let written = cut.min(outbound.bytes());
                let all: Vec<u8> = outbound.chunks().flatten().copied().collect();
                prop_assert_eq!(all.len(), outbound.bytes());
                got.extend_from_slice(&all[..written]);
                outbound.advance(written);
            }
            prop_assert_eq!(got, want);
            prop_assert_eq!((outbound.is_empty(), outbound.len(), outbound.heap_bytes()), (true, 0, 0));
        }
    }
}
