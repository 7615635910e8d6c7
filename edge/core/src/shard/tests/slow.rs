//! The slow-consumer ladder, step by step.

use std::time::Duration;

use roost_wire::FrameBody;
use roost_wire::link::{Down, SessionKey};
use roost_wire::pb::{self, Frame};

use crate::ShardConfig;
use crate::testkit::{Rig, entry, text, typing};

const CHANGED: &str = r#"{"changed":{"rows":[],"sync":"","more":true}}"#;

fn small() -> ShardConfig {
    ShardConfig { outbound_bytes_max: 4096, outbound_frames_max: 64, ..ShardConfig::default() }
}

/// Delivers entries from `seq` on until one is withheld; returns its seq.
fn fill(rig: &mut Rig, key: SessionKey, mut seq: u64) -> u64 {
    let withheld = rig.counted().withheld;
    while rig.counted().withheld == withheld {
        rig.deliver(&entry(seq, 300), &[key]);
        seq += 1;
    }
    seq - 1
}

fn seqs(frames: &[String]) -> Vec<u64> {
    let seq = |frame: &String| frame.split(r#""seq":"#).nth(1)?.split(',').next()?.parse().ok();
    frames.iter().filter_map(seq).collect()
}

#[test]
fn ephemeral_pushes_are_dropped_first() {
    let mut rig = Rig::new(small());
    let key = rig.live();
    while rig.queued_bytes(key) <= 2048 {
        assert_eq!(rig.counted().drops_ephemeral, 0);
        rig.deliver(&entry(1, 300), &[key]);
    }
    let queued = rig.queued_bytes(key);
    rig.deliver(&typing(), &[key]);
    assert_eq!((rig.queued_bytes(key), rig.counted().drops_ephemeral), (queued, 1));
    rig.deliver(&entry(2, 300), &[key]);
    assert!(rig.queued_bytes(key) > queued, "a durable push still fits");
    rig.read_bytes(key);
    rig.deliver(&typing(), &[key]);
    assert_eq!(rig.read(key).len(), 1);
}

#[test]
fn a_durable_push_is_never_lost_silently() {
    let mut rig = Rig::new(small());
    let key = rig.live();
    let first_lost = fill(&mut rig, key, 1);
    assert!(rig.queued_bytes(key) <= 4096);
    // Behind: nothing is queued any more, not even what would fit.
    let queued = rig.queued_bytes(key);
    rig.deliver(&entry(first_lost + 1, 0), &[key]);
    rig.deliver(&typing(), &[key]);
    assert_eq!(rig.queued_bytes(key), queued);
    // Above a quarter it stays so.
    let mut got = rig.read_some(key, queued - 1500);
    rig.deliver(&entry(first_lost + 2, 0), &[key]);
    assert_eq!(rig.queued_bytes(key), 1500);
    // Drained to a quarter: one CHANGED, then pushes again.
    got.extend(rig.read_some(key, 600));
    rig.deliver(&entry(first_lost + 3, 0), &[key]);
    got.extend(rig.read_bytes(key));
    let frames = crate::testkit::show(&got);
    let changed = frames.iter().position(|frame| frame == CHANGED).expect("CHANGED");
    assert_eq!(seqs(&frames[..changed]), (1..first_lost).collect::<Vec<_>>());
    assert_eq!(seqs(&frames[changed..]), [first_lost + 3]);
    assert_eq!(frames.len(), first_lost as usize + 1);
    let counted = rig.counted();
    assert_eq!((counted.behind, counted.caught_up, counted.withheld, counted.drops_ephemeral), (1, 1, 3, 1));
}

#[test]
fn a_push_larger_than_the_whole_queue_becomes_changed_at_once() {
    let mut rig = Rig::new(small());
    let key = rig.live();
    rig.deliver(&entry(1, 5000), &[key]);
    assert_eq!(rig.read(key), [CHANGED]);
    rig.deliver(&entry(2, 10), &[key]);
    assert_eq!(seqs(&rig.read(key)), [2]);
}

#[test]
fn frames_are_limited_as_well_as_bytes() {
    let mut rig = Rig::new(ShardConfig { outbound_frames_max: 8, ..ShardConfig::default() });
    let key = rig.live();
    for seq in 1..=9 {
        rig.deliver(&entry(seq, 1), &[key]);
    }
    assert_eq!(seqs(&rig.read(key)), (1..=8).collect::<Vec<_>>());
    assert_eq!(rig.read(key), [CHANGED]);
}

#[test]
fn who_is_behind_and_reads_nothing_is_closed() {
    let mut rig = Rig::new(ShardConfig { behind_within: Duration::from_secs(10), ..small() });
    let key = rig.live();
    fill(&mut rig, key, 1);
    rig.pass(Duration::from_millis(9_999));
    assert_eq!(rig.shard.sessions(), 1);
    // A little progress buys time.
    let mut got = rig.read_some(key, 10);
    rig.pass(Duration::from_millis(9_999));
    assert_eq!(rig.shard.sessions(), 1);
    rig.pass(Duration::from_millis(200));
    assert_eq!((rig.shard.sessions(), rig.counted().closed_slow), (0, 1));
    assert_eq!(rig.effect_names().iter().filter(|name| *name == "gone u_ada").count(), 1);
    // What was queued still goes out whole, then the close frame.
    got.extend(rig.read_bytes(key));
    assert_eq!(crate::testkit::show(&got).last().unwrap(), "close 4010 slow consumer");
}

#[test]
fn who_reads_nothing_of_the_close_either_is_let_go() {
    let mut rig = Rig::new(ShardConfig { behind_within: Duration::from_secs(10), ..small() });
    let key = rig.live();
    fill(&mut rig, key, 1);
    rig.effects();
    rig.pass(Duration::from_secs(16));
    assert_eq!(rig.effect_names(), ["gone u_ada", "close"]);
    assert_eq!(rig.shard.connections(), 0);
}

#[test]
fn replies_always_fit_and_reading_pauses_until_they_are_read() {
    let mut rig = Rig::new(ShardConfig { outbound_frames_max: 1000, ..small() });
    let key = rig.live();
    fill(&mut rig, key, 1);
    for rid in 2..60 {
        rig.receive(key, &text(&format!(r#"{{"rid":{rid},"get":{{}}}}"#)));
        rig.reply(key, rid);
    }
    let effects = rig.effect_names();
    assert_eq!(effects.iter().filter(|name| *name == "pause").count(), 1);
    assert!(rig.queued_bytes(key) > 4096);
    let waiting = rig.queued_bytes(key);
    let mut got = rig.read_some(key, waiting - 2200);
    assert_eq!(rig.effect_names(), Vec::<String>::new(), "more than half still waits");
    got.extend(rig.read_some(key, 200));
    assert_eq!(rig.effect_names(), ["resume"]);
    got.extend(rig.read_bytes(key));
    let frames = crate::testkit::show(&got);
    assert_eq!(frames.iter().filter(|frame| frame.contains(r#""ok""#)).count(), 58, "no reply is lost");
    assert_eq!(rig.read(key), [CHANGED]);
}

#[test]
fn large_replies_to_a_session_that_reads_nothing_are_refused_above_their_limit() {
    let mut rig = Rig::new(ShardConfig { reply_bytes_max: 8192, ..small() });
    let key = rig.live();
    let ask: Vec<u8> = (2..102).flat_map(|rid| text(&format!(r#"{{"rid":{rid},"history":{{}}}}"#))).collect();
    rig.receive(key, &ask);
    let body = || Some(pb::Body { text: "x".repeat(3000), ..pb::Body::default() });
    let page = || pb::Page { entries: vec![pb::Entry { body: body(), ..pb::Entry::default() }], ..pb::Page::default() };
    for rid in 2..101 {
        let frame = Some(Box::new(Frame { rid, body: Some(FrameBody::Page(page())) }));
        rig.down(Down::Reply { session: key, frame });
    }
    // What tells that something was done always goes out.
    rig.reply(key, 101);
    assert!(rig.queued_bytes(key) < 8192 + 3100 + 99 * 150, "{} B", rig.queued_bytes(key));
    assert_eq!(rig.counted().replies_refused, 96);
    let got = rig.read(key);
    assert_eq!(got.len(), 100, "each command has its answer");
    assert!(got[..3].iter().all(|frame| frame.contains(r#""page""#)));
    assert_eq!(
        got[3],
        r#"{"rid":5,"error":{"code":401,"message":"read earlier replies first","retryable":true,"retry_after_ms":1000}}"#
    );
    assert_eq!(got[99], r#"{"rid":101,"ok":{}}"#);
    // Who has read is answered again, and all commands are over.
    rig.receive(key, &text(r#"{"rid":102,"history":{}}"#));
    rig.down(Down::Reply {
        session: key,
        frame: Some(Box::new(Frame { rid: 102, body: Some(FrameBody::Page(page())) })),
    });
    assert!(rig.read(key)[0].starts_with(r#"{"rid":102,"page""#));
}

#[test]
fn who_floods_us_with_pings_and_reads_nothing_is_paused_then_closed() {
    let mut rig = Rig::new(ShardConfig { behind_within: Duration::from_secs(10), ..small() });
    let key = rig.live();
    let pings: Vec<u8> = (0..70).flat_map(|_| text(r#"{"ping":{}}"#)).collect();
    rig.receive(key, &pings);
    assert_eq!(rig.effect_names(), ["write", "pause"]);
    // It is us who do not read, so this is no silence; but nothing moves either.
    rig.pass(Duration::from_millis(10_200));
    assert_eq!((rig.counted().closed_slow, rig.counted().closed_heartbeat), (1, 0));
}

#[test]
fn one_buffer_full_of_pings_cannot_queue_more_than_twice_the_limit() {
    let mut rig = Rig::new(small());
    let key = rig.live();
    let pings: Vec<u8> = (0..3000).flat_map(|_| text(r#"{"ping":{}}"#)).collect();
    rig.receive(key, &pings);
    assert!(rig.shard.outbound(key).unwrap().len() <= 2 * 64 + 1);
    assert_eq!(rig.counted().closed_slow, 1);
    assert_eq!(rig.read(key).last().unwrap(), "close 4010 slow consumer");
}

#[test]
fn a_paused_reader_that_reads_on_is_not_taken_for_silent() {
    let mut rig = Rig::new(ShardConfig { behind_within: Duration::from_secs(60), ..small() });
    let key = rig.live();
    let pings: Vec<u8> = (0..70).flat_map(|_| text(r#"{"ping":{}}"#)).collect();
    rig.receive(key, &pings);
    for _ in 0..4 {
        rig.pass(Duration::from_secs(50));
        rig.read_some(key, 13);
    }
    assert_eq!(rig.shard.sessions(), 1);
    rig.read_bytes(key);
    assert!(rig.effect_names().contains(&"resume".to_owned()));
    rig.pass(Duration::from_secs(74));
    assert_eq!(rig.shard.sessions(), 1, "its time begins anew");
    rig.pass(Duration::from_secs(2));
    assert_eq!((rig.shard.sessions(), rig.counted().closed_heartbeat), (0, 1));
}
