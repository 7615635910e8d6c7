//! IORING_OP_URING_CMD, SOCKET_URING_OP_SETSOCKOPT: turns an option of a socket on. Linux 6.7.

use std::io;

use io_uring::opcode;

use super::How;
use crate::target::on;
use crate::{Ring, Target, Token};

/// Its number, to ask a kernel for. Other commands have it too.
pub const CODE: u8 = opcode::SetSockOpt::CODE;

/// An option that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Switch {
    /// Small frames leave at once.
    NoDelay,
    /// A bind without a port leaves its choice to connect, which knows both ends: as many connections as there are pairs.
    BindAddressNoPort,
    /// An address may be used again while old connections of it are in TIME_WAIT.
    ReuseAddress,
}

/// What the kernel reads for "on".
static ON: i32 = 1;

/// Turns `switch` on at `target`.
///
/// # Errors
/// As [`Ring::submit`]. The completion: as setsockopt(2).
pub fn start<T: Token>(ring: &mut Ring<T>, target: Target, switch: Switch, how: How, token: T) -> io::Result<()> {
    let (level, name) = match switch {
        Switch::NoDelay => (libc::IPPROTO_TCP, libc::TCP_NODELAY),
        Switch::BindAddressNoPort => (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT),
        Switch::ReuseAddress => (libc::SOL_SOCKET, libc::SO_REUSEADDR),
    };
    let (value, len) = ((&raw const ON).cast(), size_of_val(&ON) as u32);
    let entry = on!(target, |fd| opcode::SetSockOpt::new(fd, level as u32, name as u32, value, len).build());
    // SAFETY: the value lives for ever.
    unsafe { ring.push(&how.apply(entry, token)) }
}
