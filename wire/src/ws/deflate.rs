//! Compressing messages: RFC 7692 §7.2.1.

use bytes::{Bytes, BytesMut};
use miniz_oxide::DataFormat;
use miniz_oxide::deflate::core::{CompressionStrategy, CompressorOxide, TDEFLFlush, TDEFLStatus, compress};

use super::header::Header;
use super::{HEADER_BYTES_MAX, MessageKind};

/// How hard it looks for repetitions, of 10: docs/adr/0010 says why.
const LEVEL: u8 = 4;
/// Window of what we compress: the largest there is (§7.1.2.1).
const WINDOW_BITS: u8 = 15;
/// Memory kept for the next message; what a larger one took is given back after it.
const KEPT_BYTES_MAX: usize = 64 * 1024;
/// The end of a flushed stream, which is left out (§7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Compresses messages, one after another, into memory of its own.
///
/// One for many connections: nothing is carried from one message to the next (`server_no_context_takeover`, §7.1.1.1),
/// so a message is compressed once for all who get it.
///
/// ```
/// use roost_wire::ws::{Deflater, Inflater, MessageKind};
///
/// let text = b"never, never, never, never, never";
/// let compressed = Deflater::new().compress(text).expect("it repeats itself").to_vec();
/// assert!(compressed.len() < text.len());
/// assert_eq!(Inflater::new().inflate(MessageKind::Text, &compressed, 1024)?, text);
/// # Ok::<(), roost_wire::ws::WsError>(())
/// ```
pub struct Deflater {
    state: Box<CompressorOxide>,
    out: Vec<u8>,
}

impl Deflater {
    /// A compressor; it takes some 300 KiB.
    #[must_use]
    pub fn new() -> Self {
        let state = CompressorOxide::with_params(DataFormat::Raw, LEVEL, CompressionStrategy::Default, WINDOW_BITS);
        Self { state: Box::new(state), out: Vec::new() }
    }

    /// Compresses the payload of a message. `None`: it would not become smaller, so it is to be sent as it is.
    pub fn compress(&mut self, payload: &[u8]) -> Option<&[u8]> {
        if self.out.len() > KEPT_BYTES_MAX {
            self.out = Vec::new();
        }
        // What does not fit is not smaller.
        let room = payload.len() + TAIL.len();
        if self.out.len() < room {
            self.out.resize(room, 0);
        }
        self.state.reset();
        let (status, taken, made) = compress(&mut self.state, payload, &mut self.out[..room], TDEFLFlush::Sync);
        if status != TDEFLStatus::Okay || taken < payload.len() || made == room {
            return None;
        }
        self.out[..made].strip_suffix(&TAIL).filter(|compressed| compressed.len() < payload.len())
    }

    /// The whole unmasked WebSocket message, header included, as a server sends it compressed; in a buffer of its own,
    /// to be shared. `None`: it would not become smaller.
    pub fn server_message(&mut self, kind: MessageKind, payload: &[u8]) -> Option<Bytes> {
        let compressed = self.compress(payload)?;
        let mut message = BytesMut::with_capacity(HEADER_BYTES_MAX + compressed.len());
        Header { fin: true, compressed: true, opcode: kind.into(), len: compressed.len() as u64, mask: None }
            .encode(&mut message);
        message.extend_from_slice(compressed);
        Some(message.freeze())
    }
}

impl Default for Deflater {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Deflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deflater").field("kept_bytes", &self.out.len()).finish_non_exhaustive()
    }
}
