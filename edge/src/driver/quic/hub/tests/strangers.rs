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
