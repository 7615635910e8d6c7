//! Frames on a stream of bytes, as QUIC carries them: before each stands its length in bytes as a varint of protobuf.
//!
//! That is what a message of `roost.v1.pb` holds as well, so what was built for one goes out on the other: see
//! [`frame_of`].

use bytes::Bytes;

use crate::ws::payload_of;

/// The name of the protocol on QUIC (RFC 7301), and of its form there in HELLO.
pub const ALPN: &str = "roost/1";

/// Where a server takes sessions by WebTransport: the path of the request (RFC 9220), without a query.
pub const WEBTRANSPORT_PATH: &str = "/wt";

/// Most bytes of a varint (protobuf, "Base 128 Varints").
const VARINT_BYTES_MAX: usize = 10;

/// Why the bytes of a stream are no frames. Nothing behind can be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CutError {
    /// A length announces more than the limit, both in bytes.
    #[error("frame of {len} B exceeds the limit of {max} B")]
    TooLarge {
        /// What was announced.
        len: u64,
        /// What is allowed.
        max: usize,
    },
    /// A length that does not end where a varint must.
    #[error("the length of a frame is no varint")]
    Length,
}

/// Cuts one stream into frames.
///
/// It owns nothing between frames: a frame that lies whole in the input is lent from there, and only one that is cut by
/// the end of the input is copied.
///
/// Memory grows with the bytes that arrived, never with a length that was only announced.
///
/// ```
/// use roost_wire::native::Cut;
///
/// let (mut cut, mut at) = (Cut::default(), 0);
/// assert_eq!(cut.next(b"\x02hi\x05he", &mut at, 1024)?, Some(&b"\x02hi"[..]));
/// assert_eq!(cut.next(b"\x02hi\x05he", &mut at, 1024)?, None);
/// at = 0;
/// assert_eq!(cut.next(b"llo", &mut at, 1024)?, Some(&b"\x05hello"[..]));
/// assert_eq!(cut.next(b"llo", &mut at, 1024)?, None);
/// assert!(cut.is_idle());
/// # Ok::<(), roost_wire::native::CutError>(())
/// ```
#[derive(Debug, Default)]
pub struct Cut {
    partial: Option<Box<Partial>>,
}

// One per session: a node holds a million.
const _: () = assert!(size_of::<Cut>() == 8);

/// A frame that is half received, or was put together and is lent.
#[derive(Debug, Default)]
struct Partial {
    /// Length and payload, as far as they came.
    bytes: Vec<u8>,
    lent: bool,
}

/// What stands at the front of some bytes.
enum Front {
    /// The length is cut.
    More,
    /// A frame of so many bytes, its length counted.
    Frame(usize),
}

impl Cut {
    /// The next whole frame in `input[*at..]`, with its length before it; `at` moves past what was taken. `None` once
    /// `input` is used up: call again with the bytes that follow, `at` being 0 again. What was lent is let go at the next
    /// call: call until `None`.
    ///
    /// # Errors
    /// [`CutError`]: nothing behind can be read, here or in later input.
    pub fn next<'a>(
        &'a mut self,
        input: &'a [u8],
        at: &mut usize,
        frame_bytes_max: usize,
    ) -> Result<Option<&'a [u8]>, CutError> {
        self.partial.take_if(|partial| partial.lent);
        let mut rest = input.get(*at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        if self.partial.is_none() {
            if let Front::Frame(bytes) = front(rest, frame_bytes_max)?
                && let Some(frame) = rest.get(..bytes)
            {
                *at += bytes;
                return Ok(Some(frame));
            }
            *at = input.len();
            self.partial = Some(Box::new(Partial { bytes: rest.to_vec(), lent: false }));
            return Ok(None);
        }
        let Some(partial) = &mut self.partial else { return Ok(None) };
        let frame_bytes = loop {
            match front(&partial.bytes, frame_bytes_max)? {
                Front::Frame(bytes) => break bytes,
                Front::More => {
                    let Some((first, others)) = rest.split_first() else { return Ok(None) };
                    partial.bytes.push(*first);
                    (*at, rest) = (*at + 1, others);
                }
            }
        };
        let more = frame_bytes.saturating_sub(partial.bytes.len()).min(rest.len());
        partial.bytes.extend_from_slice(&rest[..more]);
        *at += more;
        partial.lent = partial.bytes.len() == frame_bytes;
        Ok(partial.lent.then_some(&partial.bytes))
    }

    /// True if no frame is half received: then it owns no memory.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.partial.as_ref().is_none_or(|partial| partial.lent)
    }
}

/// Reads the length at the front of `bytes`.
fn front(bytes: &[u8], frame_bytes_max: usize) -> Result<Front, CutError> {
    let mut len = 0_u64;
    for (at, byte) in bytes.iter().take(VARINT_BYTES_MAX).enumerate() {
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has one bit.
        if at == VARINT_BYTES_MAX - 1 && bits > 1 {
            return Err(CutError::Length);
        }
        len |= bits << (7 * at);
        if len > frame_bytes_max as u64 {
            return Err(CutError::TooLarge { len, max: frame_bytes_max });
        }
        if byte & 0x80 == 0 {
            return Ok(Front::Frame(at + 1 + len as usize));
        }
    }
    if bytes.len() < VARINT_BYTES_MAX { Ok(Front::More) } else { Err(CutError::Length) }
}

/// What a WebSocket message of `roost.v1.pb` that we built ourselves is on a stream: the same bytes without its header,
/// counted and not copied.
#[must_use]
pub fn frame_of(message: &Bytes) -> Bytes {
    message.slice_ref(payload_of(message))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::pb::{self, Frame};
    use crate::{Encoding, FrameBody};

    /// All frames of `input`, given in pieces that end at `ends`.
    fn cut(input: &[u8], ends: &[usize], max: usize) -> Result<(Vec<Vec<u8>>, bool), CutError> {
        let (mut cut, mut frames, mut from) = (Cut::default(), Vec::new(), 0);
        for end in ends.iter().copied().chain([input.len()]) {
            let mut at = 0;
            while let Some(frame) = cut.next(&input[from..end], &mut at, max)? {
                frames.push(frame.to_vec());
            }
            from = end;
        }
        Ok((frames, cut.is_idle()))
    }

    #[test]
    fn lengths_are_judged_as_soon_as_they_are_seen() {
        let large = CutError::TooLarge { len: 101, max: 100 };
        for (name, input, want) in [
            ("nothing", &b""[..], Ok((vec![], true))),
            ("an empty frame", b"\0", Ok((vec![b"\0".to_vec()], true))),
            ("longer than needed", b"\x81\x80\x00x", Ok((vec![b"\x81\x80\x00x".to_vec()], true))),
            ("a cut length", b"\x80", Ok((vec![], false))),
            ("a cut payload", b"\x03ab", Ok((vec![], false))),
            ("as large as allowed, cut", b"\x64", Ok((vec![], false))),
            ("larger, and nothing of it yet", b"\x65", Err(large)),
            ("no end of the length", &[0x80; 10], Err(CutError::Length)),
            ("a bit too many", b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02", Err(CutError::Length)),
        ] {
            assert_eq!(cut(input, &[], 100), want, "{name}");
            let each: Vec<usize> = (0..input.len()).collect();
            assert_eq!(cut(input, &each, 100), want, "{name}, byte by byte");
        }
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert!(matches!(cut(&huge, &[], 1 << 20), Err(CutError::TooLarge { .. })));
    }

    #[test]
    fn what_is_sent_by_websocket_is_a_frame_behind_its_header() {
        for bytes in [0, 100, 200, 70_000] {
            let body = pb::Body { text: "x".repeat(bytes), event: None };
            let frame =
                Frame { rid: 7, body: Some(FrameBody::Entry(pb::Entry { body: Some(body), ..pb::Entry::default() })) };
            let message = Encoding::Protobuf.server_message(&frame);
            let mut plain = BytesMut::new();
            Encoding::Protobuf.encode(&frame, &mut plain);
            let native = frame_of(&message);
            assert_eq!(native, plain.freeze());
            assert_eq!(native.as_ptr(), payload_of(&message).as_ptr(), "not copied");
        }
    }

    proptest! {
        #[test]
        fn wherever_a_stream_is_cut_the_same_frames_come_out(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
            ends in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut stream = Vec::new();
            let mut want = Vec::new();
            for payload in &payloads {
                let from = stream.len();
                prost::encode_length_delimiter(payload.len(), &mut stream).unwrap();
                stream.extend_from_slice(payload);
                want.push(stream[from..].to_vec());
            }
            let mut ends: Vec<usize> = ends.iter().map(|end| end.index(stream.len() + 1)).collect();
            ends.sort_unstable();
            prop_assert_eq!(cut(&stream, &ends, 300), Ok((want, true)));
        }

        #[test]
        fn no_bytes_of_a_peer_panic_or_outgrow_what_came(input in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut cut = Cut::default();
            let mut at = 0;
            while let Ok(Some(frame)) = cut.next(&input, &mut at, 64) {
                prop_assert!(frame.len() <= 64 + VARINT_BYTES_MAX);
            }
            if let Some(partial) = &cut.partial {
                prop_assert!(partial.bytes.capacity() <= 2 * input.len().max(8));
            }
        }
    }
}
