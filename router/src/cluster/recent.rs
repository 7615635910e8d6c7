//! Users to whom something was posted a moment ago, wherever they were known to be.
//!
//! Where users are is known by hearing of it, which is late: one may have come to a node that was told nothing for its
//! sake. So when a user is heard to have come, and something was posted to the user a moment ago, the user's sessions
//! there are told to sync. A set that says yes to some it does not hold does: they sync for nothing.

use std::hash::BuildHasher;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::Duration;

use hashbrown::DefaultHashBuilder;
use parking_lot::Mutex;
use roost_wire::UserId;
use tokio::time::Instant;

/// Users are remembered for at least so long, and for at most twice that. What is heard later than this was missing, or
/// its node silent, in between: nothing is posted by what is known of a node then.
pub(super) const REMEMBERED: Duration = Duration::from_secs(10);
/// Bits of one generation.
const BITS: usize = 1 << 21;

/// Two generations of bits, one bit a user: 512 KiB, whatever is posted.
pub(super) struct Recent {
    generations: [Box<[AtomicU64]>; 2],
    /// Which of the two is written to: the lowest bit.
    turn: AtomicU64,
    turned: Mutex<Option<Instant>>,
    hasher: DefaultHashBuilder,
}

impl Recent {
    /// An empty one; `used`: it will be.
    pub(super) fn new(used: bool) -> Self {
        let words = if used { BITS / 64 } else { 0 };
        let generation = || (0..words).map(|_| AtomicU64::new(0)).collect();
        Self {
            generations: [generation(), generation()],
            turn: AtomicU64::new(0),
            turned: Mutex::default(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// Something is about to be posted to `user`.
    pub(super) fn note(&self, user: &UserId) {
        let generation = &self.generations[(self.turn.load(Acquire) & 1) as usize];
        let (word, bit) = self.place(user);
        if let Some(word) = generation.get(word)
            && word.load(Relaxed) & bit == 0
        {
            word.fetch_or(bit, AcqRel);
        }
    }

    /// Whether something was posted to `user` a moment ago.
    pub(super) fn holds(&self, user: &UserId) -> bool {
        let (word, bit) = self.place(user);
        self.generations.iter().any(|generation| generation.get(word).is_some_and(|word| word.load(Acquire) & bit != 0))
    }

    /// Forgets what is old enough.
    pub(super) fn beat(&self, now: Instant) {
        let mut turned = self.turned.lock();
        if now.duration_since(*turned.get_or_insert(now)) < REMEMBERED {
            return;
        }
        *turned = Some(now);
        let next = self.turn.load(Acquire) + 1;
        self.generations[(next & 1) as usize].iter().for_each(|word| word.store(0, Relaxed));
        self.turn.store(next, Release);
    }

    fn place(&self, user: &UserId) -> (usize, u64) {
        let hash = self.hasher.hash_one(user) as usize % BITS;
        (hash / 64, 1 << (hash % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_posted_to_is_remembered_for_a_while_and_then_forgotten() {
        let (recent, now) = (Recent::new(true), Instant::now());
        let [ada, bob] = [1, 2].map(UserId::from_bits);
        recent.beat(now);
        recent.note(&ada);
        assert!(recent.holds(&ada) && !recent.holds(&bob));
        recent.beat(now + REMEMBERED / 2);
        recent.note(&bob);
        recent.beat(now + REMEMBERED);
        assert!(recent.holds(&ada) && recent.holds(&bob));
        recent.note(&bob);
        recent.beat(now + REMEMBERED * 2);
        assert!(!recent.holds(&ada) && recent.holds(&bob));
        recent.beat(now + REMEMBERED * 3);
        assert!(!recent.holds(&bob));
    }
}
