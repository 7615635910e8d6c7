//! What the bus through Redis does: how soon sessions that are registered on one node are known on another, how many
//! notices it carries, and how much later than Redis itself a notice arrives.
//!
//! `cargo run --release -p roost-router --example bus_rate -- 100000`
//!
//! Starts a Redis of its own; both nodes live in this process. Printed are the rate of registration, the memory of Redis
//! before and after, notices per second, and percentiles of notices and of bare PINGs, taken turn by turn in one run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fred::prelude::*;
use roost_fixtures::redis::Redis;
use roost_router::auth::{Claims, Keys, Scope};
use roost_router::redis::{NodeSpec, RedisBus, RedisInbox, RedisOptions};
use roost_router::{Bus, Downstream, Env as _, Notice, Parcel, Router, RouterConfig, SystemEnv};
use roost_storage::MemoryStore;
use roost_wire::link::{Down, SessionKey, Up};
use roost_wire::{UserId, pb};

const SHARDS: u16 = 4;
/// Notices whose way is timed.
const TIMED: usize = 3000;
/// Notices that are sent as fast as they are taken.
const FLOOD: u64 = 500_000;
/// Of them so many wait at once.
const FLOOD_WAITING_MAX: u64 = 50_000;

/// An edge that takes everything and shows nothing.
struct Nowhere;

impl Downstream for Nowhere {
    fn shards(&self) -> u16 {
        SHARDS
    }

    fn post(&self, _shard: u16, batch: &mut Vec<Down>) {
        batch.clear();
    }
}

type Node = Router<MemoryStore, Nowhere, SystemEnv, RedisBus>;

async fn join(url: &str, cluster: &str, name: &str) -> (RedisBus, RedisInbox) {
    let options = RedisOptions { cluster: cluster.to_owned(), ..RedisOptions::new(url) };
    let spec = NodeSpec { name: name.to_owned(), ..NodeSpec::default() };
    RedisBus::connect(options, spec).await.expect("Redis is there")
}

async fn acquainted(buses: [&RedisBus; 2]) {
    while buses.iter().any(|bus| bus.health().nodes < 2) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn user(n: u32) -> UserId {
    UserId::from_bits(u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

async fn registration(server: &Redis, sessions: u32) {
    let url = server.url();
    let (store, mut nodes) = (Arc::new(MemoryStore::default()), Vec::new());
    for name in ["a", "b"] {
        let (bus, inbox) = join(&url, "registration", name).await;
        let keys = Keys::new(&[1; 32]);
        let config = RouterConfig::default();
        let router: Arc<Node> =
            Router::with_bus(config, keys, Arc::clone(&store), Arc::new(Nowhere), SystemEnv, bus.clone());
        let serving = inbox.serve(&router);
        nodes.push((router, bus, serving));
    }
    let [(a, bus_a, _serving_a), (b, bus_b, _serving_b)] = nodes.as_slice() else { unreachable!() };
    acquainted([bus_a, bus_b]).await;
    let mut connects: Vec<Vec<Up>> = Vec::new();
    for n in 0..sessions {
        let token = a.keys().mint(&Claims::new(user(n), "", Scope::User, SystemEnv.now_ms(), 3600));
        let session = SessionKey::new((n % u32::from(SHARDS)) as u16, n, 0);
        let connect = pb::Connect { token, device: "phone".into(), ..pb::Connect::default() };
        connects.push(vec![Up::Connect { session, rid: 1, connect, bearer: None, peer: ([127, 0, 0, 1], 1).into() }]);
    }
    let before = server.used_bytes().expect("INFO");
    let began = Instant::now();
    let submitting = Arc::clone(a);
    let submit = tokio::task::spawn_blocking(move || {
        for batch in &mut connects {
            submitting.submit(batch);
        }
        began.elapsed()
    });
    let mut peak = before;
    let known = || b.metrics().get("roost_router_users_elsewhere").unwrap_or(0.0) as u32;
    while known() < sessions {
        tokio::time::sleep(Duration::from_millis(100)).await;
        peak = peak.max(server.used_bytes().expect("INFO"));
        assert!(began.elapsed() < Duration::from_secs(300), "{} of {sessions} are known", known());
    }
    let (all, submitted) = (began.elapsed(), submit.await.expect("no panic"));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let after = server.used_bytes().expect("INFO");
    let rate = |time: Duration| f64::from(sessions) / time.as_secs_f64();
    println!("sessions registered on a   {sessions} in {submitted:.2?}, {:.0}/s", rate(submitted));
    println!("users known on b           after {all:.2?}, {:.0}/s", rate(all));
    let kept = after.saturating_sub(before) as f64 / f64::from(sessions);
    println!("Redis memory               {before} B before, {peak} B at most, {after} B after: {kept:.1} B a session");
    let lost = bus_a.metrics().get("roost_redis_parcels_overflowed_total").unwrap_or(0.0);
    let doubts = b.metrics().get("roost_router_bus_doubts_total").unwrap_or(0.0);
    println!("parcels lost, doubts on b  {lost:.0}, {doubts:.0}");
}

fn post(bus: &RedisBus, number: u64) {
    let notice = Notice::Gone { user: user(number as u32) };
    bus.post(None, Parcel { from: bus.node(), incarnation: bus.incarnation(), direct: false, number, notice });
}

async fn flood(a: &RedisBus, inbox: &mut RedisInbox) {
    let began = Instant::now();
    let (mut posted, mut heard) = (0, 0);
    while heard < FLOOD {
        while posted < FLOOD && posted - heard < FLOOD_WAITING_MAX {
            posted += 1;
            post(a, posted);
        }
        heard += inbox.recv().await.len() as u64;
    }
    let rate = FLOOD as f64 / began.elapsed().as_secs_f64();
    let metric = |name| a.metrics().get(name).unwrap_or(0.0);
    let each = FLOOD as f64 / metric("roost_redis_messages_sent_total");
    println!("notices a to b             {rate:.0}/s, {each:.0} in a message");
}

async fn delays(url: &str, a: &RedisBus, inbox: &mut RedisInbox) {
    let client = Builder::from_config(Config::from_url(url).expect("an URL")).build().expect("a client");
    client.init().await.expect("Redis is there");
    let (mut pings, mut notices) = (Vec::with_capacity(TIMED), Vec::with_capacity(TIMED));
    for number in 0..TIMED as u64 {
        let began = Instant::now();
        client.ping::<()>(None).await.expect("Redis is there");
        pings.push(began.elapsed());
        let began = Instant::now();
        post(a, FLOOD + 1 + number);
        inbox.recv().await;
        notices.push(began.elapsed());
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    for (what, times) in [("PING of Redis", &mut pings), ("a notice, a to b", &mut notices)] {
        times.sort_unstable();
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
        println!("{what:<26} p50 {:.3?}, p99 {:.3?}, at most {:.3?}", at(0.5), at(0.99), at(1.0));
    }
    let _ = client.quit().await;
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let sessions = std::env::args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(100_000);
    let server = Redis::start().expect("Redis starts");
    registration(&server, sessions).await;
    let url = server.url();
    let ((a, _a), (b, mut inbox)) = (join(&url, "flood", "a").await, join(&url, "flood", "b").await);
    acquainted([&a, &b]).await;
    flood(&a, &mut inbox).await;
    delays(&url, &a, &mut inbox).await;
}
