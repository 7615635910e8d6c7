//! What a client says. Everything that is the same for all of them is here once; nothing of it belongs to a client.

use bytes::{BufMut as _, BytesMut};
use roost_wire::ws::{self, MessageKind, handshake};
use roost_wire::{Encoding, FrameBody, pb};

use super::dialect::{Heartbeat, Speech, speech};
use super::token::Minter;
use crate::client::body::{self, Stamp};
use crate::scenario::Dialect;

/// `rid` of CONNECT and of SUBSCRIBE; those of PUBLISH follow.
pub(super) const CONNECT_RID: u64 = 1;
pub(super) const SUBSCRIBE_RID: u64 = 2;
pub(super) const PUBLISH_RID: u64 = 3;

/// How clients enter.
#[derive(Debug)]
pub(crate) enum Entry {
    /// With tokens of users of this run.
    Tokens(Box<Minter>),
    /// As guests, new ones each time.
    Guests,
}

/// What all clients of a thread speak with.
#[derive(Debug)]
pub(crate) struct Voice {
    pub(super) speech: &'static dyn Speech,
    /// Frames stand on a stream of QUIC by themselves, without WebSocket.
    pub(super) native: bool,
    /// Of the server: path and `Host` field of the upgrade.
    pub(crate) path: String,
    pub(crate) host: String,
    pub(crate) entry: Entry,
    /// The channel that everybody subscribes to.
    pub(crate) channel: String,
    /// Length of every text.
    pub(crate) body_bytes: usize,
    /// Keys of upgrades and of masks come from it: they only keep proxies from being fooled, so they need not be
    /// secret here.
    pub(crate) seed: u64,
    /// Masks drawn.
    drawn: u64,
    payload: BytesMut,
    text: String,
}

impl Voice {
    pub(crate) fn new(dialect: Dialect, path: String, host: String, entry: Entry, seed: u64) -> Self {
        Self {
            speech: speech(dialect),
            native: false,
            path,
            host,
            entry,
            channel: String::new(),
            body_bytes: body::BODY_BYTES_MIN,
            seed,
            drawn: 0,
            payload: BytesMut::new(),
            text: String::new(),
        }
    }

    /// The same for QUIC.
    pub(crate) fn native(self) -> Self {
        Self { native: true, ..self }
    }

    /// The key of an upgrade: the same again for the same opening of the same client, so that nobody has to keep it.
    pub(super) fn key(&self, client: u32, opening: u8) -> String {
        let number = u64::from(client) << 8 | u64::from(opening);
        let (high, low) = (mixed(self.seed ^ number), mixed(self.seed.rotate_left(32) ^ number));
        handshake::key_from((u128::from(high) << 64 | u128::from(low)).to_ne_bytes())
    }

    /// The request to upgrade.
    ///
    /// # Errors
    /// What is wrong with the path or the host.
    pub(crate) fn upgrade(&self, client: u32, opening: u8, out: &mut BytesMut) -> Result<(), handshake::HeadError> {
        let protocol = self.speech.subprotocol();
        handshake::write_request(&self.path, &self.host, &self.key(client, opening), protocol, None, None, out)
    }

    /// A sign of life that is answered.
    pub(super) fn ping(&mut self, out: &mut BytesMut) {
        let mask = self.mask();
        match self.speech.heartbeat() {
            Heartbeat::Message(_, payload) if self.native => out.put_slice(payload),
            Heartbeat::Message(kind, payload) => ws::write_client_message(kind, payload, mask, out),
            Heartbeat::Ping => ws::write_ping(b"", Some(mask), out),
        }
    }

    /// A text that a plain server sends back.
    pub(super) fn say(&mut self, stamp: Stamp, out: &mut BytesMut) {
        let mut text = self.sheet();
        body::write(stamp, self.body_bytes, &mut text);
        ws::write_client_message(MessageKind::Text, text.as_bytes(), self.mask(), out);
        self.put_back(text);
    }

    /// An answer to a ping of the server.
    pub(super) fn pong(&mut self, payload: &[u8], out: &mut BytesMut) {
        let mask = self.mask();
        ws::write_pong(payload, Some(mask), out);
    }

    /// Says goodbye; by QUIC the connection does so.
    pub(super) fn close(&mut self, out: &mut BytesMut) {
        if self.native {
            return;
        }
        let mask = self.mask();
        ws::write_close(1000, "", Some(mask), out);
    }

    /// Writes a command of Roost.
    pub(super) fn command(&mut self, rid: u64, body: FrameBody, out: &mut BytesMut) {
        if self.native {
            return Encoding::Protobuf.encode(&pb::Frame { rid, body: Some(body) }, out);
        }
        let mut payload = std::mem::take(&mut self.payload);
        payload.clear();
        Encoding::Protobuf.encode(&pb::Frame { rid, body: Some(body) }, &mut payload);
        let mask = self.mask();
        out.reserve(payload.len() + ws::HEADER_BYTES_MAX);
        ws::write_client_message(MessageKind::Binary, &payload, mask, out);
        self.payload = payload;
    }

    /// An empty text to write into, which is to be [put back](Self::put_back).
    pub(super) fn sheet(&mut self) -> String {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        text
    }

    /// Keeps the memory of a text for the next one.
    pub(super) fn put_back(&mut self, text: String) {
        self.text = text;
    }

    /// The mask of a frame.
    pub(super) fn mask(&mut self) -> [u8; 4] {
        self.drawn += 1;
        (mixed(self.seed.wrapping_add(self.drawn)) as u32).to_ne_bytes()
    }
}

/// Numbers that look like chance (splitmix64).
pub(super) const fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A buffer to write into, of a usual size.
pub(crate) fn sheet() -> BytesMut {
    let mut sheet = BytesMut::with_capacity(4096);
    sheet.put_slice(b"");
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_between_clients_and_openings_and_are_made_again() {
        let voice = Voice::new(Dialect::Plain, "/".into(), "h".into(), Entry::Guests, 7);
        let keys = [(0, 0), (0, 1), (1, 0), (1, 1), (256, 0)].map(|(client, opening)| voice.key(client, opening));
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys[..at].contains(key));
        }
        assert_eq!(keys[1], voice.key(0, 1));
    }
}
