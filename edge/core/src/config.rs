//! What a deployment may set for a shard.

use std::time::Duration;

use roost_wire::limits;

/// Path of upgrades whose messages are sent back, if [`ShardConfig::bench_paths`] is set.
pub const ECHO_PATH: &str = "/echo";
/// Path of upgrades whose messages go to everybody on that path, if [`ShardConfig::bench_paths`] is set.
pub const BROADCAST_PATH: &str = "/broadcast";

/// Settings of a shard; all shards of a node have the same. The default is what `roost_wire::limits` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardConfig {
    /// Name of the node, told in HELLO.
    pub node: String,
    /// Path of WebSocket upgrades, without a query. An upgrade of another path goes to the HTTP service.
    pub ws_path: String,
    /// Which web pages may open a session.
    pub origins: OriginPolicy,
    /// Whether to agree on permessage-deflate (RFC 7692) with clients that offer it.
    pub compression: bool,
    /// Whether [`ECHO_PATH`] and [`BROADCAST_PATH`] are there: for conformance tests and benchmarks only. Anybody may
    /// use them, at any rate.
    pub bench_paths: bool,
    /// Connections this shard holds; above it a connection is refused.
    pub connections_max: usize,
    /// Connections this shard holds that have not sent CONNECT, requests that are not answered included. Above it the
    /// oldest of them is let go for each new one: who means well is through in a moment.
    pub unauthenticated_max: usize,
    /// Largest WebSocket message a client may send, header not counted.
    pub frame_bytes_max: usize,
    /// Bytes queued to one session above which pushes are held back.
    pub outbound_bytes_max: usize,
    /// Frames queued to one session above which pushes are held back.
    pub outbound_frames_max: usize,
    /// Bytes queued to one session above which PAGE, CHANGED and USERS, replies that can be large and asked for again,
    /// become ERROR 401. With one server frame on top it bounds what a session that reads nothing can make us keep of
    /// them.
    pub reply_bytes_max: usize,
    /// Commands of one session that may await their reply.
    pub commands_in_flight_max: u32,
    /// SEND and PUBLISH of one session per second in the long run. 0: no limit.
    pub sends_per_second: u32,
    /// How many of them at once after a pause. At least 1.
    pub sends_burst: u32,
    /// Frames of one session per second in the long run, whatever they hold; a ping counts as
    /// [`limits::PING_FRAMES`] of them and 4 KiB received as one more. Above it the session is not read until it has
    /// waited, and [`limits::FLOOD_DEBT_MS`] above it it is closed with 4504. 0: no limit.
    pub frames_per_second: u32,
    /// How many of them at once after a pause. At least 1.
    pub frames_burst: u32,
    /// A connection must have sent its request head this soon, else it gets 408.
    pub head_within: Duration,
    /// A request for the HTTP service must be whole, and its answer begun, this soon after its head, else it gets 408.
    pub request_within: Duration,
    /// A WebSocket message must be complete this soon after its first byte, else close 4005.
    pub message_within: Duration,
    /// CONNECT must come this soon after the upgrade, else close 4003.
    pub connect_within: Duration,
    /// How often a client shows a sign of life; told in WELCOME.
    pub heartbeat: Duration,
    /// A session silent for this many heartbeats is closed with 4002.
    pub heartbeats_missed_max: u32,
    /// A reader that is behind, or floods us without reading, and takes no byte for this long is closed with 4010.
    pub behind_within: Duration,
    /// How long a closing session may take to flush its queue and answer the close frame.
    pub close_within: Duration,
    /// How long bytes of a failed connection are still read and thrown away, so that the peer gets our last words
    /// instead of a reset.
    pub linger: Duration,
    /// Sends of one slice of fan-out: after each the driver sees to its sockets.
    pub fanout_slice: usize,
    /// Items from the router that may wait for fan-out. Deliveries above it are dropped, and the sessions told to
    /// sync.
    pub fanout_items_max: usize,
    /// Sessions told per second to sync after deliveries were lost.
    pub doubt_sessions_per_second: u32,
    /// Bytes given to the HTTP service and not yet taken by it above which reading pauses.
    pub http_window_bytes: usize,
}

impl Default for ShardConfig {
    fn default() -> Self {
        Self {
            node: "roost".into(),
            ws_path: "/ws".into(),
            origins: OriginPolicy::SameHost,
            compression: false,
            bench_paths: false,
            connections_max: 1_000_000,
            unauthenticated_max: 20_000,
            frame_bytes_max: limits::FRAME_BYTES_MAX,
            outbound_bytes_max: limits::OUTBOUND_BYTES_MAX,
            outbound_frames_max: limits::OUTBOUND_FRAMES_MAX,
            // A client that fetches eight pages at once and reads never comes near.
            reply_bytes_max: 8 * limits::SERVER_FRAME_BYTES_MAX,
            commands_in_flight_max: limits::COMMANDS_IN_FLIGHT_MAX,
            sends_per_second: limits::SENDS_PER_SECOND,
            sends_burst: limits::SENDS_BURST,
            frames_per_second: limits::FRAMES_PER_SECOND,
            frames_burst: limits::FRAMES_BURST,
            head_within: Duration::from_millis(limits::HEAD_WITHIN_MS.into()),
            request_within: Duration::from_millis(limits::REQUEST_WITHIN_MS.into()),
            message_within: Duration::from_millis(limits::MESSAGE_WITHIN_MS.into()),
            connect_within: Duration::from_millis(limits::CONNECT_WITHIN_MS.into()),
            heartbeat: Duration::from_millis(limits::HEARTBEAT_MS.into()),
            heartbeats_missed_max: limits::HEARTBEATS_MISSED_MAX,
            behind_within: Duration::from_secs(30),
            close_within: Duration::from_secs(5),
            linger: Duration::from_secs(1),
            fanout_slice: 512,
            fanout_items_max: 65_536,
            doubt_sessions_per_second: 5_000,
            http_window_bytes: 256 * 1024,
        }
    }
}

/// Which `Origin` of an upgrade is let in. A request without one comes from no web page and always is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OriginPolicy {
    /// Pages from the host and port that the request names in `Host`.
    #[default]
    SameHost,
    /// Exactly these origins, as in `https://chat.example`.
    Listed(Vec<String>),
    /// Every page.
    Any,
}

impl OriginPolicy {
    /// Whether a page from `origin` may open a session at `host`.
    #[must_use]
    pub fn admits(&self, origin: Option<&str>, host: &str) -> bool {
        let Some(origin) = origin else { return true };
        match self {
            Self::SameHost => {
                origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
            }
            Self::Listed(origins) => origins.iter().any(|listed| listed == origin),
            Self::Any => true,
        }
    }
}

/// A setting that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {why}")]
pub struct ConfigError {
    /// Name of the field.
    pub setting: &'static str,
    /// What is wrong with it.
    pub why: &'static str,
}

impl ShardConfig {
    /// Checks what a shard relies on.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        let rules = [
            ("ws_path", self.ws_path.starts_with('/'), "must begin with /"),
            ("connections_max", self.connections_max >= 1, "must be at least 1"),
            ("connections_max", self.connections_max < 1 << 28, "must be below 2^28"),
            ("frame_bytes_max", self.frame_bytes_max >= 1024, "must be at least 1024"),
            ("frame_bytes_max", self.frame_bytes_max <= 64 << 20, "must be at most 64 MiB"),
            ("outbound_bytes_max", self.outbound_bytes_max >= 4096, "must be at least 4096"),
            ("outbound_bytes_max", self.outbound_bytes_max <= 1 << 30, "must be at most 1 GiB"),
            ("outbound_frames_max", self.outbound_frames_max >= 4, "must be at least 4"),
            ("reply_bytes_max", self.reply_bytes_max >= self.outbound_bytes_max, "must be at least outbound_bytes_max"),
            ("commands_in_flight_max", self.commands_in_flight_max >= 1, "must be at least 1"),
            ("commands_in_flight_max", self.commands_in_flight_max <= u16::MAX.into(), "must be at most 65535"),
            ("unauthenticated_max", self.unauthenticated_max >= 1, "must be at least 1"),
            ("sends_burst", self.sends_burst >= 1, "must be at least 1"),
            ("frames_burst", self.frames_burst >= 1, "must be at least 1"),
            ("request_within", !self.request_within.is_zero(), "must be above 0"),
            ("message_within", !self.message_within.is_zero(), "must be above 0"),
            ("head_within", !self.head_within.is_zero(), "must be above 0"),
            ("connect_within", !self.connect_within.is_zero(), "must be above 0"),
            ("heartbeat", self.heartbeat >= Duration::from_millis(100), "must be at least 100 ms"),
            ("heartbeats_missed_max", self.heartbeats_missed_max >= 1, "must be at least 1"),
            ("fanout_slice", self.fanout_slice >= 1, "must be at least 1"),
            ("fanout_items_max", self.fanout_items_max >= 1, "must be at least 1"),
            ("doubt_sessions_per_second", self.doubt_sessions_per_second >= 1, "must be at least 1"),
            ("http_window_bytes", self.http_window_bytes >= 1024, "must be at least 1024"),
        ];
        match rules.into_iter().find(|&(_, holds, _)| !holds) {
            Some((setting, _, why)) => Err(ConfigError { setting, why }),
            None => Ok(()),
        }
    }

    /// Silence after which a session is taken for dead.
    pub(crate) fn silence_max(&self) -> Duration {
        self.heartbeat.saturating_mul(self.heartbeats_missed_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_exactly() {
        let listed = OriginPolicy::Listed(vec!["https://chat.example".into()]);
        for (policy, origin, host, admitted) in [
            (&OriginPolicy::SameHost, None, "chat.example", true),
            (&OriginPolicy::SameHost, Some("https://chat.example"), "chat.example", true),
            (&OriginPolicy::SameHost, Some("http://127.0.0.1:8080"), "127.0.0.1:8080", true),
            (&OriginPolicy::SameHost, Some("https://CHAT.example"), "chat.EXAMPLE", true),
            (&OriginPolicy::SameHost, Some("https://chat.example:8443"), "chat.example", false),
            (&OriginPolicy::SameHost, Some("https://evil.example"), "chat.example", false),
            (&OriginPolicy::SameHost, Some("https://chat.example.evil"), "chat.example", false),
            (&OriginPolicy::SameHost, Some("null"), "chat.example", false),
            (&listed, Some("https://chat.example"), "edge-1", true),
            (&listed, Some("http://chat.example"), "edge-1", false),
            (&listed, Some("https://edge-1"), "edge-1", false),
            (&listed, None, "edge-1", true),
            (&OriginPolicy::Any, Some("null"), "x", true),
        ] {
            assert_eq!(policy.admits(origin, host), admitted, "{policy:?} {origin:?} at {host}");
        }
    }

    #[test]
    fn the_default_is_a_working_configuration_and_each_bad_setting_is_named() {
        assert_eq!(ShardConfig::default().check(), Ok(()));
        let bad = ShardConfig { fanout_slice: 0, ..ShardConfig::default() };
        assert_eq!(bad.check().unwrap_err().to_string(), "fanout_slice: must be at least 1");
        let bad = ShardConfig { ws_path: "ws".into(), ..ShardConfig::default() };
        assert_eq!(bad.check().unwrap_err().setting, "ws_path");
    }
}
