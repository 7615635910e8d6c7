use std::sync::Arc;
use std::time::Duration;

use roost_wire::link::{Audience, Down, Envelope, SessionKey};

use crate::testkit::{Rig, entry, text, topic};
use crate::{End, ShardConfig};

fn join(rig: &mut Rig, keys: &[SessionKey], name: &str) {
    for key in keys {
        rig.down(Down::Join { session: *key, topic: topic(name) });
        rig.turn();
    }
}

fn publish(rig: &mut Rig, envelope: &Arc<Envelope>, name: &str, except: Option<SessionKey>) {
    let audience = Audience::Topic { topic: topic(name), except };
    rig.down(Down::Deliver { envelope: envelope.clone(), audience });
}

#[test]
fn f07_a_push_reaches_every_session_named_once() {
    let mut rig = Rig::new(ShardConfig::default());
    let keys: Vec<_> = (0..5).map(|_| rig.live()).collect();
    rig.deliver(&entry(1, 3), &keys[..3]);
    rig.turn();
    let got: Vec<_> = keys.iter().map(|key| rig.read(*key).len()).collect();
    assert_eq!(got, [1, 1, 1, 0, 0]);
    assert_eq!(rig.counted().deliveries, 3);
}

#[test]
fn f10_a_topic_reaches_those_who_joined_and_stayed_except_one() {
    let mut rig = Rig::new(ShardConfig { fanout_slice: 2, ..ShardConfig::default() });
    let keys: Vec<_> = (0..6).map(|_| rig.live()).collect();
    join(&mut rig, &keys, "news");
    join(&mut rig, &keys[..1], "news");
    rig.down(Down::Leave { session: keys[4], topic: topic("news") });
    rig.shard.ended(keys[5], End::Eof, rig.now);
    publish(&mut rig, &entry(1, 3), "news", Some(keys[1]));
    publish(&mut rig, &entry(2, 3), "other", None);
    rig.turn();
    let got: Vec<_> = keys[..5].iter().map(|key| rig.read(*key).len()).collect();
    assert_eq!(got, [1, 0, 1, 1, 0]);
    for key in keys {
        rig.shard.ended(key, End::Eof, rig.now);
    }
    assert_eq!(rig.shard.topics.len(), 0, "topics of nobody are forgotten");
    let counted = rig.counted();
    assert_eq!((counted.topics_joined, counted.topics_left), (6, 6));
}

#[test]
fn the_bytes_of_a_push_are_shared_by_all_its_receivers() {
    let mut rig = Rig::new(ShardConfig::default());
    let (one, two) = (rig.live(), rig.live());
    let envelope = entry(1, 100);
    rig.deliver(&envelope, &[one, two]);
    let at = |rig: &Rig, key| rig.shard.outbound(key).unwrap().chunks().next().unwrap().as_ptr();
    assert_eq!(at(&rig, one), at(&rig, two));
    assert_eq!(at(&rig, one), envelope.message(roost_wire::Encoding::Json).as_ptr());
}

#[test]
fn a_fan_out_runs_in_slices() {
    let mut rig = Rig::new(ShardConfig { fanout_slice: 4, ..ShardConfig::default() });
    let keys: Vec<_> = (0..10).map(|_| rig.live()).collect();
    rig.turn();
    rig.deliver(&entry(1, 3), &keys);
    let mut done = vec![rig.counted().deliveries];
    assert!(rig.shard.next_deadline().is_some_and(|next| next <= rig.now), "a turn is due at once");
    while rig.shard.turn(rig.now) {
        done.push(rig.counted().deliveries);
    }
    done.push(rig.counted().deliveries);
    assert_eq!(done, [4, 8, 10]);
    assert_eq!(rig.counted().slices_exhausted, 2);
}

#[test]
fn a_reply_does_not_overtake_what_was_delivered_before_it() {
    let mut rig = Rig::new(ShardConfig { fanout_slice: 3, ..ShardConfig::default() });
    let keys: Vec<_> = (0..10).map(|_| rig.live()).collect();
    rig.turn();
    let last = keys[9];
    rig.receive(last, &text(r#"{"rid":2,"history":{"conv":"c_1"}}"#));
    rig.deliver(&entry(1, 1), &keys);
    rig.reply(last, 2);
    rig.deliver(&entry(2, 1), &[last]);
    assert_eq!(rig.read(last), Vec::<String>::new(), "the reply waits for its turn");
    rig.turn();
    let got = rig.read(last);
    assert_eq!(got.len(), 3);
    assert!(got[0].contains(r#""seq":1"#) && got[1].contains(r#""rid":2"#) && got[2].contains(r#""seq":2"#));
    // With nothing under way a reply goes out at once.
    rig.receive(last, &text(r#"{"rid":3,"history":{"conv":"c_1"}}"#));
    rig.reply(last, 3);
    assert_eq!(rig.read(last).len(), 1);
}

#[test]
fn who_joins_during_a_fan_out_gets_nothing_of_it_and_who_leaves_is_not_served_twice() {
    let mut rig = Rig::new(ShardConfig { fanout_slice: 2, ..ShardConfig::default() });
    let keys: Vec<_> = (0..9).map(|_| rig.live()).collect();
    rig.turn();
    join(&mut rig, &keys[..8], "news");
    publish(&mut rig, &entry(1, 1), "news", None);
    rig.down(Down::Join { session: keys[8], topic: topic("news") });
    rig.shard.turn(rig.now);
    // Four of eight are served, from the end. One of each half ends meanwhile.
    rig.shard.ended(keys[0], End::Error, rig.now);
    rig.shard.ended(keys[7], End::Error, rig.now);
    rig.turn();
    let got: Vec<_> = keys[1..].iter().map(|key| rig.read(*key).len()).collect();
    assert_eq!(got, [1, 1, 1, 1, 1, 1, 0, 0]);
}

#[test]
fn above_its_limit_deliveries_are_dropped_and_every_session_is_told_to_sync() {
    let config = ShardConfig { fanout_slice: 1, fanout_items_max: 4, ..ShardConfig::default() };
    let mut rig = Rig::new(config);
    let keys: Vec<_> = (0..3).map(|_| rig.live()).collect();
    rig.turn();
    rig.receive(keys[0], &text(r#"{"rid":2,"get":{}}"#));
    let deliver = |seq| Down::Deliver { envelope: entry(seq, 1), audience: Audience::Sessions(keys[..1].into()) };
    rig.downs((1..=10).map(deliver));
    rig.reply(keys[0], 2);
    rig.pass(Duration::from_millis(200));
    assert_eq!(rig.counted().fanout_overflow, 6);
    for (at, key) in keys.iter().enumerate() {
        let got = rig.read(*key);
        assert!(got.iter().any(|frame| frame.contains(r#""more":true"#)), "{at}: {got:?}");
        assert_eq!(got.iter().any(|frame| frame.contains(r#""rid":2"#)), at == 0, "replies always fit");
    }
    let counted = rig.counted();
    assert_eq!(counted.fanout_items_queued, counted.fanout_items_done);
}

#[test]
fn doubt_is_paced_and_reaches_every_live_session() {
    let mut rig = Rig::new(ShardConfig { doubt_sessions_per_second: 100, ..ShardConfig::default() });
    let keys: Vec<_> = (0..50).map(|_| rig.live()).collect();
    let waiting = rig.upgraded("");
    rig.turn();
    rig.shard.doubt(rig.now);
    rig.turn();
    let told = rig.counted().doubts_told;
    assert!((1..=10).contains(&told), "{told} at once");
    rig.pass(Duration::from_secs(1));
    for key in keys {
        assert_eq!(rig.read(key).len(), 1);
    }
    assert_eq!((rig.counted().doubts_told, rig.read(waiting).len()), (50, 0));
    // A second doubt while nothing is under way begins at once.
    rig.shard.doubt(rig.now);
    rig.turn();
    assert!(rig.counted().doubts_told > 50);
}

#[test]
fn a_doubt_during_another_reaches_those_who_were_told_already() {
    let mut rig = Rig::new(ShardConfig { doubt_sessions_per_second: 100, ..ShardConfig::default() });
    let keys: Vec<_> = (0..30).map(|_| rig.live()).collect();
    rig.shard.doubt(rig.now);
    rig.turn();
    assert!(rig.counted().doubts_told > 0);
    for key in &keys {
        rig.read(*key);
    }
    rig.shard.doubt(rig.now);
    rig.pass(Duration::from_secs(1));
    for key in keys {
        assert_eq!(rig.read(key).len(), 1);
    }
}
