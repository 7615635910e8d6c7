//! IORING_OP_FIXED_FD_INSTALL: a plain descriptor for a file of the ring's table, for calls that rings do not have.
//! Linux 6.8.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use io_uring::{opcode, types};

use super::How;
use crate::{Completion, Ring, Token};

/// Its number, to ask a kernel for.
pub const CODE: u8 = opcode::FixedFdInstall::CODE;

/// Gives what is at `slot` a descriptor beside. [`taken`] has it, from the completion.
///
/// # Errors
/// As [`Ring::submit`]. The completion: EMFILE if no descriptor is left, EBADF if the place is empty.
pub fn start<T: Token>(ring: &mut Ring<T>, slot: u32, how: How, token: T) -> io::Result<()> {
    let entry = opcode::FixedFdInstall::new(types::Fixed(slot), 0).build();
    // SAFETY: the entry points at nothing, and the table's files are the ring's own.
    unsafe { ring.push(&how.apply(entry, token)) }
}

/// The descriptor that a completion brought.
///
/// # Errors
/// What the completion says.
///
/// # Safety
/// It is a completion of [`start`], and nobody has taken it before.
pub unsafe fn taken<T>(completion: &Completion<T>) -> io::Result<OwnedFd> {
    if completion.result < 0 {
        return Err(io::Error::from_raw_os_error(-completion.result));
    }
    // SAFETY: a new descriptor that is nobody else's, by the caller's promise.
    Ok(unsafe { OwnedFd::from_raw_fd(completion.result) })
}
