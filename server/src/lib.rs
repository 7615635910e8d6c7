//! The `roost` binary as a library: configuration, the HTTP API, admin, telemetry, and the wiring of edge and router.
//!
//! This is the only place that knows all crates. Invariants:
//! - a wrong setting is refused before anything is opened or listened on;
//! - readiness is told before draining starts and never comes back after it;
//! - tokens, bodies and user ids do not go to the log.
//!
//! Absent on purpose: what a message means (router), bytes of connections (edge).
#![forbid(unsafe_code)]
// Futures of the store in CQL are nested deeply.
#![recursion_limit = "256"]

mod admin;
mod admission;
mod backend;
pub mod chat;
pub mod cli;
mod commands;
pub mod config;
mod descriptors;
mod doctor;
mod fleet;
mod glue;
mod guests;
mod http;
mod lifecycle;
mod metrics;
mod serve;
mod system;
mod telemetry;
mod tls;
