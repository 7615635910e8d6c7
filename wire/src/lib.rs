//! Bytes to frames and back: the Roost protocol.
//!
//! Everything a peer can send or be sent is defined here, and nothing else: message types (compiled from
//! `proto/roost.proto`), their two encodings ([`Encoding`]), ids, codes, limits, and RFC 6455 framing ([`ws`]).
//!
//! Invariants:
//! - no I/O, no clock, no async, no unsafe code;
//! - bytes of a peer never panic: they become a frame or a [`FrameError`];
//! - "not enough bytes yet" is `Ok(None)`, never an error.
#![forbid(unsafe_code)]

pub mod code;
pub mod encoding;
pub mod id;
pub mod json;
pub mod limits;
pub mod link;
pub mod native;
pub mod ws;

/// The message types of `proto/roost.proto`; the comments come from there.
#[allow(missing_docs, clippy::doc_markdown)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/roost.v1.rs"));
}

pub use code::{CloseCode, ErrorCode};
pub use encoding::{Encoding, FrameError};
pub use id::{ConvId, IdError, UserId};
pub use pb::frame::Body as FrameBody;

/// An entry's number in its conversation: 1, 2, 3… without gaps. 0 stands before the first.
pub type Seq = u64;
