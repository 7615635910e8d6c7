//! IORING_OP_SEND: sends as much as there is room for.

use std::io;

use io_uring::opcode;

use super::How;
use crate::target::on;
use crate::{Ring, Target, Token};

/// Its number, to ask a kernel for.
pub const CODE: u8 = opcode::Send::CODE;

/// Sends the `len` bytes at `start` to `target`. It does not wait, so it completes in the call that submits it: what has
/// no room is not sent.
///
/// # Errors
/// As [`Ring::submit`]. The completion: EAGAIN if there is no room at all, else as send(2).
///
/// # Safety
/// The bytes stay where and as they are until the completion.
pub unsafe fn start<T: Token>(
    ring: &mut Ring<T>,
    target: Target,
    start: *const u8,
    len: u32,
    how: How,
    token: T,
) -> io::Result<()> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let entry = on!(target, |fd| opcode::Send::new(fd, start, len).flags(flags).build());
    // SAFETY: promised by the caller.
    unsafe { ring.push(&how.apply(entry, token)) }
}
