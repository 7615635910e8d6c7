//! The path `/echo`, for conformance tests and benchmarks: what comes is sent back. Beyond that it is a session like
//! any other: the same codec, queue, timers and closing, but nobody the router knows, and no rate.

use std::ops::ControlFlow::{self, Break, Continue};

use bytes::BytesMut;
use roost_wire::CloseCode;
use roost_wire::limits::ECHO_MESSAGE_BYTES_MAX;
use roost_wire::link::SessionKey;
use roost_wire::ws::{HEADER_BYTES_MAX, MessageKind, write_message_header};

use super::Shard;

/// Bytes queued to one that reads nothing. It is not read above `outbound_bytes_max`, but one buffer of input can hold
/// many messages, and inflate to more.
const ECHO_OUTBOUND_BYTES_MAX: usize = 4 * ECHO_MESSAGE_BYTES_MAX;

impl Shard {
    /// Sends a message back.
    pub(super) fn echo(&mut self, key: SessionKey, kind: MessageKind, payload: &[u8]) -> ControlFlow<()> {
        let Some(conn) = self.slots.get(key) else { return Break(()) };
        if conn.outbound.bytes() + payload.len() > ECHO_OUTBOUND_BYTES_MAX {
            self.close(key, CloseCode::SlowConsumer);
            return Break(());
        }
        let message = self.compressed(key, kind, payload).unwrap_or_else(|| {
            let mut message = BytesMut::with_capacity(HEADER_BYTES_MAX + payload.len());
            write_message_header(kind, payload.len(), None, &mut message);
            message.extend_from_slice(payload);
            message.freeze()
        });
        self.metrics.frames_in(1);
        self.queue(key, message);
        self.pause_if_over(key);
        Continue(())
    }
}
