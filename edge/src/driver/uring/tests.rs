//! What the conformance suite cannot bring about from outside.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use roost_uring::Ring;
use roost_uring::op::cancel;

use super::*;

/// Remembers who was heard, and who ended.
#[derive(Default)]
struct Heard {
    bytes: BTreeMap<SessionKey, Vec<u8>>,
    ended: Vec<SessionKey>,
}

impl Sink for Heard {
    type Conn = Conn;

    fn accepted(&mut self, _: Conn, _: SocketAddr) {}

    fn received(&mut self, key: SessionKey, bytes: &mut [u8]) {
        self.bytes.entry(key).or_default().extend_from_slice(bytes);
    }

    fn sent(&mut self, _: SessionKey, _: usize) {}

    fn writable(&mut self, _: SessionKey) {}

    fn half_closed(&mut self, _: SessionKey) -> bool {
        false
    }

    fn ended(&mut self, key: SessionKey, _: End) {
        self.ended.push(key);
    }
}

/// A driver whose ring holds little.
fn driver(entries: u32, completions: u32) -> UringDriver {
    let (mut driver, _) = UringDriver::new(0, 1024).expect("io_uring is allowed here");
    let ring = Ring::new(entries, completions).expect("a second ring");
    ring.register_files(1000).expect("a table");
    driver.rings.replace(ring, 1000);
    driver
}

fn connect(driver: &mut UringDriver, count: u32) -> Vec<(SessionKey, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let connect = |slot| {
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (conn, _) = listener.accept().unwrap();
        let key = SessionKey::new(0, slot, 1);
        driver.attach(key, conn.into()).unwrap();
        (key, peer)
    };
    (0..count).map(connect).collect()
}

/// What a peer reads, within a patient while. A ring that goes interrupts whoever made it.
fn read(peer: &mut TcpStream) -> io::Result<usize> {
    peer.set_read_timeout(Some(Duration::from_secs(10)))?;
    loop {
        match peer.read(&mut [0; 8]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            told => return told,
        }
    }
}

/// Turns until `done`.
fn until(driver: &mut UringDriver, heard: &mut Heard, done: impl Fn(&Heard) -> bool) {
    for _ in 0..1000 {
        if done(heard) {
            return;
        }
        driver.wait(Some(Duration::from_millis(10))).unwrap();
        driver.deliver(heard);
    }
    panic!("never");
}

#[test]
fn nobody_goes_deaf_when_completions_do_not_fit() {
    // All of them report in one go, and hardly any report fits: the kernel ends the other polls.
    let mut driver = driver(4, 8);
    let mut peers = connect(&mut driver, 64);
    let mut heard = Heard::default();
    for round in 1..=5_usize {
        for (_, peer) in &mut peers {
            peer.write_all(b"!").unwrap();
        }
        until(&mut driver, &mut heard, |heard| {
            heard.bytes.len() == peers.len() && heard.bytes.values().all(|bytes| bytes.len() == round)
        });
    }
    assert!(heard.ended.is_empty());
}

#[test]
fn a_poll_that_was_cancelled_behind_our_back_is_armed_again() {
    let mut driver = driver(8, 64);
    let mut peers = connect(&mut driver, 1);
    let mut heard = Heard::default();
    driver.wait(Some(Duration::ZERO)).unwrap();
    cancel::start(driver.rings.get(0), Token::poll(peers[0].0), How::QUIET, Token::Done).unwrap();
    driver.wait(Some(Duration::from_millis(10))).unwrap();
    driver.deliver(&mut heard);
    peers[0].1.write_all(b"still here?").unwrap();
    until(&mut driver, &mut heard, |heard| heard.bytes.values().any(|bytes| bytes == b"still here?"));
}

#[test]
fn a_closed_connection_leaves_no_poll_behind() {
    // While a poll holds it, the socket is not closed, whatever became of its descriptor.
    let mut driver = driver(8, 64);
    let mut peers = connect(&mut driver, 20);
    let mut heard = Heard::default();
    driver.wait(Some(Duration::ZERO)).unwrap();
    driver.deliver(&mut heard);
    for (number, (key, peer)) in peers.iter_mut().enumerate() {
        // Some of them have something to report just then.
        if number % 2 == 0 {
            peer.write_all(b"wait").unwrap();
        }
        let (leaving, _) = driver.detach(*key).unwrap();
        Farewell::close(&mut driver.rings, &leaving).unwrap();
    }
    driver.wait(Some(Duration::ZERO)).unwrap();
    for (_, peer) in &mut peers {
        // The end, or a reset because of what was not read: not silence.
        let told = read(peer);
        let reset = told.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset);
        assert!(reset || matches!(told, Ok(0)), "{told:?}");
    }
}

#[test]
fn dropping_the_driver_tells_the_peers_and_leaves_nothing_to_the_kernel() {
    let mut driver = driver(8, 64);
    let mut peers = connect(&mut driver, 20);
    driver.wait(Some(Duration::ZERO)).unwrap();
    drop(driver);
    for (_, peer) in &mut peers {
        assert_eq!(read(peer).unwrap(), 0);
    }
}

#[test]
fn more_connections_than_buffers_are_all_received_from() {
    let mut driver = driver(64, 1024);
    let count = u32::from(BUFFERS) * 2 + 7;
    let mut peers = connect(&mut driver, count);
    let mut heard = Heard::default();
    for (_, peer) in &mut peers {
        peer.write_all(b"here").unwrap();
    }
    until(&mut driver, &mut heard, |heard| {
        heard.bytes.len() == count as usize && heard.bytes.values().all(|bytes| bytes == b"here")
    });
    assert_eq!(driver.arena.lent(), 0);
}

#[test]
fn a_broken_ring_is_told_once_the_shard_waits() {
    let mut driver = driver(8, 64);
    driver.wait(Some(Duration::ZERO)).unwrap();
    // A ring that another thread took into use takes nothing from this one.
    let of_another = std::thread::spawn(|| {
        let mut ring = Ring::new(8, 64).unwrap();
        ring.submit().unwrap();
        ring
    });
    driver.rings.replace(of_another.join().unwrap(), 0);
    driver.waker_armed = false;
    assert!(driver.wait(Some(Duration::ZERO)).is_err());
    assert!(driver.wait(Some(Duration::ZERO)).is_err(), "it stays broken");
}
