//! A load that several processes put on: workers, each with a slice of the clients, and who coordinates them.
//!
//! - `frame`: messages on a connection, with lengths, limits and deadlines; `talk`: what they say; `proof`: who may say it;
//! - `link`: a worker's end while it runs: what it measured goes out, orders come in;
//! - `worker`: a process that waits for coordinators; `coordinator`: connects, agrees on a start, adds up;
//! - `part`: what came of a worker, and how parts become the whole.
//!
//! Invariants:
//! - a worker's clients talk among themselves: a latency is measured by one clock, and each worker judges its own ledger;
//! - histograms are merged, never averaged: what is told of the whole is what one process would have told;
//! - a worker that is not heard of for [`SILENCE_MAX`] is lost: what it had told stays, its clients count as gone, and
//!   the report says so.
//!
//! Absent on purpose: secrecy. What goes over the wire is a scenario and what was measured; the key of the server's
//! tokens goes to workers on this machine only. Between machines use a private network.

pub(crate) mod coordinator;
mod frame;
mod link;
mod part;
pub(crate) mod proof;
mod talk;
pub(crate) mod worker;

use std::time::{Duration, Instant};

use crate::recorder::Recorder;

/// The version of what is said; it changes with every change of its form.
const PROTOCOL: u32 = 1;
/// How often each end says something, if only that it is there.
const ALIVE_EVERY: Duration = Duration::from_secs(1);
/// An end that is not heard of for so long is lost.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long connecting and agreeing on who one is may take.
const GREET_WITHIN: Duration = Duration::from_secs(5);

/// When a load that others take part in begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Not known yet: ask again.
    Wait,
    /// At this moment.
    At(Instant),
}

/// Who takes part in a run from outside.
pub(crate) trait Peer: Send {
    /// So many clients are in and every conversation is made: when does the load begin?
    fn start(&mut self, entered: u64) -> Start;
    /// What a thread measured, in this second of the load or outside of it, and sessions of the whole run.
    fn tick(&mut self, second: Option<u64>, live: u64, recorder: &Recorder);
}
