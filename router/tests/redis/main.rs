//! The bus through Redis, against real servers: one Redis, and a Redis Cluster.
//!
//! Tests share a server and keep apart by the name of their cluster; those that do a server harm start their own.

mod bridge;
mod conformance;
mod faults;
#[path = "../router/harness.rs"]
#[allow(dead_code, reason = "the other tests of the router use the rest")]
mod harness;
mod kit;
mod leases;
mod registry;
mod routers;
mod settings;
