//! The first bytes of a connection: request heads for the server, response heads for the client.
//!
//! An even first byte is followed by a request, an odd one by a response to the key [`KEY`]; its other bits say in which
//! pieces a shard gets the request. What holds: a shard does the same however a whole head is cut; more bytes
//! never change what was said of fewer; what is accepted is accepted by a reader of our own, written from RFC 9112 for
//! this purpose, with the same path and fields; nothing is accepted that two readers could understand differently;
//! written again from what was understood, it is understood the same.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use roost_edge_core::{Effect, Outbound, Shard, ShardConfig};
use roost_wire::limits::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX};
use roost_wire::ws::handshake::{
    HeadError, Request, Response, ResponseError, Upgrade, parse_request, parse_response, write_accept, write_request,
};

/// The client's key, of RFC 6455 §1.3.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Longest request that a shard gets in pieces: each of them takes it a while.
const PIECED_BYTES_MAX: usize = 1000;

pub(crate) fn run(input: &[u8]) {
    let Some((&choice, head)) = input.split_first() else { return };
    if choice & 1 == 0 {
        request(head);
        at_the_edge(head, usize::from(choice >> 1));
    } else {
        response(head);
    }
}

/// A shard gets the request in pieces, and as a whole. Only a head that is whole is the same to it: one that was cut it
/// does not look at before its end.
fn at_the_edge(request: &[u8], piece_bytes: usize) {
    // Empty lines in front of it are no end: RFC 9112 §2.2.
    let begins = request.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(request.len());
    let head = &request[begins..];
    let is_whole = head.windows(2).any(|two| two == b"\n\n") || head.windows(3).any(|three| three == b"\n\r\n");
    if is_whole && piece_bytes > 0 && request.len() <= PIECED_BYTES_MAX {
        assert_eq!(answer(request, piece_bytes), answer(request, request.len()), "in pieces of {piece_bytes} B");
    }
}

/// What a shard answers, and what it gives the HTTP service.
fn answer(request: &[u8], piece_bytes: usize) -> (Vec<u8>, Vec<u8>) {
    let (config, now) = (Arc::new(ShardConfig::default()), Instant::now());
    let mut shard = Shard::new(config, 0, Arc::default(), now, 1_790_000_000_000);
    let key = shard.opened(SocketAddr::from(([192, 0, 2, 1], 40_000)), now).expect("room");
    for piece in request.chunks(piece_bytes) {
        shard.received(key, &mut piece.to_vec(), now);
    }
    let answer = shard.outbound(key).into_iter().flat_map(Outbound::chunks).flatten().copied().collect();
    let mut passed_on = Vec::new();
    while let Some(effect) = shard.poll_effect() {
        if let Effect::HttpOpen { bytes, .. } | Effect::HttpData { bytes, .. } = effect {
            passed_on.extend_from_slice(&bytes);
        }
    }
    (answer, passed_on)
}

fn request(buf: &[u8]) {
    let whole = parse_request(buf);
    same_at_any_cut(buf.len(), |len| parse_request(&buf[..len]), &whole);
    match &whole {
        Ok(None) => {}
        Ok(Some((request, len))) => {
            let head = Head::read(&buf[..*len], true).unwrap_or_else(|| panic!("accepted, but no head by RFC 9112"));
            assert!(*len <= HEAD_BYTES_MAX && head.fields.len() <= HEAD_FIELDS_MAX, "the limits hold");
            head.check_framing();
            if let Request::Upgrade(upgrade) = request {
                head.check_upgrade(upgrade);
                upgrade_again(upgrade);
            } else {
                let asks = head.lists("upgrade", "websocket") || head.one("sec-websocket-key").is_some();
                assert!(!asks, "an upgrade is not passed on as another request");
            }
        }
        Err(HeadError::Malformed("first line" | "field" | "line without CR" | "HTTP version")) => {
            let end = buf.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
            if let Some(head) = end.and_then(|end| Head::read(&buf[..end], true)) {
                panic!("refused as malformed, but it is a head by RFC 9112: {head:?}");
            }
        }
        Err(error) => assert!(error.response().ends_with(b"\n"), "an answer is at hand"),
    }
}

fn response(buf: &[u8]) {
    let whole = parse_response(buf, KEY);
    same_at_any_cut(buf.len(), |len| parse_response(&buf[..len], KEY), &whole);
    if let Ok(Some((response, len))) = &whole {
        let head = Head::read(&buf[..*len], false).unwrap_or_else(|| panic!("accepted, but no head by RFC 9112"));
        assert_eq!((head.first[0], head.first[1]), ("HTTP/1.1", "101"));
        assert!(head.lists("upgrade", "websocket") && head.lists("connection", "upgrade"));
        assert_eq!(head.one("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "RFC 6455 §1.3");
        assert_eq!(head.one("sec-websocket-protocol"), response.protocol);
        if response.protocol.is_none_or(|name| !name.is_empty() && !name.contains('\t')) {
            let mut again = BytesMut::new();
            write_accept(KEY, response.protocol, &mut again);
            let want: Result<_, ResponseError> = Ok(Some((Response { protocol: response.protocol }, again.len())));
            assert_eq!(parse_response(&again, KEY), want);
        }
    }
}

/// Once something is said of a front of the bytes, more of them change nothing; before that it asks for more.
fn same_at_any_cut<'a, T, E>(
    len: usize,
    parse: impl Fn(usize) -> Result<Option<(T, usize)>, E>,
    whole: &Result<Option<(T, usize)>, E>,
) where
    T: PartialEq + std::fmt::Debug + 'a,
    E: PartialEq + std::fmt::Debug,
{
    // Long heads only at some cuts, else it takes the square of their length.
    let step = 1 + len / 128;
    let limits = [HEAD_BYTES_MAX - 1, HEAD_BYTES_MAX, HEAD_BYTES_MAX + 1];
    let ends = whole.iter().flatten().flat_map(|(_, len)| [len - 1, *len, len + 1]);
    let mut cuts: Vec<usize> = (0..len)
        .step_by(step)
        .chain(limits)
        .chain(ends)
        .chain(len.saturating_sub(4)..len)
        .filter(|cut| *cut <= len)
        .collect();
    cuts.sort_unstable();
    let mut said = false;
    for cut in cuts {
        let now = parse(cut);
        if said || !matches!(now, Ok(None)) {
            assert_eq!(&now, whole, "cut at {cut} of {len}");
            said = true;
        }
        if let Ok(Some((_, len))) = &now {
            assert!(*len <= cut, "a head is within what was read");
        }
    }
}

/// A client that asks for the same is understood the same.
fn upgrade_again(upgrade: &Upgrade<'_>) {
    let mut again = BytesMut::new();
    let written = write_request(
        upgrade.path,
        upgrade.host,
        upgrade.key,
        upgrade.protocols,
        upgrade.bearer,
        upgrade.origin,
        &mut again,
    );
    if written.is_ok() {
        let parsed = parse_request(&again).map(|found| found.map(|(request, _)| request));
        let Ok(Some(Request::Upgrade(same))) = parsed else { panic!("{upgrade:?} became {parsed:?}") };
        let facts = |upgrade: &Upgrade<'_>| {
            let Upgrade { path, host, origin, key, protocols, bearer, .. } = *upgrade;
            [Some(path), Some(host), origin, Some(key), protocols, bearer].map(|text| text.map(str::to_owned))
        };
        assert_eq!(facts(&same), facts(upgrade));
    }
}

/// A head as RFC 9112 defines it, read without any shared code.
#[derive(Debug)]
struct Head<'a> {
    /// The three parts of the first line.
    first: [&'a str; 3],
    /// Names in lower case, values without the blanks around them.
    fields: Vec<(String, &'a [u8])>,
}

impl<'a> Head<'a> {
    /// `bytes` end with the empty line.
    fn read(bytes: &'a [u8], is_request: bool) -> Option<Self> {
        let mut rest = bytes;
        // §2.2: empty lines before the first one are passed over.
        while let Some(after) = rest.strip_prefix(b"\r\n") {
            rest = after;
        }
        let (first, mut rest) = line(rest)?;
        let mut parts = first.splitn(3, |byte| *byte == b' ');
        let mut part = || parts.next().map(std::str::from_utf8);
        let first = if is_request {
            [part()?.ok()?, part()?.ok()?, part()?.ok()?]
        } else {
            // The reason after a status means nothing, and may be left out or no text: RFC 9112 §4.
            [part()?.ok()?, part()?.ok()?, ""]
        };
        if !matches!(first[if is_request { 2 } else { 0 }], "HTTP/1.0" | "HTTP/1.1") {
            return None;
        }
        let visible = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte > b' ' && byte != 0x7f);
        if is_request && !(is_token(first[0].as_bytes()) && visible(first[1])) {
            return None;
        }
        let mut fields = Vec::new();
        loop {
            let (text, after) = line(rest)?;
            rest = after;
            if text.is_empty() {
                return rest.is_empty().then_some(Self { first, fields });
            }
            let colon = text.iter().position(|byte| *byte == b':')?;
            let (name, value) = (&text[..colon], trim(&text[colon + 1..]));
            // §5: no blank before the colon, no line that goes on with the one before.
            let allowed = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
            if !is_token(name) || !value.iter().all(allowed) {
                return None;
            }
            fields.push((String::from_utf8_lossy(name).to_ascii_lowercase(), value));
        }
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.iter().filter(move |(known, _)| known == name).map(|(_, value)| *value)
    }

    /// The value of a field that stands once.
    fn one(&self, name: &str) -> Option<&'a str> {
        let mut values = self.all(name);
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} stands twice in what was accepted");
        Some(std::str::from_utf8(value).unwrap_or_else(|_| panic!("{name} is no text in what was accepted")))
    }

    fn lists(&self, name: &str, token: &str) -> bool {
        let items = self.all(name).flat_map(|value| value.split(|byte| *byte == b','));
        items.map(trim).any(|item| item.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// RFC 9112 §3.2 and §6.3: whom it is for and where it ends is beyond doubt.
    fn check_framing(&self) {
        let host = self.one("host");
        assert!(host.is_some() || self.first[2] == "HTTP/1.0", "HTTP/1.1 has a host");
        if let Some(length) = self.one("content-length") {
            assert!(!length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()), "a length: {length:?}");
            assert_eq!(self.all("transfer-encoding").count(), 0, "Content-Length with Transfer-Encoding");
        }
    }

    /// RFC 6455 §4.2.1, and that we understood the same.
    fn check_upgrade(&self, upgrade: &Upgrade<'_>) {
        assert_eq!((self.first[0], self.first[2]), ("GET", "HTTP/1.1"));
        assert!(self.lists("upgrade", "websocket") && self.lists("connection", "upgrade"));
        assert_eq!(self.one("sec-websocket-version"), Some("13"));
        assert_eq!(self.all("transfer-encoding").count(), 0, "frames follow, no body");
        assert!(self.one("content-length").is_none_or(|length| length == "0"), "frames follow, no body");
        let [_, target, _] = self.first;
        let origin_form = match target.find("://") {
            Some(at) if !target.starts_with('/') => {
                let authority = &target[at + 3..];
                let end = authority.find(['/', '?']).unwrap_or(authority.len());
                assert!(authority[..end].eq_ignore_ascii_case(upgrade.host), "for another host");
                if authority[end..].starts_with('/') { &authority[end..] } else { "/" }
            }
            _ => target,
        };
        let path = origin_form.split('?').next().unwrap_or_default();
        assert_eq!(path, upgrade.path);
        assert!(path.starts_with('/'));
        assert_eq!(self.one("host"), Some(upgrade.host));
        assert_eq!(self.one("origin"), upgrade.origin);
        assert_eq!(self.one("sec-websocket-key"), Some(upgrade.key));
        assert_eq!(self.one("sec-websocket-protocol"), upgrade.protocols);
        let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
        let (text, end) = upgrade.key.split_at(22);
        assert!(text.bytes().all(is_base64) && end == "==", "16 bytes in base64: {}", upgrade.key);
        if let Some(bearer) = upgrade.bearer {
            let value = self.one("authorization").unwrap_or_default();
            assert!(value[..7].eq_ignore_ascii_case("bearer ") && value.ends_with(bearer), "{value:?}, {bearer:?}");
        }
    }
}

/// Without the blanks around it, RFC 9110 §5.6.3.
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    Some((&bytes[..end], &bytes[end + 2..]))
}

/// RFC 9110 §5.6.2.
fn is_token(bytes: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_tchar)
}
