//! The Roost SDK: a client core without I/O, and a driver for it on tokio.
//!
//! [`Client::builder`] is the way in. The client connects, stays connected (heartbeat, reconnect with full jitter,
//! GOAWAY), keeps every message in an outbox until it is acknowledged, and shows every conversation in order and
//! without gaps, whatever connections do. [`core`] is the same without sockets and clocks, for simulations and for
//! bindings that bring their own transport.
//!
//! Absent on purpose: a database of messages (the app's), a way to connect by TLS without looking at the certificate.
#![forbid(unsafe_code)]

mod builder;
mod client;
pub mod core;
mod driver;
pub mod error;
mod events;
pub mod persist;
pub mod tls;
pub mod url;

pub use builder::{Builder, Transport};
pub use client::{Client, Sending};
pub use core::{Cmid, Config, Event, Record, Resume, Start};
pub use driver::race::{HEAD_START, QUIC_AGAIN_AFTER, Way};
pub use error::{ConnectError, EndReason, RequestError, SendError};
pub use events::Events;
pub use persist::{FileOutbox, MemoryOutbox, OutboxStore};
pub use tls::Trust;
