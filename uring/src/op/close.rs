//! IORING_OP_CLOSE of a place in the ring's table.

use std::io;

use io_uring::{opcode, types};

use super::{How, cancel};
use crate::{Ring, Token};

/// Its number, to ask a kernel for.
pub const CODE: u8 = opcode::Close::CODE;

/// Closes what is at `slot`; the place is free afterwards. What is under way there goes on, and holds the file: see
/// [`after_cancel`].
///
/// # Errors
/// As [`Ring::submit`]. The completion: EBADF if the place was empty.
pub fn start<T: Token>(ring: &mut Ring<T>, slot: u32, how: How, token: T) -> io::Result<()> {
    let entry = opcode::Close::new(types::Fixed(slot)).build();
    // SAFETY: the entry points at nothing, and the table's files are the ring's own.
    unsafe { ring.push(&how.apply(entry, token)) }
}

/// Ends the operation that was begun with `armed` and closes `slot`, where it was the last one: so the peer hears of it.
/// Completes with `closed`, and with `cancelled` if nothing was armed.
///
/// # Errors
/// As [`Ring::submit`].
pub fn after_cancel<T: Token>(ring: &mut Ring<T>, slot: u32, armed: T, cancelled: T, closed: T) -> io::Result<()> {
    ring.make_room(2)?;
    cancel::start(ring, armed, How::HARD_LINKED.and(How::QUIET), cancelled)?;
    start(ring, slot, How::PLAIN, closed)
}
