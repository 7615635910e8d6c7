//! A WebSocket peer that sends anything, in any pieces.
//!
//! The first byte chooses the side, the limit and whether permessage-deflate was agreed on, the second how many cuts follow, one byte each; the rest is the
//! stream. What holds: any cut gives the same events and the same error; the error is told at the byte that makes the
//! stream wrong, not later; messages stay within the limit.

use roost_wire::ws::Side;

use crate::ws::{Reader, Terms, read};

/// Limits of messages, in bytes: around the three forms of a length, and one that only the bytes that came may fill.
const LIMITS: [usize; 8] = [0, 1, 125, 126, 1000, 65_535, 65_536, u32::MAX as usize];

/// Limit of messages that may come compressed.
const INFLATED_BYTES_MAX: usize = 1 << 20;

pub(crate) fn run(input: &[u8]) {
    let Some((&choice, rest)) = input.split_first() else { return };
    let Some((&count, rest)) = rest.split_first() else { return };
    let Some((cuts, stream)) = rest.split_at_checked(usize::from(count % 16)) else { return };
    let side = if choice & 1 == 0 { Side::Server } else { Side::Client };
    let deflate = choice & 16 != 0;
    let limit = LIMITS[usize::from(choice >> 1) % LIMITS.len()];
    // What is compressed may become as large as the limit.
    let message_bytes_max = if deflate { limit.min(INFLATED_BYTES_MAX) } else { limit };
    let terms = Terms { side, message_bytes_max, deflate };

    let whole = read(terms, stream, &[stream.len()]);
    let cuts: Vec<usize> = cuts.iter().copied().map(usize::from).chain([7]).collect();
    assert_eq!(read(terms, stream, &cuts), whole, "cut as the input says");

    // Byte by byte: where the stream goes wrong.
    let mut reader = Reader::new(terms);
    let mut ends_at = stream.len();
    for (at, byte) in stream.iter().enumerate() {
        if !reader.feed(std::slice::from_ref(byte)) {
            ends_at = at + 1;
            break;
        }
    }
    assert_eq!(reader.seen, whole, "byte by byte");
    if whole.is_over() {
        let before = read(terms, &stream[..ends_at - 1], &[stream.len()]);
        assert!(!before.is_over(), "it goes wrong at byte {ends_at}, told as a whole before: {before:?}");
        assert_eq!(read(terms, &stream[..ends_at], &[stream.len()]), whole, "told at byte {ends_at}");
    }
}
