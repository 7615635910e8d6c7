//! How connections end.
//!
//! A session ends for the router at once, whoever began; its connection lives on until the closing handshake (RFC 6455
//! §7.1) is over or has taken too long.

use bytes::BytesMut;
use roost_wire::link::{SessionKey, Up};
use roost_wire::ws::{WsError, write_close};
use roost_wire::{CloseCode, UserId};

use super::Shard;
use crate::session::{Closing, Framing, Phase, Session, Stage};
use crate::{Effect, End};

impl Shard {
    /// Ends a connection from our side: a session by a close frame, any other at once.
    pub(super) fn close(&mut self, key: SessionKey, code: CloseCode) {
        match self.slots.get(key).map(|conn| &conn.stage) {
            Some(Stage::Session(_)) => {
                let Some(session) = self.end_session(key) else { return };
                self.metrics.closed(code);
                match session.framing {
                    Framing::WebSocket(decoder) => {
                        self.farewell(key, Closing::Handshake(decoder), code.number(), code.text());
                    }
                    Framing::Native(_) => self.last_words(key, code),
                }
            }
            Some(Stage::Head(_) | Stage::Http(_)) => self.let_go(key),
            Some(Stage::Closing(_) | Stage::Dead) | None => {}
        }
    }

    /// Ends a session that must cost nothing more: what it still sends is thrown away unseen, and its connection goes
    /// as soon as the close frame is written.
    pub(super) fn close_now(&mut self, key: SessionKey, code: CloseCode) {
        let Some(session) = self.end_session(key) else { return };
        self.metrics.closed(code);
        if session.is_native() {
            self.last_words(key, code);
        } else {
            self.farewell(key, Closing::Heard, code.number(), code.text());
        }
    }

    /// What is queued is the last; the transport says why.
    fn last_words(&mut self, key: SessionKey, code: CloseCode) {
        self.begin_closing(key, Closing::Last(code));
        self.closing_flushed(key);
    }

    /// The peer broke RFC 6455: nothing of it can be understood any more (§7.1.7). So its close frame is not awaited, and
    /// it is us who end the transport (§7.1.1), as soon as ours is written.
    pub(super) fn fail(&mut self, key: SessionKey, error: WsError) {
        if self.end_session(key).is_some() {
            let code = error.close_code();
            self.metrics.closed(code);
            self.metrics.inflations_refused(matches!(error, WsError::Inflated { .. }).into());
            self.farewell(key, Closing::Heard, code.number(), code.text());
        }
    }

    /// The peer's close frame came: answer it with its code (§5.5.1).
    pub(super) fn peer_closed(&mut self, key: SessionKey, code: Option<u16>) {
        if self.end_session(key).is_some() {
            self.metrics.closed_by_peer(1);
            self.farewell(key, Closing::Heard, code.unwrap_or(CloseCode::Normal.number()), "");
        }
    }

    /// Queues a close frame behind what waits, and goes on to `closing`.
    fn farewell(&mut self, key: SessionKey, closing: Closing, code: u16, reason: &str) {
        let mut frame = BytesMut::new();
        write_close(code, reason, None, &mut frame);
        self.queue(key, frame.freeze());
        self.begin_closing(key, closing);
    }

    /// The last bytes are queued.
    pub(super) fn begin_closing(&mut self, key: SessionKey, closing: Closing) {
        let until = self.clock.tick_after(self.now, self.config.close_within);
        self.known(key);
        let Some(conn) = self.slots.get_mut(key) else { return };
        conn.stage = Stage::Closing(closing);
        conn.until = until;
        // To see the peer's close frame, or the end of what it sends.
        self.resume(key);
        self.arm(key);
    }

    /// Looks for the peer's close frame.
    pub(super) fn closing_bytes(&mut self, key: SessionKey, bytes: &mut [u8]) {
        let Some(conn) = self.slots.get_mut(key) else { return };
        let Stage::Closing(closing) = &mut conn.stage else { return };
        let Closing::Handshake(decoder) = closing else { return };
        *closing = match decoder.next_close(bytes, &mut 0) {
            Ok(false) => return,
            Ok(true) => Closing::Heard,
            Err(_) => Closing::Deaf,
        };
        if conn.outbound.is_empty() {
            self.closing_flushed(key);
        }
    }

    /// A closing connection may have written its last byte.
    pub(super) fn closing_flushed(&mut self, key: SessionKey) {
        let linger = self.clock.tick_after(self.now, self.config.linger);
        let Some(conn) = self.slots.get_mut(key) else { return };
        if !conn.outbound.is_empty() {
            return;
        }
        match &conn.stage {
            Stage::Closing(Closing::Heard | Closing::Last(_)) => self.let_go(key),
            // Closing a socket with unread bytes resets it, and our last words may never be read.
            Stage::Closing(Closing::Deaf) => {
                conn.until = conn.until.min(linger);
                self.arm(key);
            }
            _ => {}
        }
    }

    /// Asks the driver to let the connection go now.
    pub(super) fn let_go(&mut self, key: SessionKey) {
        self.end_session(key);
        self.known(key);
        let Some(conn) = self.slots.get_mut(key) else { return };
        if conn.is_dead() {
            return;
        }
        if matches!(&conn.stage, Stage::Http(http) if !http.done) {
            self.effects.push_back(Effect::HttpEnd { session: key });
        }
        let last = match std::mem::replace(&mut conn.stage, Stage::Dead) {
            Stage::Closing(Closing::Last(code)) => Effect::CloseWith { session: key, code },
            _ => Effect::Close(key),
        };
        conn.outbound.clear();
        self.wheel.disarm(key.slot());
        self.metrics.connections_closed(1);
        self.effects.push_back(last);
    }

    /// The peer has sent its last byte. True: it is still owed an answer, or the rest of our last words.
    pub(super) fn peer_half_closed(&mut self, key: SessionKey) -> bool {
        let Some(conn) = self.slots.get_mut(key) else { return false };
        match &mut conn.stage {
            Stage::Http(http) => {
                if !std::mem::replace(&mut http.half_closed, true) && !http.done {
                    self.effects.push_back(Effect::HttpEof { session: key });
                }
                true
            }
            Stage::Closing(closing) if !conn.outbound.is_empty() => {
                if !matches!(closing, Closing::Last(_)) {
                    *closing = Closing::Heard;
                }
                true
            }
            // A WebSocket ends with either half (RFC 6455 §7.1.1), and nobody answers half a head.
            Stage::Closing(_) | Stage::Head(_) | Stage::Session(_) | Stage::Dead => false,
        }
    }

    /// The transport is gone: so is the slot.
    pub(super) fn transport_ended(&mut self, key: SessionKey, _end: End) {
        if self.end_session(key).is_some() {
            self.metrics.closed_by_peer(1);
        }
        self.known(key);
        let Some(conn) = self.slots.remove(key) else { return };
        self.wheel.disarm(key.slot());
        if matches!(&conn.stage, Stage::Http(http) if !http.done) {
            self.effects.push_back(Effect::HttpEnd { session: key });
        }
        if !conn.is_dead() {
            self.metrics.connections_closed(1);
        }
    }

    /// Ends a session, but not its connection, which is deaf until told what it is. `None`: it is no session.
    fn end_session(&mut self, key: SessionKey) -> Option<Session> {
        self.slots.get(key)?.session()?;
        // Its end is to be heard.
        self.end_throttle(key);
        let conn = self.slots.get_mut(key)?;
        let stage = std::mem::replace(&mut conn.stage, Stage::Closing(Closing::Deaf));
        let Stage::Session(mut session) = stage else { unreachable!("it was one a line ago") };
        if let Some(mut joined) = session.joined.take() {
            while let Some(moves) = self.topics.leave_last(&mut joined) {
                self.tell_moves(moves);
                self.metrics.topics_left(1);
            }
        }
        if let Phase::Live(user) = &mut session.phase {
            let user = user.clone();
            self.live_sessions -= 1;
            self.metrics.sessions_closed(1);
            self.gone(key, user);
        }
        Some(session)
    }

    /// Tells the router that nothing may be sent to a session it accepted.
    pub(super) fn gone(&mut self, session: SessionKey, user: UserId) {
        self.effects.push_back(Effect::Up(Up::Gone { session, user }));
    }
}
