//! What a deployment may set for an edge.

use std::net::{Ipv4Addr, SocketAddr};

use roost_edge_core::ShardConfig;
use roost_edge_core::config::ConfigError;
use roost_wire::link::SessionKey;

use crate::Subnet;

/// Settings of an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeConfig {
    /// Where clients connect. Port 0: any free one, see [`Bound::local_addr`](crate::Bound::local_addr).
    pub listen: SocketAddr,
    /// Threads that carry connections. 0: as [`shards_by_default`] says.
    pub shards: usize,
    /// Connections of the whole edge; shared out evenly, it overrides `shard.connections_max`. Those by QUIC are counted apart.
    pub connections_max: usize,
    /// Connections of the whole edge that have not sent CONNECT; shared out evenly, it overrides
    /// `shard.unauthenticated_max`.
    pub unauthenticated_max: usize,
    /// Connections from one address (IPv6: from one /64) above which a further one gets 429. 0: no limit.
    pub connections_per_address_max: usize,
    /// Addresses without such a limit: proxies, and whoever brings many people.
    pub addresses_exempt: Vec<Subnet>,
    /// Descriptors that connections of the poll driver may have, those that are refused or closing included; above it
    /// accepting pauses. The process needs more, for everything else it opens. With more shards than cores, and
    /// `connections_max` above this, each shard has a table of so many (Linux). Connections of the io_uring driver have none.
    pub descriptors_max: usize,
    /// Items in one shard's mailbox above which pushes are dropped and sessions told to sync.
    pub mailbox_items_max: usize,
    /// What moves the bytes.
    pub driver: DriverKind,
    /// Settings of each shard.
    pub shard: ShardConfig,
}

/// The drivers there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DriverKind {
    /// Completion where the kernel allows all that io_uring needs, else readiness.
    #[default]
    Auto,
    /// Completion: io_uring. Where it cannot be, the edge does not start.
    Uring,
    /// Readiness: epoll or kqueue.
    Poll,
}

impl DriverKind {
    /// As it is written in settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Poll => "poll",
        }
    }
}

impl Default for EdgeConfig {
    fn default() -> Self {
        let shard = ShardConfig::default();
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8080).into(),
            shards: 0,
            connections_max: shard.connections_max,
            unauthenticated_max: shard.unauthenticated_max,
            connections_per_address_max: 1000,
            addresses_exempt: Subnet::loopback(),
            descriptors_max: usize::MAX,
            mailbox_items_max: 65_536,
            driver: DriverKind::default(),
            shard,
        }
    }
}

impl EdgeConfig {
    /// Checks what the edge and its shards rely on.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        let error = |setting, why| Err(ConfigError { setting, why });
        if self.shards > SessionKey::SHARDS_MAX.into() {
            return error("shards", "must be at most 1024");
        }
        if self.connections_max == 0 {
            return error("connections_max", "must be at least 1");
        }
        if self.unauthenticated_max == 0 {
            return error("unauthenticated_max", "must be at least 1");
        }
        if self.descriptors_max == 0 {
            return error("descriptors_max", "must be at least 1");
        }
        self.clone().into_shard().check()
    }

    /// How many threads that makes here.
    pub(crate) fn shard_count(&self) -> u16 {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let count = if self.shards == 0 { shards_by_default(cores()) } else { self.shards };
        // Limited by `check`, and no machine has more cores than that.
        count.min(SessionKey::SHARDS_MAX.into()) as u16
    }

    /// How many more there are for QUIC, where it is on.
    pub(crate) fn quic_shard_count(&self) -> u16 {
        // Elsewhere sockets at one port do not share what comes in.
        let count = if cfg!(target_os = "linux") { self.shard_count() } else { 1 };
        count.min(SessionKey::SHARDS_MAX.saturating_sub(self.shard_count()))
    }

    /// Whether each shard of the poll driver is to have a table of descriptors of its own. Somebody asked for more threads
    /// than there are cores, which is good for nothing else, and wants more connections than one table holds.
    pub(crate) fn wants_tables(&self) -> bool {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        cfg!(target_os = "linux") && self.shards > cores && self.connections_max > self.descriptors_max
    }

    /// The settings of each shard, with its share of the connections.
    pub(crate) fn into_shard(self) -> ShardConfig {
        let shards = self.shard_count().into();
        let connections_max = self.connections_max.div_ceil(shards);
        ShardConfig { connections_max, unauthenticated_max: self.unauthenticated_max.div_ceil(shards), ..self.shard }
    }
}

/// Shards of a machine with `cores`: a quarter of them, and one at least, is left to the router, the store and the kernel,
/// with which shards would otherwise take turns (ADR 23).
#[must_use]
pub fn shards_by_default(cores: usize) -> usize {
    cores.saturating_sub((cores / 4).max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_cores_is_left_to_others_and_one_at_least() {
        let shards = [1, 2, 3, 4, 7, 8, 64].map(shards_by_default);
        assert_eq!(shards, [1, 1, 2, 3, 6, 6, 48]);
        assert_eq!(shards_by_default(0), 1);
    }

    #[test]
    fn the_default_works_and_bad_settings_are_named() {
        assert_eq!(EdgeConfig::default().check(), Ok(()));
        let many = EdgeConfig { shards: 1025, ..EdgeConfig::default() };
        assert_eq!(many.check().unwrap_err().setting, "shards");
        let none = EdgeConfig { connections_max: 0, ..EdgeConfig::default() };
        assert_eq!(none.check().unwrap_err().setting, "connections_max");
    }

    #[test]
    fn shards_share_the_connections_and_none_is_lost_to_rounding() {
        let config = EdgeConfig { shards: 3, connections_max: 10, ..EdgeConfig::default() };
        assert_eq!(config.into_shard().connections_max, 4);
    }
}
