//! Sessions that are no WebSockets: frames one behind another on a stream, and in datagrams beside it.
//!
//! They begin at once, without a request head, and say nothing when they end: their transport tells the code. Between a
//! frame and its bytes all is theirs; what a frame means, what it costs and what is queued is as with any session.

use std::net::SocketAddr;
use std::ops::ControlFlow::{self, Continue};
use std::time::Instant;

use bytes::Bytes;
use roost_wire::limits::{CONNECT_BYTES_MAX, PAGE_STREAM_BYTES_MIN};
use roost_wire::link::{Envelope, Lane, SessionKey};
use roost_wire::native::{Cut, CutError};
use roost_wire::pb::Frame;
use roost_wire::{CloseCode, Encoding, ErrorCode, FrameBody};

use super::Shard;
use crate::policy::{self, Step};
use crate::session::{Connection, Framing, Phase};

/// What may come in a datagram: commands that do no harm when they are lost, or overtake others.
const fn may_be_datagram(body: &FrameBody) -> bool {
    matches!(
        body,
        FrameBody::Typing(_) | FrameBody::Ack(_) | FrameBody::Read(_) | FrameBody::Ping(_) | FrameBody::Pong(_)
    )
}

/// Whether a push may go as a datagram: what is stale soon. A receipt is dropped for a slow reader too, but who loses one on the
/// way would not see it before the next.
pub(super) fn may_be_lost(envelope: &Envelope) -> bool {
    envelope.lane() == Lane::Ephemeral
        && matches!(envelope.frame().body, Some(FrameBody::Typing(_) | FrameBody::Presence(_)))
}

/// Whether a reply may come on a stream of its own, of so many bytes.
pub(super) const fn may_have_a_stream(frame: &Frame, bytes: usize) -> bool {
    bytes >= PAGE_STREAM_BYTES_MIN && matches!(frame.body, Some(FrameBody::Page(_)))
}

impl Shard {
    /// A connection was accepted that is a session from the start: HELLO waits for it, and CONNECT is due. `datagrams`
    /// if its peer takes such. `None`: the shard is full or stopping, or there is no memory for more sessions (see
    /// [`Shard::admit`]): close it with 4004; it was counted.
    pub fn opened_native(&mut self, peer: SocketAddr, datagrams: bool, now: Instant) -> Option<SessionKey> {
        self.at(now);
        if !self.admitting {
            self.metrics.refused_memory(1);
            return None;
        }
        let until = self.clock.tick_after(self.now, self.config.connect_within);
        let conn = Connection::native(&self.config, peer, datagrams, self.tick, until);
        let key = self.take_in(conn)?;
        self.metrics.native_opened(1);
        self.queue(key, self.stock.hello_native());
        self.settle(key);
        Some(key)
    }

    /// A datagram arrived beside the stream. It holds whole frames; of a session that is not live it is ignored, since it
    /// may have overtaken what makes it so.
    pub fn datagram(&mut self, key: SessionKey, bytes: &mut [u8], now: Instant) {
        self.at(now);
        let Some(conn) = self.slots.get_mut(key) else { return };
        self.metrics.bytes_in(bytes.len() as u64);
        conn.heard = self.tick;
        let Some(session) = conn.session() else { return };
        if session.is_native() && matches!(session.phase, Phase::Live(_)) {
            self.pieces += 1;
            // Closed or not: there is nothing behind it.
            let _ = self.datagram_frames(key, bytes);
        }
        self.settle(key);
    }

    /// An [`Effect::Datagram`](crate::Effect::Datagram) could not be sent: it goes by the stream, if there is room.
    pub fn undelivered(&mut self, key: SessionKey, bytes: Bytes, now: Instant) {
        self.at(now);
        let Some(conn) = self.slots.get(key) else { return };
        let Some(session) = conn.session() else { return };
        match policy::push(&self.config, Lane::Ephemeral, session.behind, &conn.outbound, bytes.len()) {
            Step::Queue => self.queue(key, bytes),
            Step::Drop | Step::Withhold => self.metrics.drops_ephemeral(1),
        }
        self.settle(key);
    }

    /// An [`Effect::Page`](crate::Effect::Page) was sent.
    pub fn page_sent(&mut self, bytes: usize) {
        self.metrics.bytes_out(bytes as u64);
        self.metrics.frames_out(1);
    }

    /// An [`Effect::Page`](crate::Effect::Page) could not be sent: it goes by the stream, as any other reply.
    pub fn page_undelivered(&mut self, key: SessionKey, bytes: Bytes, now: Instant) {
        self.at(now);
        self.queue(key, bytes);
        self.pause_if_over(key);
        self.settle(key);
    }

    /// Bytes of the stream.
    pub(super) fn native_bytes(&mut self, key: SessionKey, bytes: &[u8]) {
        if self.pay_bytes(key, bytes.len()).is_break() {
            return;
        }
        let frame_bytes_max = self.native_frame_bytes_max(key);
        let Some(session) = self.slots.get_mut(key).and_then(Connection::session_mut) else { return };
        // What is lent belongs to it, so it stands aside while the shard works.
        let Framing::Native(cut) = &mut session.framing else { return };
        let mut cut = std::mem::take(cut);
        let (mut at, mut completed) = (0, false);
        loop {
            match cut.next(bytes, &mut at, frame_bytes_max) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    completed = true;
                    if self.native_frame(key, frame).is_break() {
                        return;
                    }
                }
                Err(CutError::TooLarge { .. }) => return self.close_now(key, CloseCode::TooBig),
                Err(_) => return self.close_now(key, CloseCode::Protocol),
            }
        }
        let Some(session) = self.slots.get_mut(key).and_then(Connection::session_mut) else { return };
        if let Framing::Native(kept) = &mut session.framing {
            *kept = cut;
        }
        self.after_bytes(key, completed);
    }

    fn native_frame(&mut self, key: SessionKey, mut frame: &[u8]) -> ControlFlow<()> {
        self.pay(key, 1)?;
        match Encoding::Protobuf.decode(&mut frame).transpose() {
            Some(decoded) => self.decoded(key, decoded),
            None => Continue(()),
        }
    }

    fn datagram_frames(&mut self, key: SessionKey, bytes: &[u8]) -> ControlFlow<()> {
        self.pay_bytes(key, bytes.len())?;
        let (mut cut, mut at) = (Cut::default(), 0);
        while let Ok(Some(mut frame)) = cut.next(bytes, &mut at, self.config.frame_bytes_max) {
            self.pay(key, 1)?;
            match Encoding::Protobuf.decode(&mut frame).transpose() {
                Some(Ok(frame)) if frame.body.as_ref().is_some_and(|body| !may_be_datagram(body)) => {
                    self.bad(key, frame.rid, ErrorCode::UnknownCommand, "not in a datagram")?;
                }
                Some(decoded) => self.decoded(key, decoded)?,
                None => {}
            }
        }
        if at == bytes.len() && cut.is_idle() {
            return Continue(());
        }
        self.bad(key, 0, ErrorCode::Malformed, "a datagram holds whole frames")
    }

    /// The largest frame that may come now.
    fn native_frame_bytes_max(&self, key: SessionKey) -> usize {
        let max = self.config.frame_bytes_max;
        match self.slots.get(key).and_then(Connection::session).map(|session| &session.phase) {
            Some(Phase::Live(_)) => max,
            _ => max.min(CONNECT_BYTES_MAX),
        }
    }
}
