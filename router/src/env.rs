//! Time and randomness, which come in from outside: tests and the simulation bring their own.

use std::time::{SystemTime, UNIX_EPOCH};

/// Where the router gets the time and random bits from. Pauses between flushes are measured by tokio's timer.
pub trait Env: Send + Sync + 'static {
    /// Wall time in ms since the Unix epoch. It may jump: nothing is ordered by it.
    fn now_ms(&self) -> u64;

    /// 128 bits nobody can guess.
    fn random_bits(&self) -> u128;
}

/// The machine's clock and the system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEnv;

impl Env for SystemEnv {
    fn now_ms(&self) -> u64 {
        // A clock before 1970 counts as 1970.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }

    fn random_bits(&self) -> u128 {
        rand::random()
    }
}
