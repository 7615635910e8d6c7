//! IORING_OP_URING_CMD, SOCKET_URING_OP_SETSOCKOPT: SO_LINGER of no time. Linux 6.7.

use std::io;

use io_uring::opcode;

use super::How;
use crate::target::on;
use crate::{Ring, Target, Token};

/// Its number, to ask a kernel for. Other commands have it too.
pub const CODE: u8 = opcode::SetSockOpt::CODE;

/// Linger, for no time at all.
static NO_TIME: libc::linger = libc::linger { l_onoff: 1, l_linger: 0 };

/// Lets the close of `target` be a reset (RST): what was not sent is dropped, and no TIME_WAIT is left.
///
/// # Errors
/// As [`Ring::submit`]. The completion: as setsockopt(2).
pub fn none<T: Token>(ring: &mut Ring<T>, target: Target, how: How, token: T) -> io::Result<()> {
    let (level, name) = (libc::SOL_SOCKET as u32, libc::SO_LINGER as u32);
    let (value, len) = ((&raw const NO_TIME).cast(), size_of_val(&NO_TIME) as u32);
    let entry = on!(target, |fd| opcode::SetSockOpt::new(fd, level, name, value, len).build());
    // SAFETY: the value lives for ever.
    unsafe { ring.push(&how.apply(entry, token)) }
}
