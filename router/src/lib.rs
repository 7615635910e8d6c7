//! What a message means, on one node: append, sync, fan-out, routes, presence, receipts, groups, accounts.
pub mod auth;
mod config;
mod env;
pub mod metrics;
mod router;

use roost_wire::UserId;
use roost_wire::link::Down;

pub use config::{PublishPolicy, RouterConfig};
pub use env::{Env, SystemEnv};
pub use metrics::RouterSnapshot;
pub use router::Router;

/// Where envelopes go: the edges.
pub trait Downstream: Send + Sync + 'static {
    /// How many shards there are; their numbers are below it.
    fn shards(&self) -> u16;

    /// Hands `batch` to a shard, emptying it. Never blocks. What one thread posts to one shard arrives in order.
    fn post(&self, shard: u16, batch: &mut Vec<Down>);
}

/// What a user needs to come in again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Who.
    pub user: UserId,
    /// The token for CONNECT.
    pub token: String,
    /// When it ends, in ms since the Unix epoch.
    pub expires_ms: u64,
    /// The display name.
    pub name: String,
}
