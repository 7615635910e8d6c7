//! Deadlines, slow readers, and what runs out.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use roost_edge::{DriverKind, EdgeConfig};
use roost_wire::{ConvId, Encoding, FrameBody};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{Client, PATIENCE, config, deliver, one_is_refused, send, serve};

#[test]
fn a_silent_connection_is_closed_at_the_deadline_of_its_head() {
    let mut config = config();
    config.shard.head_within = Duration::from_millis(200);
    let server = serve(config);
    let mut silent = TcpStream::connect(server.addr).unwrap();
    let mut half = TcpStream::connect(server.addr).unwrap();
    half.write_all(b"GET /ws HT").unwrap();
    for stream in [&mut silent, &mut half] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    server.until("counted", |metrics| metrics.total.refused_head_late == 2 && metrics.connections_open() == 0);
}

#[test]
fn a_client_that_never_sends_connect_is_closed_with_4003() {
    let mut config = config();
    config.shard.connect_within = Duration::from_millis(200);
    let server = serve(config);
    assert_eq!(Client::open(server.addr, Encoding::Json).hear_close(), Some(4003));
}

#[test]
fn a_reader_that_stops_is_closed_and_the_others_hear_everything() {
    let mut config = config();
    config.shards = 1;
    config.shard.behind_within = Duration::from_millis(500);
    config.shard.close_within = PATIENCE;
    let server = serve(config);
    let mut slow = Client::connect(server.addr, Encoding::Json, "slow");
    let mut bob = Client::connect(server.addr, Encoding::Json, "bob");
    let text = "x".repeat(16 * 1024);
    let mut pushed = 0;
    let give_up = Instant::now() + PATIENCE;
    // The kernel's buffers must fill before the session's own queue does.
    while server.handle().metrics().total.closed_slow == 0 {
        assert!(Instant::now() < give_up, "{:?}", server.handle().metrics().total);
        server.handle().post(0, &mut vec![deliver(ConvId::channel("news").unwrap(), &text, None)]);
        pushed += 1;
        assert_eq!(bob.entry().len(), text.len());
    }
    bob.say(9, send("unaffected"));
    assert_eq!(bob.hear_frame().rid, 9);
    let metrics = server.handle().metrics();
    assert!(metrics.total.behind >= 1 && pushed > 10, "{:?}", metrics.total);
    // If it reads after all, it finds what was queued before, and then why it was closed.
    assert_eq!(slow.hear_close(), Some(4010));
}

#[test]
fn a_full_edge_refuses_with_503_and_takes_the_next_when_there_is_room() {
    let mut config = config();
    (config.shards, config.connections_max) = (1, 2);
    let server = serve(config);
    let ada = Client::connect(server.addr, Encoding::Json, "ada");
    let _bob = Client::connect(server.addr, Encoding::Json, "bob");
    let mut third = TcpStream::connect(server.addr).unwrap();
    third.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    third.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    drop(ada);
    server.until("room", |metrics| metrics.connections_open() == 1);
    Client::connect(server.addr, Encoding::Json, "eve");
    assert_eq!(server.handle().metrics().total.refused_full, 1);
}

#[test]
fn pushes_that_find_a_full_mailbox_are_counted_and_sessions_told_to_sync() {
    let mut config = config();
    (config.shards, config.mailbox_items_max) = (1, 8);
    let server = serve(config);
    let mut ada = Client::connect(server.addr, Encoding::Json, "ada");
    server.until("joined", |metrics| metrics.total.topics_joined == 1);
    server.handle().post(0, &mut (0..100).map(|_| deliver(ConvId::channel("news").unwrap(), "hi", None)).collect());
    let mut entries = 0;
    let changed = loop {
        match ada.hear_frame().body {
            Some(FrameBody::Entry(_)) => entries += 1,
            Some(FrameBody::Changed(changed)) => break changed,
            other => panic!("{other:?}"),
        }
    };
    assert!(changed.more && entries <= 8, "{entries} entries");
    let metrics = server.handle().metrics();
    assert_eq!(metrics.shards[0].1.mailbox_dropped, 92);
    assert!(metrics.iter().any(|sample| sample.name == "roost_mailbox_dropped_total" && sample.value == 92.0));
    // Replies always fit.
    ada.say(3, send("hi"));
    while ada.hear_frame().rid != 3 {}
}

const CHILD: &str = "ROOST_EDGE_TEST_CHILD";

/// The server runs in a child process, as it is to run out of descriptors and the clients are not.
#[test]
fn without_descriptors_accepting_pauses_and_goes_on_when_there_are_some() {
    if std::env::var_os(CHILD).is_some() {
        return few_descriptors();
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "limits::without_descriptors_accepting_pauses_and_goes_on_when_there_are_some",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut told = |what: &str| loop {
        let line = lines.next().expect("the child ended early");
        // The test harness writes to the same line.
        if let Some((_, value)) = line.split_once(what) {
            return value.trim().to_owned();
        }
    };
    let addr: SocketAddr = told("listening on ").parse().unwrap();
    let began = Instant::now();
    let mut held: Vec<TcpStream> = (0..60).map(|_| TcpStream::connect(addr).unwrap()).collect();
    one_is_refused(&mut held, began);
    held.truncate(5);
    // The queue may hold some who are gone, so one of the first tries can still be refused.
    while !served(addr) {
        assert!(began.elapsed() < PATIENCE, "there is room again, and nobody gets it");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(child.stdin.take());
    let pauses: u128 = told("pauses ").parse().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(pauses >= 1);
    let most = began.elapsed().as_millis() / 100 + 1;
    assert!(pauses <= most, "{pauses} pauses where at most {most} fit: that is a busy loop");
}

fn served(addr: SocketAddr) -> bool {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /room HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    // A reset is a refusal too.
    let _ = stream.read_to_string(&mut answer);
    answer.starts_with("HTTP/1.1 200 ")
}

fn few_descriptors() {
    // Connections of the io_uring driver have none: see `tables.rs`.
    let server = serve(EdgeConfig { driver: DriverKind::Poll, ..config() });
    let in_use = std::fs::read_dir("/dev/fd").unwrap().count() as u64;
    let limit = Rlimit { current: Some(in_use + 20), maximum: getrlimit(Resource::Nofile).maximum };
    setrlimit(Resource::Nofile, limit).unwrap();
    println!("\nlistening on {}", server.addr);
    // Until the parent is done with us.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    let metrics = server.handle().metrics();
    assert!(metrics.accept_refused >= 1);
    println!("\npauses {}", metrics.accept_pauses);
}
