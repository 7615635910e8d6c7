//! The edge without I/O: what a shard does with bytes, timers and envelopes.
//!
//! A [`Shard`] is one thread's share of an edge. It reads no clock, socket or random source: a driver tells it what
//! happened and when, then drains [`Shard::poll_effect`] until `None` and arms [`Shard::next_deadline`]. The same code
//! runs under epoll, io_uring and the simulation.
//!
//! Invariants:
//! - effects are drained between inputs of different turns; a key in an effect is live until [`Effect::Close`];
//! - an idle session owns no buffer;
//! - pushes never bring the queue of a session above its limits, in bytes and in frames;
//! - the bytes of a push are those of its envelope: nothing is encoded per receiver;
//! - what the router sends is obeyed in its order, whatever a fan-out in between takes.
//!
//! Absent on purpose: what a message means, membership, storage, threads.
#![forbid(unsafe_code)]

mod bucket;
mod clock;
pub mod config;
pub mod driver;
pub mod effect;
pub mod metrics;
mod outbound;
mod policy;
mod session;
mod shard;
mod slab;
#[cfg(test)]
mod testkit;
mod topics;
mod wheel;

pub use config::{ConfigError, OriginPolicy, ShardConfig};
pub use effect::{Effect, End, HttpDown};
pub use metrics::{ShardMetrics, ShardSnapshot};
pub use outbound::Outbound;
pub use shard::{Memory, Shard, bench_topic};
pub use wheel::Wheel;
