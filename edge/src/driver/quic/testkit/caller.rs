//! One connection of a client.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, ConnectionId, DatagramEvent, Dir, Endpoint,
    EndpointConfig, Event, FrameStats, IdleTimeout, ReadError, StreamEvent, StreamId, TransportConfig, VarInt,
};
use roost_wire::limits;

use super::super::conns::lane;
use super::forge::{Forging, Orders};
use super::{NAME, pair, provider};

/// As the client's.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// Whom a client trusts, and the tickets it got.
#[derive(Clone)]
pub struct Trust(ClientConfig);

impl Trust {
    /// Trusts every [`Site`](super::Site). `alpn` is the protocol that it asks for, usually [`limits::ALPN`]; `window_bytes` is
    /// how much may come that nobody has read.
    ///
    /// # Panics
    /// Never: the settings are right.
    #[must_use]
    pub fn new(alpn: &str, window_bytes: u32) -> Self {
        Self::with(Arc::new(crypto(alpn)), window_bytes)
    }

    /// One whose client says what it is ordered to.
    ///
    /// # Panics
    /// Never: the settings are right.
    #[must_use]
    pub fn forging(alpn: &str, window_bytes: u32, orders: &Orders) -> Self {
        Self::with(Arc::new(Forging { inner: Arc::new(crypto(alpn)), orders: orders.clone() }), window_bytes)
    }

    fn with(crypto: Arc<dyn quinn_proto::crypto::ClientConfig>, window_bytes: u32) -> Self {
        let mut config = ClientConfig::new(crypto);
        let mut transport = TransportConfig::default();
        transport
            .max_idle_timeout(IdleTimeout::try_from(IDLE_MAX).ok())
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .stream_receive_window(VarInt::from_u32(window_bytes))
            .mtu_discovery_config(None);
        config.transport_config(Arc::new(transport));
        Self(config)
    }
}

fn crypto(alpn: &str) -> QuicClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pair().0).expect("a root");
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.into()];
    QuicClientConfig::try_from(tls).expect("suites of QUIC")
}

impl Default for Trust {
    fn default() -> Self {
        Self::new(limits::ALPN, 64 * 1024)
    }
}

/// A client with one connection, at an address that only the caller of its methods knows.
pub struct Caller {
    endpoint: Endpoint,
    quic: Connection,
    handle: ConnectionHandle,
    /// Streams of the server that have not ended, with what has come of them.
    pages: Vec<(StreamId, Vec<u8>)>,
    /// The endpoint has forgotten it.
    forgotten: bool,
    connected: bool,
    finished: bool,
    lost: Option<ConnectionError>,
}

impl Caller {
    /// Begins a handshake. `seed` decides the connection's ids.
    ///
    /// # Panics
    /// Never: the settings are right.
    #[must_use]
    pub fn new(trust: &Trust, seed: [u8; 32], now: Instant) -> Self {
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, false, Some(seed));
        let mut config = trust.0.clone();
        let id = ConnectionId::new(&seed[..16]);
        config.initial_dst_cid_provider(Arc::new(move || id));
        let (handle, quic) = endpoint.connect(now, config, server(), NAME).expect("a server");
        Self {
            endpoint,
            quic,
            handle,
            pages: Vec::new(),
            forgotten: false,
            connected: false,
            finished: false,
            lost: None,
        }
    }

    /// Datagrams that it sends now, and what is due is done.
    pub fn speak(&mut self, now: Instant) -> Vec<Vec<u8>> {
        if self.next_deadline().is_some_and(|due| due <= now) {
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

    /// A datagram of the server arrived.
    pub fn hear(&mut self, bytes: &[u8], now: Instant) {
        let heard = self.endpoint.handle(now, server(), None, None, BytesMut::from(bytes), &mut Vec::new());
        if let Some(DatagramEvent::ConnectionEvent(_, event)) = heard {
            self.quic.handle_event(event);
        }
        self.look();
    }

    fn look(&mut self) {
        while let Some(event) = self.quic.poll_endpoint_events() {
            // The endpoint knows nothing of it any more, whatever its client still does.
            if self.forgotten {
                continue;
            }
            self.forgotten = event.is_drained();
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.quic.handle_event(event);
            }
        }
        while let Some(event) = self.quic.poll() {
            match event {
                Event::Connected => self.connected = true,
                Event::ConnectionLost { reason } => self.lost = Some(reason),
                Event::Stream(StreamEvent::Finished { .. }) => self.finished = true,
                _ => {}
            }
        }
    }

    /// When it has to [`speak`](Self::speak) by itself.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        self.quic.poll_timeout()
    }

    /// Whether the handshake is over.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.connected
    }

    /// Whether all that was written before [`finish`](Self::finish) has arrived.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        self.finished
    }

    /// Why it ended, if it has.
    #[must_use]
    pub const fn lost(&self) -> Option<&ConnectionError> {
        self.lost.as_ref()
    }

    /// The code that the server closed it with.
    #[must_use]
    pub fn code(&self) -> Option<u64> {
        match &self.lost {
            Some(ConnectionError::ApplicationClosed(close)) => Some(close.error_code.into()),
            _ => None,
        }
    }

    /// Nothing is left to be done.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.quic.is_drained()
    }

    /// Opens the stream of the session; the server hears of it with the first bytes. False: it may not, or has one.
    pub fn open(&mut self) -> bool {
        self.quic.streams().open(Dir::Bi).is_some()
    }

    /// Writes to the stream as far as it goes. Returns how many bytes that were.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        self.quic.send_stream(lane()).write(bytes).unwrap_or(0)
    }

    /// Opens another stream, which may have answers, and writes to it. False: it may open none, or not all was taken.
    pub fn write_beside(&mut self, answered: bool, bytes: &[u8]) -> bool {
        let dir = if answered { Dir::Bi } else { Dir::Uni };
        let Some(id) = self.quic.streams().open(dir) else { return false };
        self.quic.send_stream(id).write(bytes) == Ok(bytes.len())
    }

    /// Ends the stream.
    pub fn finish(&mut self) {
        let _ = self.quic.send_stream(lane()).finish();
    }

    /// Breaks the stream off.
    pub fn reset(&mut self) {
        let _ = self.quic.send_stream(lane()).reset(VarInt::from_u32(0));
    }

    /// Reads what is there of the stream. True: it has ended behind that, well or not.
    pub fn read(&mut self) -> (Vec<u8>, bool) {
        let mut got = Vec::new();
        let ended = !matches!(take(&mut self.quic, lane(), &mut got), Taken::Some);
        (got, ended)
    }

    /// The next stream of the server that has come whole.
    pub fn page(&mut self) -> Option<Vec<u8>> {
        while let Some(id) = self.quic.streams().accept(Dir::Uni) {
            self.pages.push((id, Vec::new()));
        }
        for at in 0..self.pages.len() {
            let (id, page) = &mut self.pages[at];
            match take(&mut self.quic, *id, page) {
                Taken::All => return Some(self.pages.swap_remove(at).1),
                Taken::Broken => {
                    self.pages.swap_remove(at);
                    return self.page();
                }
                Taken::Some => {}
            }
        }
        None
    }

    /// Sends a datagram beside the stream. False: the server takes none, or none as large.
    pub fn send_datagram(&mut self, bytes: Bytes) -> bool {
        self.quic.datagrams().send(bytes, true).is_ok()
    }

    /// The next datagram that came beside the stream.
    pub fn datagram(&mut self) -> Option<Bytes> {
        self.quic.datagrams().recv()
    }

    /// It knows that its address has changed.
    pub fn moved(&mut self) {
        self.quic.local_address_changed();
    }

    /// Makes new keys from now on.
    pub fn update_keys(&mut self) {
        self.quic.force_key_update();
    }

    /// Asks to be acknowledged.
    pub fn ping(&mut self) {
        self.quic.ping();
    }

    /// Ends the connection with a code.
    pub fn close(&mut self, code: u16, now: Instant) {
        self.quic.close(now, VarInt::from_u32(code.into()), Bytes::new());
    }

    /// Frames that it has got, by kind.
    #[must_use]
    pub fn frames_heard(&self) -> FrameStats {
        self.quic.stats().frame_rx
    }
}

/// What was read of a stream.
enum Taken {
    /// There may be more.
    Some,
    All,
    Broken,
}

/// Reads what is there of a stream.
fn take(quic: &mut Connection, id: StreamId, got: &mut Vec<u8>) -> Taken {
    let mut stream = quic.recv_stream(id);
    let Ok(mut chunks) = stream.read(true) else { return Taken::Some };
    let taken = loop {
        match chunks.next(usize::MAX) {
            Ok(Some(chunk)) => got.extend_from_slice(&chunk.bytes),
            Ok(None) => break Taken::All,
            Err(ReadError::Blocked) => break Taken::Some,
            Err(ReadError::Reset(_)) => break Taken::Broken,
        }
    };
    let _ = chunks.finalize();
    taken
}

/// Where all servers seem to be: a client asks only whether it still is the same.
fn server() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 4433).into()
}
