//! Against sockets of the standard library.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// What happened, owned.
#[derive(Debug, PartialEq, Eq)]
enum Happened {
    Connected(u32),
    Refused(u32, i32),
    Received(u32, Vec<u8>),
    Ended(u32, i32),
    Closed(u32),
}

fn next(fleet: &mut Fleet) -> Happened {
    let until = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < until, "nothing happens");
        if let Some((at, event)) = fleet.event().unwrap() {
            return match event {
                Event::Connected => Happened::Connected(at),
                Event::Refused(error) => Happened::Refused(at, error),
                Event::Received(bytes) => Happened::Received(at, bytes.to_vec()),
                Event::Ended(error) => Happened::Ended(at, error),
                Event::Closed => Happened::Closed(at),
            };
        }
        fleet.wait(Duration::from_millis(20)).unwrap();
    }
}

/// A listener; `None` where this system forbids io_uring, which is another test's matter.
fn listen(count: u32, per_ring: u32) -> Option<(Fleet, TcpListener, SocketAddr)> {
    let fleet = match Fleet::with_places(count, per_ring) {
        Ok(fleet) => fleet,
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => {
            eprintln!("not tested here: {error}");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = listener.local_addr().unwrap();
    Some((fleet, listener, target))
}

fn connect(fleet: &mut Fleet, listener: &TcpListener, at: u32) -> TcpStream {
    fleet.connect(at, Some(([127, 3, 0, 7], 0).into()), listener.local_addr().unwrap()).unwrap();
    assert_eq!(next(fleet), Happened::Connected(at));
    let (stream, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip(), Ipv4Addr::new(127, 3, 0, 7));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn a_socket_connects_talks_hears_the_end_and_begins_anew() {
    let Some((mut fleet, listener, _)) = listen(2, 2) else { return };
    for round in 0..3_u8 {
        let mut stream = connect(&mut fleet, &listener, 1);
        fleet.send(1, vec![round; 5].into()).unwrap();
        fleet.send(1, vec![b'!'].into()).unwrap();
        // The second one begins when the first has ended.
        for _ in 0..2 {
            fleet.wait(Duration::ZERO).unwrap();
            assert!(fleet.event().unwrap().is_none());
        }
        let mut bytes = [0; 6];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, [round, round, round, round, round, b'!']);
        stream.write_all(b"welcome").unwrap();
        assert_eq!(next(&mut fleet), Happened::Received(1, b"welcome".to_vec()));
        stream.write_all(b"last words").unwrap();
        drop(stream);
        assert_eq!(next(&mut fleet), Happened::Received(1, b"last words".to_vec()));
        assert_eq!(next(&mut fleet), Happened::Ended(1, 0));
        fleet.close(1, Close::Fin).unwrap();
        assert_eq!(next(&mut fleet), Happened::Closed(1));
    }
}

#[test]
fn what_is_more_than_a_buffer_arrives_whole_and_in_order() {
    let Some((mut fleet, listener, _)) = listen(1, 1) else { return };
    let mut stream = connect(&mut fleet, &listener, 0);
    let sent: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
    let bytes = sent.clone();
    let writer = std::thread::spawn(move || stream.write_all(&bytes).map(|()| stream));
    let mut received = Vec::new();
    while received.len() < sent.len() {
        match next(&mut fleet) {
            Happened::Received(0, bytes) => received.extend(bytes),
            other => panic!("{other:?}"),
        }
    }
    assert!(received == sent, "the bytes differ");
    drop(writer.join().unwrap());
}

#[test]
fn a_peer_that_does_not_read_gets_everything_in_order_once_it_does() {
    let Some((mut fleet, listener, _)) = listen(1, 1) else { return };
    let mut stream = connect(&mut fleet, &listener, 0);
    let pieces: Vec<Vec<u8>> = (0..500_u32).map(|at| at.to_le_bytes().repeat(4096)).collect();
    for piece in &pieces {
        fleet.send(0, piece.clone().into()).unwrap();
        fleet.wait(Duration::ZERO).unwrap();
        assert!(fleet.event().unwrap().is_none());
    }
    assert!(!fleet.blocked.is_empty(), "eight MB had room: this proves nothing");
    let reader = std::thread::spawn(move || {
        let mut all = vec![0; 500 * 16 * 1024];
        stream.read_exact(&mut all).map(|()| (all, stream))
    });
    while !reader.is_finished() {
        fleet.wait(Duration::from_millis(5)).unwrap();
        assert!(fleet.event().unwrap().is_none());
    }
    assert!(reader.join().unwrap().unwrap().0 == pieces.concat(), "the bytes differ");
}

#[test]
fn a_peer_that_leaves_too_much_unread_is_told_of() {
    let Some((mut fleet, listener, _)) = listen(1, 1) else { return };
    let _stream = connect(&mut fleet, &listener, 0);
    for _ in 0..sends::WAITING_MAX + 600 {
        fleet.send(0, vec![7; 16 * 1024].into()).unwrap();
        fleet.wait(Duration::ZERO).unwrap();
        if let Some((0, event)) = fleet.event().unwrap() {
            return assert_eq!(event, Event::Ended(libc::ENOBUFS));
        }
    }
    panic!("any number of messages may wait");
}

#[test]
fn a_reset_is_a_reset_and_an_end_is_an_end() {
    let Some((mut fleet, listener, _)) = listen(1, 1) else { return };
    for (how, error) in [(Close::Fin, None), (Close::Reset, Some(ErrorKind::ConnectionReset))] {
        let mut stream = connect(&mut fleet, &listener, 0);
        fleet.close(0, how).unwrap();
        assert_eq!(next(&mut fleet), Happened::Closed(0));
        assert_eq!(stream.read(&mut [0; 8]).map_err(|error| error.kind()).err(), error, "{how:?}");
    }
}

#[test]
fn words_and_an_end_that_were_there_before_the_poll_are_both_told() {
    let Some((mut fleet, listener, _)) = listen(1, 1) else { return };
    // Told that it is connected, and not yet armed: one report will stand for both.
    let mut stream = connect(&mut fleet, &listener, 0);
    stream.write_all(b"no room").unwrap();
    drop(stream);
    assert_eq!(next(&mut fleet), Happened::Received(0, b"no room".to_vec()));
    assert_eq!(next(&mut fleet), Happened::Ended(0, 0));
}

#[test]
fn what_is_told_of_an_earlier_connection_finds_nothing() {
    let Some((mut fleet, listener, target)) = listen(1, 1) else { return };
    fleet.connect(0, None, target).unwrap();
    let before = fleet.sockets[0].opening.wrapping_sub(1);
    assert!(fleet.connected(0, before, -libc::ECANCELED).unwrap().is_none());
    assert_eq!(next(&mut fleet), Happened::Connected(0));
    drop(listener.accept().unwrap());
    assert_eq!(next(&mut fleet), Happened::Ended(0, 0));
}

#[test]
fn who_is_refused_is_told_once_and_may_try_again() {
    let Some((mut fleet, listener, target)) = listen(1, 1) else { return };
    drop(listener);
    for _ in 0..2 {
        fleet.connect(0, None, target).unwrap();
        assert_eq!(next(&mut fleet), Happened::Refused(0, libc::ECONNREFUSED));
        fleet.close(0, Close::Fin).unwrap();
        assert_eq!(next(&mut fleet), Happened::Closed(0));
    }
    // A step before the last one fails: nobody may have this address.
    fleet.connect(0, Some(([192, 0, 2, 1], 0).into()), target).unwrap();
    assert_eq!(next(&mut fleet), Happened::Refused(0, libc::EADDRNOTAVAIL));
    fleet.close(0, Close::Fin).unwrap();
    assert_eq!(next(&mut fleet), Happened::Closed(0));
}

#[test]
fn more_sockets_than_a_table_has_places_are_in_more_rings_and_do_not_mix() {
    let Some((mut fleet, listener, target)) = listen(7, 3) else { return };
    assert_eq!(fleet.rings(), 3);
    let mut streams = Vec::new();
    for at in 0..7 {
        fleet.connect(at, None, target).unwrap();
        assert_eq!(next(&mut fleet), Happened::Connected(at));
        streams.push(listener.accept().unwrap().0);
    }
    for (at, stream) in streams.iter_mut().enumerate().rev() {
        stream.write_all(&[at as u8; 3]).unwrap();
        assert_eq!(next(&mut fleet), Happened::Received(at as u32, vec![at as u8; 3]));
    }
    for at in 0..7 {
        fleet.close(at, Close::Reset).unwrap();
    }
    let mut closed: Vec<u32> = (0..7)
        .map(|_| match next(&mut fleet) {
            Happened::Closed(at) => at,
            other => panic!("{other:?}"),
        })
        .collect();
    closed.sort_unstable();
    assert_eq!(closed, [0, 1, 2, 3, 4, 5, 6]);
}
