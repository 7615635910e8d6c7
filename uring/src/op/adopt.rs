//! IORING_OP_FILES_UPDATE: see [`Ring::adopt`](crate::Ring::adopt). Linux 6.0.

/// Its number, to ask a kernel for.
pub const CODE: u8 = io_uring::opcode::FilesUpdate::CODE;
