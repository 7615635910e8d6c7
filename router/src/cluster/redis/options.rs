//! How Redis is reached, what may wait, and how long.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::NodeId;

/// How a node uses Redis. Every limit has its unit in its name.
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis://host:port/db`, `rediss://` with TLS, `redis-cluster://host:port?node=host:port&…` or
    /// `rediss-cluster://…`. User and password may stand in it, before an `@`.
    pub url: String,
    /// The user. `None`: the one in the URL, or Redis's default user.
    pub username: Option<String>,
    /// The password. `None`: the one in the URL, or none.
    pub password: Option<String>,
    /// A file of certificates (PEM) that the server's is checked against. `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// Names those that work together: keys and channels begin with `roost:{cluster}:`.
    pub cluster: String,
    /// What [`super::RedisBus::connect`] spends on reaching Redis.
    pub start_within: Duration,
    /// If Redis cannot be reached in that time: whether to start without it (and join when it is there) or not to start.
    /// A wrong password, a server that is too old, and a name that is taken are always refused.
    pub start_without: bool,
    /// A connection that does not stand after this time has failed.
    pub connect_timeout: Duration,
    /// A command that is not answered in this time has failed.
    pub command_timeout: Duration,
    /// A message to other nodes that is not taken in this time has failed. Shorter than `parcel_age_max` it is sent again,
    /// and may come twice.
    pub publish_timeout: Duration,
    /// Parcels waiting to be sent. One that comes above it is lost.
    pub queue_parcels_max: usize,
    /// Bytes waiting to be sent, about.
    pub queue_bytes_max: usize,
    /// Messages of other nodes waiting to be heard. One that comes above it is lost.
    pub inbox_messages_max: usize,
    /// Bytes waiting to be heard.
    pub inbox_bytes_max: usize,
    /// A parcel that waited this long to be sent, or to be received, is lost: the others have long doubted it.
    pub parcel_age_max: Duration,
    /// A node that has not said for this long that it lives is off the table.
    pub node_ttl: Duration,
    /// How often a node says that it lives, reads the table, and tests that it hears itself.
    pub tick_every: Duration,
    /// Clocks of this node and of Redis may differ by so much.
    pub clock_skew_max: Duration,
    /// A lease that is not renewed ends after this time.
    pub lease_ttl: Duration,
    /// How often [`super::RedisInbox::serve`] has the router tell that it lives and look for what is overdue.
    pub beat_every: Duration,
    /// Whether this node may pass on what is published in Redis to `roost:publish:<channel>`.
    pub bridge: bool,
    /// Publishes of the bridge that are under way. One that comes above it is lost.
    pub bridge_publishes_max: usize,
    /// Wall time in ms since the Unix epoch.
    pub clock: fn() -> u64,
    /// The lowest and highest version of the bus that this node takes part in. Other ones than this build's own are for
    /// tests.
    pub versions: (u32, u32),
}

impl RedisOptions {
    /// The defaults, for the Redis at `url`.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            username: None,
            password: None,
            ca_file: None,
            cluster: "roost".to_owned(),
            start_within: Duration::from_secs(10),
            start_without: true,
            connect_timeout: Duration::from_secs(2),
            command_timeout: Duration::from_secs(2),
            publish_timeout: Duration::from_secs(2),
            queue_parcels_max: 200_000,
            queue_bytes_max: 128 << 20,
            inbox_messages_max: 16_384,
            inbox_bytes_max: 128 << 20,
            parcel_age_max: Duration::from_secs(2),
            node_ttl: Duration::from_secs(6),
            tick_every: Duration::from_secs(1),
            clock_skew_max: Duration::from_secs(5),
            lease_ttl: Duration::from_secs(6),
            beat_every: Duration::from_millis(100),
            bridge: true,
            bridge_publishes_max: 256,
            clock: wall_ms,
            versions: (super::codec::VERSION_MIN, super::codec::VERSION),
        }
    }

    /// The URL without user and password, for people.
    #[must_use]
    pub fn address(&self) -> String {
        let Some((scheme, rest)) = self.url.split_once("://") else { return "?".to_owned() };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let place = rest[..end].rfind('@').map_or(rest, |at| &rest[at + 1..]);
        format!("{scheme}://{place}")
    }
}

/// Without user and password.
impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("url", &self.address())
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Names of keys and channels. What one script touches together lies in one slot of a Redis Cluster: its name holds the
/// cluster's in braces. The channels of nodes lie in many.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    cluster: String,
}

impl Names {
    pub(crate) fn new(cluster: &str) -> Self {
        Self { cluster: cluster.to_owned() }
    }

    /// A node's sharded channel.
    pub(crate) fn channel(&self, node: NodeId) -> String {
        format!("roost:{}:n:{node}", self.cluster)
    }

    /// A node's plain channel: it carries nothing but its test whether plain subscriptions live.
    pub(crate) fn plain(&self, node: NodeId) -> String {
        format!("roost:{}:p:{node}", self.cluster)
    }

    /// The plain channel on which all nodes are told that there is something to be read.
    pub(crate) fn news(&self) -> String {
        format!("roost:{}:news", self.cluster)
    }

    /// What the keys of nodes begin with; a node's number follows.
    pub(crate) fn node_prefix(&self) -> String {
        self.key("node:")
    }

    pub(crate) fn node(&self, node: NodeId) -> String {
        self.key(&format!("node:{node}"))
    }

    pub(crate) fn nodes(&self) -> String {
        self.key("nodes")
    }

    pub(crate) fn incarnation(&self, node: NodeId) -> String {
        self.key(&format!("incarnation:{node}"))
    }

    pub(crate) fn probe(&self) -> String {
        self.key("probe")
    }

    pub(crate) fn config(&self) -> String {
        self.key("config")
    }

    pub(crate) fn lease(&self, name: &str) -> String {
        self.key(&format!("lease:{name}"))
    }

    pub(crate) fn token(&self, name: &str) -> String {
        self.key(&format!("token:{name}"))
    }

    fn key(&self, rest: &str) -> String {
        format!("roost:{{{}}}:{rest}", self.cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_no_password() {
        for (url, shown) in [
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("rediss://ada:se:s@me@redis.example/2", "rediss://redis.example/2"),
            ("redis-cluster://:pw@a:1?node=b:2", "redis-cluster://a:1?node=b:2"),
            ("redis://a:1/0?x=y@z", "redis://a:1/0?x=y@z"),
            ("sesame", "?"),
        ] {
            let options = RedisOptions::new(url);
            assert_eq!(options.address(), shown);
            assert!(!format!("{options:?}").contains("pw@"));
        }
    }
}
