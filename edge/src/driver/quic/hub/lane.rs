//! The stream that carries a session, and the datagrams beside it.

use std::io;
use std::time::Instant;

use bytes::Bytes;
use quinn_proto::{Connection, Dir, ReadError, SendDatagramError, StreamId, VarInt, WriteError};
use roost_edge_core::driver::Sink;
use roost_edge_core::{End, Outbound};
use roost_wire::CloseCode;
use roost_wire::link::SessionKey;

use super::super::QuicConn;
use super::super::conns::{Conn, Flags, Handle, Stage};
use super::Hub;

/// Bytes read from one connection per turn: the size of the lent buffer.
pub(in super::super) const READ_BYTES_MAX: usize = 64 * 1024;
/// Connections read per turn.
const READS_PER_TURN: usize = 1024;
/// Bytes read per turn, of all connections; the last read may go beyond it.
const BYTES_PER_TURN: usize = 2 << 20;
/// Frames per write.
const FRAMES_PER_WRITE: usize = 64;
/// Datagrams of one connection told in a turn.
const DATAGRAMS_PER_READ: usize = 64;

/// What came of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Read {
    /// Nothing more is there now.
    Empty,
    /// More may be there.
    More,
    /// The peer's end.
    Fin,
    /// The peer broke the stream.
    Reset,
}

impl Hub {
    /// The client has opened its stream: that makes a session of it.
    pub(super) fn lane_opened<S: Sink<Conn = QuicConn>>(&mut self, handle: u32, sink: &mut S) {
        let Some(conn) = self.conns.get(handle) else { return };
        // There is one: transport parameters allow no other.
        if conn.stage != Stage::Open || conn.flags.has(Flags::H3) || conn.quic.streams().accept(Dir::Bi).is_none() {
            return;
        }
        self.carry(handle, true, sink);
    }

    /// The stream of the session is known, and whether the client takes datagrams where QUIC lets it.
    pub(super) fn carry<S: Sink<Conn = QuicConn>>(&mut self, handle: u32, datagrams: bool, sink: &mut S) {
        let Some(conn) = self.conns.get(handle) else { return };
        conn.stage = Stage::Carrying;
        conn.flags.set(Flags::READABLE);
        let datagrams = datagrams && conn.quic.datagrams().max_size().is_some();
        let peer = conn.quic.remote_address();
        let carrier = QuicConn { handle, serial: conn.serial, datagrams };
        self.grown(handle);
        sink.accepted(carrier, peer);
    }

    /// The transport of `key` is `carrier` from now on.
    pub(in super::super) fn attach(&mut self, key: SessionKey, carrier: &QuicConn) -> io::Result<()> {
        let conn = self.conns.get_if(carrier.handle, carrier.serial).filter(|conn| conn.stage == Stage::Carrying);
        let conn = conn.ok_or(io::ErrorKind::NotConnected)?;
        conn.key = Some(key);
        conn.flags.set(Flags::READABLE);
        self.keys.put(key.slot(), Handle { generation: key.generation(), handle: carrier.handle });
        self.queue_read(carrier.handle);
        Ok(())
    }

    /// Lets `carrier` go, which got no key.
    pub(in super::super) fn refuse(&mut self, carrier: &QuicConn, now: Instant) {
        if self.conns.get_if(carrier.handle, carrier.serial).is_some() {
            self.begin_closing(carrier.handle, CloseCode::Overloaded, now);
        }
    }

    fn conn_of(&mut self, key: SessionKey) -> Option<(u32, &mut Conn)> {
        let handle = self.keys.get(key)?.handle;
        Some((handle, self.conns.get(handle)?))
    }

    /// Writes from the front of `outbound`. Returns how many bytes were taken: as counted references, until they are
    /// acknowledged.
    pub(in super::super) fn write(&mut self, key: SessionKey, outbound: &Outbound, now: Instant) -> io::Result<usize> {
        let mut chunks = std::mem::take(&mut self.chunks);
        chunks.extend(outbound.frames().take(FRAMES_PER_WRITE).cloned());
        let written = self.write_chunks(key, &mut chunks, now);
        chunks.clear();
        self.chunks = chunks;
        written
    }

    fn write_chunks(&mut self, key: SessionKey, chunks: &mut [Bytes], now: Instant) -> io::Result<usize> {
        let Some((handle, conn)) = self.conn_of(key) else { return Ok(0) };
        if conn.flags.has(Flags::BLOCKED) {
            return Ok(0);
        }
        let lane = conn.lane();
        match conn.quic.send_stream(lane).write_chunks(chunks) {
            Ok(written) => {
                // What we send now is acknowledged with everything before it.
                conn.unanswered = 0;
                self.unsent(handle);
                Ok(written.bytes)
            }
            Err(WriteError::Blocked) => {
                conn.flags.set(Flags::BLOCKED);
                Ok(0)
            }
            Err(WriteError::Stopped(_) | WriteError::ClosedStream) => {
                self.detach(handle);
                self.close_now(handle, CloseCode::Protocol, now);
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
    }

    /// Sends `bytes` beside the stream. False: the peer takes no datagram, or none as large.
    pub(in super::super) fn send_datagram(&mut self, key: SessionKey, bytes: &Bytes) -> bool {
        let Some(handle) = self.keys.get(key).map(|row| row.handle) else { return true };
        let Some(conn) = self.conns.get(handle) else { return true };
        let mut bytes = bytes.clone();
        if conn.flags.has(Flags::H3) {
            let Some(ours) = self.webs.get(&handle).and_then(|web| web.datagram(&bytes)) else { return true };
            bytes = ours;
        }
        // What waits longest is worth least.
        let sent = conn.quic.datagrams().send(bytes, true);
        match sent {
            Ok(()) => {
                conn.unanswered = 0;
                self.unsent(handle);
                true
            }
            Err(SendDatagramError::Blocked(_)) => true,
            Err(_) => false,
        }
    }

    /// There may be something to read, or to be told that the stream was broken.
    pub(super) fn readable<S: Sink<Conn = QuicConn>>(&mut self, handle: u32, now: Instant, sink: &mut S) {
        let Some(conn) = self.conns.get(handle) else { return };
        conn.flags.set(Flags::READABLE);
        // Who is not read would notice a reset never.
        let broken = conn.flags.has(Flags::PAUSED) && was_reset(conn);
        if broken && conn.key.is_some() {
            return self.broken(handle, now, sink);
        }
        self.queue_read(handle);
    }

    /// Reads it before the turn ends, if it may be read.
    pub(super) fn queue_read(&mut self, handle: u32) {
        if let Some(conn) = self.conns.get(handle)
            && conn.key.is_some()
            && conn.flags.may_queue()
        {
            self.ready.push_back(handle);
        }
    }

    /// Reads those that have something, within the budget of a turn. True: some have more.
    pub(super) fn read_ready<S: Sink<Conn = QuicConn>>(&mut self, now: Instant, sink: &mut S) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut bytes = 0;
        for _ in 0..self.ready.len().min(READS_PER_TURN) {
            let Some(handle) = self.ready.pop_front() else { break };
            if let Some(conn) = self.conns.get(handle) {
                conn.flags.clear(Flags::QUEUED);
            }
            bytes += self.read(handle, &mut buffer, now, sink);
            if bytes >= BYTES_PER_TURN {
                break;
            }
        }
        self.buffer = buffer;
        !self.ready.is_empty()
    }

    /// Reads once. Returns how many bytes that brought.
    fn read<S: Sink<Conn = QuicConn>>(&mut self, handle: u32, buffer: &mut [u8], now: Instant, sink: &mut S) -> usize {
        let told = self.read_datagrams(handle, buffer, sink);
        let Some(conn) = self.conns.get(handle) else { return told };
        let Some(key) = conn.key else { return told };
        if !conn.flags.has(Flags::READABLE) || conn.flags.has(Flags::PAUSED) {
            return told;
        }
        let lane = conn.lane();
        let (filled, read) = fill(&mut conn.quic, lane, buffer);
        if !matches!(read, Read::More) {
            conn.flags.clear(Flags::READABLE);
        }
        if filled > 0 {
            sink.received(key, &mut buffer[..filled]);
        }
        match read {
            Read::Empty | Read::More => {}
            Read::Fin if sink.half_closed(key) => {}
            Read::Fin => {
                self.end(handle, End::Eof, sink);
                self.begin_closing(handle, CloseCode::Normal, now);
            }
            Read::Reset => self.broken(handle, now, sink),
        }
        // Windows may have opened.
        self.unsent(handle);
        self.queue_read(handle);
        told + filled
    }

    fn read_datagrams<S: Sink<Conn = QuicConn>>(&mut self, handle: u32, buffer: &mut [u8], sink: &mut S) -> usize {
        let mut bytes = 0;
        for _ in 0..DATAGRAMS_PER_READ {
            let Some(conn) = self.conns.get(handle) else { break };
            let Some(key) = conn.key.filter(|_| conn.flags.has(Flags::DATAGRAMS)) else { break };
            if conn.flags.has(Flags::PAUSED) {
                break;
            }
            let Some(datagram) = conn.quic.datagrams().recv() else {
                conn.flags.clear(Flags::DATAGRAMS);
                break;
            };
            let payload = match conn.flags.has(Flags::H3) {
                true => self.webs.get(&handle).and_then(|web| web.payload(&datagram)),
                false => Some(&*datagram),
            };
            let Some(payload) = payload else {
                self.metrics.h3_refused_datagram(1);
                continue;
            };
            let Some(lent) = buffer.get_mut(..payload.len()) else { continue };
            lent.copy_from_slice(payload);
            bytes += lent.len();
            sink.datagram(key, lent);
        }
        bytes
    }

    /// The peer broke the stream, in either direction: there is no session without both.
    pub(super) fn broken<S: Sink<Conn = QuicConn>>(&mut self, handle: u32, now: Instant, sink: &mut S) {
        self.end(handle, End::Error, sink);
        if let Some(conn) = self.conns.get(handle)
            && matches!(conn.stage, Stage::Carrying | Stage::Closing(_))
        {
            self.close_now(handle, CloseCode::Protocol, now);
        }
    }

    pub(in super::super) fn pause(&mut self, key: SessionKey) {
        if let Some((_, conn)) = self.conn_of(key) {
            conn.flags.set(Flags::PAUSED);
        }
    }

    pub(in super::super) fn resume(&mut self, key: SessionKey) {
        if let Some((handle, conn)) = self.conn_of(key) {
            conn.flags.clear(Flags::PAUSED);
            self.queue_read(handle);
        }
    }

    /// Lets `key` go: once what was written has arrived, the peer is told `code`.
    pub(in super::super) fn close(&mut self, key: SessionKey, code: CloseCode, now: Instant) {
        let Some((handle, _)) = self.conn_of(key) else { return };
        self.detach(handle);
        self.begin_closing(handle, code, now);
    }

    /// Ends the stream, and waits for a moment until all of it has arrived: a connection that is closed takes back what has
    /// not.
    fn begin_closing(&mut self, handle: u32, code: CloseCode, now: Instant) {
        let Some(conn) = self.conns.get(handle).filter(|conn| conn.stage == Stage::Carrying) else { return };
        conn.stage = Stage::Closing(code);
        self.closing += 1;
        let serial = conn.serial;
        let number = VarInt::from_u32(code.number().into());
        // Nothing it still sends is wanted. It may have ended that itself.
        let lane = conn.lane();
        let _ = conn.quic.recv_stream(lane).stop(number);
        if conn.quic.send_stream(lane).finish().is_err() {
            return self.close_now(handle, code, now);
        }
        self.unsent(handle);
        if let Some((oldest, its)) = self.linger.keep((handle, serial), now) {
            self.say_code(oldest, its, now);
        }
    }

    /// All has arrived, or had its time: tells the code.
    pub(super) fn say_code(&mut self, handle: u32, serial: u32, now: Instant) {
        let Some(conn) = self.conns.get_if(handle, serial) else { return };
        if let Stage::Closing(code) = conn.stage
            && !self.say_in_session(handle, code, now)
        {
            self.close_now(handle, code, now);
        }
    }

    /// Tells everybody that is left its code, or that the server goes.
    pub(in super::super) fn close_all(&mut self, now: Instant) {
        for handle in self.conns.handles() {
            let code = match self.conns.get(handle).map(|conn| conn.stage) {
                Some(Stage::Closing(code)) => code,
                Some(Stage::Open | Stage::Carrying) => CloseCode::GoingAway,
                _ => continue,
            };
            self.detach(handle);
            self.close_now(handle, code, now);
            self.unsent(handle);
        }
    }
}

/// Whether the peer broke its half of the stream.
fn was_reset(conn: &mut Conn) -> bool {
    let lane = conn.lane();
    matches!(conn.quic.recv_stream(lane).received_reset(), Ok(Some(_)))
}

/// Reads what is there on the stream into `buffer`.
pub(in super::super) fn fill(quic: &mut Connection, id: StreamId, buffer: &mut [u8]) -> (usize, Read) {
    let mut stream = quic.recv_stream(id);
    let Ok(mut chunks) = stream.read(true) else { return (0, Read::Empty) };
    let mut filled = 0;
    let read = loop {
        match chunks.next(buffer.len() - filled) {
            Ok(Some(chunk)) => {
                buffer[filled..filled + chunk.bytes.len()].copy_from_slice(&chunk.bytes);
                filled += chunk.bytes.len();
                if filled == buffer.len() {
                    break Read::More;
                }
            }
            Ok(None) => break Read::Fin,
            Err(ReadError::Blocked) => break Read::Empty,
            Err(ReadError::Reset(_)) => break Read::Reset,
        }
    };
    // The caller sends anyway.
    let _ = chunks.finalize();
    (filled, read)
}
