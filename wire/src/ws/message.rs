//! Frames to messages: RFC 6455 §5.4, §5.5, §8.1.

use super::close::CloseBody;
use super::{MessageKind, Side, WsError};

/// What a peer said.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole message. Text is valid UTF-8.
    Message {
        /// Text or binary.
        kind: MessageKind,
        /// Its payload, unmasked.
        payload: &'a [u8],
    },
    /// Answer with a pong of the same payload (§5.5.2).
    Ping(&'a [u8]),
    /// An answer to a ping, or a sign of life (§5.5.3).
    Pong(&'a [u8]),
    /// The peer closes (§5.5.1). Nothing after it counts.
    Close(Option<CloseBody<'a>>),
}

/// Turns the bytes of one connection into events.
///
/// It owns no buffer while the peer is silent between messages: a message that lies whole in the input is unmasked in
/// place and lent from there; only one that is cut by the end of the input is copied.
#[derive(Debug)]
pub struct Decoder {
    _side: Side,
}

impl Decoder {
    /// A decoder for `side`, refusing messages above `message_bytes_max`.
    #[must_use]
    pub fn new(side: Side, _message_bytes_max: usize) -> Self {
        Self { _side: side }
    }

    /// Takes bytes from the front of `input` until they make an event; moves `input` past what was taken.
    ///
    /// Returns `None` once `input` is used up without another event: call again when more bytes are in.
    ///
    /// # Errors
    /// [`WsError`]: the connection is to be closed with its code; the decoder must not be used again.
    pub fn next<'a>(&'a mut self, _input: &mut &'a mut [u8]) -> Result<Option<Event<'a>>, WsError> {
        todo!()
    }

    /// True if no message or frame is half received: the decoder then owns no memory.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        todo!()
    }
}
