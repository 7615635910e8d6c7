//! The paths `/echo` and `/broadcast`, for conformance tests and benchmarks: what comes is sent back, or to everybody
//! there. Beyond that these are sessions like any other, with the same codec, queue, timers, fan-out and closing, but
//! nobody the router knows, and no rate.

use std::ops::ControlFlow::{self, Break, Continue};

use bytes::{Bytes, BytesMut};
use roost_wire::limits::ECHO_MESSAGE_BYTES_MAX;
use roost_wire::link::{Envelope, Lane, SessionKey};
use roost_wire::ws::{HEADER_BYTES_MAX, MessageKind, write_message_header};
use roost_wire::{CloseCode, ConvId};

use super::Shard;
use crate::Effect;
use crate::session::BenchPath;

/// Bytes queued to one that reads nothing. It is not read above `outbound_bytes_max`, but one buffer of input can hold
/// many messages, and inflate to more.
const ECHO_OUTBOUND_BYTES_MAX: usize = 4 * ECHO_MESSAGE_BYTES_MAX;

/// Whom [`Effect::Broadcast`] goes to: everybody on [`BROADCAST_PATH`](crate::config::BROADCAST_PATH). No conversation
/// has this id: the router makes none of zeros.
#[must_use]
pub fn bench_topic() -> ConvId {
    ConvId::from_bits(0)
}

impl Shard {
    /// A session has begun.
    pub(super) fn begin_bench(&mut self, key: SessionKey, path: BenchPath) {
        if path == BenchPath::Broadcast {
            self.enter(key, &bench_topic());
        }
    }

    /// A message has come.
    pub(super) fn bench_message(
        &mut self,
        key: SessionKey,
        path: BenchPath,
        kind: MessageKind,
        payload: &[u8],
    ) -> ControlFlow<()> {
        self.metrics.frames_in(1);
        match path {
            BenchPath::Echo => self.echo(key, kind, payload),
            BenchPath::Broadcast => {
                // Who reads too slowly loses some, as there is no log to read them from later.
                let envelope = Envelope::plain(Lane::Ephemeral, &plain_message(kind, payload));
                self.effects.push_back(Effect::Broadcast(envelope));
                Continue(())
            }
        }
    }

    /// Sends a message back.
    fn echo(&mut self, key: SessionKey, kind: MessageKind, payload: &[u8]) -> ControlFlow<()> {
        let Some(conn) = self.slots.get(key) else { return Break(()) };
        if conn.outbound.bytes() + payload.len() > ECHO_OUTBOUND_BYTES_MAX {
            self.close(key, CloseCode::SlowConsumer);
            return Break(());
        }
        let message = self.compressed(key, kind, payload).unwrap_or_else(|| plain_message(kind, payload));
        self.queue(key, message);
        self.pause_if_over(key);
        Continue(())
    }
}

fn plain_message(kind: MessageKind, payload: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(HEADER_BYTES_MAX + payload.len());
    write_message_header(kind, payload.len(), None, &mut message);
    message.extend_from_slice(payload);
    message.freeze()
}
