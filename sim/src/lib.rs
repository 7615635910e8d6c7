//! A whole deployment in one thread: real client cores, a real shard, a real router, the model store; a network and a
//! clock that the seed decides.
//!
//! Invariants, checked on the way and at the end:
//! - what was acknowledged is in the log exactly once, with its seq and its text;
//! - logs have no gaps and no doubles;
//! - each person's view of a conversation is a copy of the log, in order, without gaps, whatever was cut or killed;
//! - a delivered receipt never runs ahead of what that person has;
//! - once the faults end, everybody catches up and every outbox empties.
//!
//! So far one node and its faults: delay, cut and half-open connections, kills of clients and of the node, failing
//! and ambiguous storage. Several nodes, lost unsynced writes, clock jumps and drains come with the cluster.
#![forbid(unsafe_code)]

mod check;
mod net;
mod node;
mod person;
mod rng;
mod world;

pub use check::Outcome;
pub use world::{Plan, run};
