//! Frames to bytes and back, in both encodings.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use roost_benches::frames;
use roost_wire::Encoding;

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("wire/frame/decode");
    for (name, frame) in [("send", frames::send()), ("entry", frames::entry_frame())] {
        for encoding in Encoding::ALL {
            let mut payload = BytesMut::new();
            encoding.encode(&frame, &mut payload);
            group.throughput(Throughput::Bytes(payload.len() as u64));
            group.bench_function(format!("{name}_{}", short(encoding)), |b| {
                b.iter(|| encoding.decode(&mut black_box(&payload[..])));
            });
        }
    }
    group.finish();
}

/// Into a buffer that has room: what one more frame costs.
fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("wire/frame/encode");
    for (name, frame) in [("send", frames::send()), ("entry", frames::entry_frame())] {
        for encoding in Encoding::ALL {
            let mut out = BytesMut::with_capacity(4096);
            encoding.encode(&frame, &mut out);
            group.throughput(Throughput::Bytes(out.len() as u64));
            group.bench_function(format!("{name}_{}", short(encoding)), |b| {
                b.iter(|| {
                    out.clear();
                    encoding.encode(black_box(&frame), &mut out);
                    black_box(out.len())
                });
            });
        }
    }
    group.finish();
}

/// The whole WebSocket message that a fan-out shares: done once per envelope and encoding.
fn server_message(c: &mut Criterion) {
    let mut group = c.benchmark_group("wire/frame/server_message");
    let frame = frames::entry_frame();
    for encoding in Encoding::ALL {
        group.throughput(Throughput::Bytes(encoding.server_message(&frame).len() as u64));
        group.bench_function(format!("entry_{}", short(encoding)), |b| {
            b.iter(|| encoding.server_message(black_box(&frame)));
        });
    }
    group.finish();
}

fn short(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Protobuf => "pb",
        Encoding::Json => "json",
    }
}

criterion_group!(benches, decode, encode, server_message);
criterion_main!(benches);
