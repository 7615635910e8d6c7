//! What programs publish in Redis.

use std::time::Duration;

use roost_router::Bus;
use roost_router::redis::RedisOptions;
use roost_wire::{FrameBody, pb};

use crate::harness::Client;
use crate::kit::{cluster_name, metric, options, redis, until};
use crate::routers::{Node, nodes};

async fn subscriber(node: &Node, user: &str, channel: &str) -> Client {
    let client = node.house.enter(user).await;
    let subscribe = FrameBody::Subscribe(pb::Subscribe { channel: channel.into() });
    node.house.ask(&client, subscribe).await.unwrap();
    client
}

fn texts(node: &Node, client: &Client) -> Vec<String> {
    node.house.entries(client).into_iter().map(|entry| entry.body.unwrap().text).collect()
}

fn publish(channel: &str, payload: &str) {
    redis().cli(&["publish", &format!("roost:publish:{channel}"), payload]).unwrap();
}

fn published(node: &Node) -> u64 {
    metric(&node.bus, "roost_redis_bridge_published_total")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_a_publish_in_redis_is_published_once_in_order_and_by_the_next_node_when_one_dies() {
    let cluster = cluster_name();
    // Long enough that a busy machine does not lose the lease.
    let lease_ttl = Duration::from_secs(5);
    let options = RedisOptions { bridge: true, lease_ttl, ..options(&redis().url(), &cluster) };
    let mut nodes = nodes(&options, &["a", "b"]).await;
    let holder = |nodes: &[Node]| {
        let held = redis().cli(&["get", &format!("roost:{{{cluster}}}:lease:bridge")]).unwrap_or_default();
        nodes.iter().position(|node| held.contains(&node.bus.incarnation().to_string()))
    };
    until("one has the lease", || holder(&nodes).is_some()).await;
    let (ada, bob) = (subscriber(&nodes[0], "ada", "gulls").await, subscriber(&nodes[1], "bob", "gulls").await);
    // The holder lets publishes in a moment after it has the lease.
    let mut tries = 0;
    until("the bridge is open", || {
        tries += 1;
        publish("gulls", "first");
        nodes.iter().any(|node| published(node) > 0)
    })
    .await;
    for number in 0..20 {
        let payload = if number % 2 == 0 { number.to_string() } else { format!(r#"{{"text":"{number}"}}"#) };
        publish("gulls", &payload);
    }
    for bad in ["{", "{}", r#"{"text":7}"#] {
        publish("gulls", bad);
    }
    publish("no good name", "x");
    publish("gulls", "last");
    for (node, client) in [(&nodes[0], &ada), (&nodes[1], &bob)] {
        let mut came = Vec::new();
        until("all came", || {
            came.extend(texts(node, client));
            came.last().is_some_and(|text| text == "last")
        })
        .await;
        let first = came.iter().filter(|text| *text == "first").count();
        assert!(first >= 1 && first <= tries, "{first} of {tries}");
        let rest: Vec<String> = came.into_iter().filter(|text| text != "first").collect();
        let expected = (0..20).map(|number| number.to_string()).chain(["last".to_owned()]).collect::<Vec<_>>();
        assert_eq!(rest, expected, "each once, in order");
    }
    let place = holder(&nodes).unwrap();
    assert_eq!(published(&nodes[1 - place]), 0, "one node acts");
    assert_eq!(metric(&nodes[place].bus, "roost_redis_bridge_refused_total"), 3);
    until("the router refused one", || metric(&nodes[place].bus, "roost_redis_bridge_failed_total") == 1).await;

    drop(nodes.remove(place));
    let left = &nodes[0];
    let client = if place == 0 { &bob } else { &ada };
    until("the other one acts", || {
        publish("gulls", "again");
        published(left) > 0
    })
    .await;
    until("and it comes", || texts(left, client).iter().any(|text| text == "again")).await;
}
