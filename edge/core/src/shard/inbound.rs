//! Frames of clients: answered here as far as they concern the connection alone, else handed to the router.

use std::ops::ControlFlow::{self, Break, Continue};

use bytes::BytesMut;
use roost_wire::limits::BAD_FRAMES_MAX;
use roost_wire::link::{SessionKey, Up};
use roost_wire::pb::{self, Frame};
use roost_wire::ws::{Decoder, Event, Inflater, MessageKind, Side, WsError, write_pong};
use roost_wire::{CloseCode, Encoding, ErrorCode, FrameBody, FrameError, UserId};

use super::Shard;
use crate::Effect;
use crate::session::{Caller, Closing, Connection, Framing, Phase, Stage};

/// What a client is told to wait when too many of its commands are in flight.
const IN_FLIGHT_RETRY_MS: u32 = 100;

/// What a frame is to the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Connect,
    Ping,
    /// A sign of life.
    Pong,
    /// A command that counts against the rate of sends.
    Send,
    Command,
    /// Only servers send it.
    FromServer,
}

/// No wildcard: a body added to the protocol must be placed here.
fn class(body: &FrameBody) -> Class {
    match body {
        FrameBody::Connect(_) => Class::Connect,
        FrameBody::Ping(_) => Class::Ping,
        FrameBody::Pong(_) => Class::Pong,
        FrameBody::Send(_) | FrameBody::Publish(_) => Class::Send,
        FrameBody::Refresh(_)
        | FrameBody::Ack(_)
        | FrameBody::Read(_)
        | FrameBody::Typing(_)
        | FrameBody::Watch(_)
        | FrameBody::Unwatch(_)
        | FrameBody::Create(_)
        | FrameBody::Get(_)
        | FrameBody::Update(_)
        | FrameBody::Members(_)
        | FrameBody::Join(_)
        | FrameBody::Leave(_)
        | FrameBody::Sync(_)
        | FrameBody::History(_)
        | FrameBody::Subscribe(_)
        | FrameBody::Unsubscribe(_)
        | FrameBody::Search(_) => Class::Command,
        FrameBody::Hello(_)
        | FrameBody::Welcome(_)
        | FrameBody::Goaway(_)
        | FrameBody::Ok(_)
        | FrameBody::Error(_)
        | FrameBody::Sent(_)
        | FrameBody::Entry(_)
        | FrameBody::Receipt(_)
        | FrameBody::Presence(_)
        | FrameBody::Conversation(_)
        | FrameBody::Changed(_)
        | FrameBody::Page(_)
        | FrameBody::Users(_) => Class::FromServer,
    }
}

/// Where a session stands, as far as commands are concerned.
enum Standing {
    AwaitConnect,
    Authorizing,
    Live(UserId),
}

impl Shard {
    /// Bytes of a session.
    pub(super) fn session_bytes(&mut self, key: SessionKey, bytes: &mut [u8]) {
        let Some(session) = self.slots.get_mut(key).and_then(Connection::session_mut) else { return };
        // What an event lends belongs to the decoder, so it stands aside while the shard works.
        let mut decoder = match &mut session.framing {
            Framing::WebSocket(decoder) => std::mem::replace(decoder, Decoder::new(Side::Server, 0)),
            Framing::Native(_) => return self.native_bytes(key, bytes),
        };
        let compressed = session.deflate.is_some();
        if self.pay_bytes(key, bytes.len()).is_break() {
            return;
        }
        let mut at = 0;
        // Lent until the input is used up: then no message is half inflated.
        let mut inflater = compressed.then(|| self.codec.inflater.take().unwrap_or_default());
        let worked = self.events(key, &mut decoder, bytes, &mut at, inflater.as_mut());
        if let Some(mut inflater) = inflater {
            inflater.forget();
            self.codec.inflater = Some(inflater);
        }
        let completed = match worked {
            Ok(completed) => completed,
            Err(error) => return self.fail(key, error),
        };
        match self.slots.get_mut(key).map(|conn| &mut conn.stage) {
            Some(Stage::Session(session)) => {
                session.framing = Framing::WebSocket(decoder);
                self.after_bytes(key, completed);
            }
            Some(Stage::Closing(Closing::Handshake(kept))) => {
                *kept = decoder;
                self.closing_bytes(key, &mut bytes[at..]);
            }
            _ => {}
        }
    }

    /// Works off the events in `bytes`, as long as it is a session. True if a message ended among them.
    fn events(
        &mut self,
        key: SessionKey,
        decoder: &mut Decoder,
        bytes: &mut [u8],
        at: &mut usize,
        mut inflater: Option<&mut Inflater>,
    ) -> Result<bool, WsError> {
        let Some(session) = self.slots.get(key).and_then(Connection::session) else { return Ok(false) };
        let (encoding, bench, mut completed) = (session.encoding, session.bench_path(), false);
        loop {
            let event = match &mut inflater {
                Some(inflater) => decoder.next_inflating(bytes, at, inflater)?,
                None => decoder.next(bytes, at)?,
            };
            let Some(event) = event else { return Ok(completed) };
            completed |= matches!(event, Event::Message { .. });
            let mut flow = match (event, bench) {
                (Event::Message { kind, payload }, Some(path)) => self.bench_message(key, path, kind, payload),
                (event, _) => self.event(key, encoding, &event),
            };
            let inflated = inflater.as_ref().map_or(0, |inflater| inflater.message().len());
            if inflated > 0 && flow.is_continue() {
                flow = self.pay_inflated(key, inflated);
            }
            if flow.is_break() {
                return Ok(completed);
            }
        }
    }

    /// One event of a session. Breaks when it is none any more.
    fn event(&mut self, key: SessionKey, encoding: Encoding, event: &Event<'_>) -> ControlFlow<()> {
        match event {
            Event::Message { kind, payload } => self.message(key, encoding, *kind, payload),
            Event::Ping(payload) => {
                self.pay_ping(key)?;
                let mut pong = BytesMut::new();
                write_pong(payload, None, &mut pong);
                self.answer(key, pong.freeze())
            }
            Event::Pong(_) => self.pay(key, 1),
            Event::Close(body) => {
                self.peer_closed(key, body.as_ref().map(|body| body.code));
                Break(())
            }
        }
    }

    fn message(
        &mut self,
        key: SessionKey,
        encoding: Encoding,
        kind: MessageKind,
        mut payload: &[u8],
    ) -> ControlFlow<()> {
        self.pay(key, 1)?;
        if kind != encoding.message_kind() {
            self.close(key, CloseCode::Unsupported);
            return Break(());
        }
        if payload.is_empty() && encoding == Encoding::Json {
            return self.bad(key, 0, ErrorCode::Malformed, "not a JSON frame: it is empty");
        }
        for frames_before in 0_u32.. {
            let decoded = encoding.decode(&mut payload);
            if frames_before > 0 && !matches!(decoded, Ok(None)) {
                self.pay(key, 1)?;
            }
            let Some(decoded) = decoded.transpose() else { break };
            let last = match &decoded {
                Ok(_) | Err(FrameError::Empty { .. } | FrameError::TooManyUsers { .. }) => false,
                Err(_) => true, // Nothing behind it can be read.
            };
            self.decoded(key, decoded)?;
            if last {
                break;
            }
        }
        Continue(())
    }

    /// A frame, or what stands where one should.
    pub(super) fn decoded(&mut self, key: SessionKey, decoded: Result<Frame, FrameError>) -> ControlFlow<()> {
        match decoded {
            Ok(Frame { rid, body: Some(body) }) => {
                self.metrics.frames_in(1);
                self.frame(key, rid, body)
            }
            Ok(Frame { rid, body: None }) => {
                self.bad(key, rid, ErrorCode::UnknownCommand, ErrorCode::UnknownCommand.text())
            }
            Err(error) => self.undecodable(key, &error),
        }
    }

    fn undecodable(&mut self, key: SessionKey, error: &FrameError) -> ControlFlow<()> {
        let (rid, code) = (error.rid(), error.code());
        let Some(session) = self.slots.get(key).and_then(Connection::session) else { return Break(()) };
        match (code, session.user()) {
            // A command that asks for too much, but no breach of the protocol.
            (ErrorCode::BadField, Some(_)) => {
                self.metrics.bad_field(1);
                self.answer_frame(key, rid, FrameBody::Error(code.because(error.to_string())))
            }
            (ErrorCode::BadField, None) => {
                let code = ErrorCode::NotConnected;
                self.bad(key, rid, code, code.text())
            }
            _ => self.bad(key, rid, code, &error.to_string()),
        }
    }

    fn frame(&mut self, key: SessionKey, rid: u64, body: FrameBody) -> ControlFlow<()> {
        let Some(session) = self.slots.get(key).and_then(Connection::session) else { return Break(()) };
        let standing = match &session.phase {
            Phase::AwaitConnect(_) => Standing::AwaitConnect,
            Phase::Authorizing => Standing::Authorizing,
            Phase::Live(user) => Standing::Live(user.clone()),
            // Its messages are no frames.
            Phase::Bench(_) => return Break(()),
        };
        match (standing, class(&body), body) {
            (_, Class::FromServer, _) => self.bad(key, rid, ErrorCode::UnknownCommand, "only servers send this"),
            (Standing::AwaitConnect, _, FrameBody::Connect(connect)) => {
                self.connect(key, rid, connect);
                Continue(())
            }
            (_, Class::Connect, _) => {
                let code = ErrorCode::AlreadyConnected;
                self.bad(key, rid, code, code.text())
            }
            (_, Class::Pong, _) => Continue(()),
            (Standing::AwaitConnect, ..) => {
                let code = ErrorCode::NotConnected;
                self.bad(key, rid, code, code.text())
            }
            (Standing::Authorizing, ..) => self.bad(key, rid, ErrorCode::NotConnected, "wait for WELCOME first"),
            (Standing::Live(_), Class::Ping, _) => {
                self.beats += 1;
                self.pay_ping(key)?;
                self.answer_frame(key, rid, FrameBody::Pong(pb::Pong {}))
            }
            (Standing::Live(user), class, body) => self.command(key, rid, user, class, body),
        }
    }

    fn connect(&mut self, key: SessionKey, rid: u64, connect: pb::Connect) {
        let until = self.clock.tick_after(self.now, self.config.connect_within);
        let Some(conn) = self.slots.get_mut(key) else { return };
        let Stage::Session(session) = &mut conn.stage else { return };
        let Phase::AwaitConnect(caller) = std::mem::replace(&mut session.phase, Phase::Authorizing) else { return };
        conn.until = until;
        self.known(key);
        let Caller { peer, bearer } = *caller;
        self.effects.push_back(Effect::Up(Up::Connect { session: key, rid, connect, bearer, peer }));
    }

    /// A command for the router, if the session's limits admit it.
    fn command(&mut self, key: SessionKey, rid: u64, user: UserId, class: Class, body: FrameBody) -> ControlFlow<()> {
        let Some(session) = self.slots.get_mut(key).and_then(Connection::session_mut) else { return Break(()) };
        if u32::from(session.commands_in_flight) >= self.config.commands_in_flight_max.min(u16::MAX.into()) {
            self.metrics.in_flight_refused(1);
            let error = pb::Error { retry_after_ms: IN_FLIGHT_RETRY_MS, ..ErrorCode::TooManyInFlight.error() };
            return self.answer_frame(key, rid, FrameBody::Error(error));
        }
        if let (Class::Send, Some(rate)) = (class, self.rate)
            && let Err(retry_after_ms) = session.sends.take(rate, self.clock.us(self.now))
        {
            self.metrics.rate_limited(1);
            let error = pb::Error { retry_after_ms, ..ErrorCode::RateLimited.error() };
            return self.answer_frame(key, rid, FrameBody::Error(error));
        }
        session.commands_in_flight += 1;
        self.metrics.commands(1);
        self.effects.push_back(Effect::Up(Up::Command { session: key, user, rid, body }));
        Continue(())
    }

    /// Answers a frame that breaks the protocol; too many of them end the session.
    pub(super) fn bad(&mut self, key: SessionKey, rid: u64, code: ErrorCode, why: &str) -> ControlFlow<()> {
        match code {
            ErrorCode::UnknownCommand => self.metrics.bad_unknown(1),
            ErrorCode::NotConnected => self.metrics.bad_not_connected(1),
            ErrorCode::AlreadyConnected => self.metrics.bad_already_connected(1),
            _ => self.metrics.bad_malformed(1),
        }
        let Some(session) = self.slots.get_mut(key).and_then(Connection::session_mut) else { return Break(()) };
        if session.bad_frames >= BAD_FRAMES_MAX {
            self.close(key, CloseCode::TooManyErrors);
            return Break(());
        }
        session.bad_frames += 1;
        self.answer_frame(key, rid, FrameBody::Error(code.because(why.to_owned())))
    }
}
