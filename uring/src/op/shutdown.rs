//! IORING_OP_SHUTDOWN: says the end and keeps the socket. The kernel does it on a thread of its own pool.

use std::io;

use io_uring::opcode;

use super::How;
use crate::target::on;
use crate::{Ring, Target, Token};

/// Its number, to ask a kernel for.
pub const CODE: u8 = opcode::Shutdown::CODE;

/// Ends what `target` sends; it still receives.
///
/// # Errors
/// As [`Ring::submit`]. The completion: as shutdown(2).
pub fn start<T: Token>(ring: &mut Ring<T>, target: Target, how: How, token: T) -> io::Result<()> {
    let entry = on!(target, |fd| opcode::Shutdown::new(fd, libc::SHUT_WR).build());
    // SAFETY: the entry points at nothing.
    unsafe { ring.push(&how.apply(entry, token)) }
}
