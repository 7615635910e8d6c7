//! Limits of the protocol, each with its unit in its name. Those a deployment may change are defaults of a setting.

pub use crate::native::{ALPN, WEBTRANSPORT_PATH};

/// Largest frame a client may send, header not counted. Told in WELCOME.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Largest frame a server may send; pages are cut to fit. A client should accept this much.
pub const SERVER_FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Most fragments a WebSocket message may have, unless its limit in bytes allows for more of
/// [`FRAGMENT_BYTES_MEAN_MIN`].
pub const MESSAGE_FRAGMENTS_MAX: u32 = 1024;
/// A message may have one fragment for each of so many bytes that it may have.
pub const FRAGMENT_BYTES_MEAN_MIN: u32 = 64;
/// Messages below this many bytes are sent as they are, whatever was agreed on: there is little to gain.
pub const DEFLATE_BYTES_MIN: usize = 64;
/// A PAGE of so many bytes comes on a stream of its own, where the transport has any: what takes several datagrams would hold up
/// pushes behind it whenever one of them is lost.
pub const PAGE_STREAM_BYTES_MIN: usize = 4 * 1024;
/// Largest message on the path `/echo`, which is for conformance tests and benchmarks only.
pub const ECHO_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Largest HTTP request head.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most header fields of a request.
pub const HEAD_FIELDS_MAX: usize = 64;
/// Most commands of one session that may await their reply.
pub const COMMANDS_IN_FLIGHT_MAX: u32 = 128;
/// SEND and PUBLISH a session may do per second in the long run.
pub const SENDS_PER_SECOND: u32 = 20;
/// How many of them it may do at once after a pause.
pub const SENDS_BURST: u32 = 60;
/// Malformed frames a session may send before it is closed.
pub const BAD_FRAMES_MAX: u8 = 16;
/// Longest text of a body.
pub const TEXT_BYTES_MAX: usize = 32 * 1024;
/// Longest display name and conversation name.
pub const NAME_BYTES_MAX: usize = 128;
/// Longest client message id.
pub const CMID_BYTES_MAX: usize = 64;
/// Longest device name.
pub const DEVICE_BYTES_MAX: usize = 64;
/// Longest token.
pub const TOKEN_BYTES_MAX: usize = 4096;
/// Most members of a group.
pub const MEMBERS_MAX: usize = 100_000;
/// Most users named in one command.
pub const USERS_PER_COMMAND_MAX: usize = 512;
/// Most members listed in one CONVERSATION.
pub const MEMBERS_LISTED_MAX: usize = 512;
/// Most users a session may watch.
pub const WATCHES_MAX: usize = 512;
/// Most channels a session may subscribe to.
pub const SUBSCRIPTIONS_MAX: usize = 128;
/// Entries of a PAGE if the client names no limit.
pub const PAGE_ENTRIES_DEFAULT: u32 = 50;
/// Most entries of a PAGE.
pub const PAGE_ENTRIES_MAX: u32 = 500;
/// Rows of a CHANGED if the client names no limit.
pub const ROWS_DEFAULT: u32 = 200;
/// Most rows of a CHANGED.
pub const ROWS_MAX: u32 = 500;
/// Users found by a SEARCH if the client names no limit.
pub const SEARCH_USERS_DEFAULT: u32 = 20;
/// Most users found by a SEARCH.
pub const SEARCH_USERS_MAX: u32 = 100;
/// Bytes queued to one session before it is marked behind.
pub const OUTBOUND_BYTES_MAX: usize = 256 * 1024;
/// Frames queued to one session before it is marked behind.
pub const OUTBOUND_FRAMES_MAX: usize = 1024;
/// A connection must have sent its request head within this many milliseconds.
pub const HEAD_WITHIN_MS: u32 = 10_000;
/// A session must have sent CONNECT within this many milliseconds of the upgrade.
pub const CONNECT_WITHIN_MS: u32 = 10_000;
/// A request that is no upgrade must be whole, and its answer begun, within this many milliseconds of its head.
pub const REQUEST_WITHIN_MS: u32 = 30_000;
/// A WebSocket message must be complete within this many milliseconds of its first byte.
pub const MESSAGE_WITHIN_MS: u32 = 30_000;
/// Largest WebSocket message before WELCOME, header not counted: CONNECT is all that may come.
pub const CONNECT_BYTES_MAX: usize = 8 * 1024;
/// Frames a session may send per second in the long run, whatever they hold; 4 KiB received count as one more. Above
/// it the session is not read until it has waited.
pub const FRAMES_PER_SECOND: u32 = 500;
/// How many of them it may send at once after a pause.
pub const FRAMES_BURST: u32 = 2000;
/// A ping, of WebSocket or of the protocol, counts as this many frames: ten of them a second by default.
pub const PING_FRAMES: u32 = 50;
/// A session that is this many milliseconds of its rate of frames ahead of itself is closed.
pub const FLOOD_DEBT_MS: u32 = 10_000;
/// How often a client sends PING when it has nothing else to send, in milliseconds; the client takes off up to a
/// fifth of it at random.
pub const HEARTBEAT_MS: u32 = 25_000;
/// A session from which nothing came for this many heartbeats is closed.
pub const HEARTBEATS_MISSED_MAX: u32 = 3;
