//! Where a connection's socket is: a ring of the shard, and a place in its table of files.

use std::num::NonZeroU32;

use roost_uring::files::PLACES_MAX;

/// A ring and a place, in 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(NonZeroU32);

impl Place {
    const SLOT_BITS: u32 = PLACES_MAX.trailing_zeros();
    /// Rings that can be told apart.
    pub(super) const RINGS_MAX: usize = (1 << (u32::BITS - Self::SLOT_BITS)) - 1;

    /// # Panics
    /// If there can be no such place.
    pub(super) fn new(ring: u16, slot: u32) -> Self {
        assert!(usize::from(ring) < Self::RINGS_MAX && slot < PLACES_MAX, "no place {slot} in ring {ring}");
        // Rings count from 1 here, so that no place is 0.
        let bits = (u32::from(ring) + 1) << Self::SLOT_BITS | slot;
        Self(NonZeroU32::new(bits).expect("the number of a ring is not 0"))
    }

    pub(super) const fn ring(self) -> u16 {
        ((self.0.get() >> Self::SLOT_BITS) - 1) as u16
    }

    pub(super) const fn slot(self) -> u32 {
        self.0.get() % PLACES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_keep_ring_and_slot() {
        for (ring, slot) in [(0, 0), (0, 7), (3, 0), (Place::RINGS_MAX as u16 - 1, PLACES_MAX - 1)] {
            let place = Place::new(ring, slot);
            assert_eq!((place.ring(), place.slot()), (ring, slot));
        }
    }
}
