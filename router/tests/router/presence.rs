//! WATCH, PRESENCE, last seen.

use std::time::Duration;

use roost_storage::testkit::Op;
use roost_wire::{FrameBody, pb};

use crate::harness::{Client, House, house};

fn watch(users: &[String]) -> FrameBody {
    FrameBody::Watch(pb::Watch { users: users.to_vec() })
}

async fn look(house: &House, client: &Client, user: &str) -> pb::UserPresence {
    let Ok(FrameBody::Presence(presence)) = house.ask(client, watch(&[user.to_owned()])).await else { panic!() };
    presence.users[0].clone()
}

fn changes(house: &House, client: &Client) -> Vec<bool> {
    let online = |body| match body {
        FrameBody::Presence(presence) => Some(presence.users[0].online),
        _ => None,
    };
    house.pushes(client).into_iter().filter_map(online).collect()
}

#[tokio::test(start_paused = true)]
async fn f17_only_those_who_watch_are_told_and_a_user_that_flaps_causes_nothing() {
    let house = house();
    let [ada, eve] = [house.enter("ada").await, house.enter("eve").await];
    let before = look(&house, &ada, "bob").await;
    assert_eq!((before.online, before.last_seen), (false, 0));
    let bob = house.enter("bob").await;
    house.settle().await;
    assert_eq!((changes(&house, &ada), changes(&house, &eve)), (vec![true], vec![]));
    assert!(look(&house, &ada, "bob").await.online);
    let deliveries = house.deliveries();
    let mut bob = bob;
    for _ in 0..5 {
        house.leave(&bob);
        bob = house.enter("bob").await;
    }
    house.settle().await;
    assert_eq!(house.deliveries(), deliveries);
    // A second device going away is no change.
    let tablet = house.enter_on("bob", "tablet", "").await;
    house.leave(&tablet);
    house.settle().await;
    assert_eq!(changes(&house, &ada), Vec::<bool>::new());
    house.leave(&bob);
    house.settle().await;
    assert_eq!(changes(&house, &ada), [false]);
    house.ask(&ada, FrameBody::Unwatch(pb::Unwatch { users: vec!["bob".into()] })).await.unwrap();
    house.enter("bob").await;
    house.settle().await;
    assert_eq!(changes(&house, &ada), Vec::<bool>::new());
}

#[tokio::test(start_paused = true)]
async fn f17_last_seen_is_written_in_batches_for_users_that_have_a_record() {
    let house = house();
    let ada = house.enter("ada").await;
    let mut guests = Vec::new();
    for _ in 0..5 {
        let connect = pb::Connect { guest: "Bob".into(), ..pb::Connect::default() };
        guests.push(house.connect_with(connect).await);
    }
    let stranger = house.enter("stranger").await;
    house.settle().await;
    let before = house.store.calls(Op::PutUsers);
    guests.iter().chain([&stranger]).for_each(|client| house.leave(client));
    assert_eq!(look(&house, &ada, guests[0].user.as_str()).await.last_seen, house.env_now());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(house.store.calls(Op::PutUsers), before + 1);
    house.env.now_ms.fetch_add(5000, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(look(&house, &ada, guests[4].user.as_str()).await.last_seen, house.env_now() - 5000);
    assert_eq!(look(&house, &ada, "stranger").await.last_seen, 0);
}

#[tokio::test(start_paused = true)]
async fn f17_a_session_watches_so_many_users() {
    let house = house();
    let ada = house.enter("ada").await;
    let names: Vec<String> = (0..600).map(|n| format!("user{n}")).collect();
    assert_eq!(house.refused(&ada, watch(&names)).await, 104);
    house.ask(&ada, watch(&names[..512])).await.unwrap();
    house.ask(&ada, watch(&names[..3])).await.unwrap();
    assert_eq!(house.refused(&ada, watch(&names[512..])).await, 404);
}
