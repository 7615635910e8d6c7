//! What is asked of the kernel, one operation a file. Each puts an entry into a ring; its completion comes later.
//!
//! Errors of all of them: as [`Ring::submit`](crate::Ring::submit), which they call when the ring is full.

pub mod accept;
pub mod adopt;
pub mod bind;
pub mod cancel;
pub mod close;
pub mod connect;
pub mod install;
pub mod linger;
pub mod poll;
pub mod recv;
pub mod send;
pub mod setsockopt;
pub mod shutdown;
pub mod socket;

use io_uring::squeue::Flags;

/// What else is said of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How(Flags);

impl How {
    /// Nothing.
    pub const PLAIN: Self = Self(Flags::empty());
    /// It completes only when it fails. What is linked behind it completes not at all then.
    pub const QUIET: Self = Self(Flags::SKIP_SUCCESS);
    /// The next entry begins when this one has succeeded, and fails with ECANCELED if it has not. Both are to be in one
    /// submission: see [`Ring::make_room`](crate::Ring::make_room).
    pub const LINKED: Self = Self(Flags::IO_LINK);
    /// The next entry begins when this one has ended, whatever became of it.
    pub const HARD_LINKED: Self = Self(Flags::IO_HARDLINK);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0.union(other.0))
    }

    /// `entry`, with `token`, done this way.
    fn apply<T: crate::Token>(self, entry: io_uring::squeue::Entry, token: T) -> io_uring::squeue::Entry {
        entry.flags(self.0).user_data(token.pack())
    }
}
