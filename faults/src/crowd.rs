//! How soon many clients are back when their node dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use parking_lot::Mutex;
use roost_client::{Client, Config, Event, Events, Transport};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::fleet::{Fleet, Node};

/// Clients that enter at once.
const ENTERING_MAX: usize = 64;
/// How long all may take to come back.
const BACK_WITHIN: Duration = Duration::from_secs(120);
/// How often the nodes' CPU time is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Comeback {
    /// Clients in all.
    pub(crate) clients: usize,
    /// Of them, those whose node died.
    pub(crate) cut: usize,
    /// Until half of these had a session again, and all had, in ms after the kill.
    pub(crate) half_ms: u64,
    pub(crate) all_ms: u64,
    /// The busiest surviving node, in cores: before, and at most in half a second while they came.
    pub(crate) cores_before: f64,
    pub(crate) cores_most: f64,
}

#[derive(Default)]
struct Seen {
    lost: AtomicUsize,
    back: Mutex<Vec<Instant>>,
}

/// Connects `count` clients, kills a node, and waits until all are back.
pub(crate) async fn run(fleet: &mut Fleet, count: usize) -> anyhow::Result<Comeback> {
    let url = format!("http://{}", fleet.balancer.addr());
    let (seen, gate) = (Arc::<Seen>::default(), Arc::new(Semaphore::new(ENTERING_MAX)));
    let mut entering = Vec::new();
    for number in 0..count {
        let (url, seen, gate) = (url.clone(), Arc::clone(&seen), Arc::clone(&gate));
        entering.push(tokio::spawn(async move {
            let _turn = gate.acquire_owned().await?;
            let config = Config { backoff_cap: Duration::from_secs(2), ..Config::default() };
            let builder = Client::builder(&url).guest(format!("Person {number}")).device("phone").config(config);
            let (client, events) = builder.transport(Transport::WebSocket).connect().await?;
            tokio::spawn(watch(events, seen));
            anyhow::Ok(client)
        }));
    }
    let mut clients = Vec::with_capacity(count);
    for entering in entering {
        clients.push(entering.await?.context("a client cannot enter")?);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let survivors: Vec<u32> = fleet.nodes[1..].iter().filter_map(Node::pid).collect();
    let cores_before = busiest(&survivors, 4).await;
    let killed = Instant::now();
    fleet.nodes[0].kill();
    let (mut cores_most, mut before) = (0.0_f64, None);
    while before.is_none_or(|seen_back| seen_back < seen.lost.load(Relaxed)) {
        ensure!(killed.elapsed() < BACK_WITHIN, "{} of {} are back", seen.back.lock().len(), seen.lost.load(Relaxed));
        cores_most = cores_most.max(busiest(&survivors, 1).await);
        before = Some(seen.back.lock().len()).filter(|_| seen.lost.load(Relaxed) > 0);
    }
    let mut back: Vec<u64> = seen.back.lock().iter().map(|at| ms(at.duration_since(killed))).collect();
    back.sort_unstable();
    let (half_ms, all_ms) = (back[back.len() / 2], back.last().copied().unwrap_or_default());
    clients.iter().for_each(Client::close);
    Ok(Comeback { clients: count, cut: back.len(), half_ms, all_ms, cores_before, cores_most })
}

async fn watch(mut events: Events, seen: Arc<Seen>) {
    let mut lost = false;
    while let Some(event) = events.recv().await {
        match event {
            Event::Disconnected { .. } if !lost => {
                lost = true;
                seen.lost.fetch_add(1, Relaxed);
            }
            Event::Connected { .. } if lost => {
                lost = false;
                seen.back.lock().push(Instant::now());
            }
            _ => {}
        }
    }
}

/// The most cores that one of the processes uses, looked at over so many turns.
async fn busiest(pids: &[u32], turns: u32) -> f64 {
    let read = || -> Vec<f64> { pids.iter().map(|pid| cpu_s(*pid)).collect() };
    let (before, began) = (read(), Instant::now());
    tokio::time::sleep(LOOK_EVERY * turns).await;
    let took = began.elapsed().as_secs_f64();
    before.iter().zip(read()).map(|(before, after)| (after - before) / took).fold(0.0, f64::max)
}

/// CPU time of a process so far, in seconds; 0 if it is gone.
fn cpu_s(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
