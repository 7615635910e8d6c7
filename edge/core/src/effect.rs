//! What a shard asks of its driver, and what a driver tells besides bytes.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use roost_wire::CloseCode;
use roost_wire::link::{Envelope, SessionKey, Up};

/// Something the driver is to do. Effects are to be obeyed in the order in which they are polled.
#[derive(Debug)]
pub enum Effect {
    /// A command for the router.
    Up(Up),
    /// A message of [`crate::config::BROADCAST_PATH`]: to be delivered to [`bench_topic`](crate::bench_topic) on every
    /// shard, this one too.
    Broadcast(Arc<Envelope>),
    /// Bytes wait in [`crate::Shard::outbound`]: write them. At most one per session between two drains of effects.
    Write(SessionKey),
    /// Stop reading from the connection.
    Pause(SessionKey),
    /// Read again.
    Resume(SessionKey),
    /// Let the connection go: nothing more is to be written, or writing took too long. The key is dead now.
    Close(SessionKey),
    /// The same for a session that is no WebSocket: its transport is to tell the peer why.
    CloseWith {
        /// The connection.
        session: SessionKey,
        /// Why.
        code: CloseCode,
    },
    /// An ephemeral push for a peer that takes datagrams. Where it cannot be sent as one now, it is to be given back to
    /// [`crate::Shard::undelivered`].
    Datagram {
        /// The connection.
        session: SessionKey,
        /// One frame, its length before it.
        bytes: Bytes,
    },
    /// A page of history, which need not wait for what is queued, nor what is queued for it. Where it cannot have a stream of its
    /// own now, it is to be given back to [`crate::Shard::page_undelivered`].
    Page {
        /// The connection.
        session: SessionKey,
        /// One frame, its length before it.
        bytes: Bytes,
    },
    /// A request that is not for us: a new stream for the HTTP service.
    HttpOpen {
        /// The connection.
        session: SessionKey,
        /// Its other end.
        peer: SocketAddr,
        /// What was read so far.
        bytes: Bytes,
    },
    /// More bytes of such a stream.
    HttpData {
        /// The connection.
        session: SessionKey,
        /// What was read.
        bytes: Bytes,
    },
    /// The peer will send nothing more on such a stream, but waits for what is to be answered.
    HttpEof {
        /// The connection.
        session: SessionKey,
    },
    /// The stream is over, or the connection failed: nothing will be read or written any more.
    HttpEnd {
        /// The connection.
        session: SessionKey,
    },
}

/// What the HTTP service did on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpDown {
    /// Bytes for the peer.
    Data(Bytes),
    /// It took this many bytes of the stream: the window opens again.
    Taken(usize),
    /// It is done: the connection closes once what is queued is written.
    End,
}

/// How a transport ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer will send nothing more.
    Eof,
    /// It broke: reset, unreachable, time-out.
    Error,
}
