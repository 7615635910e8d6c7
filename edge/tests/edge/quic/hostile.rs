//! Peers that break rules.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use quinn::ConnectionError;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use roost_edge::driver::quic::QuicSnapshot;
use roost_wire::FrameBody;

use super::client::{Client, Quic, code, run, serve, udp};
use crate::support::{PATIENCE, send};

fn counted(quic: &Quic) -> QuicSnapshot {
    quic.server.handle().metrics().quic.expect("QUIC is on")
}

/// A socket that speaks to the server and nobody else.
fn stranger(quic: &Quic) -> UdpSocket {
    let socket = udp();
    socket.connect(quic.addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Somebody who means well is still served.
async fn still_served(quic: &Quic) {
    let endpoint = quic.endpoint();
    let mut ada = quic.session(&endpoint, "ada").await;
    ada.say(2, send("hi")).await;
    assert!(matches!(ada.reply(2).await, FrameBody::Sent(_)));
}

#[test]
fn a_wrong_alpn_or_none_is_refused_in_the_handshake() {
    let quic = serve(|_| {}, |_| {});
    run(async {
        let endpoint = quic.endpoint();
        for alpn in [&[&b"h2"[..]][..], &[b"roost/2", b"h3-29"], &[]] {
            let connecting = endpoint.connect_with(quic.client_config(alpn), quic.addr, "localhost").unwrap();
            let error = connecting.await.expect_err("we do not speak it");
            // CRYPTO_ERROR with the alert no_application_protocol (RFC 9001 §8.1).
            let ConnectionError::ConnectionClosed(close) = &error else { panic!("{error}") };
            assert_eq!(u64::from(close.error_code), 0x178, "{error}");
        }
        still_served(&quic).await;
    });
    quic.server.until("counted", |metrics| metrics.quic.is_some_and(|counted| counted.failed_handshake == 3));
}

#[test]
fn an_unknown_version_is_answered_with_those_we_know() {
    let quic = serve(|_| {}, |_| {});
    let socket = stranger(&quic);
    let mut initial = vec![0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8];
    initial.extend_from_slice(b"the dcid");
    initial.push(8);
    initial.extend_from_slice(b"the scid");
    initial.resize(1200, 0);
    // One that is short gets nothing: its address may be forged (RFC 9000 §5.2.2).
    socket.send(&initial[..1199]).unwrap();
    socket.send(&initial).unwrap();
    let mut answer = [0; 1500];
    let len = socket.recv(&mut answer).unwrap();
    let answer = &answer[..len];
    assert!(answer[0] & 0x80 != 0 && answer[1..5] == [0; 4], "version negotiation (RFC 9000 §17.2.1)");
    assert_eq!((&answer[6..14], &answer[15..23]), (&b"the scid"[..], &b"the dcid"[..]));
    assert!(answer[23..].chunks(4).any(|version| version == [0, 0, 0, 1]), "{answer:x?}");
    run(still_served(&quic));
}

#[test]
fn garbage_and_cut_packets_change_nothing() {
    let quic = serve(|edge| edge.shards = 3, |_| {});
    let socket = stranger(&quic);
    let mut random = StdRng::from_seed([5; 32]);
    // What a client really sends, to be cut and spoilt.
    let initial = run(quic.initials(1)).remove(0);
    assert!(initial.len() >= 1200);
    for len in (0..initial.len()).step_by(7) {
        let _ = socket.send(&initial[..len]);
    }
    for _ in 0..500 {
        let mut spoilt = initial.clone();
        for _ in 0..4 {
            let at = random.next_u32() as usize % spoilt.len();
            spoilt[at] ^= random.next_u32() as u8 | 1;
        }
        let _ = socket.send(&spoilt);
        let mut noise = vec![0; random.next_u32() as usize % 1400];
        random.fill_bytes(&mut noise);
        let _ = socket.send(&noise);
    }
    run(still_served(&quic));
    assert!(counted(&quic).dropped_stray > 0);
}

#[test]
fn where_too_many_strangers_begin_a_client_has_to_show_where_it_is() {
    let quic = serve(|edge| edge.shards = 1, |quic| quic.unproven_max = 0);
    run(async {
        still_served(&quic).await;
        let counted = counted(&quic);
        // A client whose first flight is two datagrams may be asked for each.
        assert!(counted.retries >= 1 && counted.handshakes == 1, "{counted:?}");
    });
    // And below the limit nobody has to.
    let quic = serve(|edge| edge.shards = 1, |_| {});
    run(async {
        still_served(&quic).await;
        assert_eq!(counted(&quic).retries, 0);
    });
}

#[test]
fn an_initial_flood_turns_into_retries_and_leaves_nothing_behind() {
    let quic = serve(
        |edge| edge.shards = 1,
        |quic| {
            quic.unproven_max = 8;
            quic.open_within = Duration::from_secs(1);
        },
    );
    run(async {
        let socket = stranger(&quic);
        for initial in quic.initials(100).await {
            socket.send(&initial).unwrap();
        }
        quic.server.until("retries", |metrics| metrics.quic.is_some_and(|counted| counted.retries >= 92));
        let counted = counted(&quic);
        assert_eq!((counted.opened, counted.retries), (8, 92), "{counted:?}");
        // Who shows where it is comes through.
        still_served(&quic).await;
    });
    quic.server.until("nothing is left of it", |metrics| {
        metrics.quic.is_some_and(|counted| counted.opened - counted.closed <= 1 && counted.failed_late == 8)
    });
}

#[test]
fn an_address_that_may_be_forged_gets_three_times_what_it_sent_at_most() {
    let quic = serve(|edge| edge.shards = 1, |quic| quic.open_within = Duration::from_secs(5));
    run(async {
        let initial = quic.initials(1).await.remove(0);
        let len = initial.len();
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&initial, quic.addr).await.unwrap();
        let (mut answered, began) = (0, Instant::now());
        let mut answer = [0; 1500];
        // Through all the times at which it tries again.
        while began.elapsed() < Duration::from_secs(6) {
            let wait = tokio::time::timeout(Duration::from_millis(500), socket.recv(&mut answer));
            if let Ok(Ok(len)) = wait.await {
                answered += len;
            }
        }
        assert!(answered > len && answered <= 3 * len, "{answered} B for {len} B");
        assert!(answered > 2 * len, "it tried: {answered} B");
    });
}

#[test]
fn one_stream_is_all_a_client_may_open() {
    let quic = serve(|_| {}, |_| {});
    run(async {
        let endpoint = quic.endpoint();
        let mut ada = quic.session(&endpoint, "ada").await;
        let second = tokio::time::timeout(Duration::from_millis(300), ada.connection.open_bi());
        assert!(second.await.is_err(), "it waits for a right that does not come");
        let other = tokio::time::timeout(Duration::from_millis(300), ada.connection.open_uni());
        assert!(other.await.is_err());
        ada.say(2, send("hi")).await;
        assert!(matches!(ada.reply(2).await, FrameBody::Sent(_)));
        // A stream with nothing on it but its beginning is a session that has to say who it is.
        let mut silent = Client::open(quic.connect(&endpoint).await.unwrap()).await;
        silent.tx.write_all(&[0x05]).await.unwrap();
        assert!(matches!(silent.frame().await.body, Some(FrameBody::Hello(_))));
    });
}

#[test]
fn those_without_a_stream_make_room_for_others() {
    let quic = serve(
        |edge| {
            edge.shards = 1;
            edge.unauthenticated_max = 4;
        },
        |_| {},
    );
    run(async {
        let endpoint = quic.endpoint();
        let mut held = Vec::new();
        for _ in 0..10 {
            held.push(quic.connect(&endpoint).await.unwrap());
        }
        let first = held[0].closed().await;
        assert_eq!(code(&first), Some(4004), "{first}");
        assert!(counted(&quic).failed_crowded >= 6);
        still_served(&quic).await;
    });
}

#[test]
fn too_many_from_one_address_are_turned_away() {
    let quic = serve(
        |edge| {
            edge.connections_per_address_max = 3;
            edge.addresses_exempt = Vec::new();
        },
        |_| {},
    );
    run(async {
        let endpoint = quic.endpoint();
        let mut held = Vec::new();
        for number in 0..3 {
            held.push(quic.session(&endpoint, &format!("guest{number}")).await);
        }
        let fourth = quic.connect(&endpoint).await.unwrap();
        let ended = fourth.closed().await;
        assert_eq!(code(&ended), Some(4004), "{ended}");
        // Who leaves makes room.
        held.pop().unwrap().connection.close(1000_u32.into(), b"");
        quic.server.until("room", |metrics| metrics.quic.is_some_and(|counted| counted.closed >= 2));
        still_served(&quic).await;
    });
}
