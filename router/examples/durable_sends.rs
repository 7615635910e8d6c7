//! How many durable sends per second go through the router, on the store given: `memory`, `embedded`, or `cql` at an
//! address.
//!
//! `cargo run --release -p roost-router --example durable_sends -- embedded 256 10`
//! `cargo run --release -p roost-router --example durable_sends -- cql 64 10 127.0.0.1:9042`
//! `cargo run --release -p roost-router --example durable_sends -- cql-hot 64 10 127.0.0.1:9042`
//!
//! Each of the senders keeps one SEND to its direct conversation in flight, as an edge would pass it on; with `cql-hot` all
//! to the same group. Printed are
//! acknowledged sends per second and CPU time per send, of the whole process, as /proc tells it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use roost_router::auth::{Claims, Keys, Scope};
use roost_router::{Downstream, Env, Router, RouterConfig, SystemEnv};
use roost_storage::{CqlOptions, CqlStore, EmbeddedOptions, EmbeddedStore, MemoryStore, Replication, Store};
use roost_wire::link::{Down, SessionKey, Up};
use roost_wire::pb::{self, Body, Kind};
use roost_wire::{FrameBody, UserId};
use tokio::sync::mpsc;

/// An edge of one shard that passes replies to the loop below.
struct Edge {
    replies: mpsc::UnboundedSender<Vec<Down>>,
    delivered: AtomicU64,
}

impl Downstream for Edge {
    fn shards(&self) -> u16 {
        1
    }

    fn post(&self, _shard: u16, batch: &mut Vec<Down>) {
        let delivered = batch.iter().filter(|down| matches!(down, Down::Deliver { .. })).count();
        self.delivered.fetch_add(delivered as u64, Relaxed);
        // The receiver goes last.
        let _ = self.replies.send(std::mem::take(batch));
    }
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

async fn run<S: Store>(store: S, senders: u32, seconds: u64, hot: bool) {
    let (replies, mut down) = mpsc::unbounded_channel();
    let edge = Arc::new(Edge { replies, delivered: AtomicU64::new(0) });
    let router =
        Router::new(RouterConfig::default(), Keys::new(&[1; 32]), Arc::new(store), Arc::clone(&edge), SystemEnv);
    let user = |n: u32| UserId::new(&format!("user{n}")).expect("a plain id");
    let mut batch = Vec::new();
    for n in 0..senders {
        let token = router.keys().mint(&Claims::new(user(n), "", Scope::User, SystemEnv.now_ms(), 3600));
        let connect = pb::Connect { token, device: "bench".into(), ..pb::Connect::default() };
        batch.push(Up::Connect {
            session: SessionKey::new(0, n, 0),
            rid: 1,
            connect,
            bearer: None,
            peer: ([127, 0, 0, 1], 1).into(),
        });
    }
    router.submit(&mut batch);
    let command = |n: u32, rid: u64, body| Up::Command { session: SessionKey::new(0, n, 0), user: user(n), rid, body };
    let mut convs = vec![String::new(); senders as usize];
    for n in 0..if hot { 1 } else { senders } {
        let (kind, members) = match hot {
            true => (Kind::Group, (1..senders).map(|n| user(n).into()).collect()),
            false => (Kind::Direct, vec![user((n + 1) % senders).into()]),
        };
        let create = pb::Create { kind: kind.into(), name: "Birds".into(), members, ..pb::Create::default() };
        batch.push(command(n, 2, FrameBody::Create(create)));
    }
    router.submit(&mut batch);
    let mut next = 3;
    let mut send = |n: u32, conv: &str| {
        next += 1;
        let body = Some(Body { text: "a message of some fifty bytes, as people write them".into(), event: None });
        let send = pb::Send { conv: conv.into(), cmid: next.to_string(), body, attempt: 0, seen: None };
        command(n, next, FrameBody::Send(send))
    };
    let (mut acknowledged, mut failed) = (0u64, 0u64);
    let (mut began, mut cpu) = (Instant::now(), cpu_seconds());
    let mut ready = 0;
    while let Some(items) = down.recv().await {
        for item in items {
            let Down::Reply { session, frame: Some(frame) } = item else { continue };
            let n = session.slot();
            match frame.body {
                Some(FrameBody::Conversation(made)) => {
                    if hot {
                        convs.fill(made.conv);
                        ready = senders;
                    } else {
                        convs[n as usize] = made.conv;
                        ready += 1;
                    }
                    if ready == senders {
                        (began, cpu) = (Instant::now(), cpu_seconds());
                        batch.extend((0..senders).map(|n| send(n, &convs[n as usize])));
                    }
                }
                Some(FrameBody::Sent(_)) => {
                    acknowledged += 1;
                    batch.push(send(n, &convs[n as usize]));
                }
                _ => failed += 1,
            }
        }
        if ready == senders && began.elapsed() > Duration::from_secs(seconds) {
            break;
        }
        if !batch.is_empty() {
            router.submit(&mut batch);
        }
    }
    let (wall, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    println!(
        "{:.0} sends/s acknowledged, {:.1} us CPU per send, {failed} failed, {} deliveries",
        acknowledged as f64 / wall,
        cpu * 1e6 / acknowledged as f64,
        edge.delivered.load(Relaxed)
    );
    for name in ["roost_router_appends_total", "roost_router_entries_total"] {
        println!("{name} {}", router.metrics().get(name).unwrap_or(0.0));
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let kind = args.next().unwrap_or_else(|| "embedded".into());
    let senders = args.next().map_or(Ok(256), |text| text.parse())?;
    let seconds = args.next().map_or(Ok(5), |text| text.parse())?;
    match kind.as_str() {
        "memory" => run(MemoryStore::default(), senders, seconds, false).await,
        "cql" | "cql-hot" => {
            let contact_points = vec![args.next().ok_or("where is it? HOST:PORT")?];
            let options = CqlOptions { contact_points, keyspace: "durable_sends".into(), ..CqlOptions::default() };
            CqlStore::migrate(&options, &Replication { factor: 1, datacenter: None }).await?;
            run(CqlStore::connect(options).await?, senders, seconds, kind == "cql-hot").await;
        }
        _ => {
            let dir = tempfile::tempdir()?;
            run(EmbeddedStore::open(dir.path(), &EmbeddedOptions::default())?, senders, seconds, false).await;
        }
    }
    Ok(())
}
