//! Places where a test lets a writer die. In other builds nothing of this is there.

use crate::Result;

#[cfg(feature = "failpoints")]
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst};

/// Where the next write of a store ends, as if its process had died.
#[cfg(feature = "failpoints")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// After the conditional batch, before any effect.
    AfterLog,
    /// After this many of its effects.
    AmidEffects(usize),
}

/// What gets lost of the next append.
#[cfg(feature = "failpoints")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It never reaches a server.
    Request,
    /// The servers do it.
    Answer,
}

/// What is to fail.
#[allow(unreachable_pub, reason = "public with failpoints only")]
#[derive(Default)]
pub struct Faults {
    /// 1: after the log; 2: amid effects.
    #[cfg(feature = "failpoints")]
    death: AtomicU8,
    #[cfg(feature = "failpoints")]
    effects: AtomicUsize,
    #[cfg(feature = "failpoints")]
    pause_ms: AtomicUsize,
    /// 1: the request; 2: the answer.
    #[cfg(feature = "failpoints")]
    lost: AtomicU8,
}

impl Faults {
    /// Lets the next write die.
    #[cfg(feature = "failpoints")]
    pub fn die(&self, death: Death) {
        let (place, effects) = match death {
            Death::AfterLog => (1, 0),
            Death::AmidEffects(effects) => (2, effects),
        };
        self.effects.store(effects, SeqCst);
        self.death.store(place, SeqCst);
    }

    /// Lets the next append go without an answer.
    #[cfg(feature = "failpoints")]
    pub fn lose(&self, lost: Lost) {
        self.lost.store(if lost == Lost::Request { 1 } else { 2 }, SeqCst);
    }

    pub(super) fn loses_request(&self) -> bool {
        #[cfg(feature = "failpoints")]
        return self.lost.compare_exchange(1, 0, SeqCst, SeqCst).is_ok();
        #[cfg(not(feature = "failpoints"))]
        false
    }

    pub(super) fn loses_answer(&self) -> bool {
        #[cfg(feature = "failpoints")]
        return self.lost.compare_exchange(2, 0, SeqCst, SeqCst).is_ok();
        #[cfg(not(feature = "failpoints"))]
        false
    }

    /// Lets the next write pause for so long between the log and its effects.
    #[cfg(feature = "failpoints")]
    pub fn pause(&self, pause: std::time::Duration) {
        self.pause_ms.store(pause.as_millis() as usize, SeqCst);
    }

    #[allow(clippy::unused_async, reason = "pauses with failpoints")]
    pub(super) async fn after_log(&self) -> Result<()> {
        #[cfg(feature = "failpoints")]
        tokio::time::sleep(std::time::Duration::from_millis(self.pause_ms.swap(0, SeqCst) as u64)).await;
        #[cfg(feature = "failpoints")]
        if self.death.compare_exchange(1, 0, SeqCst, SeqCst).is_ok() {
            return Err(crate::StoreError::Unknown("died after the log".to_owned()));
        }
        Ok(())
    }

    /// How many of `count` upserts are made.
    pub(super) fn writes_of_effects(&self, count: usize) -> usize {
        #[cfg(feature = "failpoints")]
        if self.death.load(SeqCst) == 2 {
            return self.effects.load(SeqCst).min(count);
        }
        count
    }

    pub(super) fn after_effects(&self) -> Result<()> {
        #[cfg(feature = "failpoints")]
        if self.death.compare_exchange(2, 0, SeqCst, SeqCst).is_ok() {
            return Err(crate::StoreError::Unknown("died amid effects".to_owned()));
        }
        Ok(())
    }
}
