//! A whole deployment in one thread: real client cores, real shards, real hubs of QUIC, real routers on a bus, one store with
//! an fsync boundary; networks and clocks that the seed decides.
//!
//! Invariants, checked when something happens, and once more at the end:
//! - what was acknowledged is in the log exactly once, with its seq and its text, behind the fsync boundary;
//! - what was refused is not in the log, and never will be;
//! - logs have no gaps and no doubles, one cmid stands in a log once, and messages of a client stand in its order;
//! - each client's view of a conversation is a copy of the log, in order, without gaps, whatever was cut or killed;
//! - nobody is told of a conversation that is not his, nothing is written by who may not, nobody sees a stranger;
//! - receipts run ahead neither of what devices of the user hold nor of what the user has read;
//! - every queue is within its limit: outbound, fan-out, commands, tasks, outboxes;
//! - an app has one session: it is not told of another while it has one, and a session that moves is not told to be lost;
//! - once the faults end, everybody catches up and every outbox empties.
//!
//! Each kind of fault, the network, the workload and every client have random streams of their own.
#![forbid(unsafe_code)]

mod air;
mod bus;
mod client;
mod fault;
mod model;
mod net;
mod node;
mod quic;
mod rng;
pub mod seeds;
mod setup;
mod store;
mod world;

pub use fault::{Fault, FaultCounts};
pub use model::Outcome;
pub use world::{Plan, run};
