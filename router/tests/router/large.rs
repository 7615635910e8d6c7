//! Groups above the interest threshold: their sessions join a topic.

use roost_router::RouterConfig;
use roost_storage::testkit::Op;
use roost_wire::{FrameBody, pb};

use crate::harness::{Client, House, house_with};

fn config() -> RouterConfig {
    RouterConfig { index_threshold: 2, interest_threshold: 3, ..RouterConfig::default() }
}

async fn group() -> (House, Vec<Client>, String) {
    let house = house_with(config());
    let mut clients = Vec::new();
    for id in ["ada", "bob", "cem", "dan", "eve"] {
        clients.push(house.enter(id).await);
    }
    let conv = house.group(&clients[0], &["bob", "cem", "dan"]).await;
    (house, clients, conv)
}

fn members(conv: &str, add: &[&str], remove: &[&str]) -> FrameBody {
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
    FrameBody::Members(pb::Members { conv: conv.into(), add: ids(add), remove: ids(remove), roles: Vec::new() })
}

#[tokio::test(start_paused = true)]
async fn f08_a_large_group_reaches_all_its_members_by_its_topic_and_nobody_else() {
    let (house, clients, conv) = group().await;
    house.send(&clients[0], &conv, "0", "x").await;
    let late = house.enter_on("dan", "tablet", "").await;
    let users = house.store.calls(Op::Index);
    house.send(&clients[0], &conv, "1", "x").await;
    let counts: Vec<_> = clients.iter().chain([&late]).map(|client| house.entries(client).len()).collect();
    assert_eq!(counts, [0, 2, 2, 2, 0, 1]);
    assert_eq!(house.store.calls(Op::Index), users, "connecting reads no index");
}

#[tokio::test(start_paused = true)]
async fn f08_who_leaves_a_large_group_leaves_its_topic_also_when_it_becomes_small() {
    let (house, clients, conv) = group().await;
    house.send(&clients[0], &conv, "0", "x").await;
    house.ask(&clients[0], members(&conv, &["eve"], &["bob"])).await.unwrap();
    assert!(!house.joined(&clients[1], &conv) && house.joined(&clients[4], &conv));
    house.send(&clients[0], &conv, "1", "x").await;
    house.ask(&clients[0], members(&conv, &[], &["cem"])).await.unwrap();
    // Three are left: addressed by session now.
    for client in &clients {
        assert!(!house.joined(client, &conv), "{}", client.user);
        house.told(client);
    }
    house.send(&clients[0], &conv, "2", "x").await;
    let counts: Vec<_> = clients.iter().map(|client| house.entries(client).len()).collect();
    assert_eq!(counts, [0, 0, 0, 1, 1]);
    house.ask(&clients[0], members(&conv, &["bob"], &[])).await.unwrap();
    clients.iter().for_each(|client| drop(house.told(client)));
    house.send(&clients[0], &conv, "3", "x").await;
    let counts: Vec<_> = clients.iter().map(|client| house.entries(client).len()).collect();
    assert_eq!(counts, [0, 1, 0, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn f08_members_find_a_large_group_after_a_restart() {
    let (house, clients, conv) = group().await;
    house.send(&clients[0], &conv, "0", "x").await;
    house.settle().await;
    let house = house.restarted(config());
    let [ada, bob] = [house.enter("ada").await, house.enter("bob").await];
    house.send(&ada, &conv, "1", "x").await;
    let cem = house.enter("cem").await;
    house.send(&ada, &conv, "2", "x").await;
    assert_eq!((house.entries(&bob).len(), house.entries(&cem).len()), (2, 1));
}
