//! Sockets that said their end and are closed a moment later.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::conn::Conn;

/// How long a socket is kept after we said the end: some round trips on a slow path.
const KEEP: Duration = Duration::from_secs(1);
/// Sockets kept at most; above, the oldest is closed early.
const SOCKETS_MAX: usize = 1024;

/// The list, oldest first.
#[derive(Default)]
pub(super) struct Linger {
    sockets: VecDeque<(Instant, Conn)>,
}

impl Linger {
    pub(super) fn keep(&mut self, socket: Conn, now: Instant) {
        if self.sockets.len() == SOCKETS_MAX {
            self.sockets.pop_front();
        }
        self.sockets.push_back((now + KEEP, socket));
    }

    /// Closes those whose time is over.
    pub(super) fn let_go(&mut self, now: Instant) {
        while self.sockets.front().is_some_and(|(deadline, _)| *deadline <= now) {
            self.sockets.pop_front();
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.sockets.front().map(|(deadline, _)| *deadline)
    }
}
