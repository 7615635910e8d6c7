//! Whole frames to send: RFC 6455 §5.5 and §5.6. A client masks each with a fresh random key, a server never (§5.1).

use bytes::{BufMut, BytesMut};

use super::header::{CONTROL_BYTES_MAX, Header, OpCode};
use super::{MessageKind, mask, write_message_header};

/// Longest reason of a close frame: its code takes two bytes.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// Appends a whole message as a client sends it, masked with `key`.
pub fn write_client_message(kind: MessageKind, payload: &[u8], key: [u8; 4], out: &mut BytesMut) {
    write_message_header(kind, payload.len(), Some(key), out);
    write_payload(payload, Some(key), out);
}

/// Appends a ping; of `payload` no more than the 125 bytes that §5.5 allows.
pub fn write_ping(payload: &[u8], mask: Option<[u8; 4]>, out: &mut BytesMut) {
    write_control(OpCode::Ping, payload, mask, out);
}

/// Appends a pong; of `payload` (that of the ping it answers, §5.5.3) no more than 125 bytes.
pub fn write_pong(payload: &[u8], mask: Option<[u8; 4]>, out: &mut BytesMut) {
    write_control(OpCode::Pong, payload, mask, out);
}

/// Appends a close frame; of `reason` as many whole characters as fit [`CLOSE_REASON_BYTES_MAX`].
pub fn write_close(code: u16, reason: &str, mask: Option<[u8; 4]>, out: &mut BytesMut) {
    let reason = &reason[..reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX)];
    let mut payload = [0; CONTROL_BYTES_MAX];
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..2 + reason.len()].copy_from_slice(reason.as_bytes());
    write_control(OpCode::Close, &payload[..2 + reason.len()], mask, out);
}

/// The payload of a whole unmasked message that we built ourselves.
#[must_use]
pub fn payload_of(message: &[u8]) -> &[u8] {
    let header_bytes = match message.get(1) {
        Some(0..=125) => 2,
        Some(126) => 4,
        _ => 10,
    };
    message.get(header_bytes..).unwrap_or_default()
}

fn write_control(opcode: OpCode, payload: &[u8], mask: Option<[u8; 4]>, out: &mut BytesMut) {
    let payload = &payload[..payload.len().min(CONTROL_BYTES_MAX)];
    Header { fin: true, compressed: false, opcode, len: payload.len() as u64, mask }.encode(out);
    write_payload(payload, mask, out);
}

fn write_payload(payload: &[u8], mask: Option<[u8; 4]>, out: &mut BytesMut) {
    let start = out.len();
    out.put_slice(payload);
    if let Some(key) = mask {
        mask::apply(&mut out[start..], key, 0);
    }
}
