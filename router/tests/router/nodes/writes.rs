//! Several nodes write to one log: the store decides, and nothing doubles, whoever hears whom.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use roost_router::RouterConfig;
use roost_storage::testkit::{Effect, FaultyStore, Op};
use roost_storage::{Store, StoreError};
use roost_wire::{ConvId, FrameBody, pb};

use super::{Nodes, nodes, nodes_with, seqs};
use crate::gated::GatedStore;
use crate::harness::{resending, sending, user};

#[tokio::test(start_paused = true)]
async fn sends_from_several_nodes_leave_no_gap_and_no_double() {
    // With a bus and without one.
    for heard in [true, false] {
        let nodes = nodes(3);
        let mut clients = Vec::new();
        for (place, id) in ["ada", "bob", "cyd"].into_iter().enumerate() {
            clients.push(nodes.nodes[place].enter(id).await);
        }
        nodes.deliver().await;
        let conv = nodes.nodes[0].group(&clients[0], &["bob", "cyd"]).await;
        nodes.deliver().await;
        for (place, client) in clients.iter().enumerate() {
            assert!(nodes.nodes[place].page(client, &conv).await.is_empty());
        }
        let mut rids = Vec::new();
        for round in 0..30 {
            for (place, client) in clients.iter().enumerate() {
                let send = sending(&conv, &format!("{place}-{round}"), "x");
                rids.push((place, nodes.nodes[place].command(client, FrameBody::Send(send))));
            }
            if round % 7 == 0 {
                if heard { nodes.deliver().await } else { nodes.lose_all().await }
            }
        }
        let mut sent = BTreeSet::new();
        for (place, rid) in rids {
            let Ok(FrameBody::Sent(answer)) = nodes.nodes[place].reply(&clients[place], rid).await else { panic!() };
            assert!(!answer.dup);
            assert!(sent.insert(answer.seq), "{} was given twice", answer.seq);
        }
        assert_eq!(sent, (1..=90).collect());
        nodes.deliver().await;
        let log = nodes.nodes[0].page(&clients[0], &conv).await;
        let cmids: BTreeSet<&str> = log.iter().map(|entry| entry.cmid.as_str()).collect();
        assert_eq!((log.len(), cmids.len()), (90, 90));
        for (place, client) in clients.iter().enumerate() {
            let own = |seq: u64| log[seq as usize - 1].from == client.user.as_str();
            let pushed = seqs(&nodes.nodes[place], client);
            assert!(pushed.is_sorted_by(|a, b| a < b), "{pushed:?}");
            assert!(pushed.iter().all(|seq| !own(*seq)));
            if heard {
                assert_eq!(pushed.len(), 60, "node {place}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f14_a_resend_through_another_node_finds_the_first_try() {
    for known in [false, true] {
        let nodes = nodes_with(2, RouterConfig { recent_entries_max: 4, ..RouterConfig::default() });
        let [a, b] = nodes.nodes.as_slice() else { panic!() };
        let (ada, also_ada) = (a.enter("ada").await, b.enter_on("ada", "laptop", "").await);
        a.enter("bob").await;
        nodes.deliver().await;
        let conv = a.direct(&ada, "bob").await;
        if known {
            b.page(&also_ada, &conv).await;
        }
        let first = a.send(&ada, &conv, "same", "x").await;
        // Further back than what is remembered.
        for number in 0..20 {
            a.send(&ada, &conv, &number.to_string(), "x").await;
        }
        nodes.lose_all().await;
        let again = b.try_send(&also_ada, resending(&conv, "same", "x", Some(0))).await.unwrap();
        assert_eq!((again.seq, again.dup), (first.seq, true), "in memory: {known}");
        let refused = b.try_send(&also_ada, resending(&conv, "same", "y", Some(0))).await.unwrap_err();
        assert_eq!(refused.code, 303);
        assert_eq!(a.page(&ada, &conv).await.len(), 21);
    }
}

/// Node B is slow with a first try; its client gives up and sends again through node A, which is done first.
async fn overtaken(known: bool) {
    let config = RouterConfig { recent_entries_max: 4, ..RouterConfig::default() };
    let nodes: Nodes<GatedStore> = Nodes::over(&Arc::new(GatedStore::default()), 2, config);
    let [a, b] = nodes.nodes.as_slice() else { panic!() };
    let (ada, on_b) = (a.enter_on("ada", "laptop", "").await, b.enter("ada").await);
    a.enter("bob").await;
    nodes.deliver().await;
    let conv = a.group(&ada, &["bob"]).await;
    a.send(&ada, &conv, "before", "x").await;
    nodes.lose_all().await;
    // B's task is held up by a command before the send: known there or not, the send waits behind it.
    let held = if known {
        b.page(&on_b, &conv).await;
        let held = b.store.hold(Op::Rows);
        b.command(&on_b, FrameBody::Get(pb::Get { conv: conv.clone() }));
        held
    } else {
        let held = b.store.hold(Op::Metas);
        b.command(&on_b, FrameBody::Get(pb::Get { conv: conv.clone() }));
        held
    };
    held.read.await.unwrap();
    let rid = b.command(&on_b, FrameBody::Send(sending(&conv, "same", "x")));
    let done = a.try_send(&ada, resending(&conv, "same", "x", Some(1))).await.unwrap();
    // Who meets this entry reads the conversation anew, with the last few entries only.
    let name = Some("Owls".to_owned());
    a.ask(&ada, FrameBody::Update(pb::Update { conv: conv.clone(), name, open: None })).await.unwrap();
    for number in 0..20 {
        a.send(&ada, &conv, &number.to_string(), "x").await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    nodes.drop_lying();
    held.go.send(()).unwrap();
    let Ok(FrameBody::Sent(late)) = b.reply(&on_b, rid).await else { panic!() };
    assert_eq!((late.seq, late.dup), (done.seq, true), "in memory: {known}");
    let log = a.page(&ada, &conv).await;
    assert_eq!(log.iter().filter(|entry| entry.cmid == "same").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn f14_a_first_try_that_was_overtaken_by_its_resend_is_not_stored_again() {
    overtaken(true).await;
    overtaken(false).await;
}

/// Node A adds Eve, and gets no answer from the store. Meanwhile she leaves through node B, and much is said. The read
/// of the log with the number `failing` fails then. Whether A could tell what became of it.
async fn undone_while_in_doubt(failing: u64) -> bool {
    let nodes = nodes_with(2, RouterConfig { recent_entries_max: 2, ..RouterConfig::default() });
    let [a, b] = nodes.nodes.as_slice() else { panic!() };
    let (ada, bob, eve) = (a.enter("ada").await, b.enter("bob").await, b.enter("eve").await);
    nodes.deliver().await;
    let conv = a.group(&ada, &["bob"]).await;
    a.send(&ada, &conv, "before", "x").await;
    nodes.deliver().await;
    b.told(&eve);
    let before = a.store.calls(Op::Append);
    a.store.inject(Op::Append, 1, Effect::Hang);
    let add = pb::Members { conv: conv.clone(), add: vec!["eve".into()], ..pb::Members::default() };
    let rid = a.command(&ada, FrameBody::Members(add));
    while a.store.calls(Op::Append) == before {
        tokio::task::yield_now().await;
    }
    b.ask(&eve, FrameBody::Leave(pb::Leave { conv: conv.clone() })).await.expect("she is in");
    for number in 0..5 {
        b.send(&bob, &conv, &number.to_string(), "x").await;
    }
    a.store.inject(Op::Range, failing, Effect::Refuse(StoreError::Unavailable("cut".into())));
    let answer = a.reply(&ada, rid).await;
    nodes.pass(Duration::from_secs(3)).await;
    nodes.deliver().await;
    let log = loop {
        let history = pb::History { conv: conv.clone(), after: Some(0), before: None, limit: 500 };
        if let Ok(FrameBody::Page(page)) = a.ask(&ada, FrameBody::History(history)).await {
            break page.entries;
        }
    };
    let events = log.iter().filter(|entry| entry.body.as_ref().is_some_and(|body| body.event.is_some()));
    assert_eq!((events.count(), log.len()), (2, 8), "{failing}: she came once, and left once");
    let rows = b.pushes(&eve).into_iter().filter_map(|body| match body {
        FrameBody::Changed(changed) => Some(changed.rows),
        _ => None,
    });
    let news = rows.flatten().filter(|row| row.conv == conv && !row.left);
    assert_eq!(news.count(), 0, "{failing}: who has left is not told late that she is in");
    match answer {
        Ok(FrameBody::Conversation(now)) => {
            assert_eq!(now.members.len(), 2, "{failing}: she has left");
            true
        }
        Err(error) => {
            assert_eq!(error.code, 502, "{failing}");
            false
        }
        other => panic!("{failing}: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn f08_a_change_in_doubt_is_found_behind_what_is_remembered_and_not_stored_again() {
    let mut told = Vec::new();
    for failing in 1..=8 {
        told.push(undone_while_in_doubt(failing).await);
    }
    assert!(told.contains(&true) && told.contains(&false), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn marks_written_by_two_nodes_never_go_back() {
    let nodes = nodes(2);
    let [a, b] = nodes.nodes.as_slice() else { panic!() };
    let (ada, bob) = (a.enter("ada").await, a.enter("bob").await);
    let also_bob = b.enter_on("bob", "laptop", "").await;
    nodes.deliver().await;
    let conv = a.direct(&ada, "bob").await;
    for number in 0..9 {
        a.send(&ada, &conv, &number.to_string(), "x").await;
    }
    b.page(&also_bob, &conv).await;
    nodes.deliver().await;
    let read = |seq| FrameBody::Read(pb::Read { conv: conv.clone(), seq });
    let ack = |seq| FrameBody::Ack(pb::Ack { conv: conv.clone(), seq });
    b.ask(&also_bob, read(3)).await.unwrap();
    a.ask(&bob, read(7)).await.unwrap();
    a.ask(&bob, ack(9)).await.unwrap();
    nodes.deliver().await;
    a.told(&ada);
    b.ask(&also_bob, read(5)).await.unwrap();
    b.ask(&also_bob, ack(6)).await.unwrap();
    nodes.deliver().await;
    let id = ConvId::new(&conv).unwrap();
    let rows = a.store.rows(&id, &[user("bob")]).await.unwrap();
    let row = rows[0].as_ref().unwrap();
    assert_eq!((row.delivered, row.read), (9, 7));
    for body in a.pushes(&ada) {
        if let FrameBody::Receipt(receipt) = body {
            assert_eq!((receipt.delivered, receipt.read), (9, 7), "told what is behind");
        }
    }
}

/// What was refused for good stays refused, whatever the sender may do later.
#[tokio::test(start_paused = true)]
async fn f14_a_send_that_was_held_up_is_not_stored_behind_its_refusal_elsewhere() {
    let nodes: Nodes<GatedStore> = Nodes::over(&Arc::new(GatedStore::default()), 2, RouterConfig::default());
    let [a, b] = nodes.nodes.as_slice() else { panic!() };
    let (ada, bob, on_b) = (a.enter("ada").await, a.enter("bob").await, b.enter_on("bob", "laptop", "").await);
    nodes.deliver().await;
    let conv = a.group(&ada, &["bob"]).await;
    nodes.lose_all().await;
    let held = b.store.hold(Op::Metas);
    let rid = b.command(&on_b, FrameBody::Send(sending(&conv, "held", "x")));
    held.read.await.unwrap();
    let members = |add: &[&str], remove: &[&str]| {
        let names = |users: &[&str]| users.iter().map(ToString::to_string).collect();
        FrameBody::Members(pb::Members { conv: conv.clone(), add: names(add), remove: names(remove), roles: vec![] })
    };
    a.ask(&ada, members(&[], &["bob"])).await.unwrap();
    let refused = a.try_send(&bob, resending(&conv, "held", "x", None)).await.unwrap_err();
    assert_eq!((refused.code, refused.retryable), (301, false));
    a.ask(&ada, members(&["bob"], &[])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    nodes.drop_lying();
    held.go.send(()).unwrap();
    let expired = b.reply(&on_b, rid).await.unwrap_err();
    assert_eq!((expired.code, expired.retryable), (502, true));
    assert!(a.page(&ada, &conv).await.iter().all(|entry| entry.cmid != "held"));
    // Sent again it is judged by what holds now.
    assert!(!b.try_send(&on_b, resending(&conv, "held", "x", None)).await.unwrap().dup);
}

#[tokio::test(start_paused = true)]
async fn f18_an_append_in_doubt_that_shows_late_is_told_to_readers_on_every_node() {
    // It gets in before the log is looked at the first time, and between two later looks.
    for late in [500, 5_000, 20_000].map(Duration::from_millis) {
        let store = Arc::new(FaultyStore::new(GatedStore::default()));
        let nodes = Nodes::over(&store, 2, RouterConfig::default());
        let (a, b, ada, bob) = nodes.ada_and_bob().await;
        let on_a = a.enter_on("bob", "laptop", "").await;
        let conv = a.direct(&ada, "bob").await;
        a.send(&ada, &conv, "0", "x").await;
        nodes.deliver().await;
        assert_eq!((seqs(a, &on_a), seqs(b, &bob)), (vec![1], vec![1]));
        // The append is under way for longer than the node waits, and the log cannot be read at that moment.
        let held = store.inner().hold(Op::Append);
        store.inject(Op::Range, 1, Effect::Refuse(StoreError::Unavailable("x".into())));
        let rid = a.command(&ada, FrameBody::Send(sending(&conv, "1", "x")));
        held.read.await.unwrap();
        let refused = a.reply(&ada, rid).await.unwrap_err();
        assert_eq!((refused.code, refused.retryable), (502, true));
        assert!(store.spent());
        nodes.pass(late).await;
        assert_eq!((seqs(a, &on_a), seqs(b, &bob)), (vec![], vec![]), "it is not there yet");
        held.go.send(()).unwrap();
        // Nobody sends again, nobody asks; the looks become rarer.
        nodes.pass(2 * late + Duration::from_secs(2)).await;
        nodes.deliver().await;
        assert_eq!((seqs(a, &on_a), seqs(b, &bob)), (vec![2], vec![2]), "{late:?}");
    }
}
