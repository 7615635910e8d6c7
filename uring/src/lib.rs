//! io_uring as Roost uses it: a ring, its operations, tables of fixed files, and memory that is lent to the kernel.
//!
//! - `ring`: entries in, completions out; `token`: whom a completion is for; `op`: one operation a file;
//! - `target`: what an operation is done to, a plain descriptor or a place in the ring's table of files;
//! - `files`: how large such a table may be; `bell`: one sleep for several rings;
//! - `fleet`: client sockets by the hundred thousand, safe to use;
//! - `arena`: receive buffers; `address`: socket addresses, and memory for those of accepted peers.
//!
//! Invariants:
//! - entries reach the kernel in the order in which they were put in, so an entry that closes a place comes after those
//!   that name it;
//! - memory that an operation points at is either the caller's promise (`unsafe fn`) or the ring's own.
//!
//! Absent on purpose: an executor or futures, SQPOLL (takes a core), zero-copy sends (dearer below several KiB),
//! `DEFER_TASKRUN` (its wait runs 20 items at most, and its rings do not wake who polls them).
#![cfg(target_os = "linux")]
#![deny(clippy::multiple_unsafe_ops_per_block)]

#[expect(unsafe_code, reason = "the kernel writes peers' addresses")]
mod address;
#[expect(unsafe_code, reason = "buffers that the kernel writes into")]
mod arena;
mod bell;
pub mod files;
pub mod fleet;
#[expect(unsafe_code, reason = "entries say what the kernel reads and writes")]
pub mod op;
#[expect(unsafe_code, reason = "the kernel reads and writes where entries point at")]
mod ring;
#[expect(unsafe_code, reason = "who names a descriptor promises that it stays open")]
mod target;
mod token;

pub use address::{Address, Addresses, LentAddress};
pub use arena::{Arena, Lent};
pub use bell::Bell;
pub use op::How;
pub use ring::{Completion, Ring};
pub use target::Target;
pub use token::Token;
