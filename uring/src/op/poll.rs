//! IORING_OP_POLL_ADD, multishot: tells of every change of a file's state until it is cancelled.
//!
//! The cheapest way to wait on an idle socket. It reports edges, as epoll does with EPOLLET, and once at the start
//! what is the case already. It ends when the kernel has no room for its report: whoever gets a report without
//! "more" arms it again.

use std::io;

use io_uring::opcode;

use super::How;
use crate::target::on;
use crate::{Ring, Target, Token};

/// Its number, to ask a kernel for.
pub const CODE: u8 = opcode::PollAdd::CODE;

/// What there is to know of a socket. Errors and hang-ups are told without being asked for.
pub const SOCKET: i16 = libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP;
/// What there is to know of a file that is only read.
pub const READS: i16 = libc::POLLIN | libc::POLLRDHUP;

/// Tells of `events` at `target` by completions with `token`; each has a [`Report`].
///
/// # Errors
/// As [`Ring::submit`].
pub fn start<T: Token>(ring: &mut Ring<T>, target: Target, events: i16, how: How, token: T) -> io::Result<()> {
    let entry = on!(target, |fd| opcode::PollAdd::new(fd, events as u32).multi(true).build());
    // SAFETY: the entry points at nothing.
    unsafe { ring.push(&how.apply(entry, token)) }
}

/// What a report says: the result of a completion.
#[derive(Clone, Copy, Debug)]
pub struct Report(pub i32);

impl Report {
    const fn has(self, event: i16) -> bool {
        self.0 & event as i32 != 0
    }

    /// Nothing can be read or written any more.
    #[must_use]
    pub const fn is_dead(self) -> bool {
        self.has(libc::POLLERR) || self.has(libc::POLLHUP)
    }

    /// The peer sends no more.
    #[must_use]
    pub const fn is_read_closed(self) -> bool {
        self.has(libc::POLLRDHUP) || self.has(libc::POLLHUP)
    }

    /// There is something to read.
    #[must_use]
    pub const fn is_readable(self) -> bool {
        self.has(libc::POLLIN)
    }

    /// There is room to write.
    #[must_use]
    pub const fn is_writable(self) -> bool {
        self.has(libc::POLLOUT)
    }
}
