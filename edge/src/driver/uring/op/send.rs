//! IORING_OP_SEND: sends as much as there is room for.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::{opcode, types};

use super::super::batch::Piece;
use super::super::ring::Ring;
use super::super::token::Token;

pub(in super::super) const CODE: u8 = opcode::Send::CODE;

/// Sends `piece`, which stands at `index` in the batch, to `fd`. It does not wait: what has no room is not sent, and
/// without any it fails with EAGAIN.
pub(in super::super) fn start(ring: &mut Ring, fd: BorrowedFd<'_>, index: u32, piece: Piece) -> io::Result<()> {
    let send = opcode::Send::new(types::Fd(fd.as_raw_fd()), piece.start, piece.len);
    let send = send.flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    let entry = send.build().user_data(Token::Send(index).pack());
    // SAFETY: the bytes stay as they are until the batch is emptied (batch, A), which is not before this completes
    // (batch, B), and the driver submits before it closes a descriptor.
    unsafe { ring.push(&entry) }
}
