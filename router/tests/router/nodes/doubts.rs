//! What was lost between nodes is noticed, and those whom it may concern are told to sync.

use std::sync::Arc;
use std::time::Duration;

use roost_router::{Notice, RouterConfig};
use roost_storage::MemoryStore;
use roost_storage::testkit::FaultyStore;

use super::{Nodes, doubted, nodes, nodes_with, seqs};

const DOUBTS: &str = "roost_router_bus_doubts_total";
/// Just below and above `gap_after`.
const SOON: Duration = Duration::from_millis(400);
const LATE: Duration = Duration::from_millis(600);

#[tokio::test(start_paused = true)]
async fn a_lost_parcel_is_doubted_after_a_while_and_one_that_is_late_is_not() {
    let nodes = nodes(2);
    let (a, b, ada, bob) = nodes.ada_and_bob().await;
    let conv = a.direct(&ada, "bob").await;
    nodes.deliver().await;
    a.send(&ada, &conv, "1", "x").await;
    nodes.settle().await;
    let late = nodes.take(1);
    // Another conversation: nothing in it shows that something is missing.
    a.enter("eve").await;
    nodes.deliver().await;
    nodes.pass(SOON).await;
    nodes.beat().await;
    assert!(!doubted(b, &bob));
    nodes.hear(1, late).await;
    assert_eq!(seqs(b, &bob), [1]);
    nodes.pass(LATE).await;
    nodes.beat().await;
    assert_eq!((doubted(b, &bob), nodes.metric(1, DOUBTS)), (false, 0));

    a.send(&ada, &conv, "2", "x").await;
    nodes.settle().await;
    let lost = nodes.take(1);
    a.enter("fay").await;
    nodes.deliver().await;
    assert_eq!(nodes.metric(1, "roost_router_parcel_gaps_total"), 2);
    nodes.pass(LATE).await;
    nodes.beat().await;
    assert_eq!((doubted(b, &bob), nodes.metric(1, DOUBTS)), (true, 1));
    // It comes after all: it was given up, and whoever synced has it.
    nodes.hear(1, lost).await;
    nodes.pass(LATE).await;
    nodes.beat().await;
    assert_eq!((doubted(b, &bob), nodes.metric(1, DOUBTS)), (false, 1));
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_shows_that_the_last_parcel_was_lost() {
    let nodes = nodes(2);
    let (a, b, ada, bob) = nodes.ada_and_bob().await;
    let conv = a.direct(&ada, "bob").await;
    nodes.deliver().await;
    a.send(&ada, &conv, "1", "x").await;
    nodes.lose_all().await;
    nodes.pass(LATE).await;
    nodes.beat().await;
    assert!(!doubted(b, &bob), "it was noticed this moment");
    nodes.pass(LATE).await;
    nodes.beat().await;
    assert!(doubted(b, &bob));
    assert_eq!(b.sync(&bob, "", 0).await.rows[0].head, 1);
    for _ in 0..5 {
        nodes.pass(LATE).await;
        nodes.beat().await;
    }
    assert!(!doubted(b, &bob), "a doubt is told once");
}

#[tokio::test(start_paused = true)]
async fn silence_is_doubted_once_and_its_end_shows_what_was_missed() {
    let nodes = nodes(2);
    let (a, b, ada, bob) = nodes.ada_and_bob().await;
    let conv = a.direct(&ada, "bob").await;
    nodes.beat().await;
    nodes.pass(Duration::from_secs(4)).await;
    b.router.beat();
    assert!(!doubted(b, &bob));
    nodes.pass(Duration::from_secs(2)).await;
    b.router.beat();
    assert!(doubted(b, &bob));
    assert_eq!(nodes.metric(1, "roost_router_nodes"), 0);
    nodes.pass(Duration::from_secs(60)).await;
    b.router.beat();
    assert!(!doubted(b, &bob));
    a.send(&ada, &conv, "1", "x").await;
    nodes.lose_all().await;
    // The bus is back.
    nodes.beat().await;
    nodes.pass(LATE).await;
    nodes.beat().await;
    assert!(doubted(b, &bob));
    assert_eq!((nodes.metric(1, "roost_router_nodes"), nodes.metric(1, "roost_router_node_silences_total")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_starts_anew_leaves_a_doubt_and_its_old_parcels_count_no_more() {
    let mut nodes = nodes(2);
    let (ada, bob) = (nodes.nodes[0].enter("ada").await, nodes.nodes[1].enter("bob").await);
    nodes.deliver().await;
    let conv = nodes.nodes[0].direct(&ada, "bob").await;
    nodes.deliver().await;
    nodes.nodes[0].send(&ada, &conv, "1", "x").await;
    nodes.settle().await;
    let old = nodes.take(1);
    nodes.restart(0, 2);
    nodes.beat().await;
    assert!(doubted(&nodes.nodes[1], &bob));
    nodes.hear(1, old).await;
    assert_eq!(seqs(&nodes.nodes[1], &bob), Vec::<u64>::new());
    assert_eq!(nodes.metric(1, "roost_router_parcels_stale_total"), 1);
    let ada = nodes.nodes[0].enter("ada").await;
    nodes.nodes[0].send(&ada, &conv, "2", "x").await;
    nodes.deliver().await;
    // Nothing was pushed here before: the client sees the gap, and asks.
    assert_eq!(seqs(&nodes.nodes[1], &bob), [2]);
    assert_eq!(nodes.metric(1, DOUBTS), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_of_whose_earlier_life_nothing_was_heard_leaves_a_doubt_and_a_new_one_none_where_nobody_is() {
    let store = Arc::new(FaultyStore::new(MemoryStore::default()));
    let mut nodes = Nodes::strange(&store, 2, RouterConfig::default());
    let (ada, bob) = (nodes.nodes[0].enter("ada").await, nodes.nodes[1].enter("bob").await);
    // A token names him there too.
    nodes.nodes[0].enter("bob").await;
    let conv = nodes.nodes[0].direct(&ada, "bob").await;
    nodes.nodes[0].send(&ada, &conv, "1", "x").await;
    // The nodes were kept apart for as long as this life lasted.
    nodes.lose_all().await;
    nodes.restart(0, 2);
    nodes.beat().await;
    assert!(doubted(&nodes.nodes[1], &bob));
    assert_eq!(nodes.nodes[1].sync(&bob, "", 0).await.rows[0].head, 1);
    assert_eq!((nodes.metric(0, DOUBTS), nodes.metric(1, DOUBTS)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_in_good_order_leaves_no_doubt() {
    let nodes = nodes(2);
    let (a, b, ada, bob) = nodes.ada_and_bob().await;
    let conv = a.direct(&ada, "bob").await;
    nodes.deliver().await;
    a.send(&ada, &conv, "1", "x").await;
    a.settle().await;
    a.router.leave();
    nodes.deliver().await;
    nodes.pass(Duration::from_secs(60)).await;
    b.router.beat();
    assert_eq!(seqs(b, &bob), [1]);
    assert_eq!(nodes.metric(1, DOUBTS), 0);
    assert_eq!(nodes.metric(1, "roost_router_users_elsewhere"), 0);
}

#[tokio::test(start_paused = true)]
async fn who_connects_while_something_is_lost_is_not_called_fresh() {
    use roost_router::auth::Scope;
    use roost_storage::testkit::Op;
    use roost_wire::link::Up;
    use roost_wire::pb;

    use crate::gated::GatedStore;
    use crate::harness::Got;

    let nodes = Nodes::over(&Arc::new(GatedStore::default()), 2, RouterConfig::default());
    let (a, b, ada, bob) = nodes.ada_and_bob().await;
    let conv = a.direct(&ada, "bob").await;
    nodes.deliver().await;
    let sync = b.sync(&bob, "", 0).await.sync;
    b.leave(&bob);
    nodes.deliver().await;
    let held = b.store.hold(Op::LastChange);
    let (session, token) = (b.next_key(), b.token("bob", "", Scope::User));
    let connect = pb::Connect { token, device: "phone".into(), sync, ..pb::Connect::default() };
    let peer = ([127, 0, 0, 1], 1).into();
    b.router.submit(&mut vec![Up::Connect { session, rid: 1, connect, bearer: None, peer }]);
    held.read.await.unwrap();
    nodes.take(0).into_iter().for_each(|parcel| a.router.hear(parcel));
    // Written after the look at the store; its parcel is lost, and that is noticed before the session is let in.
    a.send(&ada, &conv, "1", "x").await;
    a.settle().await;
    nodes.take(1);
    a.router.beat();
    nodes.take(1).into_iter().for_each(|parcel| b.router.hear(parcel));
    nodes.pass(LATE).await;
    b.router.beat();
    held.go.send(()).unwrap();
    let told = b.wait(|edge| edge.told.get(&session).cloned()).await;
    assert!(matches!(&told[0], Got::Accepted(welcome) if !welcome.fresh), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn doubts_that_come_together_are_told_together() {
    let config = RouterConfig { doubt_interval: Duration::from_secs(10), ..RouterConfig::default() };
    let nodes = nodes_with(3, config);
    let bob = nodes.nodes[1].enter("bob").await;
    nodes.deliver().await;
    // Two nodes lose something one after the other.
    for (place, told) in [(0, true), (2, false)] {
        nodes.nodes[place].enter("eve").await;
        nodes.lose_all().await;
        nodes.beat().await;
        nodes.pass(LATE).await;
        nodes.beat().await;
        assert_eq!(doubted(&nodes.nodes[1], &bob), told);
    }
    assert_eq!(nodes.metric(1, DOUBTS), 2);
    nodes.pass(Duration::from_secs(10)).await;
    nodes.beat().await;
    assert!(doubted(&nodes.nodes[1], &bob), "the second one, when its time had come");
}

#[tokio::test(start_paused = true)]
async fn more_parcels_behind_a_hole_than_are_remembered_are_a_doubt_at_once() {
    let nodes = nodes_with(2, RouterConfig { parcels_ahead_max: 8, ..RouterConfig::default() });
    let [a, b] = nodes.nodes.as_slice() else { panic!() };
    let bob = b.enter("bob").await;
    nodes.deliver().await;
    a.enter("ada").await;
    nodes.lose_all().await;
    for number in 0..10 {
        a.enter(&format!("user{number}")).await;
    }
    let parcels = nodes.take(1);
    assert!(parcels.iter().all(|parcel| matches!(parcel.notice, Notice::Came { .. } | Notice::SessionTaken { .. })));
    nodes.hear(1, parcels).await;
    assert!(doubted(b, &bob));
}

#[tokio::test(start_paused = true)]
async fn a_node_alone_posts_nothing_and_looks_at_nothing_twice() {
    use crate::harness::house;
    use roost_storage::testkit::Op;
    use roost_wire::{FrameBody, pb};

    let house = house();
    let (ada, bob) = (house.enter("ada").await, house.enter("bob").await);
    let conv = house.group(&ada, &["bob"]).await;
    house.send(&ada, &conv, "1", "x").await;
    house.page(&bob, &conv).await;
    let metas = house.store.calls(Op::Metas);
    tokio::time::sleep(Duration::from_secs(60)).await;
    house.page(&bob, &conv).await;
    house.ask(&bob, FrameBody::Ack(pb::Ack { conv: conv.clone(), seq: 1 })).await.unwrap();
    house.router.beat();
    house.router.leave();
    assert_eq!(house.store.calls(Op::Metas), metas);
    for name in ["roost_router_parcels_posted_total", "roost_router_roster_checks_total"] {
        assert_eq!(house.router.metrics().get(name), Some(0.0), "{name}");
    }
}
