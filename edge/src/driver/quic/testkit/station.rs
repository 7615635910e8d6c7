//! The shards of one node.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use quinn_proto::{EcnCodepoint, Transmit};
use roost_edge_core::driver::Sink;
use roost_edge_core::{Outbound, ShardConfig};
use roost_wire::link::SessionKey;
use roost_wire::{CloseCode, limits};

use super::super::WEBTRANSPORT_ALPN;
use super::super::hub::{Hub, Origin, Port, Setup};
use super::super::metrics::{QuicMetrics, QuicSnapshot};
use super::super::settings::{Parts, QuicConfig, SECRET_BYTES};
use super::super::steer::Steer;
use super::{QuicConn, pair, provider};

/// Datagrams that leave in one train.
const SEGMENTS_MAX: usize = 4;

/// What the shards of a process have in common.
pub struct Site {
    config: QuicConfig,
    parts: Parts,
    steer: Steer,
    young_max: usize,
}

impl Site {
    /// A process with so many `shards` of QUIC, which keeps `secret` over restarts. `set` changes settings.
    ///
    /// # Panics
    /// If what `set` makes of them cannot be.
    #[must_use]
    pub fn new(
        shard: &ShardConfig,
        shards: u16,
        secret: [u8; SECRET_BYTES],
        set: impl FnOnce(&mut QuicConfig),
    ) -> Self {
        let (cert, key) = pair();
        let mut tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .expect("a pair");
        tls.alpn_protocols = vec![limits::ALPN.into(), WEBTRANSPORT_ALPN.into()];
        tls.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().expect("tickets");
        let mut config = QuicConfig::new((Ipv4Addr::LOCALHOST, 0).into(), Arc::new(tls), secret);
        set(&mut config);
        let parts = Parts::new(&config, shard).expect("settings of QUIC");
        Self { config, parts, steer: Steer::new(shards, [1; 8]), young_max: shard.unauthenticated_max }
    }

    /// The shard of QUIC that a datagram belongs to, from 0. `None`: it is too short for any.
    #[must_use]
    pub fn shard_of(&self, datagram: &[u8]) -> Option<u16> {
        self.steer.shard(datagram)
    }

    /// The shard of QUIC with this `number`, from 0, that is `shard` among all of the node. Its randomness begins with `seed`.
    #[must_use]
    pub fn station(&self, number: u16, shard: u16, seed: [u8; 32], now: Instant) -> Station {
        let metrics = Arc::new(QuicMetrics::default());
        let hub = Hub::new(Setup {
            endpoint: self.parts.endpoint(self.steer, number, seed),
            shard,
            metrics: metrics.clone(),
            now,
            unproven_max: self.config.unproven_max,
            doors: self.parts.doors(),
            open_within: self.config.open_within,
            young_max: self.young_max,
        });
        Station { hub, metrics, wire: Wire::default() }
    }
}

/// One shard's endpoint and connections.
pub struct Station {
    hub: Hub,
    metrics: Arc<QuicMetrics>,
    wire: Wire,
}

/// What is sent waits here.
#[derive(Default)]
struct Wire(Vec<(SocketAddr, Vec<u8>)>);

impl Port for Wire {
    fn send(&mut self, transmit: &Transmit, bytes: &[u8]) -> bool {
        let train = bytes.chunks(transmit.segment_size.unwrap_or(bytes.len()).max(1));
        self.0.extend(train.map(|datagram| (transmit.destination, datagram.to_vec())));
        true
    }

    fn segments_max(&self) -> usize {
        SEGMENTS_MAX
    }
}

impl Station {
    /// A datagram arrived.
    pub fn datagram(&mut self, remote: SocketAddr, bytes: &[u8], now: Instant) {
        self.metrics.datagrams_in(1);
        let origin = Origin { remote, local_ip: None, ecn: None::<EcnCodepoint> };
        self.hub.datagram(origin, BytesMut::from(bytes), now, &mut self.wire);
    }

    /// What a turn of the shard's loop begins with. True: there is more to do.
    pub fn turn<S: Sink<Conn = QuicConn>>(&mut self, now: Instant, sink: &mut S) -> bool {
        let more_timers = self.hub.run_timers(now);
        self.hub.deliver(now, sink) || more_timers
    }

    /// What it ends with: datagrams leave.
    pub fn flush(&mut self, now: Instant) {
        self.hub.flush(now, &mut self.wire);
    }

    /// Datagrams that have left, in order, and where to.
    pub fn sent(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        std::mem::take(&mut self.wire.0)
    }

    /// See [`Driver::attach`](roost_edge_core::driver::Driver::attach).
    ///
    /// # Errors
    /// The connection has ended meanwhile.
    pub fn attach(&mut self, key: SessionKey, conn: &QuicConn) -> io::Result<()> {
        self.hub.attach(key, conn)
    }

    /// See [`Driver::refuse`](roost_edge_core::driver::Driver::refuse).
    pub fn refuse(&mut self, conn: &QuicConn, now: Instant) {
        self.hub.refuse(conn, now);
    }

    /// See [`Driver::write`](roost_edge_core::driver::Driver::write).
    ///
    /// # Errors
    /// The client takes nothing any more.
    pub fn write(&mut self, key: SessionKey, outbound: &Outbound, now: Instant) -> io::Result<usize> {
        self.hub.write(key, outbound, now)
    }

    /// See [`Driver::datagram`](roost_edge_core::driver::Driver::datagram).
    pub fn send_datagram(&mut self, key: SessionKey, bytes: &Bytes) -> bool {
        self.hub.send_datagram(key, bytes)
    }

    /// See [`Driver::page`](roost_edge_core::driver::Driver::page).
    pub fn send_page(&mut self, key: SessionKey, bytes: &Bytes) -> bool {
        self.hub.send_page(key, bytes)
    }

    /// Stops reading from `key`.
    pub fn pause(&mut self, key: SessionKey) {
        self.hub.pause(key);
    }

    /// Reads from `key` again.
    pub fn resume(&mut self, key: SessionKey) {
        self.hub.resume(key);
    }

    /// Lets `key` go, and tells the client `code` once it has all that was written.
    pub fn close(&mut self, key: SessionKey, code: CloseCode, now: Instant) {
        self.hub.close(key, code, now);
    }

    /// When to look again at the latest. `None`: nothing is timed.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.hub.next_deadline()
    }

    /// Whether there is something to do at once.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.hub.is_busy()
    }

    /// Connections of every kind, those of which only the end is awaited included.
    #[must_use]
    pub fn held(&self) -> usize {
        self.hub.held()
    }

    /// Connections that have opened no stream, and those of them whose address may be forged.
    #[must_use]
    pub fn young(&self) -> (usize, usize) {
        self.hub.young()
    }

    /// Entries of all its lists together.
    #[must_use]
    pub fn listed(&self) -> usize {
        self.hub.listed()
    }

    /// What was counted.
    #[must_use]
    pub fn counted(&self) -> QuicSnapshot {
        self.metrics.snapshot()
    }
}
