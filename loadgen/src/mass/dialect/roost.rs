//! Roost itself, as `roost.v1.pb`.

use bytes::BytesMut;
use roost_wire::ws::MessageKind;
use roost_wire::{Encoding, FrameBody, FrameError, pb};

use super::{Heartbeat, Speech};
use crate::client::entry::{self, Pushed};
use crate::client::{Stamp, body};
use crate::mass::client::{Client, Phase};
use crate::mass::crowd::{Again, Asked, Crowd, Heard};
use crate::mass::hear::Ears;
use crate::mass::voice::{CONNECT_RID, Entry, PUBLISH_RID, SUBSCRIBE_RID, Voice};

/// A PING without `rid`, with its length before it: it needs no encoder.
const PING: &[u8] = b"\x02\x72\x00";
/// PONG without a `rid`: it comes most while all is quiet, and needs no decoder.
const PONG: &[u8] = b"\x7a\x00";
/// Publishes of a run: a `rid` above is not ours.
const PUBLISHES_MAX: u64 = 1 << 32;

#[derive(Debug)]
pub(super) struct Roost;

impl Speech for Roost {
    fn subprotocol(&self) -> Option<&'static str> {
        Some(Encoding::Protobuf.subprotocol())
    }

    fn heartbeat(&self) -> Heartbeat {
        Heartbeat::Message(MessageKind::Binary, PING)
    }

    fn acknowledges(&self) -> bool {
        true
    }

    fn upgraded(&self, at: u32, crowd: &mut Crowd, ears: &mut Ears<'_>) {
        crowd.enters(at);
        let number = crowd.number(at);
        let mut connect = pb::Connect { device: "load".into(), ..pb::Connect::default() };
        match &ears.voice.entry {
            Entry::Tokens(minter) => connect.token = minter.mint(number),
            Entry::Guests => connect.guest = format!("Load {number}"),
        }
        ears.voice.command(CONNECT_RID, FrameBody::Connect(connect), ears.out);
    }

    fn message(&self, kind: MessageKind, payload: &[u8], at: u32, crowd: &mut Crowd, ears: &mut Ears<'_>) {
        match kind {
            MessageKind::Binary => crowd.frames(at, payload, ears),
            MessageKind::Text => ears.heard.push(Heard::Failed("text where binary is due".into())),
        }
    }

    fn subscribe(&self, _: u32, _: &mut Crowd, voice: &mut Voice, out: &mut BytesMut) {
        let channel = voice.channel.clone();
        voice.command(SUBSCRIBE_RID, FrameBody::Subscribe(pb::Subscribe { channel }), out);
    }

    fn publish(&self, stamp: Stamp, voice: &mut Voice, out: &mut BytesMut) {
        let mut text = String::new();
        body::write(stamp, voice.body_bytes, &mut text);
        let publish = pb::Publish {
            channel: voice.channel.clone(),
            body: Some(pb::Body { text, event: None }),
            cmid: uuid::Uuid::now_v7().to_string(),
            attempt: 0,
            seen: None,
        };
        voice.command(PUBLISH_RID + u64::from(stamp.serial), FrameBody::Publish(publish), out);
    }
}

impl Crowd {
    fn frames(&mut self, at: u32, mut payload: &[u8], ears: &mut Ears<'_>) {
        while !payload.is_empty() {
            let mut peek = payload;
            let frame = entry::varint(&mut peek).and_then(|len| peek.split_at_checked(usize::try_from(len).ok()?));
            if let Some((frame, rest)) = frame {
                if frame == PONG {
                    payload = rest;
                    self.pong(at, ears);
                    continue;
                }
                if let Some(pushed) = entry::pushed(frame) {
                    payload = rest;
                    self.pushed(at, pushed, ears);
                    continue;
                }
            }
            match Encoding::Protobuf.decode(&mut payload) {
                Ok(Some(frame)) => self.frame(at, frame, ears),
                Ok(None) => return,
                // A body of a later version.
                Err(FrameError::Empty { .. }) => ears.heard.push(Heard::Other),
                Err(error) => return ears.heard.push(Heard::Failed(error.to_string())),
            }
        }
    }

    fn frame(&mut self, at: u32, frame: pb::Frame, ears: &mut Ears<'_>) {
        let entering = self.phase(at) == Phase::Entering;
        let heard = match (frame.rid, frame.body) {
            (CONNECT_RID, Some(FrameBody::Welcome(welcome))) if entering => {
                self.goes_live(at);
                Heard::Live { heartbeat_ms: welcome.heartbeat_ms }
            }
            (SUBSCRIBE_RID, Some(FrameBody::Ok(_))) => {
                self.clients[at as usize].set(Client::SUBSCRIBED, true);
                Heard::Subscribed
            }
            (rid @ PUBLISH_RID..PUBLISHES_MAX, Some(FrameBody::Sent(sent))) => {
                Heard::Published { stamp_serial: (rid - PUBLISH_RID) as u32, seq: sent.seq }
            }
            (_, Some(FrameBody::Pong(_))) => return self.pong(at, ears),
            (rid, Some(FrameBody::Error(error))) => Heard::Refused {
                asked: match rid {
                    CONNECT_RID => Asked::Connect,
                    SUBSCRIBE_RID => Asked::Subscribe,
                    _ => Asked::Else,
                },
                code: error.code,
                again: if error.retryable { Again::After(error.retry_after_ms) } else { Again::No },
            },
            (0, Some(FrameBody::Goaway(goaway))) => Heard::GoAway { slot_ms: goaway.slot_ms },
            (0, Some(FrameBody::Changed(changed))) if changed.more => Heard::Behind,
            // One that the short way did not understand.
            (_, Some(FrameBody::Entry(entry))) => {
                let text = entry.body.as_ref().map_or("", |body| &body.text);
                return self.pushed(at, Pushed { conv: &entry.conv, seq: entry.seq, text: text.as_bytes() }, ears);
            }
            (0, _) => Heard::Other,
            (rid, body) => {
                let kind = body.map_or("nothing", |body| body.name());
                Heard::Failed(format!("an answer that nobody asked for: {kind} to {rid}"))
            }
        };
        ears.heard.push(heard);
    }

    fn pushed(&mut self, at: u32, pushed: Pushed<'_>, ears: &mut Ears<'_>) {
        let seq = u32::try_from(pushed.seq).ok().filter(|seq| (1..Client::ANY_SEQ).contains(seq));
        let stamp = body::read(pushed.text, ears.voice.body_bytes);
        let heard = match (seq, stamp) {
            (Some(seq), Some(stamp)) if pushed.conv == ears.voice.channel => self.arrived(at, seq, stamp),
            _ => Heard::Garbled,
        };
        ears.heard.push(heard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ping_is_what_the_encoder_writes() {
        let mut ping = BytesMut::new();
        Encoding::Protobuf.encode(&pb::Frame { rid: 0, body: Some(FrameBody::Ping(pb::Ping {})) }, &mut ping);
        assert_eq!(&ping[..], PING);
    }
}
