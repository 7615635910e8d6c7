//! The same bytes to our decoder and to tungstenite: the same messages, or both refuse. And what one writes, the other
//! reads.
//!
//! Known differences, each as narrow as it can be said; everything else must agree:
//! - we refuse at the byte that makes a stream wrong, tungstenite when the frame is whole: it gets the rest of the
//!   frame, of bytes that make no length short;
//! - [`WsError::Length`]: RFC 6455 §5.2 wants the shortest form, tungstenite takes any; also of a control frame, which
//!   to us is [`WsError::Control`];
//! - [`WsError::TooManyFragments`]: tungstenite counts none;
//! - [`WsError::Close`]: a code that may not be sent is shown by tungstenite as 1002 "Protocol violation";
//! - close code 1014, registered since, is one that tungstenite does not know: the same 1002.

use std::io::{self, Read, Write};

use arbitrary::Unstructured;
use bytes::BytesMut;
use roost_wire::ws::{self, MessageKind, Side, WsError, write_client_message, write_message_header};
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use crate::ws::{Said, Seen, Terms, read};

/// Limits of messages, in bytes.
const LIMITS: [usize; 4] = [100, 125, 1000, 70_000];

pub(crate) fn run(input: &[u8]) {
    let Some((&choice, rest)) = input.split_first() else { return };
    let side = if choice & 1 == 0 { Side::Server } else { Side::Client };
    let limit = LIMITS[usize::from(choice >> 3) % LIMITS.len()];
    match choice >> 1 & 3 {
        0 | 1 => same_bytes(side, limit, rest),
        // Our end of what the script sends is the other one than theirs.
        2 => ours_to_theirs(side, &script(rest)),
        _ => theirs_to_ours(side, script(rest)),
    }
}

/// tungstenite's end, as far as it agrees with ours.
fn same_bytes(side: Side, limit: usize, stream: &[u8]) {
    let mut ours = read(Terms { side, message_bytes_max: limit, deflate: false }, stream, &[stream.len()]);
    let mut bytes = stream.to_vec();
    if ours.error.is_some() {
        bytes.resize(bytes.len() + 14 + limit.max(125), 1);
    }
    let (theirs, end) = theirs(side, limit, bytes);
    if let Some(Said::Close(Some((1014, _)))) = ours.said.last() {
        ours.said.pop();
        ours.said.push(violation());
    }
    match ours.error {
        None => assert_eq!((&theirs, &end), (&ours.said, &End::Wants), "both take it"),
        // What it takes as a length it takes for control frames too.
        Some(WsError::Length | WsError::TooManyFragments | WsError::Control)
            if ours.error != Some(WsError::Control) || has_long_control_frame(stream) =>
        {
            assert!(theirs.starts_with(&ours.said), "up to the error: {theirs:?}, {ours:?}");
        }
        Some(WsError::Close) if theirs.len() > ours.said.len() => {
            let (same, more) = theirs.split_at(ours.said.len());
            assert_eq!((same, more), (&ours.said[..], &[violation()][..]), "a close code is refused");
        }
        Some(error) => assert_eq!((&theirs, &end), (&ours.said, &End::Refuses), "we refuse it: {error}"),
    }
}

const VIOLATION: &str = "Protocol violation";

/// Whether a control frame comes with a length in 16 or 64 bits, which can only be too long or not in its shortest form.
fn has_long_control_frame(mut stream: &[u8]) -> bool {
    while let [first, second, rest @ ..] = stream {
        let (mask_bytes, short) = (usize::from(second >> 7) * 4, second & 0x7f);
        if first & 8 != 0 && short > 125 {
            return true;
        }
        let len_bytes = [0, 2, 8][usize::from(short.saturating_sub(125))];
        let Some((len, after)) = rest.split_at_checked(len_bytes) else { return false };
        let long = len.iter().fold(0_usize, |len, byte| len << 8 | usize::from(*byte));
        let payload = if len_bytes == 0 { usize::from(short) } else { long };
        stream = after.get(mask_bytes.saturating_add(payload)..).unwrap_or_default();
    }
    false
}

/// How tungstenite shows a close code that it does not take.
fn violation() -> Said {
    Said::Close(Some((1002, VIOLATION.to_owned())))
}

/// How tungstenite ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// It waits for more bytes, or was told to close.
    Wants,
    /// The stream is wrong.
    Refuses,
}

/// What tungstenite makes of `bytes`.
fn theirs(side: Side, limit: usize, bytes: Vec<u8>) -> (Vec<Said>, End) {
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_message_size(Some(limit))
        // It counts control frames, which have a limit of their own.
        .max_frame_size(Some(limit.max(125)));
    let mut socket = WebSocket::from_raw_socket(Wire { bytes, at: 0, written: Vec::new() }, role(side), Some(config));
    let mut said = Vec::new();
    loop {
        match socket.read() {
            Ok(message) => {
                said.push(from_theirs(message));
                if let Some(Said::Close(_)) = said.last() {
                    return (said, End::Wants);
                }
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return (said, End::Wants),
            Err(Error::Protocol(_) | Error::Capacity(_) | Error::Utf8(_)) => return (said, End::Refuses),
            Err(error) => panic!("tungstenite neither takes nor refuses it: {error}"),
        }
    }
}

const fn role(side: Side) -> Role {
    match side {
        Side::Server => Role::Server,
        Side::Client => Role::Client,
    }
}

fn from_theirs(message: Message) -> Said {
    match message {
        Message::Text(text) => Said::Message(MessageKind::Text, text.as_bytes().to_vec()),
        Message::Binary(bytes) => Said::Message(MessageKind::Binary, bytes.to_vec()),
        Message::Ping(bytes) => Said::Ping(bytes.to_vec()),
        Message::Pong(bytes) => Said::Pong(bytes.to_vec()),
        Message::Close(body) => {
            Said::Close(body.map(|frame| (u16::from(frame.code), frame.reason.as_str().to_owned())))
        }
        Message::Frame(_) => panic!("reading gives no raw frames"),
    }
}

/// What one end is to say: from bytes, each a choice, a length and what the payload is made of.
fn script(input: &[u8]) -> Vec<Said> {
    let mut input = Unstructured::new(input);
    let mut says = Vec::new();
    while says.len() < 8
        && let Ok([what, seed, a, b, c]) = input.arbitrary::<[u8; 5]>()
    {
        let len =
            [0, 1, 125, 126, 127, 65_535, 65_536, usize::from(a) | usize::from(b) << 8 | usize::from(c & 1) << 16]
                [usize::from(what >> 3 & 7)];
        let payload = |len| (0..len).map(|at: usize| seed.wrapping_add(at as u8)).collect::<Vec<u8>>();
        says.push(match what & 7 {
            0..=2 => Said::Message(MessageKind::Binary, payload(len)),
            3 | 4 => {
                let letter = char::from_u32(u32::from(seed) << 8 | u32::from(a)).unwrap_or('a');
                let text = letter.to_string().repeat(len / letter.len_utf8());
                Said::Message(MessageKind::Text, text.into_bytes())
            }
            5 => Said::Ping(payload(len.min(125))),
            6 => Said::Pong(payload(len.min(125))),
            _ if seed & 1 == 0 => Said::Close(None),
            _ => Said::Close(Some((CODES[usize::from(a) % CODES.len()], "é".repeat(usize::from(b) % 62)))),
        });
    }
    // Nothing is sent after a close frame.
    if let Some(at) = says.iter().position(|said| matches!(said, Said::Close(_))) {
        says.truncate(at + 1);
    }
    says
}

/// Close codes that may be sent.
const CODES: [u16; 10] = [1000, 1001, 1002, 1003, 1007, 1008, 1013, 1014, 3000, 4999];

/// What we write is what tungstenite at `side` reads.
fn ours_to_theirs(side: Side, says: &[Said]) {
    let key = (side == Side::Server).then_some([0x37, 0xfa, 0x21, 0x3d]);
    let mut out = BytesMut::new();
    for said in says {
        match said {
            Said::Message(kind, payload) => match key {
                Some(key) => write_client_message(*kind, payload, key, &mut out),
                None => {
                    write_message_header(*kind, payload.len(), None, &mut out);
                    out.extend_from_slice(payload);
                }
            },
            Said::Ping(payload) => ws::write_ping(payload, key, &mut out),
            Said::Pong(payload) => ws::write_pong(payload, key, &mut out),
            Said::Close(Some((code, reason))) => ws::write_close(*code, reason, key, &mut out),
            // We always name a code.
            Said::Close(None) => ws::write_close(1000, "", key, &mut out),
        }
    }
    let mut want = says.to_vec();
    if let Some(Said::Close(body)) = want.last_mut() {
        *body = Some(match body.take() {
            Some((1014, _)) => (1002, VIOLATION.to_owned()),
            Some(named) => named,
            None => (1000, String::new()),
        });
    }
    assert_eq!(theirs(side, 1 << 18, out.to_vec()), (want, End::Wants));
}

/// What tungstenite writes is what we at `side` read.
fn theirs_to_ours(side: Side, says: Vec<Said>) {
    let other = if side == Side::Server { Side::Client } else { Side::Server };
    let wire = Wire { bytes: Vec::new(), at: 0, written: Vec::new() };
    let mut socket = WebSocket::from_raw_socket(wire, role(other), None);
    for said in &says {
        let message = match said.clone() {
            Said::Message(MessageKind::Text, text) => {
                Message::Text(String::from_utf8(text).expect("the script's text is UTF-8").into())
            }
            Said::Message(MessageKind::Binary, bytes) => Message::Binary(bytes.into()),
            Said::Ping(bytes) => Message::Ping(bytes.into()),
            Said::Pong(bytes) => Message::Pong(bytes.into()),
            Said::Close(body) => {
                Message::Close(body.map(|(code, reason)| CloseFrame { code: code.into(), reason: reason.into() }))
            }
        };
        // Nothing limits what it writes.
        socket.send(message).expect("tungstenite writes");
    }
    let written = std::mem::take(&mut socket.get_mut().written);
    let seen = read(Terms { side, message_bytes_max: 1 << 18, deflate: false }, &written, &[written.len(), 1000]);
    assert_eq!(seen, Seen { said: says, error: None });
}

/// A transport in memory: `bytes` come in, then nothing more for now.
struct Wire {
    bytes: Vec<u8>,
    at: usize,
    written: Vec<u8>,
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        self.at += len;
        Ok(len)
    }
}

impl Write for Wire {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.written.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
