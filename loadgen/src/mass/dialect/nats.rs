//! NATS: lines of text, each with a payload behind it if it is a message, in binary messages of WebSocket that begin
//! and end anywhere. The server speaks first.
//!
//! Nothing but PING is confirmed (`verbose` would have the server answer every line), so a PING follows CONNECT and SUB:
//! lines are handled in order, so its PONG says that they were. Where a heartbeat is under way at the same moment its
//! PONG may be taken for that one, which follows at once.

use bytes::BytesMut;
use roost_wire::ws::{self, MessageKind};

use super::stream::{PACKET_BYTES_MAX, told};
use super::{Heartbeat, Speech};
use crate::client::{Stamp, body};
use crate::mass::client::{Client, Phase};
use crate::mass::crowd::{Crowd, Heard};
use crate::mass::hear::Ears;
use crate::mass::voice::Voice;

/// The longest line: INFO tells much.
const LINE_BYTES_MAX: usize = 64 * 1024;
const PING: &[u8] = b"PING\r\n";
const PONG: &[u8] = b"PONG\r\n";
/// Enters without credentials; own messages come back, as the publisher listens too.
const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"roost-load\",\"version\":\"1\",\
    \"protocol\":1,\"echo\":true,\"headers\":false,\"no_responders\":false}\r\nPING\r\n";

#[derive(Debug)]
pub(super) struct Nats;

impl Speech for Nats {
    fn heartbeat(&self) -> Heartbeat {
        Heartbeat::Message(MessageKind::Binary, PING)
    }

    fn acknowledges(&self) -> bool {
        false
    }

    fn upgraded(&self, at: u32, crowd: &mut Crowd, _: &mut Ears<'_>) {
        // INFO comes first.
        crowd.enters(at);
    }

    fn message(&self, _: MessageKind, payload: &[u8], at: u32, crowd: &mut Crowd, ears: &mut Ears<'_>) {
        crowd.packets(at, payload, ears, take);
    }

    fn subscribe(&self, at: u32, crowd: &mut Crowd, voice: &mut Voice, out: &mut BytesMut) {
        crowd.clients[at as usize].set(Client::CONFIRMS, true);
        let mut line = voice.sheet();
        line.push_str("SUB ");
        line.push_str(&voice.channel);
        line.push_str(" 1\r\nPING\r\n");
        ws::write_client_message(MessageKind::Binary, line.as_bytes(), voice.mask(), out);
        voice.put_back(line);
    }

    fn publish(&self, stamp: Stamp, voice: &mut Voice, out: &mut BytesMut) {
        let mut line = format!("PUB {} {}\r\n", voice.channel, voice.body_bytes.max(body::BODY_BYTES_MIN));
        body::write(stamp, voice.body_bytes, &mut line);
        line.push_str("\r\n");
        ws::write_client_message(MessageKind::Binary, line.as_bytes(), voice.mask(), out);
    }
}

/// Handles one line, and the payload behind it.
fn take(crowd: &mut Crowd, at: u32, bytes: &[u8], ears: &mut Ears<'_>) -> Result<Option<usize>, String> {
    let Some(end) = bytes.windows(2).take(LINE_BYTES_MAX).position(|pair| pair == b"\r\n") else {
        return if bytes.len() > LINE_BYTES_MAX { Err("a line without an end".into()) } else { Ok(None) };
    };
    let (line, after) = (&bytes[..end], end + 2);
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    match words.next().unwrap_or_default() {
        b"MSG" => {
            let Some((subject, len)) = msg(words) else { return Err(format!("no message: {}", told(line))) };
            let Some(payload) = bytes.get(after..after + len + 2) else { return Ok(None) };
            let Some(text) = payload.strip_suffix(b"\r\n") else {
                return Err("a message that is longer than it says".into());
            };
            if subject == ears.voice.channel.as_bytes() {
                crowd.told(at, text, ears);
            } else {
                ears.heard.push(Heard::Garbled);
            }
            return Ok(Some(after + len + 2));
        }
        b"PING" => ws::write_client_message(MessageKind::Binary, PONG, ears.voice.mask(), ears.out),
        b"PONG" => pong(crowd, at, ears),
        b"INFO" => info(crowd, at, ears),
        b"+OK" => ears.heard.push(Heard::Other),
        b"-ERR" => return Err(format!("the server said {}", told(line))),
        _ => return Err(format!("no line of NATS: {}", told(line))),
    }
    Ok(Some(after))
}

/// Subject and length of `MSG subject sid [reply] length`.
fn msg<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<(&'a [u8], usize)> {
    let (subject, _sid) = (words.next()?, words.next()?);
    let last = words.next()?;
    let len = words.next().unwrap_or(last);
    if words.next().is_some() {
        return None;
    }
    let len = std::str::from_utf8(len).ok()?.parse().ok()?;
    (len <= PACKET_BYTES_MAX).then_some((subject, len))
}

/// Told first, and again when something of the server changes.
fn info(crowd: &mut Crowd, at: u32, ears: &mut Ears<'_>) {
    let entering = crowd.phase(at) == Phase::Entering;
    let client = &mut crowd.clients[at as usize];
    if entering && !client.has(Client::CONFIRMS) {
        client.set(Client::CONFIRMS, true);
        ws::write_client_message(MessageKind::Binary, CONNECT.as_bytes(), ears.voice.mask(), ears.out);
    } else {
        ears.heard.push(Heard::Other);
    }
}

fn pong(crowd: &mut Crowd, at: u32, ears: &mut Ears<'_>) {
    let entering = crowd.phase(at) == Phase::Entering;
    let client = &mut crowd.clients[at as usize];
    if !client.has(Client::CONFIRMS) {
        return crowd.pong(at, ears);
    }
    client.set(Client::CONFIRMS, false);
    if entering {
        crowd.goes_live(at);
        ears.heard.push(Heard::Live { heartbeat_ms: 0 });
    } else {
        client.set(Client::SUBSCRIBED, true);
        ears.heard.push(Heard::Subscribed);
    }
}
