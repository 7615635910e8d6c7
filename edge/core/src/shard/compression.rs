//! permessage-deflate for the sessions of a shard: RFC 7692.
//!
//! The state belongs to the shard and is lent for one message, so a session owns none of it. It is made when the first
//! session needs it. Fan-out shares what an envelope compressed once; replies are compressed one by one.

use bytes::Bytes;
use roost_wire::FrameBody;
use roost_wire::link::{Envelope, SessionKey};
use roost_wire::ws::{Deflate, Deflater, Inflater, MessageKind, payload_of};

use super::Shard;
use crate::ShardMetrics;
use crate::session::{Connection, Session};

/// What compresses and inflates for all sessions of a shard.
#[derive(Debug, Default)]
pub(super) struct Codec {
    /// `None` until it is needed, and while it is lent.
    pub(super) inflater: Option<Inflater>,
    deflater: Option<Deflater>,
}

impl Codec {
    /// The message of a push for one session: compressed if it agreed on that and it is worth it.
    pub(super) fn push<'a>(&mut self, session: &Session, envelope: &'a Envelope) -> &'a Bytes {
        let plain = envelope.message(session.encoding);
        match session.deflate {
            Some(deflate) if deflate.admits(payload_of(plain).len()) => {
                let deflater = self.deflater.get_or_insert_default();
                envelope.compressed(session.encoding, deflater).unwrap_or(plain)
            }
            _ => plain,
        }
    }

    /// A message for one session alone, compressed if that is worth it. `None`: it is to be sent as it is.
    fn message(
        &mut self,
        deflate: Deflate,
        kind: MessageKind,
        payload: &[u8],
        metrics: &ShardMetrics,
    ) -> Option<Bytes> {
        if !deflate.admits(payload.len()) {
            return None;
        }
        let message = self.deflater.get_or_insert_default().server_message(kind, payload)?;
        metrics.messages_deflated(1);
        metrics.deflate_bytes_saved(payload.len().saturating_sub(message.len()) as u64);
        Some(message)
    }
}

/// Whether a frame has something in it that an eavesdropper must not guess by its length (CRIME, BREACH).
const fn holds_secret(body: Option<&FrameBody>) -> bool {
    matches!(body, Some(FrameBody::Welcome(_)))
}

impl Shard {
    /// A payload for one session, compressed if it agreed on that and it is worth it.
    pub(super) fn compressed(&mut self, key: SessionKey, kind: MessageKind, payload: &[u8]) -> Option<Bytes> {
        let deflate = self.slots.get(key).and_then(Connection::session)?.deflate?;
        self.codec.message(deflate, kind, payload, &self.metrics)
    }

    /// A reply for one session: `plain`, or the same compressed.
    pub(super) fn compressed_reply(&mut self, key: SessionKey, body: Option<&FrameBody>, plain: Bytes) -> Bytes {
        let Some(session) = self.slots.get(key).and_then(Connection::session) else { return plain };
        let kind = session.encoding.message_kind();
        if session.deflate.is_none() || holds_secret(body) {
            return plain;
        }
        self.compressed(key, kind, payload_of(&plain)).unwrap_or(plain)
    }
}
