//! A ring with real sockets of the loopback interface.
#![cfg(target_os = "linux")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use roost_uring::op::poll::Report;
use roost_uring::op::setsockopt::Switch;
use roost_uring::op::{bind, cancel, close, connect, poll, setsockopt, shutdown, socket};
use roost_uring::{Bell, How, Ring, Target, Token, files};

/// Nothing here takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Number(u64);

impl Token for Number {
    fn pack(self) -> u64 {
        self.0
    }

    fn unpack(bits: u64) -> Self {
        Self(bits)
    }

    fn wakes(self) -> bool {
        self == WAKE
    }
}

const WAKE: Number = Number(99);

fn ring(places: u32) -> Ring<Number> {
    let ring = Ring::new(8, 64).expect("io_uring is allowed here");
    ring.register_files(places).expect("a table");
    ring
}

/// The next `count` completions, sorted by their tokens.
fn next(ring: &mut Ring<Number>, count: usize) -> Vec<(u64, i32)> {
    let mut told = Vec::new();
    while told.len() < count {
        if !ring.has_completions() {
            ring.wait(Some(PATIENCE)).unwrap();
        }
        let completion = ring.pop().expect("in time");
        told.push((completion.token.0, completion.result));
    }
    told.sort_unstable();
    told
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    near.set_read_timeout(Some(PATIENCE)).unwrap();
    (near, listener.accept().unwrap().0)
}

#[test]
fn adopted_files_get_a_place_each_until_the_table_is_full() {
    let mut ring = ring(2);
    let (mut near, far) = pair();
    let places = [ring.adopt(far.as_fd()).unwrap(), ring.adopt(far.as_fd()).unwrap()];
    assert_ne!(places[0], places[1]);
    assert_eq!(ring.adopt(far.as_fd()).unwrap_err().raw_os_error(), Some(libc::ENFILE));
    drop(far);
    for place in places {
        near.set_nonblocking(true).unwrap();
        assert!(near.read(&mut [0]).is_err(), "the other end is still open");
        close::start(&mut ring, place, How::PLAIN, Number(1)).unwrap();
        assert_eq!(next(&mut ring, 1), [(1, 0)]);
    }
    near.set_nonblocking(false).unwrap();
    assert_eq!(near.read(&mut [0]).unwrap(), 0);
    close::start(&mut ring, places[0], How::PLAIN, Number(1)).unwrap();
    assert_eq!(next(&mut ring, 1), [(1, -libc::EBADF)], "the place is empty");
}

#[test]
fn a_file_has_a_descriptor_for_a_moment() {
    let mut ring = ring(3);
    let mut pairs = [pair(), pair()];
    let mut slots: Vec<u32> = pairs.iter().map(|(_, far)| ring.adopt(far.as_fd()).unwrap()).collect();
    // An empty place among them, and more of them than fit into one submission.
    slots.push((0..3).find(|slot| !slots.contains(slot)).unwrap());
    let mut told = Vec::new();
    ring.install(&slots.repeat(5), |socket| {
        told.push(socket.as_ref().err().and_then(std::io::Error::raw_os_error));
        if let Ok(socket) = socket {
            TcpStream::from(socket).shutdown(Shutdown::Write).unwrap();
        }
    })
    .unwrap();
    assert_eq!(told, [None, None, Some(libc::EBADF)].repeat(5));
    for (near, _) in &mut pairs {
        assert_eq!(near.read(&mut [0]).unwrap(), 0, "the end was said, though the file is open");
    }
}

#[test]
fn a_chain_makes_binds_and_connects_a_socket_without_a_descriptor() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (to, from): (SocketAddr, SocketAddr) = (listener.local_addr().unwrap(), ([127, 1, 2, 3], 0).into());
    let mut ring = ring(4);
    let quiet = How::LINKED.and(How::QUIET);
    for slot in 0..4 {
        let target = Target::fixed(slot);
        ring.make_room(4).unwrap();
        socket::start(&mut ring, Some(slot), to, quiet, Number(1)).unwrap();
        setsockopt::start(&mut ring, target, Switch::BindAddressNoPort, quiet, Number(2)).unwrap();
        bind::start(&mut ring, target, from, quiet, Number(3)).unwrap();
        connect::start(&mut ring, target, to, How::PLAIN, Number(4)).unwrap();
    }
    assert_eq!(next(&mut ring, 4), [(4, 0); 4]);
    for slot in 0..4 {
        let (mut far, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), from.ip());
        shutdown::start(&mut ring, Target::fixed(slot), How::PLAIN, Number(5)).unwrap();
        assert_eq!(next(&mut ring, 1), [(5, 0)]);
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(far.read(&mut [0]).unwrap(), 0);
    }
    assert_eq!(ring.pop().map(|completion| completion.token), None, "what succeeds quietly tells nothing");
}

#[test]
fn a_broken_chain_tells_of_the_quiet_entry_that_failed_alone() {
    let mut ring = ring(1);
    ring.make_room(2).unwrap();
    // Nothing is there to be bound.
    let addr = ([127, 0, 0, 1], 0).into();
    bind::start(&mut ring, Target::fixed(0), addr, How::LINKED.and(How::QUIET), Number(1)).unwrap();
    connect::start(&mut ring, Target::fixed(0), addr, How::PLAIN, Number(2)).unwrap();
    ring.submit().unwrap();
    assert_eq!(next(&mut ring, 1), [(1, -libc::EBADF)]);
    assert!(ring.pop().is_none());
    bind::start(&mut ring, Target::fixed(0), addr, How::LINKED, Number(1)).unwrap();
    connect::start(&mut ring, Target::fixed(0), addr, How::PLAIN, Number(2)).unwrap();
    assert_eq!(next(&mut ring, 2), [(1, -libc::EBADF), (2, -libc::ECANCELED)], "unless none of them is quiet");
}

#[test]
fn closing_ends_what_is_armed_and_the_peer_hears_of_it() {
    let mut ring = ring(1);
    let (mut near, far) = pair();
    let place = ring.adopt(far.as_fd()).unwrap();
    drop(far);
    poll::start(&mut ring, Target::fixed(place), poll::READS, How::PLAIN, Number(7)).unwrap();
    near.write_all(b"!").unwrap();
    let (token, result) = next(&mut ring, 1)[0];
    assert!(token == 7 && Report(result).is_readable());
    close::after_cancel(&mut ring, place, Number(7), Number(8), Number(9)).unwrap();
    assert_eq!(next(&mut ring, 2), [(7, -libc::ECANCELED), (9, 0)]);
    assert!(near.read(&mut [0]).map_or(true, |n| n == 0), "an end, or a reset because of what was not read");
    // With nothing armed it is closed all the same.
    let place = ring.adopt(near.as_fd()).unwrap();
    close::after_cancel(&mut ring, place, Number(7), Number(8), Number(9)).unwrap();
    assert_eq!(next(&mut ring, 2), [(8, -libc::ENOENT), (9, 0)]);
}

#[test]
fn one_bell_is_rung_by_several_rings_and_by_anybody() {
    let bell = Bell::new().unwrap();
    let mut rings = [ring(1), ring(1)];
    let (mut near, far) = pair();
    for ring in &mut rings {
        ring.register_bell(&bell).unwrap();
        let place = ring.adopt(far.as_fd()).unwrap();
        poll::start(ring, Target::fixed(place), libc::POLLIN, How::PLAIN, Number(1)).unwrap();
        ring.submit().unwrap();
        ring.look().unwrap();
    }
    while bell.wait(Some(Duration::ZERO)).unwrap() {}
    near.write_all(b"!").unwrap();
    for _ in 0..2 {
        assert!(rings.iter().any(Ring::has_completions) || bell.wait(Some(PATIENCE)).unwrap(), "nobody rings");
        rings.iter_mut().for_each(|ring| _ = ring.look().unwrap());
    }
    for ring in &mut rings {
        assert_eq!(next(ring, 1), [(1, libc::POLLIN.into())]);
    }
    while bell.wait(Some(Duration::ZERO)).unwrap() {}
    // One that is muted does not ring, and loses nothing by it.
    rings[0].mute(true);
    cancel::start(&mut rings[0], Number(5), How::PLAIN, Number(2)).unwrap();
    rings[0].submit().unwrap();
    assert!(!bell.wait(Some(Duration::ZERO)).unwrap());
    assert_eq!(next(&mut rings[0], 1), [(2, -libc::ENOENT)]);
    std::thread::scope(|scope| {
        scope.spawn(|| bell.ring().unwrap());
        assert!(bell.wait(Some(PATIENCE)).unwrap());
    });
    assert!(!bell.wait(Some(Duration::from_millis(1))).unwrap(), "it rings once");
}

/// A call puts down twenty of what completed by itself, and the bell does not ring for the rest.
#[test]
fn however_much_completed_a_look_brings_all_of_it() {
    let bell = Bell::new().unwrap();
    let mut ring = Ring::<Number>::new(128, 256).unwrap();
    ring.register_files(100).unwrap();
    ring.register_bell(&bell).unwrap();
    let (mut near, far) = pair();
    for number in 0..100 {
        let place = ring.adopt(far.as_fd()).unwrap();
        poll::start(&mut ring, Target::fixed(place), libc::POLLIN, How::PLAIN, Number(100 + number)).unwrap();
    }
    ring.submit().unwrap();
    near.write_all(b"!").unwrap();
    assert!(bell.wait(Some(PATIENCE)).unwrap());
    ring.look().unwrap();
    assert_eq!(std::iter::from_fn(|| ring.pop()).count(), 100);
}

#[test]
fn a_wake_up_that_was_taken_out_ends_the_next_sleep() {
    let mut ring = ring(1);
    cancel::start(&mut ring, Number(5), How::PLAIN, WAKE).unwrap();
    ring.submit().unwrap();
    assert_eq!(ring.pop().map(|completion| completion.token), Some(WAKE));
    // It would sleep for ever.
    ring.wait(None).unwrap();
    cancel::start(&mut ring, Number(5), How::PLAIN, WAKE).unwrap();
    ring.submit().unwrap();
    assert!(ring.look().unwrap() && !ring.look().unwrap(), "told once");
}

#[test]
fn completions_that_do_not_fit_are_counted_and_come_later() {
    let mut ring = Ring::new(4, 8).unwrap();
    ring.register_files(64).unwrap();
    let (mut near, far) = pair();
    for number in 0..64 {
        let place = ring.adopt(far.as_fd()).unwrap();
        poll::start(&mut ring, Target::fixed(place), libc::POLLIN, How::PLAIN, Number(number)).unwrap();
    }
    ring.submit().unwrap();
    near.write_all(b"!").unwrap();
    let told = next(&mut ring, 64);
    assert!((0..64).all(|number| told[number as usize].0 == number), "{told:?}");
    assert!(ring.overflows() > 0);
}

#[test]
fn a_table_is_as_large_as_the_limit_of_descriptors_allows() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    assert_eq!((files::places(0), files::places(5)), (1, 5));
    assert_eq!(u64::from(files::places(u32::MAX)), limit.min(1 << 20));
    let ring = Ring::<Number>::new(4, 8).unwrap();
    ring.register_files(files::places(u32::MAX)).unwrap();
}
