//! What an operation is done to.

use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::types;

/// A plain descriptor, or a place in the ring's table of files.
#[derive(Clone, Copy, Debug)]
pub struct Target(pub(crate) Place);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Plain(types::Fd),
    Fixed(types::Fixed),
}

impl Target {
    /// The file at `slot` of the ring's table. An operation on an empty place fails with EBADF.
    #[must_use]
    pub const fn fixed(slot: u32) -> Self {
        Self(Place::Fixed(types::Fixed(slot)))
    }

    /// A plain descriptor.
    ///
    /// # Safety
    /// It stays open until every entry that names it was submitted: its number may be another file's afterwards.
    #[must_use]
    pub unsafe fn plain(fd: BorrowedFd<'_>) -> Self {
        Self(Place::Plain(types::Fd(fd.as_raw_fd())))
    }
}

/// Builds an entry for either kind.
macro_rules! on {
    ($target:expr, |$fd:ident| $entry:expr) => {
        match $target.0 {
            $crate::target::Place::Plain($fd) => $entry,
            $crate::target::Place::Fixed($fd) => $entry,
        }
    };
}

pub(crate) use on;
