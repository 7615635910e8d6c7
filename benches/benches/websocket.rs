//! RFC 6455: headers, masks, and a read full of small messages.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use roost_benches::frames;
use roost_wire::ws::{self, Decoder, Event, Header, MessageKind, Side, mask};
use roost_wire::{Encoding, limits};

const KIB: usize = 1024;

/// The header of a client's message, and its payload unmasked where it lies. `naive` is the baseline: RFC 6455 §5.3
/// as it is written, a byte at a time.
fn unmask(c: &mut Criterion) {
    for (name, apply) in [("unmask", wide as fn(&mut [u8], [u8; 4])), ("unmask_naive", naive)] {
        let mut group = c.benchmark_group(format!("wire/ws/{name}"));
        for (case, bytes) in [("64B", 64), ("1KiB", KIB), ("64KiB", 64 * KIB)] {
            let mut message = BytesMut::new();
            ws::write_client_message(MessageKind::Binary, &vec![7; bytes], frames::KEY, &mut message);
            group.throughput(Throughput::Bytes(message.len() as u64));
            group.bench_function(case, |b| {
                b.iter(|| {
                    let message = black_box(&mut message[..]);
                    let Ok(Some((header, at))) = Header::decode(message, Side::Server) else { unreachable!() };
                    let Some(key) = header.mask else { unreachable!() };
                    apply(&mut message[at..], key);
                });
            });
        }
        group.finish();
    }
}

fn wide(payload: &mut [u8], key: [u8; 4]) {
    mask::apply(payload, key, 0);
}

// `inline(never)`, and a bound checked per byte: what the compiler makes of the obvious loop.
#[inline(never)]
fn naive(payload: &mut [u8], key: [u8; 4]) {
    for at in 0..payload.len() {
        payload[at] ^= key[at % 4];
    }
}

/// One read of 64 KiB full of SENDs with 128 B of text, as a busy shard sees it: messages only, then with the frames
/// in them decoded too.
fn decoder(c: &mut Criterion) {
    let mut group = c.benchmark_group("wire/ws/read_64KiB");
    for (name, encoding) in [("pb", Encoding::Protobuf), ("json", Encoding::Json)] {
        let message = frames::client_message(encoding, &frames::send());
        let messages = 64 * KIB / message.len();
        let input = message.repeat(messages);
        group.throughput(Throughput::ElementsAndBytes { elements: messages as u64, bytes: input.len() as u64 });
        for (case, with_frames) in [("messages", false), ("frames", true)] {
            group.bench_function(format!("{case}_{name}"), |b| {
                b.iter_batched_ref(
                    || (Decoder::new(Side::Server, limits::FRAME_BYTES_MAX), input.clone()),
                    |(decoder, input)| {
                        let seen = read(decoder, input, with_frames.then_some(encoding));
                        assert_eq!(seen, messages);
                    },
                    BatchSize::LargeInput,
                );
            });
        }
    }
    group.finish();
}

/// How many messages, or frames in `encoding`, the input holds.
fn read(decoder: &mut Decoder, input: &mut [u8], encoding: Option<Encoding>) -> usize {
    let (mut at, mut seen) = (0, 0);
    while let Ok(Some(event)) = decoder.next(input, &mut at) {
        let Event::Message { mut payload, .. } = event else { continue };
        match encoding {
            None => seen += usize::from(!black_box(payload).is_empty()),
            Some(encoding) => {
                while let Ok(Some(frame)) = encoding.decode(&mut payload) {
                    black_box(frame);
                    seen += 1;
                }
            }
        }
    }
    seen
}

criterion_group!(benches, unmask, decoder);
criterion_main!(benches);
