//! The header of a frame: RFC 6455 §5.2.

use bytes::BufMut;

use super::{MessageKind, Side, WsError};

/// Longest header: 2 bytes, 8 of length, 4 of mask.
pub const HEADER_BYTES_MAX: usize = 14;
/// Longest payload of a control frame (§5.5).
pub const CONTROL_BYTES_MAX: usize = 125;
/// Given a meaning by permessage-deflate (RFC 7692 §6).
const RSV1: u8 = 0x40;
/// Without a meaning.
const RSV2_RSV3: u8 = 0x30;

/// What a frame is (§5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OpCode {
    /// More of the message begun before.
    Continuation = 0,
    /// A text message begins.
    Text = 1,
    /// A binary message begins.
    Binary = 2,
    /// The peer closes.
    Close = 8,
    /// Answer with a pong.
    Ping = 9,
    /// An answer, or a sign of life.
    Pong = 10,
}

impl OpCode {
    /// Close, ping and pong.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self as u8 >= 8
    }

    /// The kind of message that begins with it; `None` for continuations and control frames.
    pub(super) const fn message_kind(self) -> Option<MessageKind> {
        match self {
            Self::Text => Some(MessageKind::Text),
            Self::Binary => Some(MessageKind::Binary),
            _ => None,
        }
    }

    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }
}

impl From<MessageKind> for OpCode {
    fn from(kind: MessageKind) -> Self {
        match kind {
            MessageKind::Text => Self::Text,
            MessageKind::Binary => Self::Binary,
        }
    }
}

/// A decoded header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Last fragment of its message.
    pub fin: bool,
    /// RSV1: the message that begins here is compressed (RFC 7692 §6).
    pub compressed: bool,
    /// What it is.
    pub opcode: OpCode,
    /// Bytes of payload that follow.
    pub len: u64,
    /// The masking key, as frames of a client have it.
    pub mask: Option<[u8; 4]>,
}

impl Header {
    /// Reads a header from the front of `buf`, as received by `side` on a connection without extensions.
    ///
    /// Returns it with the number of bytes it took, or `None` when `buf` ends early.
    ///
    /// # Errors
    /// [`WsError`] as soon as the bytes present cannot become a legal header.
    pub fn decode(buf: &[u8], side: Side) -> Result<Option<(Self, usize)>, WsError> {
        Self::decode_with(buf, side, false)
    }

    /// The same on a connection that has agreed on permessage-deflate: the first frame of a message may say that it is
    /// compressed.
    ///
    /// # Errors
    /// [`WsError`] as soon as the bytes present cannot become a legal header.
    pub fn decode_deflate(buf: &[u8], side: Side) -> Result<Option<(Self, usize)>, WsError> {
        Self::decode_with(buf, side, true)
    }

    pub(super) fn decode_with(buf: &[u8], side: Side, deflate: bool) -> Result<Option<(Self, usize)>, WsError> {
        let &[first, ref rest @ ..] = buf else { return Ok(None) };
        if first & RSV2_RSV3 != 0 {
            return Err(WsError::ReservedBit);
        }
        let opcode = OpCode::from_bits(first & 0x0f).ok_or(WsError::OpCode)?;
        let compressed = first & RSV1 != 0;
        // RFC 7692 §6.1: never on a control frame, and of a fragmented message on the first frame alone.
        if compressed && !(deflate && matches!(opcode, OpCode::Text | OpCode::Binary)) {
            return Err(WsError::ReservedBit);
        }
        let fin = first & 0x80 != 0;
        if opcode.is_control() && !fin {
            return Err(WsError::Control);
        }
        let Some(&second) = rest.first() else { return Ok(None) };
        let masked = second & 0x80 != 0;
        if masked != (side == Side::Server) {
            return Err(WsError::Masking);
        }
        let short = second & 0x7f;
        if opcode.is_control() && usize::from(short) > CONTROL_BYTES_MAX {
            return Err(WsError::Control);
        }
        let (len, mut at) = match short {
            126 => match buf.get(2..4) {
                Some(&[a, b]) => (u64::from(u16::from_be_bytes([a, b])), 4),
                _ => return Ok(None),
            },
            127 => match buf.get(2..10).and_then(|bytes| bytes.try_into().ok()) {
                Some(bytes) => (u64::from_be_bytes(bytes), 10),
                None => return Ok(None),
            },
            _ => (u64::from(short), 2),
        };
        // §5.2: the minimal number of bytes must be used, and the top bit must be 0.
        if (short == 126 && len < 126) || (short == 127 && !(0x1_0000..1 << 63).contains(&len)) {
            return Err(WsError::Length);
        }
        let mask = if masked {
            let Some(key) = buf.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()) else { return Ok(None) };
            at += 4;
            Some(key)
        } else {
            None
        };
        Ok(Some((Self { fin, compressed, opcode, len, mask }, at)))
    }

    /// Appends the header to `out`.
    ///
    /// # Panics
    /// If `out` cannot grow and has less room than [`HEADER_BYTES_MAX`].
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_u8(u8::from(self.fin) << 7 | u8::from(self.compressed) << 6 | self.opcode as u8);
        let masked = u8::from(self.mask.is_some()) << 7;
        match self.len {
            0..=125 => out.put_u8(masked | self.len as u8),
            126..=0xffff => {
                out.put_u8(masked | 126);
                out.put_u16(self.len as u16);
            }
            _ => {
                out.put_u8(masked | 127);
                out.put_u64(self.len);
            }
        }
        if let Some(key) = self.mask {
            out.put_slice(&key);
        }
    }
}

/// Appends the header of a whole, unfragmented data message of `len` payload bytes.
///
/// # Panics
/// If `out` cannot grow and has less room than [`HEADER_BYTES_MAX`].
pub fn write_message_header(kind: MessageKind, len: usize, mask: Option<[u8; 4]>, out: &mut impl BufMut) {
    Header { fin: true, compressed: false, opcode: kind.into(), len: len as u64, mask }.encode(out);
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_rfc6455_section_5_2_forbids() {
        for (name, bytes, side, error) in [
            ("rsv1", &[0xc1, 0x80][..], Side::Server, WsError::ReservedBit),
            ("opcode 3", &[0x83, 0x80], Side::Server, WsError::OpCode),
            ("unmasked client frame", &[0x81, 0x05], Side::Server, WsError::Masking),
            ("masked server frame", &[0x81, 0x85], Side::Client, WsError::Masking),
            ("fragmented ping", &[0x09, 0x80], Side::Server, WsError::Control),
            ("long ping", &[0x89, 0xfe], Side::Server, WsError::Control),
            ("16-bit length of 125", &[0x82, 126, 0, 125], Side::Client, WsError::Length),
            ("64-bit length of 65535", &[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], Side::Client, WsError::Length),
            ("top bit", &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], Side::Client, WsError::Length),
        ] {
            assert_eq!(Header::decode(bytes, side), Err(error), "{name}");
        }
    }

    #[test]
    fn rsv1_has_a_meaning_on_the_first_data_frame_alone() {
        for (name, byte, error) in [
            ("rsv1 on a continuation", 0xc0, Some(WsError::ReservedBit)),
            ("rsv1 on a ping", 0xc9, Some(WsError::ReservedBit)),
            ("rsv1 on a close", 0xc8, Some(WsError::ReservedBit)),
            ("rsv2", 0xa1, Some(WsError::ReservedBit)),
            ("rsv3", 0x91, Some(WsError::ReservedBit)),
            ("rsv1 and rsv2", 0xe1, Some(WsError::ReservedBit)),
            ("rsv1 on a text", 0xc1, None),
            ("rsv1 on a first fragment", 0x42, None),
        ] {
            assert_eq!(Header::decode_deflate(&[byte, 0], Side::Client).err(), error, "{name}");
            assert_eq!(Header::decode(&[byte, 0], Side::Client), Err(WsError::ReservedBit), "{name}, not agreed on");
        }
    }

    proptest! {
        #[test]
        fn round_trips(
            opcode in prop::sample::select(vec![OpCode::Continuation, OpCode::Text, OpCode::Binary]),
            fin: bool, rsv1: bool, mask: Option<[u8; 4]>,
            len in prop_oneof![0u64..200, 65_530u64..65_540, 0u64..(1 << 63)],
            rest in prop::collection::vec(any::<u8>(), 0..8),
        ) {
            let compressed = rsv1 && opcode != OpCode::Continuation;
            let header = Header { fin, compressed, opcode, len, mask };
            let side = if mask.is_some() { Side::Server } else { Side::Client };
            let mut buf = BytesMut::new();
            header.encode(&mut buf);
            let size = buf.len();
            for cut in 0..size {
                prop_assert_eq!(Header::decode_deflate(&buf[..cut], side), Ok(None));
            }
            buf.extend_from_slice(&rest);
            prop_assert_eq!(Header::decode_deflate(&buf, side), Ok(Some((header, size))));
            let plain = if compressed { Err(WsError::ReservedBit) } else { Ok(Some((header, size))) };
            prop_assert_eq!(Header::decode(&buf, side), plain);
        }
    }
}
