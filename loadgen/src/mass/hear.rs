//! What received bytes mean to a client.

use bytes::BytesMut;
use roost_wire::limits::{HEAD_BYTES_MAX, SERVER_FRAME_BYTES_MAX};
use roost_wire::ws::handshake::{self, ResponseError};
use roost_wire::ws::{self, MessageKind};

use super::client::{Client, Phase, decoder};
use super::crowd::{Crowd, Heard};
use super::dialect::Heartbeat;
use super::voice::Voice;
use crate::client::{Stamp, body, entry};

/// Most bytes of a length (protobuf, "Base 128 Varints").
const VARINT_BYTES_MAX: usize = 10;

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
            Phase::Entering | Phase::Live if ears.voice.native => self.stream(at, bytes, ears),
            Phase::Entering | Phase::Live => self.messages(at, bytes, ears),
            // What comes after its end is for nobody.
            Phase::Gone | Phase::Connecting | Phase::Closing => {}
        }
    }

    fn head(&mut self, at: u32, bytes: &mut [u8], ears: &mut Ears<'_>) {
        let kept = self.halves.remove(&at);
        let result = match kept {
            None => self.upgraded(at, bytes, ears),
            Some(mut head) => {
                head.extend_from_slice(bytes);
                return match self.upgraded(at, &head, ears) {
                    Ok(Some(len)) => self.messages(at, &mut head.split_off(len), ears),
                    Ok(None) => drop(self.halves.insert(at, head)),
                    Err(heard) => ears.heard.push(heard),
                };
            }
        };
        match result {
            Ok(Some(len)) => self.messages(at, bytes.get_mut(len..).unwrap_or_default(), ears),
            Ok(None) => drop(self.halves.insert(at, bytes.to_vec())),
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
        let speech = ears.voice.speech;
        if let Some(wanted) = speech.subprotocol().filter(|wanted| response.protocol != Some(wanted)) {
            return Err(Heard::Failed(format!("the server does not speak {wanted}")));
        }
        ears.heard.push(Heard::Upgraded);
        speech.upgraded(at, self, ears);
        Ok(Some(len))
    }

    fn messages(&mut self, at: u32, bytes: &mut [u8], ears: &mut Ears<'_>) {
        // Taken out, because an event borrows it while the rest of the client handles the event.
        let mut decoder = std::mem::replace(&mut self.clients[at as usize].decoder, decoder());
        let (speech, mut from) = (ears.voice.speech, 0);
        loop {
            match decoder.next(bytes, &mut from) {
                Ok(None) => break,
                Ok(Some(ws::Event::Message { kind, payload })) => speech.message(kind, payload, at, self, ears),
                Ok(Some(ws::Event::Ping(payload))) => ears.voice.pong(payload, ears.out),
                Ok(Some(ws::Event::Pong(_))) => {
                    if speech.heartbeat() == Heartbeat::Ping {
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

    /// Frames without WebSocket. What is cut is kept until the rest of it comes.
    fn stream(&mut self, at: u32, bytes: &[u8], ears: &mut Ears<'_>) {
        let kept = self.halves.remove(&at).map(|mut half| {
            half.extend_from_slice(bytes);
            half
        });
        let bytes = kept.as_deref().unwrap_or(bytes);
        let (whole, cut) = match whole(bytes) {
            Some(len) => bytes.split_at(len),
            None => return ears.heard.push(Heard::Failed("a frame that is too large".to_owned())),
        };
        if !cut.is_empty() {
            self.halves.insert(at, cut.to_vec());
        }
        let speech = ears.voice.speech;
        speech.message(MessageKind::Binary, whole, at, self, ears);
    }

    /// A heartbeat was answered; who sent none hears nothing.
    pub(super) fn pong(&mut self, at: u32, ears: &mut Ears<'_>) {
        if self.clients[at as usize].has(Client::AWAITS_PONG) {
            ears.heard.push(Heard::Pong);
        }
    }

    /// The answer was counted.
    pub(crate) fn answered(&mut self, at: u32) {
        self.clients[at as usize].set(Client::AWAITS_PONG, false);
    }

    /// The channel has one writer, so the n-th entry holds its n-th message.
    pub(super) fn arrived(&mut self, at: u32, seq: u32, stamp: Stamp) -> Heard {
        let client = &mut self.clients[at as usize];
        if stamp.sender != 0 || stamp.serial != seq - 1 || !client.has(Client::SUBSCRIBED) {
            return Heard::Garbled;
        }
        Heard::Pushed { stamp, arrival: client.arrived(seq) }
    }

    /// A text to everybody, of a server that numbers nothing: its serial stands for the seq.
    pub(super) fn told(&mut self, at: u32, text: &[u8], ears: &mut Ears<'_>) {
        let heard = match body::read(text, ears.voice.body_bytes) {
            Some(stamp) if stamp.serial < Client::ANY_SEQ - 1 => self.arrived(at, stamp.serial + 1, stamp),
            _ => Heard::Garbled,
        };
        ears.heard.push(heard);
    }

    /// A text that was sent back.
    pub(super) fn echoed(&mut self, at: u32, text: &[u8], ears: &mut Ears<'_>) {
        let number = self.number(at);
        let client = &mut self.clients[at as usize];
        if !client.has(Client::AWAITS_ECHO) {
            return ears.heard.push(Heard::Other);
        }
        let heard = match body::read(text, ears.voice.body_bytes) {
            Some(stamp) if stamp.sender == number && stamp.serial == client.seq => {
                client.set(Client::AWAITS_ECHO, false);
                client.seq = client.seq.wrapping_add(1);
                Heard::Echoed(stamp)
            }
            _ => Heard::Garbled,
        };
        ears.heard.push(heard);
    }
}

/// How many bytes of `bytes` are whole frames, each with its length before it. `None`: one is larger than a server may send.
fn whole(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    loop {
        let mut peek = rest;
        // A length that is cut, or none: what is none is found out once ten bytes of it are there.
        let Some(len) = entry::varint(&mut peek) else {
            return (rest.len() < VARINT_BYTES_MAX).then_some(bytes.len() - rest.len());
        };
        let len = usize::try_from(len).ok().filter(|len| *len <= SERVER_FRAME_BYTES_MAX)?;
        match peek.get(len..) {
            Some(behind) => rest = behind,
            None => return Some(bytes.len() - rest.len()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_whole_and_lengths_that_cannot_be_are_found_out() {
        let large = [0x80, 0x80, 0x80, 0x80, 0x01, 0, 0];
        for (name, bytes, want) in [
            ("nothing", &b""[..], Some(0)),
            ("one", b"\x02hi", Some(3)),
            ("one and a cut one", b"\x02hi\x03he", Some(3)),
            ("a cut length", b"\x02hi\x80", Some(3)),
            ("empty ones", b"\0\0", Some(2)),
            ("too large", &large, None),
            ("no length at all", &[0xff; 10], None),
        ] {
            assert_eq!(whole(bytes), want, "{name}");
        }
    }
}
