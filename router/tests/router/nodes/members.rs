//! Members that change on one node count on all, whether anybody heard of it or not.

use std::sync::Arc;
use std::time::Duration;

use roost_router::RouterConfig;
use roost_storage::testkit::Op;
use roost_wire::{FrameBody, pb};

use super::{HandBus, Nodes, nodes, nodes_with, seqs};
use crate::gated::GatedStore;
use crate::harness::{Client, Faulty, House, sending};

type Node = House<Faulty, HandBus>;

const NOT_MEMBER: u32 = 301;

fn history(conv: &str) -> FrameBody {
    FrameBody::History(pb::History { conv: conv.into(), after: Some(0), before: None, limit: 0 })
}

fn members(conv: &str, add: &[&str], remove: &[&str]) -> FrameBody {
    let [add, remove] = [add, remove].map(|users| users.iter().map(ToString::to_string).collect());
    FrameBody::Members(pb::Members { conv: conv.into(), add, remove, roles: vec![] })
}

fn typing(conv: &str) -> FrameBody {
    FrameBody::Typing(pb::Typing { conv: conv.into(), user: String::new(), on: true })
}

/// Ada's group on the first node; Bob is on the second, where the group is in memory with him in it if `known`.
async fn group(nodes: &Nodes, with: &[&str]) -> (Client, Client, String) {
    let (a, b, ada, bob) = nodes.ada_and_bob().await;
    let eve = b.enter("eve").await;
    nodes.deliver().await;
    let mut members = vec!["eve"];
    members.extend(with);
    let conv = a.group(&ada, &members).await;
    a.send(&ada, &conv, "0", "x").await;
    // The second node reads it into memory, with the members as they are now.
    b.page(&eve, &conv).await;
    nodes.deliver().await;
    (ada, bob, conv)
}

async fn change(node: &Node, client: &Client, body: FrameBody) {
    node.ask(client, body).await.expect("allowed");
}

#[tokio::test(start_paused = true)]
async fn a_removed_member_writes_nothing_through_a_node_that_heard_nothing() {
    let nodes = nodes(2);
    let (ada, bob, conv) = group(&nodes, &["bob"]).await;
    let [a, b] = nodes.nodes.as_slice() else { panic!() };
    b.send(&bob, &conv, "1", "x").await;
    change(a, &ada, members(&conv, &[], &["bob"])).await;
    nodes.lose_all().await;
    let refused = b.try_send(&bob, sending(&conv, "2", "x")).await.unwrap_err();
    assert_eq!(refused.code, NOT_MEMBER);
    assert_eq!(a.page(&ada, &conv).await.len(), 3, "two messages and the removal");
}

#[tokio::test(start_paused = true)]
async fn a_removed_member_reads_nothing_through_another_node_after_the_lease() {
    for lost in [false, true] {
        let nodes = nodes(2);
        let (ada, bob, conv) = group(&nodes, &["bob"]).await;
        let [a, b] = nodes.nodes.as_slice() else { panic!() };
        assert_eq!(b.page(&bob, &conv).await.len(), 1);
        change(a, &ada, members(&conv, &[], &["bob"])).await;
        if lost {
            nodes.lose_all().await;
            // RouterConfig::roster_lease.
            nodes.pass(Duration::from_secs(2)).await;
        } else {
            // Heard of, it counts at once.
            nodes.deliver().await;
        }
        assert_eq!(b.refused(&bob, history(&conv)).await, NOT_MEMBER);
        assert_eq!(b.refused(&bob, typing(&conv)).await, NOT_MEMBER);
        assert_eq!(b.refused(&bob, FrameBody::Get(pb::Get { conv: conv.clone() })).await, NOT_MEMBER);
        assert!(b.refused(&bob, FrameBody::Ack(pb::Ack { conv: conv.clone(), seq: 1 })).await == NOT_MEMBER);
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_member_gets_no_receipts_that_waited_for_the_store() {
    use roost_storage::StoreError;
    use roost_storage::testkit::{Effect, Op};

    for seconds in [0, 10] {
        let nodes = nodes(2);
        let (ada, bob, conv) = group(&nodes, &["bob"]).await;
        let [a, b] = nodes.nodes.as_slice() else { panic!() };
        change(a, &ada, members(&conv, &[], &["bob"])).await;
        nodes.lose_all().await;
        // So many tries to write marks fail, each half a second after the last one.
        for nth in 1..=2 * seconds {
            b.store.inject(Op::Mark, nth, Effect::Refuse(StoreError::Unavailable("down".into())));
        }
        b.told(&bob);
        let eve = b.enter("eve").await;
        b.command_as(&eve, 0, FrameBody::Ack(pb::Ack { conv: conv.clone(), seq: 1 }));
        nodes.pass(Duration::from_secs(seconds + 1)).await;
        assert!(b.store.spent());
        let receipts = b.pushes(&bob).into_iter().filter(|body| matches!(body, FrameBody::Receipt(_))).count();
        // The node heard nothing of the removal: within its lease it still tells him.
        assert_eq!(receipts, usize::from(seconds == 0), "{seconds} s");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_a_doubt_counts_no_more() {
    let nodes = nodes_with(2, RouterConfig { roster_lease: Duration::from_secs(3600), ..RouterConfig::default() });
    let (ada, bob, conv) = group(&nodes, &["bob"]).await;
    let [a, b] = nodes.nodes.as_slice() else { panic!() };
    change(a, &ada, members(&conv, &[], &["bob"])).await;
    nodes.lose_all().await;
    // So long is the lease here.
    assert_eq!(b.page(&bob, &conv).await.len(), 2);
    nodes.beat().await;
    nodes.pass(Duration::from_secs(1)).await;
    nodes.beat().await;
    assert_eq!(b.refused(&bob, history(&conv)).await, NOT_MEMBER);
}

#[tokio::test(start_paused = true)]
async fn who_joined_through_one_node_is_not_refused_by_another_that_heard_nothing() {
    // Each command is the first thing the node learns of it by.
    for command in 0..6 {
        let nodes = nodes(2);
        let (ada, bob, conv) = group(&nodes, &[]).await;
        let [a, b] = nodes.nodes.as_slice() else { panic!() };
        change(a, &ada, members(&conv, &["bob"], &[])).await;
        let roles = vec![pb::Member { user: "bob".into(), role: pb::Role::Admin.into(), ..pb::Member::default() }];
        change(a, &ada, FrameBody::Members(pb::Members { conv: conv.clone(), roles, ..Default::default() })).await;
        nodes.lose_all().await;
        let body = match command {
            0 => FrameBody::Send(sending(&conv, "1", "x")),
            1 => history(&conv),
            2 => typing(&conv),
            3 => FrameBody::Ack(pb::Ack { conv: conv.clone(), seq: 3 }),
            4 => FrameBody::Update(pb::Update { conv: conv.clone(), name: Some("Owls".into()), open: None }),
            _ => members(&conv, &[], &["eve"]),
        };
        let answer = b.ask(&bob, body).await;
        assert!(answer.is_ok(), "{command}: {answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_mark_above_the_head_as_one_node_knows_it_is_looked_at_again() {
    let nodes = nodes(2);
    let (a, b, ada, bob) = nodes.ada_and_bob().await;
    let conv = a.direct(&ada, "bob").await;
    a.send(&ada, &conv, "1", "x").await;
    b.page(&bob, &conv).await;
    a.send(&ada, &conv, "2", "x").await;
    nodes.lose_all().await;
    b.ask(&bob, FrameBody::Ack(pb::Ack { conv: conv.clone(), seq: 2 })).await.unwrap();
    assert_eq!(b.refused(&bob, FrameBody::Ack(pb::Ack { conv, seq: 3 })).await, 104);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_one_node_takes_for_done_is_done_if_another_undid_it() {
    let nodes = nodes(2);
    let (ada, _, conv) = group(&nodes, &["bob"]).await;
    let [a, b] = nodes.nodes.as_slice() else { panic!() };
    let also_ada = b.enter_on("ada", "laptop", "").await;
    nodes.deliver().await;
    change(a, &ada, members(&conv, &[], &["bob"])).await;
    nodes.lose_all().await;
    // The second node still has Bob in it.
    change(b, &also_ada, members(&conv, &["bob"], &[])).await;
    nodes.deliver().await;
    let Ok(FrameBody::Conversation(now)) = a.ask(&ada, FrameBody::Get(pb::Get { conv })).await else { panic!() };
    assert!(now.members.iter().any(|member| member.user == "bob"), "{now:?}");
}

#[tokio::test(start_paused = true)]
async fn who_joined_unheard_syncs_what_is_said_in_a_large_group() {
    let nodes = nodes_with(2, RouterConfig { index_threshold: 1, ..RouterConfig::default() });
    let (ada, bob, conv) = group(&nodes, &[]).await;
    let [a, b] = nodes.nodes.as_slice() else { panic!() };
    // The second node knows Bob's groups: none.
    let since = b.sync(&bob, "", 0).await.sync;
    change(a, &ada, members(&conv, &["bob"], &[])).await;
    let row = b.sync(&bob, &since, 0).await;
    assert_eq!(row.rows.len(), 1);
    for number in 1..4 {
        a.send(&ada, &conv, &number.to_string(), "x").await;
    }
    nodes.lose_all().await;
    let rows = b.sync(&bob, &row.sync, 0).await.rows;
    assert_eq!(rows.iter().map(|row| (row.conv.as_str(), row.head)).collect::<Vec<_>>(), [(conv.as_str(), 5)]);
}

#[tokio::test(start_paused = true)]
async fn members_and_head_that_are_read_together_belong_together() {
    use std::sync::Arc;

    use roost_storage::testkit::Op;

    use crate::gated::GatedStore;

    let nodes = Nodes::over(&Arc::new(GatedStore::default()), 2, RouterConfig::default());
    let (a, b, ada, bob) = nodes.ada_and_bob().await;
    let conv = a.group(&ada, &["bob"]).await;
    nodes.lose_all().await;
    // The second node reads the members; before it reads the end of the log, Bob is removed.
    let held = b.store.hold(Op::Members);
    let rid = b.command(&bob, FrameBody::Send(sending(&conv, "1", "x")));
    held.read.await.unwrap();
    a.ask(&ada, members(&conv, &[], &["bob"])).await.unwrap();
    held.go.send(()).unwrap();
    assert_eq!(b.reply(&bob, rid).await.unwrap_err().code, NOT_MEMBER);
    assert_eq!(a.page(&ada, &conv).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_is_removed_while_what_was_missed_is_read_is_not_told_of_the_removal() {
    let nodes: Nodes<GatedStore> = Nodes::over(&Arc::new(GatedStore::default()), 2, RouterConfig::default());
    let (a, b, ada, bob) = nodes.ada_and_bob().await;
    let conv = a.group(&ada, &["bob"]).await;
    a.send(&ada, &conv, "1", "x").await;
    nodes.deliver().await;
    a.send(&ada, &conv, "2", "x").await;
    nodes.lose_all().await;
    assert_eq!(seqs(b, &bob), [1]);
    // The second node reads the conversation, with him in it; what it missed is to be read next.
    let held = b.store.hold(Op::Range);
    b.command(&bob, FrameBody::Get(pb::Get { conv: conv.clone() }));
    held.read.await.unwrap();
    a.ask(&ada, members(&conv, &[], &["bob"])).await.unwrap();
    held.go.send(()).unwrap();
    b.settle().await;
    assert_eq!(seqs(b, &bob), [2]);
    // Who is still in is told.
    let eve = b.enter("eve").await;
    nodes.deliver().await;
    assert_eq!((seqs(b, &bob), seqs(b, &eve)), (vec![], vec![]));
    a.ask(&ada, members(&conv, &["eve"], &[])).await.unwrap();
    nodes.deliver().await;
    // The removal was nobody's business there, and now lies in a hole, which the log fills: a member may read it.
    assert_eq!((seqs(b, &bob), seqs(b, &eve)), (vec![], vec![3, 4]));
}
