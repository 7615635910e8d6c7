//! Ends the sleep of a ring from another thread: an eventfd that the ring polls.
//!
//! Nobody reads it. Every write is an edge, so the poll reports it, and 64 bits do not run over.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use roost_edge_core::driver::Wake;
use rustix::event::{EventfdFlags, eventfd};

/// Wakes a [`UringDriver`](super::UringDriver).
pub struct UringWaker(OwnedFd);

impl UringWaker {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }
}

impl AsFd for UringWaker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Wake for UringWaker {
    fn wake(&self) {
        if let Err(error) = rustix::io::write(&self.0, &1_u64.to_ne_bytes()) {
            tracing::error!(%error, "cannot wake a shard");
        }
    }
}
