//! First inputs of each corpus: what a target needs to get anywhere, taken from PROTOCOL.md where it says it.

use std::fmt::Write as _;

use bytes::BytesMut;
use roost_wire::limits::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX, MESSAGE_FRAGMENTS_MAX};
use roost_wire::ws::{Deflater, MessageKind, write_client_message, write_close, write_message_header, write_ping};
use roost_wire::{Encoding, FrameBody, limits::USERS_PER_COMMAND_MAX, pb};

use crate::handshake_head::KEY;

const PAGE: &str = include_str!("../../wire/PROTOCOL.md");

/// The first inputs of a target, with a name each.
///
/// # Panics
/// If PROTOCOL.md has no examples any more.
#[must_use]
pub fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let named = |inputs: Vec<Vec<u8>>| {
        inputs.into_iter().enumerate().map(|(at, input)| (format!("seed-{at:02}"), input)).collect()
    };
    match target {
        "ws_stream" => {
            let plain = streams().into_iter().map(|(client, stream)| ws_stream(client, &stream));
            named(plain.chain(compressed_streams()).collect())
        }
        "tungstenite_differential" => {
            let raw =
                streams().into_iter().map(|(client, stream)| [&[u8::from(client) | 3 << 3][..], &stream].concat());
            named(raw.chain(scripts()).collect())
        }
        "deflate" => named(compressed()),
        "handshake_head" => named(heads()),
        "frames_json" => named(jsons()),
        "frames_protobuf" => named(protobufs()),
        "session_commands" => named(sessions()),
        "tls_session" => named(secrets()),
        "quic" => named(crate::quic::seeds()),
        _ => Vec::new(),
    }
}

/// The lines of the page's vectors and examples that begin so.
fn vectors(name: &str) -> Vec<&'static str> {
    let found: Vec<&str> = PAGE.lines().filter_map(|line| line.strip_prefix(name)).map(str::trim).collect();
    assert!(!found.is_empty(), "PROTOCOL.md has no {name:?}");
    found
}

/// Acts of TLS clients: how the stream is cut, then the acts.
fn secrets() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for cut in [0, 1, 2, 40] {
        // Data with padding and without, new keys both ways, an answer; the end, and what comes behind it.
        let talk = b"\x00\x05hello\x09\x01!\x02\x00\x02ab\x0a\x07\x00\x01c\x04\x03\x01\x00\x15\x00\x01x";
        all.push([&[cut][..], talk].concat());
        all.push([&[cut][..], &b"\x0a".repeat(33)].concat());
        all.push([&[cut][..], &b"\x03\x03\x01\x5a\x15".repeat(5)].concat());
        all.push([cut, 0, 1, b'a', 6, 2, b'b', b'c', 7, 0, 1, b'd'].to_vec());
        all.push([cut, 0, 1, b'a', 6, 1, b'b', 3, 0, 1, b'd'].to_vec());
        all.push([cut, 0, 1, b'a', 5, 6, 21, 3, 3, 0, 1, 0].to_vec());
        all.push([cut, 0xc0, 0, 0xe0, 0, 0, 1, b'z'].to_vec());
        all.push([cut, 3, 2, 0, 0].to_vec());
    }
    all
}

fn hexadecimal(text: &str) -> Vec<u8> {
    text.split(' ').map(|byte| u8::from_str_radix(byte, 16).expect("a byte of a vector")).collect()
}

fn ws_stream(client: bool, stream: &[u8]) -> Vec<u8> {
    // The largest limit, and two cuts.
    let limit = if stream.len() > 2000 { 7 } else { 4 };
    [&[u8::from(client) | limit << 1, 2, 1, 3][..], stream].concat()
}

/// Streams; true if a client reads them.
fn streams() -> Vec<(bool, Vec<u8>)> {
    let mut streams = Vec::new();
    for (name, client) in [("server json ", true), ("client json ", false), ("client protobuf ", false)] {
        streams.push((client, vectors(name).into_iter().take(3).flat_map(hexadecimal).collect()));
    }
    for client in [false, true] {
        let key = (!client).then_some([0x37, 0xfa, 0x21, 0x3d]);
        let mut all = BytesMut::new();
        write_ping(b"here?", key, &mut all);
        write_close(1000, "bye", key, &mut all);
        streams.push((client, all.to_vec()));
        for len in [126, 65_535, 65_536] {
            let mut long = BytesMut::new();
            write_message_header(MessageKind::Binary, len, key.map(|_| [0; 4]), &mut long);
            long.resize(long.len() + len, 7);
            streams.push((client, long.to_vec()));
        }
    }
    // Fragments of a character, with a ping in between; then more fragments than there may be.
    streams.push((true, b"\x01\x01\xe2\x89\x02hi\x00\x01\x82\x80\x01\xac".to_vec()));
    streams.push((true, [&b"\x02\x00"[..], &b"\x00\x00".repeat(MESSAGE_FRAGMENTS_MAX as usize)].concat()));
    streams.push((true, b"\x81\x02\xed\xa0".to_vec()));
    // Lengths that are not in their shortest form.
    streams.push((true, b"\x82\x7e\x00\x02hi".to_vec()));
    streams.push((true, b"\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x02hi".to_vec()));
    streams
}

/// Compressed messages for a client, of RFC 7692 §7.2.3: whole, in fragments, with a block marked as the last.
fn compressed_streams() -> Vec<Vec<u8>> {
    let streams: [&[u8]; 4] = [
        b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00",
        b"\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00",
        b"\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
        b"\xc1\x0b\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
    ];
    streams.into_iter().map(|stream| [&[1 | 4 << 1 | 16, 1, 2][..], stream].concat()).collect()
}

/// What is compressed, and what is to be compressed.
fn compressed() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = compressed_streams()
        .iter()
        .filter(|stream| stream[3] & 0x80 != 0)
        .map(|stream| [&[1][..], &stream[5..]].concat())
        .collect();
    // Of Deflater's own making, long enough for dynamic codes; and as input of it.
    let text = PAGE.as_bytes();
    for len in [200, 3000, 9000] {
        let compressed = Deflater::new().compress(&text[..len]).expect("English gets smaller").to_vec();
        all.push([&[4][..], &compressed].concat());
        all.push([&[8 | 4][..], &text[..len]].concat());
    }
    // As long as a limit, and a byte longer.
    for len in [100, 101] {
        all.push([&[2][..], Deflater::new().compress(&vec![7; len]).expect("it repeats itself")].concat());
    }
    all.push([&[4][..], Deflater::new().compress(&[0; 60_000]).expect("it repeats itself")].concat());
    all
}

/// Scripts of messages, to be written by us and by tungstenite, for both sides.
fn scripts() -> Vec<Vec<u8>> {
    let script: Vec<u8> = (0..8u8).flat_map(|what| [what | what << 3, what, b'a', 2, 0]).collect();
    (4..8).map(|choice| [&[choice][..], &script].concat()).collect()
}

fn heads() -> Vec<Vec<u8>> {
    let upgrade = |more: &str| {
        format!(
            "GET /ws?a=b HTTP/1.1\r\nHost: chat.example\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{more}\r\n"
        )
    };
    let mut requests = vec![
        upgrade(""),
        upgrade("Origin: https://chat.example\r\nSec-WebSocket-Protocol: roost.v1.pb, roost.v1.json\r\n"),
        upgrade("Authorization: Bearer abc.def.ghi\r\nContent-Length: 0\r\n"),
        upgrade("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits; server_no_context_takeover\r\n"),
        upgrade("Host: chat.example\r\n"),
        upgrade("").replace("/ws?a=b", "http://chat.example/ws"),
        upgrade("").replace("\r\nHost", "\nHost"),
        "\r\nGET / HTTP/1.0\r\n\r\n".to_owned(),
        "POST /v1/guest HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
            .to_owned(),
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n".to_owned(),
    ];
    let mut many = "GET / HTTP/1.1\r\nHost: x\r\n".to_owned();
    for at in 0..HEAD_FIELDS_MAX {
        let _ = write!(many, "A{at}: b\r\n");
    }
    requests.push(many + "\r\n");
    requests.push(upgrade(&format!("Cookie: {}\r\n", "a".repeat(HEAD_BYTES_MAX))));
    // Something wrong behind the longest head there may be.
    requests.push(format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {}\0\r\n\r\n", "a".repeat(HEAD_BYTES_MAX)));
    let accept = |more: &str| {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n{more}\r\n"
        )
    };
    let responses = vec![
        accept(""),
        accept("Sec-WebSocket-Protocol: roost.v1.pb\r\n"),
        accept("Sec-WebSocket-Extensions: permessage-deflate\r\n"),
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\n\r\n".to_owned(),
        "HTTP/1.0 101 X\r\n\r\n".to_owned(),
    ];
    let with = |choice: u8| move |head: String| [&[choice][..], head.as_bytes()].concat();
    requests.into_iter().map(with(3 << 1)).chain(responses.into_iter().map(with(1))).collect()
}

fn jsons() -> Vec<Vec<u8>> {
    let examples = vectors("{\"").into_iter().map(|rest| format!("{{\"{rest}"));
    let mut all: Vec<Vec<u8>> = examples.map(String::into_bytes).collect();
    all.extend(vectors("json ").into_iter().map(|text| text.as_bytes().to_vec()));
    all.push(br#"{"later":[1e99,"\ud800"],"rid":9,"ping":{}}"#.to_vec());
    all.push(format!(r#"{{"rid":4,"watch":{{"users":[{}""]}}}}"#, r#""","#.repeat(USERS_PER_COMMAND_MAX)).into_bytes());
    all
}

fn protobufs() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = jsons()
        .iter()
        .filter_map(|text| Encoding::Json.decode(&mut &text[..]).ok().flatten())
        .map(|frame| {
            let mut out = BytesMut::new();
            Encoding::Protobuf.encode(&frame, &mut out);
            out.to_vec()
        })
        .collect();
    // An enum's number without a name; a frame without a body and one behind it; too many users.
    let mut out = BytesMut::new();
    let body = FrameBody::Create(pb::Create { kind: 77, ..pb::Create::default() });
    Encoding::Protobuf.encode(&pb::Frame { rid: 1, body: Some(body) }, &mut out);
    all.push(out.to_vec());
    all.push(b"\x02\x08\x05\x02\x72\x00".to_vec());
    let mut out = BytesMut::new();
    let body = FrameBody::Watch(pb::Watch { users: vec![String::new(); USERS_PER_COMMAND_MAX + 1] });
    Encoding::Protobuf.encode(&pb::Frame { rid: 1, body: Some(body) }, &mut out);
    all.push(out.to_vec());
    all
}

/// Sessions that do a little of everything; the tags are those of `session_commands::step`.
fn sessions() -> Vec<Vec<u8>> {
    let mut hello = BytesMut::new();
    write_client_message(MessageKind::Text, br#"{"rid":1,"ping":{}}"#, [9, 8, 7, 6], &mut hello);
    let raw = [&[5, 0, hello.len() as u8][..], &hello].concat();
    vec![
        // Two sessions, one of each encoding; commands, replies, writes.
        vec![1, 1, 0, 1, 5, 7, 0, 1, 2, 7, 1, 3, 3, 17, 0, 1, 17, 1, 200, 13, 0, 255, 255, 13, 1, 40, 0, 25, 0, 9],
        // A push to both, one to a topic, and a slow reader.
        [
            &[1, 1, 5, 1, 0, 13, 0, 255, 255, 13, 1, 255, 255, 21, 0, 0, 21, 1, 0][..],
            &[19, 3, 1, 100].repeat(12),
            &[20, 0, 9, 10, 26, 9, 13, 0, 9, 0],
        ]
        .concat(),
        // A request for the HTTP service, answered.
        vec![0, 0, 4, 0, 3, 24, 0, 0, 30, 24, 0, 1, 9, 13, 0, 9, 0, 11, 0, 24, 0, 2, 0],
        // Raw bytes, a stale key, a slot used again.
        [&[1, 1, 5][..], &raw, &[12, 0, 1, 5, 19, 3, 1, 5, 26, 9, 23, 1, 18, 0, 0, 1, 25, 255, 255]].concat(),
        // Drain, doubt, clocks; commands without replies until they are refused.
        [&[0, 1, 5][..], &[7, 0, 2, 5].repeat(7), &[26, 1, 0, 2, 26, 0, 0, 0, 26, 2, 9, 9, 25, 1, 9, 15, 0, 16, 0]]
            .concat(),
        // Sessions by QUIC: commands whole and cut, on the stream and beside it, pushes as datagrams and given back, an end.
        vec![
            0, 113, 1, 114, 0, 1, 5, 7, 0, 1, 2, 118, 0, 1, 3, 118, 1, 7, 9, 115, 0, 2, 1, 0, 117, 1, 1, 2, 117, 0, 8,
            0, 117, 1, 8, 0, 117, 0, 1, 2, 19, 7, 0, 5, 13, 0, 255, 255, 119, 1, 19, 7, 0, 5, 19, 7, 1, 9, 23, 1, 13,
            1, 255, 255, 11, 0,
        ],
        // A length that is none, one that is too large, a frame that never ends, garbage beside the stream.
        [
            &[1, 113, 1, 5, 0, 10][..],
            &[0x80; 10],
            &[113, 0, 5, 0, 3, 0x81, 0x80, 0x40, 112, 1, 5, 0, 2, 9, 1, 115, 0, 4, 1, 255, 0, 0, 25, 255, 255],
        ]
        .concat(),
        // Pings and control frames until nobody reads them.
        [&[0, 1, 5][..], &[10, 0, 1, 120].repeat(9), &[10, 0, 0, 0, 11, 0]].concat(),
    ]
}
