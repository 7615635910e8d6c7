//! The Roost SDK: a client core without I/O, and a driver for it on tokio.
//!
//! [`Client::builder`] is the way in. The client connects, stays connected (heartbeat, reconnect with full jitter,
//! GOAWAY), keeps every message in an outbox until it is acknowledged, and shows every conversation in order and
//! without gaps, whatever connections do. [`core`] is the same without sockets and clocks, for simulations and for
//! bindings that bring their own transport.
//!
//! Absent on purpose: TLS (a later issue), reading conversations from the beginning (that is `history`).
#![forbid(unsafe_code)]

pub mod core;
pub mod error;
pub mod url;

pub use error::{ConnectError, EndReason, RequestError, SendError};
