//! What the benches share: frames of a usual size, and a shard full of sessions.
#![forbid(unsafe_code)]

pub mod crowd;
pub mod frames;
pub mod node;
pub mod peer;
