//! Keys, suites, tickets.

use super::*;

#[test]
fn keys_are_updated_by_either_end_and_old_ones_open_nothing_new() {
    let mut world = World::new();
    let (mut client, key) = world.session(1);
    for round in 0..6_u8 {
        if round % 2 == 0 {
            client.quic.force_key_update();
        } else {
            world.hub.conns.get(0).unwrap().quic.force_key_update();
        }
        client.write(&[round; 100]);
        world.hub.write(key, &queue(&[&[round; 100]]), world.now).unwrap();
        let mut got = Vec::new();
        world.until(&mut client, "both ways", |world, client| {
            got.extend(client.read());
            got == [round; 100] && world.told.received == [round; 100]
        });
        world.told.received.clear();
        // Until the old keys are forgotten.
        world.now += Duration::from_secs(5);
        world.settle(&mut client);
    }
    assert!(client.lost.is_none() && world.told.ended.is_empty());
}

#[test]
fn every_suite_of_a_client_comes_through() {
    use rustls::crypto::aws_lc_rs::cipher_suite as suites;
    for suite in
        [suites::TLS13_AES_128_GCM_SHA256, suites::TLS13_AES_256_GCM_SHA384, suites::TLS13_CHACHA20_POLY1305_SHA256]
    {
        // In a first packet there is no choice.
        let mut both = vec![suite];
        if suite != suites::TLS13_AES_128_GCM_SHA256 {
            both.push(suites::TLS13_AES_128_GCM_SHA256);
        }
        let (tls, cert) = tls(ALPN);
        let mut world = World::with((tls, cert.clone()), |_| {});
        world.config = client_of(&cert, both);
        let (mut client, key) = world.session(1);
        world.hub.write(key, &queue(&[b"sealed"]), world.now).unwrap();
        world.until(&mut client, "our bytes", |_, client| client.read() == b"sealed");
    }
}

#[test]
fn a_session_is_resumed_by_a_ticket() {
    let (tls, cert) = chain_of(ALPN, 8);
    let mut tls = Arc::try_unwrap(tls).unwrap();
    tls.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    let mut world = World::with((Arc::new(tls), cert), |_| {});
    let bytes_of = |world: &mut World, number| {
        let (mut client, _) = world.session(number);
        world.settle(&mut client);
        client.quic.stats().udp_rx.bytes
    };
    let (full, resumed) = (bytes_of(&mut world, 1), bytes_of(&mut world, 2));
    assert!(resumed + 2000 < full, "no certificate the second time: {resumed} B after {full} B");
}
