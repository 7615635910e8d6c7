//! Strangers, floods, and what is never finished.

use std::time::Duration;

use bytes::Bytes;
use roost_wire::limits::{CONNECT_BYTES_MAX, PING_FRAMES};
use roost_wire::link::SessionKey;

use crate::testkit::{Rig, control, protobuf, show, text, upgrade};
use crate::{HttpDown, ShardConfig};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const CONNECT: &str = r#"{"rid":1,"connect":{"token":"t","device":"laptop"}}"#;
const TYPING: &str = r#"{"typing":{"conv":"c_1","on":true}}"#;

fn crowded(unauthenticated_max: usize) -> Rig {
    Rig::new(ShardConfig { unauthenticated_max, ..ShardConfig::default() })
}

fn paced(frames_per_second: u32, frames_burst: u32) -> Rig {
    Rig::new(ShardConfig { frames_per_second, frames_burst, commands_in_flight_max: 60_000, ..ShardConfig::default() })
}

fn strangers(rig: &Rig) -> u64 {
    let counted = rig.counted();
    counted.unauthenticated_opened - counted.unauthenticated_closed
}

#[test]
fn the_oldest_stranger_makes_room_and_hears_why() {
    let mut rig = crowded(2);
    let silent = rig.open();
    let upgraded = rig.upgraded("");
    rig.open();
    assert_eq!(rig.effect_names(), ["write"]);
    assert!(rig.read_bytes(silent).starts_with(b"HTTP/1.1 503 "));
    assert_eq!(rig.effect_names(), ["close"], "as soon as it is told");
    rig.open();
    assert_eq!(rig.effect_names(), ["write"]);
    assert_eq!(rig.read(upgraded), ["close 4004 overloaded"]);
    assert_eq!(rig.effect_names(), ["close"]);
    assert_eq!((rig.counted().refused_unauthenticated, strangers(&rig), rig.shard.connections()), (2, 2, 2));
}

#[test]
fn who_sent_connect_or_is_being_answered_makes_no_room() {
    let mut rig = crowded(1);
    let live = rig.live();
    let waiting = rig.upgraded("");
    rig.receive(waiting, &text(CONNECT));
    let served = rig.open();
    rig.receive(served, GET);
    rig.shard.http(served, HttpDown::Data(Bytes::from_static(b"HTTP/1.1 200 OK\r\n")), rig.now);
    rig.effects();
    assert_eq!(strangers(&rig), 0);
    let fresh = rig.open();
    assert_eq!((strangers(&rig), rig.counted().refused_unauthenticated), (1, 0));
    rig.open();
    assert!(rig.read_bytes(fresh).starts_with(b"HTTP/1.1 503 "));
    for key in [live, waiting, served] {
        assert!(rig.shard.outbound(key).is_some(), "{key:?} stays");
    }
    // A request that the service sits on is let go like any other stranger.
    let mut rig = crowded(1);
    let unanswered = rig.open();
    rig.receive(unanswered, GET);
    rig.effects();
    rig.open();
    assert_eq!(rig.effect_names(), ["http end", "close"]);
}

#[test]
fn a_million_who_come_and_go_leave_no_trace_among_the_strangers() {
    let mut rig = crowded(1000);
    let slow = rig.open();
    for _ in 0..5000 {
        let key = rig.open();
        rig.shard.ended(key, crate::End::Eof, rig.now);
    }
    assert!(rig.shard.outbound(slow).is_some());
    assert_eq!(strangers(&rig), 1);
    assert!(rig.shard.strangers_remembered() < 200, "{}", rig.shard.strangers_remembered());
}

#[test]
fn ten_pings_a_second_are_answered_and_a_flood_of_them_is_closed() {
    for (name, ping, pong) in
        [("WebSocket", control(9, b"hi"), "pong hi"), ("PING", text(r#"{"ping":{}}"#), r#"{"pong":{}}"#)]
    {
        let mut rig = Rig::new(ShardConfig::default());
        let key = rig.live();
        for _ in 0..200 {
            rig.receive(key, &ping);
            assert_eq!(rig.read(key), [pong], "{name}");
            rig.pass(Duration::from_millis(100));
        }
        assert_eq!(rig.counted().throttles, 0, "{name}");
        rig.receive(key, &ping.repeat(2000));
        let said = show(&rig.read_bytes(key));
        assert_eq!(said.last().map(String::as_str), Some("close 4504 too many frames"), "{name}");
        // The burst and ten seconds' worth were answered, and not one more.
        let answered = said.iter().filter(|line| *line == pong).count();
        let config = ShardConfig::default();
        let most = (config.frames_burst + 10 * config.frames_per_second) / PING_FRAMES;
        assert!(answered as u32 <= most, "{name}: {answered}");
        assert_eq!(rig.effect_names().last().map(String::as_str), Some("close"), "{name}: what follows is not read");
        assert_eq!(rig.counted().closed_flood, 1, "{name}");
    }
}

#[test]
fn who_sends_too_many_frames_is_not_read_until_it_has_waited() {
    let mut rig = paced(100, 50);
    let key = rig.live();
    rig.pass(Duration::from_secs(10));
    rig.receive(key, &text(TYPING).repeat(50));
    assert_eq!(rig.counted().throttles, 0, "the burst");
    rig.receive(key, &text(TYPING).repeat(100));
    assert_eq!((rig.counted().throttles, rig.counted().commands), (1, 150), "what was read is worked off");
    assert_eq!(rig.effect_names().last().map(String::as_str), Some("pause"));
    rig.pass(Duration::from_millis(900));
    assert_eq!(rig.effect_names(), Vec::<String>::new());
    rig.pass(Duration::from_millis(200));
    assert_eq!(rig.effect_names(), ["resume"]);
    assert_eq!(rig.shard.sessions(), 1);
}

#[test]
fn frames_of_a_batch_large_messages_and_pongs_are_paid_for_too() {
    use roost_wire::FrameBody;
    use roost_wire::pb::{self, Frame};
    let typing =
        Frame { rid: 0, body: Some(FrameBody::Typing(pb::Typing { conv: "c_1".into(), ..Default::default() })) };
    let mut rig = paced(10, 100);
    let key = rig.live_protobuf();
    rig.receive(key, &protobuf(&vec![typing; 150]));
    assert_eq!(rig.counted().throttles, 1, "a batch");
    let mut rig = paced(10, 100);
    let key = rig.live();
    rig.receive(key, &control(10, b"").repeat(150));
    assert_eq!(rig.counted().throttles, 1, "pongs");
    let mut rig = paced(10, 100);
    let key = rig.live();
    for _ in 0..8 {
        rig.receive(key, &text(&format!("{{\"pong\":{{}}}}{}", " ".repeat(60_000))));
    }
    assert_eq!(rig.counted().throttles, 1, "bytes");
}

#[test]
fn silence_and_half_messages_do_not_count_while_it_is_us_who_do_not_read() {
    let mut rig = Rig::new(ShardConfig {
        frames_per_second: 10,
        frames_burst: 10,
        heartbeat: Duration::from_millis(500),
        message_within: Duration::from_secs(1),
        ..ShardConfig::default()
    });
    let key = rig.live();
    rig.pass(Duration::from_secs(1));
    let mut flood = text(r#"{"pong":{}}"#).repeat(60);
    flood.extend([0x81, 0x85, 0, 0]); // Half a header.
    rig.receive(key, &flood);
    rig.pass(Duration::from_millis(4_900));
    assert_eq!((rig.shard.sessions(), rig.counted().throttles), (1, 1));
    rig.pass(Duration::from_millis(1_500));
    assert_eq!(rig.read(key), ["close 4005 message not complete in time"], "and counts from then on");
}

#[test]
fn a_flood_does_not_outlast_the_pause_that_unread_replies_cause() {
    let mut rig = Rig::new(ShardConfig {
        frames_per_second: 100,
        frames_burst: 100,
        outbound_frames_max: 8,
        ..ShardConfig::default()
    });
    let key = rig.live();
    rig.receive(key, &text(r#"{"rid":1,"entry":{}}"#).repeat(12));
    assert_eq!(rig.effect_names().iter().filter(|name| *name == "pause").count(), 1);
    // It is over both limits, and read again when the last of them lets it.
    rig.receive(key, &text(r#"{"pong":{}}"#).repeat(200));
    rig.read_bytes(key);
    assert!(!rig.effect_names().contains(&"resume".to_owned()));
    rig.pass(Duration::from_secs(3));
    assert_eq!(rig.effect_names(), ["resume"]);
}

#[test]
fn a_message_that_is_never_finished_is_given_up() {
    let begin = |rig: &mut Rig, key: SessionKey| rig.receive(key, &[0x81, 0xfe, 0x04, 0x00, 0, 0, 0, 0, b'x']);
    let mut rig = Rig::new(ShardConfig::default());
    let key = rig.live();
    begin(&mut rig, key);
    for _ in 0..29 {
        rig.pass(Duration::from_secs(1));
        rig.receive(key, b"x");
    }
    assert_eq!(rig.read(key), Vec::<String>::new(), "a byte a second is slow, but within the time");
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.read(key), ["close 4005 message not complete in time"]);
    assert_eq!(rig.counted().closed_message_late, 1);
    // Pings between the fragments do not buy time; whole messages do.
    for (piece, lives) in
        [(control(9, b""), false), ([&[0x80, 0x80, 0, 0, 0, 0][..], &[1, 0x80, 0, 0, 0, 0]].concat(), true)]
    {
        let mut rig = Rig::new(ShardConfig::default());
        let key = rig.live();
        rig.receive(key, &[0x01, 0x80, 0, 0, 0, 0]);
        for _ in 0..5 {
            rig.pass(Duration::from_secs(10));
            rig.receive(key, &piece);
        }
        assert_eq!(rig.shard.sessions() == 1, lives, "{piece:?}");
    }
}

#[test]
fn a_request_that_is_never_finished_is_answered_408() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = rig.open();
    rig.receive(key, b"POST /v1/guest HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{");
    rig.effects();
    for _ in 0..29 {
        rig.pass(Duration::from_secs(1));
        rig.receive(key, b" ");
    }
    assert!(rig.effect_names().iter().all(|name| name == "http data 1"));
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.effect_names(), ["http end", "write"]);
    assert!(rig.read_bytes(key).starts_with(b"HTTP/1.1 408 "));
    assert_eq!(rig.counted().refused_request_late, 1);
    rig.pass(Duration::from_secs(2));
    assert_eq!((rig.effect_names(), rig.shard.connections()), (vec!["close".to_owned()], 0));
}

#[test]
fn before_welcome_a_message_is_no_larger_than_connect() {
    let mut rig = Rig::new(ShardConfig::default());
    let padded = |len: usize| text(&format!("{CONNECT}{}", " ".repeat(len - CONNECT.len())));
    let key = rig.upgraded("");
    // Its header is enough.
    rig.receive(key, &padded(CONNECT_BYTES_MAX + 1)[..8]);
    assert_eq!(rig.read(key), ["close 1009 message too big"]);
    let key = rig.upgraded("");
    rig.receive(key, &padded(CONNECT_BYTES_MAX));
    rig.accept(key, 0);
    rig.read(key);
    rig.receive(key, &text(&format!("{{\"ping\":{{}}}}{}", " ".repeat(60_000))));
    assert_eq!(rig.read(key), [r#"{"pong":{}}"#]);
}

#[test]
fn an_upgrade_in_one_piece_with_connect_is_a_stranger_no_longer() {
    let mut rig = crowded(1);
    let key = rig.open();
    rig.receive(key, &[upgrade(""), text(CONNECT)].concat());
    assert_eq!(strangers(&rig), 0);
    rig.open();
    assert_eq!(rig.counted().refused_unauthenticated, 0);
}
