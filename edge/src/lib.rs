//! Connections: everything between the listener and the router, with real sockets and threads.
//!
//! A thread per shard runs [`run::ShardLoop`]: a driver moves bytes, `roost_edge_core::Shard` decides, commands go to
//! an [`Upstream`] once per turn, and what comes back arrives in the shard's mailbox. One more thread accepts. Requests
//! that are no upgrade go to an [`HttpService`] over an in-memory stream ([`HttpIo`]), so they work alike under every
//! driver.
//!
//! Invariants:
//! - a connection belongs to one shard and is touched by that shard's thread alone;
//! - nothing on a shard's thread waits but the driver;
//! - threads share mailboxes and counters, nothing else.
//!
//! Absent on purpose: what a message means, storage, an async runtime on the way of a message.

mod accept;
mod address;
mod bind;
mod bridge;
mod config;
pub mod driver;
mod handle;
mod inbox;
mod mailbox;
pub mod metrics;
#[cfg(all(test, roost_model))]
mod models;
mod run;
mod sync;
pub mod tls;
mod upstream;

pub use address::{Address, NoSubnet, Permit, Subnet};
pub use bind::{BindError, Bound, Edge, Running};
pub use bridge::HttpIo;
pub use config::{DriverKind, EdgeConfig, shards_by_default};
pub use handle::EdgeHandle;
pub use inbox::Inbox;
pub use metrics::EdgeSnapshot;
pub use roost_edge_core::ShardConfig;
pub use roost_edge_core::config::OriginPolicy;
pub use run::{Setup, ShardLoop, Turn};
pub use upstream::{HttpService, Upstream};
