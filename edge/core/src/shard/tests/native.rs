//! Sessions that are no WebSockets.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use roost_wire::link::{Audience, Down, Envelope, Lane, SessionKey};
use roost_wire::pb::{self, Frame};
use roost_wire::{CloseCode, Encoding, FrameBody, limits};

use crate::testkit::{Rig, entry, peer, typing};
use crate::{Effect, End, ShardConfig};

fn open(rig: &mut Rig, datagrams: bool) -> SessionKey {
    rig.shard.opened_native(peer(), datagrams, rig.now).expect("room")
}

/// A live session whose HELLO and WELCOME are read.
fn live(rig: &mut Rig, datagrams: bool) -> SessionKey {
    let key = open(rig, datagrams);
    rig.receive(key, &frames(&[(1, connect())]));
    rig.accept(key, 0);
    assert_eq!(read(rig, key), ["0 hello", "1 welcome"]);
    rig.effects();
    key
}

fn connect() -> FrameBody {
    FrameBody::Connect(pb::Connect { guest: "Ada".into(), ..pb::Connect::default() })
}

fn get() -> FrameBody {
    FrameBody::Get(pb::Get { conv: "c_1".into() })
}

fn frames(frames: &[(u64, FrameBody)]) -> Vec<u8> {
    let mut out = BytesMut::new();
    for (rid, body) in frames {
        Encoding::Protobuf.encode(&Frame { rid: *rid, body: Some(body.clone()) }, &mut out);
    }
    out.to_vec()
}

/// What is queued, as `rid body` each; an error as `rid error code`.
fn read(rig: &mut Rig, key: SessionKey) -> Vec<String> {
    let bytes = rig.read_bytes(key);
    let mut rest = &bytes[..];
    std::iter::from_fn(|| Encoding::Protobuf.decode(&mut rest).expect("frames"))
        .map(|frame| match &frame.body {
            Some(FrameBody::Error(error)) => format!("{} error {}", frame.rid, error.code),
            Some(FrameBody::Hello(hello)) => {
                assert_eq!(hello.protocol, limits::ALPN);
                format!("{} hello", frame.rid)
            }
            body => format!("{} {}", frame.rid, body.as_ref().map_or("", FrameBody::name)),
        })
        .collect()
}

#[test]
fn a_native_session_begins_with_hello_and_its_commands_go_up_wherever_they_are_cut() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = open(&mut rig, false);
    assert_eq!(read(&mut rig, key), ["0 hello"]);
    for byte in frames(&[(1, connect())]) {
        rig.receive(key, &[byte]);
    }
    assert_eq!(rig.effect_names(), ["connect 1"]);
    rig.accept(key, 0);
    assert_eq!(read(&mut rig, key), ["1 welcome"]);
    rig.effects();
    let both = frames(&[(2, get()), (3, get()), (0, FrameBody::Ping(pb::Ping {}))]);
    let (one, two) = both.split_at(both.len() / 2);
    rig.receive(key, one);
    rig.receive(key, two);
    assert_eq!(rig.effect_names(), ["get 2", "get 3", "write"]);
    assert_eq!(read(&mut rig, key), ["0 pong"]);
    assert_eq!(rig.counted().native_opened, 1);
}

#[test]
fn a_push_is_the_same_memory_for_native_and_websocket_sessions() {
    let mut rig = Rig::new(ShardConfig::default());
    let (native, socket) = (live(&mut rig, false), rig.live_protobuf());
    let push = entry(1, 300);
    rig.deliver(&push, &[native, socket]);
    let message = push.message(Encoding::Protobuf);
    let queued = |key| rig.shard.outbound(key).unwrap().frames().next().unwrap().clone();
    let (frame, whole) = (queued(native), queued(socket));
    assert_eq!(whole.as_ptr(), message.as_ptr());
    assert_eq!(frame.as_ptr(), message[message.len() - frame.len()..].as_ptr());
    assert_eq!(read(&mut rig, native), ["0 entry"]);
}

#[test]
fn ephemeral_pushes_leave_as_datagrams_where_the_peer_takes_them_else_by_the_stream() {
    let mut rig = Rig::new(ShardConfig::default());
    let (with, without) = (live(&mut rig, true), live(&mut rig, false));
    let push = typing();
    rig.deliver(&push, &[with, without]);
    let effects = rig.effects();
    let Some(Effect::Datagram { session, bytes }) =
        effects.iter().find(|effect| matches!(effect, Effect::Datagram { .. }))
    else {
        panic!("{effects:?}");
    };
    assert_eq!((*session, rig.queued_bytes(with)), (with, 0));
    assert_eq!(read(&mut rig, without), ["0 typing"]);
    // The driver could not: then by the stream.
    rig.shard.undelivered(with, bytes.clone(), rig.now);
    assert_eq!(read(&mut rig, with), ["0 typing"]);
    // A receipt is ephemeral, and is not told again when it is lost.
    let receipt = Envelope::new(Lane::Ephemeral, FrameBody::Receipt(pb::Receipt::default()));
    rig.effects();
    rig.deliver(&receipt, &[with]);
    assert_eq!((rig.effect_names(), read(&mut rig, with)), (vec!["write".into()], vec!["0 receipt".into()]));
    // A durable push never is one.
    rig.deliver(&entry(1, 10), &[with]);
    assert_eq!(rig.effect_names(), ["write"]);
    assert_eq!(read(&mut rig, with), ["0 entry"]);
}

#[test]
fn pushes_of_a_burst_that_may_be_lost_leave_as_a_datagram_each() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = live(&mut rig, true);
    let audience = Audience::Sessions([key].into());
    rig.downs([0; 3].map(|_| Down::Deliver { envelope: typing(), audience: audience.clone() }));
    let datagrams = rig.effects().iter().filter(|effect| matches!(effect, Effect::Datagram { .. })).count();
    assert_eq!((datagrams, rig.queued_bytes(key)), (3, 0));
}

#[test]
fn a_datagram_given_back_is_dropped_when_its_reader_is_slow() {
    let config = ShardConfig { outbound_frames_max: 4, ..ShardConfig::default() };
    let mut rig = Rig::new(config);
    let key = live(&mut rig, true);
    for seq in 1..4 {
        rig.deliver(&entry(seq, 10), &[key]);
    }
    rig.shard.undelivered(key, Bytes::from_static(b"\x00"), rig.now);
    assert_eq!((rig.shard.outbound(key).unwrap().len(), rig.counted().drops_ephemeral), (3, 1));
}

#[test]
fn a_long_page_has_a_stream_of_its_own_and_goes_by_the_first_where_that_cannot_be() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = live(&mut rig, false);
    let page = |rig: &mut Rig, entries: usize| {
        rig.receive(key, &frames(&[(7, FrameBody::History(pb::History { conv: "c_1".into(), ..Default::default() }))]));
        let entry = pb::Entry { body: Some(pb::Body { text: "x".repeat(100), event: None }), ..Default::default() };
        let page = pb::Page { conv: "c_1".into(), entries: vec![entry; entries], head: 9 };
        rig.effects();
        let frame = Frame { rid: 7, body: Some(FrameBody::Page(page)) };
        rig.down(Down::Reply { session: key, frame: Some(Box::new(frame)) });
        rig.effects()
    };
    assert!(!page(&mut rig, 3).iter().any(|effect| matches!(effect, Effect::Page { .. })));
    assert_eq!(read(&mut rig, key), ["7 page"], "a short one");
    let effects = page(&mut rig, 50);
    let Some(Effect::Page { session, bytes }) =
        effects.into_iter().find(|effect| matches!(effect, Effect::Page { .. }))
    else {
        panic!("no page")
    };
    assert_eq!((session, rig.queued_bytes(key)), (key, 0));
    let before = rig.counted();
    rig.shard.page_sent(bytes.len());
    assert_eq!(rig.counted().bytes_out - before.bytes_out, bytes.len() as u64);
    rig.shard.page_undelivered(key, bytes, rig.now);
    assert_eq!(rig.effect_names(), ["write"]);
    assert_eq!(read(&mut rig, key), ["7 page"]);
}

#[test]
fn datagrams_carry_what_does_no_harm_when_it_is_lost_and_nothing_else() {
    let mut rig = Rig::new(ShardConfig::default());
    let early = open(&mut rig, true);
    read(&mut rig, early);
    let typing = FrameBody::Typing(pb::Typing { conv: "c_1".into(), on: true, ..pb::Typing::default() });
    rig.shard.datagram(early, &mut frames(&[(0, typing.clone())]), rig.now);
    rig.effects();
    assert_eq!(rig.queued_bytes(early), 0, "it may have overtaken CONNECT");
    let key = live(&mut rig, true);
    let ack = FrameBody::Ack(pb::Ack { conv: "c_1".into(), seq: 1 });
    rig.shard.datagram(key, &mut frames(&[(0, typing), (0, ack)]), rig.now);
    assert_eq!(rig.effect_names(), ["typing 0", "ack 0"]);
    for (bytes, answer) in [
        (frames(&[(5, get())]), "5 error 101"),
        (frames(&[(0, connect())]), "0 error 101"),
        (frames(&[(5, get())])[..4].to_vec(), "0 error 100"),
        (vec![1, 0xff], "0 error 100"),
        (vec![0], "0 error 101"),
    ] {
        rig.shard.datagram(key, &mut bytes.clone(), rig.now);
        assert_eq!(read(&mut rig, key), [answer], "{bytes:?}");
    }
    // A WebSocket has none.
    let socket = rig.live();
    rig.shard.datagram(socket, &mut frames(&[(5, get())]), rig.now);
    assert_eq!(rig.queued_bytes(socket), 0);
}

#[test]
fn a_close_tells_its_code_once_all_before_it_is_written() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = live(&mut rig, false);
    rig.deliver(&entry(1, 10), &[key]);
    rig.close(key, CloseCode::Replaced);
    let names = rig.effect_names();
    assert!(!names.iter().any(|name| name.starts_with("close")), "an entry waits: {names:?}");
    rig.receive(key, &frames(&[(9, get())]));
    assert_eq!(read(&mut rig, key), ["0 entry"]);
    assert_eq!(rig.effect_names(), ["close 4503"]);
    assert_eq!(rig.shard.connections(), 0);
    // With nothing to write it is at once; and who writes too slowly is told too.
    let (at_once, slow) = (live(&mut rig, false), live(&mut rig, false));
    rig.close(at_once, CloseCode::TokenExpired);
    assert!(rig.effect_names().contains(&"close 4001".into()));
    rig.deliver(&entry(2, 10), &[slow]);
    rig.close(slow, CloseCode::Drain);
    rig.pass(rig.shard.config().close_within + Duration::from_secs(1));
    assert!(rig.effect_names().contains(&"close 4000".into()));
    let counted = rig.counted();
    assert_eq!((counted.closed_replaced, counted.closed_token_expired, counted.closed_drain), (1, 1, 1));
}

#[test]
fn breaches_of_the_stream_end_the_session_with_their_code() {
    for (name, connected, bytes, code) in [
        ("a length that is none", true, vec![0x80; 10], "close 1002"),
        ("larger than allowed", true, vec![0x81, 0x80, 0x04], "close 1009"),
        ("larger than CONNECT may be", false, vec![0x81, 0x40], "close 1009"),
    ] {
        let mut rig = Rig::new(ShardConfig::default());
        let key = if connected { live(&mut rig, false) } else { open(&mut rig, false) };
        rig.read_bytes(key);
        rig.effects();
        rig.receive(key, &bytes);
        rig.receive(key, b"what follows is not looked at");
        let names = rig.effect_names();
        assert!(names.contains(&code.into()), "{name}: {names:?}");
        assert_eq!(rig.counted().closed_protocol, 1, "{name}");
    }
    // As large as allowed is well, and only what came is kept of it.
    let mut rig = Rig::new(ShardConfig::default());
    let key = live(&mut rig, false);
    rig.receive(key, &[0x80, 0x80, 0x04]);
    rig.receive(key, &[0; 100]);
    assert!(rig.effects().is_empty());
}

#[test]
fn too_many_bad_frames_close_a_native_session() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = live(&mut rig, false);
    for _ in 0..limits::BAD_FRAMES_MAX {
        rig.receive(key, &[1, 0xff]);
    }
    assert_eq!(read(&mut rig, key).len(), usize::from(limits::BAD_FRAMES_MAX), "the stream goes on behind a bad frame");
    rig.effects();
    rig.receive(key, &[1, 0xff]);
    assert_eq!(rig.effect_names(), ["gone u_ada", "close 4502"]);
}

#[test]
fn who_says_nothing_is_let_go_and_who_stops_within_a_frame_too() {
    let mut rig = Rig::new(ShardConfig::default());
    let config = rig.shard.config().clone();
    let silent = open(&mut rig, false);
    read(&mut rig, silent);
    rig.effects();
    rig.pass(config.connect_within + Duration::from_secs(1));
    assert_eq!(rig.effect_names(), ["close 4003"]);
    let half = live(&mut rig, false);
    let frame = frames(&[(2, get())]);
    rig.receive(half, &frame[..3]);
    rig.pass(config.message_within + Duration::from_secs(1));
    assert!(rig.effect_names().contains(&"close 4005".into()));
    let quiet = live(&mut rig, false);
    rig.pass(config.heartbeat * config.heartbeats_missed_max + Duration::from_secs(1));
    assert!(rig.effect_names().contains(&"close 4002".into()), "{quiet:?}");
}

#[test]
fn refusals_come_before_a_slot_is_used() {
    let mut rig = Rig::new(ShardConfig { connections_max: 1, ..ShardConfig::default() });
    rig.shard.admit(false);
    assert_eq!(rig.shard.opened_native(peer(), false, rig.now), None);
    rig.shard.admit(true);
    let key = open(&mut rig, false);
    assert_eq!(rig.shard.opened_native(peer(), false, rig.now), None);
    let counted = rig.counted();
    assert_eq!((counted.refused_memory, counted.refused_full, rig.shard.connections()), (1, 1, 1));
    assert!(!rig.shard.half_closed(key, rig.now), "a session ends with either half");
    rig.shard.ended(key, End::Eof, rig.now);
    assert_eq!(rig.shard.connections(), 0);
}

#[test]
fn strangers_make_room_with_a_word() {
    let mut rig = Rig::new(ShardConfig { unauthenticated_max: 1, ..ShardConfig::default() });
    let first = open(&mut rig, false);
    read(&mut rig, first);
    rig.effects();
    open(&mut rig, false);
    assert!(rig.effect_names().contains(&"close 4004".into()));
}

#[test]
fn a_drain_asks_native_sessions_to_go() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = live(&mut rig, true);
    let second = Duration::from_secs(1);
    rig.shard.drain("drain", second, 4 * second, Vec::new(), rig.now, 7);
    rig.pass(second);
    assert_eq!(read(&mut rig, key), ["0 goaway"]);
    rig.pass(4 * second);
    assert!(rig.effect_names().contains(&"close 4000".into()));
}

#[test]
fn topics_reach_native_sessions() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = live(&mut rig, false);
    let topic = crate::testkit::topic("c_1");
    rig.down(Down::Join { session: key, topic: topic.clone() });
    let envelope = Envelope::new(Lane::Durable, FrameBody::Pong(pb::Pong {}));
    rig.down(Down::Deliver { envelope, audience: Audience::Topic { topic, except: None } });
    assert_eq!(read(&mut rig, key), ["0 pong"]);
}

#[test]
fn a_burst_reaches_each_session_in_its_own_form_and_all_of_a_form_share_one_piece() {
    let mut rig = Rig::new(ShardConfig::default());
    let keys = [live(&mut rig, false), live(&mut rig, true), rig.live(), rig.live_protobuf()];
    rig.downs((1..=3).map(|seq| Down::Deliver { envelope: entry(seq, 1), audience: Audience::Sessions(keys.into()) }));
    let pieces = keys.map(|key| {
        let outbound = rig.shard.outbound(key).expect("it is there");
        (outbound.len(), outbound.chunks().next().map(<[u8]>::as_ptr))
    });
    assert_eq!((pieces[0], pieces.map(|(len, _)| len)), (pieces[1], [1; 4]));
    assert_ne!(pieces[0], pieces[3], "a WebSocket has headers");
    for key in &keys[..2] {
        assert_eq!(read(&mut rig, *key), ["0 entry"; 3]);
    }
    assert_eq!(rig.read(keys[2]).len(), 3);
}
