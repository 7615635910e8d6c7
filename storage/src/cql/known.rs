//! What this node remembers of conversations and rows: where a head is, whose effects are applied, which rows exist.
//!
//! All of it is a lower bound that stays true: heads only rise, applied effects stay applied, rows are never deleted. So
//! nothing is ever invalidated, and a part that is full is simply emptied. Only servers that lost what they acknowledged
//! break that: then everything is forgotten.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use parking_lot::Mutex;
use roost_wire::{ConvId, Seq, UserId};

use crate::Stamp;

const PARTS: usize = 32;

/// Of one conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// The bucket that the head was in.
    pub(super) bucket: u64,
    /// The effects of everything up to here are applied.
    pub(super) applied: Seq,
    /// The stamp of the last change.
    pub(super) changed: Stamp,
}

pub(super) struct Memory {
    hasher: RandomState,
    convs: [Mutex<HashMap<ConvId, Known>>; PARTS],
    rows: [Mutex<HashSet<u64>>; PARTS],
    convs_part_max: usize,
    rows_part_max: usize,
}

impl Memory {
    pub(super) fn new(convs_max: usize, rows_max: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            convs: Default::default(),
            rows: Default::default(),
            convs_part_max: (convs_max / PARTS).max(1),
            rows_part_max: (rows_max / PARTS).max(1),
        }
    }

    pub(super) fn get(&self, conv: &ConvId) -> Option<Known> {
        self.convs[self.part(conv)].lock().get(conv).copied()
    }

    /// Raises what is known.
    pub(super) fn note(&self, conv: &ConvId, known: Known) {
        let mut part = self.convs[self.part(conv)].lock();
        if let Some(old) = part.get_mut(conv) {
            old.bucket = old.bucket.max(known.bucket);
            old.applied = old.applied.max(known.applied);
            old.changed = old.changed.max(known.changed);
            return;
        }
        if part.len() >= self.convs_part_max {
            part.clear();
        }
        part.insert(conv.clone(), known);
    }

    pub(super) fn has_row(&self, user: &UserId, conv: &ConvId) -> bool {
        let key = self.hasher.hash_one((user, conv));
        self.rows[key as usize % PARTS].lock().contains(&key)
    }

    pub(super) fn note_row(&self, user: &UserId, conv: &ConvId) {
        let key = self.hasher.hash_one((user, conv));
        let mut part = self.rows[key as usize % PARTS].lock();
        if part.len() >= self.rows_part_max {
            part.clear();
        }
        part.insert(key);
    }

    /// Knows nothing any more.
    pub(super) fn forget(&self) {
        self.convs.iter().for_each(|part| part.lock().clear());
        self.rows.iter().for_each(|part| part.lock().clear());
    }

    fn part(&self, conv: &ConvId) -> usize {
        self.hasher.hash_one(conv) as usize % PARTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_only_rises_and_is_bounded() {
        let memory = Memory::new(PARTS * 4, PARTS * 4);
        let conv = ConvId::from_bits(1);
        memory.note(&conv, Known { bucket: 1, applied: 5000, changed: 9 });
        memory.note(&conv, Known { bucket: 0, applied: 9, changed: 2 });
        assert_eq!(memory.get(&conv), Some(Known { bucket: 1, applied: 5000, changed: 9 }));
        let user = UserId::from_bits(1);
        for bits in 0..10_000 {
            memory.note(&ConvId::from_bits(bits), Known { bucket: 0, applied: 0, changed: 0 });
            memory.note_row(&user, &ConvId::from_bits(bits));
        }
        assert!(memory.convs.iter().map(|part| part.lock().len()).sum::<usize>() <= PARTS * 4);
        assert!(memory.rows.iter().map(|part| part.lock().len()).sum::<usize>() <= PARTS * 4);
    }

    #[test]
    fn a_row_is_known_by_user_and_conversation() {
        let memory = Memory::new(100, 1000);
        let (user, conv) = (UserId::from_bits(1), ConvId::from_bits(1));
        memory.note_row(&user, &conv);
        assert!(memory.has_row(&user, &conv));
        assert!(!memory.has_row(&UserId::from_bits(2), &conv) && !memory.has_row(&user, &ConvId::from_bits(2)));
    }
}
