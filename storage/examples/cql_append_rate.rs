//! Appends per second in Cassandra: one busy conversation, entry by entry and in batches, and many conversations at once,
//! beside a bare loop of conditional inserts at the same concurrency.
//!
//! ```text
//! cargo run --release -p roost-storage --example cql_append_rate -- [SECONDS] [CONCURRENCY] [HOST:PORT]
//! ```
//! Without an address a single node is started, with its commit log synced before each answer. Every append raises the
//! index rows of two members, as a message in a direct conversation does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use roost_fixtures::cassandra::{Cassandra, Options};
use roost_storage::{Append, Appended, ConvMeta, CqlOptions, CqlStore, Entry, IndexUpdate, Member, Replication, Store};
use roost_wire::pb::{Body, Kind, Role};
use roost_wire::{ConvId, UserId};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::{Consistency, SerialConsistency};

/// Bytes of a message.
const TEXT_BYTES: usize = 100;

/// What one case reached.
struct Rate {
    appends: f64,
    entries: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// Runs `tasks` of `step` for `time`; a step does one append of `entries`.
async fn measure<F, S>(time: Duration, tasks: usize, entries: usize, step: impl Fn(usize) -> S) -> anyhow::Result<Rate>
where
    S: FnMut() -> F + Send + 'static,
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let began = Instant::now();
    let mut running = Vec::new();
    for task in 0..tasks {
        let (stop, done, mut step) = (stop.clone(), done.clone(), step(task));
        running.push(tokio::spawn(async move {
            let mut micros = Histogram::<u64>::new_with_max(60_000_000, 3)?;
            while !stop.load(Relaxed) {
                let asked = Instant::now();
                step().await?;
                micros.record(asked.elapsed().as_micros() as u64)?;
                done.fetch_add(1, Relaxed);
            }
            anyhow::Ok(micros)
        }));
    }
    tokio::time::sleep(time).await;
    stop.store(true, Relaxed);
    let mut all = Histogram::<u64>::new_with_max(60_000_000, 3)?;
    for task in running {
        all.add(task.await??)?;
    }
    let appends = done.load(Relaxed) as f64 / began.elapsed().as_secs_f64();
    let ms = |quantile| all.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(Rate { appends, entries: appends * entries as f64, p50_ms: ms(0.5), p99_ms: ms(0.99) })
}

/// Conditional inserts of rows of their own: what a program without any design reaches.
async fn bare(session: Arc<Session>, keyspace: &str, time: Duration, tasks: usize) -> anyhow::Result<Rate> {
    let table =
        format!("CREATE TABLE IF NOT EXISTS {keyspace}.bare (id text, seq bigint, body blob, PRIMARY KEY (id, seq))");
    session.query_unpaged(table, ()).await?;
    let insert = format!("INSERT INTO {keyspace}.bare (id, seq, body) VALUES (?, ?, ?) IF NOT EXISTS");
    let mut insert = session.prepare(insert).await?;
    insert.set_consistency(Consistency::Quorum);
    insert.set_serial_consistency(Some(SerialConsistency::Serial));
    measure(time, tasks, 1, |task| {
        let (session, insert, mut seq) = (session.clone(), insert.clone(), 0_i64);
        move || {
            seq += 1;
            let (session, insert) = (session.clone(), insert.clone());
            let values = (format!("bare-{task}"), seq, vec![b'x'; TEXT_BYTES]);
            async move {
                session.execute_unpaged(&insert, values).await?;
                Ok(())
            }
        }
    })
    .await
}

/// Appends of `batch` entries by each task to a conversation of its own.
async fn appends(store: &CqlStore, case: usize, time: Duration, tasks: usize, batch: usize) -> anyhow::Result<Rate> {
    let mut convs = Vec::new();
    for task in 0..tasks {
        let conv = ConvId::from_bits((case as u128) << 32 | task as u128);
        let users = [0, 1].map(|side| UserId::from_bits((task as u128) << 1 | side));
        let meta = ConvMeta {
            conv: conv.clone(),
            kind: Kind::Direct,
            name: String::new(),
            open: false,
            created_ms: 1,
            head: 0,
            changed: 0,
        };
        let members = users.iter().map(|user| Member { user: user.clone(), role: Role::Owner }).collect();
        store.create(meta, members).await?;
        convs.push((conv, users));
    }
    measure(time, tasks, batch, |task| {
        let (store, (conv, users), mut head) = (store.clone(), convs[task].clone(), 0);
        move || {
            let entry = |seq| Entry {
                seq,
                ts_ms: 1,
                from: users[0].clone(),
                cmid: format!("{seq:032x}"),
                body: Body { text: "x".repeat(TEXT_BYTES), event: None },
            };
            let last = head + batch as u64;
            let raise = |user: &UserId| IndexUpdate { user: user.clone(), head: Some(last), read: None };
            let append = Append {
                conv: conv.clone(),
                expected: head + 1,
                entries: (head + 1..=last).map(entry).collect(),
                index: users.iter().map(raise).collect(),
                members: Vec::new(),
                name: None,
                open: None,
            };
            head = last;
            let store = store.clone();
            async move {
                match store.append(append).await? {
                    Appended::Stored { .. } => Ok(()),
                    Appended::Conflict { head, .. } => bail!("a conflict with nobody at {head}"),
                }
            }
        }
    })
    .await
}

async fn run(contact_points: Vec<String>, time: Duration, tasks: usize) -> anyhow::Result<()> {
    let options = CqlOptions {
        contact_points,
        keyspace: format!("append_rate_{}", std::process::id()),
        request_timeout: Duration::from_secs(10),
        ..CqlOptions::default()
    };
    CqlStore::migrate(&options, &Replication { factor: 1, datacenter: None }).await?;
    let store = CqlStore::connect(options.clone()).await?;
    let session = Arc::new(SessionBuilder::new().known_nodes(&options.contact_points).build().await?);
    // A first round lets the server compile what it is about to be measured with.
    bare(session.clone(), &options.keyspace, time / 2, tasks).await?;
    appends(&store, 1, time / 2, tasks, 1).await?;
    println!("{:<44} {:>10} {:>11} {:>9} {:>9} {:>8}", "case", "appends/s", "entries/s", "p50 ms", "p99 ms", "of bare");
    let print = |case: &str, rate: &Rate, bare: f64| {
        println!(
            "{case:<44} {:>10.0} {:>11.0} {:>9.2} {:>9.2} {:>7.0}%",
            rate.appends,
            rate.entries,
            rate.p50_ms,
            rate.p99_ms,
            100.0 * rate.appends / bare
        );
    };
    for (round, tasks) in [1, tasks].into_iter().enumerate() {
        let plain = bare(session.clone(), &options.keyspace, time, tasks).await?;
        print(&format!("bare conditional inserts, {tasks} at once"), &plain, plain.appends);
        let one = appends(&store, 10 + round, time, tasks, 1).await?;
        print(&format!("{tasks} conversations, one entry an append"), &one, plain.appends);
        if tasks == 1 {
            for batch in [8, 64, 256] {
                let rate = appends(&store, 100 + batch, time, 1, batch).await?;
                print(&format!("1 conversation, {batch} entries an append"), &rate, plain.appends);
                println!(
                    "{:<44} {:>10} {:>10.1}x",
                    "  entries against one entry an append",
                    "",
                    rate.entries / one.entries
                );
            }
        }
    }
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let seconds = args.next().map_or(Ok(5), |text| text.parse()).context("SECONDS")?;
    let tasks = args.next().map_or(Ok(64), |text| text.parse()).context("CONCURRENCY")?;
    let (_server, contact_points) = match args.next() {
        Some(address) => (None, vec![address]),
        None => {
            let server = Cassandra::start(&Options { block: 29, heap_mib: 1024, ..Options::default() })?;
            let points = server.contact_points().iter().map(ToString::to_string).collect();
            (Some(server), points)
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(contact_points, Duration::from_secs(seconds), tasks))
}
