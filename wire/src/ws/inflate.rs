//! Inflating messages: RFC 7692 §7.2.2.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF as LINEAR,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use super::{MessageKind, WsError};

/// A message grows in steps: this many bytes first, then as many again as there are.
const STEP_BYTES: usize = 16 * 1024;
/// Memory kept for the next message; what a larger one took is given back with it.
const KEPT_BYTES_MAX: usize = 64 * 1024;
/// The end of every message, which the sender leaves out (§7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// A last, empty block of ours behind it. A stream that is whole ends with its last byte and says nothing more; one
/// that was cut inside a block cannot.
const LAST: [u8; 2] = [0x03, 0x00];

/// Inflates compressed messages, one after another, into memory of its own that it lends.
///
/// One for many connections: nothing is carried from one message to the next (`client_no_context_takeover`, §7.1.1.2).
/// What a message may make us do is bounded by its compressed bytes and by the limit of the message inflated.
///
/// ```
/// use roost_wire::ws::{Inflater, MessageKind};
///
/// let mut inflater = Inflater::new();
/// let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]; // RFC 7692 §7.2.3.1
/// assert_eq!(inflater.inflate(MessageKind::Text, &hello, 1024)?, b"Hello");
/// # Ok::<(), roost_wire::ws::WsError>(())
/// ```
pub struct Inflater {
    state: Box<DecompressorOxide>,
    /// The message; what lies behind `len` is of no meaning.
    out: Vec<u8>,
    len: usize,
    /// How much of a text is known to be UTF-8.
    utf8_len: usize,
}

impl Inflater {
    /// An inflater; it takes some 11 KiB, and its messages.
    #[must_use]
    pub fn new() -> Self {
        Self { state: Box::default(), out: Vec::new(), len: 0, utf8_len: 0 }
    }

    /// Inflates the payload of a whole message, its fragments put together.
    ///
    /// # Errors
    /// [`WsError::Inflated`] as soon as more than `message_bytes_max` bytes come out, [`WsError::Deflate`] if it is no
    /// DEFLATE stream or one that was cut, [`WsError::NotUtf8`] as soon as a text is none.
    pub fn inflate(
        &mut self,
        kind: MessageKind,
        compressed: &[u8],
        message_bytes_max: usize,
    ) -> Result<&[u8], WsError> {
        self.forget();
        self.state.init();
        self.run(kind, compressed, TINFL_FLAG_HAS_MORE_INPUT, message_bytes_max)?;
        let len = self.len;
        // Both at once: an empty last block in front of the tail would else be taken for the end.
        let mut end = [0; TAIL.len() + LAST.len()];
        end[..TAIL.len()].copy_from_slice(&TAIL);
        end[TAIL.len()..].copy_from_slice(&LAST);
        let ended = self.run(kind, &end, 0, message_bytes_max)?;
        if !ended || self.len != len {
            return Err(WsError::Deflate);
        }
        if kind == MessageKind::Text && self.utf8_len < self.len {
            return Err(WsError::NotUtf8);
        }
        Ok(self.message())
    }

    /// The message inflated last.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.out[..self.len]
    }

    /// Lets the message go, and the memory of a large one.
    pub fn forget(&mut self) {
        (self.len, self.utf8_len) = (0, 0);
        if self.out.len() > KEPT_BYTES_MAX {
            self.out = Vec::new();
        }
    }

    /// Inflates `input`. True if its last byte ended a stream.
    fn run(&mut self, kind: MessageKind, input: &[u8], flags: u32, max: usize) -> Result<bool, WsError> {
        let mut at = 0;
        loop {
            if self.len == self.out.len() {
                // One byte above the limit, to see whether there is one.
                let step = self.len.clamp(STEP_BYTES, max.max(STEP_BYTES));
                self.out.resize((self.len + step).min(max + 1).max(self.len + 1), 0);
            }
            let (status, taken, made) =
                decompress(&mut self.state, &input[at..], &mut self.out, self.len, flags | LINEAR);
            at += taken;
            self.len += made;
            if self.len > max {
                return Err(WsError::Inflated { max: max as u64 });
            }
            self.check_text(kind)?;
            match status {
                // §7.2.3.5: a block marked as the last is not the end of the message.
                TINFLStatus::Done if at < input.len() => self.state.init(),
                TINFLStatus::Done => {
                    self.state.init();
                    return Ok(true);
                }
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput if flags != 0 => return Ok(false),
                _ => return Err(WsError::Deflate),
            }
        }
    }

    fn check_text(&mut self, kind: MessageKind) -> Result<(), WsError> {
        if kind == MessageKind::Text {
            self.utf8_len += super::message::utf8_prefix(&self.out[self.utf8_len..self.len])?;
        }
        Ok(())
    }
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater").field("kept_bytes", &self.out.len()).finish_non_exhaustive()
    }
}
