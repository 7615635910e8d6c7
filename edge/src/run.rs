//! The loop of a shard: wait, take in, decide, write out.
//!
//! Invariants:
//! - every step of a turn has a budget, and what is left makes the next wait return at once;
//! - effects are obeyed in the order in which the shard gives them, until there is none;
//! - commands of one turn go upstream as one batch.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use roost_edge_core::driver::{Beginning, Driver, Sink};
use roost_edge_core::{Effect, End, Shard, ShardConfig, ShardMetrics, bench_topic};
use roost_wire::CloseCode;
use roost_wire::link::{Audience, Down, Envelope, SessionKey, Up};
use roost_wire::ws::handshake;

use crate::bridge::Link;
use crate::inbox::{Inbox, Item, Order};
use crate::metrics::LoopMetrics;
use crate::{HttpService, Upstream};

/// Items of the mailbox taken in per turn.
const ITEMS_PER_TURN: usize = 4096;
/// Writes to one connection per turn; each gathers many frames.
const WRITES_PER_SESSION: usize = 4;
/// How often the shard is told the wall clock.
const WALL_CLOCK_EVERY: Duration = Duration::from_secs(1);
/// How long the loop lets heartbeats gather after a turn of nothing else: many sessions that only stay alive then share a turn
/// and its calls of the kernel, instead of waking the thread one by one. What clients say in that moment waits so long at most.
const GATHER: Duration = Duration::from_millis(2);
/// How long sessions may take to flush when the edge stops.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// One shard with its driver. A thread calls [`ShardLoop::turn`] until it is stopped; a simulation does so
/// when it wants to.
///
/// `C` is what comes as a connection through the mailbox: a driver's own kind, or one it takes beside those that it accepts
/// itself.
pub struct ShardLoop<D: Driver, U, H, C = <D as Driver>::Conn> {
    driver: D,
    side: Side<D::Conn>,
    inbox: Inbox<C>,
    neighbours: Arc<[Inbox<C>]>,
    /// Taken from the mailbox and not done yet.
    items: VecDeque<Item<C>>,
    ups: Vec<Up>,
    upstream: Arc<U>,
    http: Arc<H>,
    metrics: Arc<LoopMetrics>,
    wall_clock_at: Instant,
    /// Something is left to do: do not sleep.
    more: bool,
    /// Nothing but heartbeats came in this turn.
    calm: bool,
    /// Set once the shard is to stop: when what has not flushed is cut off.
    stop_at: Option<Instant>,
}

/// What a loop is made of besides its driver.
pub struct Setup<C, U, H> {
    /// Settings of the shard.
    pub config: Arc<ShardConfig>,
    /// How others reach it.
    pub inbox: Inbox<C>,
    /// How it reaches every shard of the node, itself too, with what is said on
    /// [`BROADCAST_PATH`](roost_edge_core::config::BROADCAST_PATH).
    pub neighbours: Arc<[Inbox<C>]>,
    /// Where its commands go.
    pub upstream: Arc<U>,
    /// Who serves other HTTP requests.
    pub http: Arc<H>,
    /// The shard's counters.
    pub shard_metrics: Arc<ShardMetrics>,
    /// The loop's counters.
    pub metrics: Arc<LoopMetrics>,
}

/// What came of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Go on.
    Done,
    /// The shard was stopped, and nothing is left of it.
    Stopped,
}

/// The shard's side of the loop: what the driver tells goes here.
struct Side<C> {
    shard: Shard,
    now: Instant,
    links: HashMap<SessionKey, Arc<Link>>,
    arrivals: Vec<(C, SocketAddr)>,
    /// Who may be worth a write besides those the shard names.
    due: Vec<SessionKey>,
    /// Whose transport ended: their links go once what they received is passed on.
    over: Vec<SessionKey>,
    /// Writes that took bytes in this turn.
    writes: u64,
}

impl<C> Side<C> {
    fn wrote(&mut self, key: SessionKey, n: usize) {
        self.writes += 1;
        self.shard.sent(key, n, self.now);
        if !self.links.is_empty()
            && let Some(link) = self.links.get(&key)
        {
            link.sent(n);
        }
    }

    fn unlink(&mut self, key: SessionKey) {
        if !self.links.is_empty()
            && let Some(link) = self.links.remove(&key)
        {
            link.gone();
        }
    }
}

impl<C> Sink for Side<C> {
    type Conn = C;

    fn accepted(&mut self, conn: C, peer: SocketAddr) {
        self.arrivals.push((conn, peer));
    }

    fn received(&mut self, key: SessionKey, bytes: &mut [u8]) {
        self.shard.received(key, bytes, self.now);
    }

    fn datagram(&mut self, key: SessionKey, bytes: &mut [u8]) {
        self.shard.datagram(key, bytes, self.now);
    }

    fn sent(&mut self, key: SessionKey, n: usize) {
        self.wrote(key, n);
        if self.shard.outbound(key).is_some_and(|outbound| !outbound.is_empty()) {
            self.due.push(key);
        }
    }

    fn writable(&mut self, key: SessionKey) {
        self.due.push(key);
    }

    fn half_closed(&mut self, key: SessionKey) -> bool {
        self.shard.half_closed(key, self.now)
    }

    fn ended(&mut self, key: SessionKey, end: End) {
        self.shard.ended(key, end, self.now);
        if !self.links.is_empty() {
            self.over.push(key);
        }
    }
}

impl<D: Driver, U: Upstream, H: HttpService, C: Into<D::Conn> + Send + 'static> ShardLoop<D, U, H, C> {
    /// Joins `driver` and a new shard with the number `shard`; everybody else reaches them through `inbox`.
    pub fn new(driver: D, shard: u16, setup: Setup<C, U, H>) -> Self {
        let Setup { config, inbox, neighbours, upstream, http, shard_metrics, metrics } = setup;
        let now = driver.now();
        let shard = Shard::new(config, shard, shard_metrics, now, driver.unix_ms());
        let side = Side {
            shard,
            now,
            links: HashMap::new(),
            arrivals: Vec::new(),
            due: Vec::new(),
            over: Vec::new(),
            writes: 0,
        };
        let (items, ups) = (VecDeque::new(), Vec::new());
        let wall_clock_at = now + WALL_CLOCK_EVERY;
        Self {
            driver,
            side,
            inbox,
            neighbours,
            items,
            ups,
            upstream,
            http,
            metrics,
            wall_clock_at,
            more: false,
            calm: false,
            stop_at: None,
        }
    }

    /// Called once, on the thread that it lives on.
    ///
    /// # Errors
    /// The driver cannot be used there.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        self.driver.begin()
    }

    /// Sleeps until there is something to do, then does it, within budgets.
    ///
    /// # Errors
    /// The driver cannot go on.
    pub fn turn(&mut self) -> io::Result<Turn> {
        if std::mem::take(&mut self.calm) {
            self.driver.gather(GATHER);
        }
        self.driver.wait(self.timeout())?;
        let began = self.driver.now();
        self.side.now = began;
        if began >= self.wall_clock_at {
            self.wall_clock_at = began + WALL_CLOCK_EVERY;
            self.side.shard.wall_clock(self.driver.unix_ms(), began);
        }
        let mut more = self.driver.deliver(&mut self.side);
        // In order: where there is no room for all who say nothing, those who came first go first.
        let mut arrivals = std::mem::take(&mut self.side.arrivals);
        for (conn, peer) in arrivals.drain(..) {
            self.open(conn, peer);
        }
        self.side.arrivals = arrivals;
        more |= self.take_items();
        more |= self.side.shard.turn(began);
        self.write_due();
        self.obey();
        self.driver.flush(&mut self.side);
        // What became of it may be the end of a connection, or more to write, or somebody came meanwhile: that waits for the
        // next turn.
        self.obey();
        self.metrics.wrote(std::mem::take(&mut self.side.writes));
        self.more = more || !self.side.due.is_empty() || !self.side.arrivals.is_empty();
        self.calm = self.side.shard.only_beats() && !self.more && self.ups.is_empty();
        self.submit();
        let now = self.driver.now();
        self.metrics.turned(now.saturating_duration_since(began), self.more, self.driver.connections());
        match self.stop_at {
            Some(stop_at) if self.driver.connections() + self.driver.lingering() == 0 || now >= stop_at => {
                self.finish();
                Ok(Turn::Stopped)
            }
            _ => Ok(Turn::Done),
        }
    }

    /// How long there is nothing to do; `None`: until something happens.
    fn timeout(&self) -> Option<Duration> {
        if self.more {
            return Some(Duration::ZERO);
        }
        let deadline = [self.side.shard.next_deadline(), self.stop_at].into_iter().flatten().min()?;
        Some(deadline.saturating_duration_since(self.driver.now()))
    }

    /// Takes items of the mailbox in. True: there are more.
    fn take_items(&mut self) -> bool {
        if self.items.is_empty() && self.inbox.mailbox().take(&mut self.items) {
            self.side.shard.doubt(self.side.now);
        }
        for _ in 0..self.items.len().min(ITEMS_PER_TURN) {
            match self.items.pop_front() {
                Some(Item::Down(down)) => self.side.shard.down(down, self.side.now),
                Some(Item::Http { key, down }) => self.side.shard.http(key, down, self.side.now),
                Some(Item::Accepted { conn, peer }) => {
                    self.metrics.taken();
                    self.open(conn.into(), peer);
                }
                Some(Item::Order(Order::Drain { reason, window, deadline, seed })) => {
                    self.side.shard.drain(&reason, window, deadline, Vec::new(), self.side.now, seed);
                }
                Some(Item::Order(Order::Admit(admitting))) => self.side.shard.admit(admitting),
                Some(Item::Order(Order::Stop)) => self.stop(),
                None => break,
            }
        }
        !self.items.is_empty()
    }

    fn open(&mut self, conn: D::Conn, peer: SocketAddr) {
        let (shard, now) = (&mut self.side.shard, self.side.now);
        let key = match self.driver.beginning(&conn) {
            _ if self.stop_at.is_some() => None,
            Beginning::Head => shard.opened(peer, now),
            Beginning::Session { datagrams } => shard.opened_native(peer, datagrams, now),
        };
        let Some(key) = key else {
            self.driver.refuse(conn, &handshake::refusal(503, "Service Unavailable"));
            return;
        };
        if self.driver.attach(key, conn).is_err() {
            self.side.ended(key, End::Error);
        }
    }

    /// Writes to those who can take bytes again.
    fn write_due(&mut self) {
        let mut due = std::mem::take(&mut self.side.due);
        for key in due.drain(..) {
            self.write(key);
        }
        if self.side.due.is_empty() {
            // Only its room is used again.
            self.side.due = due;
        }
    }

    fn obey(&mut self) {
        while let Some(effect) = self.side.shard.poll_effect() {
            match effect {
                Effect::Up(up) => self.ups.push(up),
                Effect::Broadcast(envelope) => self.broadcast(&envelope),
                Effect::Write(key) => self.write(key),
                Effect::Pause(key) => self.driver.pause(key),
                Effect::Resume(key) => self.driver.resume(key),
                Effect::Close(key) => {
                    self.driver.close(key);
                    self.side.unlink(key);
                }
                Effect::CloseWith { session, code } => self.driver.close_with(session, code),
                Effect::Datagram { session, bytes } => {
                    if !self.driver.datagram(session, &bytes) {
                        self.side.shard.undelivered(session, bytes, self.side.now);
                    }
                }
                Effect::Page { session, bytes } => {
                    if self.driver.page(session, &bytes) {
                        self.side.shard.page_sent(bytes.len());
                    } else {
                        self.side.shard.page_undelivered(session, bytes, self.side.now);
                    }
                }
                Effect::HttpOpen { session, peer, bytes } => self.open_http(session, peer, bytes),
                Effect::HttpData { session, bytes } => {
                    if let Some(link) = self.side.links.get(&session) {
                        link.feed(bytes);
                    }
                }
                Effect::HttpEof { session } => {
                    if let Some(link) = self.side.links.get(&session) {
                        link.eof();
                    }
                }
                Effect::HttpEnd { session } => self.side.unlink(session),
            }
        }
        while let Some(key) = self.side.over.pop() {
            self.side.unlink(key);
        }
    }

    /// Hands what was said to everybody to every shard.
    fn broadcast(&self, envelope: &Arc<Envelope>) {
        for inbox in self.neighbours.iter() {
            let audience = Audience::Topic { topic: bench_topic(), except: None };
            inbox.post(&mut vec![Down::Deliver { envelope: envelope.clone(), audience }]);
        }
    }

    fn open_http(&mut self, key: SessionKey, peer: SocketAddr, bytes: Bytes) {
        let (link, io) = Link::new(key, bytes, self.inbox.mailbox().clone());
        self.side.links.insert(key, link);
        self.http.serve(io, peer);
    }

    /// Writes what is queued to `key`, as far as its transport and its share of the turn go.
    fn write(&mut self, key: SessionKey) {
        for _ in 0..WRITES_PER_SESSION {
            let Some(outbound) = self.side.shard.outbound(key) else { return };
            if outbound.is_empty() {
                return;
            }
            match self.driver.write(key, outbound) {
                Ok(0) => return,
                Ok(n) => self.side.wrote(key, n),
                Err(_) => return self.side.ended(key, End::Error),
            }
        }
        self.side.due.push(key);
    }

    fn submit(&mut self) {
        if !self.ups.is_empty() {
            self.upstream.submit(&mut self.ups);
            self.ups.clear();
        }
    }

    /// Says goodbye to everybody.
    fn stop(&mut self) {
        if self.stop_at.is_some() {
            return;
        }
        self.stop_at = Some(self.side.now + FLUSH_WITHIN);
        self.side.shard.close_all(CloseCode::GoingAway, self.side.now);
    }

    /// Cuts off who is left. The router hears that they are gone, and so does who was accepted too late.
    fn finish(&mut self) {
        for key in self.driver.keys() {
            self.driver.close(key);
            self.side.ended(key, End::Error);
        }
        self.items.extend(self.inbox.mailbox().close());
        while self.take_items() {}
        while self.side.shard.turn(self.side.now) {}
        self.obey();
        self.submit();
        self.metrics.turned(Duration::ZERO, false, self.driver.connections());
    }
}

impl<D: Driver, U, H, C> Drop for ShardLoop<D, U, H, C> {
    /// However it ends, nothing is to pile up behind it.
    fn drop(&mut self) {
        self.inbox.mailbox().close();
    }
}

/// Runs a shard on this thread until it is stopped.
///
/// # Errors
/// The driver cannot go on: every connection is closed by then.
pub(crate) fn run_shard<D, U, H, C>(mut shard: ShardLoop<D, U, H, C>) -> io::Result<()>
where
    D: Driver,
    U: Upstream,
    H: HttpService,
    C: Into<D::Conn> + Send + 'static,
{
    loop {
        match shard.turn() {
            Ok(Turn::Done) => {}
            Ok(Turn::Stopped) => return Ok(()),
            Err(error) => {
                shard.finish();
                return Err(error);
            }
        }
    }
}
