//! The HTTP/1.1 heads of an upgrade: RFC 6455 §4, RFC 9112.

use bytes::BytesMut;

/// A request head, as far as the edge needs it.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// A well-formed upgrade to WebSocket.
    Upgrade(Upgrade<'a>),
    /// Any other well-formed request: for the HTTP service.
    Other,
}

/// What an upgrade asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Upgrade<'a> {
    /// The path without the query.
    pub path: &'a str,
    /// `Host`.
    pub host: &'a str,
    /// `Origin`, as browsers send it.
    pub origin: Option<&'a str>,
    /// `Sec-WebSocket-Key`.
    pub key: &'a str,
    /// `Sec-WebSocket-Protocol`, as sent: names with commas between; [`Upgrade::protocols`] splits it.
    pub protocols: Option<&'a str>,
    /// The token of `Authorization: Bearer …`.
    pub bearer: Option<&'a str>,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// Longer than [`crate::limits::HEAD_BYTES_MAX`], or too many fields: 431.
    #[error("request head is too large")]
    TooLarge,
    /// No HTTP/1.1 head, or one that two readers could read differently: 400.
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    /// An upgrade of another version than 13: 426 with `Sec-WebSocket-Version: 13`.
    #[error("WebSocket version 13 is needed")]
    Version,
}

/// Reads the request head at the front of `buf`: the request and the length of its head, or `None` if `buf` ends
/// early.
///
/// # Errors
/// [`HeadError`], to be answered with [`HeadError::response`].
pub fn parse_request(_buf: &[u8]) -> Result<Option<(Request<'_>, usize)>, HeadError> {
    todo!()
}

/// Appends the `101 Switching Protocols` that accepts `key`, with the chosen sub-protocol if there is one (§4.2.2).
pub fn write_accept(_key: &str, _protocol: Option<&str>, _out: &mut BytesMut) {
    todo!()
}

/// The whole response that refuses a head; the connection is closed after it.
pub fn refusal(_status: u16, _reason: &str) -> BytesMut {
    todo!()
}
