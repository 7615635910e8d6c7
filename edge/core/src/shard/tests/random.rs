//! Whatever peers, router and driver do, in whatever order: nothing panics, and the invariants hold (each input checks
//! them).

use std::time::Duration;

use proptest::prelude::*;
use roost_wire::link::{Audience, Down, SessionKey};
use roost_wire::pb::{self, Frame};
use roost_wire::ws::MessageKind;
use roost_wire::{CloseCode, Encoding, ErrorCode, FrameBody};

use crate::session::Connection;
use crate::testkit::{Rig, UNIX_MS, control, entry, message, protobuf, show, text, topic, typing, upgrade};
use crate::{End, HttpDown, ShardConfig};

fn small() -> ShardConfig {
    ShardConfig {
        connections_max: 6,
        outbound_bytes_max: 4096,
        outbound_frames_max: 8,
        commands_in_flight_max: 4,
        fanout_slice: 3,
        fanout_items_max: 5,
        http_window_bytes: 1024,
        sends_per_second: 5,
        sends_burst: 2,
        unauthenticated_max: 3,
        // A ping is worth two and a half seconds.
        frames_per_second: 20,
        frames_burst: 60,
        ..ShardConfig::default()
    }
}

#[derive(Clone, Debug)]
enum Action {
    Open,
    Live(bool),
    Upgrade(usize, bool),
    Get(usize),
    Bytes(usize, Vec<u8>),
    Text(usize, usize),
    Control(usize, u8),
    Ended(usize),
    HalfClosed(usize),
    Sent(usize, usize),
    Accepted(usize),
    Refused(usize),
    Reply(usize, bool),
    Extend(usize, u64),
    Deliver(usize, usize, bool),
    Publish(usize, Option<usize>),
    Join(usize, usize),
    Leave(usize, usize),
    Close(usize),
    Http(usize, u8),
    Pass(u64),
    Turn,
    Doubt,
    Drain(u64),
    Effects,
}

const TEXTS: [&str; 9] = [
    r#"{"rid":1,"connect":{"token":"t"}}"#,
    r#"{"rid":2,"send":{"conv":"c_1","cmid":"1","body":{"text":"hi"}}}"#,
    r#"{"ack":{"conv":"c_1","seq":1}}"#,
    r#"{"rid":3,"ping":{}}"#,
    r#"{"rid":4,"refresh":{"token":"n"}}"#,
    r#"{"rid":5,"entry":{}}"#,
    "{",
    "",
    r#"{"rid":6,"publish":{"channel":"news"}}"#,
];

fn action() -> impl Strategy<Value = Action> {
    let key = 0usize..8;
    prop_oneof![
        2 => Just(Action::Open),
        12 => any::<bool>().prop_map(Action::Live),
        3 => (key.clone(), any::<bool>()).prop_map(|(key, json)| Action::Upgrade(key, json)),
        2 => key.clone().prop_map(Action::Get),
        1 => (key.clone(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(key, bytes)| Action::Bytes(key, bytes)),
        12 => (key.clone(), 0..TEXTS.len()).prop_map(|(key, text)| Action::Text(key, text)),
        1 => (key.clone(), 8u8..11).prop_map(|(key, opcode)| Action::Control(key, opcode)),
        1 => key.clone().prop_map(Action::Ended),
        1 => key.clone().prop_map(Action::HalfClosed),
        5 => (key.clone(), prop_oneof![0usize..200, Just(usize::MAX)]).prop_map(|(key, max)| Action::Sent(key, max)),
        2 => key.clone().prop_map(Action::Accepted),
        1 => key.clone().prop_map(Action::Refused),
        3 => (key.clone(), any::<bool>()).prop_map(|(key, frame)| Action::Reply(key, frame)),
        1 => (key.clone(), 0u64..100_000).prop_map(|(key, ms)| Action::Extend(key, ms)),
        12 => (key.clone(), 0usize..1500, any::<bool>()).prop_map(|(key, bytes, all)| Action::Deliver(key, bytes, all)),
        6 => (0usize..3, prop::option::of(key.clone())).prop_map(|(topic, except)| Action::Publish(topic, except)),
        8 => (key.clone(), 0usize..3).prop_map(|(key, topic)| Action::Join(key, topic)),
        2 => (key.clone(), 0usize..3).prop_map(|(key, topic)| Action::Leave(key, topic)),
        1 => key.clone().prop_map(Action::Close),
        2 => (key, 0u8..4).prop_map(|(key, what)| Action::Http(key, what)),
        2 => prop_oneof![0u64..200, 0u64..200, 0u64..40_000].prop_map(Action::Pass),
        3 => Just(Action::Turn),
        1 => Just(Action::Doubt),
        1 => (0u64..20_000).prop_map(Action::Drain),
        8 => Just(Action::Effects),
    ]
}

const TOPICS: [&str; 3] = ["news", "c_1", "c_2"];

/// Sends a frame, or what is none, in the encoding of the session.
fn say(rig: &mut Rig, key: SessionKey, frame: &str) {
    let encoding = rig.shard.slots.get(key).and_then(Connection::session).map(|session| session.encoding);
    let bytes = match (encoding, Encoding::Json.decode(&mut frame.as_bytes())) {
        (Some(Encoding::Protobuf), Ok(Some(frame))) => protobuf(&[frame]),
        (Some(Encoding::Protobuf), _) => message(MessageKind::Binary, frame.as_bytes()),
        _ => text(frame),
    };
    rig.receive(key, &bytes);
}

/// Does `action`; `keys` are all keys ever given, so that stale ones are used as well.
fn act(rig: &mut Rig, keys: &mut Vec<SessionKey>, action: Action) {
    let at = |keys: &[SessionKey], index: usize| keys[keys.len().saturating_sub(1 + index % keys.len())];
    if keys.is_empty() && !matches!(action, Action::Open | Action::Live(_) | Action::Get(_)) {
        return;
    }
    match action {
        Action::Open => keys.extend(rig.shard.opened(crate::testkit::peer(), rig.now)),
        Action::Live(json) => {
            rig.effects();
            let Some(key) = rig.shard.opened(crate::testkit::peer(), rig.now) else { return };
            keys.push(key);
            act(rig, keys, Action::Upgrade(0, json));
            say(rig, key, TEXTS[0]);
            rig.accept(key, UNIX_MS + 3_600_000);
        }
        Action::Upgrade(key, json) => {
            let offer = if json { "" } else { "Sec-WebSocket-Protocol: roost.v1.pb\r\n" };
            rig.receive(at(keys, key), &upgrade(offer));
        }
        Action::Get(bytes) => {
            act(rig, keys, Action::Open);
            let mut request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
            request.resize(request.len() + 200 * bytes, b'.');
            rig.receive(at(keys, 0), &request);
        }
        Action::Bytes(key, bytes) => rig.receive(at(keys, key), &bytes),
        Action::Text(key, index) => say(rig, at(keys, key), TEXTS[index]),
        Action::Control(key, opcode) => rig.receive(at(keys, key), &control(opcode, &[])),
        Action::Ended(key) => rig.shard.ended(at(keys, key), End::Error, rig.now),
        Action::HalfClosed(key) => {
            let key = at(keys, key);
            if !rig.shard.half_closed(key, rig.now) {
                rig.shard.ended(key, End::Eof, rig.now);
            }
        }
        Action::Sent(key, max) => drop(rig.read_some(at(keys, key), max)),
        Action::Accepted(key) => rig.accept(at(keys, key), UNIX_MS + 3_600_000),
        Action::Refused(key) => {
            let (error, close) = (ErrorCode::BadToken.error(), CloseCode::Unauthenticated);
            rig.down(Down::Refused { session: at(keys, key), rid: 1, error, close });
        }
        Action::Reply(key, frame) => rig.reply(at(keys, key), u64::from(frame)),
        Action::Extend(key, ms) => rig.down(Down::Extend { session: at(keys, key), expires: UNIX_MS + ms }),
        Action::Deliver(key, bytes, all) => {
            let audience = if all { keys.clone() } else { vec![at(keys, key)] };
            let envelope = if bytes % 3 == 0 { typing() } else { entry(1, bytes) };
            rig.deliver(&envelope, &audience);
        }
        Action::Publish(name, except) => {
            let except = except.map(|key| at(keys, key));
            let audience = Audience::Topic { topic: topic(TOPICS[name]), except };
            rig.down(Down::Deliver { envelope: entry(1, 20), audience });
        }
        Action::Join(key, name) => rig.down(Down::Join { session: at(keys, key), topic: topic(TOPICS[name]) }),
        Action::Leave(key, name) => rig.down(Down::Leave { session: at(keys, key), topic: topic(TOPICS[name]) }),
        Action::Close(key) => rig.close(at(keys, key), CloseCode::Replaced),
        Action::Http(key, what) => {
            let down = match what {
                0 => HttpDown::Data("some response".into()),
                1 => HttpDown::Taken(500),
                2 => HttpDown::Data(bytes::Bytes::new()),
                _ => HttpDown::End,
            };
            rig.shard.http(at(keys, key), down, rig.now);
        }
        Action::Pass(ms) => rig.pass(Duration::from_millis(ms)),
        Action::Turn => drop(rig.shard.turn(rig.now)),
        Action::Doubt => rig.shard.doubt(rig.now),
        Action::Drain(ms) => {
            let window = Duration::from_millis(ms);
            rig.shard.drain("drain", window, 4 * window, vec![], rig.now, ms);
        }
        Action::Effects => drop(rig.effects()),
    }
}

proptest! {
    #[test]
    fn any_order_of_anything_keeps_the_invariants(actions in prop::collection::vec(action(), 1..120)) {
        let mut rig = Rig::new(small());
        let mut keys = Vec::new();
        for action in actions {
            act(&mut rig, &mut keys, action);
            rig.shard.check_all();
        }
        // In the end everything can be let go.
        rig.shard.close_all(CloseCode::GoingAway, rig.now);
        rig.pass(Duration::from_secs(120));
        rig.effects();
        prop_assert_eq!((rig.shard.connections(), rig.shard.sessions()), (0, 0));
        prop_assert_eq!(rig.shard.next_deadline(), None);
        let counted = rig.counted();
        prop_assert_eq!(counted.connections_opened, counted.connections_closed);
        prop_assert_eq!(counted.sessions_opened, counted.sessions_closed);
        prop_assert_eq!(counted.topics_joined, counted.topics_left);
        prop_assert_eq!(counted.fanout_items_queued, counted.fanout_items_done);
        prop_assert!(counted.pauses >= counted.resumes);
    }

    #[test]
    fn random_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..600), cut in 1usize..50, stage in 0u8..4,
    ) {
        let mut rig = Rig::new(small());
        let key = match stage {
            0 => rig.open(),
            1 => rig.upgraded(""),
            2 => rig.live(),
            _ => rig.live_protobuf(),
        };
        for part in bytes.chunks(cut) {
            rig.receive(key, part);
        }
        rig.pass(Duration::from_secs(200));
        rig.read_bytes(key);
    }

    #[test]
    fn however_bytes_are_cut_the_same_happens(
        texts in prop::collection::vec(0..TEXTS.len(), 0..12), cuts in prop::collection::vec(1usize..60, 1..40),
    ) {
        let mut bytes = upgrade("");
        for index in texts {
            bytes.extend(text(TEXTS[index]));
        }
        bytes.extend(control(8, &[0x03, 0xe8]));
        let run = |cuts: &mut dyn Iterator<Item = usize>| {
            let mut rig = Rig::new(ShardConfig::default());
            let key = rig.open();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (part, after) = rest.split_at(cuts.next().unwrap_or(usize::MAX).min(rest.len()));
                rig.receive(key, part);
                rest = after;
            }
            (rig.read_bytes(key), rig.effects().iter().map(|effect| format!("{effect:?}")).collect::<Vec<_>>())
        };
        let whole = run(&mut std::iter::empty());
        let cut = run(&mut cuts.iter().copied().cycle());
        prop_assert_eq!(whole, cut);
    }

    #[test]
    fn a_durable_push_arrives_or_changed_comes_after_it(
        steps in prop::collection::vec((0usize..900, prop_oneof![Just(0usize), 0usize..3000]), 1..60),
    ) {
        let mut rig = Rig::new(ShardConfig { outbound_bytes_max: 4096, ..ShardConfig::default() });
        let key = rig.live();
        let mut got = Vec::new();
        let mut sent = 0;
        for (bytes, read) in steps {
            sent += 1;
            rig.deliver(&entry(sent, bytes), &[key]);
            rig.turn();
            prop_assert!(rig.queued_bytes(key) <= 4096);
            got.extend(rig.read_some(key, read));
        }
        while rig.queued_bytes(key) > 0 {
            got.extend(rig.read_bytes(key));
        }
        // What a client that syncs at each CHANGED knows.
        let mut known = 0;
        let mut gap = false;
        for frame in show(&got) {
            match frame.split(r#""seq":"#).nth(1).and_then(|rest| rest.split(',').next()?.parse::<u64>().ok()) {
                Some(seq) => {
                    prop_assert!(seq > known, "in order");
                    prop_assert!(seq == known + 1 || gap, "{seq} after {known} without CHANGED");
                    (known, gap) = (seq, false);
                }
                None => gap = true,
            }
        }
        prop_assert!(known == sent || gap, "the last known is {known} of {sent}, and nobody said so");
    }
}

#[test]
fn a_frame_of_the_routers_for_a_session_that_closes_goes_nowhere() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = rig.live();
    rig.close(key, CloseCode::Replaced);
    rig.read_bytes(key);
    rig.deliver(&entry(1, 1), &[key]);
    rig.reply(key, 4);
    rig.down(Down::Reply {
        session: key,
        frame: Some(Box::new(Frame { rid: 1, body: Some(FrameBody::Pong(pb::Pong {})) })),
    });
    assert_eq!(rig.read(key), Vec::<String>::new());
}
