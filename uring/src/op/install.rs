//! IORING_OP_FIXED_FD_INSTALL: see [`Ring::install`](crate::Ring::install). Linux 6.8.

/// Its number, to ask a kernel for.
pub const CODE: u8 = io_uring::opcode::FixedFdInstall::CODE;
