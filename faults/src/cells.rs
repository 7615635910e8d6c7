//! What can go wrong, one cell each: what is done to the fleet while people talk.

use std::time::Duration;

use crate::fleet::Fleet;
use crate::proxy::Weather;

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
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 12] = [
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
    ];

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
        }
    }

    /// Does it.
    pub(crate) async fn begin(self, fleet: &mut Fleet) -> anyhow::Result<()> {
        let last = fleet.nodes.len() - 1;
        match self {
            Self::None => {}
            Self::NodeKilled => fleet.nodes[0].kill()?,
            Self::NodePaused => fleet.nodes[0].pause()?,
            Self::Rolling => {
                for place in 0..fleet.nodes.len() {
                    fleet.nodes[place].stop().await?;
                    fleet.launch(place)?;
                    fleet.await_ready(place).await?;
                }
            }
            Self::ClientsCut => fleet.balancer.cut(),
            Self::NodeCutOff => fleet.nodes[last].to_redis.set_weather(Weather::Dark),
            Self::RedisKilled => fleet.redis.kill9(),
            Self::RedisPaused => fleet.redis.pause(),
            Self::RedisFlushed => drop(fleet.redis.cli(&["FLUSHALL"])?),
            Self::RedisSlow => {
                let slow = Weather::Slow(Duration::from_millis(300));
                fleet.nodes.iter().for_each(|node| node.to_redis.set_weather(slow));
            }
            Self::CassandraKilled => fleet.cassandra.kill9(last_of_ring(fleet))?,
            Self::CassandraPaused => fleet.cassandra.pause(last_of_ring(fleet))?,
        }
        Ok(())
    }

    /// How long it lasts.
    pub(crate) const fn lasts(self) -> Duration {
        match self {
            Self::None | Self::NodePaused | Self::NodeCutOff => Duration::from_secs(8),
            Self::RedisPaused => Duration::from_secs(6),
            Self::CassandraPaused => Duration::from_secs(5),
            Self::NodeKilled | Self::RedisSlow => Duration::from_secs(4),
            Self::RedisKilled | Self::CassandraKilled => Duration::from_secs(3),
            Self::Rolling | Self::ClientsCut | Self::RedisFlushed => Duration::ZERO,
        }
    }

    /// Ends it.
    pub(crate) async fn end(self, fleet: &mut Fleet) -> anyhow::Result<()> {
        let last = fleet.nodes.len() - 1;
        match self {
            Self::NodeKilled => {
                fleet.launch(0)?;
                fleet.await_ready(0).await?;
            }
            Self::NodePaused => fleet.nodes[0].resume()?,
            Self::NodeCutOff => fleet.nodes[last].to_redis.set_weather(Weather::Fair),
            Self::RedisKilled => fleet.redis.start_again()?,
            Self::RedisPaused => fleet.redis.resume(),
            Self::RedisSlow => fleet.nodes.iter().for_each(|node| node.to_redis.set_weather(Weather::Fair)),
            Self::CassandraKilled => {
                let place = last_of_ring(fleet);
                tokio::task::block_in_place(|| fleet.cassandra.start_again(place))?;
            }
            Self::CassandraPaused => fleet.cassandra.resume(last_of_ring(fleet))?,
            Self::None | Self::Rolling | Self::ClientsCut | Self::RedisFlushed => {}
        }
        Ok(())
    }
}

/// Not the one that is asked first.
fn last_of_ring(fleet: &Fleet) -> usize {
    fleet.cassandra.contact_points().len() - 1
}
