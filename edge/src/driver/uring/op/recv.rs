//! IORING_OP_RECV: takes what is there, into a buffer of the shard.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::{opcode, types};

use super::super::arena::{BUFFER_BYTES, Lent};
use super::super::ring::Ring;
use super::super::token::Token;

pub(in super::super) const CODE: u8 = opcode::Recv::CODE;

/// Receives from `fd` into the buffer that was lent. It does not wait: with nothing there it fails with EAGAIN.
pub(in super::super) fn start(ring: &mut Ring, fd: BorrowedFd<'_>, lent: &Lent) -> io::Result<()> {
    let recv = opcode::Recv::new(types::Fd(fd.as_raw_fd()), lent.start, BUFFER_BYTES as u32);
    let entry = recv.flags(libc::MSG_DONTWAIT).build().user_data(Token::Recv(lent.buffer).pack());
    // SAFETY: the buffer is the kernel's until the arena takes it back at the completion (arena, B), and the driver
    // submits before it closes a descriptor.
    unsafe { ring.push(&entry) }
}
