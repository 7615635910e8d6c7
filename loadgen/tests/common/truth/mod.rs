//! A server whose truth is known: it delays, loses, doubles, reorders, garbles and stalls by plan, with a timer of its
//! own, and remembers what it did.
//!
//! One thread, one epoll, one timer descriptor. It speaks enough of Roost for `quick` and `broadcast`, and the plain
//! protocol of `echo` and of plain broadcasts.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "several programs use a part each")]

pub mod check;
mod talk;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use roost_wire::ws::handshake::{Request, parse_request, write_accept};
use roost_wire::ws::{Decoder, Event, MessageKind, Side};
use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

const LISTENER: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);

/// What the server does with messages, each counted from 0 in the order of their coming.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// From the receipt of a message to its pushes.
    pub delays: Delays,
    /// From the receipt of a message to its SENT.
    pub acks: Delays,
    /// What befalls every how manyth message of a conversation; 0: none.
    pub faults: Faults,
    /// So long after the first message the server does nothing at all, for so long.
    pub stall: Option<(Duration, Duration)>,
}

/// A distribution with atoms: 98 % of the messages take `usual`, 1.5 % `slow`, 0.5 % `slowest`. So p50 is the first,
/// p99 the second and p99.9 the third, and a few more or less do not change that.
#[derive(Clone, Copy, Debug)]
pub struct Delays {
    pub usual: Duration,
    pub slow: Duration,
    pub slowest: Duration,
}

impl Delays {
    pub const NONE: Self = Self { usual: Duration::ZERO, slow: Duration::ZERO, slowest: Duration::ZERO };

    /// Of the `n`th message: each thousand in a row has its share of each, spread over it.
    pub fn of(&self, n: u64) -> Duration {
        // 619 and 1000 have no common divisor, so every rank comes once in a thousand; and their ratio is nearly golden, so
        // that ranks are spread over any part of it as well.
        match n * 619 % 1000 {
            0..980 => self.usual,
            980..995 => self.slow,
            _ => self.slowest,
        }
    }
}

/// Every how manyth entry of a conversation it befalls; 0: none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Acknowledged, neither pushed nor stored; in a plain broadcast not told to anybody.
    pub lose: u64,
    pub double: u64,
    /// Pushed after the one that follows it.
    pub reorder: u64,
    /// Pushed with another text; the log has the right one.
    pub garble: u64,
}

/// What it did.
#[derive(Debug, Default)]
pub struct Truth {
    /// From the receipt of a message to the write of each push of it (or of its echo), in nanoseconds.
    pub delays_ns: Vec<u64>,
    /// Of the same pushes: when the message was meant to be sent, by the client's clock; and when it was received and
    /// pushed, by that of the server.
    pub times: Vec<Times>,
    /// From the receipt of a message to the write of its SENT.
    pub acks_ns: Vec<u64>,
    /// Conversation and seq.
    pub lost: BTreeSet<(String, u64)>,
    pub doubled: BTreeSet<(String, u64)>,
    pub reordered: BTreeSet<(String, u64)>,
    pub garbled: BTreeSet<(String, u64)>,
    pub messages: u64,
    pub stalled: Option<Duration>,
}

/// One push, in nanoseconds; two clocks.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub intended: i64,
    pub received: i64,
    pub written: i64,
}

/// A running server; it ends with the process.
pub struct Server {
    pub address: SocketAddr,
    truth: Arc<Mutex<Truth>>,
}

impl Server {
    /// What it did so far.
    pub fn truth(&self) -> Truth {
        std::mem::take(&mut self.truth.lock().unwrap())
    }
}

/// Starts one.
pub fn start(plan: Plan) -> Server {
    let mut listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let poll = Poll::new().unwrap();
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).unwrap();
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags).unwrap();
    poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE).unwrap();
    let truth = Arc::new(Mutex::new(Truth::default()));
    let mut serving = Serving {
        plan,
        poll,
        timer,
        truth: Arc::clone(&truth),
        conns: HashMap::new(),
        next_conn: 0,
        parcels: BinaryHeap::new(),
        next_parcel: 0,
        talk: talk::Talk::default(),
        began: Instant::now(),
        stall_at: None,
    };
    std::thread::spawn(move || serving.run(&listener));
    Server { address, truth }
}

struct Conn {
    stream: TcpStream,
    decoder: Option<Decoder>,
    head: Vec<u8>,
    out: BytesMut,
    plain: bool,
    user: String,
}

/// Something to be written at its time.
struct Parcel {
    to: Token,
    bytes: Bytes,
    received: Instant,
    /// As the text of the message says.
    intended: i64,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Push,
    Ack,
    /// A push that does not count among the delays: it was sent before, or is no message of a client.
    Extra,
}

struct Serving {
    plan: Plan,
    poll: Poll,
    timer: OwnedFd,
    truth: Arc<Mutex<Truth>>,
    conns: HashMap<Token, Conn>,
    next_conn: usize,
    parcels: BinaryHeap<Reverse<(Instant, u64, Held)>>,
    next_parcel: u64,
    talk: talk::Talk,
    began: Instant,
    stall_at: Option<Instant>,
}

/// Parcels are ordered by their time and number alone.
struct Held(Parcel);

impl PartialEq for Held {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl Serving {
    fn run(&mut self, listener: &TcpListener) {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let wait = self.arm();
            match self.poll.poll(&mut events, wait) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => panic!("{error}"),
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(listener),
                    TIMER => {}
                    token => {
                        if event.is_readable() {
                            self.read(token, &mut buffer);
                        }
                        self.flush(token);
                    }
                }
            }
            self.stall();
            self.send_due();
        }
    }

    /// How long to wait: not at all if something is due, else until the timer wakes it.
    fn arm(&self) -> Option<Duration> {
        let stall = self.stall_at.into_iter();
        let next = self.parcels.peek().map(|Reverse((at, ..))| *at).into_iter().chain(stall).min()?;
        let wait = next.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            return Some(Duration::ZERO);
        }
        let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: wait };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).unwrap();
        None
    }

    fn stall(&mut self) {
        if let (Some(at), Some((_, long))) = (self.stall_at, self.plan.stall)
            && Instant::now() >= at
        {
            let began = Instant::now();
            std::thread::sleep(long);
            self.truth.lock().unwrap().stalled = Some(began.elapsed());
            self.stall_at = None;
        }
    }

    fn accept(&mut self, listener: &TcpListener) {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.set_nodelay(true).unwrap();
            let token = Token(self.next_conn);
            self.next_conn += 1;
            self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE).unwrap();
            let (head, out, user) = (Vec::new(), BytesMut::new(), String::new());
            self.conns.insert(token, Conn { stream, decoder: None, head, out, plain: false, user });
        }
    }

    fn read(&mut self, token: Token, buffer: &mut [u8]) {
        loop {
            let Some(conn) = self.conns.get_mut(&token) else { return };
            match conn.stream.read(buffer) {
                Ok(taken) if taken > 0 => self.received(token, &mut buffer[..taken], Instant::now()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Ok(_) | Err(_) => {
                    self.conns.remove(&token);
                    return;
                }
            }
        }
    }

    fn received(&mut self, token: Token, bytes: &mut [u8], now: Instant) {
        let conn = self.conns.get_mut(&token).unwrap();
        let Some(mut decoder) = conn.decoder.take() else {
            conn.head.extend_from_slice(bytes);
            if let Some((Request::Upgrade(upgrade), _)) = parse_request(&conn.head).unwrap() {
                conn.plain = upgrade.protocols().next().is_none();
                write_accept(upgrade.key, (!conn.plain).then_some("roost.v1.pb"), &mut conn.out);
                conn.decoder = Some(Decoder::new(Side::Server, 64 * 1024));
            }
            return self.flush(token);
        };
        let (plain, mut at) = (conn.plain, 0);
        while let Some(event) = decoder.next(bytes, &mut at).unwrap() {
            match event {
                Event::Message { payload, kind: MessageKind::Text } if plain => {
                    let text = payload.to_vec();
                    self.text(token, &text, now);
                }
                Event::Message { payload, .. } => {
                    let payload = payload.to_vec();
                    self.frames(token, &payload, now);
                }
                Event::Ping(payload) => {
                    let payload = payload.to_vec();
                    let conn = self.conns.get_mut(&token).unwrap();
                    roost_wire::ws::write_pong(&payload, None, &mut conn.out);
                }
                Event::Pong(_) | Event::Close(_) => {}
            }
        }
        self.conns.get_mut(&token).unwrap().decoder = Some(decoder);
        self.flush(token);
    }

    /// Something will be written at `at`.
    fn later(&mut self, at: Instant, parcel: Parcel) {
        self.next_parcel += 1;
        self.parcels.push(Reverse((at, self.next_parcel, Held(parcel))));
    }

    fn send_due(&mut self) {
        while self.parcels.peek().is_some_and(|Reverse((at, ..))| *at <= Instant::now()) {
            let Some(Reverse((.., Held(parcel)))) = self.parcels.pop() else { return };
            let Some(conn) = self.conns.get_mut(&parcel.to) else { continue };
            conn.out.extend_from_slice(&parcel.bytes);
            self.flush(parcel.to);
            let took = parcel.received.elapsed().as_nanos() as u64;
            let mut truth = self.truth.lock().unwrap();
            match parcel.what {
                What::Push => {
                    truth.delays_ns.push(took);
                    let received = parcel.received.duration_since(self.began).as_nanos() as i64;
                    truth.times.push(Times { intended: parcel.intended, received, written: received + took as i64 });
                }
                What::Ack => truth.acks_ns.push(took),
                What::Extra => {}
            }
        }
    }

    fn flush(&mut self, token: Token) {
        let Some(conn) = self.conns.get_mut(&token) else { return };
        while !conn.out.is_empty() {
            match conn.stream.write(&conn.out) {
                Ok(written) => conn.out.advance(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.conns.remove(&token);
                    return;
                }
            }
        }
    }

    /// A message came: counts it, and gives its number.
    fn counted(&mut self, now: Instant) -> u64 {
        let mut truth = self.truth.lock().unwrap();
        if truth.messages == 0
            && let Some((after, _)) = self.plan.stall
        {
            self.stall_at = Some(now + after);
        }
        truth.messages += 1;
        truth.messages - 1
    }
}

/// When a text was meant to be sent: sixteen digits behind a magic word, a sender and a serial.
fn intended(text: &str) -> i64 {
    text.trim_start_matches('!').get(29..45).and_then(|digits| i64::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

impl Truth {
    /// From the intended time of each message to each push of it. The clocks are brought together by the message that
    /// came soonest: what it took on its way is left out, some 50 µs.
    pub fn since_intended_ns(&self) -> Vec<u64> {
        let apart = self.times.iter().map(|times| times.received - times.intended).min().unwrap_or(0);
        self.times.iter().map(|times| (times.written - times.intended - apart) as u64).collect()
    }
}

/// The value at a quantile of what was measured, in microseconds: nearest rank.
pub fn quantile_us(sorted_ns: &[u64], quantile: f64) -> f64 {
    let rank = ((sorted_ns.len() as f64 * quantile).ceil() as usize).clamp(1, sorted_ns.len());
    sorted_ns[rank - 1] as f64 / 1e3
}
