//! What both frame encodings owe: nothing panics, nothing is lost on the way through the other one.

use bytes::BytesMut;
use roost_wire::limits::USERS_PER_COMMAND_MAX;
use roost_wire::pb::{self, EventKind, Frame, Kind, Role};
use roost_wire::ws::{Decoder, Event, Side};
use roost_wire::{Encoding, FrameBody};

/// Most bytes of a server's message in a test.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Checks a frame that a peer's bytes became.
pub(crate) fn check(frame: &Frame) {
    let users = match &frame.body {
        Some(FrameBody::Create(create)) => create.members.len(),
        Some(FrameBody::Members(members)) => members.add.len() + members.remove.len() + members.roles.len(),
        Some(FrameBody::Watch(watch)) => watch.users.len(),
        Some(FrameBody::Unwatch(unwatch)) => unwatch.users.len(),
        _ => 0,
    };
    assert!(users <= USERS_PER_COMMAND_MAX, "{users} users in one command");
    // A number without a name is kept in protobuf, for those who know it; JSON has no word for it.
    let mut named = frame.clone();
    unname_unknown(&mut named);
    for encoding in Encoding::ALL {
        let want = if encoding == Encoding::Json { &named } else { frame };
        let mut payload = BytesMut::new();
        encoding.encode(frame, &mut payload);
        assert_eq!(&decode_one(encoding, &payload), want, "through {encoding:?}");
        let mut again = BytesMut::new();
        encoding.encode(want, &mut again);
        assert_eq!(again, payload, "one frame has one form in {encoding:?}");
        check_server_message(encoding, frame, &payload);
    }
    let mut text = BytesMut::new();
    Encoding::Json.encode(frame, &mut text);
    // Another reader of JSON finds the same body, and nothing twice.
    let value: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let object = value.as_object().expect("an object");
    let name = frame.body.as_ref().map_or("", FrameBody::name);
    assert!(object.get(name).is_some_and(serde_json::Value::is_object), "{name}: {value}");
    assert_eq!(object.get("rid").and_then(serde_json::Value::as_u64).unwrap_or(0), frame.rid);
    assert_eq!(object.len(), 1 + usize::from(frame.rid != 0), "{value}");
}

/// The one frame of a message.
pub(crate) fn decode_one(encoding: Encoding, payload: &[u8]) -> Frame {
    let mut rest = payload;
    let frame = encoding.decode(&mut rest).expect("what we write can be read").expect("a frame");
    assert!(rest.is_empty(), "{} B too many", rest.len());
    frame
}

/// The message that a server sends holds just the payload.
fn check_server_message(encoding: Encoding, frame: &Frame, payload: &[u8]) {
    let mut message = encoding.server_message(frame).to_vec();
    let mut decoder = Decoder::new(Side::Client, MESSAGE_BYTES_MAX);
    let mut at = 0;
    let event = decoder.next(&mut message, &mut at).expect("by RFC 6455").expect("a whole message");
    assert_eq!(event, Event::Message { kind: encoding.message_kind(), payload });
    assert_eq!(at, message.len());
}

/// Enums whose number has no name become unspecified.
fn unname_unknown(frame: &mut Frame) {
    let Some(body) = &mut frame.body else { return };
    match body {
        FrameBody::Create(create) => kind(&mut create.kind),
        FrameBody::Conversation(conversation) => {
            kind(&mut conversation.kind);
            conversation.members.iter_mut().for_each(member);
        }
        FrameBody::Members(members) => members.roles.iter_mut().for_each(member),
        FrameBody::Changed(changed) => changed.rows.iter_mut().for_each(row),
        FrameBody::Page(page) => page.entries.iter_mut().for_each(|entry| event(&mut entry.body)),
        FrameBody::Entry(entry) => event(&mut entry.body),
        FrameBody::Send(send) => event(&mut send.body),
        FrameBody::Publish(publish) => event(&mut publish.body),
        _ => {}
    }
}

fn row(row: &mut pb::Row) {
    kind(&mut row.kind);
    role(&mut row.role);
    row.peer.iter_mut().for_each(member);
    row.last.iter_mut().for_each(|entry| event(&mut entry.body));
}

fn event(body: &mut Option<pb::Body>) {
    if let Some(event) = body.as_mut().and_then(|body| body.event.as_mut()) {
        role(&mut event.role);
        event.kind = EventKind::try_from(event.kind).unwrap_or_default().into();
    }
}

fn member(member: &mut pb::Member) {
    role(&mut member.role);
}

fn role(number: &mut i32) {
    *number = Role::try_from(*number).unwrap_or_default().into();
}

fn kind(number: &mut i32) {
    *number = Kind::try_from(*number).unwrap_or_default().into();
}
