//! One envelope to many sessions of a shard: everything but the system calls.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use roost_benches::crowd::Crowd;
use roost_wire::Encoding;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("edge/shard/fan_out");
    for sessions in [1, 100, 10_000] {
        let mut crowd = Crowd::new(sessions, Encoding::Protobuf);
        group.throughput(Throughput::Elements(sessions as u64));
        group.bench_function(sessions.to_string(), |b| b.iter(|| crowd.fan_out()));
    }
    group.finish();
    // Whether what is compressed once is paid for by many.
    for (name, compression) in [("fan_out_json", false), ("fan_out_json_deflate", true)] {
        let mut group = c.benchmark_group(format!("edge/shard/{name}"));
        for sessions in [1, 100, 10_000] {
            let mut crowd = Crowd::with(sessions, Encoding::Json, compression);
            group.throughput(Throughput::Elements(sessions as u64));
            group.bench_function(sessions.to_string(), |b| b.iter(|| crowd.fan_out()));
        }
        group.finish();
    }
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
