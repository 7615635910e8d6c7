//! IORING_OP_SOCKET into the ring's table: a socket without a descriptor. Linux 5.19.

use std::io;
use std::net::SocketAddr;

use io_uring::opcode;
use io_uring::types::DestinationSlot;

use super::How;
use crate::address::Address;
use crate::{Ring, Token};

/// Its number, to ask a kernel for.
pub const CODE: u8 = opcode::Socket::CODE;

/// Makes a TCP socket for addresses of the family of `addr` at `slot` of the table, or at a free place, which the result
/// names then. What was at `slot` is let go.
///
/// # Errors
/// `InvalidInput`: no table has such a place. Else as [`Ring::submit`]. The completion: as socket(2); ENFILE: no place
/// is free, or the system has no file left.
pub fn start<T: Token>(ring: &mut Ring<T>, slot: Option<u32>, addr: SocketAddr, how: How, token: T) -> io::Result<()> {
    let place = match slot {
        None => DestinationSlot::auto_target(),
        Some(slot) => DestinationSlot::try_from_slot_target(slot).map_err(|_| io::ErrorKind::InvalidInput)?,
    };
    let entry = opcode::Socket::new(Address::family(addr), libc::SOCK_STREAM, libc::IPPROTO_TCP);
    let entry = entry.file_index(Some(place)).build();
    // SAFETY: the entry points at nothing.
    unsafe { ring.push(&how.apply(entry, token)) }
}
