//! Connecting while others write: nothing falls between the read and the pushes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use roost_router::RouterConfig;
use roost_wire::{FrameBody, pb};

use crate::harness::{Client, Got, House, house_with};

const SENDS: u64 = 400;

/// What a client has, as it would keep it.
#[derive(Default)]
struct Held {
    since: String,
    seqs: BTreeSet<u64>,
    fresh: usize,
}

impl Held {
    async fn catch_up(&mut self, house: &House, client: &Client, conv: &str) {
        loop {
            let changed = house.sync(client, &self.since, 0).await;
            self.since = changed.sync;
            if !changed.more {
                break;
            }
        }
        self.seqs.extend(house.page(client, conv).await.iter().map(|entry| entry.seq));
    }

    /// One connection: catches up if it is told to, takes pushes for a moment, goes.
    async fn connect(&mut self, house: &House, conv: &str) {
        let bob = house.enter_on("bob", "phone", &self.since).await;
        self.fresh += usize::from(bob.welcome.fresh);
        if !bob.welcome.fresh {
            self.catch_up(house, &bob, conv).await;
        }
        tokio::time::sleep(Duration::from_micros(300)).await;
        let told = house.told(&bob);
        let pushed = |got: &Got| match got {
            Got::Push(FrameBody::Entry(entry)) => Some(entry.seq),
            _ => None,
        };
        self.seqs.extend(told.iter().filter_map(pushed));
        if told.iter().any(|got| matches!(got, Got::Push(FrameBody::Changed(changed)) if changed.more)) {
            self.catch_up(house, &bob, conv).await;
            self.seqs.extend(house.entries(&bob).iter().map(|entry| entry.seq));
        }
        house.leave(&bob);
        let held = self.seqs.len() as u64;
        assert_eq!(self.seqs.last().copied().unwrap_or(0), held, "something fell between: fresh {}", bob.welcome.fresh);
    }
}

async fn reader_misses_nothing(config: RouterConfig) {
    let house = Arc::new(house_with(config));
    let ada = house.enter("ada").await;
    let [bob, _eve] = [house.enter("bob").await, house.enter("eve").await];
    let conv = house.group(&ada, &["bob", "eve"]).await;
    house.leave(&bob);
    let writer = {
        let (house, conv) = (Arc::clone(&house), conv.clone());
        tokio::spawn(async move {
            for n in 0..SENDS {
                house.send(&ada, &conv, &n.to_string(), "x").await;
                if n % 3 == 0 {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        })
    };
    let mut held = Held::default();
    while !writer.is_finished() {
        held.connect(&house, &conv).await;
    }
    writer.await.unwrap();
    held.connect(&house, &conv).await;
    held.connect(&house, &conv).await;
    assert_eq!(held.seqs.len() as u64, SENDS);
    assert!(held.fresh > 0, "the case that matters happened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f18_nothing_falls_between_sync_and_subscribe() {
    reader_misses_nothing(RouterConfig::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f18_nothing_falls_between_sync_and_the_topic_of_a_large_group() {
    reader_misses_nothing(RouterConfig { index_threshold: 1, interest_threshold: 2, ..RouterConfig::default() }).await;
}

#[tokio::test(start_paused = true)]
async fn f09_a_direct_conversation_with_a_user_nobody_knows_any_more_opens_again() {
    let first = house_with(RouterConfig::default());
    let ada = first.enter("ada").await;
    first.enter("bob").await;
    let conv = first.direct(&ada, "bob").await;
    // The same conversation in a store that has no record of bob.
    let second = house_with(RouterConfig::default());
    let ada = second.enter("ada").await;
    let create =
        |other: &str| FrameBody::Create(pb::Create { kind: 1, members: vec![other.into()], ..pb::Create::default() });
    assert_eq!(second.refused(&ada, create("bob")).await, 304);
    let meta = roost_storage::ConvMeta {
        conv: roost_wire::ConvId::new(&conv).unwrap(),
        kind: pb::Kind::Direct,
        name: String::new(),
        open: false,
        created_ms: 1,
        head: 0,
        changed: 0,
    };
    let member = |id: &str| roost_storage::Member { user: crate::harness::user(id), role: pb::Role::Owner };
    roost_storage::Store::create(&*second.store, meta, vec![member("ada"), member("bob")]).await.unwrap();
    assert_eq!(second.direct(&ada, "bob").await, conv);
}
