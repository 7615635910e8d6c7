//! Sessions against clients by rustls.

use std::io::{Read, Write};

use proptest::prelude::*;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ServerConnection};

use super::super::broken::Reason;
use super::super::session::HANDSHAKE_BYTES_MAX;
use super::*;

/// Bytes that tell when one is lost, doubled or moved.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

#[test]
fn handshake_and_data_come_through_however_they_are_cut() {
    for version in [&TLS13, &TLS12] {
        for step in [1, 2, 3, 5, 6, 64, 1000, 16_384, usize::MAX] {
            let mut client = client(client_config(version));
            let (mut session, mut told) = shaken(&mut client, step);
            assert_eq!(told.shaken, Some(HandshakeKind::Full));
            for len in [1, 100, 16_384, 16_385, 50_000] {
                let data = pattern(len);
                client.writer().write_all(&data).unwrap();
                told.plain.clear();
                give(&mut session, &taken(&mut client), step, &mut told);
                assert!(told.plain == data, "{len} bytes, {step} at a time");
                assert_eq!(session.kept_bytes(), 0);
                let answer = sealed(&mut session, &data);
                assert!(hand(&mut client, &answer).unwrap() == data, "{len} bytes back");
            }
            assert!(told.broken.is_none() && !told.ended);
        }
    }
}

#[test]
fn what_is_sent_right_behind_the_end_of_the_handshake_is_data() {
    for version in [&TLS13, &TLS12] {
        for step in [1, 100, usize::MAX] {
            let mut client = client(client_config(version));
            let (mut session, mut told) = (Session::new(&world().server).unwrap(), Told::default());
            let mut said = false;
            for _ in 0..8 {
                if !client.is_handshaking() && !said {
                    said = true;
                    // Data, new keys, and data with those.
                    client.writer().write_all(b"at once").unwrap();
                    if version == &TLS13 {
                        client.refresh_traffic_keys().unwrap();
                    }
                    client.writer().write_all(b", and more").unwrap();
                }
                give(&mut session, &taken(&mut client), step, &mut told);
                hand(&mut client, &std::mem::take(&mut told.out)).unwrap();
            }
            assert_eq!((told.plain.as_slice(), told.broken), (&b"at once, and more"[..], None));
            let answer = sealed(&mut session, b"an answer");
            assert_eq!(hand(&mut client, &answer).unwrap(), b"an answer");
        }
    }
}

#[test]
fn a_client_that_comes_back_resumes_its_session_with_any_shard() {
    for version in [&TLS13, &TLS12] {
        // One store of tickets on the client's side; a session is all that a shard has.
        let config = Arc::new(client_config(version));
        for want in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut client = ClientConnection::new(config.clone(), name()).unwrap();
            let (_, told) = shaken(&mut client, usize::MAX);
            assert_eq!(told.shaken, Some(want));
        }
    }
}

#[test]
fn the_end_is_said_both_ways() {
    for version in [&TLS13, &TLS12] {
        let mut client = client(client_config(version));
        let (mut session, mut told) = shaken(&mut client, usize::MAX);
        client.writer().write_all(b"goodbye").unwrap();
        client.send_close_notify();
        let mut bytes = taken(&mut client);
        bytes.extend_from_slice(b"what no TLS is");
        give(&mut session, &bytes, usize::MAX, &mut told);
        assert_eq!((told.plain.as_slice(), told.ended, told.broken), (&b"goodbye"[..], true, None));
        // What comes later is not even looked at, and we may still speak.
        give(&mut session, b"nor this", 1, &mut told);
        assert_eq!((told.plain.as_slice(), told.broken, session.kept_bytes()), (&b"goodbye"[..], None, 0));
        let mut last = sealed(&mut session, b"the answer");
        session.close_notify(&mut last);
        assert!(!session.is_open());
        assert_eq!(hand(&mut client, &last).unwrap(), b"the answer");
        assert!(client.process_new_packets().unwrap().peer_has_closed());
        assert_eq!(session.seal([&b"too late"[..]].into_iter(), &mut last).unwrap(), 0);
    }
}

#[test]
fn a_client_that_wants_new_keys_of_ours_gets_them_before_the_next_data() {
    let mut client = client(client_config(&TLS13));
    let (mut session, mut told) = shaken(&mut client, usize::MAX);
    for round in 0..100 {
        client.refresh_traffic_keys().unwrap();
        client.writer().write_all(b"question").unwrap();
        told.plain.clear();
        give(&mut session, &taken(&mut client), 7, &mut told);
        assert_eq!((told.plain.as_slice(), told.broken), (&b"question"[..], None));
        assert!(told.out.is_empty(), "many requests in silence make one answer");
        if round % 3 == 0 {
            let (first, second) = (sealed(&mut session, b"answer"), sealed(&mut session, b"answer"));
            // A record of five bytes more: its header, type and tag are 22.
            assert_eq!(first.len(), second.len() + 22 + 5, "new keys once, before the data");
            assert_eq!(hand(&mut client, &[first, second].concat()).unwrap(), b"answeranswer");
        }
    }
}

#[test]
fn what_is_no_tls_or_not_for_us_is_refused_by_its_reason_and_told() {
    let mut hello = client(client_config(&TLS13));
    let hello = taken(&mut hello);
    let mut old = hello.clone();
    old[1] = 2;
    let mut alpn = client_config(&TLS13);
    alpn.alpn_protocols = vec![b"h2".to_vec()];
    for (what, bytes, reason, alert) in [
        ("plain HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), Reason::Malformed, true),
        ("a record of data first", vec![23, 3, 3, 0, 2, 1, 1], Reason::Malformed, true),
        ("a record that is too long", vec![22, 3, 1, 0xff, 0xff, 1], Reason::Malformed, true),
        ("an unknown version", old, Reason::Malformed, true),
        ("another protocol", taken(&mut client(alpn)), Reason::Alpn, true),
        ("an alert", vec![21, 3, 3, 0, 2, 2, 48], Reason::Refused, false),
        ("endless handshake", endless(), Reason::Large, true),
    ] {
        for step in [1, usize::MAX] {
            let (mut session, mut told) = (Session::new(&world().server).unwrap(), Told::default());
            give(&mut session, &bytes, step, &mut told);
            let broken = told.broken.unwrap_or_else(|| panic!("{what}, {step} at a time: not refused"));
            assert_eq!(broken.reason, reason, "{what}");
            // Behind its own hello the alert is sealed.
            let heard = told.out.first() == Some(&21) || (reason == Reason::Alpn && told.out.len() > 100);
            assert_eq!(heard, alert, "{what}: {} bytes", told.out.len());
            assert!(told.plain.is_empty() && session.kept_bytes() == 0 && !session.is_open());
        }
    }
}

/// A message of a handshake that says it is long, and comes in many records.
fn endless() -> Vec<u8> {
    let mut bytes = vec![22, 3, 1, 0x10, 0, 1, 0, 0xff, 0];
    bytes.resize(5 + 4096, 0);
    while bytes.len() <= HANDSHAKE_BYTES_MAX {
        bytes.extend_from_slice(&[22, 3, 1, 0x10, 0]);
        bytes.resize(bytes.len() + 4096, 0);
    }
    bytes
}

#[test]
fn any_bit_that_is_changed_on_the_way_breaks_a_session_and_no_byte_behind_it_is_told() {
    for at in 0..60 {
        for bit in [0x01, 0x10, 0x80] {
            let mut client = client(client_config(&TLS13));
            let (mut session, mut told) = shaken(&mut client, usize::MAX);
            client.writer().write_all(&pattern(30)).unwrap();
            let mut bytes = taken(&mut client);
            let len = bytes.len();
            bytes[at % len] ^= bit;
            client.writer().write_all(b"later").unwrap();
            bytes.extend_from_slice(&taken(&mut client));
            give(&mut session, &bytes, usize::MAX, &mut told);
            // A length that grew waits for bytes that are not there yet.
            let waits = told.broken.is_none() && session.kept_bytes() > 0;
            assert!(told.broken.is_some() || waits, "byte {at}");
            assert!(told.plain.is_empty(), "byte {at}: {:?}", told.plain);
        }
    }
}

#[test]
fn every_cipher_suite_has_its_keys_and_their_successors() {
    use rustls::crypto::aws_lc_rs::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    for suite in [TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256] {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites = vec![suite];
        let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[&TLS13]);
        let config = builder.unwrap().with_root_certificates(world().roots.clone()).with_no_client_auth();
        let mut client = client(config);
        let (mut session, mut told) = shaken(&mut client, usize::MAX);
        for round in 0..5 {
            client.writer().write_all(b"question").unwrap();
            told.plain.clear();
            give(&mut session, &taken(&mut client), usize::MAX, &mut told);
            assert_eq!((told.plain.as_slice(), told.broken), (&b"question"[..], None), "{suite:?}, {round}");
            let answer = sealed(&mut session, b"answer");
            assert_eq!(hand(&mut client, &answer).unwrap(), b"answer", "{suite:?}, {round}");
            client.refresh_traffic_keys().unwrap();
        }
    }
}

#[test]
fn handshakes_that_go_on_at_once_do_not_mix_their_secrets() {
    let mut clients: Vec<_> = (0..4).map(|_| client(client_config(&TLS13))).collect();
    let mut sessions: Vec<_> = (0..4).map(|_| (Session::new(&world().server).unwrap(), Told::default())).collect();
    for _ in 0..6 {
        for (client, (session, told)) in clients.iter_mut().zip(&mut sessions) {
            give(session, &taken(client), usize::MAX, told);
            hand(client, &std::mem::take(&mut told.out)).unwrap();
        }
    }
    for (client, (session, told)) in clients.iter_mut().zip(&mut sessions) {
        assert!(session.is_open() && told.broken.is_none());
        client.refresh_traffic_keys().unwrap();
        client.writer().write_all(b"mine").unwrap();
        give(session, &taken(client), usize::MAX, told);
        assert_eq!((told.plain.as_slice(), told.broken), (&b"mine"[..], None));
    }
}

/// What a client does.
#[derive(Clone, Debug)]
enum Act {
    Write(usize),
    NewKeys,
    End,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1usize..3000).prop_map(Act::Write),
        1 => (16_300usize..40_000).prop_map(Act::Write),
        2 => Just(Act::NewKeys),
        1 => Just(Act::End),
    ]
}

/// What a server made of it: data, whether the end was said, whether it broke.
type Outcome = (Vec<u8>, bool, bool);

/// The bytes of a client that does `acts`, one of them changed.
fn bytes_of(client: &mut ClientConnection, acts: &[Act], change: Option<(usize, u8)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for act in acts {
        match act {
            Act::Write(len) => client.writer().write_all(&pattern(*len)).unwrap(),
            Act::NewKeys => client.refresh_traffic_keys().unwrap(),
            Act::End => client.send_close_notify(),
        }
        bytes.extend_from_slice(&taken(client));
    }
    if let (Some((at, xor)), false) = (change, bytes.is_empty()) {
        let mut at = at % bytes.len();
        // Not the version, which rustls ignores: it is a part of what the tag is for (RFC 8446 §5.2), so a change breaks us.
        let begins = std::iter::successors(Some(0), |begin: &usize| {
            let len = bytes.get(begin + 3..begin + 5)?;
            Some(begin + 5 + usize::from(u16::from_be_bytes([len[0], len[1]])))
        });
        if begins.take_while(|begin| *begin <= at).any(|begin| (1..3).contains(&(at - begin))) {
            at += 2;
        }
        bytes[at] ^= xor;
    }
    bytes
}

fn by_session(acts: &[Act], change: Option<(usize, u8)>, step: usize) -> Outcome {
    let mut client = client(client_config(&TLS13));
    client.set_buffer_limit(None);
    let (mut session, mut told) = shaken(&mut client, usize::MAX);
    give(&mut session, &bytes_of(&mut client, acts, change), step, &mut told);
    (told.plain, told.ended, told.broken.is_some())
}

fn by_rustls(acts: &[Act], change: Option<(usize, u8)>, step: usize) -> Outcome {
    let mut client = client(client_config(&TLS13));
    client.set_buffer_limit(None);
    let mut server = ServerConnection::new(world().server.clone()).unwrap();
    let mut plain = Vec::new();
    for _ in 0..4 {
        feed(&mut server, &taken(&mut client), &mut plain).unwrap();
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        hand(&mut client, &bytes).unwrap();
    }
    let bytes = bytes_of(&mut client, acts, change);
    let broken = bytes.chunks(step).any(|piece| feed(&mut server, piece, &mut plain).is_err());
    let ended = !broken && server.process_new_packets().is_ok_and(|state| state.peer_has_closed());
    (plain, ended, broken)
}

/// Gives `bytes` to `server`, and adds their data to `plain`: also that before a fault.
fn feed(server: &mut ServerConnection, mut bytes: &[u8], plain: &mut Vec<u8>) -> Result<(), rustls::Error> {
    let mut room = vec![0; 1 << 16];
    while !bytes.is_empty() {
        if server.read_tls(&mut bytes).unwrap() == 0 {
            break;
        }
        let result = server.process_new_packets().map(drop);
        while let Ok(len @ 1..) = server.reader().read(&mut room) {
            plain.extend_from_slice(&room[..len]);
        }
        result?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_session_makes_of_a_clients_bytes_what_rustls_makes_of_them(
        acts in prop::collection::vec(act(), 1..12),
        change in prop::option::of((any::<usize>(), 1u8..)),
        step in prop_oneof![Just(usize::MAX), 1usize..50, 500usize..20_000],
    ) {
        let (ours, theirs) = (by_session(&acts, change, step), by_rustls(&acts, change, step));
        prop_assert!(ours.0 == theirs.0, "{} bytes, and {} by rustls", ours.0.len(), theirs.0.len());
        prop_assert_eq!((ours.1, ours.2), (theirs.1, theirs.2));
    }

    #[test]
    fn garbage_never_panics_and_is_never_data(bytes in prop::collection::vec(any::<u8>(), 0..600), step in 1usize..600) {
        let (mut session, mut told) = (Session::new(&world().server).unwrap(), Told::default());
        give(&mut session, &bytes, step, &mut told);
        prop_assert!(told.plain.is_empty() && !session.is_open());
        prop_assert!(session.kept_bytes() <= bytes.len());
    }
}
