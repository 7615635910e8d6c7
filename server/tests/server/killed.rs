//! The server is killed under load, again and again: nothing that it acknowledged is lost, nothing is there twice.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use crate::common::{Client, Failed, Guest, Server, folder};
use rustix::process::Signal;
use serde_json::{Value, json};

const ROUNDS: usize = 20;
const SENDERS: usize = 16;

/// What one sender knows.
struct Sender {
    me: Guest,
    conv: String,
    sent: u64,
    /// cmid -> (seq, text) of what was acknowledged.
    acknowledged: HashMap<String, (u64, String)>,
    /// The send whose outcome is not known, and the seq known when it was first sent.
    open: Option<(String, String, u64)>,
    head: u64,
}

impl Sender {
    /// Sends until the server is gone.
    async fn run(mut self, server: SocketAddr) -> Self {
        let mut client = Client::connect(server, &self.me).await;
        loop {
            let (cmid, text, seen, attempt) = match self.open.take() {
                Some((cmid, text, seen)) => (cmid, text, seen, 1),
                None => {
                    self.sent += 1;
                    let cmid = uuid::Uuid::now_v7().to_string();
                    (cmid, format!("message {} of {}", self.sent, self.me.user), self.head, 0)
                }
            };
            let send = json!({
                "conv": self.conv, "cmid": cmid, "body": { "text": text }, "attempt": attempt, "seen": seen
            });
            match client.ask("send", send, "sent").await {
                Ok(sent) => {
                    let seq = sent["seq"].as_u64().unwrap();
                    self.head = self.head.max(seq);
                    assert!(self.acknowledged.insert(cmid, (seq, text)).is_none());
                }
                // A killed server may have stored it or not.
                Err(Failed::Gone) => {
                    self.open = Some((cmid, text, seen));
                    return self;
                }
                Err(Failed::Error(error)) => panic!("{error}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f14_nothing_acknowledged_is_lost_when_the_server_is_killed_twenty_times() {
    let (_folder, path) = folder();
    let flags = ["--sends-per-second", "0"];
    let mut server = Server::start(&path, &flags);
    let mut senders = Vec::new();
    let hub = server.guest("Hub");
    for number in 0..SENDERS {
        let me = server.guest(&format!("Sender {number}"));
        let conv = Client::connect(server.listen, &me).await.direct(&hub).await;
        senders.push(Sender { me, conv, sent: 0, acknowledged: HashMap::new(), open: None, head: 0 });
    }
    for round in 0..ROUNDS {
        let address = server.listen;
        let running: Vec<_> = senders.drain(..).map(|sender| tokio::spawn(sender.run(address))).collect();
        // Another moment each round, so that the kill meets every stage of a commit.
        tokio::time::sleep(Duration::from_millis(40 + 37 * (round as u64 % 9))).await;
        server.stop(Signal::KILL);
        for sender in running {
            senders.push(sender.await.unwrap());
        }
        server = Server::start(&path, &flags);
        let mut reader = Client::connect(server.listen, &hub).await;
        for sender in &senders {
            check(sender, &reader.history(&sender.conv).await, round);
        }
    }
    let acknowledged: usize = senders.iter().map(|sender| sender.acknowledged.len()).sum();
    assert!(acknowledged > ROUNDS * SENDERS, "only {acknowledged} sends were acknowledged: there was no load");
    assert!(server.stop(Signal::TERM).success());
}

fn check(sender: &Sender, log: &[Value], round: usize) {
    let mut cmids = HashSet::new();
    for (at, entry) in log.iter().enumerate() {
        assert_eq!(entry["seq"], at as u64 + 1, "round {round}: a gap in {}", sender.conv);
        assert!(cmids.insert(entry["cmid"].as_str().unwrap()), "round {round}: twice in the log: {entry}");
    }
    for (cmid, (seq, text)) in &sender.acknowledged {
        let entry = log.get(*seq as usize - 1);
        let entry = entry.unwrap_or_else(|| panic!("round {round}: acknowledged seq {seq} is lost"));
        assert_eq!((&entry["cmid"], &entry["body"]["text"]), (&json!(cmid), &json!(text)), "round {round}");
    }
}
