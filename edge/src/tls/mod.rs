//! TLS for connections over TCP: a driver around a driver, and certificates that change without a restart.
//!
//! - `driver`: between a driver that moves bytes and a shard; `session`: TLS with one peer, without I/O; `record`: TLS 1.3 after the
//!   handshake, on raw keys; `secrets`: what those are made of; `broken`: why it cannot go on;
//! - `identity`: certificate and key in use; `dev`: self-made ones; `validity`: from when until when;
//! - `metrics`: what is counted.
//!
//! Absent on purpose: client certificates, early data (what it brings may be repeated by whoever hears it), kTLS (the
//! kernel seldom has it), renegotiation.

mod broken;
mod dev;
mod driver;
mod identity;
mod metrics;
mod record;
mod secrets;
mod session;
pub mod testkit;
#[cfg(test)]
mod tests;
mod validity;

pub(crate) use driver::NO_ROOM;
pub use driver::{TlsDriver, TlsSetup};
pub use identity::{Identity, IdentityError, Reload};
pub use metrics::{TlsMetrics, TlsSnapshot};
pub use validity::Validity;
