//! RFC 6455, frames and messages: the RFC's own vectors, a table of what it forbids, and laws that hold for any bytes.

use bytes::BytesMut;
use proptest::prelude::*;
use roost_wire::limits::MESSAGE_FRAGMENTS_MAX;
use roost_wire::ws::close::CloseBody;
use roost_wire::ws::{
    Decoder, Event, Header, MessageKind, OpCode, Side, WsError, mask, write_client_message, write_close,
    write_message_header, write_ping, write_pong,
};

const MAX: usize = 1 << 17;
/// The masking key of RFC 6455 §5.7.
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// An [`Event`] that owns what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
    Broken(WsError),
}

fn own(event: &Event<'_>) -> Said {
    match *event {
        Event::Message { kind: MessageKind::Text, payload } => {
            Said::Text(std::str::from_utf8(payload).expect("text is UTF-8").to_owned())
        }
        Event::Message { kind: MessageKind::Binary, payload } => Said::Binary(payload.to_vec()),
        Event::Ping(payload) => Said::Ping(payload.to_vec()),
        Event::Pong(payload) => Said::Pong(payload.to_vec()),
        Event::Close(body) => Said::Close(body.map(|CloseBody { code, reason }| (code, reason.to_owned()))),
    }
}

/// Feeds `pieces` one after the other, until the first error or close.
fn decode<'a>(side: Side, max: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Said> {
    let mut decoder = Decoder::new(side, max);
    let mut said = Vec::new();
    for piece in pieces {
        let mut input = piece.to_vec();
        let mut at = 0;
        loop {
            match decoder.next(&mut input, &mut at) {
                Ok(Some(event)) => said.push(own(&event)),
                Ok(None) => break,
                Err(error) => said.push(Said::Broken(error)),
            }
            if matches!(said.last(), Some(Said::Close(_) | Said::Broken(_))) {
                return said;
            }
        }
        assert_eq!(at, input.len(), "all input is taken");
    }
    said
}

fn text(text: &str) -> Said {
    Said::Text(text.to_owned())
}

fn frame(fin: bool, opcode: OpCode, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut out = BytesMut::new();
    Header { fin, compressed: false, opcode, len: payload.len() as u64, mask }.encode(&mut out);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = mask {
        mask::apply(&mut out[start..], key, 0);
    }
    out.to_vec()
}

#[test]
fn reads_the_examples_of_rfc6455_section_5_7() {
    let long = [&[0x82, 0x7e, 0x01, 0x00][..], &[9; 256]].concat();
    let longer = [&[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0][..], &[9; 65_536]].concat();
    let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    for (name, side, bytes, want) in [
        ("unmasked text", Side::Client, &b"\x81\x05Hello"[..], text("Hello")),
        ("masked text", Side::Server, &masked, text("Hello")),
        ("fragmented text", Side::Client, b"\x01\x03Hel\x80\x02lo", text("Hello")),
        ("unmasked ping", Side::Client, b"\x89\x05Hello", Said::Ping(b"Hello".to_vec())),
        ("masked pong", Side::Server, &[&[0x8a][..], &masked[1..]].concat(), Said::Pong(b"Hello".to_vec())),
        ("256 bytes", Side::Client, &long, Said::Binary(vec![9; 256])),
        ("64 KiB", Side::Client, &longer, Said::Binary(vec![9; 65_536])),
    ] {
        let want = [want];
        assert_eq!(decode(side, MAX, [bytes]), want, "{name}");
        assert_eq!(decode(side, MAX, bytes.chunks(1)), want, "{name}, byte by byte");
    }
}

#[test]
fn writes_the_examples_of_rfc6455_section_5_7() {
    let mut out = BytesMut::new();
    write_client_message(MessageKind::Text, b"Hello", KEY, &mut out);
    assert_eq!(&out[..], [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    out.clear();
    write_ping(b"Hello", None, &mut out);
    assert_eq!(&out[..], b"\x89\x05Hello");
    out.clear();
    write_pong(b"Hello", Some(KEY), &mut out);
    assert_eq!(&out[..], [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    out.clear();
    write_message_header(MessageKind::Binary, 65_536, None, &mut out);
    assert_eq!(&out[..], [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
}

#[test]
fn close_frames_keep_whole_characters_and_125_bytes() {
    let mut out = BytesMut::new();
    write_close(4503, &"ä".repeat(100), None, &mut out);
    assert_eq!(out.len(), 2 + 2 + 122, "61 characters of two bytes fit 123 bytes");
    assert_eq!(decode(Side::Client, MAX, [&out[..]]), [Said::Close(Some((4503, "ä".repeat(61))))]);
    out.clear();
    write_ping(&[1; 200], Some(KEY), &mut out);
    assert_eq!(decode(Side::Server, MAX, [&out[..]]), [Said::Ping(vec![1; 125])]);
}

#[test]
fn refuses_what_rfc6455_forbids() {
    let broken = |error| vec![Said::Broken(error)];
    for (name, bytes, want) in [
        ("§5.2 reserved bit 1", &b"\xc1\x00"[..], broken(WsError::ReservedBit)),
        ("§5.2 reserved bit 3", b"\x91\x00", broken(WsError::ReservedBit)),
        ("§5.2 opcode 3", b"\x83\x00", broken(WsError::OpCode)),
        ("§5.2 opcode 15", b"\x8f\x00", broken(WsError::OpCode)),
        ("§5.2 long form of 5", b"\x82\x7e\x00\x05", broken(WsError::Length)),
        ("§5.1 a server that masks", b"\x81\x85", broken(WsError::Masking)),
        ("§5.4 continuation of nothing", b"\x80\x00", broken(WsError::Fragmentation)),
        ("§5.4 unfinished continuation of nothing", b"\x00\x01a", broken(WsError::Fragmentation)),
        ("§5.4 message inside a message", b"\x01\x01a\x81\x01b", broken(WsError::Fragmentation)),
        ("§5.4 binary inside a text", b"\x01\x01a\x82\x01b", broken(WsError::Fragmentation)),
        ("§5.5 fragmented ping", b"\x09\x01a", broken(WsError::Control)),
        ("§5.5 ping of 126 bytes", b"\x89\x7e\x00\x7e", broken(WsError::Control)),
        ("§5.5.1 close of one byte", b"\x88\x01\x03", broken(WsError::Close)),
        ("§7.4.1 close 1005", b"\x88\x02\x03\xed", broken(WsError::Close)),
        ("§7.4.1 close 1006", b"\x88\x02\x03\xee", broken(WsError::Close)),
        ("§7.4.1 close 1015", b"\x88\x02\x03\xf7", broken(WsError::Close)),
        ("§7.4.2 close 999", b"\x88\x02\x03\xe7", broken(WsError::Close)),
        ("§7.4.2 close 5000", b"\x88\x02\x13\x88", broken(WsError::Close)),
        ("§5.5.1 reason that is not UTF-8", b"\x88\x03\x03\xe8\xff", broken(WsError::NotUtf8)),
        ("§8.1 text that is not UTF-8", b"\x81\x02\xc0\x80", broken(WsError::NotUtf8)),
        (
            "§8.1 text that ends inside a character",
            b"\x81\x02\xce\xba\x81\x01\xce",
            vec![text("κ"), Said::Broken(WsError::NotUtf8)],
        ),
        ("§8.1 fragments that end inside a character", b"\x01\x01\xce\x80\x00", broken(WsError::NotUtf8)),
        (
            "a length above the limit",
            b"\x82\x7f\x00\x00\x00\x00\x00\x02\x00\x01",
            broken(WsError::TooLarge { len: 131_073, max: 131_072 }),
        ),
    ] {
        assert_eq!(decode(Side::Client, MAX, [bytes]), want, "{name}");
        assert_eq!(decode(Side::Client, MAX, bytes.chunks(1)), want, "{name}, byte by byte");
    }
    assert_eq!(decode(Side::Server, MAX, [&b"\x81\x05"[..]]), broken(WsError::Masking), "§5.1 an unmasked client");
}

#[test]
fn allows_what_rfc6455_allows() {
    for (name, bytes, want) in [
        (
            "§5.4 a ping between fragments",
            &b"\x01\x02He\x89\x01!\x00\x00\x80\x03llo"[..],
            vec![Said::Ping(b"!".to_vec()), text("Hello")],
        ),
        ("§5.6 an empty message", b"\x81\x00\x82\x00", vec![text(""), Said::Binary(vec![])]),
        ("§5.4 a message of empty fragments", b"\x01\x00\x00\x00\x80\x00", vec![text("")]),
        ("§8.1 a character cut by fragments", b"\x01\x01\xce\x80\x01\xba", vec![text("κ")]),
        ("§5.5.1 an empty close", b"\x88\x00", vec![Said::Close(None)]),
        ("§5.5.1 close and reason", b"\x88\x04\x0f\xa0ok", vec![Said::Close(Some((4000, "ok".into())))]),
        (
            "§5.5.1 nothing counts after a close",
            b"\x88\x02\x03\xe8\xff\xff",
            vec![Said::Close(Some((1000, String::new())))],
        ),
        ("§5.5.3 an unasked pong", b"\x8a\x00\x81\x01a", vec![Said::Pong(vec![]), text("a")]),
    ] {
        assert_eq!(decode(Side::Client, MAX, [bytes]), want, "{name}");
        assert_eq!(decode(Side::Client, MAX, bytes.chunks(1)), want, "{name}, byte by byte");
    }
}

/// Autobahn 6.4: the third part is invalid; nothing of what makes the message whole is needed to know.
#[test]
fn bad_utf8_is_an_error_before_its_frame_ends() {
    let begin = "κόσμε".as_bytes();
    for (name, bad) in [
        ("above U+10FFFF", &b"\xf4\x90"[..]),
        ("overlong", b"\xe0\x80"),
        ("surrogate", b"\xed\xa0"),
        ("no first byte", b"\x80"),
        ("no such byte", b"\xff"),
    ] {
        // One frame of 200 bytes, of which the first bytes come in; then the same as fragments.
        let cut = [&[0x81, 0x7e, 0, 200][..], begin, bad].concat();
        assert_eq!(decode(Side::Client, MAX, [&cut[..]]), [Said::Broken(WsError::NotUtf8)], "{name}");
        let (first, second) = bad.split_at(bad.len() - 1);
        let fragments = [
            &frame(false, OpCode::Text, begin, None)[..],
            &frame(false, OpCode::Continuation, first, None),
            &[0x00, 100, second[0]],
        ]
        .concat();
        assert_eq!(decode(Side::Client, MAX, [&fragments[..]]), [Said::Broken(WsError::NotUtf8)], "{name}");
    }
}

#[test]
fn the_size_limit_is_exact_and_counts_all_fragments() {
    let too_large = [Said::Broken(WsError::TooLarge { len: 11, max: 10 })];
    assert_eq!(decode(Side::Client, 10, [&b"\x82\x0a0123456789"[..]]), [Said::Binary(b"0123456789".to_vec())]);
    assert_eq!(decode(Side::Client, 10, [&b"\x82\x0b"[..]]), too_large, "known from the header alone");
    assert_eq!(decode(Side::Client, 10, [&b"\x02\x0601234\x35\x80\x05"[..]]), too_large);
    let huge = [0x82, 0x7f, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(
        decode(Side::Client, 10, [&[0x02, 1, 0][..], &[0x80, 0x7f], &huge[2..]]),
        [Said::Broken(WsError::TooLarge { len: (1 << 63), max: 10 })]
    );
    assert_eq!(decode(Side::Client, 1, [&b"\x89\x02hi"[..]]), [Said::Ping(b"hi".to_vec())], "control frames are small");
}

#[test]
fn the_number_of_fragments_is_limited() {
    // Where messages may be large, so may their number of fragments.
    for (bytes_max, fragments_max) in [(10, MESSAGE_FRAGMENTS_MAX), (1 << 16, MESSAGE_FRAGMENTS_MAX), (1 << 17, 2048)] {
        let mut stream = frame(false, OpCode::Text, b"", None);
        for _ in 2..fragments_max {
            stream.extend(frame(false, OpCode::Continuation, b"", None));
            stream.extend(frame(true, OpCode::Pong, b"", None));
        }
        let last = frame(true, OpCode::Continuation, b"x", None);
        let said = decode(Side::Client, bytes_max, [&stream[..], &last]);
        assert_eq!(said.last(), Some(&text("x")), "exactly the limit");
        let one_more = frame(false, OpCode::Continuation, b"", None);
        let said = decode(Side::Client, bytes_max, [&stream[..], &one_more, &last]);
        assert_eq!(said.last(), Some(&Said::Broken(WsError::TooManyFragments)), "{bytes_max}");
    }
}

#[test]
fn a_whole_message_is_lent_from_the_input_itself() {
    let mut input = frame(true, OpCode::Text, b"Hello", Some(KEY));
    let there = input.as_ptr_range();
    let mut decoder = Decoder::new(Side::Server, MAX);
    let mut at = 0;
    let Ok(Some(Event::Message { payload, .. })) = decoder.next(&mut input, &mut at) else { panic!("a message") };
    assert_eq!(payload, b"Hello");
    assert!(there.contains(&payload.as_ptr()));
    assert!(decoder.is_idle());

    // Also when a part of its header came before.
    let mut input = frame(true, OpCode::Binary, b"Hello", Some(KEY));
    let (header, payload) = input.split_at_mut(5);
    assert_eq!(decoder.next(header, &mut 0), Ok(None));
    assert!(!decoder.is_idle());
    let there = payload.as_ptr_range();
    let Ok(Some(Event::Message { payload, .. })) = decoder.next(payload, &mut 0) else { panic!("a message") };
    assert!(there.contains(&payload.as_ptr()));
    assert!(decoder.is_idle());
}

#[test]
fn a_decoder_is_idle_again_after_whatever_was_cut() {
    let mut decoder = Decoder::new(Side::Client, MAX);
    for bytes in [&b"\x81\x05Hello"[..], b"\x01\x01a\x89\x01!\x80\x01b", b"\x89\x05Hello", b"\x82\x7e\x00\x80"] {
        let mut bytes = bytes.to_vec();
        if bytes.ends_with(b"\x80") {
            bytes.extend([3; 128]);
        }
        for byte in bytes.chunks_mut(1) {
            let mut at = 0;
            while decoder.next(byte, &mut at).expect("well-formed").is_some() {}
        }
        assert!(decoder.is_idle(), "{bytes:02x?}");
    }
}

/// A conversation of one side: messages in fragments, control frames between them.
fn stream() -> impl Strategy<Value = (Vec<u8>, Vec<Said>)> {
    let mask = any::<[u8; 4]>();
    let cuts = prop::collection::vec(0usize..300, 0..4);
    let message = prop_oneof![
        "\\PC{0,80}".prop_map(Said::Text),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Said::Binary),
        Just(Said::Binary(vec![5; 66_000])),
    ];
    let control = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..=125).prop_map(Said::Ping),
        prop::collection::vec(any::<u8>(), 0..=125).prop_map(Said::Pong),
    ];
    prop::collection::vec((message, cuts, mask, prop::option::of(control)), 0..6).prop_map(|parts| {
        let mut bytes = Vec::new();
        let mut said = Vec::new();
        for (message, mut cuts, key, control) in parts {
            let (kind, payload) = match &message {
                Said::Text(text) => (OpCode::Text, text.as_bytes()),
                Said::Binary(data) => (OpCode::Binary, &data[..]),
                other => panic!("{other:?}"),
            };
            cuts.retain(|cut| *cut <= payload.len());
            cuts.extend([0, payload.len()]);
            cuts.sort_unstable();
            let last = cuts.len() - 2;
            for (place, cut) in cuts.windows(2).enumerate() {
                let opcode = if place == 0 { kind } else { OpCode::Continuation };
                bytes.extend(frame(place == last, opcode, &payload[cut[0]..cut[1]], Some(key)));
                if place == 0
                    && let Some(control) = &control
                {
                    let (opcode, payload) = match control {
                        Said::Ping(payload) => (OpCode::Ping, payload),
                        Said::Pong(payload) => (OpCode::Pong, payload),
                        other => panic!("{other:?}"),
                    };
                    bytes.extend(frame(true, opcode, payload, Some(key)));
                }
            }
            // A control frame after the only fragment comes after the message, one after the first before it.
            if last == 0 {
                said.push(message);
                said.extend(control);
            } else {
                said.extend(control);
                said.push(message);
            }
        }
        (bytes, said)
    })
}

fn pieces<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
    cuts.sort_unstable();
    cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect()
}

proptest! {
    #[test]
    fn any_split_of_a_stream_says_the_same(
        (bytes, said) in stream(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        prop_assert_eq!(&decode(Side::Server, MAX, [&bytes[..]]), &said);
        prop_assert_eq!(&decode(Side::Server, MAX, pieces(&bytes, &cuts)), &said);
    }

    /// Errors too: where the bytes are cut decides nothing but how early an error is seen.
    #[test]
    fn any_bytes_say_the_same_however_they_are_cut_and_never_panic(
        bytes in prop::collection::vec(prop_oneof![
            any::<u8>(),
            prop::sample::select(vec![0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x05, 0x85, 0x7e, 0xfe]),
        ], 0..200),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        server: bool,
    ) {
        let side = if server { Side::Server } else { Side::Client };
        let whole = decode(side, 100, [&bytes[..]]);
        prop_assert_eq!(&decode(side, 100, bytes.chunks(1)), &whole);
        prop_assert_eq!(&decode(side, 100, pieces(&bytes, &cuts)), &whole);
    }

    #[test]
    fn what_one_side_writes_the_other_reads(
        text in "\\PC{0,200}", data in prop::collection::vec(any::<u8>(), 0..70_000),
        small in prop::collection::vec(any::<u8>(), 0..=125), key: [u8; 4], code in 3000u16..5000, reason in "[a-z ]{0,123}",
    ) {
        let want = [
            Said::Text(text.clone()), Said::Binary(data.clone()), Said::Ping(small.clone()), Said::Pong(small.clone()),
            Said::Close(Some((code, reason.clone()))),
        ];
        for (reader, mask) in [(Side::Server, Some(key)), (Side::Client, None)] {
            let mut out = BytesMut::new();
            for (kind, payload) in [(MessageKind::Text, text.as_bytes()), (MessageKind::Binary, &data)] {
                if let Some(key) = mask {
                    write_client_message(kind, payload, key, &mut out);
                } else {
                    write_message_header(kind, payload.len(), None, &mut out);
                    out.extend_from_slice(payload);
                }
            }
            write_ping(&small, mask, &mut out);
            write_pong(&small, mask, &mut out);
            write_close(code, &reason, mask, &mut out);
            prop_assert_eq!(decode(reader, MAX, [&out[..]]), want.clone());
        }
    }
}
