//! IORING_OP_POLL_ADD, multishot: tells of every change of a descriptor's state until it is cancelled.
//!
//! The cheapest way to wait on an idle socket. It reports edges, as epoll does with EPOLLET, and once at the start
//! what is the case already. It ends when the kernel has no room for its report: whoever gets a report without
//! "more" arms it again.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::{opcode, types};

use super::super::ring::Ring;
use super::super::token::Token;

pub(in super::super) const CODE: u8 = opcode::PollAdd::CODE;

/// What there is to know of a socket. Errors and hang-ups are told without being asked for.
pub(in super::super) const SOCKET: i16 = libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP;
/// What there is to know of a descriptor that wakes.
pub(in super::super) const WAKER: i16 = libc::POLLIN;

/// Tells of `events` at `fd` by completions with `token`.
pub(in super::super) fn start(ring: &mut Ring, fd: BorrowedFd<'_>, events: i16, token: Token) -> io::Result<()> {
    let fd = types::Fd(fd.as_raw_fd());
    let entry = opcode::PollAdd::new(fd, events as u32).multi(true).build().user_data(token.pack());
    // SAFETY: the entry points at nothing, and the driver submits before it closes a descriptor.
    unsafe { ring.push(&entry) }
}

/// What a report says.
#[derive(Clone, Copy)]
pub(in super::super) struct Report(pub(in super::super) i32);

impl Report {
    const fn has(self, event: i16) -> bool {
        self.0 & event as i32 != 0
    }

    /// Nothing can be read or written any more.
    pub(in super::super) const fn is_dead(self) -> bool {
        self.has(libc::POLLERR) || self.has(libc::POLLHUP)
    }

    /// The peer sends no more.
    pub(in super::super) const fn is_read_closed(self) -> bool {
        self.has(libc::POLLRDHUP) || self.has(libc::POLLHUP)
    }

    pub(in super::super) const fn is_readable(self) -> bool {
        self.has(libc::POLLIN)
    }

    pub(in super::super) const fn is_writable(self) -> bool {
        self.has(libc::POLLOUT)
    }
}
