//! More connections than the process may have descriptors, with the io_uring driver: rings are added as they are needed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use roost_edge::{DriverKind, EdgeConfig};
use roost_wire::{Encoding, FrameBody};

use crate::far::{Far, all_are_served, is_child, limit_descriptors, obey, sessions};
use crate::support::{Client, Heard, PATIENCE, config, one_is_refused, serve};

/// Descriptors of the server's process, and so places of one ring.
const DESCRIPTORS: u64 = 256;
/// Connections held: eight times as many.
const MANY: usize = 2000;

fn uring() -> EdgeConfig {
    EdgeConfig { driver: DriverKind::Uring, ..config() }
}

#[test]
fn connections_are_not_limited_by_descriptors_and_their_places_are_used_again() {
    if is_child() {
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
    if is_child() {
        limit_descriptors(48);
        let server = serve(uring());
        // The count has one of its own.
        limit_descriptors(std::fs::read_dir("/proc/self/fd").unwrap().count() as u64 - 1);
        return obey(&server);
    }
    let mut far = Far::start("uring_tables::without_a_further_ring_accepting_pauses_and_goes_on_when_there_are_places");
    let began = Instant::now();
    let mut held: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(far.addr).unwrap()).collect();
    one_is_refused(&mut held, began);
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
