//! What is queued to connections, and what happens when it is not read.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use roost_wire::limits::ALPN;
use roost_wire::link::{Envelope, SessionKey};
use roost_wire::native::frame_of;
use roost_wire::pb::{self, Frame};
use roost_wire::{CloseCode, Encoding, FrameBody};

use super::downs::Job;
use super::{Shard, native};
use crate::policy::{self, Step};
use crate::session::{BenchPath, Closing, Connection, Phase, Stage};
use crate::{Effect, ShardConfig};

/// Frames that never differ, built once per encoding.
#[derive(Debug)]
pub(super) struct Stock {
    hello: [Bytes; 2],
    hello_native: Bytes,
    changed: [Bytes; 2],
    pong: [Bytes; 2],
}

impl Stock {
    pub(super) fn new(config: &ShardConfig) -> Self {
        let build = |body: &dyn Fn(Encoding) -> FrameBody| {
            Encoding::ALL.map(|encoding| encoding.server_message(&Frame { rid: 0, body: Some(body(encoding)) }))
        };
        let connect_within_ms = u32::try_from(config.connect_within.as_millis()).unwrap_or(u32::MAX);
        let hello = |protocol: &str| {
            FrameBody::Hello(pb::Hello { node: config.node.clone(), protocol: protocol.into(), connect_within_ms })
        };
        let native = Frame { rid: 0, body: Some(hello(ALPN)) };
        Self {
            hello: build(&|encoding| hello(encoding.subprotocol())),
            hello_native: frame_of(&Encoding::Protobuf.server_message(&native)),
            changed: build(&|_| FrameBody::Changed(pb::Changed { more: true, ..pb::Changed::default() })),
            pong: build(&|_| FrameBody::Pong(pb::Pong {})),
        }
    }

    pub(super) fn hello(&self, encoding: Encoding) -> Bytes {
        self.hello[encoding.index()].clone()
    }

    pub(super) fn hello_native(&self) -> Bytes {
        self.hello_native.clone()
    }
}

/// What a slice of fan-out came to; added to the metrics once.
#[derive(Debug, Default)]
pub(super) struct Tally {
    deliveries: u64,
    drops: u64,
    withheld: u64,
    behind: u64,
    /// Frames beyond the first of a piece.
    joined: u64,
}

impl Shard {
    /// Queues bytes, whatever the limits say.
    pub(super) fn queue(&mut self, key: SessionKey, bytes: Bytes) {
        let Some(conn) = self.slots.get_mut(key) else { return };
        if conn.is_dead() {
            return;
        }
        if conn.outbound.is_empty() && matches!(conn.stage, Stage::Http(_)) {
            conn.progress = self.tick;
        }
        conn.outbound.push(bytes);
        if !conn.write_wanted && !conn.outbound.is_empty() {
            conn.write_wanted = true;
            self.effects.push_back(Effect::Write(key));
        }
    }

    /// Queues a frame of the router's, and stops reading a session that leaves too much unread. It always fits:
    /// replies are bounded by the commands in flight, large ones by `reply_bytes_max`.
    pub(super) fn queue_frame(&mut self, key: SessionKey, frame: &Frame) {
        let Some(session) = self.slots.get(key).and_then(Connection::session) else { return };
        let plain = session.encoding.server_message(frame);
        let plain = session.dressed(&plain);
        if session.is_native() && native::may_have_a_stream(frame, plain.len()) {
            return self.effects.push_back(Effect::Page { session: key, bytes: plain });
        }
        let bytes = self.compressed_reply(key, frame.body.as_ref(), plain);
        self.queue(key, bytes);
        self.pause_if_over(key);
    }

    /// Queues what the edge answers by itself; breaks if the session was closed because it reads nothing of it.
    pub(super) fn answer(&mut self, key: SessionKey, bytes: Bytes) -> ControlFlow<()> {
        let Some(conn) = self.slots.get(key) else { return ControlFlow::Break(()) };
        if policy::is_flooded(&self.config, &conn.outbound) {
            self.close(key, CloseCode::SlowConsumer);
            return ControlFlow::Break(());
        }
        self.queue(key, bytes);
        self.pause_if_over(key);
        ControlFlow::Continue(())
    }

    /// The same for a frame.
    pub(super) fn answer_frame(&mut self, key: SessionKey, rid: u64, body: FrameBody) -> ControlFlow<()> {
        let Some(session) = self.slots.get(key).and_then(Connection::session) else {
            return ControlFlow::Break(());
        };
        let encoding = session.encoding;
        let bytes = match body {
            FrameBody::Pong(_) if rid == 0 => session.dressed(&self.stock.pong[encoding.index()]),
            body => session.dressed(&encoding.server_message(&Frame { rid, body: Some(body) })),
        };
        self.answer(key, bytes)
    }

    /// Delivers a push to one session, as far as the slow-consumer ladder lets it.
    pub(super) fn deliver(&mut self, key: SessionKey, envelope: &Envelope, tally: &mut Tally) {
        let Some(conn) = self.slots.get_mut(key) else { return };
        let Stage::Session(session) = &mut conn.stage else { return };
        if !matches!(session.phase, Phase::Live(_) | Phase::Bench(BenchPath::Broadcast)) {
            return;
        }
        let message = self.codec.push(session, envelope);
        match policy::push(&self.config, envelope.lane(), session.behind, &conn.outbound, message.len()) {
            Step::Queue => {
                let bytes = session.dressed(message);
                tally.deliveries += 1;
                if session.datagrams && native::may_be_lost(envelope) {
                    self.effects.push_back(Effect::Datagram { session: key, bytes });
                    return;
                }
                conn.outbound.push(bytes);
                if !conn.write_wanted {
                    conn.write_wanted = true;
                    self.effects.push_back(Effect::Write(key));
                }
            }
            Step::Drop => tally.drops += 1,
            Step::Withhold => {
                tally.withheld += 1;
                if !session.behind {
                    tally.behind += 1;
                    self.mark_behind(key);
                }
            }
        }
    }

    /// Delivers several pushes as one piece. False: they are not for it as they are, so each is to be judged alone.
    pub(super) fn deliver_joined(&mut self, key: SessionKey, job: &mut Job, tally: &mut Tally) -> bool {
        let Some(conn) = self.slots.get_mut(key) else { return false };
        let Stage::Session(session) = &mut conn.stage else { return false };
        let (count, lane) = (job.envelopes.len(), job.envelopes[0].lane());
        let alike =
            |envelope: &Arc<Envelope>| envelope.lane() == lane && !(session.datagrams && native::may_be_lost(envelope));
        let whole = session.deflate.is_none() && job.envelopes.iter().all(alike);
        if count == 1 || !whole || !matches!(session.phase, Phase::Live(_) | Phase::Bench(BenchPath::Broadcast)) {
            return false;
        }
        let piece = job.joined(session);
        if policy::push(&self.config, lane, session.behind, &conn.outbound, piece.len()) != Step::Queue {
            return false;
        }
        conn.outbound.push(piece.clone());
        tally.deliveries += count as u64;
        tally.joined += count as u64 - 1;
        if !conn.write_wanted {
            conn.write_wanted = true;
            self.effects.push_back(Effect::Write(key));
        }
        true
    }

    /// Adds what a slice came to.
    pub(super) fn count(&self, tally: &Tally) {
        self.metrics.deliveries(tally.deliveries);
        self.metrics.drops_ephemeral(tally.drops);
        self.metrics.withheld(tally.withheld);
        self.metrics.behind(tally.behind);
        // A piece counts as one frame once it is written.
        self.metrics.frames_out(tally.joined);
    }

    /// Tells a live session to catch up from the log, now or once it has read what waits. True if it is one.
    pub(super) fn tell_changed(&mut self, key: SessionKey) -> bool {
        let Some(session) = self.slots.get(key).and_then(Connection::session) else { return false };
        if session.user().is_none() {
            return false;
        }
        if !session.behind {
            self.metrics.behind(1);
            self.mark_behind(key);
        }
        true
    }

    /// From now on durable pushes are held back, until CHANGED has told the client to catch up: maybe at once.
    fn mark_behind(&mut self, key: SessionKey) {
        let Some(conn) = self.slots.get_mut(key) else { return };
        if !conn.paused {
            conn.progress = self.tick;
        }
        if let Some(session) = conn.session_mut() {
            session.behind = true;
        }
        self.catch_up_if_drained(key);
        self.arm(key);
    }

    fn catch_up_if_drained(&mut self, key: SessionKey) {
        let Some(conn) = self.slots.get_mut(key) else { return };
        let Stage::Session(session) = &mut conn.stage else { return };
        if session.behind && policy::is_drained(&self.config, &conn.outbound) {
            session.behind = false;
            let changed = session.dressed(&self.stock.changed[session.encoding.index()]);
            self.metrics.caught_up(1);
            self.queue(key, changed);
        }
    }

    pub(super) fn pause_if_over(&mut self, key: SessionKey) {
        let Some(conn) = self.slots.get_mut(key) else { return };
        let Stage::Session(session) = &conn.stage else { return };
        if !conn.paused && policy::is_over(&self.config, &conn.outbound) {
            if !session.behind {
                conn.progress = self.tick;
            }
            self.pause(key);
            self.arm(key);
        }
    }

    pub(super) fn pause(&mut self, key: SessionKey) {
        let Some(conn) = self.slots.get_mut(key) else { return };
        let was_unread = conn.is_unread();
        if !std::mem::replace(&mut conn.paused, true) {
            self.metrics.pauses(1);
            if !was_unread {
                self.effects.push_back(Effect::Pause(key));
            }
        }
    }

    pub(super) fn resume(&mut self, key: SessionKey) {
        let Some(conn) = self.slots.get_mut(key) else { return };
        if std::mem::replace(&mut conn.paused, false) {
            self.metrics.resumes(1);
            self.read_again(key);
        }
    }

    /// `written` bytes left the queue: what waited for that may go on.
    pub(super) fn written(&mut self, key: SessionKey, written: usize) {
        let Some(conn) = self.slots.get_mut(key) else { return };
        if conn.is_dead() || written == 0 {
            return;
        }
        let frames = conn.outbound.advance(written);
        conn.progress = self.tick;
        self.metrics.bytes_out(written as u64);
        self.metrics.frames_out(frames as u64);
        match &conn.stage {
            Stage::Session(_) => {
                if conn.paused && policy::is_under(&self.config, &conn.outbound) {
                    self.resume(key);
                }
                self.catch_up_if_drained(key);
            }
            Stage::Http(http) if http.done && conn.outbound.is_empty() => self.let_go(key),
            Stage::Closing(Closing::Heard | Closing::Deaf | Closing::Last(_)) => self.closing_flushed(key),
            _ => {}
        }
    }
}
