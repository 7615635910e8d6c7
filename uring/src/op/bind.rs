//! IORING_OP_BIND: gives a socket its own address. Linux 6.11.

use std::io;
use std::net::SocketAddr;

use io_uring::opcode;

use super::How;
use crate::target::on;
use crate::{Ring, Target, Token};

/// Its number, to ask a kernel for.
pub const CODE: u8 = opcode::Bind::CODE;

/// Binds `target` to `addr`; port 0 leaves the choice to the system.
///
/// # Errors
/// As [`Ring::submit`]. The completion: as bind(2).
pub fn start<T: Token>(ring: &mut Ring<T>, target: Target, addr: SocketAddr, how: How, token: T) -> io::Result<()> {
    let (start, len) = ring.keep(addr)?;
    let entry = on!(target, |fd| opcode::Bind::new(fd, start, len).build());
    // SAFETY: the ring keeps the address until the entry is submitted, which is when the kernel reads it.
    unsafe { ring.push(&how.apply(entry, token)) }
}
