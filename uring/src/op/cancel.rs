//! IORING_OP_ASYNC_CANCEL: ends what is under way.
//!
//! While an operation is armed it holds its socket, so closing the descriptor or the place alone does not close the
//! connection. Not IORING_OP_POLL_REMOVE: that one gives up (EALREADY) on a poll which is just about to report, and
//! leaves it armed. And not "everything at this place" (`IORING_ASYNC_CANCEL_FD`): that looks at every poll of the ring, while
//! the one of a token is in one of 256 lists.

use std::io;

use io_uring::opcode;

use super::How;
use crate::{Ring, Token};

/// Its number, to ask a kernel for.
pub const CODE: u8 = opcode::AsyncCancel::CODE;

/// Ends the operation that was begun with `whose`. That one completes with ECANCELED.
///
/// # Errors
/// As [`Ring::submit`]. The completion: ENOENT if there is none.
pub fn start<T: Token>(ring: &mut Ring<T>, whose: T, how: How, token: T) -> io::Result<()> {
    let entry = opcode::AsyncCancel::new(whose.pack()).build();
    // SAFETY: the entry points at nothing and names no descriptor.
    unsafe { ring.push(&how.apply(entry, token)) }
}
