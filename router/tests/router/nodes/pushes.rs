//! What is said on one node reaches the sessions on the others.

use std::time::Duration;

use roost_router::{Notice, Parcel, RouterConfig};
use roost_storage::testkit::{Effect, Op};
use roost_storage::{Store, StoreError};
use roost_wire::pb::Kind;
use roost_wire::{FrameBody, pb};

use super::{nodes, nodes_with, seqs};
use crate::harness::{Client, House, text};

fn publish(cmid: &str) -> FrameBody {
    FrameBody::Publish(pb::Publish {
        channel: "news".into(),
        cmid: cmid.into(),
        body: text("x"),
        attempt: 0,
        seen: None,
    })
}

fn is_entry(parcel: &Parcel) -> bool {
    matches!(parcel.notice, Notice::Appended { .. })
}

#[tokio::test(start_paused = true)]
async fn pushes_arrive_on_every_node_in_order_and_once() {
    let nodes = nodes(3);
    let [a, b, c] = nodes.nodes.as_slice() else { panic!() };
    // The same keys on every node: an exception for the sender's session must not meet another node's session.
    let (ada, bob, cyd) = (a.enter("ada").await, b.enter("bob").await, c.enter("cyd").await);
    nodes.deliver().await;
    let also_ada = c.enter_on("ada", "laptop", "").await;
    assert_eq!(ada.key, bob.key);
    let conv = a.group(&ada, &["bob"]).await;
    a.ask(&ada, FrameBody::Members(pb::Members { conv: conv.clone(), add: vec!["cyd".into()], ..Default::default() }))
        .await
        .expect("she owns it");
    nodes.deliver().await;
    for number in 0..20 {
        let (node, client) = [(a, &ada), (b, &bob), (c, &cyd)][number % 3];
        node.send(client, &conv, &number.to_string(), "x").await;
        nodes.deliver().await;
    }
    let all: Vec<u64> = (1..=21).collect();
    let but = |mine: &[u64]| all.iter().copied().filter(|seq| !mine.contains(seq)).collect::<Vec<u64>>();
    assert_eq!(seqs(c, &also_ada), all);
    assert_eq!(seqs(b, &bob), but(&[3, 6, 9, 12, 15, 18, 21]));
    assert_eq!(seqs(c, &cyd), but(&[4, 7, 10, 13, 16, 19]));
}

#[tokio::test(start_paused = true)]
async fn doubled_and_disordered_parcels_are_pushed_in_order_and_once() {
    // In memory on the reading node, and not.
    for known in [false, true] {
        let nodes = nodes(2);
        let (a, b, ada, bob) = nodes.ada_and_bob().await;
        let conv = a.direct(&ada, "bob").await.to_string();
        nodes.deliver().await;
        if known {
            b.page(&bob, &conv).await;
        }
        a.send(&ada, &conv, "first", "x").await;
        nodes.deliver().await;
        for number in 0..12 {
            a.send(&ada, &conv, &number.to_string(), "x").await;
        }
        nodes.settle().await;
        let mut parcels = nodes.take(1);
        assert_eq!(parcels.iter().filter(|parcel| is_entry(parcel)).count(), 12);
        parcels.extend(parcels.clone());
        // A fixed shuffle.
        parcels.sort_by_key(|parcel| (parcel.number * 7919) % 31);
        nodes.hear(1, parcels).await;
        assert_eq!(seqs(b, &bob), (1..=13).collect::<Vec<u64>>(), "in memory: {known}");
        assert_eq!(nodes.metric(1, "roost_router_parcel_duplicates_total"), 12);
        nodes.pass(Duration::from_secs(1)).await;
        nodes.beat().await;
        assert_eq!(nodes.metric(1, "roost_router_bus_doubts_total"), 0, "nothing was lost");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_parcel_told_comes_with_the_next_one() {
    for known in [false, true] {
        let nodes = nodes(2);
        let (a, b, ada, bob) = nodes.ada_and_bob().await;
        let conv = a.direct(&ada, "bob").await;
        a.send(&ada, &conv, "1", "x").await;
        nodes.deliver().await;
        if known {
            b.page(&bob, &conv).await;
        }
        a.send(&ada, &conv, "2", "x").await;
        nodes.lose_all().await;
        a.send(&ada, &conv, "3", "x").await;
        nodes.deliver().await;
        assert_eq!(seqs(b, &bob), [1, 2, 3], "in memory: {known}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_parcel_behind_a_gap_that_cannot_be_read_yet_is_told_when_it_can() {
    let nodes = nodes(2);
    let (a, b, ada, bob) = nodes.ada_and_bob().await;
    let conv = a.direct(&ada, "bob").await;
    a.send(&ada, &conv, "1", "x").await;
    nodes.deliver().await;
    b.page(&bob, &conv).await;
    a.send(&ada, &conv, "2", "x").await;
    nodes.lose_all().await;
    a.send(&ada, &conv, "3", "x").await;
    a.settle().await;
    b.store.inject(Op::Range, 1, Effect::Refuse(StoreError::Unavailable("today".into())));
    nodes.hear(1, nodes.take(1)).await;
    assert!(b.store.spent());
    assert_eq!(seqs(b, &bob), [1]);
    nodes.pass(Duration::from_secs(2)).await;
    nodes.settle().await;
    assert_eq!(seqs(b, &bob), [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_its_parcel_came_is_pushed_by_the_parcel() {
    let nodes = nodes(2);
    let (a, b, ada, bob) = nodes.ada_and_bob().await;
    let conv = a.direct(&ada, "bob").await;
    a.send(&ada, &conv, "1", "x").await;
    nodes.settle().await;
    let parcels = nodes.take(1);
    // Bob's other device has the conversation read into memory, with its new head.
    let other = b.enter_on("bob", "laptop", "").await;
    assert_eq!(b.page(&other, &conv).await.len(), 1);
    nodes.hear(1, parcels).await;
    assert_eq!(seqs(b, &bob), [1]);
}

#[tokio::test(start_paused = true)]
async fn what_a_node_appends_above_a_parcel_that_is_still_to_come_shows_the_gap() {
    let nodes = nodes(2);
    let (a, b, ada, bob) = nodes.ada_and_bob().await;
    let conv = a.direct(&ada, "bob").await;
    a.send(&ada, &conv, "1", "x").await;
    a.settle().await;
    let late = nodes.take(1);
    // Nobody on the second node was ever told anything of it: where telling begins is not known.
    let also_bob = b.enter_on("bob", "laptop", "").await;
    b.send(&bob, &conv, "2", "x").await;
    nodes.hear(1, late).await;
    // Never out of order: the client sees 2 where 1 is due, and reads it.
    assert_eq!(seqs(b, &also_bob), [2]);
    assert_eq!(b.page(&also_bob, &conv).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_entry_of_unknown_outcome_is_told_to_the_other_nodes_once_it_is_found() {
    for reads_fail in [false, true] {
        let nodes = nodes(2);
        let (a, b, ada, bob) = nodes.ada_and_bob().await;
        let conv = a.direct(&ada, "bob").await;
        a.send(&ada, &conv, "1", "x").await;
        nodes.deliver().await;
        a.store.inject(Op::Append, 1, Effect::LoseAnswer(StoreError::Unknown("cut".into())));
        if reads_fail {
            a.store.inject(Op::Range, 1, Effect::Refuse(StoreError::Unavailable("cut".into())));
        }
        let sent = a.try_send(&ada, crate::harness::sending(&conv, "2", "x")).await;
        assert_eq!(sent.is_ok(), !reads_fail);
        nodes.pass(Duration::from_secs(3)).await;
        nodes.deliver().await;
        assert!(a.store.spent());
        assert_eq!(seqs(b, &bob), [1, 2], "reads fail: {reads_fail}");
        a.send(&ada, &conv, "3", "x").await;
        nodes.deliver().await;
        assert_eq!(seqs(b, &bob), [3]);
    }
}

#[tokio::test(start_paused = true)]
async fn f11_a_publish_reaches_subscribers_on_every_node() {
    let nodes = nodes(3);
    let [a, b, c] = nodes.nodes.as_slice() else { panic!() };
    let ada = a.enter("ada").await;
    let (bob, cyd) = (b.enter("bob").await, c.enter("cyd").await);
    let subscribe = || FrameBody::Subscribe(pb::Subscribe { channel: "news".into() });
    b.ask(&bob, subscribe()).await.unwrap();
    nodes.deliver().await;
    for cmid in ["1", "2"] {
        a.ask(&ada, publish(cmid)).await.unwrap();
        nodes.deliver().await;
    }
    b.ask(&bob, publish("3")).await.unwrap();
    nodes.deliver().await;
    assert_eq!(seqs(b, &bob), [1, 2, 3]);
    assert_eq!(seqs(c, &cyd), Vec::<u64>::new());
}

async fn large(a: &House<impl Store, super::HandBus>, ada: &Client) -> String {
    a.group(ada, &["bob", "cyd"]).await
}

#[tokio::test(start_paused = true)]
async fn a_large_group_reaches_members_on_every_node_and_nobody_who_left() {
    // Nothing stays in memory but what is in use: members join a topic with each load, and leave it with each drop.
    for conversations_cached_max in [1000, 1] {
        let config =
            RouterConfig { index_threshold: 1, interest_threshold: 2, conversations_cached_max, ..Default::default() };
        let nodes = nodes_with(2, config);
        let [a, b] = nodes.nodes.as_slice() else { panic!() };
        let (ada, bob, cyd) = (a.enter("ada").await, b.enter("bob").await, b.enter("cyd").await);
        let dan = b.enter("dan").await;
        nodes.deliver().await;
        let conv = large(a, &ada).await;
        a.send(&ada, &conv, "1", "x").await;
        nodes.deliver().await;
        assert_eq!((seqs(b, &bob), seqs(b, &cyd)), (vec![1], vec![1]));
        // Other conversations drive it out of the memory of the second node.
        for number in 0..2000 {
            let history = pb::History { conv: format!("n{number}"), after: Some(0), before: None, limit: 1 };
            b.ask(&dan, FrameBody::History(history)).await.unwrap();
        }
        assert!(nodes.metric(1, "roost_router_conversations_evicted_total") > 100);
        let members =
            pb::Members { conv: conv.clone(), remove: vec!["cyd".into()], add: vec!["dan".into()], roles: vec![] };
        a.ask(&ada, FrameBody::Members(members)).await.unwrap();
        // The parcel that tells of it is lost.
        nodes.lose_all().await;
        a.send(&ada, &conv, "2", "x").await;
        nodes.deliver().await;
        assert!(seqs(b, &bob).contains(&4));
        assert!(seqs(b, &dan).contains(&4));
        assert!(!seqs(b, &cyd).contains(&4), "{conversations_cached_max} cached");
        assert!(!b.joined(&cyd, &conv));
    }
}

#[tokio::test(start_paused = true)]
async fn rows_typing_and_receipts_reach_the_other_nodes() {
    let nodes = nodes(2);
    let (a, b, ada, bob) = nodes.ada_and_bob().await;
    let conv = a.direct(&ada, "bob").await;
    nodes.deliver().await;
    let pushed = b.pushes(&bob);
    let made = |body: &FrameBody| matches!(body, FrameBody::Changed(changed) if changed.rows[0].conv == conv);
    assert!(pushed.iter().any(made), "{pushed:?}");
    a.send(&ada, &conv, "1", "x").await;
    a.ask(&ada, FrameBody::Typing(pb::Typing { conv: conv.clone(), user: String::new(), on: true })).await.unwrap();
    nodes.deliver().await;
    let typing = |body: &FrameBody| matches!(body, FrameBody::Typing(typing) if typing.user == "ada");
    assert!(b.pushes(&bob).iter().any(typing));
    b.ask(&bob, FrameBody::Ack(pb::Ack { conv: conv.clone(), seq: 1 })).await.unwrap();
    nodes.deliver().await;
    let receipt = |body: &FrameBody| matches!(body, FrameBody::Receipt(r) if r.user == "bob" && r.delivered == 1);
    assert!(a.pushes(&ada).iter().any(receipt));
    // A group that takes somebody in and lets him go tells him on his node.
    let create = pb::Create { kind: Kind::Group.into(), name: "Birds".into(), members: vec![], open: false };
    let group = a.create(&ada, create).await.conv;
    let change = |add: &[&str], remove: &[&str]| {
        let [add, remove] = [add, remove].map(|users| users.iter().map(ToString::to_string).collect());
        FrameBody::Members(pb::Members { conv: group.clone(), add, remove, roles: vec![] })
    };
    a.ask(&ada, change(&["bob"], &[])).await.unwrap();
    nodes.deliver().await;
    let pushed = b.pushes(&bob);
    let row = |body: &FrameBody, left: bool| matches!(body, FrameBody::Changed(changed) if changed.rows.iter().any(|row| row.conv == group && row.left == left));
    assert!(
        pushed.iter().any(|body| row(body, false)) && pushed.iter().any(|body| matches!(body, FrameBody::Entry(_)))
    );
    a.ask(&ada, change(&[], &["bob"])).await.unwrap();
    nodes.deliver().await;
    let pushed = b.pushes(&bob);
    assert!(pushed.iter().any(|body| row(body, true)), "{pushed:?}");
    assert!(!pushed.iter().any(|body| matches!(body, FrameBody::Entry(_))), "he is out");
}
