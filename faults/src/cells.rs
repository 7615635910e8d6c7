//! What can go wrong, one cell each: what is done to the fleet while people talk.

use std::time::Duration;

use crate::fleet::{Fleet, Which};
use crate::proxy::{Proxy, Weather};

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing: what the others are compared with.
    None,
    /// SIGKILL of a node, which is started again.
    NodeKilled,
    /// SIGSTOP of a node for eight seconds: it goes on with what it knew.
    NodePaused,
    /// SIGTERM of each node in turn, each started again: a rolling deployment.
    Rolling,
    /// Every client's connection is reset at once.
    ClientsCut,
    /// A node and its Redis hear nothing of each other for eight seconds.
    NodeCutOff,
    /// SIGKILL of Redis, which comes back empty.
    RedisKilled,
    /// SIGSTOP of Redis for six seconds.
    RedisPaused,
    /// Everything in Redis is deleted.
    RedisFlushed,
    /// Every answer of Redis takes 300 ms more.
    RedisSlow,
    /// SIGKILL of a Cassandra node, which comes back.
    CassandraKilled,
    /// SIGSTOP of a Cassandra node for five seconds.
    CassandraPaused,
    /// SIGKILL of a router, which is started again.
    RouterKilled,
    /// SIGSTOP of a router for eight seconds.
    RouterPaused,
    /// SIGTERM of each router in turn, each started again.
    RoutersRolling,
    /// An edge hears nothing of one of its routers for eight seconds, nor that of it.
    LinkDark,
    /// An edge hears nothing of any router for six seconds.
    EdgeCutOff,
    /// Every link between edges and routers is reset.
    LinksCut,
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 18] = [
        Self::None,
        Self::NodeKilled,
        Self::NodePaused,
        Self::Rolling,
        Self::ClientsCut,
        Self::NodeCutOff,
        Self::RedisKilled,
        Self::RedisPaused,
        Self::RedisFlushed,
        Self::RedisSlow,
        Self::CassandraKilled,
        Self::CassandraPaused,
        Self::RouterKilled,
        Self::RouterPaused,
        Self::RoutersRolling,
        Self::LinkDark,
        Self::EdgeCutOff,
        Self::LinksCut,
    ];

    /// Whether it is of routers that are no edges.
    pub(crate) const fn needs_routers(self) -> bool {
        matches!(
            self,
            Self::RouterKilled
                | Self::RouterPaused
                | Self::RoutersRolling
                | Self::LinkDark
                | Self::EdgeCutOff
                | Self::LinksCut
        )
    }

    /// As the command line and the table have it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::NodeKilled => "node-killed",
            Self::NodePaused => "node-paused",
            Self::Rolling => "rolling",
            Self::ClientsCut => "clients-cut",
            Self::NodeCutOff => "node-cut-off",
            Self::RedisKilled => "redis-killed",
            Self::RedisPaused => "redis-paused",
            Self::RedisFlushed => "redis-flushed",
            Self::RedisSlow => "redis-slow",
            Self::CassandraKilled => "cassandra-killed",
            Self::CassandraPaused => "cassandra-paused",
            Self::RouterKilled => "router-killed",
            Self::RouterPaused => "router-paused",
            Self::RoutersRolling => "routers-rolling",
            Self::LinkDark => "link-dark",
            Self::EdgeCutOff => "edge-cut-off",
            Self::LinksCut => "links-cut",
        }
    }

    /// Does it.
    pub(crate) async fn begin(self, fleet: &mut Fleet) -> anyhow::Result<()> {
        match self {
            Self::None => {}
            Self::NodeKilled => fleet.nodes[0].kill(),
            Self::NodePaused => fleet.nodes[0].pause()?,
            Self::Rolling => {
                for place in 0..fleet.nodes.len() {
                    fleet.nodes[place].stop()?;
                    fleet.start_again(Which::Node(place))?;
                }
            }
            Self::ClientsCut => fleet.balancer.cut(),
            Self::NodeCutOff => fleet.ways_to_redis().take(1).for_each(|way| way.set_weather(Weather::Dark)),
            Self::RedisKilled => fleet.redis.kill9(),
            Self::RedisPaused => fleet.redis.pause(),
            Self::RedisFlushed => drop(fleet.redis.cli(&["FLUSHALL"])?),
            Self::RedisSlow => {
                let slow = Weather::Slow(Duration::from_millis(300));
                fleet.ways_to_redis().for_each(|way| way.set_weather(slow));
            }
            Self::CassandraKilled => fleet.cassandra.kill9(last_of_ring(fleet))?,
            Self::CassandraPaused => fleet.cassandra.pause(last_of_ring(fleet))?,
            Self::RouterKilled => fleet.routers[0].kill(),
            Self::RouterPaused => fleet.routers[0].pause()?,
            Self::RoutersRolling => {
                for place in 0..fleet.routers.len() {
                    fleet.routers[place].stop()?;
                    fleet.start_again(Which::Router(place))?;
                }
            }
            Self::LinkDark => fleet.ways_to_routers(0)[0].set_weather(Weather::Dark),
            Self::EdgeCutOff => fleet.ways_to_routers(0).iter().for_each(|way| way.set_weather(Weather::Dark)),
            Self::LinksCut => {
                for place in 0..fleet.nodes.len() {
                    fleet.ways_to_routers(place).iter().for_each(Proxy::cut);
                }
            }
        }
        Ok(())
    }

    /// How long it lasts.
    pub(crate) const fn lasts(self) -> Duration {
        match self {
            Self::None | Self::NodePaused | Self::NodeCutOff | Self::RouterPaused | Self::LinkDark => {
                Duration::from_secs(8)
            }
            Self::RedisPaused | Self::EdgeCutOff => Duration::from_secs(6),
            Self::CassandraPaused => Duration::from_secs(5),
            Self::NodeKilled | Self::RedisSlow | Self::RouterKilled => Duration::from_secs(4),
            Self::RedisKilled | Self::CassandraKilled => Duration::from_secs(3),
            Self::Rolling | Self::ClientsCut | Self::RedisFlushed | Self::RoutersRolling | Self::LinksCut => {
                Duration::ZERO
            }
        }
    }

    /// Ends it.
    pub(crate) async fn end(self, fleet: &mut Fleet) -> anyhow::Result<()> {
        match self {
            Self::NodeKilled => fleet.start_again(Which::Node(0))?,
            Self::NodePaused => fleet.nodes[0].resume()?,
            Self::NodeCutOff | Self::RedisSlow => fleet.ways_to_redis().for_each(|way| way.set_weather(Weather::Fair)),
            Self::RedisKilled => fleet.redis.start_again()?,
            Self::RedisPaused => fleet.redis.resume(),
            Self::CassandraKilled => {
                let place = last_of_ring(fleet);
                tokio::task::block_in_place(|| fleet.cassandra.start_again(place))?;
            }
            Self::CassandraPaused => fleet.cassandra.resume(last_of_ring(fleet))?,
            Self::RouterKilled => fleet.start_again(Which::Router(0))?,
            Self::RouterPaused => fleet.routers[0].resume()?,
            Self::LinkDark | Self::EdgeCutOff => {
                fleet.ways_to_routers(0).iter().for_each(|way| way.set_weather(Weather::Fair));
            }
            Self::None
            | Self::Rolling
            | Self::ClientsCut
            | Self::RedisFlushed
            | Self::RoutersRolling
            | Self::LinksCut => {}
        }
        Ok(())
    }
}

/// Not the one that is asked first.
fn last_of_ring(fleet: &Fleet) -> usize {
    fleet.cassandra.contact_points().len() - 1
}
