//! Frames in both encodings: the JSON shapes, one by one, and laws that hold for every frame and for any bytes.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use roost_wire::pb::{self, EventKind, Frame, Kind, Role};
use roost_wire::ws::{Decoder, Event, Side};
use roost_wire::{Encoding, ErrorCode, FrameBody, FrameError};
use serde_json::Value;

fn json(frame: &Frame) -> String {
    let mut out = BytesMut::new();
    Encoding::Json.encode(frame, &mut out);
    String::from_utf8(out.to_vec()).expect("JSON is text")
}

fn read(text: &str) -> Result<Option<Frame>, FrameError> {
    Encoding::Json.decode(&mut text.as_bytes())
}

/// True if all of `part` stands in `whole`, which may have more names.
fn holds(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(name, value)| whole.get(name).is_some_and(|found| holds(found, value)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| holds(whole, part))
        }
        _ => whole == part,
    }
}

fn text(text: &str) -> Option<pb::Body> {
    Some(pb::Body { text: text.into(), event: None })
}

fn member(user: &str, role: Role) -> pb::Member {
    pb::Member { user: user.into(), role: role.into(), ..pb::Member::default() }
}

fn entry(conv: &str, cmid: &str) -> pb::Entry {
    pb::Entry {
        conv: conv.into(),
        seq: 1,
        from: "u_ada".into(),
        cmid: cmid.into(),
        ts: 1_790_000_000_000,
        body: text("hi"),
    }
}

fn sent(conv: &str) -> pb::Sent {
    pb::Sent { conv: conv.into(), seq: 1, ts: 1_790_000_000_000, dup: false }
}

/// Every line of the table of JSON shapes, with its dots filled in.
fn shapes() -> Vec<(u64, FrameBody, &'static str)> {
    use FrameBody as B;
    let limits = pb::Limits { frame_bytes: 65_536, ..Default::default() };
    let connect = pb::Connect { device: "laptop".into(), ..Default::default() };
    let send = pb::Send { conv: "c_1".into(), cmid: "019a".into(), body: text("hi"), attempt: 0, seen: None };
    let history = pb::History { conv: "c_1".into(), after: None, before: None, limit: 50 };
    let users = vec!["u_bob".to_owned()];
    let bob = pb::UserPresence { user: "u_bob".into(), online: true, last_seen: 1_790_000_000_000 };
    let typing = pb::Typing { conv: "c_1".into(), user: String::new(), on: true };
    vec![
        (
            0,
            B::Hello(pb::Hello { node: "n1".into(), protocol: "roost.v1.json".into(), connect_within_ms: 10_000 }),
            r#"{"hello":{"node":"n1","protocol":"roost.v1.json","connect_within_ms":10000}}"#,
        ),
        (
            1,
            B::Connect(pb::Connect { token: "t".into(), ..connect.clone() }),
            r#"{"rid":1,"connect":{"token":"t","device":"laptop"}}"#,
        ),
        (
            1,
            B::Connect(pb::Connect { guest: "Ada".into(), ..connect }),
            r#"{"rid":1,"connect":{"guest":"Ada","device":"laptop"}}"#,
        ),
        (
            1,
            B::Welcome(pb::Welcome {
                user: "u_ada".into(),
                device: "laptop".into(),
                session: "s".into(),
                token: "t".into(),
                heartbeat_ms: 25_000,
                sync: "y".into(),
                limits: Some(limits),
                ..Default::default()
            }),
            r#"{"rid":1,"welcome":{"user":"u_ada","device":"laptop","session":"s","token":"t","heartbeat_ms":25000,"fresh":false,"sync":"y","limits":{"frame_bytes":65536}}}"#,
        ),
        (
            2,
            B::Create(pb::Create { kind: Kind::Direct.into(), members: users.clone(), ..Default::default() }),
            r#"{"rid":2,"create":{"kind":"direct","members":["u_bob"]}}"#,
        ),
        (
            2,
            B::Create(pb::Create {
                kind: Kind::Group.into(),
                name: "Birds".into(),
                members: users.clone(),
                open: false,
            }),
            r#"{"rid":2,"create":{"kind":"group","name":"Birds","members":["u_bob"]}}"#,
        ),
        (
            2,
            B::Conversation(pb::Conversation {
                conv: "c_1".into(),
                kind: Kind::Direct.into(),
                members: vec![member("u_ada", Role::Owner), member("u_bob", Role::Member)],
                ..Default::default()
            }),
            r#"{"rid":2,"conversation":{"conv":"c_1","kind":"direct","name":"","head":0,"members":[{"user":"u_ada","role":"owner"},{"user":"u_bob","role":"member"}]}}"#,
        ),
        (3, B::Send(send.clone()), r#"{"rid":3,"send":{"conv":"c_1","cmid":"019a","body":{"text":"hi"}}}"#),
        (
            3,
            B::Send(pb::Send { attempt: 1, seen: Some(0), ..send }),
            r#"{"rid":3,"send":{"conv":"c_1","cmid":"019a","body":{"text":"hi"},"attempt":1,"seen":0}}"#,
        ),
        (3, B::Sent(sent("c_1")), r#"{"rid":3,"sent":{"conv":"c_1","seq":1,"ts":1790000000000,"dup":false}}"#),
        (
            0,
            B::Entry(entry("c_1", "019a")),
            r#"{"entry":{"conv":"c_1","seq":1,"from":"u_ada","cmid":"019a","ts":1790000000000,"body":{"text":"hi"}}}"#,
        ),
        (0, B::Ack(pb::Ack { conv: "c_1".into(), seq: 1 }), r#"{"ack":{"conv":"c_1","seq":1}}"#),
        (0, B::Read(pb::Read { conv: "c_1".into(), seq: 1 }), r#"{"read":{"conv":"c_1","seq":1}}"#),
        (
            0,
            B::Receipt(pb::Receipt { conv: "c_1".into(), user: "u_bob".into(), delivered: 1, read: 1 }),
            r#"{"receipt":{"conv":"c_1","user":"u_bob","delivered":1,"read":1}}"#,
        ),
        (
            4,
            B::History(pb::History { after: Some(0), ..history.clone() }),
            r#"{"rid":4,"history":{"conv":"c_1","after":0,"limit":50}}"#,
        ),
        (
            4,
            B::History(pb::History { before: Some(7), ..history }),
            r#"{"rid":4,"history":{"conv":"c_1","before":7,"limit":50}}"#,
        ),
        (
            4,
            B::Page(pb::Page { conv: "c_1".into(), entries: vec![entry("c_1", "019a")], head: 1 }),
            r#"{"rid":4,"page":{"conv":"c_1","entries":[{"conv":"c_1","seq":1,"from":"u_ada","cmid":"019a","ts":1790000000000,"body":{"text":"hi"}}],"head":1}}"#,
        ),
        (5, B::Sync(pb::Sync { since: "y".into(), limit: 0 }), r#"{"rid":5,"sync":{"since":"y"}}"#),
        (
            5,
            B::Changed(pb::Changed {
                rows: vec![pb::Row {
                    conv: "c_1".into(),
                    kind: Kind::Direct.into(),
                    head: 1,
                    delivered: 1,
                    unread: 1,
                    last: Some(entry("c_1", "019a")),
                    ..Default::default()
                }],
                sync: "y".into(),
                more: false,
            }),
            r#"{"rid":5,"changed":{"rows":[{"conv":"c_1","kind":"direct","head":1,"read":0,"delivered":1,"unread":1,"last":{"conv":"c_1","seq":1,"from":"u_ada","cmid":"019a","ts":1790000000000,"body":{"text":"hi"}}}],"sync":"y","more":false}}"#,
        ),
        (0, B::Typing(typing.clone()), r#"{"typing":{"conv":"c_1","on":true}}"#),
        (
            0,
            B::Typing(pb::Typing { user: "u_ada".into(), ..typing }),
            r#"{"typing":{"conv":"c_1","user":"u_ada","on":true}}"#,
        ),
        (6, B::Watch(pb::Watch { users }), r#"{"rid":6,"watch":{"users":["u_bob"]}}"#),
        (
            6,
            B::Presence(pb::Presence { users: vec![bob.clone()] }),
            r#"{"rid":6,"presence":{"users":[{"user":"u_bob","online":true,"last_seen":1790000000000}]}}"#,
        ),
        (
            0,
            B::Presence(pb::Presence { users: vec![bob] }),
            r#"{"presence":{"users":[{"user":"u_bob","online":true,"last_seen":1790000000000}]}}"#,
        ),
        (7, B::Subscribe(pb::Subscribe { channel: "news".into() }), r#"{"rid":7,"subscribe":{"channel":"news"}}"#),
        (7, B::Ok(pb::Ok {}), r#"{"rid":7,"ok":{}}"#),
        (
            8,
            B::Publish(pb::Publish { channel: "news".into(), body: text("hi"), ..Default::default() }),
            r#"{"rid":8,"publish":{"channel":"news","body":{"text":"hi"}}}"#,
        ),
        (8, B::Sent(sent("news")), r#"{"rid":8,"sent":{"conv":"news","seq":1,"ts":1790000000000,"dup":false}}"#),
        (
            0,
            B::Entry(entry("news", "")),
            r#"{"entry":{"conv":"news","seq":1,"from":"u_ada","cmid":"","ts":1790000000000,"body":{"text":"hi"}}}"#,
        ),
        (0, B::Ping(pb::Ping {}), r#"{"ping":{}}"#),
        (0, B::Pong(pb::Pong {}), r#"{"pong":{}}"#),
        (
            3,
            B::Error(ErrorCode::NotMember.error()),
            r#"{"rid":3,"error":{"code":301,"message":"not a member of this conversation","retryable":false}}"#,
        ),
        (
            0,
            B::Goaway(pb::Goaway { reason: "drain".into(), deadline_ms: 30_000, slot_ms: 4200, urls: vec![] }),
            r#"{"goaway":{"reason":"drain","deadline_ms":30000,"slot_ms":4200,"urls":[]}}"#,
        ),
    ]
}

#[test]
fn json_has_exactly_the_shapes_promised() {
    for (rid, body, shape) in shapes() {
        let frame = Frame { rid, body: Some(body) };
        assert_eq!(read(shape), Ok(Some(frame.clone())), "{shape}");
        let written: Value = serde_json::from_str(&json(&frame)).unwrap();
        let promised: Value = serde_json::from_str(shape).unwrap();
        assert!(holds(&written, &promised), "promised {promised}\nwritten  {written}");
    }
}

#[test]
fn json_readers_ignore_what_they_do_not_know() {
    for text in [
        r#"{"rid":1,"get":{"conv":"c_1"}}"#,
        r#" { "get" : { "conv" : "c_1" , "deep" : [[{"a":null}]] } , "rid" : 1 , "x" : 1.5e300 } "#,
        r#"{"\u0072id":1,"g\u0065t":{"conv":"\u0063_1"}}"#,
    ] {
        let got = read(text).unwrap().unwrap();
        assert_eq!(got, Frame { rid: 1, body: Some(FrameBody::Get(pb::Get { conv: "c_1".into() })) }, "{text}");
    }
}

#[test]
fn protobuf_readers_ignore_what_they_do_not_know() {
    // GET with a field 15 in it, in a frame with a field 1000 (a varint) in front.
    let mut bytes = &b"\x0e\xc0\x3e\x05\x08\x01\xba\x04\x06\x0a\x01c\x7a\x01x"[..];
    let got = Encoding::Protobuf.decode(&mut bytes);
    assert_eq!(got, Ok(Some(Frame { rid: 1, body: Some(FrameBody::Get(pb::Get { conv: "c".into() })) })));
    // A body this version does not know, field 999; the PING behind it still counts.
    let mut bytes = &b"\x06\x08\x01\xba\x3e\x01x\x02\x72\x00"[..];
    assert_eq!(Encoding::Protobuf.decode(&mut bytes), Err(FrameError::Empty { rid: 1 }));
    let ping = Frame { rid: 0, body: Some(FrameBody::Ping(pb::Ping {})) };
    assert_eq!(Encoding::Protobuf.decode(&mut bytes), Ok(Some(ping)));
}

#[test]
fn a_role_without_a_name_has_no_word_in_json() {
    let members =
        pb::Members { roles: vec![pb::Member { role: 77, ..pb::Member::default() }], ..pb::Members::default() };
    let frame = Frame { rid: 1, body: Some(FrameBody::Members(members)) };
    let once = json(&frame);
    assert!(!once.contains("role\""), "{once}");
    assert_eq!(json(&read(&once).unwrap().unwrap()), once, "one frame has one form");
}

#[test]
fn names_of_bodies_are_all_covered_by_the_strategy() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..2000 {
        let frame = frame().new_tree(&mut runner).unwrap().current();
        seen.insert(frame.body.unwrap().name());
    }
    let all: std::collections::BTreeSet<_> = FrameBody::NAMES.iter().copied().collect();
    assert_eq!(seen, all);
}

fn s() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9_]{0,30}", "\\PC{0,40}", "[\\x00-\\x1f\"\\\\]{0,6}"]
}

fn n() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..3, any::<u64>()]
}

fn role() -> impl Strategy<Value = i32> {
    prop::sample::select(vec![Role::Unspecified, Role::Owner, Role::Admin, Role::Member]).prop_map(Into::into)
}

fn kind() -> impl Strategy<Value = i32> {
    prop::sample::select(vec![Kind::Unspecified, Kind::Direct, Kind::Group, Kind::Channel]).prop_map(Into::into)
}

prop_compose! {
    fn event()(
        kind in prop::sample::select(vec![
            EventKind::Unspecified, EventKind::Added, EventKind::Removed, EventKind::Joined, EventKind::Left,
            EventKind::Renamed, EventKind::RoleChanged,
        ]),
        users in vec(s(), 0..3), name in s(), role in role(),
    ) -> pb::Event {
        pb::Event { kind: kind.into(), users, name, role }
    }
}
prop_compose! { fn body()(text in s(), event in option::of(event())) -> pb::Body { pb::Body { text, event } } }
prop_compose! {
    fn an_entry()(conv in s(), seq in n(), from in s(), cmid in s(), ts in n(), body in option::of(body())) -> pb::Entry {
        pb::Entry { conv, seq, from, cmid, ts, body }
    }
}
prop_compose! {
    fn a_member()(user in s(), role in role(), name in s(), delivered: u64, read: u64) -> pb::Member { pb::Member { user, role, name, delivered, read } }
}
prop_compose! {
    fn row()(
        conv in s(), kind in kind(), name in s(), numbers: [u64; 4], last in option::of(an_entry()), role in role(),
        peer in option::of(a_member()), left: bool,
    ) -> pb::Row {
        let [head, read, delivered, unread] = numbers;
        pb::Row { conv, kind, name, head, read, delivered, unread, last, role, peer, left }
    }
}
prop_compose! {
    fn welcome()(
        strings in vec(s(), 6), expires in n(), heartbeat_ms: u32, fresh: bool, limits: Option<[u32; 5]>,
    ) -> pb::Welcome {
        let limits = limits.map(|[frame_bytes, commands_in_flight, sends_per_second, text_bytes, members]| {
            pb::Limits { frame_bytes, commands_in_flight, sends_per_second, text_bytes, members }
        });
        let [user, device, session, token, sync, name] = strings.try_into().unwrap();
        pb::Welcome { user, device, session, token, expires, heartbeat_ms, fresh, sync, limits, name }
    }
}

fn any_body() -> BoxedStrategy<FrameBody> {
    use FrameBody as B;
    let users = || vec(s(), 0..4);
    let mark = || (s(), n());
    let session = prop_oneof![
        (s(), s(), any::<u32>()).prop_map(|(node, protocol, connect_within_ms)| {
            B::Hello(pb::Hello { node, protocol, connect_within_ms })
        }),
        (s(), s(), s(), s())
            .prop_map(|(token, guest, device, sync)| { B::Connect(pb::Connect { token, guest, device, sync }) }),
        welcome().prop_map(B::Welcome).boxed(),
        s().prop_map(|token| B::Refresh(pb::Refresh { token })),
        Just(B::Ping(pb::Ping {})),
        Just(B::Pong(pb::Pong {})),
        (s(), any::<[u32; 2]>(), users()).prop_map(|(reason, [deadline_ms, slot_ms], urls)| {
            B::Goaway(pb::Goaway { reason, deadline_ms, slot_ms, urls })
        }),
        Just(B::Ok(pb::Ok {})),
        (any::<[u32; 2]>(), s(), any::<bool>()).prop_map(|([code, retry_after_ms], message, retryable)| {
            B::Error(pb::Error { code, message, retryable, retry_after_ms })
        }),
    ]
    .boxed();
    let messages = prop_oneof![
        (s(), s(), option::of(body()), any::<u32>(), option::of(n()))
            .prop_map(|(conv, cmid, body, attempt, seen)| { B::Send(pb::Send { conv, cmid, body, attempt, seen }) }),
        (s(), n(), n(), any::<bool>()).prop_map(|(conv, seq, ts, dup)| B::Sent(pb::Sent { conv, seq, ts, dup })),
        an_entry().prop_map(B::Entry),
        mark().prop_map(|(conv, seq)| B::Ack(pb::Ack { conv, seq })),
        mark().prop_map(|(conv, seq)| B::Read(pb::Read { conv, seq })),
        (s(), s(), n(), n())
            .prop_map(|(conv, user, delivered, read)| { B::Receipt(pb::Receipt { conv, user, delivered, read }) }),
        (s(), s(), any::<bool>()).prop_map(|(conv, user, on)| B::Typing(pb::Typing { conv, user, on })),
        users().prop_map(|users| B::Watch(pb::Watch { users })),
        users().prop_map(|users| B::Unwatch(pb::Unwatch { users })),
        vec((s(), any::<bool>(), n()), 0..3).prop_map(|users| {
            let users = users.into_iter();
            let users = users.map(|(user, online, last_seen)| pb::UserPresence { user, online, last_seen }).collect();
            B::Presence(pb::Presence { users })
        }),
    ]
    .boxed();
    let conversations = prop_oneof![
        (kind(), s(), users(), any::<bool>())
            .prop_map(|(kind, name, members, open)| { B::Create(pb::Create { kind, name, members, open }) }),
        s().prop_map(|conv| B::Get(pb::Get { conv })),
        (s(), kind(), s(), n(), vec(a_member(), 0..3), any::<bool>()).prop_map(
            |(conv, kind, name, head, members, open)| {
                B::Conversation(pb::Conversation { conv, kind, name, head, members, open })
            }
        ),
        (s(), option::of(s()), any::<Option<bool>>())
            .prop_map(|(conv, name, open)| { B::Update(pb::Update { conv, name, open }) }),
        (s(), users(), users(), vec(a_member(), 0..3))
            .prop_map(|(conv, add, remove, roles)| { B::Members(pb::Members { conv, add, remove, roles }) }),
        s().prop_map(|conv| B::Join(pb::Join { conv })),
        s().prop_map(|conv| B::Leave(pb::Leave { conv })),
    ]
    .boxed();
    let rest = prop_oneof![
        (s(), any::<u32>()).prop_map(|(since, limit)| B::Sync(pb::Sync { since, limit })),
        (vec(row(), 0..3), s(), any::<bool>())
            .prop_map(|(rows, sync, more)| { B::Changed(pb::Changed { rows, sync, more }) }),
        (s(), option::of(n()), option::of(n()), any::<u32>())
            .prop_map(|(conv, after, before, limit)| { B::History(pb::History { conv, after, before, limit }) }),
        (s(), vec(an_entry(), 0..3), n()).prop_map(|(conv, entries, head)| B::Page(pb::Page { conv, entries, head })),
        s().prop_map(|channel| B::Subscribe(pb::Subscribe { channel })),
        s().prop_map(|channel| B::Unsubscribe(pb::Unsubscribe { channel })),
        (s(), option::of(body()), s(), any::<u32>(), option::of(n())).prop_map(
            |(channel, body, cmid, attempt, seen)| { B::Publish(pb::Publish { channel, body, cmid, attempt, seen }) }
        ),
        (s(), any::<u32>()).prop_map(|(prefix, limit)| B::Search(pb::Search { prefix, limit })),
        vec((s(), s(), n()), 0..3).prop_map(|users| {
            let users = users.into_iter();
            B::Users(pb::Users {
                users: users.map(|(user, name, last_seen)| pb::User { user, name, last_seen }).collect(),
            })
        }),
    ]
    .boxed();
    // Boxed: unboxed the tree of all of them is larger than the stack of a test.
    prop_oneof![session, messages, conversations, rest].boxed()
}

fn frame() -> impl Strategy<Value = Frame> {
    (n(), any_body()).prop_map(|(rid, body)| Frame { rid, body: Some(body) })
}

proptest! {
    #[test]
    fn every_body_survives_both_encodings(frame in frame()) {
        for encoding in Encoding::ALL {
            let mut out = BytesMut::new();
            encoding.encode(&frame, &mut out);
            let mut rest = &out[..];
            prop_assert_eq!(encoding.decode(&mut rest), Ok(Some(frame.clone())), "{:?}", encoding);
            prop_assert_eq!(encoding.decode(&mut rest), Ok(None));
        }
    }

    #[test]
    fn a_server_message_is_a_whole_websocket_message_of_its_own_size(frame in frame(), before in vec(any::<u8>(), 0..9)) {
        for encoding in Encoding::ALL {
            let message = encoding.server_message(&frame);
            let mut out = BytesMut::from(&before[..]);
            encoding.write_server_message(&frame, &mut out);
            prop_assert_eq!(&out[before.len()..], &message[..]);
            let mut input = message.to_vec();
            let mut at = 0;
            let mut decoder = Decoder::new(Side::Client, 1 << 20);
            let Ok(Some(Event::Message { kind, mut payload })) = decoder.next(&mut input, &mut at) else {
                return Err(TestCaseError::fail("no message"));
            };
            prop_assert_eq!(kind, encoding.message_kind());
            prop_assert_eq!(encoding.decode(&mut payload), Ok(Some(frame.clone())));
            prop_assert_eq!(at, message.len());
        }
    }

    #[test]
    fn any_bytes_are_a_frame_or_an_error_and_never_a_panic(
        bytes in vec(any::<u8>(), 0..200), frame in frame(), at in any::<prop::sample::Index>(), with: u8,
    ) {
        for encoding in Encoding::ALL {
            let mut rest = &bytes[..];
            while let Ok(Some(_)) = encoding.decode(&mut rest) {}
            let mut out = BytesMut::new();
            encoding.encode(&frame, &mut out);
            let at = at.index(out.len());
            out[at] = with;
            let mut rest = &out[..];
            while let Ok(Some(_)) = encoding.decode(&mut rest) {}
            // Cut short, it is an error or nothing at all; never another frame taken from too few bytes.
            let mut cut = &out[..at];
            prop_assert!(encoding.decode(&mut cut).is_err() || at == 0);
        }
    }
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    let deep = format!(r#"{{"x":{}"#, "[".repeat(60_000));
    assert!(matches!(read(&deep), Err(FrameError::Json(_))));
}
