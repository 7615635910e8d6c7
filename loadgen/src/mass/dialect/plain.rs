//! No protocol at all: text comes back, and what begins with `!` goes to everybody.

use bytes::BytesMut;
use roost_wire::ws::{self, MessageKind};

use super::Speech;
use crate::client::{Stamp, body};
use crate::mass::client::Client;
use crate::mass::crowd::{Crowd, Heard};
use crate::mass::hear::Ears;
use crate::mass::voice::Voice;

#[derive(Debug)]
pub(super) struct Plain;

impl Speech for Plain {
    fn acknowledges(&self) -> bool {
        false
    }

    fn upgraded(&self, at: u32, crowd: &mut Crowd, ears: &mut Ears<'_>) {
        crowd.goes_live(at);
        ears.heard.push(Heard::Live { heartbeat_ms: 0 });
    }

    fn message(&self, kind: MessageKind, payload: &[u8], at: u32, crowd: &mut Crowd, ears: &mut Ears<'_>) {
        match (kind, payload.strip_prefix(b"!")) {
            (MessageKind::Binary, _) => ears.heard.push(Heard::Other),
            (MessageKind::Text, Some(text)) => crowd.told(at, text, ears),
            (MessageKind::Text, None) => crowd.echoed(at, payload, ears),
        }
    }

    fn subscribe(&self, at: u32, crowd: &mut Crowd, _: &mut Voice, _: &mut BytesMut) {
        // Who is connected hears everything.
        crowd.clients[at as usize].set(Client::SUBSCRIBED, true);
    }

    fn publish(&self, stamp: Stamp, voice: &mut Voice, out: &mut BytesMut) {
        let mut text = voice.sheet();
        text.push('!');
        body::write(stamp, voice.body_bytes, &mut text);
        ws::write_client_message(MessageKind::Text, text.as_bytes(), voice.mask(), out);
        voice.put_back(text);
    }
}
