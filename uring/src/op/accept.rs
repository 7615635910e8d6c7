//! IORING_OP_ACCEPT into the ring's table, once: takes one connection.
//!
//! Not multishot: that one goes on when the table is full, and each connection it takes then is closed at once. Whoever
//! has no more of these under way than places free loses none.

use std::io;

use io_uring::opcode;
use io_uring::types::DestinationSlot;

use super::How;
use crate::target::on;
use crate::{LentAddress, Ring, Target, Token};

/// Its number, to ask a kernel for.
pub const CODE: u8 = opcode::Accept::CODE;

/// Takes the next connection of `listener` into a free place, which the result names. Waits for one. The peer's address
/// is in the row that was lent once this has completed.
///
/// # Errors
/// As [`Ring::submit`]. The completion: ENFILE if no place is free, and the connection is lost; else as accept(2).
///
/// # Safety
/// The row is not taken back before the completion.
pub unsafe fn start<T: Token>(
    ring: &mut Ring<T>,
    listener: Target,
    peer: &LentAddress,
    how: How,
    token: T,
) -> io::Result<()> {
    let slot = Some(DestinationSlot::auto_target());
    let entry = on!(listener, |fd| opcode::Accept::new(fd, peer.start, peer.len).file_index(slot).build());
    // SAFETY: the row is the kernel's until it is taken back, and addresses are leaked rather than freed while lent.
    unsafe { ring.push(&how.apply(entry, token)) }
}
