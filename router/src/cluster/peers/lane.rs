//! Numbers 1, 2, 3… of parcels, and which of them came.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Parcels of one series, with what is to be done in its turn.
pub(super) struct Lane<T> {
    /// The lowest number that did not come.
    next: u64,
    /// The highest number that is known to have been given.
    highest: u64,
    /// What came above `next`.
    ahead: BTreeMap<u64, T>,
    /// Since when `next` is known to be missing, or is waited for.
    missing_since: Option<Instant>,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { next: 1, highest: 0, ahead: BTreeMap::new(), missing_since: None }
    }
}

impl<T> Lane<T> {
    /// The highest number that is known to have been given.
    pub(super) const fn highest(&self) -> u64 {
        self.highest
    }

    /// Something did not come, or not yet.
    pub(super) const fn has_gap(&self) -> bool {
        self.missing_since.is_some()
    }

    /// `number` was given to something.
    pub(super) fn given(&mut self, number: u64) {
        self.highest = self.highest.max(number);
    }

    /// `number` came. False: it came before, or was given up for lost.
    pub(super) fn enter(&mut self, number: u64, what: T) -> bool {
        if number < self.next || self.ahead.contains_key(&number) {
            return false;
        }
        self.given(number);
        self.ahead.insert(number, what);
        true
    }

    /// What is next in turn, if it came.
    pub(super) fn pop(&mut self) -> Option<T> {
        let first = self.ahead.first_entry()?;
        if *first.key() != self.next {
            return None;
        }
        self.next += 1;
        Some(first.remove())
    }

    /// Notes since when the lowest missing number is waited for. `before` is what [`Self::next`] was before what came
    /// last. True: there is a hole where there was none.
    pub(super) fn look_for_gap(&mut self, before: u64, now: Instant) -> bool {
        let had = self.missing_since.is_some();
        if self.next > self.highest {
            self.missing_since = None;
        } else if !had || self.next != before {
            self.missing_since = Some(now);
        }
        !had && self.has_gap()
    }

    /// The lowest number that did not come.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// What is missing is lost: too much came behind it, or it is missing for too long.
    pub(super) fn is_overdue(&self, now: Instant, ahead_max: usize, gap_after: Duration) -> bool {
        self.ahead.len() > ahead_max || self.missing_since.is_some_and(|since| now.duration_since(since) >= gap_after)
    }

    /// Waits no more for what is missing. Gives what came behind it, in order.
    pub(super) fn give_up(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.next = self.highest + 1;
        self.missing_since = None;
        std::mem::take(&mut self.ahead).into_values()
    }
}
