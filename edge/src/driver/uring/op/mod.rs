//! What is asked of the kernel, one operation a file.

pub(super) mod cancel;
pub(super) mod poll;
pub(super) mod recv;
pub(super) mod send;
