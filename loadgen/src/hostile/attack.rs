//! An attacker: a process that does what a recipe says until its time is over, and tells what it heard.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use miniz_oxide::MZFlush;
use miniz_oxide::deflate::core::{CompressorOxide, create_comp_flags_from_zip_params};
use miniz_oxide::deflate::stream::deflate;
use mio::{Events, Interest, Poll, Token};
use serde::{Deserialize, Serialize};

use super::kinds::{Entry, Kind, Recipe, Unit};
use super::socket::{Conn, Stage, Tally, frame, text};
use crate::host;

/// How often new connections and units are due.
const TICK: Duration = Duration::from_millis(10);
/// Length of the frame that is sent byte by byte.
const LONG_FRAME_BYTES: u16 = 16 * 1024;
const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// What an attacker is told on its command line; the token comes on standard input, where nobody else can read it.
#[derive(Debug, Parser)]
struct Args {
    kind: Kind,
    target: SocketAddr,
    /// How long, in milliseconds.
    for_ms: u64,
}

/// What an attacker tells on standard output.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Heard {
    pub connections_opened: u64,
    pub connections_failed: u64,
    /// Connections open at the end.
    pub connections_held: u64,
    pub units_sent: u64,
    /// Units that were due while the server did not read.
    pub units_held_back: u64,
    pub sent_bytes: u64,
    /// CPU time of the attacker.
    pub cpu_ms: u64,
    /// What the server answered, and how often.
    pub answers: std::collections::BTreeMap<String, u64>,
}

/// Runs an attacker.
pub(crate) fn main(args: Vec<std::ffi::OsString>) -> anyhow::Result<()> {
    let args = Args::try_parse_from(args).context("an attacker is started by `roost-load hostile`")?;
    let mut token = String::new();
    std::io::stdin().read_line(&mut token).context("no token")?;
    host::raise_descriptors();
    let heard = Attack::new(args.kind, args.target, token.trim())?.run(Duration::from_millis(args.for_ms))?;
    println!("{}", serde_json::to_string(&heard)?);
    Ok(())
}

struct Attack {
    recipe: Recipe,
    target: SocketAddr,
    /// Empty: sessions are guests.
    token: String,
    poll: Poll,
    conns: Vec<Option<Conn>>,
    free: Vec<usize>,
    /// Whose turn it is.
    next: usize,
    number: u64,
    bomb: Vec<u8>,
    tally: Tally,
}

impl Attack {
    fn new(kind: Kind, target: SocketAddr, token: &str) -> anyhow::Result<Self> {
        let recipe = kind.recipe();
        let bomb = match recipe.unit {
            Unit::Bomb(bytes) => frame(0xc1, &deflated_blanks(bytes)),
            _ => Vec::new(),
        };
        Ok(Self {
            recipe,
            target,
            token: token.to_owned(),
            poll: Poll::new()?,
            conns: Vec::new(),
            free: Vec::new(),
            next: 0,
            number: 0,
            bomb,
            tally: Tally::default(),
        })
    }

    fn run(mut self, time: Duration) -> anyhow::Result<Heard> {
        let (began, mut events, mut buffer) = (Instant::now(), Events::with_capacity(1024), vec![0; 64 * 1024]);
        let (mut opened, mut sent) = (0_u64, 0_u64);
        let mut ended = VecDeque::new();
        while began.elapsed() < time {
            self.poll.poll(&mut events, Some(TICK)).or_else(|error| match error.kind() {
                std::io::ErrorKind::Interrupted => Ok(()),
                _ => Err(error),
            })?;
            for event in &events {
                let Token(at) = event.token();
                let Some(conn) = self.conns[at].as_mut() else { continue };
                if event.is_writable() {
                    conn.flush(&mut self.tally);
                }
                let ends = event.is_read_closed() || event.is_error();
                if (event.is_readable() || ends) && (self.recipe.reads || ends || conn.stage != Stage::Session) {
                    let before = conn.stage == Stage::Session;
                    if !conn.hear(&mut buffer, &mut self.tally) {
                        ended.push_back(at);
                    } else if conn.stage == Stage::Session && !before && !self.recipe.reads {
                        // From here on it reads nothing.
                        self.poll.registry().reregister(&mut conn.stream, Token(at), Interest::WRITABLE)?;
                    }
                }
            }
            for at in ended.drain(..) {
                self.let_go(at);
            }
            // What was due since the beginning, but never a rush to make up for lost time.
            let elapsed = began.elapsed().as_secs_f64();
            let due = |rate: u32, done: u64| ((f64::from(rate) * elapsed) as u64).saturating_sub(done);
            let open = due(self.recipe.opens_per_second, opened);
            let open_now = open.min(u64::from(self.recipe.opens_per_second) / 20 + 1);
            opened += open;
            for _ in 0..open_now {
                self.open();
            }
            let units = due(self.recipe.units_per_second, sent);
            let units_now = units.min(u64::from(self.recipe.units_per_second) / 20 + 1);
            sent += units;
            for _ in 0..units_now {
                self.unit();
            }
        }
        Ok(self.heard())
    }

    fn heard(self) -> Heard {
        let tally = self.tally;
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Heard {
            connections_opened: tally.opened,
            connections_failed: tally.opens_failed,
            connections_held: self.conns.iter().flatten().count() as u64,
            units_sent: tally.units,
            units_held_back: tally.units_held_back,
            sent_bytes: tally.sent_bytes,
            cpu_ms: cpu.tv_sec.unsigned_abs() * 1000 + cpu.tv_nsec.unsigned_abs() / 1_000_000,
            answers: tally.answers,
        }
    }

    fn let_go(&mut self, at: usize) {
        if let Some(mut conn) = self.conns[at].take() {
            // Dropping it closes it; the poller forgets it then.
            let _ = self.poll.registry().deregister(&mut conn.stream);
            self.free.push(at);
        }
    }

    fn open(&mut self) {
        if self.conns.len() - self.free.len() >= self.recipe.connections {
            return;
        }
        self.number += 1;
        let from = (self.number % u64::from(self.recipe.addresses)) as u32;
        let conn = Conn::open(self.target, from).and_then(|mut conn| {
            let at = self.free.last().copied().unwrap_or(self.conns.len());
            self.poll.registry().register(&mut conn.stream, Token(at), Interest::READABLE | Interest::WRITABLE)?;
            Ok(conn)
        });
        let Ok(mut conn) = conn else {
            self.tally.opens_failed += 1;
            return;
        };
        self.tally.opened += 1;
        let hello = self.hello();
        conn.say(&hello, &mut self.tally);
        match self.free.pop() {
            Some(at) => self.conns[at] = Some(conn),
            None => self.conns.push(Some(conn)),
        }
    }

    /// The first bytes of a connection.
    fn hello(&self) -> Vec<u8> {
        let host = self.target;
        let upgrade = |more: &str| format!("GET /ws HTTP/1.1\r\nHost: {host}\r\n{UPGRADE}{more}\r\n").into_bytes();
        match self.recipe.entry {
            Entry::Nothing => Vec::new(),
            Entry::Bytes(bytes) => bytes.to_vec(),
            Entry::Guest => {
                let body = r#"{"name":"Mallory"}"#;
                format!(
                    "POST /v1/guest HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
                .into_bytes()
            }
            Entry::Upgrade => upgrade(""),
            Entry::Session => {
                let offer = if matches!(self.recipe.unit, Unit::Bomb(_)) {
                    "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover\r\n"
                } else {
                    ""
                };
                let device = format!("d{}", self.number);
                let connect = match self.token.as_str() {
                    "" => serde_json::json!({ "guest": "Mallory", "device": device }),
                    token => serde_json::json!({ "token": token, "device": device }),
                };
                [upgrade(offer), text(&serde_json::json!({ "rid": 1, "connect": connect }).to_string())].concat()
            }
            Entry::Broken => broken(self.number, &host.to_string(), upgrade("")),
        }
    }

    /// Sends a unit on the next connection that is ready for one.
    fn unit(&mut self) {
        for _ in 0..self.conns.len() {
            self.next = (self.next + 1) % self.conns.len();
            let ready = self.conns[self.next].as_ref().is_some_and(|conn| match self.recipe.entry {
                Entry::Session => conn.stage == Stage::Session,
                _ => true,
            });
            if ready {
                break;
            }
        }
        let unit = self.recipe.unit;
        let session = self.recipe.entry == Entry::Session;
        let Some(conn) = self.conns.get_mut(self.next).and_then(Option::as_mut) else { return };
        if session && conn.stage != Stage::Session {
            return;
        }
        if conn.is_full() {
            self.tally.units_held_back += 1;
            return;
        }
        self.tally.units += 1;
        let number = self.tally.units;
        let bytes = match unit {
            Unit::Nothing => Vec::new(),
            Unit::Byte => b"x".to_vec(),
            Unit::FrameByte if conn.in_frame => b"x".to_vec(),
            Unit::FrameByte => {
                conn.in_frame = true;
                [&[0x81, 0x80 | 126][..], &LONG_FRAME_BYTES.to_be_bytes(), &[0; 4]].concat()
            }
            Unit::Questions(count) => text(r#"{"rid":2,"get":{"conv":"c_nobody"}}"#).repeat(count),
            Unit::Pings(count) => frame(0x89, b"0123456789").repeat(count),
            Unit::Tiny(count) => text(r#"{"pong":{}}"#).repeat(count),
            Unit::Fragments(count) => [frame(0x01, b""), frame(0x00, b"").repeat(count)].concat(),
            Unit::Subscribe => text(&format!(r#"{{"rid":3,"subscribe":{{"channel":"flood-{number}"}}}}"#)),
            Unit::Cmid => text(&format!(
                r#"{{"rid":4,"publish":{{"channel":"mallory","cmid":"same","attempt":1,"seen":0,"body":{{"text":"{number}"}}}}}}"#
            )),
            // A server that does not compress refuses the reserved bit of the first one.
            Unit::Bomb(_) => self.bomb.clone(),
        };
        conn.say(&bytes, &mut self.tally);
    }
}

/// So many blanks, to a MiB, as permessage-deflate sends them (RFC 7692 §7.2.1).
fn deflated_blanks(bytes: usize) -> Vec<u8> {
    const MIB: usize = 1 << 20;
    let (blanks, mut out) = (vec![b' '; MIB], vec![0; 64 * 1024]);
    let mut squeeze = CompressorOxide::new(create_comp_flags_from_zip_params(9, -15, 0));
    let squeezed = deflate(&mut squeeze, &blanks, &mut out, MZFlush::Full);
    out.truncate(squeezed.bytes_written);
    // What stands behind a full flush depends on nothing before it, so it may stand there again.
    let mut whole = out.repeat(bytes / MIB);
    whole.truncate(whole.len() - 4); // The flush's own end is not sent.
    whole
}

/// One of the rules to break, in turn.
fn broken(number: u64, host: &str, upgrade: Vec<u8>) -> Vec<u8> {
    let head = |lines: &str| format!("GET /ws HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n").into_bytes();
    let after = |frame: Vec<u8>| [upgrade, frame].concat();
    match number % 12 {
        0 => head(&format!("{UPGRADE}Origin: https://{host}.evil.example\r\n")),
        1 => head(&format!("{UPGRADE}Origin: null\r\n")),
        2 => head("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"),
        3 => head("Host: other\r\n"),
        4 => head("X: a\r\n b\r\n"),
        5 => head(&"X: y\r\n".repeat(100)),
        6 => head(&format!("X: {}\r\n", "y".repeat(20_000))),
        7 => after(frame(0xf1, b"{}")),
        8 => after([&[0x81, 0xff][..], &(1_u64 << 30).to_be_bytes(), &[0; 4]].concat()),
        9 => after([frame(0x01, b"{\"a\":\"\xc3"), frame(0x00, b"\x28")].concat()),
        10 => after(b"\x81\x02{}".to_vec()),
        _ => after(text("{").repeat(20)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_is_small_and_becomes_large() {
        let mut bomb = deflated_blanks(4 << 20);
        assert!(bomb.len() < 8 * 1024, "{} B", bomb.len());
        bomb.extend([0, 0, 0xff, 0xff]);
        // An empty last block, so that the stream has an end.
        bomb.extend([1, 0, 0, 0xff, 0xff]);
        let blanks = miniz_oxide::inflate::decompress_to_vec(&bomb).unwrap();
        assert!(blanks.len() == 4 << 20 && blanks.iter().all(|byte| *byte == b' '));
    }
}
