//! Sessions by WebTransport: their stream is one among those of HTTP/3, and their end is said on another.

use std::time::Instant;

use bytes::Bytes;
use quinn_proto::{Dir, StreamId, VarInt};
use roost_edge_core::End;
use roost_edge_core::driver::Sink;
use roost_wire::CloseCode;

use super::super::QuicConn;
use super::super::conns::{Flags, NO_LANE, Stage};
use super::super::h3::{self, Breach, Desk, News, Web};
use super::super::session::Told;
use super::Hub;

impl Hub {
    /// The handshake went on: if HTTP/3 will be spoken, the client may open the streams it was told of, and SETTINGS leave as soon
    /// as they can.
    pub(super) fn notice_h3(&mut self, handle: u32, now: Instant) {
        let Some(conn) = self.conns.get(handle) else { return };
        let is_new = conn.stage == Stage::Handshake && !conn.flags.has(Flags::H3);
        if !is_new || !Told::of(conn.quic.crypto_session()).is_some_and(|told| told.h3) {
            return;
        }
        conn.flags.set(Flags::H3);
        conn.lane = NO_LANE;
        conn.quic.set_max_concurrent_streams(Dir::Bi, h3::BIDI_STREAMS_MAX.into());
        conn.quic.set_max_concurrent_streams(Dir::Uni, h3::UNI_STREAMS_MAX.into());
        let mut web = Box::<Web>::default();
        let opened = web.open(&mut conn.quic);
        self.webs.insert(handle, web);
        if let Err(breach) = opened {
            self.close_broken(handle, breach, now);
        }
    }

    /// Something came on a stream that is not the lane.
    pub(super) fn web_turn<S: Sink<Conn = QuicConn>>(&mut self, handle: u32, now: Instant, sink: &mut S) {
        let (Some(conn), Some(web)) = (self.conns.get(handle), self.webs.get_mut(&handle)) else { return };
        if !matches!(conn.stage, Stage::Open | Stage::Carrying | Stage::Closing(_)) {
            return;
        }
        let (doors, metrics) = (&self.doors, &*self.metrics);
        match web.turn(&mut Desk { quic: &mut conn.quic, doors, metrics, buffer: &mut self.buffer }) {
            Ok(news) => self.web_news(handle, news, now, sink),
            Err(breach) => self.web_broken(handle, breach, now, sink),
        }
        // Windows may have opened.
        self.unsent(handle);
    }

    /// The client wants nothing more on a stream of ours that is not the lane.
    pub(super) fn web_stopped<S: Sink<Conn = QuicConn>>(
        &mut self,
        handle: u32,
        stream: StreamId,
        now: Instant,
        sink: &mut S,
    ) {
        match self.webs.get(&handle).map(|web| web.stopped(stream)) {
            Some(Ok(news)) => self.web_news(handle, news, now, sink),
            Some(Err(breach)) => self.web_broken(handle, breach, now, sink),
            None => {}
        }
    }

    fn web_news<S: Sink<Conn = QuicConn>>(&mut self, handle: u32, news: News, now: Instant, sink: &mut S) {
        match news {
            News::Nothing => {}
            News::Lane { stream, datagrams } => {
                let Some(conn) = self.conns.get(handle) else { return };
                // No greater one is taken for it.
                conn.lane = stream.index() as u8;
                if conn.stage == Stage::Open {
                    self.carry(handle, datagrams, sink);
                }
            }
            // It has heard our close, and ends the connection once the page has.
            News::Over if self.conns.get(handle).is_some_and(|conn| conn.flags.has(Flags::SAID)) => {}
            News::Over => {
                self.end(handle, End::Eof, sink);
                self.close_now(handle, CloseCode::Normal, now);
            }
        }
    }

    /// The client broke HTTP/3.
    fn web_broken<S: Sink<Conn = QuicConn>>(&mut self, handle: u32, breach: Breach, now: Instant, sink: &mut S) {
        self.end(handle, End::Error, sink);
        self.close_broken(handle, breach, now);
    }

    fn close_broken(&mut self, handle: u32, breach: Breach, now: Instant) {
        self.metrics.h3_broken(1);
        self.closed(handle);
        let Some(conn) = self.conns.get(handle) else { return };
        conn.quic.close(
            now,
            VarInt::from_u32(breach.code()),
            Bytes::from_static(CloseCode::Protocol.text().as_bytes()),
        );
        self.grown(handle);
        self.stir(handle);
    }

    /// Tells `code` where a page can read it: in the session, once all of the lane has arrived. A browser passes that on to its page
    /// and then ends the connection. It does not if we end it first, though it had acknowledged everything: so it has its time to.
    /// False: it was said already, or there is no such session.
    pub(super) fn say_in_session(&mut self, handle: u32, code: CloseCode, now: Instant) -> bool {
        let Some(conn) = self.conns.get(handle).filter(|conn| conn.flags.has(Flags::H3)) else { return false };
        let Some(web) = self.webs.get(&handle).filter(|_| conn.flags.raise(Flags::SAID)) else { return false };
        if !web.close(&mut conn.quic, code) {
            return false;
        }
        let serial = conn.serial;
        self.unsent(handle);
        if let Some((oldest, its)) = self.linger.keep((handle, serial), now) {
            self.say_code(oldest, its, now);
        }
        true
    }
}
