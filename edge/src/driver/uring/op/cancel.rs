//! IORING_OP_ASYNC_CANCEL: ends the poll of a connection that was let go.
//!
//! While it is armed a poll holds the socket, so closing the descriptor alone does not close the connection. Not
//! IORING_OP_POLL_REMOVE: that one gives up (EALREADY) on a poll which is just about to report, and leaves it armed.

use std::io;

use io_uring::{opcode, squeue};

use super::super::ring::Ring;
use super::super::token::Token;

pub(in super::super) const CODE: u8 = opcode::AsyncCancel::CODE;

/// Ends what `target` stands for. Only a failure completes: there was nothing to end.
pub(in super::super) fn start(ring: &mut Ring, target: Token) -> io::Result<()> {
    let entry = opcode::AsyncCancel::new(target.pack()).build();
    let entry = entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(Token::Cancel.pack());
    // SAFETY: the entry points at nothing and names no descriptor.
    unsafe { ring.push(&entry) }
}
