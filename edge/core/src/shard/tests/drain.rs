use std::time::Duration;

use roost_wire::CloseCode;

use crate::testkit::{Rig, text};
use crate::{HttpDown, ShardConfig};

fn field(frame: &str, name: &str) -> u64 {
    let rest = frame.split(&format!(r#""{name}":"#)).nth(1).unwrap_or_else(|| panic!("{name} in {frame}"));
    rest.split([',', '}']).next().unwrap().parse().unwrap()
}

#[test]
fn a_drain_gives_slots_over_its_window_and_then_closes() {
    let mut rig = Rig::new(ShardConfig::default());
    let keys: Vec<_> = (0..40).map(|_| rig.live()).collect();
    let (window, deadline) = (Duration::from_secs(20), Duration::from_secs(30));
    rig.shard.drain("drain", window, deadline, vec!["wss://two.example/ws".into()], rig.now, 7);
    let began = rig.now;
    let mut slots = Vec::new();
    while slots.len() < keys.len() {
        rig.pass(Duration::from_millis(64));
        let passed = u64::try_from((rig.now - began).as_millis()).unwrap();
        assert!(passed <= 3_000, "clients are told early");
        for key in &keys {
            for frame in rig.read(*key) {
                assert!(frame.contains(r#""urls":["wss://two.example/ws"]"#));
                assert!(field(&frame, "deadline_ms") + passed <= 30_200);
                slots.push(field(&frame, "slot_ms") + passed);
            }
        }
    }
    assert_eq!(slots.len(), keys.len());
    // Each quarter of the window gets about a quarter of the sessions.
    for quarter in 0..4 {
        let here = slots.iter().filter(|slot| **slot / 5_000 == quarter).count();
        assert!((8..=12).contains(&here), "{here} in quarter {quarter}: {slots:?}");
    }
    // A session that begins during the drain is asked as well.
    let late = rig.upgraded("");
    rig.receive(late, &text(r#"{"rid":1,"connect":{"guest":"Bob"}}"#));
    rig.accept(late, 0);
    assert!(rig.read(late)[1].starts_with(r#"{"goaway":"#));
    rig.pass(deadline - (rig.now - began) - Duration::from_millis(1));
    assert_eq!(rig.shard.sessions(), 41);
    rig.pass(Duration::from_millis(200));
    assert_eq!((rig.shard.sessions(), rig.counted().closed_drain), (0, 41));
    assert_eq!(rig.read(keys[0]), ["close 4000 draining"]);
}

#[test]
fn the_same_seed_gives_the_same_slots() {
    let slots = |seed| {
        let mut rig = Rig::new(ShardConfig::default());
        let keys: Vec<_> = (0..8).map(|_| rig.live()).collect();
        rig.shard.drain("drain", Duration::from_secs(8), Duration::from_secs(9), vec![], rig.now, seed);
        rig.pass(Duration::from_secs(2));
        keys.iter().map(|key| field(&rig.read(*key)[0], "slot_ms")).collect::<Vec<_>>()
    };
    assert_eq!(slots(1), slots(1));
    assert_ne!(slots(1), slots(2));
}

#[test]
fn a_drain_leaves_requests_to_the_http_service_and_a_stop_does_not() {
    let mut rig = Rig::new(ShardConfig::default());
    let http = rig.open();
    rig.receive(http, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    rig.open();
    rig.live();
    rig.effects();
    rig.shard.drain("drain", Duration::ZERO, Duration::from_millis(500), vec![], rig.now, 1);
    rig.pass(Duration::from_secs(7));
    assert_eq!(rig.effect_names(), ["gone u_ada", "close"]);
    assert_eq!(rig.shard.connections(), 2);
    rig.shard.http(http, HttpDown::Data("x".into()), rig.now);
    rig.effects();
    rig.shard.close_all(CloseCode::GoingAway, rig.now);
    assert!(rig.shard.next_deadline().is_some_and(|next| next <= rig.now));
    rig.turn();
    let mut effects = rig.effect_names();
    effects.sort();
    assert_eq!(effects, ["close", "close", "http end"]);
    assert_eq!(rig.shard.connections(), 0);
    assert_eq!(rig.shard.opened(crate::testkit::peer(), rig.now), None, "no more");
}

#[test]
fn a_stop_closes_sessions_with_its_code_in_slices() {
    let mut rig = Rig::new(ShardConfig { fanout_slice: 4, ..ShardConfig::default() });
    let keys: Vec<_> = (0..10).map(|_| rig.live()).collect();
    rig.turn();
    rig.shard.close_all(CloseCode::GoingAway, rig.now);
    assert!(rig.shard.turn(rig.now));
    assert_eq!(rig.shard.sessions(), 6);
    rig.turn();
    for key in keys {
        assert_eq!(rig.read(key), ["close 1001 going away"]);
    }
    rig.pass(Duration::from_millis(5_100));
    rig.effects();
    assert_eq!((rig.shard.connections(), rig.shard.next_deadline()), (0, None));
}
