//! Slots with generations: a key outlives its connection safely.

use roost_wire::link::SessionKey;

/// Slots made at once. A slab grows by whole chunks and never moves what it holds, so that growing to a million
/// connections copies nothing and leaves no half-used doubling behind.
const CHUNK_SLOTS: usize = 256;
const NONE: u32 = u32::MAX;

/// Holds values under keys that are never given twice (until a slot was used 2^26 times).
#[derive(Debug)]
pub(crate) struct Slab<T> {
    shard: u16,
    chunks: Vec<Box<[Entry<T>]>>,
    free: u32,
    len: usize,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    content: Content<T>,
}

#[derive(Debug)]
enum Content<T> {
    /// The next free slot, or `NONE`.
    Free(u32),
    Used(T),
}

impl<T> Slab<T> {
    /// Bytes of one slot.
    pub(crate) const SLOT_BYTES: usize = size_of::<Entry<T>>();

    pub(crate) fn new(shard: u16) -> Self {
        Self { shard, chunks: Vec::new(), free: NONE, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// One more than the highest slot ever used.
    pub(crate) fn slots(&self) -> u32 {
        (self.chunks.len() * CHUNK_SLOTS) as u32
    }

    /// Puts `value` into a free slot. `None`: every slot a key can name is used.
    pub(crate) fn insert(&mut self, value: T) -> Option<SessionKey> {
        if self.free == NONE {
            self.grow()?;
        }
        let slot = self.free;
        let entry = self.entry_mut(slot)?;
        let Content::Free(next) = entry.content else { unreachable!("slot {slot} of the free list is used") };
        entry.content = Content::Used(value);
        let generation = entry.generation;
        self.free = next;
        self.len += 1;
        Some(SessionKey::new(self.shard, slot, generation))
    }

    pub(crate) fn get(&self, key: SessionKey) -> Option<&T> {
        let slot = key.slot() as usize;
        let entry = self.chunks.get(slot / CHUNK_SLOTS)?.get(slot % CHUNK_SLOTS)?;
        match &entry.content {
            Content::Used(value) if entry.generation == key.generation() && key.shard() == self.shard => Some(value),
            _ => None,
        }
    }

    pub(crate) fn get_mut(&mut self, key: SessionKey) -> Option<&mut T> {
        let shard = self.shard;
        let entry = self.entry_mut(key.slot())?;
        match &mut entry.content {
            Content::Used(value) if entry.generation == key.generation() && key.shard() == shard => Some(value),
            _ => None,
        }
    }

    /// Takes the value out. The key is stale from now on.
    pub(crate) fn remove(&mut self, key: SessionKey) -> Option<T> {
        self.get(key)?;
        let free = self.free;
        let entry = self.entry_mut(key.slot())?;
        let Content::Used(value) = std::mem::replace(&mut entry.content, Content::Free(free)) else { return None };
        entry.generation = (entry.generation + 1) % SessionKey::GENERATIONS;
        self.free = key.slot();
        self.len -= 1;
        Some(value)
    }

    /// The key of the value in `slot`. `None`: the slot is free.
    pub(crate) fn key_at(&self, slot: u32) -> Option<SessionKey> {
        let at = slot as usize;
        let entry = self.chunks.get(at / CHUNK_SLOTS)?.get(at % CHUNK_SLOTS)?;
        matches!(entry.content, Content::Used(_)).then(|| SessionKey::new(self.shard, slot, entry.generation))
    }

    /// The value in `slot`, whatever its generation.
    pub(crate) fn at_mut(&mut self, slot: u32) -> Option<&mut T> {
        match &mut self.entry_mut(slot)?.content {
            Content::Used(value) => Some(value),
            Content::Free(_) => None,
        }
    }

    fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry<T>> {
        let slot = slot as usize;
        self.chunks.get_mut(slot / CHUNK_SLOTS)?.get_mut(slot % CHUNK_SLOTS)
    }

    fn grow(&mut self) -> Option<()> {
        let first = self.slots();
        let after = first + CHUNK_SLOTS as u32;
        if after > SessionKey::SLOTS_MAX {
            return None;
        }
        let free =
            |slot| Entry { generation: 0, content: Content::Free(if slot + 1 < after { slot + 1 } else { NONE }) };
        self.chunks.push((first..after).map(free).collect());
        self.free = first;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stale_key_finds_nothing_even_in_a_slot_used_again() {
        let mut slab = Slab::new(3);
        let old = slab.insert("old").unwrap();
        assert_eq!(slab.remove(old), Some("old"));
        let new = slab.insert("new").unwrap();
        assert_eq!((new.slot(), new.shard()), (old.slot(), 3));
        assert_ne!(new, old);
        assert_eq!((slab.get(old).copied(), slab.get_mut(old).is_some(), slab.remove(old)), (None, false, None));
        assert_eq!(slab.get(new), Some(&"new"));
        let elsewhere = SessionKey::new(4, new.slot(), new.generation());
        assert_eq!((slab.get(elsewhere).copied(), slab.get_mut(elsewhere).is_some()), (None, false));
    }

    #[test]
    fn generations_wrap() {
        let mut slab = Slab::new(0);
        let key = slab.insert(()).unwrap();
        slab.entry_mut(key.slot()).unwrap().generation = SessionKey::GENERATIONS - 1;
        let last = slab.key_at(key.slot()).unwrap();
        assert_eq!(slab.remove(last), Some(()));
        assert_eq!(slab.insert(()).map(SessionKey::generation), Some(0));
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(steps in prop::collection::vec(any::<(bool, u8)>(), 0..600)) {
            let mut slab = Slab::new(1);
            let mut model: Vec<(SessionKey, u8)> = Vec::new();
            for (insert, value) in steps {
                if insert || model.is_empty() {
                    let key = slab.insert(value).unwrap();
                    prop_assert!(model.iter().all(|(other, _)| *other != key));
                    model.push((key, value));
                } else {
                    let (key, want) = model.swap_remove(usize::from(value) % model.len());
                    prop_assert_eq!(slab.remove(key), Some(want));
                    prop_assert_eq!(slab.get(key), None);
                }
                prop_assert_eq!(slab.len(), model.len());
            }
            for (key, value) in model {
                prop_assert_eq!(slab.get(key), Some(&value));
                prop_assert_eq!(slab.key_at(key.slot()), Some(key));
            }
        }
    }
}
