//! What the conformance suite cannot bring about from outside.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;

use roost_uring::Ring;
use roost_uring::op::cancel;

use roost_edge_core::ShardConfig;
use roost_wire::link::Up;

use super::*;
use crate::{HttpIo, HttpService, Inbox, Setup, ShardLoop, Upstream, driver};

/// Remembers who was heard, and who ended.
#[derive(Default)]
struct Heard {
    bytes: BTreeMap<SessionKey, Vec<u8>>,
    ended: Vec<SessionKey>,
    arrivals: Vec<Conn>,
}

impl Sink for Heard {
    type Conn = Conn;

    fn accepted(&mut self, conn: Conn, _: SocketAddr) {
        self.arrivals.push(conn);
    }

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
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
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
        let reset = told.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
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

#[test]
fn an_end_is_said_behind_what_was_not_read_with_a_kernel_that_cannot_install_too() {
    for installs in [true, false] {
        let mut driver = driver(8, 64);
        driver.farewell = Farewell::new(installs);
        let mut peers = connect(&mut driver, 40);
        let mut heard = Heard::default();
        driver.wait(Some(Duration::ZERO)).unwrap();
        driver.deliver(&mut heard);
        for (key, peer) in &mut peers {
            peer.write_all(b"never read").unwrap();
            driver.close(*key);
        }
        driver.wait(Some(Duration::ZERO)).unwrap();
        for (_, peer) in &mut peers {
            assert_eq!(read(peer).unwrap(), 0, "an end and no reset, installs: {installs}");
        }
        assert_eq!((driver.rings.used(), driver.connections()), (40, 0));
        // A moment later their places are free.
        for _ in 0..1000 {
            if driver.rings.used() > 0 {
                driver.wait(Some(Duration::from_millis(10))).unwrap();
                driver.deliver(&mut heard);
            }
        }
        assert_eq!(driver.rings.used(), 0);
        assert!(heard.ended.is_empty() && driver.farewell.next_deadline().is_none());
    }
}

#[test]
fn those_who_leave_make_room_for_those_who_come() {
    // A second each would be a minute.
    const VISITORS: u32 = 500;
    let (mut driver, _) = UringDriver::new(0, 1).unwrap();
    driver.rings = Rings::new(64, 24).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    driver.accept_from(listener);
    let mut heard = Heard::default();
    for number in 0..VISITORS {
        let mut peer = TcpStream::connect(addr).unwrap();
        until(&mut driver, &mut heard, |heard| !heard.arrivals.is_empty());
        let conn = heard.arrivals.pop().unwrap();
        // Some are refused, others are taken and closed.
        if number % 2 == 0 {
            driver.refuse(conn, b"no room");
        } else {
            let key = SessionKey::new(0, 7, number);
            driver.attach(key, conn).unwrap();
            driver.close(key);
        }
        driver.flush(&mut heard);
        let wanted = if number % 2 == 0 { 7 } else { 0 };
        assert_eq!(read(&mut peer).unwrap(), wanted);
    }
    let metrics = &driver.accepts.as_ref().unwrap().control().metrics;
    let counted = [&metrics.pauses, &metrics.errors, &metrics.refused].map(|count| count.load(Ordering::Relaxed));
    assert_eq!((counted, driver.rings.len()), ([0; 3], 3));
}

#[test]
fn accepts_end_before_the_listener_and_it_before_the_connections() {
    let mut driver = driver(8, 64);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    driver.accept_from(listener);
    let mut heard = Heard::default();
    let mut peer = TcpStream::connect(addr).unwrap();
    until(&mut driver, &mut heard, |heard| !heard.arrivals.is_empty());
    let key = SessionKey::new(0, 0, 1);
    driver.attach(key, heard.arrivals.pop().unwrap()).unwrap();
    driver.accepts.as_ref().unwrap().control().stop();
    for _ in 0..1000 {
        if driver.accepts.is_some() {
            driver.wait(Some(Duration::from_millis(10))).unwrap();
            driver.deliver(&mut heard);
        }
    }
    assert!(driver.accepts.is_none() && TcpStream::connect(addr).is_err(), "nobody is needed for it to end");
    // It is served on.
    peer.write_all(b"still here?").unwrap();
    until(&mut driver, &mut heard, |heard| heard.bytes.values().any(|bytes| bytes == b"still here?"));
    // And with the driver the port is free again at once, though others accept.
    drop(driver);
    assert_eq!(read(&mut peer).unwrap(), 0);
}

#[test]
fn what_happens_in_any_of_several_rings_ends_a_sleep_and_nothing_else_does() {
    let (mut driver, waker) = UringDriver::with_tables(0, 100, 1).unwrap();
    let mut peers = connect(&mut driver, 3);
    assert_eq!(driver.rings.len(), 3);
    let mut heard = Heard::default();
    for _ in 0..3 {
        driver.wait(Some(Duration::ZERO)).unwrap();
        driver.deliver(&mut heard);
    }
    let mut sleep = |driver: &mut UringDriver, timeout| {
        let began = Instant::now();
        driver.wait(Some(timeout)).unwrap();
        driver.deliver(&mut heard);
        (began.elapsed(), heard.bytes.len())
    };
    driver.rings.disturb();
    let short = Duration::from_millis(50);
    assert!(sleep(&mut driver, short).0 >= short, "a bell that rang for nothing ends no sleep");
    let long = Duration::from_secs(30);
    for (number, (_, peer)) in peers.iter_mut().enumerate() {
        peer.write_all(b"!").unwrap();
        let (slept, heard) = sleep(&mut driver, long);
        assert!(slept < long && heard == number + 1, "{slept:?} until {heard} of {number} was heard");
    }
    std::thread::scope(|scope| {
        scope.spawn(|| waker.wake());
        assert!(sleep(&mut driver, long).0 < long);
    });
    assert!(sleep(&mut driver, short).0 >= short, "a wake-up ends one sleep");
}

struct Nobody;

impl Upstream for Nobody {
    fn submit(&self, _: &mut Vec<Up>) {}
}

impl HttpService for Nobody {
    fn serve(&self, _: HttpIo, _: SocketAddr) {}
}

#[test]
fn where_strangers_are_too_many_those_who_came_first_go_first() {
    let (mut driver, waker) = UringDriver::new(0, 100).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut peers = [(); 8].map(|()| TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    driver.accept_from(listener);
    let inbox = Inbox::<driver::Conn>::new(waker, 16);
    let setup = Setup {
        config: Arc::new(ShardConfig { unauthenticated_max: 2, ..ShardConfig::default() }),
        neighbours: Arc::new([inbox.clone()]),
        inbox,
        upstream: Arc::new(Nobody),
        http: Arc::new(Nobody),
        shard_metrics: Arc::default(),
        metrics: Arc::default(),
    };
    let metrics = setup.shard_metrics.clone();
    let mut shard = ShardLoop::new(driver, 0, setup);
    // What it says of them and the ends of six need no bytes of theirs.
    while metrics.snapshot().connections_closed < 6 {
        shard.turn().unwrap();
    }
    assert_eq!(metrics.snapshot().connections_opened, 8);
    for peer in &mut peers[..6] {
        assert!(read(peer).unwrap() > 0, "told why");
    }
    for peer in &mut peers[6..] {
        peer.set_nonblocking(true).unwrap();
        assert_eq!(peer.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock, "the last two are there");
    }
}

#[test]
fn who_wakes_a_driver_that_gathers_is_heard_at_once_and_clients_are_not() {
    let (mut driver, waker) = UringDriver::new(0, 16).expect("io_uring is allowed here");
    let mut connected = connect(&mut driver, 1);
    let (key, peer) = &mut connected[0];
    let mut heard = Heard::default();
    driver.wait(Some(Duration::ZERO)).unwrap();
    driver.deliver(&mut heard);
    // Nobody calls: it sleeps the whole moment, though something comes.
    let began = Instant::now();
    peer.write_all(b"a sign of life").unwrap();
    driver.gather(Duration::from_millis(20));
    assert!(began.elapsed() >= Duration::from_millis(20));
    let caller = std::thread::spawn(move || waker.wake());
    driver.gather(Duration::from_secs(600));
    caller.join().unwrap();
    // The call ended that sleep, and still ends the next one; what came is not lost.
    driver.wait(None).unwrap();
    driver.deliver(&mut heard);
    assert_eq!(heard.bytes[key], b"a sign of life");
    driver.gather(Duration::from_millis(1));
}
