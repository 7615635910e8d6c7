//! ACK, READ, receipts, TYPING.

use roost_router::RouterConfig;
use roost_storage::testkit::Op;
use roost_wire::FrameBody;
use roost_wire::pb::{Ack, Create, Get, Kind, Read, Receipt, Typing};

use crate::harness::{House, house, house_with};

fn ack(conv: &str, seq: u64) -> FrameBody {
    FrameBody::Ack(Ack { conv: conv.into(), seq })
}

fn read(conv: &str, seq: u64) -> FrameBody {
    FrameBody::Read(Read { conv: conv.into(), seq })
}

fn receipts(house: &House, client: &crate::harness::Client) -> Vec<Receipt> {
    let receipt = |body| match body {
        FrameBody::Receipt(receipt) => Some(receipt),
        _ => None,
    };
    house.pushes(client).into_iter().filter_map(receipt).collect()
}

#[tokio::test(start_paused = true)]
async fn f15_receipts_reach_the_other_members_and_never_run_ahead() {
    let house = house();
    let [ada, bob] = [house.enter("ada").await, house.enter("bob").await];
    let bobs_other = house.enter_on("bob", "laptop", "").await;
    let conv = house.direct(&ada, "bob").await;
    for n in 0..3 {
        house.send(&ada, &conv, &n.to_string(), "hi").await;
    }
    house.settle().await;
    house.told(&ada);
    house.command_as(&bob, 0, ack(&conv, 1));
    house.command_as(&bob, 0, ack(&conv, 2));
    house.settle().await;
    let want = |delivered, read| Receipt { conv: conv.clone(), user: "bob".into(), delivered, read };
    assert_eq!(receipts(&house, &ada), [want(2, 0)], "several marks become one receipt");
    house.ask(&bob, read(&conv, 1)).await.unwrap();
    house.settle().await;
    assert_eq!(receipts(&house, &ada), [want(2, 1)]);
    // The user's other session learns it too, the one that said it does not.
    assert_eq!(receipts(&house, &bobs_other).last(), Some(&want(2, 1)));
    assert_eq!(receipts(&house, &bob), []);
    // A lower mark changes nothing.
    house.ask(&bob, read(&conv, 1)).await.unwrap();
    house.ask(&bob, ack(&conv, 1)).await.unwrap();
    house.settle().await;
    assert_eq!(receipts(&house, &ada), []);
}

#[tokio::test(start_paused = true)]
async fn f15_a_conversation_lists_the_marks_of_its_members_unless_it_is_large() {
    let house = house_with(RouterConfig { index_threshold: 2, ..RouterConfig::default() });
    let [ada, bob, _eve] = [house.enter("ada").await, house.enter("bob").await, house.enter("eve").await];
    let conv = house.direct(&ada, "bob").await;
    let group = house.group(&ada, &["bob", "eve"]).await;
    for conv in [&conv, &group] {
        for n in 0..3 {
            house.send(&ada, conv, &n.to_string(), "hi").await;
        }
        house.ask(&bob, ack(conv, 3)).await.unwrap();
        house.ask(&bob, read(conv, 2)).await.unwrap();
    }
    let marks = async |body: FrameBody| match house.ask(&ada, body).await {
        Ok(FrameBody::Conversation(found)) => {
            let members = found.members.into_iter();
            members.map(|member| (member.user, member.delivered, member.read)).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let get = |conv: &String| FrameBody::Get(Get { conv: conv.clone() });
    let again = Create { kind: Kind::Direct.into(), members: vec!["bob".into()], ..Create::default() };
    let want = vec![("ada".to_owned(), 3, 3), ("bob".to_owned(), 3, 2)];
    assert_eq!(marks(get(&conv)).await, want);
    assert_eq!(marks(FrameBody::Create(again)).await, want, "opened again");
    assert!(marks(get(&group)).await.iter().all(|(_, delivered, read)| (*delivered, *read) == (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn f15_a_read_is_answered_after_it_is_durable() {
    let house = house();
    let [ada, bob] = [house.enter("ada").await, house.enter("bob").await];
    let conv = house.direct(&ada, "bob").await;
    house.send(&ada, &conv, "0", "hi").await;
    let before = house.store.calls(Op::Mark);
    house.ask(&bob, read(&conv, 1)).await.unwrap();
    assert_eq!(house.store.calls(Op::Mark), before + 1);
    let row = house.sync(&bob, "", 0).await.rows.remove(0);
    assert_eq!((row.read, row.delivered, row.unread), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn f15_unread_is_the_head_less_what_was_read_and_ones_own_count_as_read() {
    let house = house();
    let [ada, bob] = [house.enter("ada").await, house.enter("bob").await];
    let conv = house.direct(&ada, "bob").await;
    for n in 0..3 {
        house.send(&ada, &conv, &n.to_string(), "hi").await;
    }
    // Not flushed yet, but the user's own SYNC knows it.
    house.command_as(&bob, 0, read(&conv, 1));
    let row = house.sync(&bob, "", 0).await.rows.remove(0);
    assert_eq!((row.head, row.read, row.unread), (3, 1, 2));
    let row = house.sync(&ada, "", 0).await.rows.remove(0);
    assert_eq!((row.read, row.unread, row.last.map(|last| last.seq)), (3, 0, Some(3)));
}

#[tokio::test(start_paused = true)]
async fn f15_marks_above_the_head_or_by_others_are_refused() {
    let house = house();
    let [ada, _bob, eve] = [house.enter("ada").await, house.enter("bob").await, house.enter("eve").await];
    let conv = house.direct(&ada, "bob").await;
    house.send(&ada, &conv, "0", "hi").await;
    for (client, body, code) in [
        (&ada, ack(&conv, 2), 104),
        (&ada, read(&conv, u64::MAX), 104),
        (&eve, ack(&conv, 1), 301),
        (&eve, read(&conv, 1), 301),
        (&ada, read("c_dnone", 1), 300),
    ] {
        assert_eq!(house.refused(client, body.clone()).await, code, "{body:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn f15_too_many_waiting_marks_are_refused_or_dropped() {
    let house = house_with(RouterConfig { marks_pending_max: 1, ..RouterConfig::default() });
    let [ada, _bob] = [house.enter("ada").await, house.enter("bob").await];
    let [one, two] = [house.direct(&ada, "bob").await, house.direct(&ada, "ada").await];
    let bob = house.enter_on("bob", "tablet", "").await;
    house.send(&ada, &one, "0", "hi").await;
    house.send(&bob, &one, "0", "hi").await;
    house.send(&ada, &two, "0", "hi").await;
    house.command_as(&ada, 0, ack(&one, 2));
    assert_eq!(house.refused(&bob, read(&one, 2)).await, 503);
    house.settle().await;
    house.ask(&bob, read(&one, 2)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn f16_typing_reaches_the_other_members_and_not_too_often() {
    let house = house();
    let [ada, bob, eve] = [house.enter("ada").await, house.enter("bob").await, house.enter("eve").await];
    let conv = house.direct(&ada, "bob").await;
    house.settle().await;
    let typing = |on| FrameBody::Typing(Typing { conv: conv.clone(), user: "forged".into(), on });
    house.told(&bob);
    for on in [true, true, true, false, false] {
        house.ask(&ada, typing(on)).await.unwrap();
    }
    let push = |on| FrameBody::Typing(Typing { conv: conv.clone(), user: "ada".into(), on });
    assert_eq!(house.pushes(&bob), [push(true), push(false)]);
    assert!(house.pushes(&ada).iter().all(|body| !matches!(body, FrameBody::Typing(_))));
    house.env.now_ms.fetch_add(600, std::sync::atomic::Ordering::Relaxed);
    house.ask(&ada, typing(true)).await.unwrap();
    assert_eq!(house.pushes(&bob), [push(true)]);
    assert_eq!(house.refused(&eve, typing(true)).await, 301);
    assert!(house.page(&ada, &conv).await.is_empty(), "it is not stored");
}

#[tokio::test(start_paused = true)]
async fn f15_larger_groups_keep_marks_and_push_no_receipts() {
    let house = house_with(RouterConfig { index_threshold: 2, ..RouterConfig::default() });
    let [ada, bob, _eve] = [house.enter("ada").await, house.enter("bob").await, house.enter("eve").await];
    let conv = house.group(&ada, &["bob", "eve"]).await;
    house.send(&ada, &conv, "0", "hi").await;
    house.settle().await;
    house.told(&ada);
    house.ask(&bob, read(&conv, 1)).await.unwrap();
    house.settle().await;
    assert_eq!(receipts(&house, &ada), []);
    assert_eq!(house.sync(&bob, "", 0).await.rows[0].unread, 0);
    assert_eq!(house.sync(&ada, "", 0).await.rows[0].unread, 0, "what one sends one has read");
}
