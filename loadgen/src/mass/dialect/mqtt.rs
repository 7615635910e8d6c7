//! MQTT 3.1.1 with QoS 0 (OASIS standard of 29 October 2014): packets in binary messages of WebSocket, which begin and
//! end anywhere (§6).

use bytes::{BufMut as _, BytesMut};
use roost_wire::ws::{self, MessageKind};

use super::stream::{PACKET_BYTES_MAX, told};
use super::{Heartbeat, Speech};
use crate::client::{Stamp, body};
use crate::mass::client::{Client, Phase};
use crate::mass::crowd::{Again, Asked, Crowd, Heard};
use crate::mass::hear::Ears;
use crate::mass::voice::Voice;

// First bytes of packets, with the flags that they must have (§2.2).
const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
const PINGRESP: u8 = 0xd0;
const PINGREQ: &[u8] = b"\xc0\x00";
/// Flags of PUBLISH: quality of service, 0 in all that is asked for here.
const QOS: u8 = 0x06;
/// Of CONNECT: name and level of the protocol, a clean session, no keep-alive: the plan says how often clients beat.
const CONNECT_HEAD: &[u8] = b"\x00\x04MQTT\x04\x02\x00\x00";
/// Identifier of the one SUBSCRIBE.
const SUBSCRIBE_ID: u16 = 1;
/// Code of SUBACK from which on it is a refusal (§3.9.3).
const SUBSCRIBE_REFUSED: u8 = 0x80;
/// Bytes that tell a length at most (§2.2.3).
const LENGTH_BYTES_MAX: usize = 4;

#[derive(Debug)]
pub(super) struct Mqtt;

impl Speech for Mqtt {
    fn subprotocol(&self) -> Option<&'static str> {
        Some("mqtt")
    }

    fn heartbeat(&self) -> Heartbeat {
        Heartbeat::Message(MessageKind::Binary, PINGREQ)
    }

    fn acknowledges(&self) -> bool {
        false
    }

    fn upgraded(&self, at: u32, crowd: &mut Crowd, ears: &mut Ears<'_>) {
        crowd.enters(at);
        let id = format!("load-{}", crowd.number(at));
        let mut packet = BytesMut::new();
        packet.put_u8(CONNECT);
        put_length(CONNECT_HEAD.len() + 2 + id.len(), &mut packet);
        packet.put_slice(CONNECT_HEAD);
        put_text(&id, &mut packet);
        ws::write_client_message(MessageKind::Binary, &packet, ears.voice.mask(), ears.out);
    }

    fn message(&self, kind: MessageKind, payload: &[u8], at: u32, crowd: &mut Crowd, ears: &mut Ears<'_>) {
        match kind {
            MessageKind::Binary => crowd.packets(at, payload, ears, take),
            // §6.0, MQTT-6.0.0-1.
            MessageKind::Text => ears.heard.push(Heard::Failed("text where binary is due".into())),
        }
    }

    fn subscribe(&self, _: u32, _: &mut Crowd, voice: &mut Voice, out: &mut BytesMut) {
        let mut packet = BytesMut::new();
        packet.put_u8(SUBSCRIBE);
        put_length(2 + 2 + voice.channel.len() + 1, &mut packet);
        packet.put_u16(SUBSCRIBE_ID);
        put_text(&voice.channel, &mut packet);
        packet.put_u8(0);
        ws::write_client_message(MessageKind::Binary, &packet, voice.mask(), out);
    }

    fn publish(&self, stamp: Stamp, voice: &mut Voice, out: &mut BytesMut) {
        let mut text = voice.sheet();
        body::write(stamp, voice.body_bytes, &mut text);
        let mut packet = BytesMut::new();
        packet.put_u8(PUBLISH);
        put_length(2 + voice.channel.len() + text.len(), &mut packet);
        put_text(&voice.channel, &mut packet);
        packet.put_slice(text.as_bytes());
        ws::write_client_message(MessageKind::Binary, &packet, voice.mask(), out);
        voice.put_back(text);
    }
}

/// §2.2.3: seven bits a byte, the lowest first.
fn put_length(mut len: usize, out: &mut BytesMut) {
    loop {
        let more = len >> 7;
        out.put_u8((len & 0x7f) as u8 | if more > 0 { 0x80 } else { 0 });
        if more == 0 {
            return;
        }
        len = more;
    }
}

/// §1.5.3. Texts of this generator are short.
fn put_text(text: &str, out: &mut BytesMut) {
    out.put_u16(text.len() as u16);
    out.put_slice(text.as_bytes());
}

/// The length at the front of `bytes`, and how many bytes tell it; `None`: not all of them are there.
fn length(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let mut len = 0;
    for (at, byte) in bytes.iter().take(LENGTH_BYTES_MAX).enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return if len <= PACKET_BYTES_MAX {
                Ok(Some((len, at + 1)))
            } else {
                Err(format!("a packet of {len} bytes"))
            };
        }
    }
    if bytes.len() < LENGTH_BYTES_MAX { Ok(None) } else { Err("a length of more than four bytes".into()) }
}

/// Handles one packet.
fn take(crowd: &mut Crowd, at: u32, bytes: &[u8], ears: &mut Ears<'_>) -> Result<Option<usize>, String> {
    let Some((first, after)) = bytes.split_first() else { return Ok(None) };
    let Some((len, told_in)) = length(after)? else { return Ok(None) };
    let Some(body) = after.get(told_in..told_in + len) else { return Ok(None) };
    let entering = crowd.phase(at) == Phase::Entering;
    match (*first, body) {
        (CONNACK, [_, 0]) if entering => {
            crowd.goes_live(at);
            ears.heard.push(Heard::Live { heartbeat_ms: 0 });
        }
        (CONNACK, [_, code]) if entering => refused(Asked::Connect, *code, ears),
        (SUBACK, [_, _, code]) if *code < SUBSCRIBE_REFUSED => {
            crowd.clients[at as usize].set(Client::SUBSCRIBED, true);
            ears.heard.push(Heard::Subscribed);
        }
        (SUBACK, [_, _, code]) => refused(Asked::Subscribe, *code, ears),
        (PINGRESP, []) => crowd.pong(at, ears),
        (first, body) if first & 0xf0 == PUBLISH => match publish(body) {
            Some((topic, text)) if first & QOS == 0 && topic == ears.voice.channel.as_bytes() => {
                crowd.told(at, text, ears);
            }
            _ => ears.heard.push(Heard::Garbled),
        },
        (first, body) => return Err(format!("packet {first:#04x} was not expected: {}", told(body))),
    }
    Ok(Some(1 + told_in + len))
}

/// Topic and payload of a PUBLISH with QoS 0 (§3.3).
fn publish(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = body.split_first_chunk()?;
    rest.split_at_checked(u16::from_be_bytes(*len).into())
}

fn refused(asked: Asked, code: u8, ears: &mut Ears<'_>) {
    ears.heard.push(Heard::Refused { asked, code: code.into(), again: Again::No });
}
