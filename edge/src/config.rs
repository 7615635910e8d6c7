//! What a deployment may set for an edge.

use std::net::{Ipv4Addr, SocketAddr};

use roost_edge_core::ShardConfig;
use roost_edge_core::config::ConfigError;
use roost_wire::link::SessionKey;

/// Settings of an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeConfig {
    /// Where clients connect. Port 0: any free one, see [`Bound::local_addr`](crate::Bound::local_addr).
    pub listen: SocketAddr,
    /// Threads that carry connections. 0: one per core.
    pub shards: usize,
    /// Connections of the whole edge; shared out evenly, it overrides `shard.connections_max`.
    pub connections_max: usize,
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
    /// Readiness: epoll or kqueue.
    #[default]
    Poll,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        let shard = ShardConfig::default();
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8080).into(),
            shards: 0,
            connections_max: shard.connections_max,
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
        self.clone().into_shard().check()
    }

    /// How many threads that makes here.
    pub(crate) fn shard_count(&self) -> u16 {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let count = if self.shards == 0 { cores() } else { self.shards };
        // Limited by `check`, and no machine has more cores than that.
        count.min(SessionKey::SHARDS_MAX.into()) as u16
    }

    /// The settings of each shard, with its share of the connections.
    pub(crate) fn into_shard(self) -> ShardConfig {
        let connections_max = self.connections_max.div_ceil(self.shard_count().into());
        ShardConfig { connections_max, ..self.shard }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
