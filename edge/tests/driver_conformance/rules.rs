//! The rules.

use std::thread;
use std::time::Duration;

use bytes::Bytes;
use roost_edge_core::End;
use roost_edge_core::driver::Driver;

use crate::harness::{Bench, Harness, Peer, Spoilt, pattern};

/// More than any buffer on the way holds.
const MUCH: usize = 16 << 20;

/// Sends all of `bytes` while the driver reads.
fn send_all<H: Harness>(bench: &mut Bench<H>, peer: &mut H::Peer, bytes: &[u8]) {
    let mut at = 0;
    bench.until("the peer can send", |_| {
        at += peer.send(&bytes[at..]);
        at == bytes.len()
    });
}

/// Reads `len` bytes at the peer while the driver writes.
fn receive<H: Harness>(bench: &mut Bench<H>, peer: &mut H::Peer, len: usize) -> Vec<u8> {
    let mut got = Vec::new();
    bench.until("the peer hears everything", |_| {
        while let Some(piece) = peer.receive().expect("no reset") {
            if piece.is_empty() {
                break;
            }
            got.extend_from_slice(&piece);
        }
        got.len() >= len
    });
    got
}

pub(crate) fn bytes_arrive_whole_in_order_and_before_the_end<H: Harness>() {
    let mut bench = Bench::<H>::new();
    let (key, mut peer) = bench.connect();
    let bytes = pattern(1 << 20);
    send_all(&mut bench, &mut peer, &bytes);
    peer.end();
    bench.until("the end", |bench| bench.heard.ended.contains_key(&key));
    assert_eq!(bench.heard.ended[&key], End::Eof);
    assert!(bench.received(key) == bytes, "{} bytes of {}", bench.received(key).len(), bytes.len());
    assert_eq!((&bench.heard.half_closed[..], bench.driver.connections()), (&[key][..], 0));
}

pub(crate) fn a_half_closed_connection_that_is_kept_can_be_written_to<H: Harness>() {
    let mut bench = Bench::<H>::new();
    bench.heard.keeps = true;
    let (key, mut peer) = bench.connect();
    peer.send(b"a question");
    peer.end();
    bench.until("the half-close", |bench| bench.heard.half_closed == [key]);
    assert_eq!(bench.received(key), b"a question");
    let bytes = pattern(MUCH);
    bench.queue(key, [Bytes::from(bytes.clone())]);
    assert!(receive(&mut bench, &mut peer, MUCH) == bytes);
    assert_eq!(bench.driver.keys(), [key]);
    assert!(bench.heard.ended.is_empty(), "it has not ended");
    bench.driver.close(key);
    bench.until("the end", |_| peer.receive().expect("no reset").is_none());
    assert_eq!(bench.driver.connections(), 0);
}

pub(crate) fn a_reset_is_told_after_a_half_close<H: Harness>() {
    let mut bench = Bench::<H>::new();
    bench.heard.keeps = true;
    let (key, mut peer) = bench.connect();
    peer.end();
    bench.until("the half-close", |bench| bench.heard.half_closed == [key]);
    peer.reset();
    bench.until("the reset", |bench| bench.heard.ended.contains_key(&key));
    assert_eq!((bench.heard.ended[&key], bench.driver.connections()), (End::Error, 0));
}

pub(crate) fn a_paused_connection_is_not_read_and_loses_nothing<H: Harness>() {
    let mut bench = Bench::<H>::new();
    let (key, mut peer) = bench.connect();
    peer.send(b"before");
    bench.until("the first bytes", |bench| bench.received(key) == b"before");
    bench.driver.pause(key);
    peer.send(b" and after");
    for _ in 0..5 {
        bench.turn();
    }
    assert_eq!(bench.received(key), b"before");
    bench.driver.resume(key);
    bench.until("the rest", |bench| bench.received(key) == b"before and after");
    // Pausing before anything has come is the same.
    bench.driver.pause(key);
    bench.driver.resume(key);
    peer.send(b"!");
    bench.until("the last", |bench| bench.received(key).ends_with(b"!"));
}

pub(crate) fn a_resumed_connection_is_read_without_a_new_event<H: Harness>() {
    let mut bench = Bench::<H>::new();
    let (key, mut peer) = bench.connect();
    bench.driver.pause(key);
    peer.send(b"here already");
    for _ in 0..H::ARRIVAL_TURNS {
        bench.turn();
    }
    bench.driver.resume(key);
    let timeout = Duration::from_secs(30);
    let slept = bench.time(|bench| bench.driver.wait(Some(timeout)).unwrap());
    assert!(slept < timeout, "it slept over bytes that were there");
    bench.driver.deliver(&mut bench.heard);
    assert_eq!(bench.received(key), b"here already");
}

pub(crate) fn a_reset_is_told<H: Harness>() {
    let mut bench = Bench::<H>::new();
    let (key, peer) = bench.connect();
    peer.reset();
    bench.until("the reset", |bench| bench.heard.ended.contains_key(&key));
    assert_eq!(bench.heard.ended[&key], End::Error);
    assert_eq!(bench.driver.connections(), 0);
}

pub(crate) fn a_reset_is_told_while_paused<H: Harness>() {
    let mut bench = Bench::<H>::new();
    let (key, mut peer) = bench.connect();
    bench.driver.pause(key);
    peer.send(b"never read");
    bench.turn();
    peer.reset();
    bench.until("the reset", |bench| bench.heard.ended.contains_key(&key));
    assert_eq!(bench.heard.ended[&key], End::Error);
}

pub(crate) fn what_does_not_fit_goes_out_when_there_is_room<H: Harness>() {
    let mut bench = Bench::<H>::new();
    let (key, mut peer) = bench.connect();
    let bytes = pattern(MUCH);
    bench.queue(key, [Bytes::from(bytes.clone())]);
    for _ in 0..3 {
        bench.turn();
    }
    assert!(bench.queued_bytes(key) > 0, "nobody reads: it cannot all be out");
    assert!(receive(&mut bench, &mut peer, MUCH) == bytes);
    assert_eq!(bench.queued_bytes(key), 0);
}

pub(crate) fn many_frames_leave_in_order<H: Harness>() {
    let mut bench = Bench::<H>::new();
    let (key, mut peer) = bench.connect();
    // More than one gathered write holds, of all sizes.
    let bytes = pattern(1 << 20);
    let all = Bytes::from(bytes.clone());
    let (mut frames, mut at) = (Vec::new(), 0);
    while at < all.len() {
        let len = (frames.len() % 977 + 1).min(all.len() - at);
        frames.push(all.slice(at..at + len));
        at += len;
    }
    assert!(frames.len() > 1500);
    bench.queue(key, frames);
    assert!(receive(&mut bench, &mut peer, bytes.len()) == bytes);
}

pub(crate) fn a_fat_peer_does_not_starve_a_thin_one<H: Harness>() {
    let mut bench = Bench::<H>::new();
    let (fat, mut fat_peer) = bench.connect();
    let (thin, mut thin_peer) = bench.connect();
    while fat_peer.send(&pattern(1 << 20)) > 0 {}
    thin_peer.send(b"me too");
    bench.until("the thin one", |bench| !bench.received(thin).is_empty());
    let first = bench.received(fat).len();
    assert!(first <= 1 << 20, "{first} bytes of the fat one came before");
    // And the fat one goes on, though no new event comes for what is there already.
    bench.until("more of the fat one", |bench| bench.received(fat).len() > first.max(128 * 1024));
}

pub(crate) fn calls_for_stale_keys_do_nothing<H: Harness>() {
    let mut bench = Bench::<H>::new();
    let (old, peer) = bench.connect();
    bench.driver.close(old);
    bench.forget(old);
    let (new, mut new_peer) = bench.connect();
    assert_eq!((new.slot(), new == old), (old.slot(), false), "the slot is used again");
    bench.driver.close(old);
    bench.driver.pause(old);
    bench.driver.resume(old);
    assert_eq!(bench.driver.connections(), 1);
    new_peer.send(b"alive");
    bench.until("the new one", |bench| bench.received(new) == b"alive");
    drop(peer);
}

pub(crate) fn a_slot_used_again_hears_nothing_of_the_old_connection<H: Harness>() {
    let mut bench = Bench::<H>::new();
    let (old, mut old_peer) = bench.connect();
    // Something is on its way when the connection is closed.
    old_peer.send(b"stale");
    bench.driver.wait(Some(Duration::from_secs(1))).unwrap();
    bench.driver.close(old);
    bench.forget(old);
    let (new, mut new_peer) = bench.connect();
    old_peer.end();
    new_peer.send(b"fresh");
    bench.until("the new one", |bench| !bench.received(new).is_empty());
    for _ in 0..3 {
        bench.turn();
    }
    assert_eq!(bench.received(new), b"fresh");
    assert_eq!(bench.received(old), b"");
    assert!(bench.heard.ended.is_empty(), "a closed connection has no end to tell");
}

pub(crate) fn closing_does_not_take_back_what_was_written<H: Harness>() {
    let mut bench = Bench::<H>::new();
    let (key, mut peer) = bench.connect();
    // Bytes that nobody reads make a plain close a reset.
    bench.driver.pause(key);
    peer.send(&pattern(4096));
    bench.turn();
    bench.queue(key, [Bytes::from_static(b"last words")]);
    assert_eq!(bench.queued_bytes(key), 0, "there was room");
    bench.driver.close(key);
    let mut got = Vec::new();
    bench.until("the end", |_| match peer.receive().expect("no reset") {
        Some(bytes) => {
            got.extend_from_slice(&bytes);
            false
        }
        None => true,
    });
    assert_eq!(got, b"last words");
}

pub(crate) fn a_failed_write_lets_the_connection_go<H: Harness>() {
    let mut bench = Bench::<H>::new();
    let (key, peer) = bench.connect();
    bench.driver.pause(key);
    peer.reset();
    // The reset is found by the write, or by the event before it: not by both.
    let frame = Bytes::from(vec![0; 1024]);
    bench.queue_blindly(key, frame);
    let failed = bench.write(key).is_err();
    bench.until("gone", |bench| bench.driver.connections() == 0);
    assert_ne!(failed, bench.heard.ended.contains_key(&key));
}

pub(crate) fn one_flush_sends_to_many_and_each_hears_its_own<H: Harness>() {
    // More than one submission holds, some of them with several frames.
    const MANY: usize = 300;
    let mut bench = Bench::<H>::new();
    let mut all: Vec<_> = (0..MANY).map(|_| bench.connect()).collect();
    let shared = [Bytes::from(pattern(128)), Bytes::from(pattern(40_000)), Bytes::from_static(b"and")];
    for round in 0..3 {
        let mut wanted = Vec::new();
        for (number, (key, _)) in all.iter().enumerate() {
            let own = Bytes::from(format!("{number} in {round}"));
            let frames: &[&Bytes] = match number % 4 {
                0 => &[&shared[0]],
                1 => &[&shared[0], &shared[2]],
                2 => &[&own, &shared[2], &own],
                _ => &[&shared[2], &shared[1], &own],
            };
            for frame in frames {
                bench.queue_blindly(*key, Bytes::clone(frame));
            }
            bench.offer(*key);
            wanted.push(frames.iter().flat_map(|frame| frame.to_vec()).collect::<Vec<_>>());
        }
        bench.flush();
        for ((key, peer), wanted) in all.iter_mut().zip(wanted) {
            // What did not go with the first send goes now.
            bench.write(*key).expect("a live connection");
            assert!(receive(&mut bench, peer, wanted.len()) == wanted);
            assert_eq!(bench.queued_bytes(*key), 0);
        }
    }
}

pub(crate) fn what_is_offered_twice_is_sent_once<H: Harness>() {
    let mut bench = Bench::<H>::new();
    let (key, mut peer) = bench.connect();
    for round in 0..3 {
        bench.queue_blindly(key, Bytes::from(format!("message {round};")));
        // A second effect, or a second message, before the first send has ended.
        bench.offer(key);
        bench.queue_blindly(key, Bytes::from_static(b"and more;"));
        bench.offer(key);
        bench.offer(key);
        bench.flush();
        bench.write(key).expect("a live connection");
        assert_eq!(bench.queued_bytes(key), 0);
        let wanted = format!("message {round};and more;");
        assert_eq!(receive(&mut bench, &mut peer, wanted.len()), wanted.as_bytes());
    }
}

pub(crate) fn frames_live_until_they_are_sent<H: Harness>() {
    for len in [100, 5_000, 100_000] {
        for frames in [1, 3] {
            let mut bench = Bench::<H>::new();
            let (key, mut peer) = bench.connect();
            for _ in 0..frames {
                bench.queue_blindly(key, Bytes::from_owner(Spoilt(pattern(len))));
            }
            bench.offer(key);
            let offered = len.min(H::OFFERED_BYTES_MAX);
            let wanted = pattern(len);
            // Nobody else holds them now.
            bench.forget(key);
            bench.driver.flush(&mut bench.heard);
            assert!(receive(&mut bench, &mut peer, offered)[..offered] == wanted[..offered], "{frames} of {len} bytes");
        }
    }
}

pub(crate) fn a_send_that_outlives_its_connection_counts_for_nobody<H: Harness>() {
    let mut bench = Bench::<H>::new();
    let (old, mut old_peer) = bench.connect();
    bench.queue_blindly(old, Bytes::from_static(b"last words"));
    bench.offer(old);
    bench.driver.close(old);
    bench.forget(old);
    let (new, mut new_peer) = bench.connect();
    assert_eq!(new.slot(), old.slot(), "the slot is used again");
    bench.queue_blindly(new, Bytes::from_static(b"first words, and more of them"));
    let queued = bench.queued_bytes(new);
    bench.flush();
    assert_eq!(bench.queued_bytes(new), queued, "nothing of it was offered");
    bench.write(new).expect("a live connection");
    assert_eq!(receive(&mut bench, &mut new_peer, queued), b"first words, and more of them");
    assert_eq!(receive(&mut bench, &mut old_peer, 10), b"last words");
}

pub(crate) fn a_refused_connection_hears_the_answer<H: Harness>() {
    let mut bench = Bench::<H>::new();
    let (conn, mut peer) = bench.harness.connect(&mut bench.driver, &mut bench.heard);
    peer.send(b"GET /ws HTTP/1.1\r\n");
    bench.driver.refuse(conn, b"no room");
    assert_eq!(receive(&mut bench, &mut peer, 7), b"no room");
    bench.until("the end", |_| peer.receive().expect("no reset").is_none());
    assert_eq!(bench.driver.connections(), 0);
}

pub(crate) fn the_waker_ends_the_sleep<H: Harness>() {
    let mut bench = Bench::<H>::new();
    // Before the sleep begins: it must not be lost.
    bench.waker.wake();
    bench.driver.wait(None).unwrap();
    bench.driver.deliver(&mut bench.heard);
    let waker = bench.waker.clone();
    let other = thread::spawn(move || waker.wake());
    bench.driver.wait(None).unwrap();
    other.join().unwrap();
    assert!(bench.heard.received.is_empty() && bench.heard.ended.is_empty());
}

pub(crate) fn what_arrives_while_it_gathers_is_delivered_in_one_turn<H: Harness>() {
    let mut bench = Bench::<H>::new();
    let mut connected: Vec<_> = (0..50).map(|_| bench.connect()).collect();
    bench.turn();
    for (_, peer) in &mut connected {
        peer.send(b"a sign of life");
    }
    bench.driver.gather(Duration::from_millis(50));
    bench.driver.wait(None).unwrap();
    bench.driver.deliver(&mut bench.heard);
    for (key, _) in &connected {
        assert_eq!(bench.received(*key), b"a sign of life");
    }
    // Nothing is left to be told, and it was not told twice.
    bench.driver.gather(Duration::from_millis(1));
    bench.turn();
    assert!(connected.iter().all(|(key, _)| bench.received(*key) == b"a sign of life"));
}

pub(crate) fn a_wake_up_while_bytes_are_moved_ends_the_next_sleep<H: Harness>() {
    let mut bench = Bench::<H>::new();
    let (key, mut peer) = bench.connect();
    bench.turn();
    let timeout = Duration::from_secs(30);
    for receives in [false, true] {
        if receives {
            peer.send(b"something");
            bench.driver.wait(Some(timeout)).unwrap();
            bench.waker.wake();
            bench.driver.deliver(&mut bench.heard);
        } else {
            bench.queue_blindly(key, Bytes::from_static(b"something"));
            bench.offer(key);
            bench.waker.wake();
            bench.flush();
        }
        let slept = bench.time(|bench| bench.driver.wait(Some(timeout)).unwrap());
        assert!(slept < timeout, "receives: {receives}");
        bench.driver.deliver(&mut bench.heard);
    }
}

pub(crate) fn a_sleep_without_events_ends_with_its_timeout<H: Harness>() {
    let mut bench = Bench::<H>::new();
    let (_key, _peer) = bench.connect();
    bench.turn();
    let timeout = Duration::from_millis(50);
    let slept = bench.time(|bench| bench.driver.wait(Some(timeout)).unwrap());
    assert!(slept >= timeout, "{slept:?}");
    assert!(!bench.driver.deliver(&mut bench.heard), "nothing is left to tell");
}

pub(crate) fn connections_are_counted<H: Harness>() {
    let mut bench = Bench::<H>::new();
    let (one, _peer) = bench.connect();
    let (two, mut other) = bench.connect();
    assert_eq!(bench.driver.connections(), 2);
    let mut keys = bench.driver.keys();
    keys.sort_unstable();
    assert_eq!(keys, [one, two]);
    bench.driver.close(one);
    assert_eq!(bench.driver.keys(), [two]);
    other.end();
    bench.until("the other one ends", |bench| bench.driver.connections() == 0);
    assert!(bench.driver.keys().is_empty());
}
