//! Several nodes on a real Cassandra and a real Redis, as somebody who runs them sees them.

use roost_fixtures::cassandra::{Cassandra, Options};
use roost_fixtures::redis::Redis;
use serde_json::{Value, json};

use crate::common::{Client, PATIENCE, Server, folder, roost};

fn run(args: &[&str]) -> String {
    let output = roost(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What a command that cannot work says.
fn refused(args: &[&str]) -> String {
    let output = roost(args).output().unwrap();
    assert!(!output.status.success(), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn f32_people_on_two_nodes_talk_a_backend_publishes_and_a_node_is_drained() {
    let cassandra = Cassandra::start(&Options { durable: false, ..Options::default() }).unwrap();
    let redis = Redis::start().unwrap();
    let store = format!("cql://{}/chat", cassandra.contact_points()[0]);
    let redis_url = redis.url();
    let (_guards, folders): (Vec<_>, Vec<_>) = (0..3).map(|_| folder()).unzip();
    let shared = ["--store", &store, "--redis", &redis_url];

    // What is missing is named, with what to do.
    assert!(
        refused(&["serve", "--store", &store, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .contains("roost store migrate")
    );
    run(&["store", "migrate", &store, "--replication", "1"]);
    let key = folders[0].join("key");
    let key = key.to_str().unwrap();
    run(&["store", "key", &store, "--out", key]);
    assert!(refused(&["store", "key", &store, "--out", key]).contains("must not exist"));

    let a = Server::start(&folders[0], &[&shared[..], &["--node", "a"]].concat());
    let b = Server::start(&folders[1], &[&shared[..], &["--node", "b"]].concat());
    let listen = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--node", "b"];
    let taken = refused(&[&listen[..], &shared[..]].concat());
    assert!(taken.contains("name"), "{taken}");

    let (ada, bob) = (a.guest("Ada"), b.guest("Bob"));
    let mut at_a = Client::connect(a.listen, &ada).await;
    let mut at_b = Client::connect(b.listen, &bob).await;
    let conv = at_a.direct(&bob).await;
    at_a.ask("send", json!({ "conv": conv, "cmid": "1", "body": { "text": "hi" } }), "sent").await.unwrap();
    let entry = pushed(&mut at_b, "entry").await;
    assert_eq!((entry["seq"].as_u64(), entry["body"]["text"].as_str()), (Some(1), Some("hi")));

    // A backend, with a token made from the key: its publish at one node reaches who subscribed at the other.
    at_b.ask("subscribe", json!({ "channel": "news" }), "ok").await.unwrap();
    let token = run(&["token", "--service", "--token-key", key]);
    let header = format!("Content-Type: application/json\r\nAuthorization: Bearer {token}\r\n");
    let (status, answer) =
        a.http(a.listen, "POST", "/v1/publish", &header, r#"{"channel":"news","body":{"text":"now"}}"#);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(pushed(&mut at_b, "entry").await["body"]["text"], "now");

    let (status, ready) = b.get(b.admin, "/readyz");
    let ready: Value = serde_json::from_str(&ready).unwrap();
    assert_eq!(
        (status, ready["redis"]["state"].as_str(), ready["redis"]["nodes"].as_u64()),
        (200, Some("ok"), Some(2))
    );

    // The other node goes on alone, and has everything.
    let drained = run(&["drain", "--admin", &a.admin.to_string()]);
    assert!(drained.contains("stopped"), "{drained}");
    assert!(a.ended().success());
    let mut again = Client::connect(b.listen, &ada).await;
    assert_eq!(again.history(&conv).await.len(), 1);
}

/// The next push of a kind.
async fn pushed(client: &mut Client, kind: &str) -> Value {
    let find = async {
        loop {
            if let Some(place) = client.pushes.iter().position(|push| push.get(kind).is_some()) {
                return client.pushes.remove(place)[kind].take();
            }
            let frame = client.hear().await.unwrap();
            client.pushes.push(frame);
        }
    };
    tokio::time::timeout(PATIENCE, find).await.expect("it is pushed")
}
