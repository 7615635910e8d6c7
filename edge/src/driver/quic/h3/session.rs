//! The stream of the request that made the session: capsules (RFC 9297 §3) in frames of DATA.

use quinn_proto::StreamId;
use roost_wire::CloseCode;
use web_transport_proto::{Capsule, Frame, VarInt};

use super::Breach;
use super::tlv::Tlvs;

/// CLOSE_WEBTRANSPORT_SESSION (draft-ietf-webtrans-http3 §5).
const CLOSE: u64 = 0x2843;
/// Its code, in bytes, and the most that may be said of it.
const CODE_BYTES: u64 = 4;
const REASON_BYTES_MAX: u64 = 1024;
/// Frames that the stream of a request may not have: a second HEADERS, CANCEL_PUSH, SETTINGS, PUSH_PROMISE, GOAWAY, MAX_PUSH_ID, and
/// what HTTP/2 had (RFC 9114 §7.2, §11.2.1).
const NOT_FOR_REQUESTS: [u64; 10] = [0x1, 0x3, 0x4, 0x5, 0x7, 0xd, 0x2, 0x6, 0x8, 0x9];

/// A session that was let in.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: StreamId,
    frames: Tlvs,
    capsules: Tlvs,
}

impl Session {
    pub(super) fn new(id: StreamId) -> Self {
        Self { id, frames: Tlvs::default(), capsules: Tlvs::default() }
    }

    /// Takes the next bytes. True: the client closes the session.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<bool, Breach> {
        while let Some(frame) = self.frames.next(&mut bytes) {
            if NOT_FOR_REQUESTS.contains(&frame.kind) {
                return Err(Breach::FrameUnexpected);
            }
            if frame.kind != Frame::DATA.0.into_inner() {
                continue;
            }
            let mut data = frame.bytes;
            while let Some(capsule) = self.capsules.next(&mut data) {
                // What it is closed with concerns nobody here. Others are not known, or wanted.
                if capsule.kind != CLOSE {
                    continue;
                }
                let bytes = capsule.bytes.len() as u64 + capsule.left;
                if !(CODE_BYTES..=CODE_BYTES + REASON_BYTES_MAX).contains(&bytes) {
                    return Err(Breach::Message);
                }
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What ends a session of ours: `code` reaches a page as `closeCode`.
pub(super) fn goodbye(code: CloseCode) -> Vec<u8> {
    let (mut capsule, mut frame) = (Vec::new(), Vec::new());
    Capsule::CloseWebTransportSession { code: code.number().into(), reason: code.text().into() }.encode(&mut capsule);
    Frame::DATA.encode(&mut frame);
    VarInt::from_u32(capsule.len() as u32).encode(&mut frame);
    frame.extend_from_slice(&capsule);
    frame
}
