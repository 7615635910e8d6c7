//! `roost-load`: puts a server under load and proves what came of it.
//!
//! A run is a [`scenario`] (plain data). Its [`plan`] says who talks to whom, its [`pacer`] when messages are meant to be
//! sent; lean [`client`]s are driven by a few threads, measured by [`recorder`]s, and judged by a verdict.
//!
//! Invariants:
//! - latency counts from the intended time of a message, so waiting in the generator or the server is never left out;
//! - a generator that is late says so instead of blaming the server ([`verdict`]);
//! - every acknowledged message is looked for in the log after the load.
//!
//! Absent on purpose: any knowledge of how the server works inside.
#![forbid(unsafe_code)]

mod blocked;
mod capacity;
pub mod cli;
pub mod client;
mod clock;
mod compare;
mod dashboard;
mod driver;
mod engine;
mod fleet;
mod host;
mod hostile;
mod interrupt;
mod ledger;
#[cfg(target_os = "linux")]
mod lines;
#[cfg(target_os = "linux")]
mod mass;
pub mod pacer;
pub mod plan;
mod progress;
pub mod recorder;
pub mod report;
#[cfg(target_os = "linux")]
mod round;
pub mod scenario;
mod schedule;
mod sdk;
mod server;
pub mod threshold;
pub mod verdict;
