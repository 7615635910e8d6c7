//! Who is told what: nodes where somebody is concerned, and those of which that is not known.

use std::time::Duration;

use roost_router::{Notice, Parcel, RouterConfig};

use roost_wire::CloseCode;

use super::{doubted, nodes, nodes_with, seqs};
use crate::harness::Got;

/// Above `gap_after`.
const LATE: Duration = Duration::from_millis(600);

fn is_entry(parcel: &Parcel) -> bool {
    matches!(parcel.notice, Notice::Appended { .. })
}

#[tokio::test(start_paused = true)]
async fn an_entry_goes_to_nodes_where_a_member_is_and_to_no_other() {
    let nodes = nodes(3);
    let (a, b, ada, bob) = nodes.ada_and_bob().await;
    let conv = a.direct(&ada, "bob").await;
    nodes.deliver().await;
    a.send(&ada, &conv, "1", "x").await;
    a.settle().await;
    let [to_b, to_c] = [nodes.take(1), nodes.take(2)];
    assert_eq!(to_b.iter().filter(|parcel| is_entry(parcel) && parcel.direct).count(), 1);
    assert!(!to_c.iter().any(is_entry), "{to_c:?}");
    to_b.into_iter().for_each(|parcel| b.router.hear(parcel));
    b.settle().await;
    assert_eq!(seqs(b, &bob), [1]);
}

#[tokio::test(start_paused = true)]
async fn who_came_unheard_is_told_to_sync_once_that_is_heard() {
    let nodes = nodes(2);
    let (a, b, ada, bob) = nodes.ada_and_bob().await;
    let conv = a.direct(&ada, "bob").await;
    b.leave(&bob);
    nodes.deliver().await;
    // Nobody has heard of Bob yet: nothing is posted for his sake.
    let (bob, eve) = (b.enter("bob").await, b.enter("eve").await);
    a.send(&ada, &conv, "1", "x").await;
    a.settle().await;
    assert!(!nodes.take(1).iter().any(is_entry));
    nodes.deliver().await;
    assert!(doubted(b, &bob));
    assert!(!doubted(b, &eve), "nothing was sent to her");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_missed_out_while_nobody_noticed_is_told_so() {
    let nodes = nodes(2);
    let (a, b, ada, bob) = nodes.ada_and_bob().await;
    let conv = a.direct(&ada, "bob").await;
    b.leave(&bob);
    nodes.deliver().await;
    let bob = b.enter("bob").await;
    // That he came is lost; an entry for him is posted to nobody.
    nodes.take(0);
    a.send(&ada, &conv, "1", "x").await;
    a.settle().await;
    assert!(!nodes.take(1).iter().any(is_entry));
    b.router.beat();
    nodes.take(0).into_iter().for_each(|parcel| a.router.hear(parcel));
    // From now on everything is posted there, until it is known who is.
    a.send(&ada, &conv, "2", "x").await;
    a.settle().await;
    assert!(nodes.take(1).iter().any(is_entry));
    nodes.pass(LATE).await;
    a.router.beat();
    a.settle().await;
    let told = nodes.take(1);
    assert!(told.iter().any(|parcel| matches!(parcel.notice, Notice::Blind)), "{told:?}");
    assert!(!doubted(b, &bob));
    nodes.hear(1, told).await;
    assert!(doubted(b, &bob));
}

#[tokio::test(start_paused = true)]
async fn parcels_for_one_node_have_numbers_of_their_own_and_a_lost_one_is_noticed() {
    let nodes = nodes(3);
    let (a, b, ada, bob) = nodes.ada_and_bob().await;
    let conv = a.direct(&ada, "bob").await;
    nodes.deliver().await;
    a.send(&ada, &conv, "1", "x").await;
    a.settle().await;
    assert!(nodes.take(1).iter().any(|lost| is_entry(lost) && lost.direct));
    // Of parcels for all none is missing: only the heartbeat tells of this one.
    a.router.beat();
    nodes.hear(1, nodes.take(1)).await;
    nodes.pass(LATE).await;
    assert!(!doubted(b, &bob));
    b.router.beat();
    b.settle().await;
    assert!(doubted(b, &bob));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_not_heard_for_long_is_told_what_it_may_have_missed() {
    let nodes = nodes(2);
    let (a, b, _ada, bob) = nodes.ada_and_bob().await;
    nodes.pass(Duration::from_secs(6)).await;
    a.router.beat();
    nodes.lose_all().await;
    // It says something again, and nothing was lost of what it said.
    b.router.beat();
    nodes.hear(0, nodes.take(0)).await;
    let told = nodes.take(1);
    assert!(told.iter().any(|parcel| matches!(parcel.notice, Notice::Blind)), "{told:?}");
    nodes.hear(1, told).await;
    assert!(doubted(b, &bob));
}

#[tokio::test(start_paused = true)]
async fn everything_goes_to_a_node_with_more_users_than_are_remembered() {
    let nodes = nodes_with(3, RouterConfig { users_elsewhere_max: 1, ..RouterConfig::default() });
    let [a, b, _] = nodes.nodes.as_slice() else { panic!("three nodes") };
    let ada = a.enter("ada").await;
    nodes.deliver().await;
    let (_eve, bob) = (b.enter("eve").await, b.enter("bob").await);
    let conv = b.direct(&bob, "ada").await;
    nodes.deliver().await;
    a.send(&ada, &conv, "1", "x").await;
    a.settle().await;
    assert!(!nodes.take(2).iter().any(is_entry));
    nodes.deliver().await;
    assert_eq!(seqs(b, &bob), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_user_that_is_disconnected_is_so_on_every_node() {
    let nodes = nodes(2);
    let (a, b, ada, bob) = nodes.ada_and_bob().await;
    let tablet = a.enter_on("bob", "tablet", "").await;
    nodes.deliver().await;
    assert_eq!(a.router.online(&[bob.user.clone(), ada.user.clone()]), [true, true]);
    a.router.disconnect(&bob.user);
    nodes.deliver().await;
    for (node, client) in [(a, &tablet), (b, &bob)] {
        assert!(node.told(client).iter().any(|got| matches!(got, Got::Close(CloseCode::Disconnected))));
    }
    assert!(!a.told(&ada).iter().any(|got| matches!(got, Got::Close(_))));
}
