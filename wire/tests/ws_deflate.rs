//! RFC 7692, compressed messages: the RFC's own vectors, what it forbids, and laws that hold for any bytes.

use bytes::BytesMut;
use proptest::prelude::*;
use roost_wire::CloseCode;
use roost_wire::ws::{
    Decoder, Deflater, Event, HEADER_BYTES_MAX, Header, Inflater, MessageKind, OpCode, Side, WsError, mask,
    write_client_message, write_ping,
};

const MAX: usize = 1 << 17;
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// "Hello", compressed: RFC 7692 §7.2.3.1.
const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

/// What came of a stream: messages until its end or the first error. Pings count as messages with a mark in front.
fn decode<'a>(
    side: Side,
    max: usize,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    inflater: &mut Inflater,
) -> (Vec<Vec<u8>>, Option<WsError>) {
    let mut decoder = Decoder::with_deflate(side, max);
    let mut messages = Vec::new();
    for piece in pieces {
        let (mut input, mut at) = (piece.to_vec(), 0);
        loop {
            match decoder.next_inflating(&mut input, &mut at, inflater) {
                Ok(Some(Event::Message { payload, .. })) => messages.push(payload.to_vec()),
                Ok(Some(Event::Ping(payload))) => messages.push([b"ping ", payload].concat()),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    assert!(decoder.is_idle(), "between messages it owns nothing");
    (messages, None)
}

fn decode_new(side: Side, max: usize, bytes: &[u8]) -> (Vec<Vec<u8>>, Option<WsError>) {
    let whole = decode(side, max, [bytes], &mut Inflater::new());
    // However it is cut, it says the same.
    assert_eq!(decode(side, max, bytes.chunks(1), &mut Inflater::new()), whole);
    whole
}

/// A frame of a client.
fn frame(fin: bool, compressed: bool, opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    Header { fin, compressed, opcode, len: payload.len() as u64, mask: Some(KEY) }.encode(&mut out);
    let start = out.len();
    out.extend_from_slice(payload);
    mask::apply(&mut out[start..], KEY, 0);
    out.to_vec()
}

fn compressed_text(payload: &[u8]) -> Vec<u8> {
    frame(true, true, OpCode::Text, payload)
}

/// The DEFLATE of a message that does not become smaller, too: in blocks without compression.
fn stored(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for block in payload.chunks(0xffff) {
        let len = u16::try_from(block.len()).unwrap();
        out.push(0);
        out.extend(len.to_le_bytes());
        out.extend((!len).to_le_bytes());
        out.extend(block);
    }
    out.push(0);
    out
}

/// So many zeros, compressed as well as it goes: about 1 to 1000.
fn bomb(bytes: usize) -> Vec<u8> {
    Deflater::new().compress(&vec![0; bytes]).expect("zeros").to_vec()
}

#[test]
fn reads_the_examples_of_rfc7692_section_7_2_3() {
    let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    let two_blocks = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    for (name, payload, want) in [
        ("one block", &HELLO[..], &b"Hello"[..]),
        ("block without compression", &stored, b"Hello"),
        ("block marked as the last", &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], b"Hello"),
        ("two blocks", &two_blocks, b"Hello"),
        ("empty", &[0x00], b""),
    ] {
        let unmasked = [&[0xc1, payload.len() as u8][..], payload].concat();
        assert_eq!(decode_new(Side::Client, MAX, &unmasked), (vec![want.to_vec()], None), "{name}");
        let masked = compressed_text(payload);
        assert_eq!(decode_new(Side::Server, MAX, &masked), (vec![want.to_vec()], None), "{name}, masked");
    }
    let fragments = b"\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00";
    assert_eq!(decode_new(Side::Client, MAX, fragments), (vec![b"Hello".to_vec()], None));
}

#[test]
fn nothing_is_remembered_from_the_message_before() {
    // §7.2.3.2: the second "Hello" refers to the first, as an endpoint with context takeover would send it.
    let mut inflater = Inflater::new();
    let both = [compressed_text(&HELLO), compressed_text(&[0xf2, 0x00, 0x11, 0x00, 0x00])].concat();
    let (messages, error) = decode(Side::Server, MAX, [&both[..]], &mut inflater);
    assert_eq!((messages, error), (vec![b"Hello".to_vec()], Some(WsError::Deflate)));
    // Nor from a failed one.
    assert_eq!(inflater.inflate(MessageKind::Text, &HELLO, MAX), Ok(&b"Hello"[..]));
    assert_eq!(inflater.inflate(MessageKind::Text, &HELLO[..3], MAX), Err(WsError::Deflate));
    assert_eq!(inflater.inflate(MessageKind::Text, &HELLO, MAX), Ok(&b"Hello"[..]));
}

#[test]
fn compressed_and_plain_messages_and_controls_stand_side_by_side() {
    let mut ping = BytesMut::new();
    write_ping(b"!", Some(KEY), &mut ping);
    let mut plain = BytesMut::new();
    write_client_message(MessageKind::Text, b"plain", KEY, &mut plain);
    let bytes = [
        frame(false, true, OpCode::Text, &HELLO[..2]),
        ping.to_vec(),
        frame(false, false, OpCode::Continuation, b""),
        frame(true, false, OpCode::Continuation, &HELLO[2..]),
        plain.to_vec(),
        frame(true, true, OpCode::Binary, &HELLO),
        frame(true, true, OpCode::Binary, &stored(&[0xff; 300])),
    ]
    .concat();
    let want = [&b"ping !"[..], b"Hello", b"plain", b"Hello", &[0xff; 300]].map(<[u8]>::to_vec);
    assert_eq!(decode_new(Side::Server, MAX, &bytes), (want.to_vec(), None));
}

#[test]
fn refuses_reserved_bits_where_they_have_no_meaning() {
    let begun = frame(false, true, OpCode::Text, &HELLO[..2]);
    let rsv1_later = [begun.clone(), frame(true, true, OpCode::Continuation, &HELLO[2..])].concat();
    let rsv1_ping = frame(true, true, OpCode::Ping, b"");
    for (name, bytes) in [("on a later fragment", rsv1_later), ("on a ping", rsv1_ping)] {
        assert_eq!(decode_new(Side::Server, MAX, &bytes), (vec![], Some(WsError::ReservedBit)), "{name}");
    }
    // Without the extension, any.
    let mut input = compressed_text(&HELLO);
    assert_eq!(Decoder::new(Side::Server, MAX).next(&mut input, &mut 0), Err(WsError::ReservedBit));
    // With it, but with nobody to inflate.
    let mut input = compressed_text(&HELLO);
    assert_eq!(Decoder::with_deflate(Side::Server, MAX).next(&mut input, &mut 0), Err(WsError::Deflate));
    assert_eq!(WsError::ReservedBit.close_code(), CloseCode::Protocol);
}

#[test]
fn data_that_is_no_deflate_stream_closes_with_1007() {
    for (name, payload) in [
        ("no byte at all", &[][..]),
        ("a block of the reserved type", &[0x06]),
        ("a distance beyond the beginning", &[0xf2, 0x00, 0x11, 0x00, 0x00]),
        ("a length that does not match its complement", &[0x00, 0x05, 0x00, 0x00, 0x00, 0x48]),
        ("cut inside a block", &HELLO[..4]),
        ("cut inside a block without compression", &[0x00, 0x20, 0x00, 0xdf, 0xff, 0x48]),
        ("cut so that the end looks like data", &[0x00, 0x06, 0x00, 0xf9, 0xff]),
        ("a last block without the byte behind it", &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]),
        ("its end is there already", &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00, 0x00, 0xff, 0xff]),
        ("plain text", b"Hello, world"),
        ("a zlib header", &[0x78, 0x9c, 0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]),
    ] {
        let bytes = frame(true, true, OpCode::Binary, payload);
        assert_eq!(decode_new(Side::Server, MAX, &bytes), (vec![], Some(WsError::Deflate)), "{name}");
    }
    assert_eq!(WsError::Deflate.close_code(), CloseCode::NotUtf8);
    assert_eq!(CloseCode::NotUtf8.number(), 1007);
}

#[test]
fn text_is_checked_while_it_is_inflated() {
    let bad = compressed_text(&stored(b"caf\xe9!"));
    assert_eq!(decode_new(Side::Server, MAX, &bad), (vec![], Some(WsError::NotUtf8)));
    let cut = compressed_text(&stored(b"caf\xc3"));
    assert_eq!(decode_new(Side::Server, MAX, &cut), (vec![], Some(WsError::NotUtf8)));
    // A character may lie across blocks and across steps of inflation.
    let text = "é".repeat(40_000);
    for odd in [&text[..], &format!("a{text}")] {
        let mut deflater = Deflater::new();
        let good = compressed_text(deflater.compress(odd.as_bytes()).unwrap());
        let found = decode(Side::Server, MAX, [&good[..]], &mut Inflater::new());
        assert!(found == (vec![odd.as_bytes().to_vec()], None));
    }
    // The bad byte is told before the rest is inflated, let alone counted against the limit.
    let early = [&b"\xff"[..], &[b'x'; 100_000]].concat();
    let early = compressed_text(Deflater::new().compress(&early).unwrap());
    assert_eq!(decode(Side::Server, 50_000, [&early[..]], &mut Inflater::new()), (vec![], Some(WsError::NotUtf8)));
}

#[test]
fn a_message_that_inflates_beyond_the_limit_closes_with_1009() {
    for (bytes, max, fits) in [(1000, 1000, true), (1001, 1000, false), (65_536, 65_536, true), (65_537, 65_536, false)]
    {
        let message = frame(true, true, OpCode::Binary, &bomb(bytes));
        let want = if fits { (vec![vec![0; bytes]], None) } else { (vec![], Some(WsError::Inflated { max })) };
        assert!(decode_new(Side::Server, max as usize, &message) == want, "{bytes} of {max}");
    }
    assert_eq!(WsError::Inflated { max: 1 }.close_code(), CloseCode::TooBig);
}

#[test]
fn a_bomb_takes_no_more_memory_than_the_limit() {
    // 64 MiB in 64 KiB.
    let bomb = bomb(64 << 20);
    assert!(bomb.len() < 70_000, "{}", bomb.len());
    let mut inflater = Inflater::new();
    for _ in 0..3 {
        assert_eq!(inflater.inflate(MessageKind::Text, &bomb, MAX), Err(WsError::Inflated { max: MAX as u64 }));
        assert!(inflater.message().len() <= MAX + 1, "{} B inflated", inflater.message().len());
    }
    inflater.forget();
    assert_eq!(
        format!("{inflater:?}"),
        "Inflater { kept_bytes: 0, .. }",
        "the memory of a large message is given back"
    );
    // Nor do the fragments of one, which stay as they came.
    let fragments: Vec<u8> = bomb
        .chunks(1000)
        .enumerate()
        .flat_map(|(at, part)| frame(false, at == 0, if at == 0 { OpCode::Text } else { OpCode::Continuation }, part))
        .chain(frame(true, false, OpCode::Continuation, b""))
        .collect();
    let found = decode(Side::Server, MAX, fragments.chunks(4096), &mut inflater);
    assert_eq!(found, (vec![], Some(WsError::Inflated { max: MAX as u64 })));
}

#[test]
fn what_cannot_be_compressed_may_be_a_little_longer_than_the_limit() {
    let mut noise = 1u32;
    let payload: Vec<u8> = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 24) as u8
    })
    .take(65_536)
    .collect();
    assert_eq!(Deflater::new().compress(&payload), None, "it is to be sent as it is");
    let message = frame(true, true, OpCode::Binary, &stored(&payload));
    assert!(message.len() > 65_536 + HEADER_BYTES_MAX);
    assert!(decode_new(Side::Server, 65_536, &message) == (vec![payload], None));
    // But what nobody would send is refused before it is in.
    let header = &frame(true, true, OpCode::Binary, &[0; 80_000])[..HEADER_BYTES_MAX];
    assert!(matches!(decode_new(Side::Server, 65_536, header), (_, Some(WsError::TooLarge { .. }))));
}

#[test]
fn thousands_of_blocks_that_hold_nothing_are_one_empty_message() {
    // The cheapest thing to send that costs us something: 13,000 empty blocks, 30,000 marked as the last.
    let empty = [0x00, 0x00, 0x00, 0xff, 0xff].repeat(13_000);
    let last = [0x03, 0x00].repeat(30_000);
    let mut inflater = Inflater::new();
    for mut payload in [empty, last] {
        payload.push(0x00);
        assert_eq!(inflater.inflate(MessageKind::Text, &payload, 65_536), Ok(&b""[..]));
    }
}

#[test]
fn a_message_is_compressed_the_same_whatever_went_before() {
    let text = b"the birds of Roost do come and go, and where they sit, nobody may know";
    let mut deflater = Deflater::new();
    let first = deflater.compress(text).expect("it repeats itself").to_vec();
    deflater.compress(&[7; 70_000]);
    deflater.compress(b"nothing to gain");
    assert_eq!(deflater.compress(text), Some(&first[..]));
    assert_eq!(Inflater::new().inflate(MessageKind::Text, &first, MAX), Ok(&text[..]));
}

#[test]
fn servers_messages_have_rsv1_and_are_smaller() {
    let text = b"never, never, never, never, never, never, never";
    let mut deflater = Deflater::new();
    let message = deflater.server_message(MessageKind::Text, text).expect("it repeats itself");
    assert_eq!((message[0], message[1] as usize), (0xc1, message.len() - 2));
    assert!(message.len() < text.len());
    assert_eq!(decode_new(Side::Client, MAX, &message), (vec![text.to_vec()], None));
    assert_eq!(deflater.server_message(MessageKind::Text, b""), None);
    assert_eq!(deflater.server_message(MessageKind::Text, b"0123456789"), None);
    // A large message leaves no memory behind.
    assert!(deflater.compress(&vec![7; 1 << 20]).is_some());
    assert!(deflater.compress(text).is_some());
    assert!(!format!("{deflater:?}").contains("1048"), "{deflater:?}");
}

proptest! {
    #[test]
    fn what_is_compressed_comes_back_however_it_is_cut_and_fragmented(
        words in prop::collection::vec(prop::collection::vec(0u8..4, 0..40), 1..6),
        repeat in 1usize..2000, cuts in prop::collection::vec(1usize..5000, 0..6), piece in 1usize..9000,
    ) {
        let payload: Vec<u8> = words.iter().cycle().take(repeat).flatten().copied().collect();
        let mut deflater = Deflater::new();
        deflater.compress(b"another message before it, it, it, it");
        let compressed = deflater.compress(&payload).map_or_else(|| stored(&payload), <[u8]>::to_vec);
        let (mut bytes, mut rest, mut first) = (Vec::new(), &compressed[..], true);
        for cut in cuts {
            let (part, behind) = rest.split_at(cut.min(rest.len()));
            bytes.extend(frame(false, first, if first { OpCode::Binary } else { OpCode::Continuation }, part));
            (rest, first) = (behind, false);
        }
        bytes.extend(frame(true, first, if first { OpCode::Binary } else { OpCode::Continuation }, rest));
        let found = decode(Side::Server, MAX, bytes.chunks(piece), &mut Inflater::new());
        prop_assert!(found == (vec![payload], None));
    }

    #[test]
    fn any_bytes_inflate_to_something_within_the_limit_or_fail(
        payload in prop::collection::vec(any::<u8>(), 0..300), max in 1usize..4000,
    ) {
        let mut inflater = Inflater::new();
        match inflater.inflate(MessageKind::Text, &payload, max) {
            Ok(text) => prop_assert!(text.len() <= max && std::str::from_utf8(text).is_ok()),
            Err(error) => {
                let known = matches!(error, WsError::Deflate | WsError::NotUtf8 | WsError::Inflated { .. });
                prop_assert!(known, "{}", error);
            }
        }
        prop_assert_eq!(inflater.inflate(MessageKind::Text, &HELLO, MAX), Ok(&b"Hello"[..]));
    }
}
