//! Sessions that an edge brings from another router.

use roost_router::{Adoptee, RouterConfig};
use roost_wire::{CloseCode, FrameBody, pb};

use crate::harness::{Client, Got, SHARDS, house, house_with};
use crate::nodes::nodes;

fn adoptee(client: &Client, device: &str, name: &str) -> Adoptee {
    Adoptee { session: client.key, user: client.user.clone(), device: device.into(), name: name.into() }
}

#[tokio::test(start_paused = true)]
async fn an_adopted_session_is_as_one_that_came_by_itself() {
    let house = house();
    let (ada, bob) = (house.adrift("u_ada"), house.enter("u_bob").await);
    let watch = pb::Watch { users: vec!["u_ada".into()] };
    // They may see each other: they have a conversation from before.
    let before = house.enter_on("u_ada", "phone", "").await;
    let conv = house.direct(&before, "u_bob").await;
    house.leave(&before);
    house.ask(&bob, FrameBody::Watch(watch)).await.unwrap();
    house.settle().await;
    house.router.adopt(&adoptee(&ada, "phone", "Ada"));
    assert!(house.told(&ada).is_empty(), "it is told nothing");
    house.settle().await;
    let online = house
        .pushes(&bob)
        .into_iter()
        .any(|body| matches!(body, FrameBody::Presence(presence) if presence.users.iter().any(|user| user.online)));
    assert!(online, "who watches is told");
    house.send(&bob, &conv, "1", "hi").await;
    assert_eq!(house.entries(&ada).len(), 1);
    assert_eq!(house.send(&ada, &conv, "2", "hi").await.seq, 2);
    house.leave(&ada);
    house.settle().await;
    assert_eq!(house.router.metrics().get("roost_router_sessions"), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn an_adopted_session_makes_way_for_the_device_that_is_there() {
    let house = house();
    let (newer, older) = (house.enter_on("u_ada", "phone", "").await, house.adrift("u_ada"));
    house.router.adopt(&adoptee(&older, "phone", ""));
    assert!(matches!(house.told(&older)[..], [Got::Close(CloseCode::Drain)]), "{:?}", house.told(&older));
    house.ask(&newer, FrameBody::Sync(pb::Sync::default())).await.unwrap();
    // Another device of hers lives beside it; and who comes after it replaces it.
    let tablet = house.adrift("u_ada");
    house.router.adopt(&adoptee(&tablet, "tablet", ""));
    house.enter_on("u_ada", "tablet", "").await;
    assert!(matches!(house.told(&tablet)[..], [Got::Close(CloseCode::Replaced)]));
}

#[tokio::test(start_paused = true)]
async fn an_adopted_session_joins_the_large_groups_that_are_loaded() {
    let house = house_with(RouterConfig { interest_threshold: 3, ..RouterConfig::default() });
    let ada = house.enter("u_ada").await;
    let others = ["u_1", "u_2", "u_3"];
    let mut clients = Vec::new();
    for other in others {
        clients.push(house.enter(other).await);
    }
    let conv = house.group(&ada, &others).await;
    // It is loaded by the first who asks for it.
    house.send(&ada, &conv, "1", "hi").await;
    house.leave(&clients[2]);
    let member = house.adrift("u_3");
    house.router.adopt(&adoptee(&member, "phone", ""));
    assert!(house.joined(&member, &conv));
}

#[tokio::test(start_paused = true)]
async fn shards_that_are_no_more_take_their_sessions_with_them() {
    let house = house();
    let mut clients = Vec::new();
    for n in 0..30 {
        clients.push(house.enter(&format!("u_{n}")).await);
    }
    let on =
        |shards: std::ops::Range<u16>| clients.iter().filter(|client| shards.contains(&client.key.shard())).count();
    assert_eq!(house.router.drop_shards(1..SHARDS).await, on(1..SHARDS));
    assert_eq!(house.router.metrics().get("roost_router_sessions"), Some(on(0..1) as f64));
    let online = |client: &&Client| house.router.online(std::slice::from_ref(&client.user))[0];
    assert!(clients.iter().filter(online).all(|client| client.key.shard() == 0));
    assert_eq!(house.router.drop_shards(1..SHARDS).await, 0, "again is nothing");
}

#[tokio::test(start_paused = true)]
async fn other_nodes_hear_of_an_adopted_session_and_end_none_for_it() {
    let nodes = nodes(2);
    let [one, two] = &nodes.nodes[..] else { panic!("two") };
    let there = one.enter_on("u_ada", "phone", "").await;
    nodes.deliver().await;
    let here = two.adrift("u_bob");
    two.router.adopt(&adoptee(&here, "phone", ""));
    let double = two.adrift("u_ada");
    two.router.adopt(&adoptee(&double, "phone", ""));
    nodes.deliver().await;
    assert!(one.router.online(std::slice::from_ref(&here.user))[0]);
    assert!(one.told(&there).iter().all(|got| !matches!(got, Got::Close(_))));
    assert!(two.told(&double).is_empty());
    // Whoever comes as that device later ends both.
    one.enter_on("u_ada", "phone", "").await;
    nodes.deliver().await;
    assert!(matches!(one.told(&there).last(), Some(Got::Close(CloseCode::Replaced))));
    assert!(matches!(two.told(&double)[..], [Got::Close(CloseCode::Replaced)]));
}
