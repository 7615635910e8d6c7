//! What moves bytes: the seam between a shard and a transport.
//!
//! One trait for three kinds of driver: readiness (epoll, kqueue: the kernel says "now", we read and write), completion
//! (io_uring: the kernel reads and writes, and says so later) and simulation (a test decides when what happens). The
//! loop that joins a driver and a [`Shard`](crate::Shard) is generic over it, so nothing is dispatched at run time.
//!
//! Invariants:
//! - a key is attached from [`Driver::attach`] until [`Driver::close`], a failed [`Driver::write`] or
//!   [`Sink::ended`], whichever is first; calls for any other key do nothing;
//! - bytes reach [`Sink::received`] in the order of the stream, and all of them before [`Sink::half_closed`] and
//!   [`Sink::ended`];
//! - after [`Driver::pause`] returns, nothing is received until [`Driver::resume`].

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use roost_wire::CloseCode;
use roost_wire::link::SessionKey;

use crate::{End, Outbound};

/// How a connection begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Beginning {
    /// With the head of an HTTP request.
    #[default]
    Head,
    /// As a session of frames on a stream.
    Session {
        /// Whether the peer takes datagrams beside the stream.
        datagrams: bool,
    },
}

/// Moves the bytes of one shard's connections. Lives on the shard's thread.
pub trait Driver {
    /// An accepted connection that belongs to no session yet.
    type Conn: Send + 'static;

    /// Called once, on the thread that the driver lives on, before anything else.
    ///
    /// # Errors
    /// The driver cannot be used there.
    fn begin(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The time on the driver's clock: the real one, or the simulation's.
    fn now(&self) -> Instant;

    /// The wall clock, in ms since the Unix epoch; it may jump.
    fn unix_ms(&self) -> u64;

    /// Sleeps until something happened, the waker was called or `timeout` is over; `None` waits for ever. Does not
    /// sleep while there is more to deliver.
    ///
    /// # Errors
    /// Only when the driver cannot go on: the shard then ends.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()>;

    /// Lets things happen for `span` without being woken by each, so that the next turn has more of them. A wake-up or
    /// bytes may wait as long. By default nothing is gathered.
    fn gather(&mut self, span: Duration) {
        let _ = span;
    }

    /// Tells `sink` what happened, within the driver's budget. True: the budget was used up, and there is more.
    fn deliver<S: Sink<Conn = Self::Conn>>(&mut self, sink: &mut S) -> bool;

    /// How `conn` begins.
    fn beginning(&self, conn: &Self::Conn) -> Beginning {
        let _ = conn;
        Beginning::Head
    }

    /// Takes `conn` as the transport of `key` and starts to read.
    ///
    /// # Errors
    /// The transport cannot be used; it was let go.
    fn attach(&mut self, key: SessionKey, conn: Self::Conn) -> io::Result<()>;

    /// Sends `answer` as far as it goes without waiting, and lets `conn` go. A transport that tells its end by a code
    /// tells [`CloseCode::Overloaded`] instead.
    fn refuse(&mut self, conn: Self::Conn, answer: &[u8]);

    /// Sends from the front of `outbound`; what is taken at once is returned, in bytes.
    ///
    /// 0 means "later": the driver calls [`Sink::sent`] when a send that it holds (with counted references to the
    /// frames) has ended, or [`Sink::writable`] when trying again is worth it. A completion driver has at most one
    /// send of a key under way and takes nothing until it has ended.
    ///
    /// # Errors
    /// The transport failed and was let go; [`Sink::ended`] does not follow.
    fn write(&mut self, key: SessionKey, outbound: &Outbound) -> io::Result<usize>;

    /// Starts the sends for which [`Driver::write`] said "later", all with one call of the kernel where it can, and
    /// tells `sink` what came of them. To be called when there is nothing more to write, at the end of a turn; what is
    /// not flushed starts with the next [`Driver::wait`]. A driver that writes at once has nothing to do here.
    fn flush<S: Sink<Conn = Self::Conn>>(&mut self, sink: &mut S) {
        let _ = sink;
    }

    /// Stops reading from `key`.
    fn pause(&mut self, key: SessionKey);

    /// Reads from `key` again.
    fn resume(&mut self, key: SessionKey);

    /// Lets `key` go. What was taken by [`Driver::write`] before still reaches a peer that reads.
    fn close(&mut self, key: SessionKey);

    /// The same, and tells the peer why, where the transport has a way to.
    fn close_with(&mut self, key: SessionKey, code: CloseCode) {
        let _ = code;
        self.close(key);
    }

    /// Sends `bytes` to `key` beside the stream, now or never. False: not in this way, try the stream.
    fn datagram(&mut self, key: SessionKey, bytes: &Bytes) -> bool {
        let _ = (key, bytes);
        false
    }

    /// Sends `bytes` to `key` on a stream of their own, whole. False: not in this way, or not now; try the stream.
    fn page(&mut self, key: SessionKey, bytes: &Bytes) -> bool {
        let _ = (key, bytes);
        false
    }

    /// How many keys are attached.
    fn connections(&self) -> usize;

    /// How many connections have no key any more, and wait until what was written to them has arrived. 0 where others see to
    /// that when the driver is gone.
    fn lingering(&self) -> usize {
        0
    }

    /// Every attached key, for the few occasions that concern all of them.
    fn keys(&self) -> Vec<SessionKey>;
}

/// Where a driver tells what happened.
pub trait Sink {
    /// The driver's connections.
    type Conn;

    /// A driver that accepts by itself got a connection.
    fn accepted(&mut self, conn: Self::Conn, peer: SocketAddr);

    /// Bytes arrived, in a buffer that is lent for the call and may be changed.
    fn received(&mut self, key: SessionKey, bytes: &mut [u8]);

    /// A datagram arrived beside the stream, in a buffer that is lent for the call and may be changed.
    fn datagram(&mut self, key: SessionKey, bytes: &mut [u8]) {
        let _ = (key, bytes);
    }

    /// A send has ended: `n` bytes from the front of the queue are out.
    fn sent(&mut self, key: SessionKey, n: usize);

    /// The transport takes bytes again.
    fn writable(&mut self, key: SessionKey);

    /// The peer will send nothing more, but may still read. True: the key stays attached, for what is still to be
    /// written; a failure is told by [`Sink::ended`]. False: the driver lets it go, and [`Sink::ended`] follows.
    fn half_closed(&mut self, key: SessionKey) -> bool;

    /// The transport ended and was let go.
    fn ended(&mut self, key: SessionKey, end: End);
}

/// Ends the sleep of [`Driver::wait`] from another thread.
pub trait Wake: Send + Sync + 'static {
    /// Makes the current sleep, or the next one, end at once.
    fn wake(&self);
}
