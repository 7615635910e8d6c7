//! Lean clients by the million: on io_uring, without descriptors, a few dozen bytes of memory each; or by QUIC, some thousand.
//!
//! - `client`, `crowd`: what there is to know of each client, and what it may do; `voice`: what it says, `hear`: what
//!   received bytes mean; `dialect`: both for each protocol there is; `token`: tokens, made cheaply; no I/O in all of these;
//! - `arrivals`: who begins when; `gaps`: who was not pushed what; both pure;
//! - `source`: addresses to connect from; `worker`: one thread, its lines and its loop;
//! - `order`, `tally`: what threads are asked and what they measured; `plan`: a run as data; `run`: the main thread;
//!   `report`: what came of it.
//!
//! Invariants:
//! - a client begins at its intended time, and its latency counts from there;
//! - every push is checked: its conversation, its seq (none left out, none twice), every byte of its text;
//! - an idle client by TCP costs [`CLIENT_BYTES_MAX`] bytes of this process's memory at most.
//!
//! Absent on purpose: what only a real user's client needs (resending, reading the log, marks): `roost-load quick` has
//! it. Nothing that was not pushed is fetched here; it is counted as missing.

mod arrivals;
mod client;
mod crowd;
mod dialect;
mod gaps;
mod hear;
mod look;
mod order;
pub(crate) mod plan;
pub(crate) mod report;
pub(crate) mod run;
mod source;
mod tally;
#[cfg(test)]
mod tests;
mod token;
mod voice;
mod worker;

/// Bytes of this process's memory that a client may take, all in all.
pub(crate) const CLIENT_BYTES_MAX: u64 = 300;
