use std::time::Duration;

use roost_wire::link::Down;

use crate::ShardConfig;
use crate::testkit::{Rig, UNIX_MS, control, text};

#[test]
fn silence_is_ended_after_the_heartbeats_missed_and_not_before() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = rig.live();
    rig.pass(Duration::from_millis(74_999));
    assert_eq!(rig.read(key), Vec::<String>::new());
    rig.pass(Duration::from_millis(200));
    assert_eq!(rig.read(key), ["close 4002 heartbeat missed"]);
    assert_eq!(rig.counted().closed_heartbeat, 1);
}

#[test]
fn any_byte_is_a_sign_of_life() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = rig.live();
    for (round, bytes) in
        [text(r#"{"ping":{}}"#), control(9, b""), control(10, b""), text(r#"{"pong":{}}"#), vec![0x81]]
            .iter()
            .enumerate()
    {
        rig.pass(Duration::from_secs(70));
        rig.receive(key, bytes);
        assert!(!rig.read(key).iter().any(|frame| frame.starts_with("close")), "round {round}");
    }
    assert_eq!(rig.shard.sessions(), 1);
}

#[test]
fn what_we_send_is_no_sign_of_life() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = rig.live();
    for seq in 0..10 {
        rig.pass(Duration::from_secs(8));
        rig.deliver(&crate::testkit::entry(seq, 10), &[key]);
        rig.read_bytes(key);
    }
    assert_eq!((rig.shard.sessions(), rig.counted().closed_heartbeat), (0, 1));
}

#[test]
fn a_token_expires_unless_it_is_refreshed() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = rig.live_until(UNIX_MS + 10_000);
    rig.pass(Duration::from_secs(9));
    rig.receive(key, &text(r#"{"rid":2,"refresh":{"token":"newer"}}"#));
    assert_eq!(rig.effect_names(), ["refresh 2"]);
    rig.down(Down::Extend { session: key, expires: UNIX_MS + 20_000 });
    rig.reply(key, 2);
    rig.pass(Duration::from_millis(10_999));
    assert_eq!(rig.read(key), [r#"{"rid":2,"ok":{}}"#]);
    rig.pass(Duration::from_millis(100));
    assert_eq!(rig.read(key), ["close 4001 token expired"]);
    assert_eq!(rig.counted().closed_token_expired, 1);
}

#[test]
fn a_token_may_be_shortened_and_the_wall_clock_may_be_set() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = rig.live();
    rig.shard.wall_clock(UNIX_MS + 3_600_000, rig.now);
    rig.down(Down::Extend { session: key, expires: UNIX_MS + 3_600_000 + 1_000 });
    rig.pass(Duration::from_millis(1_100));
    assert_eq!(rig.read(key), ["close 4001 token expired"]);
}

#[test]
fn a_token_that_has_expired_already_ends_the_session_at_once() {
    let mut rig = Rig::new(ShardConfig::default());
    let key = rig.upgraded("");
    rig.receive(key, &text(r#"{"rid":1,"connect":{"token":"old"}}"#));
    rig.accept(key, UNIX_MS - 1);
    rig.pass(Duration::from_millis(64));
    assert_eq!(rig.read(key)[1], "close 4001 token expired");
}

#[test]
fn timers_of_many_sessions_are_spread_over_turns() {
    let mut rig = Rig::new(ShardConfig::default());
    let keys: Vec<_> = (0..1_500).map(|_| rig.open()).collect();
    rig.now += Duration::from_secs(11);
    assert!(rig.shard.turn(rig.now), "more timers are due than one turn runs");
    rig.turn();
    assert_eq!(rig.counted().refused_head_late, keys.len() as u64);
}

#[test]
fn a_shard_without_work_has_no_deadline() {
    let mut rig = Rig::new(ShardConfig::default());
    assert_eq!(rig.shard.next_deadline(), None);
    let key = rig.live();
    assert!(rig.shard.next_deadline().is_some_and(|next| next > rig.now));
    rig.shard.ended(key, crate::End::Eof, rig.now);
    rig.effects();
    assert_eq!(rig.shard.next_deadline(), None);
}
