//! The path for conformance tests and benchmarks.

use std::time::Duration;

use roost_wire::limits::ECHO_MESSAGE_BYTES_MAX;
use roost_wire::link::{Audience, Down, SessionKey};
use roost_wire::ws::{Header, MessageKind, OpCode, Side};

use crate::testkit::{Rig, control, message, text, upgrade_at};
use crate::{Effect, ShardConfig, bench_topic};

fn echo(rig: &mut Rig, more: &str) -> SessionKey {
    let key = rig.open();
    rig.receive(key, &upgrade_at("/echo", more));
    assert!(rig.read_bytes(key).starts_with(b"HTTP/1.1 101 "));
    rig.effects();
    key
}

fn with_echo() -> Rig {
    Rig::new(ShardConfig { bench_paths: true, compression: true, ..ShardConfig::default() })
}

#[test]
fn without_the_setting_there_is_no_echo() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = rig.open();
    rig.receive(key, &upgrade_at("/echo", ""));
    assert!(rig.effect_names()[0].starts_with("http open "), "it is for the HTTP service, which does not know it");
}

#[test]
fn what_comes_is_sent_back_as_it_came() {
    let mut rig = with_echo();
    let key = echo(&mut rig, "");
    rig.receive(key, &text("hello"));
    rig.receive(key, &control(9, b"!"));
    rig.receive(key, &message(MessageKind::Text, "ü".repeat(1000).as_bytes()));
    assert_eq!(rig.read(key), ["hello", "pong !", &"ü".repeat(1000)]);
    rig.receive(key, &message(MessageKind::Binary, &[0xff; 70_000]));
    let bytes = rig.read_bytes(key);
    let (header, at) = Header::decode(&bytes, Side::Client).unwrap().unwrap();
    assert_eq!((header.opcode, header.fin, &bytes[at..]), (OpCode::Binary, true, &[0xff; 70_000][..]));
    rig.receive(key, &control(8, &[0x03, 0xe8]));
    assert_eq!(rig.read(key), ["close 1000 "]);
    assert_eq!(rig.effect_names().last().map(String::as_str), Some("close"));
}

#[test]
fn echo_compresses_if_it_was_agreed_on() {
    let mut rig = with_echo();
    let key = echo(&mut rig, "Sec-WebSocket-Extensions: permessage-deflate\r\n");
    rig.receive(key, &text(&"la".repeat(200)));
    assert_eq!(rig.shard.outbound(key).unwrap().chunks().next().unwrap()[0], 0xc1);
    assert_eq!(rig.read(key), ["la".repeat(200)]);
}

#[test]
fn echo_takes_large_messages_in_many_fragments_and_no_larger_ones() {
    let mut rig = with_echo();
    let key = echo(&mut rig, "");
    let fragment = |first: u8| [&[first, 0xc0, 0, 0, 0, 0][..], &[7; 64]].concat();
    rig.receive(key, &fragment(0x02));
    for _ in 0..70_000 {
        rig.receive(key, &fragment(0x00));
    }
    rig.receive(key, &fragment(0x80));
    assert_eq!(rig.queued_bytes(key), 10 + 64 * 70_002);
    rig.read_bytes(key);
    let mut announced = vec![0x82, 0xff];
    announced.extend((ECHO_MESSAGE_BYTES_MAX as u64 + 1).to_be_bytes());
    announced.extend([0; 4]);
    rig.receive(key, &announced);
    assert_eq!(rig.read(key), ["close 1009 message too big"]);
}

#[test]
fn echo_is_no_stranger_and_pays_no_rate() {
    let mut rig = Rig::new(ShardConfig { bench_paths: true, unauthenticated_max: 1, ..ShardConfig::default() });
    let key = echo(&mut rig, "");
    rig.open();
    for _ in 0..20_000 {
        rig.receive(key, &text("x"));
        rig.read_bytes(key);
    }
    assert_eq!(rig.counted().throttles, 0);
    // But it ends like a session when nothing comes.
    rig.pass(Duration::from_secs(80));
    assert_eq!(rig.read(key), ["close 4002 heartbeat missed"]);
}

#[test]
fn who_reads_no_echo_is_not_read_and_then_closed() {
    let mut rig = with_echo();
    let key = echo(&mut rig, "");
    rig.receive(key, &message(MessageKind::Binary, &vec![0; 300_000]));
    assert_eq!(rig.effect_names(), ["write", "pause"]);
    rig.pass(Duration::from_secs(29));
    assert!(rig.shard.outbound(key).is_some());
    rig.read_bytes(key);
    assert_eq!(rig.effect_names(), ["resume"]);
    rig.receive(key, &message(MessageKind::Binary, &vec![0; 300_000]));
    rig.pass(Duration::from_secs(31));
    assert_eq!(rig.counted().closed_slow, 1);
    // However much one read brings, there is a limit.
    let mut rig = with_echo();
    let key = echo(&mut rig, "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8\r\n");
    let megabyte = roost_wire::ws::Deflater::new().compress(&vec![0; 1 << 20]).unwrap().to_vec();
    let mut bomb = [&[0xc2, 0xfe][..], &u16::try_from(megabyte.len()).unwrap().to_be_bytes(), &[0; 4]].concat();
    bomb.extend(megabyte);
    rig.receive(key, &bomb.repeat(100));
    assert_eq!(rig.counted().closed_slow, 1);
    assert!(rig.queued_bytes(key) <= 65 << 20, "{} B", rig.queued_bytes(key));
}

#[test]
fn who_breaks_the_rules_is_told_and_ended_by_us_at_once() {
    // RFC 6455 §7.1.1: the server ends the transport first, or the peer waits for it.
    let mut rig = with_echo();
    let key = echo(&mut rig, "");
    rig.receive(key, &[0xf1, 0x80, 0, 0, 0, 0]);
    assert_eq!(rig.read(key), ["close 1002 protocol error"]);
    assert_eq!(rig.effect_names().last().map(String::as_str), Some("close"));
}

fn at_broadcast(rig: &mut Rig) -> SessionKey {
    let key = rig.open();
    rig.receive(key, &upgrade_at("/broadcast", "Sec-WebSocket-Extensions: permessage-deflate\r\n"));
    let answer = String::from_utf8(rig.read_bytes(key)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 ") && !answer.contains("deflate"), "{answer}");
    rig.effects();
    key
}

/// Plays the loop of a node with this shard alone.
fn hand_round(rig: &mut Rig) {
    for effect in rig.effects() {
        if let Effect::Broadcast(envelope) = effect {
            rig.down(Down::Deliver { envelope, audience: Audience::Topic { topic: bench_topic(), except: None } });
        }
    }
}

#[test]
fn what_is_said_to_everybody_reaches_who_is_there_and_nobody_else() {
    let mut rig = with_echo();
    let (ada, bob, left) = (at_broadcast(&mut rig), at_broadcast(&mut rig), at_broadcast(&mut rig));
    let (echo, live) = (echo(&mut rig, ""), rig.live());
    rig.receive(left, &control(8, &[0x03, 0xe8]));
    rig.read(live);
    rig.receive(ada, &text("hello"));
    rig.receive(bob, &message(MessageKind::Binary, b"\x00\xff"));
    hand_round(&mut rig);
    for key in [ada, bob] {
        let bytes = rig.read_bytes(key);
        assert_eq!(bytes, [&b"\x81\x05hello"[..], b"\x82\x02\x00\xff"].concat());
    }
    assert!(rig.read(echo).is_empty() && rig.read(live).is_empty());
    assert_eq!(rig.read(left), ["close 1000 "]);
}

#[test]
fn who_reads_nothing_of_what_everybody_hears_is_held_to_its_queue() {
    let mut rig = with_echo();
    let (ada, bob) = (at_broadcast(&mut rig), at_broadcast(&mut rig));
    for _ in 0..1000 {
        rig.receive(ada, &message(MessageKind::Binary, &[7; 1000]));
        hand_round(&mut rig);
        assert_eq!(rig.read_bytes(ada).len(), 1004);
    }
    let max = ShardConfig::default().outbound_bytes_max;
    assert!(rig.queued_bytes(bob) <= max && rig.queued_bytes(bob) > max / 4, "{}", rig.queued_bytes(bob));
}
