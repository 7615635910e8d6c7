//! What received bytes mean to a client.

use bytes::BytesMut;
use roost_wire::limits::HEAD_BYTES_MAX;
use roost_wire::ws::handshake::{self, ResponseError};
use roost_wire::ws::{self, MessageKind};
use roost_wire::{Encoding, FrameBody, FrameError, pb};

use super::client::{Client, Phase, decoder};
use super::crowd::{Again, Asked, Crowd, Heard};
use super::voice::{CONNECT_RID, PUBLISH_RID, SUBSCRIBE_RID, Voice};
use crate::client::entry::{self, Pushed};
use crate::client::{Stamp, body};
use crate::scenario::Protocol;

/// PONG without a `rid`: it comes most while all is quiet, and needs no decoder.
const PONG: &[u8] = b"\x7a\x00";
/// Publishes of a run: a `rid` above is not ours.
const PUBLISHES_MAX: u64 = 1 << 32;

/// Where what a client says and hears goes.
pub(crate) struct Ears<'a> {
    pub(crate) voice: &'a mut Voice,
    /// Its answers, to be sent.
    pub(crate) out: &'a mut BytesMut,
    pub(crate) heard: &'a mut Vec<Heard>,
}

impl Crowd {
    /// A client takes bytes of the server; they are changed in place. After [`Heard::Closed`], [`Heard::TurnedAway`]
    /// or [`Heard::Failed`] its connection is of no further use.
    pub(crate) fn received(&mut self, at: u32, bytes: &mut [u8], ears: &mut Ears<'_>) {
        match self.phase(at) {
            Phase::Upgrading => self.head(at, bytes, ears),
            Phase::Entering | Phase::Live => self.messages(at, bytes, ears),
            // What comes after its end is for nobody.
            Phase::Gone | Phase::Connecting | Phase::Closing => {}
        }
    }

    fn head(&mut self, at: u32, bytes: &mut [u8], ears: &mut Ears<'_>) {
        let kept = self.heads.remove(&at);
        let result = match kept {
            None => self.upgraded(at, bytes, ears),
            Some(mut head) => {
                head.extend_from_slice(bytes);
                return match self.upgraded(at, &head, ears) {
                    Ok(Some(len)) => self.messages(at, &mut head.split_off(len), ears),
                    Ok(None) => drop(self.heads.insert(at, head)),
                    Err(heard) => ears.heard.push(heard),
                };
            }
        };
        match result {
            Ok(Some(len)) => self.messages(at, bytes.get_mut(len..).unwrap_or_default(), ears),
            Ok(None) => drop(self.heads.insert(at, bytes.to_vec())),
            Err(heard) => ears.heard.push(heard),
        }
    }

    /// Looks at the answer to the upgrade. Returns its length; `None` if it is not all there.
    fn upgraded(&mut self, at: u32, head: &[u8], ears: &mut Ears<'_>) -> Result<Option<usize>, Heard> {
        let key = ears.voice.key(self.number(at), self.opening_of(at));
        let (response, len) = match handshake::parse_response(head, &key) {
            Ok(Some(found)) => found,
            Ok(None) if head.len() > HEAD_BYTES_MAX => return Err(Heard::Failed(ResponseError::TooLarge.to_string())),
            Ok(None) => return Ok(None),
            Err(ResponseError::Status(status)) => {
                return Err(Heard::TurnedAway { status, retry_after_s: retry_after_s(head) });
            }
            Err(error) => return Err(Heard::Failed(error.to_string())),
        };
        match ears.voice.protocol {
            Protocol::Plain => {
                ears.heard.push(Heard::Upgraded);
                self.goes_live(at);
                ears.heard.push(Heard::Live { heartbeat_ms: 0 });
            }
            Protocol::Roost if response.protocol != Some(Encoding::Protobuf.subprotocol()) => {
                return Err(Heard::Failed("the server does not speak roost.v1.pb".into()));
            }
            Protocol::Roost => {
                ears.heard.push(Heard::Upgraded);
                self.clients[at as usize].phase = Phase::Entering;
                ears.voice.connect(self.number(at), ears.out);
            }
        }
        Ok(Some(len))
    }

    fn messages(&mut self, at: u32, bytes: &mut [u8], ears: &mut Ears<'_>) {
        // Taken out, because an event borrows it while the rest of the client handles the event.
        let mut decoder = std::mem::replace(&mut self.clients[at as usize].decoder, decoder());
        let mut from = 0;
        loop {
            match decoder.next(bytes, &mut from) {
                Ok(None) => break,
                Ok(Some(ws::Event::Message { kind: MessageKind::Binary, payload })) => self.frames(at, payload, ears),
                Ok(Some(ws::Event::Message { kind: MessageKind::Text, payload })) => self.text(at, payload, ears),
                Ok(Some(ws::Event::Ping(payload))) => ears.voice.pong(payload, ears.out),
                Ok(Some(ws::Event::Pong(_))) => {
                    if ears.voice.protocol == Protocol::Plain {
                        self.pong(at, ears);
                    }
                }
                Ok(Some(ws::Event::Close(close))) => {
                    ears.heard.push(Heard::Closed(close.map(|close| close.code)));
                    return;
                }
                Err(error) => {
                    ears.heard.push(Heard::Failed(error.to_string()));
                    return;
                }
            }
        }
        self.clients[at as usize].decoder = decoder;
    }

    fn frames(&mut self, at: u32, mut payload: &[u8], ears: &mut Ears<'_>) {
        if ears.voice.protocol == Protocol::Plain {
            return ears.heard.push(Heard::Other);
        }
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

    /// A heartbeat was answered; who sent none hears nothing.
    fn pong(&mut self, at: u32, ears: &mut Ears<'_>) {
        if self.clients[at as usize].has(Client::AWAITS_PONG) {
            ears.heard.push(Heard::Pong);
        }
    }

    /// The answer was counted.
    pub(crate) fn answered(&mut self, at: u32) {
        self.clients[at as usize].set(Client::AWAITS_PONG, false);
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

    /// The channel has one writer, so the n-th entry holds its n-th message.
    fn arrived(&mut self, at: u32, seq: u32, stamp: Stamp) -> Heard {
        let client = &mut self.clients[at as usize];
        if stamp.sender != 0 || stamp.serial != seq - 1 || !client.has(Client::SUBSCRIBED) {
            return Heard::Garbled;
        }
        Heard::Pushed { stamp, arrival: client.arrived(seq) }
    }

    /// A text of a plain server: what everybody is sent begins with `!`, and has a serial instead of a seq.
    fn text(&mut self, at: u32, payload: &[u8], ears: &mut Ears<'_>) {
        if ears.voice.protocol == Protocol::Roost {
            return ears.heard.push(Heard::Failed("text where binary is due".into()));
        }
        let number = self.number(at);
        let client = &mut self.clients[at as usize];
        let heard = match payload.strip_prefix(b"!") {
            Some(text) => match body::read(text, ears.voice.body_bytes) {
                Some(stamp) if stamp.serial < Client::ANY_SEQ - 1 => self.arrived(at, stamp.serial + 1, stamp),
                _ => Heard::Garbled,
            },
            None if client.has(Client::AWAITS_ECHO) => match body::read(payload, ears.voice.body_bytes) {
                Some(stamp) if stamp.sender == number && stamp.serial == client.seq => {
                    client.set(Client::AWAITS_ECHO, false);
                    client.seq = client.seq.wrapping_add(1);
                    Heard::Echoed(stamp)
                }
                _ => Heard::Garbled,
            },
            None => Heard::Other,
        };
        ears.heard.push(heard);
    }
}

/// What a refusal says about when to come back, in seconds.
fn retry_after_s(head: &[u8]) -> Option<u32> {
    let head = std::str::from_utf8(head).ok()?;
    let field = head.lines().skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("retry-after").then_some(value)
    });
    field?.trim().parse().ok()
}
