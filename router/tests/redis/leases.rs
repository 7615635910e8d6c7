//! One holder at a time, and tokens that rise.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;
use roost_fixtures::redis::Redis;

use crate::kit::{cluster_name, join, metric, options, redis, until};

#[tokio::test]
async fn a_lease_has_one_holder_and_each_a_higher_token() {
    let options = options(&redis().url(), &cluster_name());
    let (a, _a) = join(&options, "a").await;
    let (b, _b) = join(&options, "b").await;
    let first = a.leases().acquire("job").await.unwrap().expect("it is free");
    assert!(first.is_held());
    assert!(b.leases().acquire("job").await.unwrap().is_none());
    assert!(a.leases().acquire("job").await.unwrap().is_none(), "not even its holder gets it twice");
    assert!(first.renew().await.unwrap());
    let other = b.leases().acquire("another job").await.unwrap();
    assert!(other.is_some());
    first.release().await;
    assert!(!first.is_held());
    assert!(!first.renew().await.unwrap());
    let second = b.leases().acquire("job").await.unwrap().expect("it was given up");
    assert!(second.token() > first.token());
    // What is not renewed ends by itself, here first.
    until("it ends here", || !second.is_held()).await;
    let mut third = None;
    while third.is_none() {
        third = a.leases().acquire("job").await.unwrap();
    }
    assert!(third.unwrap().token() > second.token());
}

#[tokio::test]
async fn tokens_rise_though_redis_forgot_them_and_a_late_holder_cannot_renew() {
    let server = Redis::start().unwrap();
    let options = options(&server.url(), "c");
    let (a, _a) = join(&options, "a").await;
    let (b, _b) = join(&options, "b").await;
    let first = a.leases().acquire("job").await.unwrap().unwrap();
    server.cli(&["flushall"]).unwrap();
    let second = b.leases().acquire("job").await.unwrap().expect("Redis knows of none");
    assert!(second.token() > first.token());
    assert!(!first.renew().await.unwrap(), "another one's");
    first.release().await;
    assert!(second.renew().await.unwrap(), "what another one gives up is not ours");
}

#[tokio::test]
async fn a_node_that_leaves_gives_up_its_leases() {
    let options = options(&redis().url(), &cluster_name());
    let (a, _a) = join(&options, "a").await;
    let (b, _b) = join(&options, "b").await;
    let first = a.leases().acquire("job").await.unwrap().unwrap();
    a.leave().await;
    let second = b.leases().acquire("job").await.unwrap().expect("at once");
    assert!(second.token() > first.token());
}

/// Who works under a lease, with which tokens.
#[derive(Clone, Default)]
struct Work {
    at_work: Arc<AtomicU64>,
    most: Arc<AtomicU64>,
    tokens: Arc<Mutex<Vec<u64>>>,
}

/// Counts who works, and leaves when it is dropped.
struct Working(Work);

impl Working {
    fn begin(work: &Work, token: u64) -> Self {
        let now = work.at_work.fetch_add(1, SeqCst) + 1;
        work.most.fetch_max(now, SeqCst);
        work.tokens.lock().push(token);
        Self(work.clone())
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, SeqCst);
    }
}

#[tokio::test]
async fn a_job_moves_to_another_node_when_its_node_dies_and_is_done_once_at_a_time() {
    let options = options(&redis().url(), &cluster_name());
    let work = Work::default();
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"] {
        let (bus, inbox) = join(&options, name).await;
        let mine = work.clone();
        let job = move |token| {
            let mine = mine.clone();
            async move {
                let _working = Working::begin(&mine, token);
                std::future::pending::<()>().await;
            }
        };
        let task = bus.leases().run_as_leader("job", job);
        if nodes.is_empty() {
            until("the first one works", || work.at_work.load(SeqCst) == 1).await;
        }
        nodes.push((bus, inbox, task));
    }
    for dead in 1..=2 {
        let (bus, inbox, task) = nodes.remove(0);
        task.abort();
        let _ = task.await;
        drop((bus, inbox));
        // Of those that are left either may be next; the one that has it may be the one that dies.
        if work.tokens.lock().len() == dead {
            until("another one works", || work.at_work.load(SeqCst) == 1).await;
        }
    }
    until("the last one works", || work.at_work.load(SeqCst) == 1).await;
    assert_eq!(work.most.load(SeqCst), 1, "never two at once");
    let tokens = work.tokens.lock().clone();
    assert!(tokens.len() >= 2 && tokens.is_sorted() && tokens.windows(2).all(|pair| pair[0] < pair[1]), "{tokens:?}");
    nodes.into_iter().for_each(|(_, _, task)| task.abort());
}

#[tokio::test]
async fn a_job_stops_when_redis_is_gone_and_goes_on_when_it_is_back() {
    let mut server = Redis::start().unwrap();
    let options = options(&server.url(), "c");
    let (a, _a) = join(&options, "a").await;
    let work = Work::default();
    let mine = work.clone();
    let task = a.leases().run_as_leader("job", move |token| {
        let mine = mine.clone();
        async move {
            let _working = Working::begin(&mine, token);
            std::future::pending::<()>().await;
        }
    });
    until("it works", || work.at_work.load(SeqCst) == 1).await;
    // It is renewed: it outlives its time.
    tokio::time::sleep(options.lease_ttl + Duration::from_millis(500)).await;
    assert_eq!((work.at_work.load(SeqCst), work.tokens.lock().len()), (1, 1));
    server.kill9();
    until("it stops", || work.at_work.load(SeqCst) == 0).await;
    assert_eq!(metric(&a, "roost_redis_leases_lost_total"), 1);
    server.start_again().unwrap();
    until("it goes on", || work.at_work.load(SeqCst) == 1).await;
    let tokens = work.tokens.lock().clone();
    assert!(tokens.len() == 2 && tokens[1] > tokens[0], "{tokens:?}");
    task.abort();
}
