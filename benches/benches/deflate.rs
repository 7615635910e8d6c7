//! RFC 7692: what compressing and inflating one message costs, and the worst that a client can send.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use roost_benches::frames;
use roost_wire::Encoding;
use roost_wire::limits::FRAME_BYTES_MAX;
use roost_wire::ws::{Deflater, Inflater, MessageKind};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Payloads as a server sends them in JSON: a push, a page of 50 entries, the largest reply.
fn payloads() -> [(&'static str, BytesMut); 3] {
    let json = |frame| {
        let mut payload = BytesMut::new();
        Encoding::Json.encode(&frame, &mut payload);
        payload
    };
    [
        ("push", json(frames::entry_frame())),
        ("page_50", json(frames::page(50))),
        ("page_3000", json(frames::page(3000))),
    ]
}

fn compress(c: &mut Criterion) {
    let mut group = c.benchmark_group("wire/deflate/compress");
    for (name, payload) in payloads() {
        let mut deflater = Deflater::new();
        group.throughput(Throughput::Bytes(payload.len() as u64));
        group.bench_function(name, |b| b.iter(|| deflater.compress(black_box(&payload)).map(<[u8]>::len)));
    }
    group.finish();
}

fn inflate(c: &mut Criterion) {
    let mut group = c.benchmark_group("wire/deflate/inflate");
    for (name, payload) in payloads() {
        let compressed = Deflater::new().compress(&payload).expect("it becomes smaller").to_vec();
        let mut inflater = Inflater::new();
        group.throughput(Throughput::Bytes(payload.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| inflater.inflate(MessageKind::Text, black_box(&compressed), payload.len()).map(<[u8]>::len));
        });
    }
    group.finish();
}

/// Messages of at most 64 KiB that are refused or empty, and what they cost until that is known.
fn hostile(c: &mut Criterion) {
    let bomb = Deflater::new().compress(&vec![0; 64 << 20]).expect("zeros").to_vec();
    // The largest table of literals, and an end at once, as often as it goes into 64 KiB.
    let mut bits = Bits::default();
    for _ in 0..1600 {
        bits.table();
    }
    let mut group = c.benchmark_group("wire/deflate/hostile");
    for (name, payload) in [
        ("bomb_64MiB", bomb),
        ("empty_blocks", [0, 0, 0, 0xff, 0xff].repeat(13_000)),
        ("last_blocks", [0x03, 0x00].repeat(32_000)),
        ("tables", bits.bytes),
    ] {
        let mut inflater = Inflater::new();
        group.throughput(Throughput::Bytes(payload.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| inflater.inflate(MessageKind::Binary, black_box(&payload), FRAME_BYTES_MAX).is_ok());
        });
    }
    group.finish();
}

/// Writes DEFLATE blocks bit by bit (RFC 1951 §3.1.1).
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        for bit in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let last = self.bytes.len() - 1;
            self.bytes[last] |= ((value >> bit & 1) as u8) << (self.used % 8);
            self.used += 1;
        }
    }

    /// A block with its own codes and nothing in it but its end (RFC 1951 §3.2.7). Lengths are told by a code of one bit,
    /// 0 for 8 and 1 for 9: 226 literals of 8 bits and 60 of 9 are complete, and one distance alone may be what it is.
    fn table(&mut self) {
        self.put(0b100, 3); // Not the last; codes of its own.
        self.put(29, 5); // 286 literals and lengths.
        self.put(0, 5); // One distance.
        self.put(3, 4); // Seven lengths of code lengths: for 16, 17, 18, 0, 8, 7, 9.
        for bits in [0, 0, 0, 0, 1, 0, 1] {
            self.put(bits, 3);
        }
        for literal in 0..286 {
            self.put(u32::from(literal >= 226), 1);
        }
        self.put(0, 1); // The distance, of 8 bits.
        // The end of the block is literal 256, one of 60 with 9 bits; codes are written from their top bit.
        let code = ((226 << 1) + (256 - 226)) as u32;
        for bit in (0..9).rev() {
            self.put(code >> bit & 1, 1);
        }
    }
}

criterion_group!(benches, compress, inflate, hostile);
criterion_main!(benches);
