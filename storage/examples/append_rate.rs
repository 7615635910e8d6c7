//! Measures how many appends a second the embedded store acknowledges (each durable by fdatasync).
//!
//! ```text
//! cargo run --release -p roost-storage --example append_rate -- [--senders 256] [--convs 128] [--for 10]
//!     [--bytes 128] [--marks] [--dir DIR]
//! ```
//! Every sender appends single entries to its conversation, each with two index rows, and meets conflicts as the
//! router would: it takes the next seq from the answer. With `--marks` every append is followed by a mark of delivery
//! that nobody waits for. The directory is removed afterwards unless `--dir` names one.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use roost_storage::{
    Append, Appended, ConvMeta, EmbeddedOptions, EmbeddedStore, Entry, IndexUpdate, Mark, Member, Store,
};
use roost_wire::pb::{Body, Kind, Role};
use roost_wire::{ConvId, UserId};

struct Args {
    senders: usize,
    convs: usize,
    seconds: u64,
    bytes: usize,
    marks: bool,
    dir: Option<PathBuf>,
}

fn args() -> Result<Args, String> {
    let mut args = Args { senders: 256, convs: 128, seconds: 10, bytes: 128, marks: false, dir: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--marks" {
            args.marks = true;
            continue;
        }
        let value = words.next().ok_or(format!("{word} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|error| format!("{word} {value}: {error}"));
        match word.as_str() {
            "--senders" => args.senders = number()?.max(1) as usize,
            "--convs" => args.convs = number()?.max(1) as usize,
            "--for" => args.seconds = number()?,
            "--bytes" => args.bytes = number()? as usize,
            "--dir" => args.dir = Some(PathBuf::from(value)),
            _ => return Err(format!("unknown argument {word}")),
        }
    }
    Ok(args)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = args()?;
    let scratch = tempfile::tempdir_in(".")?;
    let dir = args.dir.clone().unwrap_or_else(|| scratch.path().join("store"));
    let store = EmbeddedStore::open(&dir, &EmbeddedOptions::default())?;
    let users: Vec<(UserId, UserId)> = (0..args.convs as u128)
        .map(|place| (UserId::from_bits(place * 2 + 1), UserId::from_bits(place * 2 + 2)))
        .collect();
    for (place, (a, b)) in users.iter().enumerate() {
        let meta = ConvMeta {
            conv: ConvId::from_bits(place as u128),
            kind: Kind::Direct,
            name: String::new(),
            open: false,
            created_ms: 0,
            head: 0,
            changed: 0,
        };
        let members = [a, b].map(|user| Member { user: user.clone(), role: Role::Owner }).to_vec();
        store.create(meta, members).await?;
    }

    let (done, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let begin = Instant::now();
    let tasks: Vec<_> = (0..args.senders)
        .map(|sender| {
            let place = sender % args.convs;
            let (store, done, count) = (store.clone(), Arc::clone(&done), Arc::clone(&count));
            let (conv, users) = (ConvId::from_bits(place as u128), users[place].clone());
            tokio::spawn(send(store, conv, users, sender, args.bytes, args.marks, done, count))
        })
        .collect();
    for second in 1..=args.seconds {
        let before = count.load(Relaxed);
        tokio::time::sleep(Duration::from_secs(1)).await;
        eprintln!("{second:>4} s  {:>7} appends/s", count.load(Relaxed) - before);
    }
    done.store(true, Relaxed);
    let mut micros = Vec::new();
    for task in tasks {
        micros.extend(task.await?);
    }
    report(&args, &store, begin.elapsed(), micros);
    Ok(())
}

#[allow(clippy::too_many_arguments, reason = "a task's captures")]
async fn send(
    store: EmbeddedStore,
    conv: ConvId,
    (from, to): (UserId, UserId),
    sender: usize,
    bytes: usize,
    marks: bool,
    done: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
) -> Vec<u32> {
    let mut micros = Vec::new();
    let (mut expected, mut number) = (1, 0_u64);
    while !done.load(Relaxed) {
        number += 1;
        let body = Body { text: "x".repeat(bytes), event: None };
        let begin = Instant::now();
        loop {
            let cmid = format!("01900000-0000-7000-{sender:04}-{number:012}");
            let entry = Entry { seq: expected, ts_ms: 1_790_000_000_000, from: from.clone(), cmid, body: body.clone() };
            let index = vec![
                IndexUpdate { user: from.clone(), head: Some(expected), read: Some(expected) },
                IndexUpdate { user: to.clone(), head: Some(expected), read: None },
            ];
            let append = Append {
                conv: conv.clone(),
                expected,
                entries: vec![entry],
                index,
                members: Vec::new(),
                name: None,
                open: None,
            };
            match store.append(append).await {
                Ok(Appended::Stored { .. }) => break,
                Ok(Appended::Conflict { head, .. }) => expected = head + 1,
                Err(error) => panic!("append: {error}"),
            }
        }
        micros.push(begin.elapsed().as_micros() as u32);
        count.fetch_add(1, Relaxed);
        if marks {
            let mark = Mark { user: to.clone(), conv: conv.clone(), delivered: Some(expected), read: None };
            let store = store.clone();
            tokio::spawn(async move { store.mark(vec![mark]).await });
        }
        expected += 1;
    }
    micros
}

fn report(args: &Args, store: &EmbeddedStore, took: Duration, mut micros: Vec<u32>) {
    micros.sort_unstable();
    let at = |share: f64| micros[((micros.len() - 1) as f64 * share) as usize];
    let metrics = store.metrics();
    let (_, commits) = metrics.commit_micros.cumulative();
    println!("senders {}, conversations {}, bytes {}, marks {}", args.senders, args.convs, args.bytes, args.marks);
    println!("acknowledged {} appends, {:.0} a second", micros.len(), micros.len() as f64 / took.as_secs_f64());
    println!("latency us: p50 {}, p99 {}, p99.9 {}, max {}", at(0.5), at(0.99), at(0.999), at(1.0));
    println!(
        "commits {commits}, {:.1} writes and {:.0} us each; conflicts {}; marks {} of {} asked",
        metrics.commit_writes.sum() as f64 / commits as f64,
        metrics.commit_micros.sum() as f64 / commits as f64,
        metrics.conflicts.load(Relaxed),
        metrics.marks.load(Relaxed),
        metrics.marks_asked.load(Relaxed),
    );
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        status
            .lines()
            .filter(|line| line.starts_with("VmHWM") || line.starts_with("VmRSS"))
            .for_each(|line| println!("{line}"));
    }
}
