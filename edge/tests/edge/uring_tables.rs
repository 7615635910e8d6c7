//! More connections than the process may have descriptors, with the io_uring driver: rings are added as they are needed.
//!
//! The server runs in a child process with a low limit, as the clients need descriptors themselves.

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use roost_edge::{DriverKind, EdgeConfig};
use roost_wire::{ConvId, Encoding, FrameBody};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{Client, Heard, PATIENCE, Server, config, deliver, send, serve};

const CHILD: &str = "ROOST_EDGE_TABLES_CHILD";
/// Descriptors of the server's process, and so places of one ring.
const DESCRIPTORS: u64 = 256;
/// Connections held: eight times as many.
const MANY: usize = 2000;

/// A server in a child process that does what it is told line by line.
struct Far {
    addr: SocketAddr,
    child: Child,
    orders: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Far {
    /// Runs the test `name` once more, with `CHILD` set.
    fn start(name: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut far = Self { addr: ([127, 0, 0, 1], 0).into(), child, orders, lines };
        far.addr = far.told("listening on ").parse().unwrap();
        far
    }

    fn told(&mut self, what: &str) -> String {
        loop {
            let line = self.lines.next().expect("the child ended early").unwrap();
            // The test harness writes to the same line.
            if let Some((_, value)) = line.split_once(what) {
                return value.trim().to_owned();
            }
        }
    }

    /// What the server counts: see [`obey`].
    fn counted(&mut self, what: &str) -> u64 {
        writeln!(self.orders, "{what}").unwrap();
        self.told(&format!("{what} ")).parse().unwrap()
    }

    fn until(&mut self, what: &str, count: u64) {
        let began = Instant::now();
        while self.counted(what) != count {
            assert!(began.elapsed() < PATIENCE, "{what} is {}, not {count}", self.counted(what));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn ends_well(mut self) {
        drop(self.orders);
        assert!(self.child.wait().unwrap().success());
    }
}

/// Answers questions about `server` until there are no more.
fn obey(server: &Server) {
    println!("\nlistening on {}", server.addr);
    for question in std::io::stdin().lines().map(Result::unwrap) {
        let metrics = server.handle().metrics();
        let sum = |of: fn(&roost_edge::metrics::LoopSnapshot) -> u64| -> u64 {
            metrics.shards.iter().map(|(_, turns)| of(turns)).sum()
        };
        let open = |shard: usize| {
            let (counters, _) = &metrics.shards[shard];
            counters.connections_opened - counters.connections_closed
        };
        let count = match question.as_str() {
            "open" => metrics.connections_open(),
            "opened" => metrics.total.connections_opened,
            "refused" => metrics.total.refused_full + metrics.accept_refused,
            "turned away" => metrics.accept_refused,
            "errors" => metrics.accept_errors,
            "pauses" => metrics.accept_pauses,
            "rings" => sum(|turns| turns.rings),
            "places" => sum(|turns| turns.places_used),
            "apart" => open(0).abs_diff(open(1)),
            "descriptors" => std::fs::read_dir("/proc/self/fd").unwrap().count() as u64,
            "publish" => {
                let news = || ConvId::channel("news").unwrap();
                for shard in 0..server.handle().shards() {
                    server.handle().post(shard, &mut vec![deliver(news(), "to all", None)]);
                }
                0
            }
            "stop" => {
                server.handle().stop();
                0
            }
            other => panic!("{other}?"),
        };
        println!("\n{question} {count}");
    }
}

fn limit_descriptors(most: u64) {
    let limit = Rlimit { current: Some(most), maximum: getrlimit(Resource::Nofile).maximum };
    setrlimit(Resource::Nofile, limit).unwrap();
}

fn uring() -> EdgeConfig {
    EdgeConfig { driver: DriverKind::Uring, ..config() }
}

fn sessions(far: &Far, names: std::ops::Range<usize>) -> Vec<Client> {
    names.map(|name| Client::connect(far.addr, Encoding::Json, &format!("g{name}"))).collect()
}

/// Each of `clients` asks something, then each gets its answer.
fn all_are_served(clients: &mut [Client], rid: u64) {
    for client in &mut *clients {
        client.say(rid, send("still here?"));
    }
    for client in clients {
        assert_eq!(client.hear_frame().rid, rid);
    }
}

#[test]
fn connections_are_not_limited_by_descriptors_and_their_places_are_used_again() {
    if std::env::var_os(CHILD).is_some() {
        limit_descriptors(DESCRIPTORS);
        return obey(&serve(uring()));
    }
    let mut far =
        Far::start("uring_tables::connections_are_not_limited_by_descriptors_and_their_places_are_used_again");
    let mut clients = sessions(&far, 0..MANY);
    assert_eq!((far.counted("open"), far.counted("refused")), (MANY as u64, 0));
    all_are_served(&mut clients, 5);
    assert!(far.counted("rings") >= MANY as u64 / DESCRIPTORS, "{} rings", far.counted("rings"));
    assert!(far.counted("descriptors") < 100, "{} descriptors", far.counted("descriptors"));
    assert!(far.counted("apart") <= MANY as u64 / 5, "{} more in one shard", far.counted("apart"));
    // An envelope finds everybody, in whatever ring.
    far.counted("publish");
    for client in &mut clients {
        assert_eq!(client.entry(), "to all");
    }
    // Half of them go at once; others come and get their places.
    let rings = far.counted("rings");
    clients.truncate(MANY / 2);
    far.until("open", MANY as u64 / 2);
    far.until("places", MANY as u64 / 2);
    clients.extend(sessions(&far, MANY..MANY + MANY / 2));
    all_are_served(&mut clients, 7);
    // A shard may get some more than it had.
    assert!(far.counted("rings") <= rings + 2, "{} rings after {rings}", far.counted("rings"));
    // The server closes half of them at once: each hears why, and the end.
    for client in &mut clients[..MANY / 2] {
        client.stream.write_all(&[0xff; 8]).unwrap();
    }
    for client in &mut clients[..MANY / 2] {
        assert_eq!(client.hear_close(), Some(1002));
        assert_eq!(client.hear(), Heard::End);
    }
    clients.drain(..MANY / 2);
    clients.extend(sessions(&far, 2 * MANY..2 * MANY + MANY / 2));
    all_are_served(&mut clients, 8);
    far.until("places", MANY as u64);
    assert_eq!((far.counted("open"), far.counted("refused"), far.counted("errors")), (MANY as u64, 0, 0));
    assert_eq!(far.counted("opened"), 2 * MANY as u64);
    far.counted("stop");
    for client in &mut clients {
        assert_eq!(client.hear_close(), Some(1001));
        assert_eq!(client.hear(), Heard::End);
    }
    far.ends_well();
}

#[test]
fn without_a_further_ring_accepting_pauses_and_goes_on_when_there_are_places() {
    if std::env::var_os(CHILD).is_some() {
        limit_descriptors(48);
        let server = serve(uring());
        // The count has one of its own.
        limit_descriptors(std::fs::read_dir("/proc/self/fd").unwrap().count() as u64 - 1);
        return obey(&server);
    }
    let mut far = Far::start("uring_tables::without_a_further_ring_accepting_pauses_and_goes_on_when_there_are_places");
    let began = Instant::now();
    let mut held: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(far.addr).unwrap()).collect();
    for stream in &mut held {
        stream.write_all(b"GET /").unwrap();
        stream.set_nonblocking(true).unwrap();
    }
    let mut refused = None;
    while refused.is_none() {
        assert!(began.elapsed() < PATIENCE, "nobody was refused");
        std::thread::sleep(Duration::from_millis(10));
        refused = held.iter_mut().find_map(|stream| {
            let mut answer = [0; 64];
            let n = stream.read(&mut answer).ok()?;
            Some(String::from_utf8_lossy(&answer[..n]).into_owned())
        });
    }
    assert!(refused.as_deref().is_some_and(|answer| answer.starts_with("HTTP/1.1 503 ")), "{refused:?}");
    assert!(far.counted("open") >= 48, "{} have a place", far.counted("open"));
    held.truncate(5);
    loop {
        assert!(began.elapsed() < PATIENCE, "there is room again, and nobody gets it");
        let mut next = TcpStream::connect(far.addr).unwrap();
        next.set_read_timeout(Some(PATIENCE)).unwrap();
        next.write_all(b"GET /room HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        let _ = next.read_to_string(&mut answer);
        if answer.starts_with("HTTP/1.1 200 ") {
            break;
        }
    }
    let pauses = u128::from(far.counted("pauses"));
    let most = 2 * (began.elapsed().as_millis() / 100 + 1);
    assert!((1..=most).contains(&pauses), "{pauses} pauses of two shards where at most {most} fit");
    assert!(far.counted("turned away") >= 1);
    // Nobody is lost without a word.
    assert_eq!((far.counted("errors"), far.counted("rings")), (0, 2));
    far.ends_well();
}

#[test]
fn connections_that_are_refused_hear_why() {
    let server = serve(EdgeConfig { connections_per_address_max: 3, addresses_exempt: Vec::new(), ..uring() });
    let _held: Vec<Client> = (0..3).map(|_| Client::open(server.addr, Encoding::Json)).collect();
    let mut fourth = TcpStream::connect(server.addr).unwrap();
    fourth.set_read_timeout(Some(PATIENCE)).unwrap();
    fourth.write_all(b"GET /ws HTTP/1.1\r\nHost: edge\r\n\r\n").unwrap();
    let mut answer = String::new();
    fourth.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    server.until("counted", |metrics| metrics.accept_refused_address == 1);
}

#[test]
fn connections_that_come_one_by_one_are_shared_out() {
    let server = serve(uring());
    let mut clients: Vec<Client> =
        (0..32).map(|number| Client::connect(server.addr, Encoding::Json, &format!("g{number}"))).collect();
    let metrics = server.handle().metrics();
    for (counters, _) in &metrics.shards {
        assert!(counters.connections_opened >= 8, "{} of 32 in one of two shards", counters.connections_opened);
    }
    clients[0].say(2, FrameBody::Ping(Default::default()));
    while !matches!(clients[0].hear_frame().body, Some(FrameBody::Pong(_))) {}
}
