//! Ends the sleep of a shard from another thread: an eventfd that its first ring polls.
//!
//! Nobody reads it. Every write is an edge, so the poll reports it, and 64 bits do not run over.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use roost_edge_core::driver::Wake;
use roost_uring::Bell;

/// Wakes a [`UringDriver`](super::UringDriver).
pub struct UringWaker(Bell);

impl UringWaker {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Bell::new()?))
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
