use std::time::Duration;

use roost_wire::limits::HEAD_BYTES_MAX;

use crate::testkit::{Rig, control, protobuf, show, text, upgrade};
use crate::{End, OriginPolicy, ShardConfig};

fn first_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn each_request_gets_its_outcome() {
    let large = format!("X-Large: {}\r\n", "x".repeat(HEAD_BYTES_MAX));
    for (name, request, status) in [
        ("no sub-protocol", upgrade(""), "HTTP/1.1 101 Switching Protocols"),
        ("ours", upgrade("Sec-WebSocket-Protocol: roost.v1.pb\r\n"), "HTTP/1.1 101 Switching Protocols"),
        ("none of ours", upgrade("Sec-WebSocket-Protocol: mqtt, stomp\r\n"), "HTTP/1.1 101 Switching Protocols"),
        ("same host", upgrade("Origin: https://chat.example\r\n"), "HTTP/1.1 101 Switching Protocols"),
        ("another origin", upgrade("Origin: https://evil.example\r\n"), "HTTP/1.1 403 Forbidden"),
        ("too large", upgrade(&large), "HTTP/1.1 431 Request Header Fields Too Large"),
        ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), "HTTP/1.1 400 Bad Request"),
        (
            "version 8",
            String::from_utf8(upgrade("")).unwrap().replace("Version: 13", "Version: 8").into_bytes(),
            "HTTP/1.1 426 Upgrade Required",
        ),
        (
            "no key",
            b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".to_vec(),
            "HTTP/1.1 400 Bad Request",
        ),
    ] {
        let mut rig = Rig::new(ShardConfig::default());
        let key = rig.open();
        rig.receive(key, &request);
        assert_eq!(first_line(&rig.read_bytes(key)), status, "{name}");
        let refused = !status.contains("101");
        assert_eq!(rig.counted().upgrades, u64::from(!refused), "{name}");
        // A refused connection lingers, so that its last words are read, and then goes.
        rig.effects();
        if refused {
            rig.receive(key, b"more of the same");
        }
        rig.pass(Duration::from_millis(1200));
        let want: &[&str] = if refused { &["close"] } else { &[] };
        assert_eq!(rig.effect_names(), want, "{name}");
        assert_eq!(rig.shard.connections(), usize::from(!refused), "{name}");
    }
}

#[test]
fn the_sub_protocol_is_the_first_of_the_clients_that_is_ours() {
    for (offer, named, hello) in [
        ("", None, r#"{"hello":{"node":"n1","protocol":"roost.v1.json","connect_within_ms":10000}}"#),
        ("Sec-WebSocket-Protocol: roost.v1.json, roost.v1.pb\r\n", Some("roost.v1.json"), "roost.v1.json"),
        ("Sec-WebSocket-Protocol: mqtt, roost.v1.pb\r\n", Some("roost.v1.pb"), "0 hello"),
        ("Sec-WebSocket-Protocol: mqtt\r\n", None, "roost.v1.json"),
    ] {
        let mut rig = Rig::new(ShardConfig { node: "n1".into(), ..ShardConfig::default() });
        let key = rig.open();
        rig.receive(key, &upgrade(offer));
        assert_eq!(rig.effect_names(), ["write"], "head and HELLO leave as one");
        let bytes = rig.read_bytes(key);
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        // RFC 6455 §1.3 has this key and its answer.
        assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        let got = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
        assert_eq!(got, named, "{offer}");
        let frames = show(&bytes[end..]);
        assert_eq!(frames.len(), 1);
        assert!(frames[0].contains(hello), "{frames:?} for {offer}");
    }
}

#[test]
fn origins_follow_the_policy() {
    let listed = OriginPolicy::Listed(vec!["https://app.example".into()]);
    for (policy, origin, upgrades) in [
        (OriginPolicy::Any, "https://evil.example", 1),
        (listed.clone(), "https://app.example", 1),
        (listed, "https://chat.example", 0),
        (OriginPolicy::SameHost, "null", 0),
    ] {
        let mut rig = Rig::new(ShardConfig { origins: policy, ..ShardConfig::default() });
        let key = rig.open();
        rig.receive(key, &upgrade(&format!("Origin: {origin}\r\n")));
        let counted = rig.counted();
        assert_eq!((counted.upgrades, counted.refused_origin), (upgrades, 1 - upgrades), "{origin}");
    }
}

#[test]
fn a_head_may_come_byte_by_byte_with_frames_right_behind_it() {
    let mut bytes = upgrade("Authorization: Bearer secret\r\n");
    bytes.extend(text(r#"{"rid":1,"connect":{"device":"laptop"}}"#));
    for piece in [1, 7, bytes.len()] {
        let mut rig = Rig::new(ShardConfig::default());
        let key = rig.open();
        for part in bytes.chunks(piece) {
            rig.receive(key, part);
        }
        let effects = rig.effects();
        let bearer = effects.iter().find_map(|effect| match effect {
            crate::Effect::Up(roost_wire::link::Up::Connect { session, rid: 1, bearer, .. }) if *session == key => {
                bearer.as_deref()
            }
            _ => None,
        });
        assert_eq!(bearer, Some("secret"), "in pieces of {piece}");
    }
}

#[test]
fn a_request_head_must_come_in_time() {
    for request in [&b""[..], b"GET /ws HTTP/1.1\r\nHost: x\r\n"] {
        let mut rig = Rig::new(ShardConfig::default());
        let key = rig.open();
        rig.receive(key, request);
        rig.pass(Duration::from_millis(9_999));
        assert_eq!(rig.queued_bytes(key), 0);
        rig.pass(Duration::from_millis(100));
        assert_eq!(first_line(&rig.read_bytes(key)), "HTTP/1.1 408 Request Timeout");
        rig.pass(Duration::from_secs(2));
        assert!(rig.effect_names().ends_with(&["close".into()]));
        assert_eq!((rig.shard.connections(), rig.counted().refused_head_late), (0, 1));
    }
}

#[test]
fn connect_must_come_in_time_and_so_must_the_routers_answer() {
    let mut rig = Rig::new(ShardConfig::default());
    let silent = rig.upgraded("");
    rig.pass(Duration::from_millis(9_000));
    let waiting = rig.upgraded("");
    rig.receive(waiting, &text(r#"{"rid":1,"connect":{"guest":"Ada"}}"#));
    rig.pass(Duration::from_millis(1_100));
    assert_eq!(rig.read(silent), ["close 4003 no CONNECT in time"]);
    rig.pass(Duration::from_secs(9));
    assert_eq!(rig.read(waiting), ["close 4004 overloaded"]);
    // The answer comes too late: the router learns that nobody is there.
    rig.effects();
    rig.accept(waiting, 0);
    assert_eq!(rig.effect_names(), ["gone u_ada"]);
    assert_eq!(rig.shard.sessions(), 0);
}

#[test]
fn welcome_is_completed_by_the_edge() {
    let mut rig = Rig::new(ShardConfig { sends_per_second: 7, ..ShardConfig::default() });
    let key = rig.upgraded("");
    rig.receive(key, &text(r#"{"rid":1,"connect":{"token":"t"}}"#));
    assert_eq!(rig.effect_names(), ["connect 1"]);
    rig.accept(key, 1_790_000_600_000);
    let welcome = rig.read(key).remove(0);
    for part in [
        r#"{"rid":1,"welcome":{"#,
        r#""user":"u_ada""#,
        &format!(r#""session":"{key}""#),
        r#""heartbeat_ms":25000"#,
        r#""frame_bytes":65536,"commands_in_flight":128,"sends_per_second":7,"text_bytes":32768,"members":100000"#,
    ] {
        assert!(welcome.contains(part), "{part} in {welcome}");
    }
    assert_eq!(rig.shard.sessions(), 1);
}

#[test]
fn a_refused_client_gets_the_error_and_then_the_close() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = rig.upgraded("");
    rig.receive(key, &text(r#"{"rid":5,"connect":{"token":"bad"}}"#));
    let error = roost_wire::ErrorCode::BadToken.error();
    let close = roost_wire::CloseCode::Unauthenticated;
    rig.down(roost_wire::link::Down::Refused { session: key, rid: 5, error, close });
    let got = rig.read(key);
    assert_eq!(got.len(), 2);
    assert_eq!(got[0], r#"{"rid":5,"error":{"code":200,"message":"token is not valid","retryable":false}}"#);
    assert_eq!(got[1], "close 4500 not authenticated");
    rig.receive(key, &control(8, &4500u16.to_be_bytes()));
    assert!(rig.effect_names().ends_with(&["close".into()]));
    let counted = rig.counted();
    assert_eq!((counted.sessions_refused, counted.closed_unauthenticated, counted.sessions_opened), (1, 1, 0));
}

#[test]
fn the_closing_handshake_works_from_both_sides() {
    let mut rig = Rig::new(ShardConfig::default());
    // The peer begins: its code comes back, then the connection goes.
    let key = rig.live();
    rig.receive(key, &control(8, &[0x03, 0xe8, b'b', b'y', b'e']));
    assert_eq!(rig.effect_names(), ["gone u_ada", "write"]);
    assert_eq!(rig.read(key), ["close 1000 "]);
    assert_eq!(rig.effect_names(), ["close"]);
    assert_eq!(rig.shard.connections(), 0);
    // We begin: what still comes is ignored up to the peer's close frame.
    let key = rig.live();
    rig.close(key, roost_wire::CloseCode::Replaced);
    assert_eq!(rig.effect_names(), ["gone u_ada", "write"]);
    assert_eq!(rig.read(key), ["close 4503 replaced by a newer connection of this device"]);
    rig.receive(key, &text(r#"{"rid":9,"get":{"conv":"c_1"}}"#));
    assert_eq!((rig.effect_names().len(), rig.read(key).len()), (0, 0));
    rig.receive(key, &control(8, &[]));
    assert_eq!(rig.effect_names(), ["close"]);
    // We begin, and the peer never answers.
    let key = rig.live();
    rig.close(key, roost_wire::CloseCode::Replaced);
    rig.pass(Duration::from_millis(5_100));
    assert!(rig.effect_names().ends_with(&["close".into()]));
}

#[test]
fn a_close_in_the_middle_of_a_buffer_ends_the_reading_of_it() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = rig.live();
    let mut bytes = message_of_the_wrong_kind();
    bytes.extend(text(r#"{"rid":9,"get":{"conv":"c_1"}}"#));
    bytes.extend(control(8, &[0x03, 0xeb]));
    rig.receive(key, &bytes);
    assert_eq!(rig.effect_names(), ["gone u_ada", "write"]);
    assert_eq!(rig.read(key), ["close 1003 unsupported data"]);
    assert_eq!(rig.effect_names(), ["close"], "the peer's close frame was in the same buffer");
}

fn message_of_the_wrong_kind() -> Vec<u8> {
    protobuf(&[])
}

#[test]
fn stale_keys_do_nothing() {
    let mut rig = Rig::new(ShardConfig::default());
    let old = rig.live();
    rig.shard.ended(old, End::Error, rig.now);
    assert_eq!(rig.effect_names(), ["gone u_ada"]);
    let new = rig.live();
    assert_eq!(new.slot(), old.slot());
    rig.receive(old, &text(r#"{"rid":9,"get":{"conv":"c_1"}}"#));
    rig.shard.sent(old, 100, rig.now);
    rig.shard.ended(old, End::Eof, rig.now);
    rig.reply(old, 3);
    rig.deliver(&crate::testkit::entry(1, 10), &[old]);
    rig.close(old, roost_wire::CloseCode::Replaced);
    rig.down(roost_wire::link::Down::Join { session: old, topic: crate::testkit::topic("c_1") });
    assert!(rig.shard.outbound(old).is_none());
    assert_eq!((rig.effect_names().len(), rig.read(new).len()), (0, 0));
    rig.accept(old, 0);
    assert_eq!(rig.effect_names(), ["gone u_ada"], "accepted, but gone");
    assert_eq!(rig.shard.sessions(), 1);
}

#[test]
fn a_full_shard_takes_no_more() {
    let mut rig = Rig::new(ShardConfig { connections_max: 2, ..ShardConfig::default() });
    let first = rig.open();
    rig.open();
    assert_eq!(rig.shard.opened(crate::testkit::peer(), rig.now), None);
    rig.shard.ended(first, End::Eof, rig.now);
    rig.open();
    assert_eq!((rig.counted().refused_full, rig.shard.connections()), (1, 2));
}

#[test]
fn without_memory_upgrades_are_told_when_to_come_back_and_sessions_go_on() {
    let mut rig = Rig::new(ShardConfig::default());
    let here = rig.live();
    rig.read(here);
    rig.shard.admit(false);
    let mut seconds = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let key = rig.open();
        rig.receive(key, &upgrade(""));
        let answer = String::from_utf8(rig.read_bytes(key)).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\nRetry-After: "), "{answer}");
        let after_s: u32 = answer.lines().nth(1).unwrap()[13..].parse().unwrap();
        assert!((5..=20).contains(&after_s), "{answer}");
        seconds.insert(after_s);
    }
    assert!(seconds.len() > 10, "they come back together: {seconds:?}");
    assert_eq!((rig.counted().refused_memory, rig.counted().upgrades), (40, 1));
    rig.receive(here, &text(r#"{"ping":{}}"#));
    assert_eq!(rig.read(here), [r#"{"pong":{}}"#]);
    let request = rig.open();
    rig.receive(request, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(rig.counted().http_opened, 1, "requests are served");
    rig.shard.admit(true);
    let key = rig.open();
    rig.receive(key, &upgrade(""));
    assert_eq!(first_line(&rig.read_bytes(key)), "HTTP/1.1 101 Switching Protocols");
}
