//! A hub and a client of quinn-proto, joined by a network of a few lines and a clock of the test's.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig, Event, StreamId,
    Transmit, VarInt,
};
use roost_edge_core::driver::Sink;
use roost_edge_core::{End, Outbound, ShardConfig};
use roost_wire::CloseCode;
use roost_wire::link::SessionKey;
use rustls::pki_types::CertificateDer;

use super::super::metrics::{QuicMetrics, QuicSnapshot};
use super::super::settings::tests::{chain_of, tls};
use super::super::settings::{Parts, QuicConfig};
use super::super::steer::Steer;
use super::super::{QuicConn, conns};
use super::{Hub, Origin, Port, Setup};

const ALPN: &[&[u8]] = &[b"roost/1"];
const TICK: Duration = Duration::from_millis(5);

/// What the hub sends, until somebody takes it.
#[derive(Default)]
struct Wire {
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    /// No more than so many: then it is full.
    room: Option<usize>,
}

impl Port for Wire {
    fn send(&mut self, transmit: &Transmit, bytes: &[u8]) -> bool {
        if self.room.is_some_and(|room| self.datagrams.len() >= room) {
            return false;
        }
        for datagram in bytes.chunks(transmit.segment_size.unwrap_or(bytes.len())) {
            self.datagrams.push_back((transmit.destination, datagram.to_vec()));
        }
        true
    }

    fn segments_max(&self) -> usize {
        4
    }
}

/// What the hub told.
#[derive(Default)]
struct Told {
    arrivals: Vec<QuicConn>,
    received: Vec<u8>,
    datagrams: Vec<Vec<u8>>,
    ended: Vec<End>,
    writable: usize,
}

impl Sink for Told {
    type Conn = QuicConn;

    fn accepted(&mut self, conn: QuicConn, _: SocketAddr) {
        self.arrivals.push(conn);
    }

    fn received(&mut self, _: SessionKey, bytes: &mut [u8]) {
        self.received.extend_from_slice(bytes);
        bytes.fill(0xee);
    }

    fn datagram(&mut self, _: SessionKey, bytes: &mut [u8]) {
        self.datagrams.push(bytes.to_vec());
    }

    fn sent(&mut self, _: SessionKey, _: usize) {}

    fn writable(&mut self, _: SessionKey) {
        self.writable += 1;
    }

    fn half_closed(&mut self, _: SessionKey) -> bool {
        false
    }

    fn ended(&mut self, _: SessionKey, end: End) {
        self.ended.push(end);
    }
}

/// One client at one address.
struct Client {
    endpoint: Endpoint,
    quic: Connection,
    handle: ConnectionHandle,
    addr: SocketAddr,
    /// Why it ended.
    lost: Option<quinn_proto::ConnectionError>,
    /// It answers nothing: what comes to it is lost.
    deaf: bool,
}

struct World {
    hub: Hub,
    wire: Wire,
    told: Told,
    metrics: Arc<QuicMetrics>,
    now: Instant,
    config: ClientConfig,
}

fn client_config(cert: &CertificateDer<'static>) -> ClientConfig {
    client_of(cert, rustls::crypto::aws_lc_rs::default_provider().cipher_suites)
}

fn client_of(cert: &CertificateDer<'static>, suites: Vec<rustls::SupportedCipherSuite>) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert.clone()).unwrap();
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    provider.cipher_suites = suites;
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN[0].to_vec()];
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

impl World {
    fn new() -> Self {
        Self::with(tls(ALPN), |_| {})
    }

    fn with(
        (tls, cert): (Arc<rustls::ServerConfig>, CertificateDer<'static>),
        set: impl FnOnce(&mut QuicConfig),
    ) -> Self {
        let mut config = QuicConfig::new((Ipv4Addr::LOCALHOST, 1).into(), tls, [9; 32]);
        set(&mut config);
        let parts = Parts::new(&config, &ShardConfig::default()).unwrap();
        let (metrics, now) = (Arc::new(QuicMetrics::default()), Instant::now());
        let hub = Hub::new(Setup {
            endpoint: parts.endpoint(Steer::new(1, [1; 8]), 0, [2; 32]),
            shard: 0,
            metrics: metrics.clone(),
            now,
            unproven_max: config.unproven_max,
            open_within: config.open_within,
            young_max: 8,
        });
        let config = client_config(&cert);
        Self { hub, wire: Wire::default(), told: Told::default(), metrics, now, config }
    }

    fn client(&self, number: u16) -> Client {
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, false, Some([number as u8; 32]));
        let server = (Ipv4Addr::LOCALHOST, 4433).into();
        let (handle, quic) = endpoint.connect(self.now, self.config.clone(), server, "localhost").unwrap();
        let addr = (Ipv4Addr::LOCALHOST, 10_000 + number).into();
        Client { endpoint, quic, handle, addr, lost: None, deaf: false }
    }

    fn counted(&self) -> QuicSnapshot {
        self.metrics.snapshot()
    }

    fn give(&mut self, from: SocketAddr, bytes: &[u8]) {
        let origin = Origin { remote: from, local_ip: None, ecn: None };
        self.hub.datagram(origin, BytesMut::from(bytes), self.now, &mut self.wire);
    }

    /// What the hub does in a turn.
    fn serve(&mut self) {
        self.hub.run_timers(self.now);
        self.hub.deliver(self.now, &mut self.told);
        self.hub.flush(self.now, &mut self.wire);
    }

    /// One step of the clock, in which all datagrams arrive.
    fn step(&mut self, client: &mut Client) {
        self.now += TICK;
        for bytes in client.speak(self.now) {
            self.give(client.addr, &bytes);
        }
        self.serve();
        while let Some((to, bytes)) = self.wire.datagrams.pop_front() {
            if to == client.addr && !client.deaf {
                client.hear(self.now, &bytes);
            }
        }
    }

    fn until(&mut self, client: &mut Client, what: &str, mut done: impl FnMut(&mut Self, &mut Client) -> bool) {
        for _ in 0..5000 {
            if done(self, client) {
                return;
            }
            self.step(client);
        }
        panic!("never: {what}: {:?}", self.counted());
    }

    /// A client whose stream is there and has a key.
    fn session(&mut self, number: u16) -> (Client, SessionKey) {
        let mut client = self.client(number);
        self.until(&mut client, "the handshake", |_, client| !client.quic.is_handshaking());
        client.open();
        let arrivals = self.told.arrivals.len();
        self.until(&mut client, "the stream", |world, _| world.told.arrivals.len() > arrivals);
        let key = SessionKey::new(0, number.into(), 0);
        let carrier = self.told.arrivals.pop().unwrap();
        self.hub.attach(key, &carrier).unwrap();
        self.until(&mut client, "its beginning", |world, _| world.told.received.ends_with(b"!"));
        self.told.received.clear();
        (client, key)
    }

    /// Lets all that was said arrive.
    fn settle(&mut self, client: &mut Client) {
        for _ in 0..40 {
            self.step(client);
        }
    }
}

impl Client {
    fn lane() -> StreamId {
        conns::lane()
    }

    fn open(&mut self) {
        assert_eq!(self.quic.streams().open(Dir::Bi), Some(Self::lane()));
        self.write(b"!");
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        self.quic.send_stream(Self::lane()).write(bytes).unwrap_or(0)
    }

    fn read(&mut self) -> Vec<u8> {
        let (mut got, mut stream) = (Vec::new(), self.quic.recv_stream(Self::lane()));
        let Ok(mut chunks) = stream.read(true) else { return got };
        while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
            got.extend_from_slice(&chunk.bytes);
        }
        let _ = chunks.finalize();
        got
    }

    /// What it has to send.
    fn speak(&mut self, now: Instant) -> Vec<Vec<u8>> {
        if self.quic.poll_timeout().is_some_and(|due| due <= now) {
            self.quic.handle_timeout(now);
        }
        self.look();
        let (mut spoken, mut buffer) = (Vec::new(), Vec::new());
        while let Some(transmit) = self.quic.poll_transmit(now, 1, &mut buffer) {
            spoken.push(buffer[..transmit.size].to_vec());
            buffer.clear();
        }
        spoken
    }

    fn hear(&mut self, now: Instant, bytes: &[u8]) {
        let server = (Ipv4Addr::LOCALHOST, 4433).into();
        let mut buffer = Vec::new();
        let heard = self.endpoint.handle(now, server, None, None, BytesMut::from(bytes), &mut buffer);
        if let Some(DatagramEvent::ConnectionEvent(_, event)) = heard {
            self.quic.handle_event(event);
        }
        self.look();
    }

    fn look(&mut self) {
        while let Some(event) = self.quic.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.quic.handle_event(event);
            }
        }
        while let Some(event) = self.quic.poll() {
            if let Event::ConnectionLost { reason } = event {
                self.lost = Some(reason);
            }
        }
    }

    /// The code it was closed with.
    fn code(&self) -> Option<u64> {
        match &self.lost {
            Some(quinn_proto::ConnectionError::ApplicationClosed(close)) => Some(close.error_code.into()),
            _ => None,
        }
    }
}

fn queue(frames: &[&[u8]]) -> Outbound {
    let mut outbound = Outbound::default();
    for frame in frames {
        outbound.push(Bytes::copy_from_slice(frame));
    }
    outbound
}

#[test]
fn frames_are_written_and_bytes_are_told() {
    let mut world = World::new();
    let (mut client, key) = world.session(1);
    client.write(b"to the server");
    world.until(&mut client, "its bytes", |world, _| world.told.received == b"to the server");
    assert_eq!(world.hub.write(key, &queue(&[b"one ", b"two ", b"three"]), world.now).unwrap(), 13);
    let mut got = Vec::new();
    world.until(&mut client, "our bytes", |_, client| {
        got.extend(client.read());
        got == b"one two three"
    });
    assert_eq!(world.hub.attached(), 1);
}

#[test]
fn all_that_was_written_arrives_before_the_code() {
    let mut world = World::new();
    let (mut client, key) = world.session(1);
    let much = vec![7; 40_000];
    assert_eq!(world.hub.write(key, &queue(&[&much]), world.now).unwrap(), much.len());
    world.hub.close(key, CloseCode::Replaced, world.now);
    assert_eq!((world.hub.attached(), world.hub.write(key, &queue(&[b"late"]), world.now).unwrap()), (0, 0));
    let mut got = Vec::new();
    world.until(&mut client, "the code", |_, client| {
        got.extend(client.read());
        client.lost.is_some()
    });
    assert_eq!((got.len(), client.code()), (much.len(), Some(4503)));
    assert!(world.told.ended.is_empty(), "who was let go has no end to tell");
}

#[test]
fn a_peer_that_takes_nothing_is_told_the_code_after_a_moment() {
    let mut world = World::new();
    let (mut client, key) = world.session(1);
    world.hub.write(key, &queue(&[b"last words"]), world.now).unwrap();
    client.deaf = true;
    world.hub.close(key, CloseCode::SlowConsumer, world.now);
    for _ in 0..30 {
        world.step(&mut client);
    }
    client.deaf = false;
    world.until(&mut client, "the code", |_, client| client.lost.is_some());
    assert_eq!(client.code(), Some(4010));
}

#[test]
fn nothing_is_left_of_connections_that_ended() {
    let mut world = World::new();
    for number in 0..5 {
        let (mut client, key) = world.session(number);
        match number {
            0 => client.quic.close(world.now, VarInt::from_u32(1000), Bytes::new()),
            1 => client.quic.close(world.now, VarInt::from_u32(7), Bytes::new()),
            2 => world.hub.close(key, CloseCode::Drain, world.now),
            3 => client.deaf = true, // and says nothing any more
            _ => _ = client.quic.send_stream(Client::lane()).reset(VarInt::from_u32(1)),
        }
        if number == 3 {
            world.now += Duration::from_secs(3600);
            world.serve();
        }
        world.settle(&mut client);
    }
    world.now += Duration::from_secs(3600);
    world.serve();
    let counted = world.counted();
    assert_eq!((counted.opened, counted.closed, world.hub.held(), world.hub.attached()), (5, 5, 0, 0));
    assert_eq!(world.told.ended, [End::Eof, End::Eof, End::Error, End::Error]);
    assert!(!world.hub.is_busy() && world.hub.next_deadline().is_none_or(|due| due > world.now));
}

#[test]
fn a_handle_used_again_is_not_taken_for_the_old_connection() {
    let mut world = World::new();
    let mut first = world.client(1);
    world.until(&mut first, "the handshake", |_, client| !client.quic.is_handshaking());
    first.open();
    world.until(&mut first, "the stream", |world, _| !world.told.arrivals.is_empty());
    let stale = world.told.arrivals.pop().unwrap();
    first.quic.close(world.now, VarInt::from_u32(1000), Bytes::new());
    world.settle(&mut first);
    world.now += Duration::from_secs(10);
    world.serve();
    assert_eq!(world.hub.held(), 0);
    let (mut second, key) = world.session(2);
    assert!(world.hub.attach(SessionKey::new(0, 9, 0), &stale).is_err());
    world.hub.refuse(&stale, world.now);
    second.write(b"still here");
    world.until(&mut second, "its bytes", |world, _| world.told.received == b"still here");
    assert_eq!(world.hub.keys(), [key]);
}

#[test]
fn who_never_acknowledges_is_asked_to() {
    let mut world = World::new();
    let (mut client, key) = world.session(1);
    world.settle(&mut client);
    let before = world.counted().pings;
    // Whatever asks to be acknowledged and says nothing.
    for _ in 0..100 {
        client.quic.ping();
        world.step(&mut client);
    }
    let pings = world.counted().pings - before;
    assert!((4..=14).contains(&pings), "{pings} for 100 datagrams");
    // What we say ourselves is acknowledged, so nothing more is needed.
    let before = world.counted().pings;
    for _ in 0..100 {
        client.quic.ping();
        world.hub.write(key, &queue(&[b"x"]), world.now).unwrap();
        world.step(&mut client);
    }
    assert_eq!(world.counted().pings, before);
}

#[test]
fn a_full_socket_delays_and_loses_nothing() {
    let mut world = World::new();
    let (mut client, key) = world.session(1);
    let text: Vec<u8> = (0..60_000_u32).map(|at| (at % 251) as u8).collect();
    world.hub.write(key, &queue(&[&text]), world.now).unwrap();
    let mut got = Vec::new();
    for turn in 0..5000 {
        // Full at first, then with room for one send at a time.
        world.wire.room = Some(usize::from(turn > 20));
        world.step(&mut client);
        assert!(world.wire.datagrams.is_empty());
        got.extend(client.read());
        if got.len() == text.len() {
            break;
        }
    }
    assert!(got == text, "{} bytes", got.len());
    assert_eq!(client.quic.stats().path.lost_packets, 0);
}

#[test]
fn a_long_chain_of_certificates_does_not_amplify() {
    let mut world = World::with(chain_of(ALPN, 12), |_| {});
    let mut client = world.client(1);
    let initial = client.speak(world.now).remove(0);
    world.give(client.addr, &initial);
    let mut answered = 0;
    for _ in 0..1500 {
        world.now += TICK;
        world.serve();
        answered += world.wire.datagrams.drain(..).map(|(_, bytes)| bytes.len()).sum::<usize>();
    }
    assert!(answered <= 3 * initial.len(), "{answered} B for {} B", initial.len());
    assert!(answered > 2 * initial.len(), "it tried: {answered} B");
    // With an answer of the client's it comes through.
    let mut other = world.client(2);
    world.until(&mut other, "the handshake", |_, client| !client.quic.is_handshaking());
}

#[test]
fn handshakes_and_streams_have_their_time() {
    let mut world = World::new();
    let mut silent = world.client(1);
    let initial = silent.speak(world.now).remove(0);
    world.give(silent.addr, &initial);
    world.serve();
    let mut idle = world.client(2);
    world.until(&mut idle, "the handshake", |_, client| !client.quic.is_handshaking());
    world.settle(&mut idle);
    assert_eq!(world.hub.held(), 2);
    world.now += Duration::from_secs(11);
    world.settle(&mut idle);
    assert_eq!((idle.code(), world.counted().failed_late), (Some(4003), 2));
    world.now += Duration::from_secs(11);
    world.serve();
    assert_eq!((world.hub.held(), world.hub.young.count, world.hub.young.unproven), (0, 0, 0));
}

#[test]
fn time_counted_anew_still_ends_what_is_idle() {
    let mut world = World::new();
    world.now += Duration::from_secs(30 * 86_400);
    let (_client, _key) = world.session(1);
    assert!(world.hub.ticks.at(world.now) < 1 << 20, "counted anew");
    world.now += Duration::from_secs(3600);
    world.serve();
    assert_eq!(world.told.ended, [End::Error]);
    // And who was there before is armed again.
    let mut world = World::new();
    let (_client, _key) = world.session(1);
    (world.hub.wheel, world.hub.ticks) =
        (Default::default(), super::Ticks::new(world.now - Duration::from_secs(30 * 86_400)));
    world.serve();
    assert!(world.hub.next_deadline().is_some_and(|due| due < world.now + Duration::from_secs(100)));
}

#[test]
fn datagrams_go_both_ways_beside_the_stream() {
    let mut world = World::new();
    let (mut client, key) = world.session(1);
    assert!(world.hub.send_datagram(key, &Bytes::from_static(b"typing")));
    assert!(!world.hub.send_datagram(key, &Bytes::from(vec![0; 2000])), "too large for one");
    world.settle(&mut client);
    assert_eq!(client.quic.datagrams().recv(), Some(Bytes::from_static(b"typing")));
    world.hub.pause(key);
    client.quic.datagrams().send(Bytes::from_static(b"me too"), true).unwrap();
    world.settle(&mut client);
    assert!(world.told.datagrams.is_empty(), "it is not read");
    world.hub.resume(key);
    world.serve();
    assert_eq!(world.told.datagrams, [b"me too"]);
}

#[test]
fn who_is_not_read_fills_its_window_and_no_more() {
    let mut world = World::new();
    let (mut client, key) = world.session(1);
    world.hub.pause(key);
    let mut sent = 0;
    for _ in 0..200 {
        sent += client.write(&[5; 64 * 1024]);
        world.step(&mut client);
    }
    assert!(sent <= 64 * 1024 + 1, "{sent} B");
    world.hub.resume(key);
    world.until(&mut client, "all of it", |world, client| {
        client.write(&[]);
        world.told.received.len() >= sent - 1
    });
}

#[test]
fn spoilt_datagrams_end_nobody() {
    let mut world = World::new();
    let (mut client, _key) = world.session(1);
    client.write(b"well");
    let whole = client.speak(world.now);
    for bytes in &whole {
        for at in 0..bytes.len() {
            let mut spoilt = bytes.clone();
            spoilt[at] ^= 0x55;
            world.give(client.addr, &spoilt);
            world.give(client.addr, &bytes[..at]);
        }
        world.serve();
        world.give(client.addr, bytes);
        // Twice is once.
        world.give(client.addr, bytes);
    }
    world.serve();
    assert_eq!(world.told.received, b"well");
    assert!(world.told.ended.is_empty());
}

#[test]
fn keys_are_updated_by_either_end_and_old_ones_open_nothing_new() {
    let mut world = World::new();
    let (mut client, key) = world.session(1);
    for round in 0..6_u8 {
        if round % 2 == 0 {
            client.quic.force_key_update();
        } else {
            world.hub.conns.get(0).unwrap().quic.force_key_update();
        }
        client.write(&[round; 100]);
        world.hub.write(key, &queue(&[&[round; 100]]), world.now).unwrap();
        let mut got = Vec::new();
        world.until(&mut client, "both ways", |world, client| {
            got.extend(client.read());
            got == [round; 100] && world.told.received == [round; 100]
        });
        world.told.received.clear();
        // Until the old keys are forgotten.
        world.now += Duration::from_secs(5);
        world.settle(&mut client);
    }
    assert!(client.lost.is_none() && world.told.ended.is_empty());
}

#[test]
fn every_suite_of_a_client_comes_through() {
    use rustls::crypto::aws_lc_rs::cipher_suite as suites;
    for suite in [
        suites::TLS13_AES_128_GCM_SHA256,
        suites::TLS13_AES_256_GCM_SHA384,
        suites::TLS13_CHACHA20_POLY1305_SHA256,
    ] {
        // In a first packet there is no choice.
        let mut both = vec![suite];
        if suite != suites::TLS13_AES_128_GCM_SHA256 {
            both.push(suites::TLS13_AES_128_GCM_SHA256);
        }
        let (tls, cert) = tls(ALPN);
        let mut world = World::with((tls, cert.clone()), |_| {});
        world.config = client_of(&cert, both);
        let (mut client, key) = world.session(1);
        world.hub.write(key, &queue(&[b"sealed"]), world.now).unwrap();
        world.until(&mut client, "our bytes", |_, client| client.read() == b"sealed");
    }
}

#[test]
fn a_session_is_resumed_by_a_ticket() {
    let (tls, cert) = chain_of(ALPN, 8);
    let mut tls = Arc::try_unwrap(tls).unwrap();
    tls.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    let mut world = World::with((Arc::new(tls), cert), |_| {});
    let bytes_of = |world: &mut World, number| {
        let (mut client, _) = world.session(number);
        world.settle(&mut client);
        client.quic.stats().udp_rx.bytes
    };
    let (full, resumed) = (bytes_of(&mut world, 1), bytes_of(&mut world, 2));
    assert!(resumed + 2000 < full, "no certificate the second time: {resumed} B after {full} B");
}
