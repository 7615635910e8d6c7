//! State split over locks by the hash of a key, so that threads seldom meet.

use std::hash::{BuildHasher, Hash};

use rustc_hash::FxBuildHasher;

use crate::lock::Mutex;

/// How many parts there are. A power of two, well above the number of cores.
const PARTS: usize = 64;

/// [`PARTS`] values of `T`, each behind its own lock.
pub(crate) struct Sharded<T> {
    parts: Box<[Mutex<T>]>,
    /// The same in every process: which keys share a part decides what a cache drops, and a simulated run must repeat.
    /// Whoever aims keys at one part slows that part's lock, no more: the tables inside have random keys.
    hasher: FxBuildHasher,
}

impl<T: Default> Default for Sharded<T> {
    fn default() -> Self {
        Self { parts: (0..PARTS).map(|_| Mutex::default()).collect(), hasher: FxBuildHasher }
    }
}

impl<T> Sharded<T> {
    /// The part that holds `key`. Parts of two keys must never be locked at once: they may be the same.
    pub(crate) fn of<Q: Hash + ?Sized>(&self, key: &Q) -> &Mutex<T> {
        &self.parts[self.hasher.hash_one(key) as usize % PARTS]
    }

    /// The share of one part in a limit on all.
    pub(crate) const fn share(total: usize) -> usize {
        total.div_ceil(PARTS)
    }

    /// All parts, in an order that does not change.
    pub(crate) fn parts(&self) -> impl ExactSizeIterator<Item = &Mutex<T>> {
        self.parts.iter()
    }
}
