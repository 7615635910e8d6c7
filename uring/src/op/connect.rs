//! IORING_OP_CONNECT: connects a socket.

use std::io;
use std::net::SocketAddr;

use io_uring::opcode;

use super::How;
use crate::target::on;
use crate::{Ring, Target, Token};

/// Its number, to ask a kernel for.
pub const CODE: u8 = opcode::Connect::CODE;

/// Connects `target` to `addr`, and completes when that is done.
///
/// # Errors
/// As [`Ring::submit`]. The completion: as connect(2).
pub fn start<T: Token>(ring: &mut Ring<T>, target: Target, addr: SocketAddr, how: How, token: T) -> io::Result<()> {
    let (start, len) = ring.keep(addr)?;
    let entry = on!(target, |fd| opcode::Connect::new(fd, start, len).build());
    // SAFETY: the ring keeps the address until the entry is submitted, which is when the kernel reads it.
    unsafe { ring.push(&how.apply(entry, token)) }
}
