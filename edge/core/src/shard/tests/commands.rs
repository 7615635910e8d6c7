use std::time::Duration;

use roost_wire::FrameBody;
use roost_wire::limits::{BAD_FRAMES_MAX, USERS_PER_COMMAND_MAX};
use roost_wire::pb::{self, Frame};
use roost_wire::ws::MessageKind;

use crate::testkit::{Rig, control, entry, message, protobuf, text, topic, user};
use crate::{Effect, ShardConfig};
use roost_wire::link::Up;

fn code_of(answer: &str) -> u32 {
    let digits = answer.split(r#""code":"#).nth(1).unwrap_or_else(|| panic!("no error: {answer}"));
    digits.split(',').next().unwrap().parse().unwrap()
}

#[test]
fn each_bad_frame_gets_its_code() {
    let server_only = [
        "hello",
        "welcome",
        "goaway",
        "ok",
        "error",
        "sent",
        "entry",
        "receipt",
        "presence",
        "conversation",
        "changed",
        "page",
        "users",
    ];
    let server_only = server_only.map(|name| (format!(r#"{{"rid":7,"{name}":{{}}}}"#), 101, 7));
    let others = [
        ("{", 100, 0),
        ("", 100, 0),
        ("[]", 100, 0),
        (r#"{"rid":7,"send":{"conv":9}}"#, 100, 0),
        (r#"{"rid":7,"connect":{"token":"again"}}"#, 103, 7),
    ];
    let others = others.map(|(text, code, rid)| (text.to_owned(), code, rid));
    for (frame, code, rid) in server_only.into_iter().chain(others) {
        let mut rig = Rig::new(ShardConfig::default());
        let key = rig.live();
        rig.receive(key, &text(&frame));
        let got = rig.read(key);
        assert_eq!(got.len(), 1, "{frame}");
        assert_eq!(code_of(&got[0]), code, "{frame}");
        assert_eq!(got[0].starts_with(&format!(r#"{{"rid":{rid},"#)), rid != 0, "{frame}: {}", got[0]);
        let counted = rig.counted();
        let kinds = [counted.bad_malformed, counted.bad_unknown, counted.bad_already_connected];
        assert_eq!(kinds, [100, 101, 103].map(|kind| u64::from(kind == code)), "{frame}");
        assert_eq!(rig.effect_names(), Vec::<String>::new(), "{frame}: the session lives on");
    }
}

#[test]
fn a_command_that_is_not_known_gets_101_with_its_rid() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = rig.live();
    rig.receive(key, &text(r#"{"rid":7,"teleport":{}}"#));
    let got = rig.read(key);
    assert_eq!(got, [r#"{"rid":7,"error":{"code":101,"message":"unknown command","retryable":false}}"#]);
    // In a batch, what stands behind it still counts.
    let key = rig.live_protobuf();
    let get = Frame { rid: 9, body: Some(FrameBody::Get(pb::Get { conv: "c_1".into() })) };
    rig.receive(key, &protobuf(&[Frame { rid: 8, body: None }, get]));
    assert_eq!(rig.effect_names(), ["write", "get 9"]);
    assert_eq!(rig.read(key), ["8 error"]);
}

#[test]
fn a_command_that_names_too_many_users_gets_104_and_is_no_breach() {
    let mut rig = Rig::new(ShardConfig::default());
    let users = vec![r#""u_bob""#; USERS_PER_COMMAND_MAX + 1].join(",");
    let watch = text(&format!(r#"{{"rid":7,"watch":{{"users":[{users}]}}}}"#));
    let key = rig.upgraded("");
    rig.receive(key, &watch);
    assert_eq!(code_of(&rig.read(key)[0]), 102, "before CONNECT");
    let key = rig.live();
    for _ in 0..=BAD_FRAMES_MAX {
        rig.receive(key, &watch);
        let answer = &rig.read(key)[0];
        assert_eq!(code_of(answer), 104);
        assert!(answer.starts_with(r#"{"rid":7,"#), "{answer}");
    }
    assert_eq!(rig.shard.sessions(), 1);
    assert_eq!(rig.counted().bad_field, u64::from(BAD_FRAMES_MAX) + 1);
    // In a batch, what stands behind it still counts.
    let key = rig.live_protobuf();
    let users = vec!["u_bob".into(); USERS_PER_COMMAND_MAX + 1];
    let watch = Frame { rid: 8, body: Some(FrameBody::Watch(pb::Watch { users })) };
    let get = Frame { rid: 9, body: Some(FrameBody::Get(pb::Get { conv: "c_1".into() })) };
    rig.receive(key, &protobuf(&[watch, get]));
    assert_eq!(rig.effect_names(), ["write", "get 9"]);
    assert_eq!(rig.read(key), ["8 error"]);
}

#[test]
fn nothing_is_answered_before_connect_but_with_102() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = rig.upgraded("");
    for frame in [r#"{"rid":7,"get":{"conv":"c_1"}}"#, r#"{"rid":8,"ping":{}}"#, r#"{"rid":9,"send":{}}"#] {
        rig.receive(key, &text(frame));
        assert_eq!(code_of(&rig.read(key)[0]), 102, "{frame}");
    }
    assert_eq!(rig.effect_names(), Vec::<String>::new());
    rig.receive(key, &text(r#"{"rid":1,"connect":{"guest":"Ada"}}"#));
    assert_eq!(rig.effect_names(), ["connect 1"]);
    for (frame, code) in [(r#"{"rid":7,"get":{"conv":"c_1"}}"#, 102), (r#"{"rid":1,"connect":{}}"#, 103)] {
        rig.receive(key, &text(frame));
        assert_eq!(code_of(&rig.read(key)[0]), code, "while the router thinks: {frame}");
    }
    assert_eq!(rig.counted().bad_not_connected, 4);
}

#[test]
fn too_many_bad_frames_end_the_session() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = rig.live();
    for _ in 0..BAD_FRAMES_MAX {
        rig.receive(key, &text("{"));
    }
    assert_eq!(rig.read(key).len(), usize::from(BAD_FRAMES_MAX));
    rig.receive(key, &text("{"));
    assert_eq!(rig.read(key), ["close 4502 too many malformed frames"]);
    assert_eq!(rig.counted().closed_bad_frames, 1);
}

#[test]
fn each_breach_of_rfc6455_closes_with_its_code() {
    let large = message(MessageKind::Text, &vec![b' '; 65_537]);
    for (name, bytes, close) in [
        ("binary on JSON", message(MessageKind::Binary, b"{}"), "close 1003 unsupported data"),
        ("unmasked", b"\x81\x02{}".to_vec(), "close 1002 protocol error"),
        ("reserved bit", b"\xc1\x80".to_vec(), "close 1002 protocol error"),
        ("no UTF-8", message(MessageKind::Text, b"\xff\xff"), "close 1007 not UTF-8"),
        ("too large", large[..14].to_vec(), "close 1009 message too big"),
        ("close with one byte", control(8, &[3]), "close 1002 protocol error"),
    ] {
        let mut rig = Rig::new(ShardConfig::default());
        let key = rig.live();
        rig.receive(key, &bytes);
        assert_eq!(rig.effect_names(), ["gone u_ada", "write"], "{name}");
        assert_eq!(rig.read(key), [close], "{name}");
        // What follows is thrown away; soon the connection goes.
        rig.receive(key, &large);
        rig.receive(key, &control(8, &[]));
        rig.pass(Duration::from_millis(1_200));
        assert_eq!(rig.effect_names(), ["close"], "{name}");
        assert_eq!(rig.counted().closed_protocol, 1, "{name}");
    }
    let mut rig = Rig::new(ShardConfig::default());
    let key = rig.live_protobuf();
    rig.receive(key, &text("{}"));
    assert_eq!(rig.read(key), ["close 1003 unsupported data"], "text on protobuf");
}

#[test]
fn pings_of_both_kinds_are_answered() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = rig.live();
    rig.receive(key, &text(r#"{"ping":{}}"#));
    rig.receive(key, &text(r#"{"rid":6,"ping":{}}"#));
    rig.receive(key, &control(9, b"hello"));
    rig.receive(key, &control(10, b"unasked"));
    rig.receive(key, &text(r#"{"pong":{}}"#));
    assert_eq!(rig.effect_names(), ["write"], "one write for all of them");
    assert_eq!(rig.read(key), [r#"{"pong":{}}"#, r#"{"rid":6,"pong":{}}"#, "pong hello"]);
}

#[test]
fn heartbeats_alone_are_told_from_all_else() {
    let mut rig = Rig::new(ShardConfig::default());
    let keys = [rig.live(), rig.live()];
    rig.shard.only_beats();
    assert!(!rig.shard.only_beats(), "nothing came");
    for key in keys {
        rig.receive(key, &text(r#"{"ping":{}}"#));
    }
    assert!(rig.shard.only_beats() && !rig.shard.only_beats(), "asked twice");
    for other in [text(r#"{"typing":{"conv":"c_1","on":true}}"#), text("{}"), control(10, b"")] {
        rig.receive(keys[0], &text(r#"{"ping":{}}"#));
        rig.receive(keys[1], &other);
        assert!(!rig.shard.only_beats(), "{other:?}");
    }
    rig.receive(keys[0], &text(r#"{"ping":{}}"#));
    rig.deliver(&entry(1, 1), &keys);
    assert!(!rig.shard.only_beats(), "something was sent beside");
}

#[test]
fn commands_go_up_with_their_user() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = rig.live_protobuf();
    let get = |rid| Frame { rid, body: Some(FrameBody::Get(pb::Get { conv: "c_1".into() })) };
    rig.receive(key, &protobuf(&[get(2), get(3)]));
    let effects = rig.effects();
    assert_eq!(effects.len(), 2);
    for (effect, want) in effects.iter().zip([2, 3]) {
        let Effect::Up(Up::Command { session, user: by, rid, body: FrameBody::Get(_) }) = effect else {
            panic!("{effect:?}")
        };
        assert_eq!((*session, by, *rid), (key, &user("u_ada"), want));
    }
}

#[test]
fn a_bad_frame_behind_a_good_one_costs_only_itself() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = rig.live_protobuf();
    let mut payload = bytes::BytesMut::new();
    let get = Frame { rid: 2, body: Some(FrameBody::Get(pb::Get { conv: "c_1".into() })) };
    roost_wire::Encoding::Protobuf.encode(&get, &mut payload);
    payload.extend_from_slice(&[0x05, 0xff]);
    rig.receive(key, &message(MessageKind::Binary, &payload));
    assert_eq!(rig.effect_names(), ["get 2", "write"]);
    assert_eq!(rig.read(key), ["0 error"]);
}

#[test]
fn commands_in_flight_are_limited_with_and_without_rid() {
    let mut rig = Rig::new(ShardConfig { commands_in_flight_max: 3, ..ShardConfig::default() });
    let key = rig.live();
    for frame in [r#"{"rid":2,"get":{}}"#, r#"{"ack":{"conv":"c_1","seq":1}}"#, r#"{"rid":4,"get":{}}"#] {
        rig.receive(key, &text(frame));
    }
    assert_eq!(rig.effect_names(), ["get 2", "ack 0", "get 4"]);
    rig.receive(key, &text(r#"{"rid":5,"get":{}}"#));
    assert_eq!(
        rig.read(key),
        [
            r#"{"rid":5,"error":{"code":401,"message":"too many commands in flight","retryable":true,"retry_after_ms":100}}"#
        ]
    );
    assert_eq!(rig.effect_names(), Vec::<String>::new());
    // PING is no command. A silent success frees a place as well as a reply does.
    rig.receive(key, &text(r#"{"rid":6,"ping":{}}"#));
    rig.reply(key, 0);
    rig.reply(key, 2);
    assert_eq!(rig.read(key), [r#"{"rid":6,"pong":{}}"#, r#"{"rid":2,"ok":{}}"#]);
    rig.effects();
    for rid in 7..10 {
        rig.receive(key, &text(&format!(r#"{{"rid":{rid},"get":{{}}}}"#)));
    }
    assert_eq!(rig.effect_names(), ["get 7", "get 8", "write"]);
    assert_eq!(rig.counted().in_flight_refused, 2);
}

#[test]
fn sends_and_publishes_are_limited_and_told_when_to_retry() {
    let mut rig = Rig::new(ShardConfig { sends_per_second: 10, sends_burst: 2, ..ShardConfig::default() });
    let key = rig.live();
    let send = text(r#"{"rid":2,"send":{"conv":"c_1"}}"#);
    let publish = text(r#"{"rid":3,"publish":{"channel":"news"}}"#);
    rig.receive(key, &send);
    rig.receive(key, &publish);
    rig.receive(key, &send);
    assert_eq!(rig.effect_names(), ["send 2", "publish 3", "write"]);
    assert_eq!(
        rig.read(key),
        [r#"{"rid":2,"error":{"code":400,"message":"too fast","retryable":true,"retry_after_ms":100}}"#]
    );
    // Other commands have no rate.
    rig.receive(key, &text(r#"{"rid":4,"get":{}}"#));
    assert_eq!(rig.effect_names(), ["get 4"]);
    rig.pass(Duration::from_millis(100));
    rig.receive(key, &publish);
    assert_eq!(rig.effect_names(), ["publish 3"]);
    assert_eq!(rig.counted().rate_limited, 1);
}

#[test]
fn no_sends_per_second_means_no_limit() {
    let config = ShardConfig { sends_per_second: 0, commands_in_flight_max: 1000, ..ShardConfig::default() };
    let mut rig = Rig::new(config);
    let key = rig.live();
    for _ in 0..500 {
        rig.receive(key, &text(r#"{"rid":2,"send":{}}"#));
    }
    assert_eq!((rig.effects().len(), rig.counted().rate_limited), (500, 0));
}

#[test]
fn an_idle_session_owns_no_heap() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = rig.live();
    rig.down(roost_wire::link::Down::Join { session: key, topic: topic("c_1") });
    let frame = text(r#"{"rid":2,"get":{"conv":"c_1"}}"#);
    for part in frame.chunks(5) {
        rig.receive(key, part);
    }
    rig.reply(key, 2);
    rig.reply(key, 2);
    assert_eq!(rig.read(key).len(), 2);
    rig.down(roost_wire::link::Down::Leave { session: key, topic: topic("c_1") });
    let conn = rig.shard.slots.get(key).unwrap();
    let session = conn.session().unwrap();
    assert!(session.framing.is_idle() && session.joined.is_none());
    assert_eq!(conn.outbound.heap_bytes(), 0);
}

#[test]
fn f03_a_connection_costs_less_than_250_bytes() {
    let mut rig = Rig::new(ShardConfig::default());
    let keys: Vec<_> = (0..512).map(|_| rig.live()).collect();
    let memory = rig.shard.memory();
    assert_eq!(memory.bytes_per_connection, 164);
    // The wheel's array of timers doubles, the slots grow by chunks.
    assert!(memory.slot_bytes / keys.len() < 250, "{} B for {} connections", memory.slot_bytes, keys.len());
    assert_eq!(memory.topic_bytes, 0);
    rig.down(roost_wire::link::Down::Join { session: keys[0], topic: topic("news") });
    assert!(rig.shard.memory().topic_bytes > 0);
}
