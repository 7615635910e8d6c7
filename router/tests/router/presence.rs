//! WATCH, PRESENCE, last seen.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use roost_router::RouterConfig;
use roost_storage::testkit::Op;
use roost_storage::{Store, User};
use roost_wire::{FrameBody, pb};

use crate::harness::{Client, House, house, house_with};

fn watch(users: &[String]) -> FrameBody {
    FrameBody::Watch(pb::Watch { users: users.to_vec() })
}

/// Makes a direct conversation with a user who is not online.
async fn acquaint(house: &House, client: &Client, user: &str) {
    let record = User { user: crate::harness::user(user), name: user.into(), created_ms: 0, last_seen_ms: 0 };
    house.store.put_users(vec![record]).await.unwrap();
    house.direct(client, user).await;
}

async fn look(house: &House, client: &Client, user: &str) -> pb::UserPresence {
    let Ok(FrameBody::Presence(presence)) = house.ask(client, watch(&[user.to_owned()])).await else { panic!() };
    presence.users[0].clone()
}

/// A user as those see it who may not.
fn hidden(user: &str) -> pb::UserPresence {
    pb::UserPresence { user: user.into(), online: false, last_seen: 0 }
}

/// The user with this id, as SEARCH finds it.
async fn found(house: &House, client: &Client, user: &str) -> pb::User {
    let search = FrameBody::Search(pb::Search { prefix: user.into(), limit: 0 });
    let Ok(FrameBody::Users(users)) = house.ask(client, search).await else { panic!() };
    users.users[0].clone()
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
    acquaint(&house, &ada, "bob").await;
    let before = look(&house, &ada, "bob").await;
    assert_eq!((before.online, before.last_seen), (false, 0));
    let bob = house.enter("bob").await;
    house.settle().await;
    assert_eq!((changes(&house, &ada), changes(&house, &eve)), (vec![true], vec![]));
    assert!(look(&house, &ada, "bob").await.online);
    // Eve looks too, and is told nothing: she has nothing to do with him.
    assert_eq!(look(&house, &eve, "bob").await, hidden("bob"));
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
    assert_eq!((changes(&house, &ada), changes(&house, &eve)), (vec![false], vec![]));
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
    let before = house.store.calls(Op::PutUsers);
    for guest in &guests {
        house.direct(&ada, guest.user.as_str()).await;
    }
    house.settle().await;
    let made = house.store.calls(Op::PutUsers);
    assert_eq!(made, before + 1, "Ada's record is made");
    guests.iter().for_each(|client| house.leave(client));
    let [first, last] = [0, 4].map(|place: usize| guests[place].user.as_str().to_owned());
    assert_eq!(look(&house, &ada, &first).await.last_seen, house.env_now());
    assert_eq!(found(&house, &ada, &first).await.last_seen, house.env_now());
    assert_eq!(house.store.calls(Op::PutUsers), made);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(house.store.calls(Op::PutUsers), made + 1);
    house.env.now_ms.fetch_add(5000, Relaxed);
    assert_eq!(look(&house, &ada, &last).await.last_seen, house.env_now() - 5000);
    assert_eq!(found(&house, &ada, &last).await.last_seen, house.env_now() - 5000);
    assert_eq!(found(&house, &ada, "ada").await.last_seen, house.env_now(), "she is here");
    let eve = house.enter("eve").await;
    assert_eq!(found(&house, &eve, &last).await.last_seen, 0, "not for her to see");
}

#[tokio::test(start_paused = true)]
async fn f17_a_push_tells_when_a_user_left_even_if_that_was_written_meanwhile() {
    let config = RouterConfig { last_seen_flush_after: Duration::from_millis(10), ..RouterConfig::default() };
    let house = house_with(config);
    let ada = house.enter("ada").await;
    let bob = house.enter("bob").await;
    house.direct(&ada, "bob").await;
    assert!(look(&house, &ada, "bob").await.online);
    house.leave(&bob);
    let left_ms = house.env_now();
    house.env.now_ms.fetch_add(300, Relaxed);
    house.settle().await;
    let pushes = house.pushes(&ada).into_iter().filter_map(|body| match body {
        FrameBody::Presence(presence) => Some((presence.users[0].online, presence.users[0].last_seen)),
        _ => None,
    });
    assert_eq!(pushes.collect::<Vec<_>>(), [(false, left_ms)]);
}

#[tokio::test(start_paused = true)]
async fn f17_only_those_who_share_a_conversation_see_each_other() {
    let house = house();
    let mut clients = Vec::new();
    for id in ["ada", "bob", "cyd", "dan", "eve"] {
        clients.push(house.enter(id).await);
    }
    let [ada, bob, _, dan, eve] = clients.as_slice() else { panic!() };
    house.direct(ada, "bob").await;
    let group = house.group(ada, &["cyd", "dan"]).await;
    let users: Vec<String> = ["ada", "bob", "cyd", "dan", "eve", "nobody"].map(String::from).to_vec();
    let sees = async |client: &Client| {
        let Ok(FrameBody::Presence(presence)) = house.ask(client, watch(&users)).await else { panic!() };
        let seen = presence.users.iter().filter(|seen| seen.online).map(|seen| seen.user.clone());
        seen.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(sees(ada).await, "ada bob cyd dan");
    assert_eq!(sees(bob).await, "ada bob");
    assert_eq!(sees(dan).await, "ada cyd dan");
    assert_eq!(sees(eve).await, "eve");
    // What is decided when a watch begins is decided anew when the client watches again.
    house.ask(dan, FrameBody::Leave(pb::Leave { conv: group })).await.unwrap();
    assert_eq!(sees(dan).await, "dan");
    house.direct(eve, "bob").await;
    assert_eq!(sees(eve).await, "bob eve");
    house.settle().await;
    house.told(dan);
    clients.iter().filter(|client| client.user.as_str() == "cyd").for_each(|cyd| house.leave(cyd));
    house.settle().await;
    assert_eq!(changes(&house, ada), [false]);
    assert_eq!(changes(&house, dan), Vec::<bool>::new());
}

#[tokio::test(start_paused = true)]
async fn f17_a_session_watches_so_many_users() {
    let house = house();
    let ada = house.enter("ada").await;
    let names: Vec<String> = (0..600).map(|n| format!("user{n:03}")).collect();
    let record =
        |name: &String| User { user: crate::harness::user(name), name: name.clone(), created_ms: 0, last_seen_ms: 0 };
    house.store.put_users(names.iter().map(record).collect()).await.unwrap();
    for part in names.chunks(300) {
        house.group(&ada, &part.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    assert_eq!(house.refused(&ada, watch(&names)).await, 104);
    house.ask(&ada, watch(&names[..512])).await.unwrap();
    house.ask(&ada, watch(&names[..3])).await.unwrap();
    assert_eq!(house.refused(&ada, watch(&names[512..])).await, 404);
    // Who may not be seen takes no room.
    house.ask(&ada, watch(&["stranger".to_owned()])).await.unwrap();
}
