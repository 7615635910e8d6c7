//! Appends to the embedded store, each acknowledged after its fsync. On the disk that holds the target folder.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use roost_benches::frames;
use roost_storage::{Append, Appended, ConvMeta, EmbeddedOptions, EmbeddedStore, Entry, IndexUpdate, Member, Store};
use roost_wire::pb::{Kind, Role};
use roost_wire::{ConvId, UserId};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A direct conversation, and the seq that its next entry gets.
struct Log {
    conv: ConvId,
    users: [UserId; 2],
    next: u64,
}

impl Log {
    async fn create(store: &EmbeddedStore, number: u128) -> Self {
        let users = [UserId::from_bits(2 * number), UserId::from_bits(2 * number + 1)];
        let meta = ConvMeta {
            conv: ConvId::from_bits(number),
            kind: Kind::Direct,
            name: String::new(),
            open: false,
            created_ms: 0,
            head: 0,
            changed: 0,
        };
        let conv = meta.conv.clone();
        let members = users.clone().map(|user| Member { user, role: Role::Owner }).to_vec();
        store.create(meta, members).await.expect("a new store takes it");
        Self { conv, users, next: 1 }
    }

    /// The next entry, with the index rows of both users.
    fn append(&mut self) -> Append {
        let seq = self.next;
        self.next += 1;
        let [from, to] = self.users.clone();
        let entry = Entry {
            seq,
            ts_ms: 1_790_000_000_000,
            from: from.clone(),
            cmid: format!("019a5b0e-7c1f-7d35-b3a7-{seq:012}"),
            body: frames::body(),
        };
        Append {
            conv: self.conv.clone(),
            expected: seq,
            entries: vec![entry],
            index: vec![
                IndexUpdate { user: from, head: Some(seq), read: Some(seq) },
                IndexUpdate { user: to, head: Some(seq), read: None },
            ],
            members: Vec::new(),
            name: None,
            open: None,
        }
    }
}

/// Every writer appends to a conversation of its own, one entry after the other; all of them at once.
async fn append_all(store: &EmbeddedStore, logs: &mut Vec<Log>, rounds: u64) -> Duration {
    let began = Instant::now();
    let writers: Vec<_> = logs
        .drain(..)
        .map(|mut log| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..rounds {
                    let appended = store.append(log.append()).await;
                    assert!(matches!(appended, Ok(Appended::Stored { .. })), "{appended:?}");
                }
                log
            })
        })
        .collect();
    for writer in writers {
        logs.push(writer.await.expect("a writer does not panic"));
    }
    began.elapsed()
}

fn append(c: &mut Criterion) {
    let runtime = Runtime::new().expect("threads can be started");
    let mut group = c.benchmark_group("storage/embedded/append");
    group.sample_size(10);
    for writers in [1_u64, 16, 256] {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target folder is writable");
        let store = EmbeddedStore::open(dir.path(), &EmbeddedOptions::default()).expect("a new folder opens");
        let mut logs = Vec::new();
        for number in 0..writers {
            logs.push(runtime.block_on(Log::create(&store, number.into())));
        }
        group.throughput(Throughput::Elements(writers));
        group.bench_function(format!("{writers}_writers"), |b| {
            b.iter_custom(|rounds| runtime.block_on(append_all(&store, &mut logs, rounds)));
        });
    }
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
