//! Connecting and reading while others write: nothing falls between the read and the pushes.

use std::sync::Arc;

use roost_router::RouterConfig;
use roost_router::auth::Scope;
use roost_storage::testkit::Op;
use roost_wire::link::Up;
use roost_wire::{FrameBody, pb};

use crate::gated::GatedStore;
use crate::harness::{Got, House, house_with};

/// Bob, who missed nothing, connects; while the answer to `op` is on its way Ada writes. What Bob is told.
async fn written_while_connecting(config: RouterConfig, op: Op) -> (pb::Welcome, Vec<Got>) {
    let house: House<GatedStore> = House::over(Arc::new(GatedStore::default()), config);
    let ada = house.enter("ada").await;
    let [bob, _eve] = [house.enter("bob").await, house.enter("eve").await];
    let conv = house.group(&ada, &["bob", "eve"]).await;
    house.send(&ada, &conv, "0", "before").await;
    let sync = house.sync(&bob, "", 0).await.sync;
    house.leave(&bob);
    let held = house.store.hold(op);
    let session = house.next_key();
    let token = house.token("bob", "", Scope::User);
    let connect = pb::Connect { token, device: "phone".into(), sync, ..pb::Connect::default() };
    house.router.submit(&mut vec![Up::Connect {
        session,
        rid: 1,
        connect,
        bearer: None,
        peer: ([127, 0, 0, 1], 1).into(),
    }]);
    held.read.await.unwrap();
    house.send(&ada, &conv, "1", "meanwhile").await;
    held.go.send(()).unwrap();
    house.settle().await;
    let told = house.wait(|edge| edge.told.get(&session).cloned()).await;
    let Got::Accepted(welcome) = told[0].clone() else { panic!("{told:?}") };
    (welcome, told)
}

#[tokio::test(start_paused = true)]
async fn f18_what_is_written_while_one_connects_is_not_called_fresh() {
    for op in [Op::LastChange, Op::Metas] {
        let (welcome, _) = written_while_connecting(RouterConfig::default(), op).await;
        assert!(!welcome.fresh, "{op:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn f18_what_goes_past_to_a_topic_while_one_connects_is_told_by_changed() {
    let config = RouterConfig { index_threshold: 1, interest_threshold: 2, ..RouterConfig::default() };
    let (welcome, told) = written_while_connecting(config, Op::Metas).await;
    let must_sync = |got: &Got| matches!(got, Got::Push(FrameBody::Changed(changed)) if changed.more);
    assert!(!welcome.fresh || told.iter().any(must_sync), "{told:?}");
}

/// A conversation of `sync`'s user moves while SYNC reads: the token must not pass over it.
#[tokio::test(start_paused = true)]
async fn f18_what_moves_while_sync_reads_is_told_by_that_or_the_next_sync() {
    for op in [Op::Index, Op::Metas] {
        let config = RouterConfig { index_threshold: 1, ..RouterConfig::default() };
        let house: House<GatedStore> = House::over(Arc::new(GatedStore::default()), config);
        let [ada, bob] = [house.enter("ada").await, house.enter("bob").await];
        let [first, second] = [house.group(&ada, &["bob"]).await, house.group(&ada, &["bob"]).await];
        let since = house.sync(&bob, "", 0).await.sync;
        house.send(&ada, &second, "0", "x").await;
        let held = house.store.hold(op);
        let rid = house.command(&bob, FrameBody::Sync(pb::Sync { since, limit: 0 }));
        held.read.await.unwrap();
        house.send(&ada, &first, "0", "x").await;
        house.send(&ada, &second, "1", "x").await;
        held.go.send(()).unwrap();
        let Ok(FrameBody::Changed(one)) = house.reply(&bob, rid).await else { panic!() };
        let two = house.sync(&bob, &one.sync, 0).await;
        let head =
            |conv: &str| one.rows.iter().chain(&two.rows).filter(|row| row.conv == conv).map(|row| row.head).max();
        assert_eq!((head(&first), head(&second)), (Some(1), Some(2)), "{op:?}");
        assert!(house.sync(&bob, &two.sync, 0).await.rows.is_empty());
    }
}

/// The same of one that is told anyway, because of what the user did there: the head beside it may be older than the token.
#[tokio::test(start_paused = true)]
async fn f18_what_moves_after_its_row_was_read_is_told_by_that_or_the_next_sync() {
    let config = RouterConfig { index_threshold: 1, ..RouterConfig::default() };
    let house: House<GatedStore> = House::over(Arc::new(GatedStore::default()), config);
    let [ada, bob] = [house.enter("ada").await, house.enter("bob").await];
    let conv = house.group(&ada, &["bob"]).await;
    let since = house.sync(&bob, "", 0).await.sync;
    house.send(&bob, &conv, "0", "x").await;
    let held = house.store.hold(Op::LastEntries);
    let rid = house.command(&bob, FrameBody::Sync(pb::Sync { since, limit: 0 }));
    held.read.await.unwrap();
    house.send(&ada, &conv, "1", "x").await;
    held.go.send(()).unwrap();
    let Ok(FrameBody::Changed(one)) = house.reply(&bob, rid).await else { panic!() };
    let two = house.sync(&bob, &one.sync, 0).await;
    assert_eq!(one.rows.iter().chain(&two.rows).map(|row| row.head).max(), Some(2), "{one:?} {two:?}");
}

/// A row that changes behind its page is not in that page, nor does its group stand out by a head that moved after it:
/// what was written there before must not wait until somebody asks again.
#[tokio::test(start_paused = true)]
async fn f18_a_row_that_changes_behind_its_page_is_told_all_the_same() {
    for (own, groups_move) in [("a message", false), ("a mark", false), ("a mark", true)] {
        let config = RouterConfig { index_threshold: 1, ..RouterConfig::default() };
        let house: House<GatedStore> = House::over(Arc::new(GatedStore::default()), config);
        let [ada, bob] = [house.enter("ada").await, house.enter("bob").await];
        let other = house.enter_on("bob", "laptop", "").await;
        let mut groups = [house.group(&ada, &["bob"]).await, house.group(&ada, &["bob"]).await];
        groups.sort_unstable();
        let [busy, conv] = groups;
        let since = house.sync(&bob, "", 0).await.sync;
        house.send(&ada, &conv, "0", "x").await;
        let held = house.store.hold(Op::Index);
        let rid = house.command(&bob, FrameBody::Sync(pb::Sync { since: since.clone(), limit: 0 }));
        held.read.await.unwrap();
        match own {
            "a message" => drop(house.send(&other, &conv, "1", "x").await),
            _ => drop(house.ask(&other, FrameBody::Read(pb::Read { conv: conv.clone(), seq: 1 })).await.unwrap()),
        }
        let heads = groups_move.then(|| house.store.hold(Op::Metas));
        held.go.send(()).unwrap();
        if let Some(held) = heads {
            // Read before that and after it: how far the heads are known is not certain, and the token stays.
            held.read.await.unwrap();
            house.send(&ada, &busy, "0", "x").await;
            held.go.send(()).unwrap();
        }
        let Ok(FrameBody::Changed(one)) = house.reply(&bob, rid).await else { panic!() };
        let (head, read) = if own == "a message" { (2, 2) } else { (1, 1) };
        let told: Vec<_> = one.rows.iter().map(|row| (row.conv.as_str(), row.head, row.read)).collect();
        assert_eq!(told, [(conv.as_str(), head, read)], "{own}, {groups_move}");
        assert_eq!(one.sync == since, groups_move, "{own}");
        let two = house.sync(&bob, &one.sync, 0).await;
        let three = house.sync(&bob, &two.sync, 0).await;
        assert_eq!((three.rows.len(), three.more), (0, false), "{own}, {groups_move}: it comes to an end");
    }
}

#[tokio::test(start_paused = true)]
async fn f17_who_leaves_while_looking_does_not_see_who_joins_then() {
    let house: House<GatedStore> = House::over(Arc::new(GatedStore::default()), RouterConfig::default());
    let [ada, bob, _eve] = [house.enter("ada").await, house.enter("bob").await, house.enter("eve").await];
    let conv = house.group(&ada, &["bob"]).await;
    let held = house.store.hold(Op::Index);
    let rid = house.command(&ada, FrameBody::Watch(pb::Watch { users: vec!["bob".into(), "eve".into()] }));
    held.read.await.unwrap();
    house.ask(&ada, FrameBody::Leave(pb::Leave { conv: conv.clone() })).await.unwrap();
    let add = pb::Members { conv, add: vec!["eve".into()], ..pb::Members::default() };
    house.ask(&bob, FrameBody::Members(add)).await.expect("the group is his now");
    held.go.send(()).unwrap();
    let Ok(FrameBody::Presence(presence)) = house.reply(&ada, rid).await else { panic!() };
    let seen = presence.users.iter().filter(|user| user.online || user.last_seen > 0);
    assert_eq!(seen.count(), 0, "she was never in a group with Eve, and is in none with Bob any more");
}

#[tokio::test(start_paused = true)]
async fn f09_a_direct_conversation_with_a_user_nobody_knows_any_more_opens_again() {
    let first = house_with(RouterConfig::default());
    let ada = first.enter("ada").await;
    first.enter("bob").await;
    let conv = first.direct(&ada, "bob").await;
    // The same conversation in a store that has no record of bob.
    let second = house_with(RouterConfig::default());
    let ada = second.enter("ada").await;
    let create =
        |other: &str| FrameBody::Create(pb::Create { kind: 1, members: vec![other.into()], ..pb::Create::default() });
    assert_eq!(second.refused(&ada, create("bob")).await, 304);
    let meta = roost_storage::ConvMeta {
        conv: roost_wire::ConvId::new(&conv).unwrap(),
        kind: pb::Kind::Direct,
        name: String::new(),
        open: false,
        created_ms: 1,
        head: 0,
        changed: 0,
    };
    let member = |id: &str| roost_storage::Member { user: crate::harness::user(id), role: pb::Role::Owner };
    roost_storage::Store::create(&*second.store, meta, vec![member("ada"), member("bob")]).await.unwrap();
    assert_eq!(second.direct(&ada, "bob").await, conv);
}
