//! The streams of one connection of HTTP/3.

use bytes::{BufMut, Bytes, BytesMut};
use quinn_proto::{Connection, Dir, StreamId, VarInt};
use roost_wire::CloseCode;
use web_transport_proto::ConnectResponse;
use web_transport_proto::http::StatusCode;

use super::request::{Fresh, Head};
use super::session::{Session, goodbye};
use super::uni::{Opened, Said, Uni};
use super::{Breach, Doors, NO_ERROR, REQUEST_INCOMPLETE, REQUEST_REJECTED, settings};
use crate::driver::quic::hub::{Read, fill};
use crate::driver::quic::metrics::QuicMetrics;

/// What a client may say in all beside its lane and datagrams: SETTINGS, requests, capsules. A tenth of it is more than any needs.
const BESIDE_BYTES_MAX: u32 = 64 * 1024;

/// Which streams there are, and what is known of them.
#[derive(Debug, Default)]
pub(in super::super) struct Web {
    control: Option<StreamId>,
    unis: Vec<Uni>,
    opened: Opened,
    /// Whether the client takes datagrams. `None`: its SETTINGS have not come.
    datagrams: Option<bool>,
    fresh: Vec<Fresh>,
    session: Option<Session>,
    has_lane: bool,
    beside_bytes: u32,
}

/// What concerns the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum News {
    Nothing,
    /// It has its stream.
    Lane {
        stream: StreamId,
        datagrams: bool,
    },
    /// The client has closed it.
    Over,
}

/// What is needed to read streams.
pub(in super::super) struct Desk<'a> {
    pub(in super::super) quic: &'a mut Connection,
    pub(in super::super) doors: &'a Doors,
    pub(in super::super) metrics: &'a QuicMetrics,
    pub(in super::super) buffer: &'a mut [u8],
}

impl Web {
    /// Opens our control stream, if that is not done.
    pub(in super::super) fn open(&mut self, quic: &mut Connection) -> Result<(), Breach> {
        if self.control.is_some() {
            return Ok(());
        }
        // Every peer must allow this much (RFC 9114 §6.2).
        let control = quic.streams().open(Dir::Uni).ok_or(Breach::General)?;
        self.control = Some(control);
        say(quic, control, &settings())
    }

    /// The session's stream, once it was let in.
    pub(in super::super) fn session(&self) -> Option<StreamId> {
        self.session.as_ref().map(|session| session.id)
    }

    /// Takes the streams that were opened, reads what there is on all but the lane, and answers it.
    pub(in super::super) fn turn(&mut self, desk: &mut Desk<'_>) -> Result<News, Breach> {
        while let Some(id) = desk.quic.streams().accept(Dir::Uni) {
            self.unis.push(Uni::new(id));
        }
        while let Some(id) = desk.quic.streams().accept(Dir::Bi) {
            self.fresh.push(Fresh::new(id));
        }
        let mut at = 0;
        while at < self.unis.len() {
            if self.read_uni(at, desk)? {
                at += 1;
            } else {
                self.unis.swap_remove(at);
            }
        }
        if self.datagrams.is_none() {
            // A request counts once SETTINGS have come.
            return Ok(News::Nothing);
        }
        if self.read_session(desk)? {
            return Ok(News::Over);
        }
        self.read_fresh(desk)
    }

    /// The peer wants nothing more on `stream`.
    pub(in super::super) fn stopped(&self, stream: StreamId) -> Result<News, Breach> {
        if Some(stream) == self.control {
            Err(Breach::ClosedCritical)
        } else if Some(stream) == self.session() {
            Ok(News::Over)
        } else {
            Ok(News::Nothing)
        }
    }

    /// False: nothing more is to be read from it.
    fn read_uni(&mut self, at: usize, desk: &mut Desk<'_>) -> Result<bool, Breach> {
        let uni = &mut self.unis[at];
        loop {
            let (filled, read) = fill(desk.quic, uni.id, desk.buffer);
            charge(&mut self.beside_bytes, filled)?;
            match uni.take(&desk.buffer[..filled], &mut self.opened)? {
                Said::Nothing => {}
                Said::Settings { datagrams } => self.datagrams = Some(datagrams),
                Said::Unwanted => {
                    // It may be over already.
                    let _ = desk.quic.recv_stream(uni.id).stop(number(Breach::StreamCreation.code()));
                    desk.metrics.h3_refused_stream(1);
                    return Ok(false);
                }
            }
            match read {
                Read::More => {}
                Read::Empty => return Ok(true),
                Read::Fin | Read::Reset if uni.is_critical() => return Err(Breach::ClosedCritical),
                Read::Fin | Read::Reset => return Ok(false),
            }
        }
    }

    /// True: the session is over.
    fn read_session(&mut self, desk: &mut Desk<'_>) -> Result<bool, Breach> {
        let Some(session) = &mut self.session else { return Ok(false) };
        loop {
            let (filled, read) = fill(desk.quic, session.id, desk.buffer);
            charge(&mut self.beside_bytes, filled)?;
            if session.take(&desk.buffer[..filled])? {
                return Ok(true);
            }
            match read {
                Read::More => {}
                Read::Empty => return Ok(false),
                Read::Fin | Read::Reset => return Ok(true),
            }
        }
    }

    /// Looks at streams of which it is not known what they are. One may wait for another, so all are looked at until nothing changes.
    fn read_fresh(&mut self, desk: &mut Desk<'_>) -> Result<News, Breach> {
        let mut news = News::Nothing;
        let mut at = 0;
        while at < self.fresh.len() {
            let (head, read) = self.read_head(at, desk)?;
            let id = self.fresh[at].id;
            match head {
                Head::More if matches!(read, Read::Fin | Read::Reset) => refuse(desk, id, REQUEST_INCOMPLETE),
                // Its session may be the next to come.
                Head::Stream(_) if self.session.is_none() => {
                    at += 1;
                    continue;
                }
                Head::More => {
                    at += 1;
                    continue;
                }
                Head::Stream(session) => match self.may_be_lane(id, session)? {
                    true => {
                        self.has_lane = true;
                        news = News::Lane { stream: id, datagrams: self.datagrams == Some(true) };
                    }
                    false => refuse(desk, id, REQUEST_REJECTED),
                },
                // One session is a connection's.
                Head::Session(_) | Head::Refused(_) if self.session.is_some() => refuse(desk, id, REQUEST_REJECTED),
                Head::Refused(status) => answer_refusal(desk, id, status)?,
                Head::Session(behind) => {
                    say(desk.quic, id, &response(StatusCode::OK)?)?;
                    desk.metrics.h3_sessions(1);
                    let mut session = Session::new(id);
                    let over = session.take(&behind)? || matches!(read, Read::Fin | Read::Reset);
                    self.session = Some(session);
                    if over {
                        return Ok(News::Over);
                    }
                    self.fresh.swap_remove(at);
                    at = 0;
                    continue;
                }
            }
            self.fresh.swap_remove(at);
        }
        // A session has them once and then for hours.
        self.fresh.shrink_to_fit();
        self.unis.shrink_to_fit();
        Ok(news)
    }

    fn read_head(&mut self, at: usize, desk: &mut Desk<'_>) -> Result<(Head, Read), Breach> {
        let fresh = &mut self.fresh[at];
        loop {
            let wanted = fresh.wanted();
            // What follows the beginning of a stream of a session is the session's, its end included.
            let (filled, read) = match wanted {
                0 => (0, Read::Empty),
                _ => fill(desk.quic, fresh.id, &mut desk.buffer[..wanted]),
            };
            charge(&mut self.beside_bytes, filled)?;
            fresh.take(&desk.buffer[..filled]);
            match fresh.head(desk.doors)? {
                Head::More if matches!(read, Read::More) => {}
                head => return Ok((head, read)),
            }
        }
    }

    /// The first stream of the session is its lane.
    fn may_be_lane(&self, id: StreamId, session: u64) -> Result<bool, Breach> {
        // Only a stream like this can be a session (draft-ietf-webtrans-http3 §4.2).
        if !session.is_multiple_of(4) {
            return Err(Breach::Id);
        }
        let is_ours = self.session().is_some_and(|ours| u64::from(VarInt::from(ours)) == session);
        Ok(is_ours && !self.has_lane && id.index() < u64::from(u8::MAX))
    }

    /// Tells the client that the session is over. False: that cannot be told.
    pub(in super::super) fn close(&self, quic: &mut Connection, code: CloseCode) -> bool {
        let Some(id) = self.session() else { return false };
        say(quic, id, &goodbye(code)).is_ok() && quic.send_stream(id).finish().is_ok()
    }

    /// The payload of a datagram of the session (RFC 9297 §2.1).
    pub(in super::super) fn payload<'a>(&self, mut datagram: &'a [u8]) -> Option<&'a [u8]> {
        let quarter = web_transport_proto::VarInt::decode(&mut datagram).ok()?.into_inner();
        (self.session()?.index() == quarter).then_some(datagram)
    }

    /// The datagram of the session that holds `payload`.
    pub(in super::super) fn datagram(&self, payload: &[u8]) -> Option<Bytes> {
        let quarter = web_transport_proto::VarInt::from_u64(self.session()?.index()).ok()?;
        let mut datagram = BytesMut::with_capacity(quarter.size() + payload.len());
        quarter.encode(&mut datagram);
        datagram.put_slice(payload);
        Some(datagram.freeze())
    }
}

/// Counts what came beside the lane.
fn charge(beside_bytes: &mut u32, bytes: usize) -> Result<(), Breach> {
    *beside_bytes = beside_bytes.saturating_add(bytes as u32);
    if *beside_bytes > BESIDE_BYTES_MAX { Err(Breach::ExcessiveLoad) } else { Ok(()) }
}

fn number(code: u32) -> VarInt {
    VarInt::from_u32(code)
}

/// Writes something short. A peer that has no room for it has none for a session.
fn say(quic: &mut Connection, id: StreamId, bytes: &[u8]) -> Result<(), Breach> {
    match quic.send_stream(id).write(bytes) {
        Ok(written) if written == bytes.len() => Ok(()),
        _ => Err(Breach::General),
    }
}

fn response(status: StatusCode) -> Result<Vec<u8>, Breach> {
    let mut bytes = Vec::new();
    ConnectResponse::new(status).encode(&mut bytes).map_err(|_| Breach::General)?;
    Ok(bytes)
}

/// Does not look at a stream. It may be over already.
fn refuse(desk: &mut Desk<'_>, id: StreamId, code: u32) {
    let _ = desk.quic.recv_stream(id).stop(number(code));
    let _ = desk.quic.send_stream(id).reset(number(code));
    desk.metrics.h3_refused_stream(1);
}

/// Answers a request that makes no session.
fn answer_refusal(desk: &mut Desk<'_>, id: StreamId, status: StatusCode) -> Result<(), Breach> {
    match status {
        StatusCode::NOT_FOUND => desk.metrics.h3_refused_path(1),
        StatusCode::FORBIDDEN => desk.metrics.h3_refused_origin(1),
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => desk.metrics.h3_refused_method(1),
        _ => desk.metrics.h3_refused_malformed(1),
    }
    let _ = desk.quic.recv_stream(id).stop(number(NO_ERROR));
    // A peer that is gone, or stopped it, hears nothing of it.
    if say(desk.quic, id, &response(status)?).is_err() || desk.quic.send_stream(id).finish().is_err() {
        let _ = desk.quic.send_stream(id).reset(number(NO_ERROR));
    }
    Ok(())
}
