//! One random stream per purpose: one more draw for one purpose does not reshuffle the others.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A stream of random draws.
pub(crate) struct Stream(StdRng);

impl Stream {
    /// The stream of `seed` for `purpose`.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        // FNV-1a: any spread will do, as long as it is the same everywhere.
        let salt = purpose
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        Self(StdRng::seed_from_u64(seed ^ salt))
    }

    /// A number below `bound`, which is above 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0.random_range(0..bound)
    }

    /// True in `percent` of 100 draws.
    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.0.random_range(0..100) < percent
    }

    /// A span between the two, in milliseconds.
    pub(crate) fn ms(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.0.random_range(from..=to))
    }

    pub(crate) fn bits(&mut self) -> u128 {
        self.0.random()
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes);
        bytes
    }
}
