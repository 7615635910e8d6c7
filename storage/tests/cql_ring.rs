//! Servers that die while appends go on: nothing that was acknowledged is lost, and nothing is there twice.

#[path = "cql/server.rs"]
mod server;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use roost_storage::testkit::conformance::{append, conv, group, user};
use roost_storage::testkit::run;
use roost_storage::{Append, Appended, CqlOptions, CqlStore, Entry, IndexUpdate, Member, Range, Store, StoreError};
use roost_wire::Seq;
use roost_wire::pb::Role;
use server::Server;

const CONVS: usize = 6;

/// What writers were answered.
#[derive(Default)]
struct Told {
    /// By conversation: seq and text of all that was stored.
    stored: parking_lot::Mutex<HashMap<String, Vec<(Seq, String)>>>,
    acknowledged: AtomicU64,
    unknown: AtomicU64,
    refused: AtomicU64,
    stop: AtomicBool,
}

/// Appends one text after the other to one conversation, as a router does: after a doubt, and after a conflict, the log is
/// read for the own text before it is sent again.
async fn write(store: CqlStore, id: String, told: Arc<Told>) {
    let mut head: Seq = 0;
    for turn in 0.. {
        let text = format!("{id}/{turn}");
        let seq = loop {
            let index = vec![IndexUpdate { user: user("u_bob"), head: Some(head + 1), read: None }];
            match store.append(Append { index, ..append(&id, head + 1, &text) }).await {
                Ok(Appended::Stored { .. }) => break head + 1,
                Ok(Appended::Conflict { tail, head: at }) => {
                    head = at;
                    if let Some(own) = tail.iter().find(|entry| entry.body.text == text) {
                        break own.seq;
                    }
                }
                Err(StoreError::Unknown(_)) => {
                    told.unknown.fetch_add(1, Relaxed);
                    let log: Vec<Entry> = loop {
                        match store.range(&conv(&id), Range::After(head), 256).await {
                            Ok(log) => break log,
                            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                        }
                    };
                    head = log.last().map_or(head, |last| last.seq);
                    if let Some(own) = log.iter().find(|entry| entry.body.text == text) {
                        break own.seq;
                    }
                }
                Err(StoreError::Unavailable(_)) => {
                    told.refused.fetch_add(1, Relaxed);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => panic!("{id}: {error}"),
            }
        };
        head = head.max(seq);
        told.stored.lock().entry(id.clone()).or_default().push((seq, text));
        told.acknowledged.fetch_add(1, Relaxed);
        if told.stop.load(Relaxed) {
            return;
        }
        // A server that starts needs the processor more.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until `count` more appends were acknowledged.
async fn until(told: &Told, count: u64, what: &str) {
    let (before, began) = (told.acknowledged.load(Relaxed), Instant::now());
    while told.acknowledged.load(Relaxed) < before + count {
        assert!(began.elapsed() < Duration::from_secs(90), "{what}: nothing is acknowledged any more");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Each log has what was acknowledged, at its seq, everything once, and the index of Bob has the head.
async fn check(store: &CqlStore, told: &Told) {
    let stored = told.stored.lock().clone();
    for (id, acknowledged) in stored {
        let log = store.range(&conv(&id), Range::After(0), usize::MAX).await.unwrap();
        assert!(log.iter().zip(1..).all(|(entry, seq)| entry.seq == seq), "{id}: a gap");
        let texts: HashMap<&str, Seq> = log.iter().map(|entry| (entry.body.text.as_str(), entry.seq)).collect();
        assert_eq!(texts.len(), log.len(), "{id}: doubled");
        for (seq, text) in &acknowledged {
            assert_eq!(texts.get(text.as_str()), Some(seq), "{id}: {text} is lost");
        }
        assert_eq!(log.len(), acknowledged.len(), "{id}: each writer was told of all it wrote");
        let row = store.rows(&conv(&id), &[user("u_bob")]).await.unwrap().remove(0).unwrap();
        assert_eq!(row.head, log.len() as Seq, "{id}: findable");
    }
    println!(
        "{} acknowledged, {} unknown, {} refused meanwhile",
        told.acknowledged.load(Relaxed),
        told.unknown.load(Relaxed),
        told.refused.load(Relaxed)
    );
}

async fn begin(server: &Server, stores: usize) -> (Vec<CqlStore>, Arc<Told>, Vec<tokio::task::JoinHandle<()>>) {
    let options = server.options();
    let mut all = vec![server.open(&options).await];
    for _ in 1..stores {
        all.push(CqlStore::connect(options.clone()).await.unwrap());
    }
    let told = Arc::new(Told::default());
    let mut writers = Vec::new();
    for place in 0..CONVS {
        let id = format!("c_{place}");
        let members = ["u_ada", "u_bob"].map(|id| Member { user: user(id), role: Role::Member });
        all[0].create(group(&id), members.to_vec()).await.unwrap();
        writers.push(tokio::spawn(write(all[place % stores].clone(), id, Arc::clone(&told))));
    }
    (all, told, writers)
}

async fn end(stores: &[CqlStore], told: &Told, writers: Vec<tokio::task::JoinHandle<()>>) {
    told.stop.store(true, Relaxed);
    for writer in writers {
        writer.await.expect("a writer");
    }
    for store in stores {
        check(store, told).await;
    }
}

#[test]
fn a_ring_of_three_loses_nothing_when_one_is_killed_and_comes_back() {
    run(async {
        let server = Arc::new(Server::start(3, 23, true));
        let (stores, told, writers) = begin(&server, 2).await;
        until(&told, 40, "all are up").await;
        server.cassandra.lock().kill9(1).unwrap();
        until(&told, 60, "one is dead").await;
        let back = Arc::clone(&server);
        tokio::task::spawn_blocking(move || back.cassandra.lock().start_again(1).unwrap()).await.unwrap();
        until(&told, 60, "it is back").await;
        end(&stores, &told, writers).await;
        // A store that remembers nothing sees the same.
        let again = CqlStore::connect(stores[0].options().clone()).await.unwrap();
        check(&again, &told).await;
        assert!(stores[0].health().await.is_ok());
    });
}

#[test]
fn a_single_server_that_is_killed_under_load_has_all_that_it_acknowledged() {
    run(async {
        let server = Arc::new(Server::start(1, 24, true));
        let (stores, told, writers) = begin(&server, 2).await;
        until(&told, 100, "it is up").await;
        let killed = Arc::clone(&server);
        tokio::task::spawn_blocking(move || {
            let mut cassandra = killed.cassandra.lock();
            cassandra.kill9(0).unwrap();
            cassandra.start_again(0).unwrap();
        })
        .await
        .unwrap();
        until(&told, 60, "it is back").await;
        assert!(told.unknown.load(Relaxed) + told.refused.load(Relaxed) > 0, "the death was felt");
        end(&stores, &told, writers).await;
        no_answer_is_no_refusal(&server, &stores[0]).await;
    });
}

/// A server that stands still may yet do what it was sent: nobody may say that it was not done.
async fn no_answer_is_no_refusal(server: &Server, store: &CqlStore) {
    let hasty = CqlOptions { request_timeout: Duration::from_secs(1), ..store.options().clone() };
    let hasty = CqlStore::connect(hasty).await.unwrap();
    hasty.create(group("c_still"), vec![Member { user: user("u_bob"), role: Role::Member }]).await.unwrap();
    server.cassandra.lock().pause(0).unwrap();
    let answer = hasty.append(append("c_still", 1, "one")).await;
    server.cassandra.lock().resume(0).unwrap();
    assert!(matches!(answer, Err(StoreError::Unknown(_))), "{answer:?}");
    // Sent again it is there once, whichever of the two got in.
    let again = loop {
        match store.append(append("c_still", 1, "one")).await {
            Ok(answer) => break answer,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    assert!(!matches!(again, Appended::Conflict { ref tail, .. } if tail.is_empty()), "{again:?}");
    let log = store.range(&conv("c_still"), Range::After(0), 9).await.unwrap();
    assert_eq!(log.iter().map(|entry| entry.body.text.as_str()).collect::<Vec<_>>(), ["one"]);
}
