//! A hub and a client of quinn-proto, joined by a network of a few lines and a clock of the test's.

mod crypto;
mod ends;
mod flow;
mod strangers;
mod web;

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
use super::super::settings::tests::{chain_of, client_tls, tls};
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
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    provider.cipher_suites = suites;
    client_with(cert, provider)
}

fn client_with(cert: &CertificateDer<'static>, provider: rustls::crypto::CryptoProvider) -> ClientConfig {
    client_speaking(cert, provider, ALPN[0])
}

fn client_speaking(
    cert: &CertificateDer<'static>,
    provider: rustls::crypto::CryptoProvider,
    alpn: &[u8],
) -> ClientConfig {
    let tls = client_tls(cert.clone(), provider, alpn);
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
            doors: parts.doors(),
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
