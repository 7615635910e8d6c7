use proptest::prelude::*;
use roost_wire::pb::Frame;
use roost_wire::ws::handshake;

use super::*;

const BODY: usize = 64;

fn names() -> Names {
    Names::new(vec!["c_0".into(), "c_1".into()])
}

fn stamp(serial: u32) -> Stamp {
    Stamp { sender: 7, serial, intended_ns: 99 }
}

fn entry(conv: &str, seq: u64) -> pb::Entry {
    let mut text = String::new();
    body::write(stamp(seq as u32), BODY, &mut text);
    let body = Some(pb::Body { text, event: None });
    pb::Entry { conv: conv.into(), seq, from: "u_7".into(), cmid: "m".into(), ts: 1, body }
}

fn message(rid: u64, body: FrameBody) -> Vec<u8> {
    Encoding::Protobuf.server_message(&Frame { rid, body: Some(body) }).to_vec()
}

/// A client that has sent its upgrade, and the answer to it.
fn opened(pen: &mut Pen) -> (Client, Vec<u8>) {
    let mut client = Client::new(Protocol::Roost, Box::new([Track::new(0, false), Track::new(1, false)]));
    client.open("/ws", "localhost", pen).unwrap();
    let request = client.outbound().split();
    let Some((handshake::Request::Upgrade(upgrade), _)) = handshake::parse_request(&request).unwrap() else {
        panic!("no upgrade")
    };
    let mut answer = BytesMut::new();
    handshake::write_accept(upgrade.key, upgrade.protocols().next(), &mut answer);
    (client, answer.to_vec())
}

fn receive(client: &mut Client, pen: &mut Pen, parts: &[&[u8]]) -> Vec<Event> {
    let (names, mut events) = (names(), Vec::new());
    for part in parts {
        let mut inbox = Inbox { names: &names, body_bytes: BODY, events: &mut events, pen };
        client.received(&mut part.to_vec(), &mut inbox);
        if events.contains(&Event::Upgraded) && !client.is_live() && client.asked.is_empty() {
            client.connect(pb::Connect::default(), pen);
        }
    }
    events
}

/// What a server might say, after the upgrade.
fn talk() -> Vec<u8> {
    let welcome = pb::Welcome { user: "u_1".into(), heartbeat_ms: 5, ..Default::default() };
    let parts = [
        message(0, FrameBody::Hello(pb::Hello::default())),
        message(1, FrameBody::Welcome(welcome)),
        message(0, FrameBody::Entry(entry("c_0", 1))),
        message(0, FrameBody::Entry(entry("c_1", 2))),
        b"\x89\x02hi".to_vec(),
        message(0, FrameBody::Entry(entry("c_1", 1))),
        message(0, FrameBody::Entry(entry("c_0", 1))),
        message(0, FrameBody::Receipt(pb::Receipt::default())),
        message(0, FrameBody::Entry(entry("c_9", 1))),
        message(0, FrameBody::Error(pb::Error { code: 503, ..Default::default() })),
        b"\x88\x02\x0f\xa0".to_vec(),
    ];
    parts.concat()
}

fn told() -> Vec<Event> {
    let pushed = |conv, seq: u64, arrival| Event::Pushed { conv, seq, stamp: stamp(seq as u32), arrival };
    vec![
        Event::Upgraded,
        Event::Other,
        Event::Welcomed { user: "u_1".into(), token: String::new(), heartbeat_ms: 5 },
        pushed(0, 1, Arrival::New),
        Event::Gap { conv: 1 },
        pushed(1, 2, Arrival::New),
        pushed(1, 1, Arrival::Late),
        pushed(0, 1, Arrival::Doubled),
        Event::Other,
        Event::Other,
        Event::Refused { asked: None, code: 503 },
        Event::Closed(Some(4000)),
    ]
}

proptest! {
    #[test]
    fn however_the_bytes_are_cut_the_same_happens(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let mut pen = Pen::new(3);
        let (mut client, answer) = opened(&mut pen);
        let bytes = [answer.clone(), talk()].concat();
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        // CONNECT leaves between the upgrade and its reply, as with a real server.
        at.extend([0, answer.len(), bytes.len()]);
        at.sort_unstable();
        let parts: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(receive(&mut client, &mut pen, &parts), told());
        prop_assert!(client.is_live());
    }

    #[test]
    fn a_stream_of_quic_says_the_same_however_it_is_cut(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let mut pen = Pen::new(3);
        let mut client = Client::new(Protocol::Roost, Box::new([Track::new(0, false), Track::new(1, false)]));
        client.open_stream();
        client.connect(pb::Connect::default(), &mut pen);
        // The payloads of those messages that have one: what is WebSocket's alone is not there.
        let (mut decoder, mut talk, mut at, mut bytes) = (decoder(), talk(), 0, Vec::new());
        while let Some(event) = decoder.next(&mut talk, &mut at).unwrap() {
            if let ws::Event::Message { payload, .. } = event {
                bytes.extend_from_slice(payload);
            }
        }
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        let parts: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        let all = told();
        prop_assert_eq!(&receive(&mut client, &mut pen, &parts)[..], &all[1..all.len() - 1]);
        // It writes frames, and no WebSocket around them.
        let mut said = &client.outbound().split()[..];
        let first = Encoding::Protobuf.decode(&mut said).unwrap().unwrap();
        prop_assert!(matches!(first.body, Some(FrameBody::Connect(_))) && said.is_empty());
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300), upgraded: bool) {
        let mut pen = Pen::new(3);
        let (mut client, answer) = opened(&mut pen);
        if upgraded {
            receive(&mut client, &mut pen, &[&answer]);
        }
        receive(&mut client, &mut pen, &[&bytes]);
    }

    #[test]
    fn any_body_of_a_frame_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let mut pen = Pen::new(3);
        let (mut client, answer) = opened(&mut pen);
        let message = [&[0x82, bytes.len() as u8][..], &bytes].concat();
        receive(&mut client, &mut pen, &[&answer, &message]);
    }
}

#[test]
fn the_log_is_read_page_by_page_and_what_it_skips_is_told() {
    let (mut pen, names) = (Pen::new(3), names());
    let (mut client, answer) = opened(&mut pen);
    receive(&mut client, &mut pen, &[&answer]);
    let welcome = message(1, FrameBody::Welcome(pb::Welcome::default()));
    receive(&mut client, &mut pen, &[&welcome, &message(0, FrameBody::Entry(entry("c_0", 2)))]);
    assert!(client.fetch(0, 0, &names, &mut pen));
    assert!(!client.fetch(0, 0, &names, &mut pen), "one at a time");
    let page = |entries, head| FrameBody::Page(pb::Page { conv: "c_0".into(), entries, head });
    let first = receive(&mut client, &mut pen, &[&message(2, page(vec![entry("c_0", 1), entry("c_0", 2)], 4))]);
    let second = receive(&mut client, &mut pen, &[&message(3, page(vec![entry("c_0", 4)], 4))]);
    let fetched = |seq: u64, new| Event::Fetched { conv: 0, seq, stamp: stamp(seq as u32), new };
    assert_eq!(first, [fetched(1, true), fetched(2, false)]);
    assert_eq!(second, [Event::Absent { conv: 0, seq: 3 }, fetched(4, true), Event::LogEnded { conv: 0, at: 4 }]);
    assert_eq!(client.tracks()[0].have(), 4);
    assert!(!client.is_fetching());
}

#[test]
fn what_was_not_answered_is_given_back() {
    let (mut pen, names) = (Pen::new(3), names());
    let (mut client, answer) = opened(&mut pen);
    let welcome = message(1, FrameBody::Welcome(pb::Welcome::default()));
    receive(&mut client, &mut pen, &[&answer, &welcome]);
    let to =
        Message { client: 7, conv: 1, channel: false, intended_ns: 5, body_bytes: BODY, answer: false, names: &names };
    let first = client.send(&to, &mut pen);
    let second = client.send(&to, &mut pen);
    assert_eq!((first.serial, second.serial), (0, 1));
    let sent = pb::Sent { conv: "c_1".into(), seq: 1, ts: 1, dup: false };
    let told = receive(&mut client, &mut pen, &[&message(2, FrameBody::Sent(sent))]);
    assert_eq!(told, [Event::Acknowledged { conv: 1, seq: 1, stamp: first }]);
    assert_eq!(client.reset(), [(3, Asked::Send(1, second))]);
    assert!(!client.is_live() && client.outbound().is_empty());
}
