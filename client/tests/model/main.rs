//! The client's core against a model of a server, under loss, cuts, refusals, moves and restarts, in virtual time.
//!
//! Whatever happens: each message is stored once and in the order of sending, each of the sender's promises is kept,
//! and the app sees each conversation from 1 to its head, in order.

mod server;
mod world;

use proptest::prelude::*;
use world::{Action, World};

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        6 => (0..3u8).prop_map(Action::Send),
        4 => (0..4u8).prop_map(Action::OtherWrites),
        8 => (1..6u8).prop_map(Action::DeliverUp),
        8 => (1..6u8).prop_map(Action::DeliverDown),
        4 => (1..6u8).prop_map(Action::Take),
        6 => (1..3000u16).prop_map(Action::Advance),
        2 => Just(Action::Cut),
        2 => Just(Action::CutAfterTheServerReadAll),
        1 => Just(Action::LosePush),
        1 => Just(Action::RefuseNext),
        1 => Just(Action::UnknownNext { stored: true }),
        1 => Just(Action::UnknownNext { stored: false }),
        1 => Just(Action::RefuseSyncNext),
        1 => (0..2000u16).prop_map(|slot_ms| Action::Goaway { slot_ms }),
        1 => any::<bool>().prop_map(|keep| Action::Restart { keep }),
    ];
    prop::collection::vec(action, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn f38_each_send_is_stored_once_and_the_app_sees_no_gap(actions in actions(), seed in any::<u64>(), json in any::<bool>(), replaces in any::<bool>()) {
        let mut world = World::new(seed, json, replaces);
        for action in actions {
            world.act(action);
        }
        world.heal();
        world.check();
    }
}

/// The same as above for one run, so that a mistake in the model itself shows: something must have happened.
#[test]
fn f38_a_reply_lost_in_a_cut_is_asked_for_again_and_found() {
    let mut world = World::new(1, false, false);
    world.heal();
    world.act(Action::Send(0));
    world.act(Action::CutAfterTheServerReadAll);
    world.heal();
    world.check();
    assert_eq!(world.head(0), 1, "stored once");
    assert_eq!(world.dups(), 1, "by the first try");
}
