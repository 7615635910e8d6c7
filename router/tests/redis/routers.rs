//! Routers on one store, with a real Redis between them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use roost_fixtures::redis::Redis;
use roost_router::RouterConfig;
use roost_router::redis::{Link, RedisBus, RedisOptions, Serving};
use roost_storage::MemoryStore;
use roost_wire::{CloseCode, FrameBody, pb};

use crate::harness::{Client, Got, House, TestEnv, sending};
use crate::kit::{NEVER, acquainted, cluster_name, join, options, redis, until};

/// A node: a router that serves what comes through Redis.
pub(crate) struct Node {
    pub(crate) house: House<MemoryStore, RedisBus>,
    pub(crate) bus: RedisBus,
    _serving: Serving,
}

/// Nodes on one store, which have heard of each other.
pub(crate) async fn nodes(options: &RedisOptions, names: &[&str]) -> Vec<Node> {
    let store = Arc::new(MemoryStore::default());
    let drawn: Arc<AtomicU64> = Arc::default();
    let mut nodes = Vec::new();
    for name in names {
        let (bus, inbox) = join(options, name).await;
        let env = TestEnv { now_ms: Arc::new(AtomicU64::new(1_790_000_000_000)), drawn: Arc::clone(&drawn) };
        let house = House::beside(&store, RouterConfig::default(), env, bus.clone());
        let serving = inbox.serve(&house.router);
        nodes.push(Node { house, bus, _serving: serving });
    }
    acquainted(&nodes.iter().map(|node| &node.bus).collect::<Vec<_>>()).await;
    until("all hear all", || nodes.iter().all(|node| node.metric("roost_router_nodes") as usize == names.len() - 1))
        .await;
    nodes
}

impl Node {
    pub(crate) fn metric(&self, name: &str) -> u64 {
        self.house.router.metrics().get(name).expect("there is such a metric") as u64
    }
}

async fn presence(node: &Node, watcher: &Client, of: &str) -> bool {
    let watch = FrameBody::Watch(pb::Watch { users: vec![of.into()] });
    match node.house.ask(watcher, watch).await {
        Ok(FrameBody::Presence(presence)) => presence.users[0].online,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_and_presence_cross_and_a_device_has_one_session() {
    let options = options(&redis().url(), &cluster_name());
    let nodes = nodes(&options, &["a", "b"]).await;
    let [a, b] = nodes.as_slice() else { panic!() };
    let (ada, bob) = (a.house.enter("ada").await, b.house.enter("bob").await);
    until("each knows of the other's", || nodes.iter().all(|node| node.metric("roost_router_users_elsewhere") == 1))
        .await;
    let conv = a.house.direct(&ada, "bob").await;
    assert!(presence(a, &ada, "bob").await);

    for number in 1..=50 {
        a.house.send(&ada, &conv, &number.to_string(), "x").await;
    }
    let mut seqs = Vec::new();
    until("all came to Bob", || {
        seqs.extend(b.house.entries(&bob).into_iter().map(|entry| entry.seq));
        seqs.len() >= 50
    })
    .await;
    assert_eq!(seqs, (1..=50).collect::<Vec<u64>>());

    // Her phone comes in again, on the other node.
    let again = b.house.enter("ada").await;
    until("the older session ends", || {
        a.house.told(&ada).iter().any(|got| matches!(got, Got::Close(CloseCode::Replaced)))
    })
    .await;
    b.house.leave(&bob);
    until("he is gone everywhere", || a.metric("roost_router_users_elsewhere") == 1).await;
    b.house.leave(&again);
    until("so is she", || a.metric("roost_router_users_elsewhere") == 0).await;
    for node in &nodes {
        assert_eq!(node.metric("roost_router_parcel_gaps_total"), 0, "nothing was lost");
    }
}

/// A client that keeps the log's order, as the protocol asks: a gap or a doubt has it read what it does not have.
struct Reader {
    client: Client,
    conv: String,
    texts: BTreeMap<u64, String>,
    pushed: u64,
}

impl Reader {
    async fn look(&mut self, node: &Node) {
        let mut behind = false;
        for got in node.house.told(&self.client) {
            match got {
                Got::Push(FrameBody::Entry(entry)) => {
                    assert!(entry.seq > self.pushed, "{} was pushed after {}", entry.seq, self.pushed);
                    behind |= entry.seq != self.pushed + 1;
                    self.pushed = entry.seq;
                    self.texts.insert(entry.seq, entry.cmid);
                }
                Got::Doubt => behind = true,
                Got::Push(FrameBody::Changed(_)) | Got::Accepted(_) | Got::Reply(_) => {}
                other => panic!("{other:?}"),
            }
        }
        if behind {
            for entry in node.house.page(&self.client, &self.conv).await {
                self.texts.insert(entry.seq, entry.cmid);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_restarted_under_load_loses_and_doubles_and_disorders_nothing_acknowledged() {
    const SENDS: u64 = 400;
    let mut server = Redis::start().unwrap();
    let options = options(&server.url(), "c");
    let nodes = nodes(&options, &["a", "b", "c"]).await;
    let [a, b, c] = nodes.as_slice() else { panic!() };
    let (ada, bob, cyd) = (a.house.enter("ada").await, b.house.enter("bob").await, c.house.enter("cyd").await);
    until("all are known", || nodes.iter().all(|node| node.metric("roost_router_users_elsewhere") == 2)).await;
    let conv = a.house.group(&ada, &["bob", "cyd"]).await;
    let reader =
        |client: &Client| Reader { client: client.clone(), conv: conv.clone(), texts: BTreeMap::new(), pushed: 0 };
    let mut readers = [(b, reader(&bob)), (c, reader(&cyd))];
    // His own are not pushed to him: a doubt would have him read them, a gap as well.
    let mut acknowledged = BTreeMap::new();
    for number in 0..SENDS {
        let cmid = number.to_string();
        let sent =
            a.house.try_send(&ada, sending(&conv, &cmid, "x")).await.expect("the store has it, whatever Redis does");
        assert!(acknowledged.insert(sent.seq, cmid).is_none());
        match number {
            100 => server.kill9(),
            200 => server.start_again().unwrap(),
            _ => tokio::time::sleep(Duration::from_millis(4)).await,
        }
        for (node, reader) in &mut readers {
            reader.look(node).await;
        }
    }
    let deadline = tokio::time::Instant::now() + NEVER;
    for (node, reader) in &mut readers {
        while !acknowledged.iter().all(|(seq, cmid)| reader.texts.get(seq) == Some(cmid)) {
            let (has, wants) = (reader.texts.len(), acknowledged.len());
            assert!(tokio::time::Instant::now() < deadline, "{} has {has} of {wants}", reader.client.user);
            tokio::time::sleep(Duration::from_millis(20)).await;
            reader.look(node).await;
        }
        assert_eq!(reader.texts.len(), acknowledged.len(), "and nothing else");
    }
    until("all are up", || nodes.iter().all(|node| node.bus.health().link == Link::Up)).await;
    // And then it is as before: what is sent is pushed.
    until("all are known again", || nodes.iter().all(|node| node.metric("roost_router_users_elsewhere") == 2)).await;
    let sent = a.house.send(&ada, &conv, "last", "x").await;
    for (node, reader) in &mut readers {
        let pushed = |got: &Got| matches!(got, Got::Push(FrameBody::Entry(entry)) if entry.seq == sent.seq);
        until("the last one is pushed", || node.house.told(&reader.client).iter().any(pushed)).await;
    }
}
