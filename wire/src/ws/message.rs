//! Frames to messages: RFC 6455 §5.4, §5.5, §8.1; compressed ones: RFC 7692 §6.

use std::ops::Range;

use super::close::{self, CloseBody};
use super::header::{HEADER_BYTES_MAX, Header, OpCode};
use super::{Inflater, MessageKind, Side, WsError, mask};
use crate::limits::{FRAGMENT_BYTES_MEAN_MIN, MESSAGE_FRAGMENTS_MAX};

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
/// place and lent from there; only one that is cut by the end of the input, or comes in fragments, is copied.
/// A compressed message is kept compressed until it is whole, and then inflated by an [`Inflater`] that is lent for it:
/// a half-received message owns what arrived of it and no more.
///
/// Invariants: `partial` is `Some` only while something is half received or lent. Memory grows with the bytes that
/// arrived, never with a length that was only announced, and stays within the limit.
///
/// ```
/// use roost_wire::ws::{Decoder, Event, MessageKind, Side};
///
/// let mut decoder = Decoder::new(Side::Client, 1024);
/// let mut input = *b"\x81\x05Hello\x89\x00"; // RFC 6455 §5.7: a text message; then an empty ping
/// let mut at = 0;
/// let mut seen = Vec::new();
/// while let Some(event) = decoder.next(&mut input, &mut at)? {
///     match event {
///         Event::Message { kind: MessageKind::Text, payload } => seen.push(payload.to_vec()),
///         Event::Ping(payload) => seen.push(payload.to_vec()), // and a pong is due
///         _ => {}
///     }
/// }
/// assert_eq!(seen, [b"Hello".to_vec(), vec![]]);
/// assert!(decoder.is_idle());
/// # Ok::<(), roost_wire::ws::WsError>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
    message_bytes_max: u32,
    side: Side,
    deflate: bool,
}

// One per session: a node holds a million.
const _: () = assert!(size_of::<Decoder>() <= 16);

/// What is half received.
#[derive(Debug, Default)]
struct Partial {
    /// The front of a header that was cut.
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
    /// The frame whose payload is coming in.
    frame: Option<Incoming>,
    /// The message its data belongs to: it may span frames.
    message: Option<Message>,
    /// The payload so far of a control frame.
    control: Vec<u8>,
    /// What the last event borrowed: let go at the next call.
    lent: Option<OpCode>,
}

#[derive(Debug)]
struct Incoming {
    opcode: OpCode,
    fin: bool,
    /// The masking key, turned so that its first byte is for the next byte to come.
    key: Option<[u8; 4]>,
    bytes_left: usize,
}

#[derive(Debug)]
struct Message {
    kind: MessageKind,
    /// As it came: compressed messages are inflated once they are whole.
    payload: Vec<u8>,
    compressed: bool,
    /// How much of a text is known to be UTF-8; at most three bytes of a character that is not complete may follow.
    utf8_len: usize,
    fragments: u32,
}

/// What one step of the decoder came to.
enum Step {
    /// The input is used up.
    More,
    /// A frame ended, but no message did.
    Again,
    /// A whole payload, unmasked in the input.
    InPlace(OpCode, Range<usize>),
    /// A payload put together in `partial`.
    Copied(OpCode),
    /// A compressed message, unmasked in the input.
    CompressedInPlace(MessageKind, Range<usize>),
    /// A compressed message put together in `partial`.
    CompressedCopied(MessageKind),
}

impl Decoder {
    /// A decoder for `side`, refusing messages above `message_bytes_max` (at most 4 GiB - 1).
    #[must_use]
    pub fn new(side: Side, message_bytes_max: usize) -> Self {
        let message_bytes_max = u32::try_from(message_bytes_max).unwrap_or(u32::MAX);
        Self { partial: None, message_bytes_max, side, deflate: false }
    }

    /// The same for a connection that has agreed on permessage-deflate: messages may come compressed, and the limit
    /// holds for what they are once inflated. Use it with [`Decoder::next_inflating`].
    #[must_use]
    pub fn with_deflate(side: Side, message_bytes_max: usize) -> Self {
        Self { deflate: true, ..Self::new(side, message_bytes_max) }
    }

    /// Refuses messages above `message_bytes_max` from now on; one that is half received counts by the new limit.
    pub fn limit(&mut self, message_bytes_max: usize) {
        self.message_bytes_max = u32::try_from(message_bytes_max).unwrap_or(u32::MAX);
    }

    /// Takes bytes from `input[*at..]` until they make an event; moves `at` past what was taken.
    ///
    /// Returns `None` once `input` is used up without another event: call again with the bytes that follow, `at`
    /// being 0 again. `input` is unmasked in place, so the bytes before `at` are not to be given a second time. What
    /// an event borrows is let go at the next call: call until `None`.
    ///
    /// # Errors
    /// [`WsError`]: the connection is to be closed with its code; the decoder must not be used again. A compressed
    /// message is [`WsError::Deflate`]: nothing is here to inflate it.
    pub fn next<'a>(&'a mut self, input: &'a mut [u8], at: &mut usize) -> Result<Option<Event<'a>>, WsError> {
        self.next_event(input, at, None)
    }

    /// The same as [`Decoder::next`], for a connection that has agreed on permessage-deflate: compressed messages are
    /// inflated by `inflater`, and lent from there. It may serve another connection once this call returned `None`.
    ///
    /// # Errors
    /// [`WsError`]: the connection is to be closed with its code; the decoder must not be used again.
    pub fn next_inflating<'a>(
        &'a mut self,
        input: &'a mut [u8],
        at: &mut usize,
        inflater: &'a mut Inflater,
    ) -> Result<Option<Event<'a>>, WsError> {
        inflater.forget();
        self.next_event(input, at, Some(inflater))
    }

    fn next_event<'a>(
        &'a mut self,
        input: &'a mut [u8],
        at: &mut usize,
        inflater: Option<&'a mut Inflater>,
    ) -> Result<Option<Event<'a>>, WsError> {
        self.let_go();
        let max = self.message_bytes_max as usize;
        loop {
            match self.step(input, at)? {
                Step::More => return Ok(None),
                Step::Again => {}
                Step::InPlace(opcode, range) => return event(opcode, &input[range]).map(Some),
                Step::Copied(opcode) => return event(opcode, self.lend(opcode)).map(Some),
                Step::CompressedInPlace(kind, range) => {
                    let payload = inflater.ok_or(WsError::Deflate)?.inflate(kind, &input[range], max)?;
                    return Ok(Some(Event::Message { kind, payload }));
                }
                Step::CompressedCopied(kind) => {
                    let payload = inflater.ok_or(WsError::Deflate)?.inflate(kind, &self.take_message(), max)?;
                    return Ok(Some(Event::Message { kind, payload }));
                }
            }
        }
    }

    /// Passes over whatever comes before the peer's close frame, without inflating anything. True: it has come, and
    /// nothing after it counts.
    ///
    /// # Errors
    /// [`WsError`]: no close frame will come; the decoder must not be used again.
    pub fn next_close(&mut self, input: &mut [u8], at: &mut usize) -> Result<bool, WsError> {
        self.let_go();
        loop {
            let event = match self.step(input, at)? {
                Step::More => return Ok(false),
                Step::InPlace(opcode, range) => event(opcode, &input[range])?,
                Step::Copied(opcode) => event(opcode, self.lend(opcode))?,
                Step::CompressedCopied(_) => {
                    self.take_message();
                    continue;
                }
                Step::Again | Step::CompressedInPlace(..) => continue,
            };
            if matches!(event, Event::Close(_)) {
                return Ok(true);
            }
            self.let_go();
        }
    }

    /// True if no message or frame is half received, and no event still lent: the decoder then owns no memory.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    fn step(&mut self, input: &mut [u8], at: &mut usize) -> Result<Step, WsError> {
        if self.partial.as_ref().is_none_or(|partial| partial.frame.is_none()) {
            let Some(header) = self.header(input, at)? else { return Ok(Step::More) };
            let bytes_left = self.check(&header)?;
            let whole = header.opcode.is_control() || (header.fin && header.opcode != OpCode::Continuation);
            if whole && input.len() - *at >= bytes_left {
                let range = *at..*at + bytes_left;
                *at = range.end;
                if let Some(key) = header.mask {
                    mask::apply(&mut input[range.clone()], key, 0);
                }
                if let (true, Some(kind)) = (header.compressed, header.opcode.message_kind()) {
                    return Ok(Step::CompressedInPlace(kind, range));
                }
                if header.opcode == OpCode::Text {
                    simdutf8::basic::from_utf8(&input[range.clone()]).map_err(|_| WsError::NotUtf8)?;
                }
                return Ok(Step::InPlace(header.opcode, range));
            }
            let partial = self.partial.get_or_insert_default();
            partial.begin(&header, bytes_left);
        }
        let Some(partial) = &mut self.partial else { return Ok(Step::Again) };
        partial.payload(input.get_mut(*at..).unwrap_or_default(), at, self.message_bytes_max)
    }

    /// Reads a header from the input, or from what is kept of it and the input. `None`: it is cut, and kept.
    fn header(&mut self, input: &[u8], at: &mut usize) -> Result<Option<Header>, WsError> {
        let rest = input.get(*at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let (kept, mut bytes) = self
            .partial
            .as_ref()
            .map_or((0, [0; HEADER_BYTES_MAX]), |partial| (usize::from(partial.header_len), partial.header));
        if kept == 0
            && let Some((header, len)) = Header::decode_with(rest, self.side, self.deflate)?
        {
            *at += len;
            return Ok(Some(header));
        }
        let more = rest.len().min(HEADER_BYTES_MAX - kept);
        bytes[kept..kept + more].copy_from_slice(&rest[..more]);
        let found = Header::decode_with(&bytes[..kept + more], self.side, self.deflate)?;
        if let Some((header, len)) = found {
            // Without the first `kept` bytes it was no header, so it ends behind them.
            *at += len - kept;
            self.forget_header();
            return Ok(Some(header));
        }
        *at += more;
        let partial = self.partial.get_or_insert_default();
        partial.header = bytes;
        partial.header_len = (kept + more) as u8;
        Ok(None)
    }

    /// Whether a frame may stand here: §5.4, and our limits. Returns the length of its payload.
    fn check(&self, header: &Header) -> Result<usize, WsError> {
        let message = self.partial.as_ref().and_then(|partial| partial.message.as_ref());
        let (before, fragments, compressed) = match (header.opcode, message) {
            (OpCode::Close | OpCode::Ping | OpCode::Pong, _) => (0, 0, false),
            (OpCode::Text | OpCode::Binary, None) => (0, 0, header.compressed),
            (OpCode::Continuation, Some(message)) => {
                (message.payload.len() as u64, message.fragments, message.compressed)
            }
            (OpCode::Continuation, None) | (OpCode::Text | OpCode::Binary, Some(_)) => {
                return Err(WsError::Fragmentation);
            }
        };
        if fragments >= MESSAGE_FRAGMENTS_MAX.max(self.message_bytes_max / FRAGMENT_BYTES_MEAN_MIN) {
            return Err(WsError::TooManyFragments);
        }
        let max = payload_bytes_max(self.message_bytes_max, compressed);
        let len = before.saturating_add(header.len);
        if len > max && !header.opcode.is_control() {
            return Err(WsError::TooLarge { len, max });
        }
        Ok(header.len as usize)
    }

    fn forget_header(&mut self) {
        if let Some(partial) = &mut self.partial {
            partial.header_len = 0;
            if partial.message.is_none() {
                self.partial = None;
            }
        }
    }

    fn let_go(&mut self) {
        if let Some(partial) = &mut self.partial
            && let Some(opcode) = partial.lent.take()
        {
            if opcode.is_control() && partial.message.is_some() {
                partial.control = Vec::new();
            } else {
                self.partial = None;
            }
        }
    }

    /// The payload of a message that is whole. Nothing else is half received then.
    fn take_message(&mut self) -> Vec<u8> {
        self.partial.take().and_then(|partial| partial.message).map(|message| message.payload).unwrap_or_default()
    }

    fn lend(&mut self, opcode: OpCode) -> &[u8] {
        let Some(partial) = &mut self.partial else { return &[] };
        partial.lent = Some(opcode);
        match &partial.message {
            Some(message) if !opcode.is_control() => &message.payload,
            _ => &partial.control,
        }
    }
}

impl Partial {
    fn begin(&mut self, header: &Header, bytes_left: usize) {
        self.frame = Some(Incoming { opcode: header.opcode, fin: header.fin, key: header.mask, bytes_left });
        if let Some(kind) = header.opcode.message_kind() {
            let compressed = header.compressed;
            self.message = Some(Message { kind, payload: Vec::new(), compressed, utf8_len: 0, fragments: 0 });
        }
        if let (false, Some(message)) = (header.opcode.is_control(), &mut self.message) {
            message.fragments += 1;
        }
    }

    /// Takes what `rest` holds of the frame's payload.
    fn payload(&mut self, rest: &mut [u8], at: &mut usize, message_bytes_max: u32) -> Result<Step, WsError> {
        let Some(frame) = &mut self.frame else { return Ok(Step::Again) };
        let taken = rest.len().min(frame.bytes_left);
        let data = &mut rest[..taken];
        *at += taken;
        frame.bytes_left -= taken;
        if let Some(key) = &mut frame.key {
            let phase = mask::apply(data, *key, 0);
            key.rotate_left(phase);
        }
        let message = match &mut self.message {
            Some(message) if !frame.opcode.is_control() => message,
            _ => {
                self.control.extend_from_slice(data);
                if frame.bytes_left > 0 {
                    return Ok(Step::More);
                }
                let opcode = frame.opcode;
                self.frame = None;
                return Ok(Step::Copied(opcode));
            }
        };
        // The last frame tells how long the message is; before it only the limit is known.
        let whole = if frame.fin {
            message.payload.len() + taken + frame.bytes_left
        } else {
            payload_bytes_max(message_bytes_max, message.compressed) as usize
        };
        message.push(data, whole)?;
        if frame.bytes_left > 0 {
            return Ok(Step::More);
        }
        let fin = frame.fin;
        self.frame = None;
        if !fin {
            return Ok(Step::Again);
        }
        if message.compressed {
            return Ok(Step::CompressedCopied(message.kind));
        }
        if message.kind == MessageKind::Text && message.utf8_len < message.payload.len() {
            return Err(WsError::NotUtf8);
        }
        Ok(Step::Copied(message.kind.into()))
    }
}

impl Message {
    /// Adds `data`, growing by doubling but never beyond `whole` bytes.
    fn push(&mut self, data: &[u8], whole: usize) -> Result<(), WsError> {
        let len = self.payload.len() + data.len();
        if len > self.payload.capacity() {
            let capacity = (2 * self.payload.capacity()).min(whole).max(len);
            self.payload.reserve_exact(capacity - self.payload.len());
        }
        self.payload.extend_from_slice(data);
        if self.kind == MessageKind::Text && !self.compressed {
            self.utf8_len += utf8_prefix(&self.payload[self.utf8_len..])?;
        }
        Ok(())
    }
}

/// Most bytes that frames may bring for a message of `message_bytes_max`. What cannot be compressed grows when it is:
/// by no more than the bound that zlib gives for every setting of a compressor.
const fn payload_bytes_max(message_bytes_max: u32, compressed: bool) -> u64 {
    let max = message_bytes_max as u64;
    if compressed { max + max.div_ceil(8) + max.div_ceil(64) + 16 } else { max }
}

/// How many bytes of `text` are whole characters. What follows may yet become one: else it is an error, told before
/// the rest of the frame is in.
pub(super) fn utf8_prefix(text: &[u8]) -> Result<usize, WsError> {
    match simdutf8::compat::from_utf8(text) {
        Ok(_) => Ok(text.len()),
        Err(error) if error.error_len().is_none() => Ok(error.valid_up_to()),
        Err(_) => Err(WsError::NotUtf8),
    }
}

/// The event of a whole payload, whose text is known to be UTF-8.
fn event(opcode: OpCode, payload: &[u8]) -> Result<Event<'_>, WsError> {
    Ok(match opcode {
        OpCode::Text => Event::Message { kind: MessageKind::Text, payload },
        OpCode::Binary | OpCode::Continuation => Event::Message { kind: MessageKind::Binary, payload },
        OpCode::Ping => Event::Ping(payload),
        OpCode::Pong => Event::Pong(payload),
        OpCode::Close => Event::Close(close::decode(payload)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacity(decoder: &Decoder) -> usize {
        let message = decoder.partial.as_ref().and_then(|partial| partial.message.as_ref());
        message.map_or(0, |message| message.payload.capacity())
    }

    #[test]
    fn memory_follows_what_arrived_and_not_what_was_announced() {
        let mut decoder = Decoder::new(Side::Client, 1 << 20);
        // A binary message of 64 KiB is announced; 10 bytes of it come.
        let mut input = b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x000123456789".to_vec();
        assert_eq!(decoder.next(&mut input, &mut 0), Ok(None));
        assert!((10..=64).contains(&capacity(&decoder)), "{} B", capacity(&decoder));
        for _ in 0..(65_536 - 10) / 2 {
            assert!(decoder.next(&mut [0, 0], &mut 0).is_ok());
            assert!(capacity(&decoder) <= 65_536);
        }
        assert!(!decoder.is_idle(), "the message is lent");
        assert_eq!(decoder.next(&mut [], &mut 0), Ok(None));
        assert!(decoder.is_idle());
    }

    #[test]
    fn fragments_never_grow_a_buffer_beyond_the_limit() {
        let mut decoder = Decoder::new(Side::Client, 1000);
        let mut begin = [&[0x02, 100][..], &[7; 100]].concat();
        let mut more = [&[0x00, 100][..], &[7; 100]].concat();
        assert_eq!(decoder.next(&mut begin, &mut 0), Ok(None));
        for _ in 0..9 {
            assert_eq!(decoder.next(&mut more, &mut 0), Ok(None));
            assert!(capacity(&decoder) <= 1000);
        }
        assert_eq!(decoder.next(&mut more, &mut 0), Err(WsError::TooLarge { len: 1100, max: 1000 }));
    }
}
