//! Connections that said their end and are closed a moment later.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a connection is kept after we said the end: some round trips on a slow path.
const KEEP: Duration = Duration::from_secs(1);

/// The list, oldest first.
pub(super) struct Linger<T> {
    kept: VecDeque<(Instant, T)>,
    /// Above, the oldest is let go early.
    most: usize,
}

impl<T> Linger<T> {
    pub(super) const fn new(most: usize) -> Self {
        Self { kept: VecDeque::new(), most }
    }

    /// Keeps `conn` for its time. Returns one that has to go for it.
    pub(super) fn keep(&mut self, conn: T, now: Instant) -> Option<T> {
        let early = if self.kept.len() >= self.most { self.oldest() } else { None };
        self.kept.push_back((now + KEEP, conn));
        early
    }

    /// The next one whose time is over.
    pub(super) fn over(&mut self, now: Instant) -> Option<T> {
        if self.next_deadline()? <= now { self.oldest() } else { None }
    }

    /// The oldest, though its time is not over.
    pub(super) fn oldest(&mut self) -> Option<T> {
        self.kept.pop_front().map(|(_, conn)| conn)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.kept.front().map(|(deadline, _)| *deadline)
    }
}
