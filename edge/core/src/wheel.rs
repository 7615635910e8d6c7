//! One timer per slot, in a hierarchical wheel of linked lists that lie in one array.
//!
//! Level 0 has 64 buckets of one tick, level 1 has 64 of 64 ticks, and so on: six levels cover every tick there is. A
//! timer sits in the level of the highest bit group in which its tick differs from now, and moves down when its
//! bucket's time comes. Arming, disarming and finding the next are O(1); 12 bytes a slot.
//!
//! Invariants: a timer of level n lies in a bucket above the one of now at that level, with the same bits above it;
//! a bucket's bit in `occupied` is set exactly while its list is not empty.

use crate::clock::{NEVER, Tick};

const BITS: u32 = 6;
const BUCKETS: usize = 1 << BITS;
const LEVELS: usize = 6;
const NONE: u32 = u32::MAX;
/// In `prev`: not a slot but the number of the list that begins here.
const LIST: u32 = 1 << 31;
/// The list of timers that are due.
const DUE: usize = LEVELS * BUCKETS;

#[derive(Clone, Copy, Debug)]
struct Node {
    next: u32,
    prev: u32,
    /// `NEVER` while not armed.
    tick: Tick,
}

const IDLE: Node = Node { next: NONE, prev: NONE, tick: NEVER };

/// Bytes a slot's timer takes.
pub(crate) const TIMER_BYTES: usize = size_of::<Node>();

/// A timer for each of many slots, in ticks of whatever length: arming, disarming and finding the next are O(1).
#[derive(Debug)]
pub struct Wheel {
    now: Tick,
    /// First slot of each list.
    heads: Box<[u32; DUE + 1]>,
    occupied: [u64; LEVELS],
    nodes: Vec<Node>,
}

impl Default for Wheel {
    fn default() -> Self {
        Self::new()
    }
}

impl Wheel {
    /// One at tick 0, without timers.
    #[must_use]
    pub fn new() -> Self {
        Self { now: 0, heads: Box::new([NONE; DUE + 1]), occupied: [0; LEVELS], nodes: Vec::new() }
    }

    /// When the timer of `slot` goes off; [`u32::MAX`] if it is not armed.
    #[must_use]
    pub fn armed(&self, slot: u32) -> Tick {
        self.nodes.get(slot as usize).map_or(NEVER, |node| node.tick)
    }

    /// Arms the timer of `slot` for `tick`, unless it goes off sooner anyway.
    pub fn arm_by(&mut self, slot: u32, tick: Tick) {
        if self.armed(slot) <= tick {
            return;
        }
        self.disarm(slot);
        if self.nodes.len() <= slot as usize {
            self.nodes.resize(slot as usize + 1, IDLE);
        }
        self.nodes[slot as usize].tick = tick;
        self.link(slot);
    }

    /// The timer of `slot` goes off no more.
    pub fn disarm(&mut self, slot: u32) {
        if self.armed(slot) == NEVER {
            return;
        }
        let Node { next, prev, .. } = std::mem::replace(&mut self.nodes[slot as usize], IDLE);
        if next != NONE {
            self.nodes[next as usize].prev = prev;
        }
        if prev & LIST == 0 {
            self.nodes[prev as usize].next = next;
        } else {
            self.set_head((prev & !LIST) as usize, next);
        }
    }

    /// A slot whose timer is due at `to`; it is not armed any more. `None`: no more are.
    pub fn expired(&mut self, to: Tick) -> Option<u32> {
        loop {
            let slot = self.heads[DUE];
            if slot != NONE {
                self.disarm(slot);
                return Some(slot);
            }
            match self.next_bucket() {
                Some((list, tick)) if tick <= to => self.open(list, tick),
                _ => {
                    self.now = self.now.max(to);
                    return None;
                }
            }
        }
    }

    /// When to look again: no timer goes off before. `None`: none is armed.
    #[must_use]
    pub fn next(&self) -> Option<Tick> {
        if self.heads[DUE] != NONE {
            return Some(self.now);
        }
        self.next_bucket().map(|(_, tick)| tick)
    }

    /// Bytes of memory held.
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.heads) + self.nodes.capacity() * TIMER_BYTES
    }

    /// Of the timers that are not due, the list that comes first and the tick at which it begins.
    fn next_bucket(&self) -> Option<(usize, Tick)> {
        let level = self.occupied.iter().position(|buckets| *buckets != 0)?;
        let bucket = self.occupied[level].trailing_zeros();
        let shift = level as u32 * BITS;
        let above = self.now.checked_shr(shift + BITS).unwrap_or(0).checked_shl(shift + BITS).unwrap_or(0);
        Some((level * BUCKETS + bucket as usize, above | bucket << shift))
    }

    /// The time of `list` has come: its timers move down, or are due.
    fn open(&mut self, list: usize, tick: Tick) {
        self.now = tick;
        let mut slot = std::mem::replace(&mut self.heads[list], NONE);
        self.occupied[list / BUCKETS] &= !(1 << (list % BUCKETS));
        while slot != NONE {
            let next = self.nodes[slot as usize].next;
            self.link(slot);
            slot = next;
        }
    }

    fn link(&mut self, slot: u32) {
        let list = self.list_of(self.nodes[slot as usize].tick);
        let head = self.heads[list];
        if head != NONE {
            self.nodes[head as usize].prev = slot;
        }
        let node = &mut self.nodes[slot as usize];
        (node.next, node.prev) = (head, LIST | list as u32);
        self.set_head(list, slot);
    }

    fn set_head(&mut self, list: usize, slot: u32) {
        self.heads[list] = slot;
        if list < DUE {
            let bit = 1 << (list % BUCKETS);
            let buckets = &mut self.occupied[list / BUCKETS];
            *buckets = if slot == NONE { *buckets & !bit } else { *buckets | bit };
        }
    }

    fn list_of(&self, tick: Tick) -> usize {
        if tick <= self.now {
            return DUE;
        }
        let level = (tick ^ self.now).ilog2() / BITS;
        level as usize * BUCKETS + (tick >> (level * BITS)) as usize % BUCKETS
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_slot_costs_12_bytes() {
        assert_eq!(TIMER_BYTES, 12);
    }

    #[test]
    fn the_earlier_of_two_deadlines_holds() {
        let mut wheel = Wheel::new();
        wheel.arm_by(0, 100);
        wheel.arm_by(0, 200);
        assert_eq!(wheel.armed(0), 100);
        wheel.arm_by(0, 50);
        assert_eq!((wheel.expired(49), wheel.expired(50), wheel.expired(1000)), (None, Some(0), None));
        assert_eq!(wheel.next(), None);
    }

    proptest! {
        #[test]
        fn each_timer_goes_off_once_and_never_early(
            steps in prop::collection::vec(
                (0u32..8, prop_oneof![0u32..4, 0u32..200, 0u32..100_000, Just(u32::MAX / 2)], any::<bool>()), 1..200),
        ) {
            let mut wheel = Wheel::new();
            let mut model: BTreeMap<u32, u32> = BTreeMap::new();
            let mut now = 0u32;
            for (slot, span, arm) in steps {
                if arm {
                    let tick = now.saturating_add(span).min(NEVER - 1);
                    wheel.arm_by(slot, tick);
                    let armed = model.entry(slot).or_insert(tick);
                    *armed = tick.min(*armed);
                } else if span == 0 {
                    wheel.disarm(slot);
                    model.remove(&slot);
                } else {
                    now = now.saturating_add(span).min(NEVER - 1);
                    let mut fired: Vec<u32> = std::iter::from_fn(|| wheel.expired(now)).collect();
                    fired.sort_unstable();
                    let want: Vec<u32> = model.iter().filter(|(_, tick)| **tick <= now).map(|(slot, _)| *slot).collect();
                    prop_assert_eq!(fired, want);
                    model.retain(|_, tick| *tick > now);
                }
                for slot in 0..8 {
                    prop_assert_eq!(wheel.armed(slot), model.get(&slot).copied().unwrap_or(NEVER));
                }
                // Never later than the first timer; and something is to be done then, so it is no busy loop.
                let first = model.values().min().copied();
                prop_assert_eq!(wheel.next().is_some(), first.is_some());
                prop_assert!(wheel.next().unwrap_or(0) <= first.unwrap_or(0));
            }
        }
    }
}
