//! Dialects against servers that exist only as bytes.

use bytes::BytesMut;
use proptest::prelude::*;
use roost_wire::ws::{self, MessageKind};

use super::speech;
use crate::client::{Stamp, body};
use crate::mass::client::{Arrival, Phase};
use crate::mass::crowd::{Again, Asked, Beat, Crowd, Heard};
use crate::mass::tests::{BODY_BYTES, CHANNEL, One, heard};
use crate::scenario::Dialect;

const DIALECTS: [Dialect; 3] = [Dialect::Nats, Dialect::Mqtt, Dialect::Centrifugo];

const INFO: &[u8] = b"INFO {\"server_id\":\"x\",\"version\":\"2\",\"max_payload\":1048576}\r\n";
const CONNACK: &[u8] = b"\x20\x02\x00\x00";
const SUBACK: &[u8] = b"\x90\x03\x00\x01\x00";
const CONNECTED: &[u8] = br#"{"id":1,"connect":{"client":"c","version":"5","ping":25,"pong":true}}"#;
const SUBSCRIBED: &[u8] = br#"{"id":2,"subscribe":{}}"#;

/// How bytes begin that come further than chance.
const FRONTS: &[&[u8]] = &[b"", b"MSG mass-1 1 ", b"\x30\x10\x00\x02", b"{\"id\":1,\"", b"{\"push\":"];

/// The kind of the messages that a dialect is spoken in.
fn kind(dialect: Dialect) -> MessageKind {
    if dialect == Dialect::Centrifugo { MessageKind::Text } else { MessageKind::Binary }
}

/// A message of the server.
fn message(kind: MessageKind, payload: &[u8]) -> Vec<u8> {
    let mut message = BytesMut::new();
    ws::write_message_header(kind, payload.len(), None, &mut message);
    message.extend_from_slice(payload);
    message.to_vec()
}

fn text(serial: u32) -> String {
    let mut text = String::new();
    body::write(Stamp { sender: 0, serial, intended_ns: 5 }, BODY_BYTES, &mut text);
    text
}

/// What a server writes when `text` is published to a channel.
fn pushed(dialect: Dialect, channel: &str, text: &str) -> Vec<u8> {
    match dialect {
        Dialect::Nats => format!("MSG {channel} 1 {}\r\n{text}\r\n", text.len()).into_bytes(),
        Dialect::Mqtt => {
            let len = 2 + channel.len() + text.len();
            let mut packet = vec![0x30, len as u8 & 0x7f | 0x80, (len >> 7) as u8, 0, channel.len() as u8];
            packet.extend_from_slice(channel.as_bytes());
            packet.extend_from_slice(text.as_bytes());
            packet
        }
        _ => format!(
            "{{\"push\":{{\"channel\":\"{channel}\",\"pub\":{{\"data\":\"{text}\",\"info\":{{\"client\":\"c\"}}}}}}}}\n"
        )
        .into_bytes(),
    }
}

/// What the server says while a client enters and subscribes.
fn answers(dialect: Dialect) -> [&'static [u8]; 2] {
    match dialect {
        Dialect::Nats => [b"PONG\r\n", b"PONG\r\n"],
        Dialect::Mqtt => [CONNACK, SUBACK],
        _ => [CONNECTED, SUBSCRIBED],
    }
}

/// One that asked to enter.
fn entering(dialect: Dialect) -> One {
    let mut one = One::new(dialect);
    let answer = one.asks();
    assert_eq!(one.hear(&answer, &[]), [Heard::Upgraded]);
    assert_eq!(one.crowd.phase(0), Phase::Entering);
    if dialect == Dialect::Nats {
        assert_eq!(one.messages(), [], "the server speaks first");
        assert_eq!(one.hear(&message(MessageKind::Binary, INFO), &[]), []);
    }
    one
}

fn live(dialect: Dialect) -> One {
    let mut one = entering(dialect);
    one.messages();
    let answer = message(kind(dialect), answers(dialect)[0]);
    assert_eq!(one.hear(&answer, &[]), [Heard::Live { heartbeat_ms: 0 }], "{dialect:?}");
    assert_eq!((one.crowd.phase(0), one.crowd.live()), (Phase::Live, 1));
    one
}

fn subscribed(dialect: Dialect) -> One {
    let mut one = live(dialect);
    assert!(one.crowd.subscribe(0, true, &mut one.voice, &mut one.out));
    assert!(!one.crowd.is_subscribed(0), "not before the server said so");
    one.messages();
    let answer = message(kind(dialect), answers(dialect)[1]);
    assert_eq!(one.hear(&answer, &[]), [Heard::Subscribed], "{dialect:?}");
    assert!(one.crowd.is_subscribed(0));
    one
}

#[test]
fn each_dialect_asks_to_enter_and_to_subscribe_in_its_own_words() {
    let said = |dialect| {
        let mut one = entering(dialect);
        let mut said = one.messages();
        one.hear(&message(kind(dialect), answers(dialect)[0]), &[]);
        one.crowd.subscribe(0, true, &mut one.voice, &mut one.out);
        said.extend(one.messages());
        assert!(said.iter().all(|(as_kind, _)| *as_kind == kind(dialect)));
        said.into_iter().map(|(_, payload)| payload).collect::<Vec<_>>()
    };
    let nats = said(Dialect::Nats);
    assert!(nats[0].starts_with(b"CONNECT {\"verbose\":false,") && nats[0].ends_with(b"}\r\nPING\r\n"), "{nats:?}");
    assert!(serde_json::from_slice::<serde_json::Value>(&nats[0][8..nats[0].len() - 8]).is_ok());
    assert_eq!(nats[1], b"SUB mass-1 1\r\nPING\r\n");
    assert_eq!(
        said(Dialect::Mqtt),
        [&b"\x10\x12\x00\x04MQTT\x04\x02\x00\x00\x00\x06load-0"[..], b"\x82\x0b\x00\x01\x00\x06mass-1\x00"]
    );
    assert_eq!(
        said(Dialect::Centrifugo),
        [&br#"{"id":1,"connect":{}}"#[..], br#"{"id":2,"subscribe":{"channel":"mass-1"}}"#]
    );
}

#[test]
fn a_publish_is_what_the_server_hands_on() {
    let stamp = Stamp { sender: 0, serial: 2, intended_ns: 5 };
    for dialect in DIALECTS {
        let mut one = subscribed(dialect);
        assert!(one.crowd.publish(0, stamp, &mut one.voice, &mut one.out));
        let said = one.messages();
        let want = match dialect {
            Dialect::Nats => format!("PUB mass-1 128\r\n{}\r\n", text(2)).into_bytes(),
            // The same packet goes on to subscribers.
            Dialect::Mqtt => pushed(dialect, CHANNEL, &text(2)),
            _ => format!("{{\"id\":5,\"publish\":{{\"channel\":\"mass-1\",\"data\":\"{}\"}}}}", text(2)).into_bytes(),
        };
        assert_eq!(said, [(kind(dialect), want)], "{dialect:?}");
        assert_eq!(speech(dialect).acknowledges(), dialect == Dialect::Centrifugo);
    }
    let mut one = subscribed(Dialect::Centrifugo);
    let answer = message(MessageKind::Text, br#"{"id":5,"publish":{}}"#);
    assert_eq!(one.hear(&answer, &[]), [Heard::Published { stamp_serial: 2, seq: 3 }]);
}

#[test]
fn each_lie_of_another_server_is_heard_as_what_it_is() {
    for dialect in DIALECTS {
        let mut one = subscribed(dialect);
        for (name, channel, text, heard) in [
            ("the first", CHANNEL, text(0), heard(Arrival::Next, 0)),
            ("twice", CHANNEL, text(0), heard(Arrival::Doubled, 0)),
            ("a gap", CHANNEL, text(3), heard(Arrival::After(2), 3)),
            ("late", CHANNEL, text(2), heard(Arrival::Late, 2)),
            ("another channel", "mass-2", text(4), Heard::Garbled),
            ("a changed byte", CHANNEL, text(4).replace("quick", "quack"), Heard::Garbled),
            ("cut", CHANNEL, text(4)[..127].to_owned(), Heard::Garbled),
            ("the next", CHANNEL, text(4), heard(Arrival::Next, 4)),
        ] {
            let pushed = message(kind(dialect), &pushed(dialect, channel, &text));
            assert_eq!(one.hear(&pushed, &[]), [heard], "{dialect:?}: {name}");
        }
        let pushed = message(kind(dialect), &pushed(dialect, CHANNEL, &text(0)));
        assert_eq!(
            live(dialect).hear(&pushed, &[]),
            [Heard::Garbled],
            "{dialect:?}: to somebody who did not subscribe"
        );
    }
}

#[test]
fn signs_of_life_are_answered_both_ways() {
    for (dialect, asked, answer) in [
        (Dialect::Nats, Some((&b"PING\r\n"[..], &b"PONG\r\n"[..])), Some((&b"PING\r\n"[..], &b"PONG\r\n"[..]))),
        (Dialect::Mqtt, None, Some((b"\xc0\x00", b"\xd0\x00"))),
        (Dialect::Centrifugo, Some((b"{}", b"{}")), None),
    ] {
        let mut one = subscribed(dialect);
        if let Some((asked, answer)) = asked {
            assert_eq!(one.hear(&message(kind(dialect), asked), &[]), [], "{dialect:?}");
            assert_eq!(one.messages(), [(kind(dialect), answer.to_vec())], "{dialect:?}");
        }
        assert_eq!(one.crowd.beat(0, 70, &mut one.voice, &mut one.out), Beat::Sent);
        let pong = match answer {
            Some((ping, pong)) => {
                assert_eq!(one.messages(), [(kind(dialect), ping.to_vec())], "{dialect:?}");
                assert_eq!(one.hear(b"\x8a\x00", &[]), [], "{dialect:?}: a pong of WebSocket is no answer");
                message(kind(dialect), pong)
            }
            None => {
                assert_eq!(one.out.split()[..2], [0x89, 0x80], "{dialect:?}: a ping of WebSocket");
                b"\x8a\x00".to_vec()
            }
        };
        assert_eq!(one.hear(&pong, &[]), [Heard::Pong], "{dialect:?}");
        one.crowd.answered(0);
        assert_eq!(one.hear(&pong, &[]), [], "{dialect:?}: who asked for nothing hears nothing");
    }
}

#[test]
fn refusals_and_nonsense_of_other_servers_end_in_words() {
    let refused = |asked, code, again| Heard::Refused { asked, code, again };
    for (dialect, answer, want) in [
        (Dialect::Mqtt, &b"\x20\x02\x00\x05"[..], refused(Asked::Connect, 5, Again::No)),
        (
            Dialect::Centrifugo,
            br#"{"id":1,"error":{"code":109,"message":"token expired"}}"#,
            refused(Asked::Connect, 109, Again::No),
        ),
    ] {
        assert_eq!(entering(dialect).hear(&message(kind(dialect), answer), &[]), [want]);
    }
    for (dialect, answer, want) in [
        (Dialect::Mqtt, &b"\x90\x03\x00\x01\x80"[..], refused(Asked::Subscribe, 128, Again::No)),
        (
            Dialect::Centrifugo,
            br#"{"id":2,"error":{"code":100,"message":"internal","temporary":true}}"#,
            refused(Asked::Subscribe, 100, Again::After(0)),
        ),
        (Dialect::Centrifugo, br#"{"id":7,"error":{"code":103}}"#, refused(Asked::Else, 103, Again::No)),
    ] {
        assert_eq!(live(dialect).hear(&message(kind(dialect), answer), &[]), [want]);
    }
    for (dialect, said) in [
        (Dialect::Nats, &b"-ERR 'Authorization Violation'\r\n"[..]),
        (Dialect::Nats, b"HELLO\r\n"),
        (Dialect::Nats, b"MSG mass-1 1 many\r\n"),
        (Dialect::Nats, b"MSG mass-1 1 99999999999999999999\r\n"),
        (Dialect::Nats, b"MSG mass-1 1 18446744073709551615\r\n"),
        (Dialect::Nats, b"MSG mass-1\r\n"),
        (Dialect::Nats, b"MSG mass-1 1 2\r\nabcd"),
        (Dialect::Mqtt, b"\x30\xff\xff\xff\xff\x01"),
        (Dialect::Mqtt, b"\x30\xff\xff\xff\x7f"),
        (Dialect::Mqtt, b"\x20\x02\x00\x00"),
        (Dialect::Mqtt, b"\x90\x00"),
        (Dialect::Mqtt, b"\x00\x00"),
        (Dialect::Centrifugo, b"{"),
        (Dialect::Centrifugo, b"[]"),
        (Dialect::Centrifugo, br#"{"id":1,"connect":{}}"#),
        (Dialect::Centrifugo, br#"{"id":1,"publish":{}}"#),
        (Dialect::Centrifugo, br#"{"id":4294967299,"publish":{}}"#),
    ] {
        let heard = live(dialect).hear(&message(kind(dialect), said), &[]);
        assert!(matches!(&heard[..], [Heard::Failed(_)]), "{dialect:?}: {said:?}: {heard:?}");
    }
    for (dialect, kind) in [(Dialect::Mqtt, MessageKind::Text), (Dialect::Centrifugo, MessageKind::Binary)] {
        assert!(matches!(&live(dialect).hear(&message(kind, b"{}"), &[])[..], [Heard::Failed(_)]), "{dialect:?}");
    }
    for (dialect, said) in [
        (Dialect::Nats, &b"+OK\r\n"[..]),
        (Dialect::Nats, INFO),
        (Dialect::Centrifugo, br#"{"push":{"channel":"mass-1","join":{"info":{"client":"c"}}}}"#),
    ] {
        assert_eq!(live(dialect).hear(&message(kind(dialect), said), &[]), [Heard::Other], "{dialect:?}: {said:?}");
    }
}

#[test]
fn a_packet_that_never_ends_is_given_up_and_half_a_packet_goes_with_its_connection() {
    let endless = message(MessageKind::Binary, &[b'A'; 100_000]);
    assert!(matches!(&live(Dialect::Nats).hear(&endless, &[])[..], [Heard::Failed(_)]));
    for dialect in [Dialect::Nats, Dialect::Mqtt] {
        let mut one = subscribed(dialect);
        let idle = one.crowd.heap_bytes();
        let packet = pushed(dialect, CHANNEL, &text(0));
        assert_eq!(one.hear(&message(MessageKind::Binary, &packet[..60]), &[]), []);
        assert!(one.crowd.heap_bytes() > idle, "{dialect:?}: half of it is kept");
        one.crowd.closes(0);
        one.crowd.gone(0);
        let empty = |crowd: &Crowd| crowd.halves.is_empty();
        assert!(empty(&one.crowd), "{dialect:?}");
    }
}

#[test]
fn a_server_of_another_subprotocol_is_no_server_of_the_dialect() {
    let mut one = One::new(Dialect::Mqtt);
    let answer = String::from_utf8(one.asks().to_vec()).unwrap();
    let without: String =
        answer.split_inclusive("\r\n").filter(|line| !line.starts_with("Sec-WebSocket-Protocol")).collect();
    assert_ne!(answer, without);
    let heard = one.hear(without.as_bytes(), &[]);
    assert!(matches!(&heard[..], [Heard::Failed(why)] if why.contains("mqtt")), "{heard:?}");
}

proptest! {
    #[test]
    fn wherever_messages_and_frames_are_cut_the_same_is_heard(
        dialect in prop::sample::select(&DIALECTS[..]),
        pushes in 1..6u32,
        messages in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        fragment: bool,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let packets: Vec<Vec<u8>> = (0..pushes).map(|serial| pushed(dialect, CHANNEL, &text(serial))).collect();
        let stream = packets.concat();
        // Only lines of Centrifugo end where its messages do; frames of one message may be cut everywhere.
        let cut_anywhere = dialect != Dialect::Centrifugo || fragment;
        let mut ends: Vec<usize> = if cut_anywhere {
            messages.iter().map(|at| at.index(stream.len())).collect()
        } else {
            let at = messages.iter().map(|at| at.index(packets.len()));
            at.map(|at| packets[..at].iter().map(Vec::len).sum()).collect()
        };
        ends.extend([0, stream.len()]);
        ends.sort_unstable();
        ends.dedup();
        let mut bytes = Vec::new();
        for (at, pair) in ends.windows(2).enumerate() {
            let mut frame = message(kind(dialect), &stream[pair[0]..pair[1]]);
            if fragment {
                let (first, last) = (at == 0, pair[1] == stream.len());
                frame[0] = if first { frame[0] & 0x0f } else { 0 } | if last { 0x80 } else { 0 };
            }
            bytes.extend(frame);
        }
        let mut one = subscribed(dialect);
        let idle = one.crowd.halves.len();
        let all: Vec<Heard> = (0..pushes).map(|serial| heard(Arrival::Next, serial)).collect();
        prop_assert_eq!(one.hear(&bytes, &cuts), all);
        prop_assert_eq!(one.crowd.halves.len(), idle);
        prop_assert!(one.crowd.clients[0].decoder.is_idle());
    }

    #[test]
    fn no_bytes_of_another_server_panic(
        dialect in prop::sample::select(&DIALECTS[..]),
        state in 0..3,
        front in prop::sample::select(FRONTS),
        bytes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..4),
    ) {
        let mut one = match state { 0 => entering(dialect), 1 => live(dialect), _ => subscribed(dialect) };
        for bytes in bytes {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let payload = if kind(dialect) == MessageKind::Text { text.as_bytes() } else { &bytes[..] };
            one.hear(&message(kind(dialect), &[front, payload].concat()), &[]);
        }
    }
}
