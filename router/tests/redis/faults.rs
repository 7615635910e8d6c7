//! Redis dies, sleeps, forgets who listens, and fails over.

use std::collections::BTreeSet;
use std::time::Duration;

use roost_fixtures::redis::{Redis, RedisCluster};
use roost_router::redis::{Link, RedisBus, RedisInbox, RedisOptions};
use roost_router::{Bus, Parcel};

use crate::kit::{NEVER, acquainted, join, metric, numbers, options, post, take, until};

/// Posts until something arrives, and takes what is still under way; the numbers begin with `from`.
async fn until_heard(a: &RedisBus, inbox: &mut RedisInbox, from: u64) -> u64 {
    let deadline = tokio::time::Instant::now() + NEVER;
    let mut number = from;
    loop {
        assert!(tokio::time::Instant::now() < deadline, "nothing arrives");
        post(a, None, number, "ada");
        number += 1;
        let came = tokio::time::timeout(Duration::from_millis(50), inbox.recv()).await;
        if came.is_ok_and(|parcels: Vec<Parcel>| !parcels.is_empty()) {
            break;
        }
    }
    // Each number at most once, and none that was lost comes later.
    while tokio::time::timeout(Duration::from_millis(200), inbox.recv()).await.is_ok() {}
    number
}

#[tokio::test]
async fn after_a_crash_nodes_hear_each_other_again_and_nothing_old_is_sent() {
    let mut server = Redis::start().unwrap();
    let options = RedisOptions { parcel_age_max: Duration::from_millis(300), ..options(&server.url(), "c") };
    let (a, _a) = join(&options, "a").await;
    let (b, mut inbox) = join(&options, "b").await;
    acquainted(&[&a, &b]).await;
    post(&a, None, 1, "ada");
    take(&mut inbox, 1).await;
    server.kill9();
    until("a notices", || matches!(a.health().link, Link::Down { .. })).await;
    let Link::Down { why, since_ms } = a.health().link else { panic!() };
    assert!(why.contains("does it run?") && since_ms > 0, "{why}");
    for number in 2..100 {
        post(&a, None, number, "ada");
    }
    until("what waits too long is dropped", || metric(&a, "roost_redis_parcels_aged_total") == 98).await;
    assert_eq!(metric(&a, "roost_redis_queued_parcels"), 0);
    server.start_again().unwrap();
    until("both are back", || a.health().link == Link::Up && b.health().link == Link::Up).await;
    acquainted(&[&a, &b]).await;
    post(&a, None, 100, "ada");
    assert_eq!(numbers(&take(&mut inbox, 1).await), [100]);
    assert!(metric(&a, "roost_redis_downs_total") >= 1 && metric(&b, "roost_redis_resubscribes_total") >= 1);
}

#[tokio::test]
async fn a_short_crash_loses_nothing_that_was_posted_meanwhile() {
    let mut server = Redis::start().unwrap();
    let options = RedisOptions { parcel_age_max: NEVER, ..options(&server.url(), "c") };
    let (a, _a) = join(&options, "a").await;
    let (b, mut inbox) = join(&options, "b").await;
    acquainted(&[&a, &b]).await;
    server.kill9();
    (1..=10).for_each(|number| post(&a, None, number, "ada"));
    until("a notices", || matches!(a.health().link, Link::Down { .. })).await;
    (11..=50).for_each(|number| post(&a, None, number, "ada"));
    server.start_again().unwrap();
    // Whoever connects again first: it is held until it is received. What was on its way may come twice.
    let mut heard = BTreeSet::new();
    while heard.len() < 50 {
        heard.extend(numbers(&take(&mut inbox, 1).await));
    }
    assert_eq!(heard, (1..=50).collect());
    assert_eq!(metric(&a, "roost_redis_messages_unheard_total"), 0);
    until("nothing is held", || metric(&a, "roost_redis_held_messages") == 0).await;
}

#[tokio::test]
async fn what_is_for_a_node_that_died_is_given_up_and_the_others_hear_all() {
    let server = Redis::start().unwrap();
    let options = RedisOptions { parcel_age_max: Duration::from_millis(300), ..options(&server.url(), "c") };
    let (a, _a) = join(&options, "a").await;
    let (b, mut inbox) = join(&options, "b").await;
    let (c, dead) = join(&options, "c").await;
    acquainted(&[&a, &b, &c]).await;
    drop((c, dead));
    let mut posted = 0;
    until("something for it is given up", || {
        posted += 1;
        post(&a, None, posted, "ada");
        metric(&a, "roost_redis_messages_unheard_total") > 0
    })
    .await;
    let heard = numbers(&take(&mut inbox, posted as usize).await);
    assert_eq!(heard, (1..=posted).collect::<Vec<u64>>());
    until("nothing is held", || metric(&a, "roost_redis_held_messages") == 0).await;
}

#[tokio::test]
async fn a_redis_that_sleeps_is_down_and_nobody_is_superseded_when_it_wakes() {
    let server = Redis::start().unwrap();
    let timeouts = Duration::from_millis(300);
    let options = RedisOptions { command_timeout: timeouts, ..options(&server.url(), "c") };
    let (a, _a) = join(&options, "a").await;
    let (b, mut inbox) = join(&options, "b").await;
    acquainted(&[&a, &b]).await;
    server.pause();
    until("a notices", || matches!(a.health().link, Link::Down { .. })).await;
    tokio::time::sleep(options.node_ttl).await;
    assert_eq!(a.table().borrow().nodes().len(), 2, "who was there is thought to be there still");
    server.resume();
    until("both are back", || a.health().link == Link::Up && b.health().link == Link::Up).await;
    acquainted(&[&a, &b]).await;
    until_heard(&a, &mut inbox, 1).await;
}

#[tokio::test]
async fn a_subscription_that_is_lost_without_a_reconnect_is_noticed_and_made_again() {
    let server = Redis::start().unwrap();
    let options = options(&server.url(), "c");
    let (a, _a) = join(&options, "a").await;
    let (b, mut inbox) = join(&options, "b").await;
    acquainted(&[&a, &b]).await;
    // No channel may be subscribed to: Redis cuts whoever has one, and refuses to give it back.
    server.cli(&["acl", "setuser", "default", "resetchannels"]).unwrap();
    until("b is deaf", || b.health().deaf).await;
    // What matters comes back without a word to those who are connected again.
    server.cli(&["acl", "setuser", "default", "allchannels"]).unwrap();
    let before = metric(&b, "roost_redis_resubscribes_total");
    until("b hears itself", || !b.health().deaf && !a.health().deaf).await;
    assert!(metric(&b, "roost_redis_resubscribes_total") > before);
    until_heard(&a, &mut inbox, 1).await;
}

#[tokio::test]
async fn strangers_on_a_nodes_channel_break_nothing() {
    let server = Redis::start().unwrap();
    let options = options(&server.url(), "c");
    let (a, _a) = join(&options, "a").await;
    let (b, mut inbox) = join(&options, "b").await;
    acquainted(&[&a, &b]).await;
    let channel = format!("roost:c:n:{}", b.node());
    for nonsense in ["", "hello", "{\"json\":true}", "\u{1}\u{2}\u{3}"] {
        server.cli(&["spublish", &channel, nonsense]).unwrap();
    }
    server.cli(&["publish", "roost:c:news", "weather"]).unwrap();
    post(&a, None, 1, "ada");
    assert_eq!(numbers(&take(&mut inbox, 1).await), [1]);
    assert!(metric(&b, "roost_redis_messages_refused_total") >= 3);
    assert_eq!(metric(&a, "roost_redis_messages_refused_total"), 0);
}

#[tokio::test]
async fn nodes_hear_each_other_after_a_master_of_a_cluster_failed_over() {
    let mut cluster = RedisCluster::start(3, 1).unwrap();
    let timeouts = Duration::from_millis(500);
    let options = RedisOptions { command_timeout: timeouts, ..options(&cluster.url(), "c") };
    let (a, _a) = join(&options, "a").await;
    let (b, mut inbox) = join(&options, "b").await;
    acquainted(&[&a, &b]).await;
    post(&a, None, 1, "ada");
    take(&mut inbox, 1).await;
    // The master of the receiver's channel, then the one of the table.
    let mut number = 2;
    for key in [format!("roost:c:n:{}", b.node()), "roost:{c}:nodes".to_owned()] {
        let master = cluster.master_of(&key).unwrap();
        cluster.nodes()[master].kill9();
        until("a replica took over", || cluster.master_of(&key).is_ok_and(|now| now != master)).await;
        number = until_heard(&a, &mut inbox, number).await;
        until("both are up", || a.health().link == Link::Up && b.health().link == Link::Up).await;
        until("both hear themselves", || !a.health().deaf && !b.health().deaf).await;
        acquainted(&[&a, &b]).await;
        cluster.nodes()[master].start_again().unwrap();
        until("it is in the cluster again", || {
            let info = cluster.nodes()[master].cli(&["cluster", "info"]).unwrap_or_default();
            info.contains("cluster_state:ok")
        })
        .await;
    }
}
