//! Bytes and datagrams, both ways.

use super::*;

#[test]
fn frames_are_written_and_bytes_are_told() {
    let mut world = World::new();
    let (mut client, key) = world.session(1);
    client.write(b"to the server");
    world.until(&mut client, "its bytes", |world, _| world.told.received == b"to the server");
    assert_eq!(world.hub.write(key, &queue(&[b"one ", b"two ", b"three"]), world.now).unwrap(), 13);
    let mut got = Vec::new();
    world.until(&mut client, "our bytes", |_, client| {
        got.extend(client.read());
        got == b"one two three"
    });
    assert_eq!(world.hub.attached(), 1);
}

#[test]
fn who_never_acknowledges_is_asked_to() {
    let mut world = World::new();
    let (mut client, key) = world.session(1);
    world.settle(&mut client);
    let before = world.counted().pings;
    // Whatever asks to be acknowledged and says nothing.
    for _ in 0..100 {
        client.quic.ping();
        world.step(&mut client);
    }
    let pings = world.counted().pings - before;
    assert!((4..=14).contains(&pings), "{pings} for 100 datagrams");
    assert!(client.quic.stats().frame_rx.ping >= pings);
    // What we say ourselves is acknowledged, so nothing more is needed.
    let before = world.counted().pings;
    for _ in 0..100 {
        client.quic.ping();
        world.hub.write(key, &queue(&[b"x"]), world.now).unwrap();
        world.step(&mut client);
    }
    assert_eq!(world.counted().pings, before);
}

#[test]
fn a_full_socket_delays_and_loses_nothing() {
    let mut world = World::new();
    let (mut client, key) = world.session(1);
    let text: Vec<u8> = (0..60_000_u32).map(|at| (at % 251) as u8).collect();
    world.hub.write(key, &queue(&[&text]), world.now).unwrap();
    let mut got = Vec::new();
    for turn in 0..5000 {
        // Full at first, then with room for one send at a time.
        world.wire.room = Some(usize::from(turn > 20));
        world.step(&mut client);
        assert!(world.wire.datagrams.is_empty());
        got.extend(client.read());
        if got.len() == text.len() {
            break;
        }
    }
    assert!(got == text, "{} bytes", got.len());
    assert_eq!(world.hub.conns.get(0).unwrap().quic.stats().path.lost_packets, 0);
}

#[test]
fn time_counted_anew_still_ends_what_is_idle() {
    let mut world = World::new();
    world.now += Duration::from_secs(30 * 86_400);
    let (_client, _key) = world.session(1);
    assert!(world.hub.ticks.at(world.now) < 1 << 20, "counted anew");
    world.now += Duration::from_secs(3600);
    world.serve();
    assert_eq!(world.told.ended, [End::Error]);
    // And who was there before is armed again.
    let mut world = World::new();
    let (_client, _key) = world.session(1);
    (world.hub.wheel, world.hub.ticks) =
        (Default::default(), super::super::Ticks::new(world.now - Duration::from_secs(30 * 86_400)));
    world.serve();
    assert!(world.hub.next_deadline().is_some_and(|due| due < world.now + Duration::from_secs(100)));
}

#[test]
fn datagrams_go_both_ways_beside_the_stream() {
    let mut world = World::new();
    let (mut client, key) = world.session(1);
    assert!(world.hub.send_datagram(key, &Bytes::from_static(b"typing")));
    assert!(!world.hub.send_datagram(key, &Bytes::from(vec![0; 2000])), "too large for one");
    world.settle(&mut client);
    assert_eq!(client.quic.datagrams().recv(), Some(Bytes::from_static(b"typing")));
    world.hub.pause(key);
    client.quic.datagrams().send(Bytes::from_static(b"me too"), true).unwrap();
    world.settle(&mut client);
    assert!(world.told.datagrams.is_empty(), "it is not read");
    world.hub.resume(key);
    world.serve();
    assert_eq!(world.told.datagrams, [b"me too"]);
}

#[test]
fn who_is_not_read_fills_its_window_and_no_more() {
    let mut world = World::new();
    let (mut client, key) = world.session(1);
    world.hub.pause(key);
    let mut sent = 0;
    for _ in 0..200 {
        sent += client.write(&[5; 64 * 1024]);
        world.step(&mut client);
    }
    assert!(sent <= 64 * 1024 + 1, "{sent} B");
    world.hub.resume(key);
    world.until(&mut client, "all of it", |world, client| {
        client.write(&[]);
        world.told.received.len() >= sent - 1
    });
}

#[test]
fn a_stream_that_is_broken_while_nobody_reads_is_noticed() {
    let mut world = World::new();
    let (mut client, key) = world.session(1);
    world.hub.pause(key);
    client.write(b"never read");
    world.settle(&mut client);
    client.quic.send_stream(Client::lane()).reset(VarInt::from_u32(1)).unwrap();
    world.until(&mut client, "the end", |world, _| world.told.ended == [End::Error]);
    assert!(world.told.received.is_empty());
    world.until(&mut client, "the code", |_, client| client.lost.is_some());
    assert_eq!(client.code(), Some(1002));
}

#[test]
fn spoilt_datagrams_end_nobody() {
    let mut world = World::new();
    let (mut client, _key) = world.session(1);
    client.write(b"well");
    let whole = client.speak(world.now);
    for bytes in &whole {
        for at in 0..bytes.len() {
            let mut spoilt = bytes.clone();
            spoilt[at] ^= 0x55;
            world.give(client.addr, &spoilt);
            world.give(client.addr, &bytes[..at]);
        }
        world.serve();
        world.give(client.addr, bytes);
        // Twice is once.
        world.give(client.addr, bytes);
    }
    world.serve();
    assert_eq!(world.told.received, b"well");
    assert!(world.told.ended.is_empty());
}
