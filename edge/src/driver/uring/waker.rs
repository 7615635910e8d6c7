//! Ends the sleep of a shard from another thread: an eventfd that its first ring polls.
//!
//! Every write is an edge, so the poll reports it whether or not it was read, and 64 bits do not run over.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use roost_edge_core::driver::Wake;
use roost_uring::Bell;

/// Wakes a [`UringDriver`](super::UringDriver).
pub struct UringWaker(Bell);

impl UringWaker {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Bell::new()?))
    }

    /// Sleeps for `span`, or until it is called; for no time if it was called since the last such sleep. The poll reports
    /// the call all the same.
    pub(super) fn sleep(&self, span: Duration) -> io::Result<()> {
        self.0.wait(Some(span)).map(drop)
    }
}

impl AsFd for UringWaker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Wake for UringWaker {
    fn wake(&self) {
        if let Err(error) = self.0.ring() {
            tracing::error!(%error, "cannot wake a shard");
        }
    }
}
