//! Frames of a usual size, as clients and servers send them.

use std::sync::Arc;

use bytes::BytesMut;
use roost_wire::link::{Envelope, Lane};
use roost_wire::pb::{Body, Entry, Frame, Page, Send};
use roost_wire::{Encoding, FrameBody, ws};

/// Bytes of text in the bodies of all frames here.
pub const TEXT_BYTES: usize = 128;
/// The conversation of all frames here; as long as a real id.
pub const CONV: &str = "c_01ARZ3NDEKTSV4RRFFQ69G5FAV";
/// Their sender.
pub const USER: &str = "u_01BX5ZZKBKACTAV9WEVGEMMVRY";
/// Their client message id: a UUIDv7.
pub const CMID: &str = "019a5b0e-7c1f-7d35-b3a7-6f2d9c8e1b04";

/// A body with [`TEXT_BYTES`] of text.
#[must_use]
pub fn body() -> Body {
    Body {
        text: "The quick brown fox jumps over the lazy dog. ".chars().cycle().take(TEXT_BYTES).collect(),
        event: None,
    }
}

/// SEND, as a client sends it.
#[must_use]
pub fn send() -> Frame {
    let send = Send { conv: CONV.into(), cmid: CMID.into(), body: Some(body()), attempt: 0, seen: None };
    Frame { rid: 4711, body: Some(FrameBody::Send(send)) }
}

/// ENTRY, as a server pushes it.
#[must_use]
pub fn entry(conv: &str, seq: u64) -> Entry {
    Entry { conv: conv.into(), seq, from: USER.into(), cmid: CMID.into(), ts: 1_790_000_000_000, body: Some(body()) }
}

/// [`entry`] as a frame.
#[must_use]
pub fn entry_frame() -> Frame {
    Frame { rid: 0, body: Some(FrameBody::Entry(entry(CONV, 123_456))) }
}

/// PAGE of `entries` entries, as a server answers HISTORY.
#[must_use]
pub fn page(entries: u64) -> Frame {
    let page = Page { conv: CONV.into(), entries: (1..=entries).map(|seq| entry(CONV, seq)).collect(), head: entries };
    Frame { rid: 4711, body: Some(FrameBody::Page(page)) }
}

/// [`entry`] on its way from router to edge.
#[must_use]
pub fn envelope(conv: &str, seq: u64) -> Arc<Envelope> {
    Envelope::new(Lane::Durable, FrameBody::Entry(entry(conv, seq)))
}

/// A whole masked WebSocket message with `frame` in it, as a client sends it.
#[must_use]
pub fn client_message(encoding: Encoding, frame: &Frame) -> BytesMut {
    let (mut payload, mut message) = (BytesMut::new(), BytesMut::new());
    encoding.encode(frame, &mut payload);
    ws::write_client_message(encoding.message_kind(), &payload, KEY, &mut message);
    message
}

/// The masking key of all messages here.
pub const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
