//! Sessions by WebTransport.

use bytes::Buf;
use web_transport_proto::{Capsule, ConnectRequest, Frame, Settings};

use super::*;

const BOTH: &[&[u8]] = &[b"roost/1", b"h3"];

/// A hub that takes both, and a client that speaks HTTP/3.
fn world() -> (World, Client) {
    let (tls, cert) = tls(BOTH);
    let mut world = World::with((tls, cert.clone()), |_| {});
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    world.config = client_speaking(&cert, provider, b"h3");
    let client = world.client(1);
    (world, client)
}

fn shake(world: &mut World, client: &mut Client) {
    world.until(client, "the handshake", |_, client| !client.quic.is_handshaking());
}

fn say(client: &mut Client, dir: Dir, bytes: &[u8]) -> StreamId {
    let id = client.quic.streams().open(dir).expect("a stream");
    assert_eq!(client.quic.send_stream(id).write(bytes).unwrap(), bytes.len());
    id
}

/// SETTINGS, a request for a session, and its lane.
fn begin(client: &mut Client) -> (StreamId, StreamId) {
    let mut settings = Settings::default();
    settings.enable_webtransport(1);
    let mut bytes = Vec::new();
    settings.encode(&mut bytes);
    say(client, Dir::Uni, &bytes);
    let mut bytes = Vec::new();
    ConnectRequest::new("https://localhost/wt".parse::<url::Url>().unwrap()).encode(&mut bytes).unwrap();
    let session = say(client, Dir::Bi, &bytes);
    let lane = say(client, Dir::Bi, b"\x40\x41\x00hello");
    (session, lane)
}

fn read(client: &mut Client, id: StreamId) -> Vec<u8> {
    let (mut got, mut stream) = (Vec::new(), client.quic.recv_stream(id));
    let Ok(mut chunks) = stream.read(true) else { return got };
    while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
        got.extend_from_slice(&chunk.bytes);
    }
    let _ = chunks.finalize();
    got
}

fn session(world: &mut World, client: &mut Client) -> (StreamId, StreamId, SessionKey) {
    shake(world, client);
    let (session, lane) = begin(client);
    world.until(client, "the lane", |world, _| !world.told.arrivals.is_empty());
    let key = SessionKey::new(0, 1, 0);
    let carrier = world.told.arrivals.pop().unwrap();
    assert!(carrier.datagrams);
    world.hub.attach(key, &carrier).unwrap();
    world.until(client, "its beginning", |world, _| world.told.received == b"hello");
    (session, lane, key)
}

#[test]
fn a_session_has_its_lane_its_datagrams_and_its_close() {
    let (mut world, mut client) = world();
    let (session, lane, key) = session(&mut world, &mut client);
    world.hub.write(key, &queue(&[b"to the page"]), world.now).unwrap();
    assert!(world.hub.send_datagram(key, &Bytes::from_static(b"loose")));
    client.quic.datagrams().send(Bytes::from_static(b"\x00to us"), true).unwrap();
    client.quic.datagrams().send(Bytes::from_static(b"\x01to another"), true).unwrap();
    let mut got = Vec::new();
    world.until(&mut client, "all of it", |world, client| {
        got.extend(read(client, lane));
        got == b"to the page" && !world.told.datagrams.is_empty()
    });
    assert_eq!(client.quic.datagrams().recv().unwrap(), b"\x00loose"[..]);
    world.settle(&mut client);
    assert_eq!(world.told.datagrams, [b"to us"]);
    assert_eq!(world.counted().h3_refused_datagram, 1);
    // All of the lane arrives, then the code, where a page can read it, then the end of the connection, which is no fault.
    let much = vec![7; 40_000];
    assert_eq!(world.hub.write(key, &queue(&[&much]), world.now).unwrap(), much.len());
    world.hub.close(key, CloseCode::Replaced, world.now);
    let (mut got, mut told) = (Vec::new(), Vec::new());
    world.until(&mut client, "the end", |_, client| {
        got.extend(read(client, lane));
        told.extend(read(client, session));
        assert!(frames(&told).len() < 2 || got.len() == much.len(), "the code overtook the lane");
        client.lost.is_some()
    });
    let told = frames(&told);
    assert_eq!(told.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [Frame::HEADERS, Frame::DATA]);
    let Ok(Capsule::CloseWebTransportSession { code, .. }) = Capsule::decode(&mut told[1].1.as_slice()) else {
        panic!()
    };
    assert_eq!((code, client.code()), (4503, Some(0x100)));
    assert!(world.told.ended.is_empty(), "who was let go has no end to tell");
    nothing_is_left(&mut world);
}

/// The whole frames in `bytes`.
fn frames(mut bytes: &[u8]) -> Vec<(Frame, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Ok((kind, payload)) = Frame::read(&mut bytes) {
        let bytes = payload.limit();
        let mut rest = payload;
        frames.push((kind, rest.copy_to_bytes(bytes).to_vec()));
    }
    frames
}

fn nothing_is_left(world: &mut World) {
    world.now += Duration::from_secs(3600);
    world.serve();
    assert_eq!((world.hub.held(), world.hub.webs.len(), world.hub.closing(), world.hub.attached()), (0, 0, 0, 0));
}

/// Before anything of the server's but the handshake has come: in its transport parameters (RFC 9114 §6.2).
#[test]
fn clients_are_told_at_once_of_the_streams_they_may_open() {
    let (mut world, mut client) = world();
    shake(&mut world, &mut client);
    let mut count = |dir| std::iter::from_fn(|| client.quic.streams().open(dir)).count();
    assert_eq!((count(Dir::Bi), count(Dir::Uni)), (3, 4));
    // The same server to who offers roost/1.
    let mut world = World::with(tls(BOTH), |_| {});
    let mut client = world.client(2);
    shake(&mut world, &mut client);
    let mut count = |dir| std::iter::from_fn(|| client.quic.streams().open(dir)).count();
    assert_eq!((count(Dir::Bi), count(Dir::Uni)), (1, 0));
}

#[test]
fn the_clients_end_is_the_sessions_however_it_is_said() {
    for (name, want) in
        [("a close", End::Eof), ("the end of the request", End::Eof), ("a reset", End::Eof), ("a breach", End::Error)]
    {
        let (mut world, mut client) = world();
        let (session, ..) = session(&mut world, &mut client);
        let mut stream = client.quic.send_stream(session);
        match name {
            "a close" => drop(stream.write(b"\x00\x07\x68\x43\x04\x00\x00\x03\xe8").unwrap()),
            "the end of the request" => stream.finish().unwrap(),
            "a reset" => stream.reset(VarInt::from_u32(0x10c)).unwrap(),
            _ => drop(stream.write(b"\x04\x00").unwrap()),
        }
        world.until(&mut client, name, |_, client| client.lost.is_some());
        assert_eq!((world.told.ended.as_slice(), world.hub.attached()), (&[want][..], 0), "{name}");
        assert_eq!(client.code(), Some(if want == End::Eof { 0x100 } else { 0x105 }), "{name}");
        assert_eq!(world.counted().h3_broken, u64::from(want == End::Error), "{name}");
        nothing_is_left(&mut world);
    }
}

#[test]
fn who_asks_for_no_session_has_as_long_as_others() {
    let (mut world, mut client) = world();
    shake(&mut world, &mut client);
    let began = world.now;
    world.until(&mut client, "the end", |_, client| client.lost.is_some());
    assert_eq!((client.code(), world.counted().failed_late), (Some(0x100), 1));
    assert!(world.now - began > Duration::from_secs(9));
    nothing_is_left(&mut world);
}

#[test]
fn a_client_with_no_room_for_settings_is_let_go() {
    let (mut world, _) = world();
    let mut transport = quinn_proto::TransportConfig::default();
    transport.max_concurrent_uni_streams(VarInt::from_u32(0));
    world.config.transport_config(Arc::new(transport));
    let mut client = world.client(1);
    world.until(&mut client, "the end", |_, client| client.lost.is_some());
    assert_eq!(world.counted().h3_broken, 1);
    nothing_is_left(&mut world);
}

#[test]
fn a_client_that_never_takes_the_code_is_let_go_all_the_same() {
    let (mut world, mut client) = world();
    let (.., key) = session(&mut world, &mut client);
    client.deaf = true;
    world.hub.close(key, CloseCode::Drain, world.now);
    for _ in 0..500 {
        world.step(&mut client);
    }
    assert_eq!(world.hub.closing(), 0);
    nothing_is_left(&mut world);
}
