//! The two encodings of frames: binary protobuf and JSON.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;

use crate::limits::USERS_PER_COMMAND_MAX;
use crate::pb::Frame;
use crate::ws;
use crate::{CloseCode, ErrorCode, FrameBody};

/// How frames are written on a connection.
///
/// ```
/// use bytes::BytesMut;
/// use roost_wire::pb::{Frame, Get};
/// use roost_wire::{Encoding, FrameBody};
///
/// let get = Frame { rid: 1, body: Some(FrameBody::Get(Get { conv: "c_1".into() })) };
/// let mut payload = BytesMut::new();
/// Encoding::Json.encode(&get, &mut payload);
/// assert_eq!(payload, r#"{"rid":1,"get":{"conv":"c_1"}}"#);
///
/// let mut rest = &payload[..];
/// while let Some(frame) = Encoding::Json.decode(&mut rest)? {
///     assert_eq!(frame, get);
/// }
/// # Ok::<(), roost_wire::FrameError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `roost.v1.pb`: binary messages, each one or more frames with a varint length before each.
    Protobuf,
    /// `roost.v1.json`: text messages, each one JSON object.
    Json,
}

/// Why a message of a peer holds no frame. Needing more bytes is not an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The JSON is broken or has a field of the wrong type. The text names the place, never the content.
    #[error("not a JSON frame: {0}")]
    Json(String),
    /// The bytes are no protobuf message of the schema.
    #[error("not a protobuf frame")]
    Protobuf,
    /// The frame holds no body this version knows. The frames behind it in the same message still count.
    #[error("unknown command")]
    Empty {
        /// The frame's rid, for the answer.
        rid: u64,
    },
    /// A command names more users than [`USERS_PER_COMMAND_MAX`]. The frames behind it in the same message still
    /// count.
    #[error("at most {USERS_PER_COMMAND_MAX} users in one command")]
    TooManyUsers {
        /// The frame's rid, for the answer.
        rid: u64,
    },
}

impl FrameError {
    /// The code to answer with.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Json(_) | Self::Protobuf => ErrorCode::Malformed,
            Self::Empty { .. } => ErrorCode::UnknownCommand,
            Self::TooManyUsers { .. } => ErrorCode::BadField,
        }
    }

    /// The rid to answer with: 0 where none could be read.
    #[must_use]
    pub const fn rid(&self) -> u64 {
        match self {
            Self::Json(_) | Self::Protobuf => 0,
            Self::Empty { rid } | Self::TooManyUsers { rid } => *rid,
        }
    }
}

impl Encoding {
    /// Both, for tables indexed by [`Encoding::index`].
    pub const ALL: [Self; 2] = [Self::Protobuf, Self::Json];

    /// Position in [`Encoding::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Protobuf => 0,
            Self::Json => 1,
        }
    }

    /// The WebSocket sub-protocol.
    #[must_use]
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Protobuf => "roost.v1.pb",
            Self::Json => "roost.v1.json",
        }
    }

    /// The encoding of a sub-protocol; `None` if it is not ours.
    #[must_use]
    pub fn from_subprotocol(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.subprotocol() == name)
    }

    /// The WebSocket message kind that carries it.
    #[must_use]
    pub const fn message_kind(self) -> ws::MessageKind {
        match self {
            Self::Protobuf => ws::MessageKind::Binary,
            Self::Json => ws::MessageKind::Text,
        }
    }

    /// Appends `frame` to `out` as the payload of a WebSocket message. Protobuf frames may follow one another there.
    pub fn encode(self, frame: &Frame, out: &mut BytesMut) {
        match self {
            Self::Protobuf => {
                out.reserve(prost::length_delimiter_len(frame.encoded_len()) + frame.encoded_len());
                // Writing to a BytesMut that grows cannot run out of room.
                frame.encode_length_delimited(out).expect("BytesMut grows");
            }
            Self::Json => serde_json::to_writer(out.writer(), frame).expect("frames have string keys only"),
        }
    }

    /// The whole unmasked WebSocket message, header included, as a server sends it: in a buffer of its own, of exactly
    /// its size, to be shared.
    #[must_use]
    pub fn server_message(self, frame: &Frame) -> Bytes {
        let mut message = BytesMut::with_capacity(256);
        self.write_server_message(frame, &mut message);
        Bytes::copy_from_slice(&message)
    }

    /// Appends the whole unmasked WebSocket message, header included, as a server sends it.
    pub fn write_server_message(self, frame: &Frame, out: &mut BytesMut) {
        // The header tells the length, which for JSON is known only afterwards: leave room for the usual header, and
        // move the payload where another one is due.
        const USUAL: usize = 4;
        let start = out.len();
        out.put_bytes(0, USUAL);
        self.encode(frame, out);
        let len = out.len() - start - USUAL;
        let mut bytes = [0; ws::HEADER_BYTES_MAX];
        let mut room = &mut bytes[..];
        ws::write_message_header(self.message_kind(), len, None, &mut room);
        let header_len = ws::HEADER_BYTES_MAX - room.len();
        out.put_bytes(0, header_len.saturating_sub(USUAL));
        out.copy_within(start + USUAL..start + USUAL + len, start + header_len);
        out[start..start + header_len].copy_from_slice(&bytes[..header_len]);
        out.truncate(start + header_len + len);
    }

    /// Reads the next frame from the front of `payload` (the rest of a WebSocket message) and moves past it.
    ///
    /// Returns `None` once the message is used up, so at once for an empty one. A JSON message holds one frame, a
    /// protobuf message any number. A list of empty strings takes some thirty times its bytes in memory: commands with
    /// lists above [`USERS_PER_COMMAND_MAX`] are errors, so that nobody keeps them.
    ///
    /// # Errors
    /// [`FrameError`]. After [`FrameError::Empty`] and [`FrameError::TooManyUsers`] `payload` is past the frame, and
    /// decoding may go on; after the others it is of no further use.
    pub fn decode(self, payload: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        if payload.is_empty() {
            return Ok(None);
        }
        let frame = match self {
            Self::Protobuf => Frame::decode_length_delimited(payload).map_err(|_| FrameError::Protobuf)?,
            Self::Json => {
                let text = std::mem::take(payload);
                serde_json::from_slice(text).map_err(|error| describe(&error))?
            }
        };
        match &frame.body {
            None => Err(FrameError::Empty { rid: frame.rid }),
            Some(body) if users_named(body) > USERS_PER_COMMAND_MAX => Err(FrameError::TooManyUsers { rid: frame.rid }),
            Some(_) => Ok(Some(frame)),
        }
    }
}

/// How many users a command names.
fn users_named(body: &FrameBody) -> usize {
    match body {
        FrameBody::Create(create) => create.members.len(),
        FrameBody::Members(members) => members.add.len() + members.remove.len() + members.roles.len(),
        FrameBody::Watch(watch) => watch.users.len(),
        FrameBody::Unwatch(unwatch) => unwatch.users.len(),
        _ => 0,
    }
}

/// What serde_json says, without the peer's own text in it.
fn describe(error: &serde_json::Error) -> FrameError {
    let what = match error.classify() {
        serde_json::error::Category::Data => "a field is missing or of the wrong type",
        serde_json::error::Category::Eof => "it ends early",
        _ => "syntax error",
    };
    FrameError::Json(format!("{what} at line {} column {}", error.line(), error.column()))
}

/// The close code for a message of the wrong kind: RFC 6455 §7.4.1, 1003.
pub const WRONG_KIND: CloseCode = CloseCode::Unsupported;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb;

    fn json(text: &str) -> Result<Option<Frame>, FrameError> {
        Encoding::Json.decode(&mut text.as_bytes())
    }

    #[test]
    fn json_has_the_documented_shapes() {
        let sent = Frame {
            rid: 3,
            body: Some(FrameBody::Sent(pb::Sent { conv: "c_1".into(), seq: 1, ts: 1_790_000_000_000, dup: false })),
        };
        let mut out = BytesMut::new();
        Encoding::Json.encode(&sent, &mut out);
        assert_eq!(out, r#"{"rid":3,"sent":{"conv":"c_1","seq":1,"ts":1790000000000,"dup":false}}"#);
        assert_eq!(Encoding::Json.decode(&mut &out[..]), Ok(Some(sent)));
        let create =
            json(r#"{"rid":2,"create":{"kind":"direct","members":["u_bob"],"later":1},"x":{}}"#).unwrap().unwrap();
        let Some(FrameBody::Create(create)) = create.body else { panic!("{create:?}") };
        assert_eq!(create.kind(), pb::Kind::Direct);
    }

    #[test]
    fn json_errors_do_not_repeat_the_peer() {
        for bad in [r#"{"send":{"conv":7}}"#, "{", "[]", r#"{"create":{"kind":"secret"}}"#, r#"{"rid":-1,"ping":{}}"#] {
            let error = json(bad).unwrap_err();
            assert_eq!(error.code(), ErrorCode::Malformed, "{bad}");
            assert!(!error.to_string().contains("secret"));
        }
        assert_eq!(json(r#"{"rid":1}"#), Err(FrameError::Empty { rid: 1 }));
        assert!(json(r#"{"ping":{},"pong":{}}"#).is_err());
    }

    #[test]
    fn protobuf_messages_hold_several_frames() {
        let ping = Frame { rid: 0, body: Some(FrameBody::Ping(pb::Ping {})) };
        let get = Frame { rid: 9, body: Some(FrameBody::Get(pb::Get { conv: "c_1".into() })) };
        let mut out = BytesMut::new();
        Encoding::Protobuf.encode(&ping, &mut out);
        Encoding::Protobuf.encode(&get, &mut out);
        let mut rest = &out[..];
        assert_eq!(Encoding::Protobuf.decode(&mut rest), Ok(Some(ping)));
        assert_eq!(Encoding::Protobuf.decode(&mut rest), Ok(Some(get)));
        assert_eq!(Encoding::Protobuf.decode(&mut rest), Ok(None));
        assert_eq!(Encoding::Protobuf.decode(&mut &[0x05, 0x00][..]), Err(FrameError::Protobuf));
    }

    #[test]
    fn a_command_that_names_too_many_users_is_an_error_with_its_rid() {
        for (count, well) in [(USERS_PER_COMMAND_MAX, true), (USERS_PER_COMMAND_MAX + 1, false)] {
            let members = pb::Members { roles: vec![pb::Member::default(); count], ..pb::Members::default() };
            let frame = Frame { rid: 7, body: Some(FrameBody::Members(members)) };
            let mut out = BytesMut::new();
            Encoding::Protobuf.encode(&frame, &mut out);
            let decoded = Encoding::Protobuf.decode(&mut &out[..]);
            let error = FrameError::TooManyUsers { rid: 7 };
            assert_eq!(decoded, if well { Ok(Some(frame)) } else { Err(error) });
        }
    }
}
