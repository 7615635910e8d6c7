//! One thread that accepts for drivers that do not, and hands each connection to the shard that has fewest.
//!
//! When descriptors or memory run out it says 503 to one waiting client (on a descriptor kept for that), pauses, and
//! tries again: no busy loop, no connection that hangs without an answer for ever. The same when connections have all
//! the descriptors they may have: the rest is for the store, the admin port and whatever else a node opens.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, Waker};
use roost_edge_core::driver::Wake;
use roost_wire::ws::handshake;
use socket2::{Domain, Protocol, Socket, Type};

use crate::address::Gate;
use crate::driver::poll::{Conn, Hatch, PollWaker};
use crate::inbox::Inbox;
use crate::metrics::{AcceptMetrics, LoopMetrics};
use crate::tls::NO_ROOM;

/// Connections the kernel keeps for us until we accept them. It takes less where `net.core.somaxconn` is lower.
const BACKLOG: i32 = 8192;
/// How long accepting pauses when something ran out.
const PAUSE: Duration = Duration::from_millis(100);
/// How often running out is logged.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// How often a connection is offered to a shard that has not taken those before, and the pause between.
const PASSING_TRIES: u32 = 1000;
const PASSING_PAUSE: Duration = Duration::from_millis(1);
/// Connections accepted before looking whether to stop.
const ACCEPTS_PER_TURN: usize = 256;

const LISTENER: Token = Token(0);
const WAKE: Token = Token(1);

/// What others know of whoever accepts.
pub(crate) struct Control {
    stopped: AtomicBool,
    only_tls: AtomicBool,
    wakers: Vec<Arc<dyn Wake>>,
    pub(crate) metrics: AcceptMetrics,
}

impl Control {
    /// Of those whom `wakers` wake.
    pub(crate) fn new(wakers: Vec<Arc<dyn Wake>>) -> Self {
        let (stopped, only_tls) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { stopped, only_tls, wakers, metrics: AcceptMetrics::default() }
    }

    /// Nobody who connects speaks anything but TLS.
    pub(crate) fn speak_only_tls(&self) {
        self.only_tls.store(true, Ordering::Relaxed);
    }

    /// What somebody is told whom no shard takes: `status`, and `why` for people; by TLS, which has not begun, an alert.
    pub(crate) fn refusal(&self, status: u16, why: &str) -> Vec<u8> {
        if self.only_tls.load(Ordering::Relaxed) { NO_ROOM.to_vec() } else { handshake::refusal(status, why).to_vec() }
    }

    /// Ends accepting: the listener is closed.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        for waker in &self.wakers {
            waker.wake();
        }
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

/// The acceptor, before and while it runs.
pub(crate) struct Acceptor {
    listener: mio::net::TcpListener,
    poll: Poll,
    control: Arc<Control>,
    gate: Gate,
    /// A descriptor to give up when there is no other, so that somebody can be told.
    reserve: Option<File>,
    logged: Option<Instant>,
}

/// Where accepted connections go.
pub(crate) struct Shards {
    targets: Vec<Target>,
}

struct Target {
    inbox: Inbox<Conn>,
    metrics: Arc<LoopMetrics>,
    given: u64,
    /// The way of connections to a shard with descriptors of its own.
    hatch: Option<Hatch>,
}

impl Shards {
    pub(crate) fn new(shards: impl IntoIterator<Item = (Inbox<Conn>, Arc<LoopMetrics>, Option<Hatch>)>) -> Self {
        let target = |(inbox, metrics, hatch)| Target { inbox, metrics, given: 0, hatch };
        Self { targets: shards.into_iter().map(target).collect() }
    }

    /// Hands `conn` to the shard that has fewest.
    ///
    /// # Errors
    /// It has descriptors of its own, and takes none.
    fn give(&mut self, mut conn: Conn, peer: SocketAddr) -> io::Result<()> {
        if let Some(target) = self.targets.iter_mut().min_by_key(|target| target.metrics.load(target.given)) {
            if let Some(hatch) = &target.hatch {
                pass(hatch, &mut conn)?;
            }
            target.given += 1;
            target.inbox.accepted(conn, peer);
        }
        Ok(())
    }
}

/// Gives the socket of `conn` through `hatch`, waiting for the shard if it has not taken those before.
fn pass(hatch: &Hatch, conn: &mut Conn) -> io::Result<()> {
    let Some(stream) = conn.take_stream() else { return Ok(()) };
    for _ in 0..PASSING_TRIES {
        match hatch.give(&stream) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(PASSING_PAUSE),
            given => return given,
        }
    }
    Err(ErrorKind::TimedOut.into())
}

/// A listener at `addr` that a second one at the same address is refused beside.
///
/// # Errors
/// As bind(2) and listen(2).
pub(crate) fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // Lets a server restart while connections of the last one are in TIME_WAIT; a listening one still refuses us.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    // Small frames are to leave at once; the shard's own gathering does what Nagle's algorithm is for. Linux gives it to
    // every connection that is accepted.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

impl Acceptor {
    pub(crate) fn new(listener: TcpListener, gate: Gate) -> io::Result<Self> {
        let mut listener = mio::net::TcpListener::from_std(listener);
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let control = Arc::new(Control::new(vec![Arc::new(PollWaker::from(waker))]));
        Ok(Self { listener, poll, control, gate, reserve: reserve(), logged: None })
    }

    pub(crate) const fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Accepts until it is stopped.
    ///
    /// # Errors
    /// The listener cannot be waited for.
    pub(crate) fn run(mut self, mut shards: Shards) -> io::Result<()> {
        let mut events = Events::with_capacity(2);
        let mut again_at = Some(Instant::now());
        while !self.control.stopped() {
            let timeout = again_at.map(|at| at.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                // Who connects during a pause does not cut it short.
                _ if again_at.is_some_and(|at| Instant::now() < at) => {}
                _ => again_at = self.accept(&mut shards),
            }
        }
        Ok(())
    }

    /// Accepts what waits, and returns when to go on; `None`: when somebody connects.
    fn accept(&mut self, shards: &mut Shards) -> Option<Instant> {
        for _ in 0..ACCEPTS_PER_TURN {
            if self.gate.is_full() {
                return Some(self.pause(&io::Error::other("connections have as many descriptors as they may")));
            }
            match self.listener.accept() {
                Ok((conn, peer)) => self.admit(conn, peer, shards),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) if ran_out(&error) => return Some(self.pause(&error)),
                // The peer was gone before we came (ECONNABORTED and its like), or a signal came: the next one.
                Err(_) => _ = self.control.metrics.errors.fetch_add(1, Ordering::Relaxed),
            }
        }
        Some(Instant::now())
    }

    fn admit(&mut self, conn: mio::net::TcpStream, peer: SocketAddr, shards: &mut Shards) {
        let metrics = &self.control.metrics;
        let Some(permit) = self.gate.admit(peer.ip()) else {
            metrics.refused_address.fetch_add(1, Ordering::Relaxed);
            return turn_away(conn, &self.control.refusal(429, "too many connections from this address"));
        };
        let given = if cfg!(target_os = "linux") { Ok(()) } else { conn.set_nodelay(true) };
        if given.and_then(|()| shards.give(Conn::new(conn.into(), permit), peer)).is_err() {
            metrics.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn pause(&mut self, error: &io::Error) -> Instant {
        self.control.metrics.pauses.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        if self.logged.is_none_or(|logged| now >= logged + LOG_EVERY) {
            self.logged = Some(now);
            tracing::warn!(%error, "accepting pauses; raise the limit of open files (ulimit -n, LimitNOFILE)");
        }
        if self.reserve.take().is_some()
            && let Ok((conn, _)) = self.listener.accept()
        {
            self.control.metrics.refused.fetch_add(1, Ordering::Relaxed);
            turn_away(conn, &self.control.refusal(503, "Service Unavailable"));
        }
        self.reserve = reserve();
        now + PAUSE
    }
}

/// Answers and closes. Best effort: the socket is fresh, so a short answer fits or the peer is gone. Closing it with its
/// request unread would reset it, so that is read first.
fn turn_away(mut conn: mio::net::TcpStream, refusal: &[u8]) {
    let _ = conn.read(&mut [0; 2048]);
    let _ = conn.write(refusal);
    let _ = conn.shutdown(Shutdown::Write);
}

fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Descriptors (EMFILE of the process, ENFILE of the system) or memory (ENOBUFS, ENOMEM). The numbers are those of
/// every Unix but for ENOBUFS.
pub(crate) fn ran_out(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = if cfg!(target_os = "linux") { 105 } else { 55 };
    error.kind() == ErrorKind::OutOfMemory || matches!(error.raw_os_error(), Some(ENFILE | EMFILE | ENOBUFS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn tells_running_out_from_a_peer_that_went_away() {
        for (name, number, pauses) in [
            ("ENFILE", 23, true),
            ("EMFILE", 24, true),
            ("ENOMEM", 12, true),
            ("ENOBUFS", 105, true),
            ("ECONNABORTED", 103, false),
            ("EINTR", 4, false),
            ("EPROTO", 71, false),
        ] {
            assert_eq!(ran_out(&io::Error::from_raw_os_error(number)), pauses, "{name}");
        }
    }

    #[test]
    fn a_listener_takes_no_address_that_another_one_has() {
        let first = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let error = listen(first.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    }
}
