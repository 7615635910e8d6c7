//! Clients against servers that exist only as bytes.

use bytes::BytesMut;
use proptest::prelude::*;
use roost_router::auth::Keys;
use roost_wire::ws::handshake::{self, Request};
use roost_wire::ws::{self, MessageKind, Side};
use roost_wire::{Encoding, FrameBody, pb};

use super::client::{Arrival, Phase};
use super::crowd::{Again, Asked, Beat, Crowd, Heard};
use super::hear::Ears;
use super::token::Minter;
use super::voice::{Entry, Voice};
use crate::client::{Stamp, body};
use crate::scenario::Dialect;

const SECRET: [u8; 32] = [7; 32];
const NOW_MS: u64 = 1_790_000_000_000;
pub(super) const BODY_BYTES: usize = 128;
pub(super) const CHANNEL: &str = "mass-1";

/// One client and what it says and hears.
pub(super) struct One {
    pub(super) crowd: Crowd,
    pub(super) voice: Voice,
    pub(super) out: BytesMut,
    heard: Vec<Heard>,
}

impl One {
    pub(super) fn new(dialect: Dialect) -> Self {
        let entry = Entry::Tokens(Box::new(Minter::new(&SECRET, 1, NOW_MS, 60)));
        let mut voice = Voice::new(dialect, "/ws".into(), "here".into(), entry, 3);
        voice.body_bytes = BODY_BYTES;
        voice.channel = CHANNEL.into();
        Self { crowd: Crowd::new(0, 1), voice, out: BytesMut::new(), heard: Vec::new() }
    }

    /// Takes bytes of the server, cut where it is told; gives back what it heard.
    pub(super) fn hear(&mut self, bytes: &[u8], cuts: &[prop::sample::Index]) -> Vec<Heard> {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        for pair in at.windows(2) {
            let mut ears = Ears { voice: &mut self.voice, out: &mut self.out, heard: &mut self.heard };
            self.crowd.received(0, &mut bytes[pair[0]..pair[1]].to_vec(), &mut ears);
        }
        std::mem::take(&mut self.heard)
    }

    /// Asks for the upgrade; gives back the answer that fits.
    pub(super) fn asks(&mut self) -> BytesMut {
        self.crowd.opens(0, 0);
        let mut ears = Ears { voice: &mut self.voice, out: &mut self.out, heard: &mut self.heard };
        self.crowd.connected(0, &mut ears).unwrap();
        let head = self.out.split();
        let (Request::Upgrade(upgrade), len) = handshake::parse_request(&head).unwrap().unwrap() else { panic!() };
        assert_eq!((upgrade.path, len), ("/ws", head.len()));
        let mut answer = BytesMut::new();
        let protocol = upgrade.protocols().next();
        handshake::write_accept(upgrade.key, protocol, &mut answer);
        answer
    }

    /// What it said, as messages of WebSocket.
    pub(super) fn messages(&mut self) -> Vec<(MessageKind, Vec<u8>)> {
        let mut bytes = self.out.split();
        let mut decoder = ws::Decoder::new(Side::Server, 1 << 20);
        let (mut at, mut messages) = (0, Vec::new());
        while let Some(event) = decoder.next(&mut bytes, &mut at).unwrap() {
            let ws::Event::Message { kind, payload } = event else { panic!("{event:?}") };
            messages.push((kind, payload.to_vec()));
        }
        messages
    }

    /// What it said, as frames.
    fn said(&mut self) -> Vec<pb::Frame> {
        let mut frames = Vec::new();
        for (kind, payload) in self.messages() {
            assert_eq!(kind, MessageKind::Binary);
            let mut rest = &payload[..];
            while let Some(frame) = Encoding::Protobuf.decode(&mut rest).unwrap() {
                frames.push(frame);
            }
        }
        frames
    }

    fn live() -> Self {
        let mut one = Self::new(Dialect::Roost);
        let answer = one.asks();
        one.hear(&answer, &[]);
        one.said();
        assert_eq!(one.hear(&welcome(), &[]), [Heard::Other, Heard::Live { heartbeat_ms: 25_000 }]);
        one
    }

    fn subscribed() -> Self {
        let mut one = Self::live();
        assert!(one.crowd.subscribe(0, true, &mut one.voice, &mut one.out));
        let said = one.said();
        assert!(matches!(&said[0].body, Some(FrameBody::Subscribe(subscribe)) if subscribe.channel == CHANNEL));
        let ok = message(said[0].rid, FrameBody::Ok(pb::Ok {}));
        assert_eq!(one.hear(&ok, &[]), [Heard::Subscribed]);
        one
    }
}

fn message(rid: u64, body: FrameBody) -> Vec<u8> {
    Encoding::Protobuf.server_message(&pb::Frame { rid, body: Some(body) }).to_vec()
}

fn welcome() -> Vec<u8> {
    let hello = message(0, FrameBody::Hello(pb::Hello { node: "n".into(), ..Default::default() }));
    let welcome =
        pb::Welcome { user: "u_x".into(), token: "t".repeat(300), heartbeat_ms: 25_000, ..Default::default() };
    [hello, message(1, FrameBody::Welcome(welcome))].concat()
}

fn error(rid: u64, retryable: bool, retry_after_ms: u32) -> Vec<u8> {
    message(rid, FrameBody::Error(pb::Error { code: 503, message: "busy".into(), retryable, retry_after_ms }))
}

fn entry(conv: &str, seq: u64, serial: u32, text: impl FnOnce(String) -> String) -> Vec<u8> {
    let mut body = String::new();
    body::write(Stamp { sender: 0, serial, intended_ns: 5 }, BODY_BYTES, &mut body);
    let body = Some(pb::Body { text: text(body), event: None });
    let (conv, from, cmid) = (conv.into(), "u_0".into(), "id".into());
    message(0, FrameBody::Entry(pb::Entry { conv, seq, from, cmid, ts: 1, body }))
}

fn pushed(seq: u64) -> Vec<u8> {
    entry(CHANNEL, seq, seq as u32 - 1, |text| text)
}

pub(super) fn heard(arrival: Arrival, serial: u32) -> Heard {
    Heard::Pushed { stamp: Stamp { sender: 0, serial, intended_ns: 5 }, arrival }
}

#[test]
fn a_million_clients_fit_their_memory_and_an_idle_one_owns_nothing_else() {
    const COUNT: u32 = 1_000_000;
    let crowd = Crowd::new(0, COUNT);
    let each = crowd.heap_bytes() as u64 / u64::from(COUNT);
    assert!(each <= 48, "{each} B");
    let mut one = One::live();
    let idle = one.crowd.heap_bytes();
    let mut message = pushed(1);
    let rest = message.split_off(40);
    assert_eq!(one.hear(&message, &[]), []);
    assert!(!one.crowd.clients[0].decoder.is_idle(), "half a message is kept");
    one.hear(&rest, &[]);
    assert!(one.crowd.clients[0].decoder.is_idle());
    assert_eq!(one.crowd.heap_bytes(), idle);
}

#[test]
fn it_enters_with_a_token_that_the_server_accepts() {
    let mut one = One::new(Dialect::Roost);
    let answer = one.asks();
    assert_eq!(one.hear(&answer, &[]), [Heard::Upgraded]);
    let said = one.said();
    let Some(FrameBody::Connect(connect)) = &said[0].body else { panic!("{said:?}") };
    assert!(Keys::new(&SECRET).verify(&connect.token, NOW_MS).is_ok());
    assert_eq!((one.crowd.live(), one.crowd.opening()), (0, 1));
    one.hear(&welcome(), &[]);
    assert_eq!((one.crowd.live(), one.crowd.opening()), (1, 0));
}

#[test]
fn an_answer_that_was_cut_off_is_forgotten_and_the_next_connection_has_another_key() {
    let mut one = One::new(Dialect::Roost);
    let first = one.asks();
    assert_eq!(one.hear(&first[..40], &[]), []);
    assert!(one.crowd.heap_bytes() > Crowd::new(0, 1).heap_bytes(), "half of it is kept");
    one.crowd.closes(0);
    one.crowd.gone(0);
    let second = one.asks();
    assert_eq!(one.hear(&second, &[]), [Heard::Upgraded]);
    let mut late = One::new(Dialect::Roost);
    late.crowd.opens(0, 0);
    late.crowd.closes(0);
    late.crowd.gone(0);
    late.asks();
    assert!(matches!(late.hear(&first, &[])[..], [Heard::Failed(_)]), "the answer to the connection before");
}

#[test]
fn a_heartbeat_is_sent_once_and_awaited() {
    let mut one = One::live();
    let beat = |one: &mut One, at| one.crowd.beat(0, at, &mut one.voice, &mut one.out);
    assert_eq!(beat(&mut one, 70), Beat::Sent);
    assert!(matches!(one.said()[0].body, Some(FrameBody::Ping(_))));
    assert_eq!((one.crowd.awaits_pong(0), beat(&mut one, 71)), (Some(70), Beat::Unanswered));
    assert_eq!(one.hear(&message(0, FrameBody::Pong(pb::Pong {})), &[]), [Heard::Pong]);
    one.crowd.answered(0);
    assert_eq!(one.crowd.awaits_pong(0), None);
    assert_eq!(one.hear(&message(0, FrameBody::Pong(pb::Pong {})), &[]), [], "who asked for nothing hears nothing");
    one.crowd.closes(0);
    assert_eq!(beat(&mut one, 72), Beat::NoSession);
}

#[test]
fn each_lie_about_pushes_is_heard_as_what_it_is() {
    let mut one = One::subscribed();
    for (name, bytes, heard) in [
        ("the first", pushed(1), heard(Arrival::Next, 0)),
        ("twice", pushed(1), heard(Arrival::Doubled, 0)),
        ("a gap", pushed(4), heard(Arrival::After(2), 3)),
        ("late", pushed(3), heard(Arrival::Late, 2)),
        ("another channel", entry("mass-2", 5, 4, |text| text), Heard::Garbled),
        ("another message", entry(CHANNEL, 5, 3, |text| text), Heard::Garbled),
        ("a changed byte", entry(CHANNEL, 5, 4, |text| text.replace("the quick", "the quack")), Heard::Garbled),
        ("cut", entry(CHANNEL, 5, 4, |text| text[..100].to_owned()), Heard::Garbled),
        ("no text", entry(CHANNEL, 5, 4, |_| String::new()), Heard::Garbled),
        ("seq 0", entry(CHANNEL, 0, 4, |text| text), Heard::Garbled),
        ("a seq of nowhere", entry(CHANNEL, u64::MAX, 4, |text| text), Heard::Garbled),
        ("the next", pushed(5), heard(Arrival::Next, 4)),
    ] {
        assert_eq!(one.hear(&bytes, &[]), [heard], "{name}");
    }
    let mut stranger = One::live();
    assert_eq!(stranger.hear(&pushed(1), &[]), [Heard::Garbled], "to somebody who did not subscribe");
}

#[test]
fn refusals_say_when_to_come_back_and_ends_say_why() {
    for (answer, want) in [
        (handshake::refusal_for_now(503, 7, "full"), Heard::TurnedAway { status: 503, retry_after_s: Some(7) }),
        (handshake::refusal(403, "no"), Heard::TurnedAway { status: 403, retry_after_s: None }),
    ] {
        let mut one = One::new(Dialect::Roost);
        one.asks();
        assert_eq!(one.hear(&answer, &[]), [want]);
    }
    let mut one = One::new(Dialect::Roost);
    one.asks();
    let mut wrong = BytesMut::new();
    handshake::write_accept("AAAAAAAAAAAAAAAAAAAAAA==", Some("roost.v1.pb"), &mut wrong);
    assert!(matches!(&one.hear(&wrong, &[])[..], [Heard::Failed(why)] if why.contains("Accept")));
    for (bytes, want) in [
        (b"\x88\x02\x0f\xa0".to_vec(), Heard::Closed(Some(4000))),
        (b"\x88\x00".to_vec(), Heard::Closed(None)),
        (
            message(0, FrameBody::Goaway(pb::Goaway { slot_ms: 40, ..Default::default() })),
            Heard::GoAway { slot_ms: 40 },
        ),
        (message(0, FrameBody::Changed(pb::Changed { more: true, ..Default::default() })), Heard::Behind),
        (error(2, true, 40), Heard::Refused { asked: Asked::Subscribe, code: 503, again: Again::After(40) }),
        (error(1, true, 0), Heard::Refused { asked: Asked::Connect, code: 503, again: Again::After(0) }),
        (error(3, false, 0), Heard::Refused { asked: Asked::Else, code: 503, again: Again::No }),
    ] {
        assert_eq!(One::live().hear(&bytes, &[]), [want]);
    }
    for bytes in
        [b"\x81\x02hi".to_vec(), b"\x82\x01\x05".to_vec(), b"\xff\xff".to_vec(), message(9, FrameBody::Ok(pb::Ok {}))]
    {
        assert!(matches!(&One::live().hear(&bytes, &[])[..], [Heard::Failed(_)]), "{bytes:?}");
    }
}

#[test]
fn a_plain_server_echoes_and_tells_everybody() {
    let mut one = One::new(Dialect::Plain);
    let answer = one.asks();
    assert_eq!(one.hear(&answer, &[]), [Heard::Upgraded, Heard::Live { heartbeat_ms: 0 }]);
    assert!(one.crowd.say(0, 9, &mut one.voice, &mut one.out));
    assert!(!one.crowd.say(0, 9, &mut one.voice, &mut one.out), "one at a time");
    let stamp = Stamp { sender: 0, serial: 0, intended_ns: 9 };
    let text = |stamp, front: &str| {
        let mut text = front.to_owned();
        body::write(stamp, BODY_BYTES, &mut text);
        let mut message = BytesMut::new();
        ws::write_message_header(MessageKind::Text, text.len(), None, &mut message);
        message.extend_from_slice(text.as_bytes());
        message
    };
    let another = Stamp { sender: 1, ..stamp };
    assert_eq!(one.hear(&text(another, ""), &[]), [Heard::Garbled], "somebody else's");
    assert_eq!(one.hear(&text(stamp, ""), &[]), [Heard::Echoed(stamp)]);
    assert_eq!(one.hear(&text(stamp, ""), &[]), [Heard::Other], "nobody waits for it");
    one.crowd.subscribe(0, true, &mut one.voice, &mut one.out);
    let all = Heard::Pushed { stamp, arrival: Arrival::Next };
    assert_eq!(one.hear(&text(stamp, "!"), &[]), [all]);
    assert_eq!(one.crowd.phase(0), Phase::Live);
}

proptest! {
    #[test]
    fn however_bytes_are_cut_the_same_is_heard(
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40), pushes in 1..6u64,
    ) {
        let mut one = One::new(Dialect::Roost);
        let mut bytes = one.asks().to_vec();
        bytes.extend(welcome());
        let live = [Heard::Upgraded, Heard::Other, Heard::Live { heartbeat_ms: 25_000 }];
        prop_assert_eq!(one.hear(&bytes, &cuts), live);
        let mut one = One::subscribed();
        let bytes: Vec<u8> = (1..=pushes).flat_map(pushed).collect();
        let all: Vec<Heard> = (0..pushes).map(|serial| heard(Arrival::Next, serial as u32)).collect();
        prop_assert_eq!(one.hear(&bytes, &cuts), all);
        prop_assert!(one.crowd.clients[0].decoder.is_idle());
    }

    #[test]
    fn no_bytes_of_a_server_panic(head: bool, plain: bool, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let protocol = if plain { Dialect::Plain } else { Dialect::Roost };
        let mut one = One::new(protocol);
        let answer = one.asks();
        if !head {
            one.hear(&answer, &[]);
        }
        one.hear(&bytes, &[]);
        if !plain && !head {
            One::subscribed().hear(&bytes, &[]);
        }
    }
}
