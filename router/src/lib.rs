//! What a message means: append, sync, fan-out, routes, presence, receipts, groups, accounts.
//!
//! [`Router::submit`] takes what sessions say, [`Downstream`] takes what they are told. In between:
//!
//! - [`auth`], `accounts`, `connect`: who is there;
//! - `conversation`: what is known of each conversation, its making, its members and their roles;
//! - `appender`: SENDs that meet at a conversation become one append; resends are found;
//! - `fanout`, `interest`: from an entry to the sessions of its readers;
//! - `sync`, `history`, `marks`: catching up, and how far a user has come;
//! - `presence` and who may see it (`visibility`), `typing`, `channels`, `search`: the rest of what people do;
//! - `cluster`: who is where, and the seam to other nodes on the same store: [`Bus`], [`Router::hear`], [`Router::beat`].
//!
//! Invariants:
//! - every command is answered exactly once;
//! - what is acknowledged is durable; what may be stored is never said not to be;
//! - membership is checked on every read and write, against what is in force when it happens; where other nodes change
//!   members too, reads may be up to `roster_lease` behind;
//! - every queue, cache and loop has a limit, named in [`RouterConfig`] or beside its constant.
//!
//! Absent on purpose: bytes and connections (the edge has those), and any order that is not the log's.
#![forbid(unsafe_code)]

mod accounts;
mod adopt;
mod appender;
pub mod auth;
mod channels;
mod cluster;
mod config;
mod connect;
mod control;
mod conversation;
mod dense;
mod env;
mod fanout;
mod history;
mod interest;
mod lock;
mod marks;
pub mod metrics;
mod outbox;
mod presence;
mod router;
mod search;
mod sessions;
mod sharded;
mod size;
mod sync;
mod typing;
mod visibility;

use roost_wire::UserId;
use roost_wire::link::Down;

pub use adopt::Adoptee;
pub use cluster::bus::{Alone, Bus, Known, NodeId, Notice, Parcel, To};
pub use cluster::redis;
pub use config::{PublishPolicy, RouterConfig};
pub use env::{Env, SystemEnv};
pub use router::Router;

/// Where envelopes go: the edges.
pub trait Downstream: Send + Sync + 'static {
    /// How many shards there are; their numbers are below it.
    fn shards(&self) -> u16;

    /// Hands `batch` to a shard, emptying it. Never blocks. What one thread posts to one shard arrives in order.
    fn post(&self, shard: u16, batch: &mut Vec<Down>);

    /// Calls `visit` with every shard that there is, in rising order: numbers below [`Self::shards`] may be vacant.
    fn for_each_shard(&self, visit: impl FnMut(u16)) {
        (0..self.shards()).for_each(visit);
    }

    /// Hands out what goes to several shards, emptying each batch, as one call of [`Self::post`] each would: what knows
    /// that shards are neighbours sends them one thing for all.
    fn post_all(&self, batches: &mut [(u16, Vec<Down>)]) {
        for (shard, batch) in batches {
            self.post(*shard, batch);
        }
    }
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
