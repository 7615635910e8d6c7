//! What every bus does while nothing fails.

use std::collections::BTreeMap;

use roost_router::{Bus, NodeId, Notice};
use roost_storage::Entry;
use roost_wire::pb::Body;
use roost_wire::{ConvId, UserId};

use crate::kit::{Kit, Local, ManyRedis, OneRedis, metric, numbers, post, post_notice, take};

async fn what_is_for_all_reaches_all_others_and_what_is_for_one_that_one<K: Kit>() {
    let mut nodes = K::nodes(3).await;
    let ids: Vec<NodeId> = nodes.iter().map(|(bus, _)| bus.node()).collect();
    post(&nodes[0].0, None, 1, "ada");
    post(&nodes[0].0, Some(ids[1]), 1, "bob");
    post(&nodes[0].0, Some(ids[2]), 1, "cyd");
    post(&nodes[0].0, None, 2, "dan");
    // What arrives last shows that nothing else was to come.
    for (place, direct) in [(1, "bob"), (2, "cyd")] {
        let parcels = take(&mut nodes[place].1, 3).await;
        let users: Vec<String> = parcels.iter().map(|parcel| format!("{:?}", parcel.notice)).collect();
        for (told, user) in users.iter().zip(["ada", direct, "dan"]) {
            assert!(told.contains(user), "{users:?}");
        }
        assert_eq!(parcels.iter().map(|parcel| parcel.direct).collect::<Vec<_>>(), [false, true, false]);
        assert!(parcels.iter().all(|parcel| parcel.from == ids[0] && parcel.incarnation == nodes[0].0.incarnation()));
    }
    // The sender hears nothing of its own: what comes first is another one's.
    post(&nodes[1].0, None, 9, "eve");
    let heard = take(&mut nodes[0].1, 1).await;
    assert_eq!((heard.len(), heard[0].from, heard[0].number), (1, ids[1], 9));
}

async fn each_senders_parcels_come_in_order_whoever_else_sends<K: Kit>() {
    const EACH: u64 = 3000;
    let mut nodes = K::nodes(3).await;
    for number in 1..=EACH {
        for (bus, _) in &nodes {
            post(bus, None, number, "ada");
        }
    }
    for (_, inbox) in &mut nodes {
        let heard = take(inbox, 2 * EACH as usize).await;
        let mut from: BTreeMap<NodeId, Vec<u64>> = BTreeMap::new();
        heard.iter().for_each(|parcel| from.entry(parcel.from).or_default().push(parcel.number));
        assert_eq!(from.len(), 2);
        for heard in from.values() {
            assert_eq!(heard.len() as u64, EACH);
            assert!(heard.is_sorted(), "in the order they were posted");
        }
    }
}

async fn large_parcels_arrive_whole_among_small_ones<K: Kit>() {
    let mut nodes = K::nodes(2).await;
    let text = "roost ".repeat(150_000);
    let entry = |seq| Entry {
        seq,
        ts_ms: 1,
        from: UserId::new("ada").unwrap(),
        cmid: seq.to_string(),
        body: Body { text: text.clone(), event: None },
    };
    let conv = ConvId::new("c_1").unwrap();
    for number in 1..=10 {
        let appended = Notice::Appended { conv: conv.clone(), entries: [entry(number)].into(), members: None };
        post_notice(&nodes[0].0, None, 2 * number - 1, appended);
        post(&nodes[0].0, None, 2 * number, "ada");
    }
    let heard = take(&mut nodes[1].1, 20).await;
    assert_eq!(numbers(&heard), (1..=20).collect::<Vec<u64>>());
    for parcel in heard.iter().step_by(2) {
        let Notice::Appended { entries, .. } = &parcel.notice else { panic!("{:?}", parcel.notice) };
        assert_eq!(entries[0].body.text.len(), text.len());
        assert_eq!(entries[0].body.text, text);
    }
}

macro_rules! suite {
    ($($kit:ident: $module:ident),+) => {$(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn what_is_for_all_reaches_all_others_and_what_is_for_one_that_one() {
                super::what_is_for_all_reaches_all_others_and_what_is_for_one_that_one::<$kit>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn each_senders_parcels_come_in_order_whoever_else_sends() {
                super::each_senders_parcels_come_in_order_whoever_else_sends::<$kit>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn large_parcels_arrive_whole_among_small_ones() {
                super::large_parcels_arrive_whole_among_small_ones::<$kit>().await;
            }
        }
    )+};
}

suite!(Local: local, OneRedis: one_redis, ManyRedis: redis_cluster);

#[tokio::test]
async fn many_parcels_travel_in_few_messages() {
    const PARCELS: usize = 20_000;
    let mut nodes = OneRedis::nodes(3).await;
    let bus = nodes[0].0.clone();
    let before = metric(&bus, "roost_redis_messages_sent_total");
    // Nothing else runs meanwhile: all of them wait.
    (1..=PARCELS as u64).for_each(|number| post(&bus, None, number, "ada"));
    for (_, inbox) in nodes.iter_mut().skip(1) {
        assert_eq!(numbers(&take(inbox, PARCELS).await), (1..=PARCELS as u64).collect::<Vec<u64>>());
    }
    let messages = metric(&bus, "roost_redis_messages_sent_total") - before;
    assert!(messages <= 2 * PARCELS as u64 / 1000, "{messages} messages");
    assert_eq!(metric(&bus, "roost_redis_messages_unheard_total"), 0);
    assert_eq!(metric(&bus, "roost_redis_parcels_sent_total"), PARCELS as u64);
}

#[tokio::test]
async fn what_is_too_much_to_wait_is_lost_and_counted_and_the_rest_arrives() {
    let options = roost_router::redis::RedisOptions {
        queue_parcels_max: 100,
        ..crate::kit::options(&crate::kit::redis().url(), &crate::kit::cluster_name())
    };
    let (bus, _) = crate::kit::join(&options, "n0").await;
    let (other, mut inbox) = crate::kit::join(&options, "n1").await;
    crate::kit::acquainted(&[&bus, &other]).await;
    (1..=150).for_each(|number| post(&bus, None, number, "ada"));
    post_notice(&bus, None, 150, Notice::Heartbeat { direct: [].into() });
    let heard = take(&mut inbox, 101).await;
    assert_eq!(numbers(&heard), (1..=100).chain([150]).collect::<Vec<u64>>());
    assert_eq!(metric(&bus, "roost_redis_parcels_overflowed_total"), 50);
}
