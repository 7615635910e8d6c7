//! The HTTP/1.1 heads of an upgrade, for both sides: RFC 6455 §4, RFC 9112.
//!
//! Strict where two readers could understand a head differently (RFC 9112 §11.2): the first bytes of a connection
//! decide whether what follows is WebSocket frames or HTTP.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, BytesMut};
use httparse::{EMPTY_HEADER, Header, Status};
use sha1::{Digest as _, Sha1};

use super::extension::{self, Deflate};
use crate::limits::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX};

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
    /// The first offer of permessage-deflate in `Sec-WebSocket-Extensions` that we can keep; not to be answered is to
    /// decline it.
    pub deflate: Option<Deflate>,
    /// The token of `Authorization: Bearer …`.
    pub bearer: Option<&'a str>,
}

impl<'a> Upgrade<'a> {
    /// The sub-protocols the client offers, the one it likes best first (RFC 6455 §4.1).
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.protocols.unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty())
    }
}

/// Why a request head is refused.
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

impl HeadError {
    /// The whole response to send before closing the connection.
    #[must_use]
    pub fn response(self) -> BytesMut {
        let mut body = String::new();
        let _ = write!(body, "{self}");
        match self {
            Self::TooLarge => response(431, "", &body),
            Self::Malformed(_) => response(400, "", &body),
            // RFC 6455 §4.2.2 and §4.4; RFC 9110 §15.5.22 wants `Upgrade`.
            Self::Version => response(426, "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n", &body),
        }
    }

    /// Label for metrics: a small, closed set without peer data.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Malformed(_) => "malformed",
            Self::Version => "version",
        }
    }
}

/// Reads the request head at the front of `buf`: the request and the length of its head, or `None` if `buf` ends
/// early: call again with the same bytes and more.
///
/// ```
/// use bytes::BytesMut;
/// use roost_wire::ws::handshake::{Request, key_from, parse_request, write_accept, write_request};
///
/// let mut sent = BytesMut::new();
/// write_request("/ws", "localhost:8080", &key_from([7; 16]), Some("roost.v1.pb"), None, None, &mut sent)?;
/// let Some((Request::Upgrade(upgrade), head_len)) = parse_request(&sent)? else { panic!("an upgrade") };
/// assert_eq!((upgrade.path, head_len), ("/ws", sent.len()));
/// let mut answer = BytesMut::new();
/// write_accept(upgrade.key, upgrade.protocols().next(), &mut answer);
/// # Ok::<(), roost_wire::ws::handshake::HeadError>(())
/// ```
///
/// # Errors
/// [`HeadError`], to be answered with [`HeadError::response`].
pub fn parse_request(buf: &[u8]) -> Result<Option<(Request<'_>, usize)>, HeadError> {
    let buf = judged(buf);
    let mut fields = [EMPTY_HEADER; HEAD_FIELDS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    let Some(len) = head_len(head.parse(buf), buf)? else { return Ok(None) };
    let (Some(method), Some(target), Some(version)) = (head.method, head.path, head.version) else {
        return Err(HeadError::Malformed("request line"));
    };
    let fields = Fields(head.headers);
    fields.check_framing()?;
    let host = fields.one("host")?;
    // RFC 9112 §3.2: HTTP/1.1 has exactly one.
    if version == 1 && host.is_none() {
        return Err(HeadError::Malformed("Host is missing"));
    }
    let upgrade = fields.lists("upgrade", "websocket");
    let key = fields.one("sec-websocket-key")?;
    if !upgrade && key.is_none() {
        return Ok(Some((Request::Other, len)));
    }
    // §4.2.1, item by item. One that has a key but lost its `Upgrade` went through a proxy that does not pass
    // upgrades on: saying so helps more than 404.
    if method != "GET" {
        return Err(HeadError::Malformed("an upgrade is a GET"));
    }
    if version != 1 {
        return Err(HeadError::Malformed("an upgrade needs HTTP/1.1"));
    }
    if !upgrade {
        return Err(HeadError::Malformed("Upgrade: websocket is missing"));
    }
    if !fields.lists("connection", "upgrade") {
        return Err(HeadError::Malformed("Connection: Upgrade is missing"));
    }
    // What follows the head are frames: a body would be taken for them.
    if fields.count("transfer-encoding") > 0 || fields.one("content-length")?.is_some_and(|length| length != "0") {
        return Err(HeadError::Malformed("an upgrade has no body"));
    }
    match fields.one("sec-websocket-version")? {
        Some("13") => {}
        Some(_) => return Err(HeadError::Version),
        None => return Err(HeadError::Malformed("Sec-WebSocket-Version is missing")),
    }
    let key = key.ok_or(HeadError::Malformed("Sec-WebSocket-Key is missing"))?;
    if !is_key(key) {
        return Err(HeadError::Malformed("Sec-WebSocket-Key"));
    }
    let host = host.unwrap_or_default();
    let upgrade = Upgrade {
        path: path(target, host)?,
        host,
        origin: fields.one("origin")?,
        key,
        protocols: fields.one("sec-websocket-protocol")?,
        deflate: extension::choose(fields.all("sec-websocket-extensions"))?,
        bearer: fields.one("authorization")?.and_then(bearer),
    };
    Ok(Some((Request::Upgrade(upgrade), len)))
}

/// Appends the `101 Switching Protocols` that accepts `key`, with the chosen sub-protocol if there is one (§4.2.2).
/// `protocol` is one of ours, never a peer's text.
pub fn write_accept(key: &str, protocol: Option<&str>, out: &mut BytesMut) {
    write_accept_deflate(key, protocol, None, out);
}

/// The same, and `deflate` accepts the client's offer of permessage-deflate (RFC 7692 §7.1).
pub fn write_accept_deflate(key: &str, protocol: Option<&str>, deflate: Option<Deflate>, out: &mut BytesMut) {
    out.put_slice(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
    put_field(out, "Sec-WebSocket-Accept", &accept(key));
    if let Some(protocol) = protocol {
        put_field(out, "Sec-WebSocket-Protocol", protocol);
    }
    if let Some(deflate) = deflate {
        put_field(out, "Sec-WebSocket-Extensions", &deflate.response());
    }
    out.put_slice(b"\r\n");
}

/// The whole response that refuses a request; the connection is closed after it. `reason` is its body, for people:
/// our words, never a peer's.
#[must_use]
pub fn refusal(status: u16, reason: &str) -> BytesMut {
    response(status, "", reason)
}

/// The same for who may come back in `after_s` seconds (`Retry-After`, RFC 9110 §10.2.3).
#[must_use]
pub fn refusal_for_now(status: u16, after_s: u32, reason: &str) -> BytesMut {
    response(status, &format!("Retry-After: {after_s}\r\n"), reason)
}

/// What a server's `101` says.
#[derive(Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// The sub-protocol it chose; to be one of those offered (§4.1).
    pub protocol: Option<&'a str>,
}

/// Why a server's answer is no upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// Longer than [`crate::limits::HEAD_BYTES_MAX`], or too many fields.
    #[error("response head is too large")]
    TooLarge,
    /// No HTTP/1.1 head, or one that does not switch to what was asked for (§4.1).
    #[error("malformed response: {0}")]
    Malformed(&'static str),
    /// Another status than 101: 401, 403, 429, 503…
    #[error("the server answered with status {0}")]
    Status(u16),
    /// `Sec-WebSocket-Accept` does not fit the key: no WebSocket server, or a cached answer.
    #[error("Sec-WebSocket-Accept does not fit the key")]
    Accept,
}

/// A key for [`write_request`] from 16 random bytes (§4.1, item 7).
#[must_use]
pub fn key_from(nonce: [u8; 16]) -> String {
    STANDARD.encode(nonce)
}

/// Appends the request that opens a connection (§4.1). `host` is as in the URL, with the port if it is not the usual
/// one; `key` comes from [`key_from`].
///
/// # Errors
/// [`HeadError::Malformed`] if a text holds what would break the head (a line break, a blank in the path); `out` is
/// then unchanged.
pub fn write_request(
    path: &str,
    host: &str,
    key: &str,
    protocol: Option<&str>,
    bearer: Option<&str>,
    origin: Option<&str>,
    out: &mut BytesMut,
) -> Result<(), HeadError> {
    if !path.starts_with('/') || path.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(HeadError::Malformed("path"));
    }
    let fields = [Some(host), Some(key), protocol, bearer, origin];
    if fields.into_iter().flatten().any(|text| text.is_empty() || text.bytes().any(|byte| byte.is_ascii_control())) {
        return Err(HeadError::Malformed("field"));
    }
    out.put_slice(b"GET ");
    out.put_slice(path.as_bytes());
    out.put_slice(b" HTTP/1.1\r\n");
    put_field(out, "Host", host);
    out.put_slice(b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n");
    put_field(out, "Sec-WebSocket-Key", key);
    if let Some(protocol) = protocol {
        put_field(out, "Sec-WebSocket-Protocol", protocol);
    }
    if let Some(token) = bearer {
        out.put_slice(b"Authorization: Bearer ");
        out.put_slice(token.as_bytes());
        out.put_slice(b"\r\n");
    }
    if let Some(origin) = origin {
        put_field(out, "Origin", origin);
    }
    out.put_slice(b"\r\n");
    Ok(())
}

/// Reads the answer to [`write_request`] with `key` at the front of `buf`: what it says and the length of its head,
/// or `None` if `buf` ends early.
///
/// # Errors
/// [`ResponseError`]: there is no connection.
pub fn parse_response<'a>(buf: &'a [u8], key: &str) -> Result<Option<(Response<'a>, usize)>, ResponseError> {
    let buf = judged(buf);
    let mut fields = [EMPTY_HEADER; HEAD_FIELDS_MAX];
    let mut head = httparse::Response::new(&mut fields);
    let Some(len) = head_len(head.parse(buf), buf)? else { return Ok(None) };
    match (head.version, head.code) {
        (_, Some(status)) if status != 101 => return Err(ResponseError::Status(status)),
        (Some(1), Some(_)) => {}
        _ => return Err(ResponseError::Malformed("status line")),
    }
    let fields = Fields(head.headers);
    if !fields.lists("upgrade", "websocket") || !fields.lists("connection", "upgrade") {
        return Err(ResponseError::Malformed("not switched to WebSocket"));
    }
    if fields.one("sec-websocket-accept")? != Some(accept(key).as_str()) {
        return Err(ResponseError::Accept);
    }
    if fields.count("sec-websocket-extensions") > 0 {
        return Err(ResponseError::Malformed("an extension that was not asked for"));
    }
    Ok(Some((Response { protocol: fields.one("sec-websocket-protocol")? }, len)))
}

impl From<HeadError> for ResponseError {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::TooLarge => Self::TooLarge,
            HeadError::Malformed(what) => Self::Malformed(what),
            HeadError::Version => Self::Malformed("version"),
        }
    }
}

/// §4.2.2, item 5.4.
fn accept(key: &str) -> String {
    let digest = Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    STANDARD.encode(digest)
}

/// §4.2.1, item 5: base64 of 16 bytes.
fn is_key(key: &str) -> bool {
    let mut bytes = [0; 18];
    key.len() == 24 && STANDARD.decode_slice(key, &mut bytes) == Ok(16)
}

/// As much of the bytes as a head may have: what stands behind must not change what is said of them, since it may come
/// later.
fn judged(buf: &[u8]) -> &[u8] {
    &buf[..buf.len().min(HEAD_BYTES_MAX)]
}

/// The length of a whole head. Refuses what httparse lets pass: too long, and lines that end without CR, which some
/// readers take for the end of a line and others do not (RFC 9112 §2.2).
fn head_len(parsed: httparse::Result<usize>, buf: &[u8]) -> Result<Option<usize>, HeadError> {
    match parsed {
        Ok(Status::Partial) if buf.len() >= HEAD_BYTES_MAX => Err(HeadError::TooLarge),
        Ok(Status::Partial) => Ok(None),
        Ok(Status::Complete(len)) => {
            let head = &buf[..len];
            let mut before = 0;
            for byte in head {
                if *byte == b'\n' && before != b'\r' {
                    return Err(HeadError::Malformed("line without CR"));
                }
                before = *byte;
            }
            Ok(Some(len))
        }
        Err(httparse::Error::TooManyHeaders) => Err(HeadError::TooLarge),
        Err(httparse::Error::Version) => Err(HeadError::Malformed("HTTP version")),
        Err(httparse::Error::Token | httparse::Error::Status) => Err(HeadError::Malformed("first line")),
        Err(_) => Err(HeadError::Malformed("field")),
    }
}

struct Fields<'h, 'a>(&'h [Header<'a>]);

impl<'a> Fields<'_, 'a> {
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    fn count(&self, name: &'static str) -> usize {
        self.all(name).count()
    }

    /// The value of a field that may stand once at most.
    fn one(&self, name: &'static str) -> Result<Option<&'a str>, HeadError> {
        let mut values = self.all(name);
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(HeadError::Malformed("a field stands twice"));
        }
        let text = std::str::from_utf8(value).map_err(|_| HeadError::Malformed("a field is not text"))?;
        Ok(Some(text.trim_matches([' ', '\t'])))
    }

    /// Whether a list of tokens, in one line or several, holds `token`.
    fn lists(&self, name: &'static str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// RFC 9112 §6.3: where the body ends must be beyond doubt.
    fn check_framing(&self) -> Result<(), HeadError> {
        let length = self.one("content-length")?;
        if length.is_some() && self.count("transfer-encoding") > 0 {
            return Err(HeadError::Malformed("Content-Length with Transfer-Encoding"));
        }
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if length.is_none_or(digits) { Ok(()) } else { Err(HeadError::Malformed("Content-Length")) }
    }
}

/// The path of a request target: origin form, or absolute form that names the same host (RFC 9112 §3.2).
fn path<'a>(target: &'a str, host: &str) -> Result<&'a str, HeadError> {
    let origin_form = match target.split_once("://") {
        Some((scheme, rest)) if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => {
            let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            if !authority.eq_ignore_ascii_case(host) {
                return Err(HeadError::Malformed("target and Host differ"));
            }
            if path.starts_with('/') { path } else { "/" }
        }
        _ => target,
    };
    let path = origin_form.split_once('?').map_or(origin_form, |(path, _)| path);
    if path.starts_with('/') { Ok(path) } else { Err(HeadError::Malformed("target")) }
}

/// The token of `Bearer …` (RFC 6750 §2.1). Other schemes are not ours: none.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn put_field(out: &mut BytesMut, name: &str, value: &str) {
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    out.put_slice(value.as_bytes());
    out.put_slice(b"\r\n");
}

fn response(status: u16, fields: &str, body: &str) -> BytesMut {
    let phrase = match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "",
    };
    let mut head = String::with_capacity(192 + body.len());
    // Writing to a String cannot fail.
    let _ = write!(
        head,
        "HTTP/1.1 {status} {phrase}\r\n{fields}Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}\n",
        body.len() + 1
    );
    BytesMut::from(head.as_str())
}
