//! permessage-deflate of sessions.

use std::time::Duration;

use roost_wire::FrameBody;
use roost_wire::limits::DEFLATE_BYTES_MIN;
use roost_wire::link::{Down, Envelope, Lane, SessionKey};
use roost_wire::pb::{self, Frame};
use roost_wire::ws::{Deflater, mask};

use crate::ShardConfig;
use crate::testkit::{Rig, entry, show, text, upgrade, user};

const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
const TYPING: &str = r#"{"typing":{"conv":"c_1","on":true}}"#;

fn on() -> ShardConfig {
    ShardConfig { compression: true, ..ShardConfig::default() }
}

/// A live JSON session that offered `extensions`.
fn live(rig: &mut Rig, extensions: &str) -> SessionKey {
    let key = rig.upgraded(extensions);
    rig.receive(key, &text(r#"{"rid":1,"connect":{"token":"t","device":"laptop"}}"#));
    rig.accept(key, 0);
    rig.read_bytes(key);
    rig.effects();
    key
}

/// A compressed text message as a client sends it.
fn compressed(payload: &[u8]) -> Vec<u8> {
    let payload = Deflater::new().compress(payload).expect("it becomes smaller").to_vec();
    compressed_raw(&payload)
}

/// A message with RSV1 and any payload.
fn compressed_raw(payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0xc1];
    match payload.len() {
        len @ 0..126 => out.push(0x80 | len as u8),
        len => out.extend([&[0xfe][..], &u16::try_from(len).unwrap().to_be_bytes()].concat()),
    }
    let key = [1, 2, 3, 4];
    out.extend(key);
    let at = out.len();
    out.extend_from_slice(payload);
    mask::apply(&mut out[at..], key, 0);
    out
}

/// Whether each message of a server is compressed, and what they say.
fn split(bytes: &[u8]) -> (Vec<bool>, Vec<String>) {
    let (mut rest, mut flags) = (bytes, Vec::new());
    while let [first, second, ..] = *rest {
        let len = match second {
            126 => 4 + usize::from(u16::from_be_bytes([rest[2], rest[3]])),
            len @ 0..126 => 2 + usize::from(len),
            _ => panic!("too long for these tests"),
        };
        flags.push(first & 0x40 != 0);
        rest = &rest[len..];
    }
    (flags, show(bytes))
}

#[test]
fn compression_is_agreed_on_only_where_it_is_switched_on_and_offered() {
    for (config, offer, agreed) in [
        (on(), OFFER, true),
        (on(), "", false),
        (ShardConfig::default(), OFFER, false),
        (on(), "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=7\r\n", false),
    ] {
        let mut rig = Rig::new(config);
        let key = rig.open();
        rig.receive(key, &upgrade(offer));
        let answer = String::from_utf8_lossy(&rig.read_bytes(key)).into_owned();
        let want = "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
                    client_no_context_takeover\r\n";
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert_eq!(answer.contains(want), agreed, "{answer}");
        assert_eq!(answer.contains("permessage"), agreed, "{answer}");
        assert_eq!(rig.counted().upgrades_deflate, u64::from(agreed));
    }
}

#[test]
fn a_push_is_compressed_once_and_shared_by_those_who_agreed() {
    let mut rig = Rig::new(on());
    let keys = [live(&mut rig, OFFER), live(&mut rig, ""), live(&mut rig, OFFER)];
    let envelope = entry(1, 500);
    rig.deliver(&envelope, &keys);
    rig.turn();
    let at = |rig: &Rig, key| rig.shard.outbound(key).unwrap().chunks().next().unwrap().as_ptr();
    assert_eq!(at(&rig, keys[0]), at(&rig, keys[2]));
    let [one, plain, two] = keys.map(|key| rig.read_bytes(key));
    assert_eq!(one, two);
    assert_eq!((one[0], plain[0]), (0xc1, 0x81));
    assert!(10 * one.len() < 3 * plain.len(), "{} of {} B", one.len(), plain.len());
    assert_eq!(show(&one), show(&plain));
}

#[test]
fn short_pushes_and_those_that_do_not_become_smaller_go_as_they_are() {
    let mut rig = Rig::new(on());
    let key = live(&mut rig, OFFER);
    let typing = Envelope::new(Lane::Ephemeral, FrameBody::Typing(pb::Typing::default()));
    assert!(typing.message(roost_wire::Encoding::Json).len() < DEFLATE_BYTES_MIN);
    rig.deliver(&typing, &[key]);
    // Letters that never come again, each of two bytes that are rare.
    let noise = (0..80_u32).filter_map(|at| char::from_u32(0x80 + at * 1021 % 0x700)).collect();
    let body = pb::Body { text: noise, event: None };
    let noise = Envelope::new(
        Lane::Durable,
        FrameBody::Entry(pb::Entry { seq: 1, conv: "c_Zk8".into(), body: Some(body), ..pb::Entry::default() }),
    );
    rig.deliver(&noise, &[key]);
    rig.deliver(&entry(2, 100), &[key]);
    rig.turn();
    let (flags, said) = split(&rig.read_bytes(key));
    assert_eq!((flags, said.len()), (vec![false, false, true], 3));
}

#[test]
fn a_small_window_of_the_client_is_kept() {
    // A message that is no longer than the window cannot refer beyond it; a longer one goes as it is.
    let mut rig = Rig::new(on());
    let key = live(&mut rig, "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n");
    for (seq, bytes) in [(1, 300), (2, 600)] {
        rig.deliver(&entry(seq, bytes), &[key]);
    }
    rig.turn();
    let (flags, said) = split(&rig.read_bytes(key));
    assert_eq!((flags, said.len()), (vec![true, false], 2));
}

#[test]
fn replies_are_compressed_but_never_one_that_holds_a_token() {
    let mut rig = Rig::new(on());
    let key = rig.upgraded(OFFER);
    rig.receive(key, &text(r#"{"rid":1,"connect":{"token":"t","device":"laptop"}}"#));
    let token = "t".repeat(300);
    let welcome = Box::new(pb::Welcome { user: "u_ada".into(), token: token.clone(), ..pb::Welcome::default() });
    rig.down(Down::Accepted { session: key, rid: 1, user: user("u_ada"), welcome });
    let entries = vec![pb::Entry { conv: "c_1".into(), seq: 1, ..pb::Entry::default() }; 9];
    let page = Frame { rid: 2, body: Some(FrameBody::Page(pb::Page { entries, ..pb::Page::default() })) };
    rig.down(Down::Reply { session: key, frame: Some(Box::new(page)) });
    let (flags, said) = split(&rig.read_bytes(key));
    assert_eq!(flags, [false, true]);
    assert!(said[0].contains(&token) && said[1].contains(r#""page""#), "{said:?}");
    let counted = rig.counted();
    assert_eq!(counted.messages_deflated, 1);
    assert!(counted.deflate_bytes_saved > 100, "{}", counted.deflate_bytes_saved);
}

#[test]
fn compressed_commands_are_commands_whole_or_cut() {
    let mut rig = Rig::new(on());
    let (key, other) = (live(&mut rig, OFFER), live(&mut rig, OFFER));
    let padded = format!("{TYPING}{}", " ".repeat(300));
    let bytes = compressed(padded.as_bytes());
    rig.receive(key, &bytes);
    assert_eq!(rig.effect_names(), ["typing 0"]);
    // The state is lent: two sessions in the middle of a message do not disturb one another.
    let (one, two) = bytes.split_at(20);
    rig.receive(key, one);
    rig.receive(other, one);
    rig.receive(other, two);
    rig.receive(key, two);
    assert_eq!(rig.effect_names(), ["typing 0", "typing 0"]);
    assert_eq!(rig.counted().inflated_bytes, 3 * padded.len() as u64);
}

#[test]
fn who_did_not_agree_may_not_compress() {
    for (config, offer) in [(on(), ""), (ShardConfig::default(), OFFER)] {
        let mut rig = Rig::new(config);
        let key = live(&mut rig, offer);
        rig.receive(key, &compressed(&[b' '; 300]));
        assert_eq!(rig.read(key), ["close 1002 protocol error"]);
    }
}

#[test]
fn a_bomb_closes_with_1009_and_is_counted() {
    let mut rig = Rig::new(on());
    let key = live(&mut rig, OFFER);
    // A megabyte of blanks in a kilobyte.
    rig.receive(key, &compressed(&vec![b' '; 1 << 20]));
    assert_eq!(rig.read(key), ["close 1009 message too big"]);
    let counted = rig.counted();
    assert_eq!((counted.inflations_refused, counted.closed_protocol), (1, 1));
}

#[test]
fn broken_data_and_bad_text_close_with_1007() {
    for payload in [&b"no deflate"[..], &[0x00, 0x01, 0x00, 0xfe, 0xff, 0xe9, 0x00]] {
        let mut rig = Rig::new(on());
        let key = live(&mut rig, OFFER);
        rig.receive(key, &compressed_raw(payload));
        assert_eq!(rig.read(key), ["close 1007 not UTF-8"]);
        assert_eq!(rig.counted().inflations_refused, 0);
    }
}

#[test]
fn what_inflates_is_paid_for_as_it_comes_out() {
    // Each message is within the limits and takes 100 bytes, but a thousand of them are 60 MB to read.
    let mut rig = Rig::new(on());
    let key = live(&mut rig, OFFER);
    let one = compressed(format!("{TYPING}{}", " ".repeat(60_000)).as_bytes());
    assert!(one.len() < 120, "{}", one.len());
    for _ in 0..1000 {
        rig.receive(key, &one);
    }
    assert_eq!(rig.read(key).last().map(String::as_str), Some("close 4504 too many frames"));
    assert!(rig.counted().inflated_bytes < 8 << 20, "{} B inflated", rig.counted().inflated_bytes);
    // In one read as well.
    let key = live(&mut rig, OFFER);
    let before = rig.counted().inflated_bytes;
    rig.receive(key, &one.repeat(1000));
    assert_eq!(rig.read(key).last().map(String::as_str), Some("close 4504 too many frames"));
    assert!(rig.counted().inflated_bytes - before < 8 << 20);
}

#[test]
fn a_closing_session_is_heard_but_not_inflated() {
    let mut rig = Rig::new(on());
    let key = live(&mut rig, OFFER);
    rig.close(key, roost_wire::CloseCode::Replaced);
    rig.read_bytes(key);
    let before = rig.counted().inflated_bytes;
    // Bombs and half a message do not hide the close frame behind them.
    let begun = [0x41, 0x81, 0, 0, 0, 0, 0xf2];
    let ended = [0x80, 0x81, 0, 0, 0, 0, 0x00];
    rig.receive(key, &[compressed(&vec![b' '; 1 << 20]), begun.to_vec()].concat());
    rig.effects();
    rig.receive(key, &[&ended[..], &[0x88, 0x80, 0, 0, 0, 0]].concat());
    assert_eq!(rig.effect_names(), ["close"]);
    assert_eq!(rig.counted().inflated_bytes, before);
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.shard.connections(), 0);
}

#[test]
fn who_agreed_gets_a_burst_compressed_too() {
    let mut rig = Rig::new(on());
    let keys = [live(&mut rig, OFFER), live(&mut rig, "")];
    rig.downs((1..=3).map(|seq| Down::Deliver {
        envelope: entry(seq, 2 * DEFLATE_BYTES_MIN),
        audience: roost_wire::link::Audience::Sessions(keys.into()),
    }));
    let [(agreed, said), (others, plain)] = keys.map(|key| split(&rig.read_bytes(key)));
    assert_eq!((agreed, others), (vec![true; 3], vec![false; 3]));
    assert_eq!(said, plain);
}
