//! What strangers get, and for how long.

use super::*;

#[test]
fn a_long_chain_of_certificates_does_not_amplify() {
    let (tls, cert) = chain_of(ALPN, 40);
    let mut world = World::with((tls, cert.clone()), |_| {});
    // A first flight of two datagrams: the first is acknowledged by a small one, so that the rest of what is allowed is no
    // whole number of large ones.
    world.config = client_with(&cert, rustls::crypto::aws_lc_rs::default_provider());
    let mut client = world.client(1);
    let flight = client.speak(world.now);
    assert_eq!(flight.len(), 2);
    let heard: usize = flight.iter().map(Vec::len).sum();
    let mut answered = 0;
    for initial in flight {
        world.give(client.addr, &initial);
        world.serve();
        answered += world.wire.datagrams.drain(..).map(|(_, bytes)| bytes.len()).sum::<usize>();
    }
    for _ in 0..1500 {
        world.now += TICK;
        world.serve();
        answered += world.wire.datagrams.drain(..).map(|(_, bytes)| bytes.len()).sum::<usize>();
    }
    assert!(answered <= 3 * heard, "{answered} B for {heard} B");
    assert!(answered > 2 * heard, "it tried: {answered} B");
    assert!(world.counted().held_back > 0);
    // With an answer of the client's it comes through.
    let mut other = world.client(2);
    world.until(&mut other, "the handshake", |_, client| !client.quic.is_handshaking());
}

#[test]
fn handshakes_and_streams_have_their_time() {
    let mut world = World::new();
    let mut silent = world.client(1);
    let initial = silent.speak(world.now).remove(0);
    world.give(silent.addr, &initial);
    world.serve();
    let mut idle = world.client(2);
    world.until(&mut idle, "the handshake", |_, client| !client.quic.is_handshaking());
    world.settle(&mut idle);
    assert_eq!(world.hub.held(), 2);
    world.now += Duration::from_secs(11);
    world.settle(&mut idle);
    assert_eq!((idle.code(), world.counted().failed_late), (Some(4003), 2));
    world.now += Duration::from_secs(11);
    world.serve();
    assert_eq!((world.hub.held(), world.hub.young.count, world.hub.young.unproven), (0, 0, 0));
}

#[test]
fn what_comes_from_elsewhere_pays_for_nothing() {
    // Of this chain the third datagram is sent when the second has been paid for.
    let (tls, cert) = chain_of(ALPN, 12);
    let mut world = World::with((tls, cert), |_| {});
    let mut client = world.client(1);
    let (mut answered, mut elsewhere) = (0, 0);
    for number in 0..1900_u16 {
        let from = if number == 0 { client.addr } else { (Ipv4Addr::new(10, 9, 9, 9), number).into() };
        for bytes in client.speak(world.now) {
            elsewhere += usize::from(number > 0);
            world.give(from, &bytes);
        }
        world.now += TICK;
        world.serve();
        answered += world
            .wire
            .datagrams
            .drain(..)
            .map(|(to, bytes)| usize::from(to == client.addr) * bytes.len())
            .sum::<usize>();
    }
    assert!(elsewhere > 2, "it asks again: {elsewhere}");
    assert!((1200..=3600).contains(&answered), "{answered} B for 1200 B");
}

/// A datagram of a few bytes, from wherever it says.
fn forged(world: &mut World, client: &mut Client, from: SocketAddr) -> usize {
    client.quic.ping();
    let spoken = client.speak(world.now);
    spoken.iter().for_each(|bytes| world.give(from, bytes));
    world.serve();
    spoken.iter().map(Vec::len).sum()
}

#[test]
fn a_client_that_forges_its_address_does_not_make_much_of_little() {
    let mut world = World::new();
    let (mut client, key) = world.session(1);
    world.settle(&mut client);
    let (began, before) = (world.now, world.counted().migrations);
    let (mut heard, mut answered) = (0, 0);
    for number in 0..2000_u16 {
        world.now += Duration::from_millis(10);
        heard += forged(&mut world, &mut client, (Ipv4Addr::new(10, 9, (number >> 8) as u8, number as u8), 7).into());
        answered += world.wire.datagrams.drain(..).map(|(_, bytes)| bytes.len()).sum::<usize>();
    }
    let (seconds, moves) = ((world.now - began).as_secs() as usize, world.counted().migrations - before);
    assert!(answered <= 1300 * (12 + seconds), "{answered} B for {heard} B in {seconds} s");
    assert!(moves > 10 && world.counted().dropped_move > moves, "{moves} moves");
    // Where it really is it is heard again, sooner for what it says.
    for _ in 0..20 {
        world.now += Duration::from_millis(100);
        let home = client.addr;
        forged(&mut world, &mut client, home);
    }
    client.write(b"here I am");
    world.until(&mut client, "its bytes", |world, _| world.told.received.ends_with(b"here I am"));
    assert_eq!(world.hub.keys(), [key]);
}

#[test]
fn who_moves_as_often_as_people_do_is_followed_each_time() {
    let mut world = World::new();
    let (mut client, _) = world.session(1);
    // Ten at once, then each second, saying next to nothing.
    for number in 0..100_u16 {
        client.addr = (Ipv4Addr::LOCALHOST, 20_000 + number).into();
        client.quic.local_address_changed();
        world.told.received.clear();
        client.write(&[number as u8]);
        world.until(&mut client, "its byte", |world, _| world.told.received == [number as u8]);
        if number >= 10 {
            world.now += Duration::from_secs(1);
        }
    }
    assert_eq!((world.counted().migrations, world.counted().dropped_move), (100, 0));
}
