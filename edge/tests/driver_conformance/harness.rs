//! What a rule needs of a driver's surroundings, and a sink that remembers.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use roost_edge_core::driver::{Driver, Sink, Wake};
use roost_edge_core::{Effect, End, HttpDown, Outbound, Shard, ShardConfig, ShardMetrics};
use roost_wire::link::SessionKey;

/// Turns that lead nowhere before a rule gives up. Each sleeps for [`STEP`] at most.
const PATIENCE: u32 = 3000;
const STEP: Duration = Duration::from_millis(10);

/// A driver and the peers it talks to.
pub(crate) trait Harness {
    type Driver: Driver;
    type Peer: Peer;
    /// Bytes that a peer sends to begin, which no rule counts.
    const PREAMBLE_BYTES: usize = 0;

    /// What one write takes at least, if it is offered more.
    const OFFERED_BYTES_MAX: usize = usize::MAX;

    /// Turns after which what a peer sent has arrived.
    const ARRIVAL_TURNS: u32 = 3;

    /// A driver for shard 0, its waker, and something that makes connections to it.
    fn new() -> (Self, Self::Driver, Arc<dyn Wake>)
    where
        Self: Sized;

    /// A connection and its other end. A driver that accepts by itself is turned until it has.
    fn connect(
        &mut self,
        driver: &mut Self::Driver,
        heard: &mut Heard<<Self::Driver as Driver>::Conn>,
    ) -> (<Self::Driver as Driver>::Conn, Self::Peer);
}

/// The other end of a connection. Nothing here waits.
pub(crate) trait Peer {
    /// Whether it and the driver can begin to talk. To be asked while the driver turns.
    fn is_ready(&mut self) -> bool {
        true
    }
    /// Sends as much of `bytes` as goes; the number of bytes.
    fn send(&mut self, bytes: &[u8]) -> usize;
    /// Takes what has come. `None`: the end came.
    ///
    /// # Errors
    /// The connection was reset.
    fn receive(&mut self) -> io::Result<Option<Vec<u8>>>;
    /// Sends nothing more.
    fn end(&mut self);
    /// Breaks the connection.
    fn reset(self);
}

/// A driver with a shard beside it, that only makes keys and queues: a request to the HTTP service turns a connection
/// into a plain stream of bytes.
pub(crate) struct Bench<H: Harness> {
    pub(crate) harness: H,
    pub(crate) driver: H::Driver,
    pub(crate) waker: Arc<dyn Wake>,
    pub(crate) heard: Heard<<H::Driver as Driver>::Conn>,
    shard: Shard,
}

/// What a driver told.
pub(crate) struct Heard<C> {
    pub(crate) received: HashMap<SessionKey, Vec<u8>>,
    pub(crate) ended: HashMap<SessionKey, End>,
    pub(crate) half_closed: Vec<SessionKey>,
    /// Bytes of a preamble that have not come.
    preamble: HashMap<SessionKey, usize>,
    /// Whether connections are to be kept when their peer sends no more.
    pub(crate) keeps: bool,
    sent: Vec<(SessionKey, usize)>,
    writable: Vec<SessionKey>,
    pub(crate) arrivals: Vec<(C, SocketAddr)>,
}

impl<C> Default for Heard<C> {
    fn default() -> Self {
        Self {
            received: HashMap::new(),
            ended: HashMap::new(),
            half_closed: Vec::new(),
            preamble: HashMap::new(),
            keeps: false,
            sent: Vec::new(),
            writable: Vec::new(),
            arrivals: Vec::new(),
        }
    }
}

impl<C> Sink for Heard<C> {
    type Conn = C;

    fn accepted(&mut self, conn: C, peer: SocketAddr) {
        self.arrivals.push((conn, peer));
    }

    fn received(&mut self, key: SessionKey, bytes: &mut [u8]) {
        assert!(!bytes.is_empty(), "the end is told by `ended`");
        assert!(!self.ended.contains_key(&key) && !self.half_closed.contains(&key), "bytes after the end");
        let passed = self.preamble.get_mut(&key).map_or(0, |left| {
            let passed = bytes.len().min(*left);
            *left -= passed;
            passed
        });
        self.received.entry(key).or_default().extend_from_slice(&bytes[passed..]);
        bytes.fill(0xee); // the buffer is lent, and may be changed
    }

    fn sent(&mut self, key: SessionKey, n: usize) {
        self.sent.push((key, n));
    }

    fn writable(&mut self, key: SessionKey) {
        self.writable.push(key);
    }

    fn half_closed(&mut self, key: SessionKey) -> bool {
        assert!(!self.half_closed.contains(&key), "told once");
        self.half_closed.push(key);
        self.keeps
    }

    fn ended(&mut self, key: SessionKey, end: End) {
        assert_eq!(self.ended.insert(key, end), None, "one end each");
    }
}

impl<H: Harness> Bench<H> {
    pub(crate) fn new() -> Self {
        let (harness, driver, waker) = H::new();
        let config = ShardConfig { head_within: Duration::from_secs(3600), ..ShardConfig::default() };
        let metrics = Arc::new(ShardMetrics::default());
        let shard = Shard::new(Arc::new(config), 0, metrics, driver.now(), driver.unix_ms());
        Self { harness, driver, waker, heard: Heard::default(), shard }
    }

    /// An attached connection.
    pub(crate) fn connect(&mut self) -> (SessionKey, H::Peer) {
        let (conn, mut peer) = self.harness.connect(&mut self.driver, &mut self.heard);
        let now = self.driver.now();
        let key = self.shard.opened((Ipv4Addr::LOCALHOST, 1).into(), now).expect("room");
        self.shard.received(key, &mut b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), now);
        while self.shard.poll_effect().is_some() {}
        self.heard.preamble.insert(key, H::PREAMBLE_BYTES);
        self.driver.attach(key, conn).expect("a fresh connection");
        self.until("the peer is ready", |_| peer.is_ready());
        (key, peer)
    }

    /// Queues `frames` to `key` and starts to write.
    pub(crate) fn queue(&mut self, key: SessionKey, frames: impl IntoIterator<Item = Bytes>) {
        for frame in frames {
            self.queue_blindly(key, frame);
        }
        self.write(key).expect("a live connection");
    }

    /// Queues without writing.
    pub(crate) fn queue_blindly(&mut self, key: SessionKey, frame: Bytes) {
        self.shard.http(key, HttpDown::Data(frame), self.driver.now());
    }

    /// Writes until nothing is queued or the driver takes no more.
    pub(crate) fn write(&mut self, key: SessionKey) -> io::Result<()> {
        loop {
            while let Some(outbound) = self.shard.outbound(key).filter(|outbound| !outbound.is_empty()) {
                let n = self.driver.write(key, outbound)?;
                if n == 0 {
                    break;
                }
                self.shard.sent(key, n, self.driver.now());
            }
            self.driver.flush(&mut self.heard);
            if !self.note_sent() {
                break;
            }
        }
        while self.shard.poll_effect().is_some() {}
        Ok(())
    }

    /// Offers what is queued to the driver once, and does not flush. Returns what was taken at once.
    pub(crate) fn offer(&mut self, key: SessionKey) -> usize {
        let n = self.driver.write(key, self.shard.outbound(key).expect("a live key")).expect("a live connection");
        self.shard.sent(key, n, self.driver.now());
        n
    }

    /// Ends the sends that were offered, and takes what has been sent off the queues.
    pub(crate) fn flush(&mut self) {
        self.driver.flush(&mut self.heard);
        self.note_sent();
    }

    /// Takes what has been sent off the queues. True: there was something.
    fn note_sent(&mut self) -> bool {
        let sent = std::mem::take(&mut self.heard.sent);
        for (key, n) in &sent {
            self.shard.sent(*key, *n, self.driver.now());
        }
        !sent.is_empty()
    }

    /// Bytes queued to `key`.
    pub(crate) fn queued_bytes(&self, key: SessionKey) -> usize {
        self.shard.outbound(key).map_or(0, Outbound::bytes)
    }

    /// Forgets `key`, so that its slot is used again.
    pub(crate) fn forget(&mut self, key: SessionKey) {
        self.shard.ended(key, End::Eof, self.driver.now());
        while let Some(effect) = self.shard.poll_effect() {
            assert!(!matches!(effect, Effect::Close(_)), "no close after the end");
        }
    }

    /// One sleep, and what it brought.
    pub(crate) fn turn(&mut self) {
        self.driver.wait(Some(STEP)).expect("the driver goes on");
        self.driver.deliver(&mut self.heard);
        for (key, n) in std::mem::take(&mut self.heard.sent) {
            self.shard.sent(key, n, self.driver.now());
            self.write(key).expect("a live connection");
        }
        for key in std::mem::take(&mut self.heard.writable) {
            self.write(key).expect("a live connection");
        }
    }

    /// Turns until `done` says so.
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..PATIENCE {
            if done(self) {
                return;
            }
            self.turn();
        }
        panic!("never: {what}");
    }

    pub(crate) fn received(&self, key: SessionKey) -> &[u8] {
        self.heard.received.get(&key).map_or(&[], Vec::as_slice)
    }

    /// How long `work` took on the driver's clock.
    pub(crate) fn time(&mut self, work: impl FnOnce(&mut Self)) -> Duration {
        let began: Instant = self.driver.now();
        work(self);
        self.driver.now() - began
    }
}

/// Bytes that are spoilt when nobody holds them any more, as memory is that is used again.
pub(crate) struct Spoilt(pub(crate) Vec<u8>);

impl AsRef<[u8]> for Spoilt {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Spoilt {
    fn drop(&mut self) {
        self.0.fill(0xdd);
        // What only a sanitizer would notice is to be seen in the bytes, so the memory stays.
        std::mem::forget(std::mem::take(&mut self.0));
    }
}

/// Bytes that tell when one is lost, doubled or moved.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}
