//! IORING_OP_RECV: takes what is there, into a buffer that was lent.

use std::io;

use io_uring::opcode;

use super::How;
use crate::arena::Lent;
use crate::target::on;
use crate::{Ring, Target, Token};

/// Its number, to ask a kernel for.
pub const CODE: u8 = opcode::Recv::CODE;

/// Receives from `target` into the buffer. It does not wait, so it completes in the call that submits it.
///
/// # Errors
/// As [`Ring::submit`]. The completion: EAGAIN if nothing is there, else as recv(2).
///
/// # Safety
/// The buffer is not taken back before the completion.
pub unsafe fn start<T: Token>(ring: &mut Ring<T>, target: Target, lent: &Lent, how: How, token: T) -> io::Result<()> {
    let entry = on!(target, |fd| { opcode::Recv::new(fd, lent.start, lent.bytes).flags(libc::MSG_DONTWAIT).build() });
    // SAFETY: the buffer is the kernel's until it is taken back, and an arena is leaked rather than freed while lent.
    unsafe { ring.push(&how.apply(entry, token)) }
}
