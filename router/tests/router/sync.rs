//! SYNC, `fresh` and HISTORY.

use std::collections::BTreeSet;
use std::sync::Arc;

use roost_router::RouterConfig;
use roost_wire::{FrameBody, pb};

use crate::gated::GatedStore;
use crate::harness::{Client, House, house, house_with, sending};

async fn sync_all(house: &House, client: &Client, mut since: String, limit: u32) -> (Vec<pb::Row>, String) {
    let mut rows = Vec::new();
    for _ in 0..200 {
        let changed = house.sync(client, &since, limit).await;
        assert!(changed.rows.len() <= limit as usize);
        rows.extend(changed.rows);
        since = changed.sync;
        if !changed.more {
            return (rows, since);
        }
    }
    panic!("SYNC does not end");
}

#[tokio::test(start_paused = true)]
async fn what_may_still_appear_below_a_token_is_asked_for_again() {
    let house: House<GatedStore> = House::over(Arc::default(), RouterConfig::default());
    let (ada, bob) = (house.enter("ada").await, house.enter("bob").await);
    let first = house.direct(&ada, "bob").await;
    house.enter("eve").await;
    house.direct(&bob, "eve").await;
    house.store.settle_at(Some(0));
    // Two pages: what is settled when the first is read counts for the last one too.
    let mut told = house.sync(&bob, "", 1).await;
    assert!(told.more);
    house.store.settle_at(None);
    while told.more {
        told = house.sync(&bob, &told.sync, 1).await;
    }
    let again = house.sync(&bob, &told.sync, 10).await;
    assert!(again.rows.iter().any(|row| row.conv == first), "{again:?}");
    assert!(!house.enter_on("bob", "tablet", &told.sync).await.welcome.fresh);
    // Now everything is.
    assert!(house.sync(&bob, &again.sync, 10).await.rows.is_empty());
    assert!(house.enter_on("bob", "tablet", &again.sync).await.welcome.fresh);
}

#[tokio::test(start_paused = true)]
async fn f18_what_was_sent_to_somebody_offline_is_there_by_sync() {
    let house = house();
    let [ada, bob] = [house.enter("ada").await, house.enter("bob").await];
    let conv = house.direct(&ada, "bob").await;
    let (_, since) = sync_all(&house, &bob, String::new(), 10).await;
    house.leave(&bob);
    house.send(&ada, &conv, "1", "while you were out").await;
    let back = house.enter_on("bob", "phone", &since).await;
    assert!(!back.welcome.fresh);
    assert_eq!(back.welcome.sync, since);
    let (rows, next) = sync_all(&house, &back, since, 10).await;
    let row = &rows[0];
    assert_eq!((rows.len(), row.head, row.unread), (1, 1, 1));
    assert_eq!(row.peer.as_ref().map(|peer| peer.user.as_str()), Some("ada"));
    assert_eq!(row.last.as_ref().map(|last| last.from.as_str()), Some("ada"));
    house.leave(&back);
    let fresh = house.enter_on("bob", "phone", &next).await;
    assert!(fresh.welcome.fresh);
    for (name, token) in [("damaged", "1.zz.1.1".to_owned()), ("of another", house.sync(&ada, "", 0).await.sync)] {
        assert!(!house.enter_on("bob", name, &token).await.welcome.fresh, "{name}");
        assert_eq!(sync_all(&house, &fresh, token, 10).await.0.len(), 1, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn f15_the_head_of_a_larger_group_is_found_though_no_row_moved() {
    let house = house_with(RouterConfig { index_threshold: 2, ..RouterConfig::default() });
    let [ada, bob, eve] = [house.enter("ada").await, house.enter("bob").await, house.enter("eve").await];
    let group = house.group(&ada, &["bob", "eve"]).await;
    let quiet = house.group(&ada, &["bob", "eve"]).await;
    house.send(&ada, &quiet, "0", "x").await;
    let (rows, since) = sync_all(&house, &bob, String::new(), 10).await;
    assert_eq!(rows.len(), 2);
    assert!(sync_all(&house, &bob, since.clone(), 10).await.0.is_empty());
    assert!(house.enter_on("bob", "tablet", &since).await.welcome.fresh);
    for n in 0..3 {
        house.send(&eve, &group, &n.to_string(), "x").await;
    }
    assert!(!house.enter_on("bob", "tablet", &since).await.welcome.fresh);
    let (rows, next) = sync_all(&house, &bob, since, 10).await;
    assert_eq!(
        rows.iter().map(|row| (row.conv.as_str(), row.head, row.unread)).collect::<Vec<_>>(),
        [(group.as_str(), 3, 3)]
    );
    assert!(sync_all(&house, &bob, next.clone(), 10).await.0.is_empty());
    assert!(house.enter_on("bob", "tablet", &next).await.welcome.fresh);
    // The same after a restart, when nothing is in memory.
    house.settle().await;
    let house = house.restarted(RouterConfig { index_threshold: 2, ..RouterConfig::default() });
    assert!(house.enter_on("bob", "tablet", &next).await.welcome.fresh);
}

#[tokio::test(start_paused = true)]
async fn f18_sync_in_pages_tells_every_conversation() {
    let house = house_with(RouterConfig { index_threshold: 2, ..RouterConfig::default() });
    let ada = house.enter("ada").await;
    let [_bob, _eve] = [house.enter("bob").await, house.enter("eve").await];
    let mut all = BTreeSet::new();
    for n in 0..30 {
        let conv =
            if n % 2 == 0 { house.group(&ada, &["bob"]).await } else { house.group(&ada, &["bob", "eve"]).await };
        house.send(&ada, &conv, "0", &"x".repeat(30_000)).await;
        all.insert(conv);
    }
    let (rows, since) = sync_all(&house, &ada, String::new(), 7).await;
    assert_eq!(rows.iter().map(|row| row.conv.clone()).collect::<BTreeSet<_>>(), all);
    let bob = house.enter_on("bob", "laptop", "").await;
    let (_, bobs) = sync_all(&house, &bob, String::new(), 500).await;
    for conv in &all {
        house.send(&ada, conv, "1", "news").await;
    }
    for (client, token) in [(&ada, since), (&bob, bobs)] {
        let (rows, _) = sync_all(&house, client, token, 4).await;
        let told: BTreeSet<_> = rows.iter().filter(|row| row.head == 2).map(|row| row.conv.clone()).collect();
        assert_eq!(told, all);
    }
}

#[tokio::test(start_paused = true)]
async fn f08_who_has_left_is_told_that_and_nothing_else() {
    let house = house();
    let [ada, bob] = [house.enter("ada").await, house.enter("bob").await];
    let conv = house.group(&ada, &["bob"]).await;
    house.send(&ada, &conv, "0", "before").await;
    let (_, since) = sync_all(&house, &bob, String::new(), 10).await;
    house.ask(&bob, FrameBody::Leave(pb::Leave { conv: conv.clone() })).await.unwrap();
    house.send(&ada, &conv, "1", "after").await;
    let (rows, _) = sync_all(&house, &bob, since, 10).await;
    let left = pb::Row { conv: conv.clone(), kind: 2, left: true, ..pb::Row::default() };
    assert_eq!(rows, [left]);
    assert!(sync_all(&house, &bob, String::new(), 10).await.0.is_empty());
    for body in [
        FrameBody::History(pb::History { conv: conv.clone(), ..pb::History::default() }),
        FrameBody::Get(pb::Get { conv: conv.clone() }),
        FrameBody::Send(sending(&conv, "9", "x")),
    ] {
        assert_eq!(house.refused(&bob, body).await, 301);
    }
}

#[tokio::test(start_paused = true)]
async fn f23_history_pages_both_ways_are_in_order_and_gapless() {
    let house = house();
    let ada = house.enter("ada").await;
    let conv = house.direct(&ada, "ada").await;
    for n in 1..=130 {
        house.send(&ada, &conv, &n.to_string(), "x").await;
    }
    let page = async |after: Option<u64>, before: Option<u64>, limit: u32| {
        let history = pb::History { conv: conv.clone(), after, before, limit };
        let Ok(FrameBody::Page(page)) = house.ask(&ada, FrameBody::History(history)).await else { panic!() };
        assert_eq!(page.head, 130);
        page.entries.iter().map(|entry| entry.seq).collect::<Vec<_>>()
    };
    for (after, before, limit, want) in [
        (Some(0), None, 0, 1..=50),
        (Some(100), None, 500, 101..=130),
        (Some(10), None, 100, 11..=110),
        (None, Some(131), 100, 31..=130),
        (None, Some(20), 5, 15..=19),
        (None, None, 3, 128..=130),
    ] {
        assert_eq!(page(after, before, limit).await, want.collect::<Vec<_>>(), "{after:?} {before:?} {limit}");
    }
    assert!(page(Some(130), None, 9).await.is_empty());
    assert!(page(Some(u64::MAX), None, 9).await.is_empty());
    assert!(page(None, Some(0), 9).await.is_empty());
    assert!(page(None, Some(1), 9).await.is_empty());
    let both = pb::History { conv: conv.clone(), after: Some(1), before: Some(2), limit: 1 };
    assert_eq!(house.refused(&ada, FrameBody::History(both)).await, 104);
}

#[tokio::test(start_paused = true)]
async fn f23_a_page_is_cut_to_what_a_client_accepts() {
    let house = house();
    let ada = house.enter("ada").await;
    let conv = house.direct(&ada, "ada").await;
    // Line feeds take two bytes in JSON.
    for n in 1..=60 {
        house.send(&ada, &conv, &n.to_string(), &"\n".repeat(30_000)).await;
    }
    let mut seqs = Vec::new();
    while seqs.len() < 60 {
        let after = Some(seqs.len() as u64);
        let history = pb::History { conv: conv.clone(), after, before: None, limit: 500 };
        let Ok(FrameBody::Page(page)) = house.ask(&ada, FrameBody::History(history)).await else { panic!() };
        assert!(!page.entries.is_empty() && page.entries.len() < 60);
        assert!(serde_json::to_vec(&page).unwrap().len() <= roost_wire::limits::SERVER_FRAME_BYTES_MAX);
        seqs.extend(page.entries.iter().map(|entry| entry.seq));
    }
    assert_eq!(seqs, (1..=60).collect::<Vec<_>>());
}
