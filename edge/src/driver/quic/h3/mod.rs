//! HTTP/3 (RFC 9114), as far as a session by WebTransport (draft-ietf-webtrans-http3) needs it: one session on a connection,
//! and of it one bidirectional stream and the datagrams.
//!
//! - `web`: the streams of one connection, and what each is;
//! - `uni`: those of the client that go one way: control and QPACK;
//! - `request`: how a bidirectional one begins, and who is let in;
//! - `session`: the stream of the request that made the session;
//! - `tlv`: frames and capsules;
//! - here: what all speak of.
//!
//! Invariants:
//! - what is buffered of a stream has a limit, and so has all that a client says beside the lane;
//! - nothing is answered before the client's SETTINGS have come;
//! - a breach ends the connection with a code of RFC 9114 §8.1.
//!
//! Absent on purpose: QPACK's dynamic table (its capacity stays 0), pushes, bodies, more than one session, streams beside the lane,
//! datagrams in capsules.

mod request;
mod session;
#[cfg(test)]
mod tests;
mod tlv;
mod uni;
mod web;

use roost_edge_core::OriginPolicy;
use roost_wire::CloseCode;
use web_transport_proto::Settings;

pub(super) use self::web::{Desk, News, Web};

/// The name of HTTP/3 (RFC 9114 §3.1), by which sessions of WebTransport come.
pub const ALPN: &[u8] = b"h3";
/// Streams that a client may have open at once: the request, the lane, and one that is refused.
pub(super) const BIDI_STREAMS_MAX: u8 = 3;
/// The same of those that go one way: control, two of QPACK (RFC 9114 §6.2), and one that is refused.
pub(super) const UNI_STREAMS_MAX: u8 = 4;

/// Nothing is wrong (RFC 9114 §8.1).
pub(super) const NO_ERROR: u32 = 0x100;
/// A stream was not looked at.
const REQUEST_REJECTED: u32 = 0x10b;
/// A request ended in its middle.
const REQUEST_INCOMPLETE: u32 = 0x10d;

/// Why a connection cannot go on, as the code that tells so (RFC 9114 §8.1, RFC 9204 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breach {
    /// The peer has no room for our SETTINGS or an answer, or wants our control stream no more.
    General = 0x101,
    StreamCreation = 0x103,
    ClosedCritical = 0x104,
    FrameUnexpected = 0x105,
    Frame = 0x106,
    ExcessiveLoad = 0x107,
    Id = 0x108,
    Settings = 0x109,
    MissingSettings = 0x10a,
    Message = 0x10e,
    Decompression = 0x200,
    EncoderStream = 0x201,
}

impl Breach {
    pub(super) const fn code(self) -> u32 {
        self as u32
    }
}

/// What a close of ours is as an application error of HTTP/3, where there is no session to tell it.
pub(super) const fn close_number(code: CloseCode) -> u32 {
    match code {
        CloseCode::Overloaded => Breach::ExcessiveLoad.code(),
        CloseCode::Protocol => Breach::General.code(),
        _ => NO_ERROR,
    }
}

/// Where sessions are, and for whom.
#[derive(Clone, Debug)]
pub(super) struct Doors {
    /// Path of a request, without a query.
    pub(super) path: &'static str,
    /// Which web pages may open a session.
    pub(super) origins: OriginPolicy,
}

/// Our control stream: its type and SETTINGS.
fn settings() -> Vec<u8> {
    let mut settings = Settings::default();
    // In the words of every draft that browsers speak.
    settings.enable_webtransport(1);
    let mut bytes = Vec::new();
    settings.encode(&mut bytes);
    bytes
}
