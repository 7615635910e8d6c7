//! Deliveries that come together go out together.

use roost_wire::link::{Audience, Down, SessionKey};

use crate::ShardConfig;
use crate::testkit::{Rig, entry, text, topic, typing};

/// Sessions that joined "news".
fn readers(rig: &mut Rig, count: usize) -> Vec<SessionKey> {
    let keys: Vec<_> = (0..count).map(|_| rig.live()).collect();
    rig.downs(keys.iter().map(|key| Down::Join { session: *key, topic: topic("news") }));
    rig.turn();
    keys
}

fn sliced(fanout_slice: usize) -> Rig {
    Rig::new(ShardConfig { fanout_slice, ..ShardConfig::default() })
}

fn publish(seq: u64) -> Down {
    publish_but(seq, None)
}

fn publish_but(seq: u64, except: Option<SessionKey>) -> Down {
    Down::Deliver { envelope: entry(seq, 3), audience: Audience::Topic { topic: topic("news"), except } }
}

fn deliver(seq: u64, bytes: usize, keys: &[SessionKey]) -> Down {
    Down::Deliver { envelope: entry(seq, bytes), audience: Audience::Sessions(keys.into()) }
}

fn seqs(frames: &[String]) -> Vec<u64> {
    let seq = |frame: &String| frame.split(r#""seq":"#).nth(1)?.split(',').next()?.parse().ok();
    frames.iter().filter_map(seq).collect()
}

#[test]
fn a_receiver_gets_all_of_a_burst_before_the_next_one_gets_any() {
    let mut rig = sliced(2);
    let keys = readers(&mut rig, 5);
    let before = rig.counted().frames_out;
    rig.downs((1..=8).map(publish));
    // A slice counts sends: one piece to each of the first two.
    let queued = |rig: &Rig| keys.iter().map(|key| rig.shard.outbound(*key).unwrap().len()).collect::<Vec<_>>();
    assert_eq!(queued(&rig), [0, 0, 0, 1, 1]);
    assert_eq!(rig.counted().deliveries, 16);
    let piece = |rig: &Rig, key| rig.shard.outbound(key).unwrap().chunks().next().unwrap().as_ptr();
    assert_eq!(piece(&rig, keys[3]), piece(&rig, keys[4]), "nobody has a copy of their own");
    rig.shard.turn(rig.now);
    assert_eq!(queued(&rig), [0, 1, 1, 1, 1]);
    rig.turn();
    for key in keys {
        assert_eq!(seqs(&rig.read(key)), (1..=8).collect::<Vec<_>>(), "in order");
    }
    let counted = rig.counted();
    assert_eq!((counted.fanouts, counted.deliveries), (8, 40));
    assert_eq!(counted.frames_out - before, 40, "each frame of a piece counts");
    assert_eq!(counted.fanout_items_queued, counted.fanout_items_done);
}

#[test]
fn a_burst_that_comes_while_an_envelope_is_under_way_is_the_next_job() {
    let mut rig = sliced(2);
    let keys = readers(&mut rig, 4);
    rig.downs([publish(1)]);
    assert_eq!(rig.counted().deliveries, 2);
    for seq in 2..=5 {
        rig.shard.down(publish(seq), rig.now);
    }
    rig.shard.turn(rig.now);
    assert_eq!(rig.counted().deliveries, 4, "the first goes on alone");
    rig.shard.turn(rig.now);
    assert_eq!(rig.counted().deliveries, 12, "then two receivers get the other four, each as one piece");
    rig.turn();
    for key in keys {
        assert_eq!(seqs(&rig.read(key)), [1, 2, 3, 4, 5]);
    }
}

#[test]
fn nothing_is_gathered_over_what_stands_between_or_goes_elsewhere() {
    let mut rig = sliced(1000);
    let keys = readers(&mut rig, 2);
    let (late, gone) = (rig.live(), keys[1]);
    rig.receive(keys[0], &text(r#"{"rid":2,"history":{"conv":"c_1"}}"#));
    rig.downs([
        publish(1),
        Down::Join { session: late, topic: topic("news") },
        publish(2),
        Down::Reply { session: keys[0], frame: None },
        publish_but(3, Some(keys[0])),
        publish_but(4, Some(gone)),
        deliver(5, 3, &[late]),
        deliver(6, 3, &[late, gone]),
        Down::Leave { session: gone, topic: topic("news") },
        publish(7),
    ]);
    rig.turn();
    let got = [keys[0], gone, late].map(|key| seqs(&rig.read(key)));
    assert_eq!(got, [vec![1, 2, 4, 7], vec![1, 2, 3, 6], vec![2, 3, 4, 5, 6, 7]]);
}

#[test]
fn a_reply_between_two_pushes_stays_there() {
    let mut rig = sliced(1000);
    let key = readers(&mut rig, 1)[0];
    rig.receive(key, &text(r#"{"rid":2,"get":{"conv":"c_1"}}"#));
    let ok = roost_wire::FrameBody::Ok(roost_wire::pb::Ok {});
    let frame = Some(Box::new(roost_wire::pb::Frame { rid: 2, body: Some(ok) }));
    rig.downs([publish(1), Down::Reply { session: key, frame }, publish(2)]);
    let got = rig.read(key);
    assert!(got[0].contains(r#""seq":1"#) && got[1].contains(r#""rid":2"#) && got[2].contains(r#""seq":2"#), "{got:?}");
}

#[test]
fn a_job_is_limited_in_envelopes_and_in_bytes() {
    for (count, bytes, gathered) in [(40, 1, 16), (5, 9_000, 2), (5, 20_000, 1), (2, 1, 2)] {
        let mut rig = sliced(1);
        let key = rig.live();
        rig.turn();
        rig.downs((1..=count).map(|seq| deliver(seq, bytes, &[key])));
        assert_eq!(rig.counted().deliveries, gathered, "{count} of {bytes} B");
        rig.turn();
        assert_eq!(seqs(&rig.read(key)), (1..=count).collect::<Vec<_>>());
    }
}

#[test]
fn each_push_of_a_burst_climbs_the_ladder_by_itself() {
    let mut rig = Rig::new(ShardConfig { outbound_frames_max: 4, ..ShardConfig::default() });
    let key = rig.live();
    let audience = Audience::Sessions([key].into());
    let typing = || Down::Deliver { envelope: typing(), audience: audience.clone() };
    let mut burst: Vec<_> = (1..=3).map(|seq| deliver(seq, 3, &[key])).collect();
    burst.push(typing());
    burst.extend((4..=6).map(|seq| deliver(seq, 3, &[key])));
    rig.downs(burst);
    let counted = rig.counted();
    assert_eq!((counted.deliveries, counted.drops_ephemeral), (4, 1));
    assert_eq!((counted.withheld, counted.behind), (2, 1));
    assert_eq!(seqs(&rig.read(key)), [1, 2, 3, 4]);
    assert!(rig.read(key)[0].contains(r#""more":true"#), "and then it is told to sync");
}

#[test]
fn of_a_burst_that_does_not_fit_as_a_whole_comes_what_fits() {
    let mut rig = Rig::new(ShardConfig { outbound_bytes_max: 4096, ..ShardConfig::default() });
    let key = rig.live();
    rig.downs((1..=3).map(|seq| deliver(seq, 1500, &[key])));
    let counted = rig.counted();
    assert_eq!((counted.deliveries, counted.withheld, counted.behind), (2, 1, 1));
    assert_eq!(seqs(&rig.read(key)), [1, 2]);
}

#[test]
fn a_receiver_that_ends_during_a_burst_gets_no_more_and_the_others_all() {
    let mut rig = sliced(1);
    let keys = readers(&mut rig, 4);
    rig.downs((1..=3).map(publish));
    rig.shard.ended(keys[0], crate::End::Error, rig.now);
    rig.shard.ended(keys[3], crate::End::Error, rig.now);
    rig.turn();
    for key in &keys[1..3] {
        assert_eq!(seqs(&rig.read(*key)), [1, 2, 3]);
    }
    assert_eq!(rig.counted().deliveries, 9, "one of those who ended had been served");
}

#[test]
fn an_overflow_in_a_burst_drops_its_end_and_begins_a_doubt() {
    let mut rig = Rig::new(ShardConfig { fanout_items_max: 4, ..ShardConfig::default() });
    let key = readers(&mut rig, 1)[0];
    rig.downs((1..=6).map(publish));
    let got = rig.read(key);
    assert_eq!(seqs(&got), [1, 2, 3, 4]);
    assert!(got[4].contains(r#""more":true"#));
    assert_eq!((rig.counted().fanout_overflow, rig.counted().doubts), (2, 2));
}

#[test]
fn pushes_that_may_be_lost_go_as_one_piece_and_not_with_those_that_may_not() {
    let mut rig = sliced(1000);
    let keys = readers(&mut rig, 2);
    let audience = Audience::Sessions(keys.clone().into());
    let typing = || Down::Deliver { envelope: typing(), audience: audience.clone() };
    rig.downs([typing(), typing(), typing()]);
    let queued = |rig: &Rig| keys.iter().map(|key| rig.shard.outbound(*key).unwrap().len()).collect::<Vec<_>>();
    assert_eq!(queued(&rig), [1, 1]);
    assert_eq!(rig.counted().deliveries, 6);
    rig.turn();
    keys.iter().for_each(|key| assert_eq!(rig.read(*key).len(), 3));
    rig.downs([typing(), deliver(1, 3, &keys), typing()]);
    assert_eq!(queued(&rig), [3, 3], "each is judged by its own lane");
}
