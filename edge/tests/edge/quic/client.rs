//! A server with QUIC, and clients that speak to it.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream, TransportConfig};
use roost_edge::driver::quic::QuicConfig;
use roost_edge::{Edge, EdgeConfig};
use roost_wire::native::Cut;
use roost_wire::pb::{self, Frame};
use roost_wire::{Encoding, FrameBody};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use tokio::time::timeout;

use super::certificates;
use crate::support::{Hyper, PATIENCE, Router, Server, config};

/// A running server, and what its clients need.
pub(crate) struct Quic {
    pub(crate) server: Server,
    pub(crate) addr: SocketAddr,
    cert: CertificateDer<'static>,
}

/// Serves QUIC beside streams, as `set` and `set_quic` want it.
pub(crate) fn serve(set: impl FnOnce(&mut EdgeConfig), set_quic: impl FnOnce(&mut QuicConfig)) -> Quic {
    let (tls, cert) = certificates::server();
    let mut edge = config();
    set(&mut edge);
    let mut quic = QuicConfig::new((Ipv4Addr::LOCALHOST, 0).into(), tls, [7; 32]);
    set_quic(&mut quic);
    let bound = Edge::bind(edge).and_then(|bound| bound.with_quic(&quic)).expect("port 0 is free");
    let addr = bound.handle().quic_addr().expect("QUIC is on");
    let server = Server::start(bound, Arc::new(Router::default()), Hyper::new());
    Quic { server, addr, cert }
}

/// What a client is sent, or the end.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    Frame(Box<Frame>),
    /// The connection ended; with a code of ours if there was one.
    Closed(Option<u64>),
}

impl Quic {
    pub(crate) fn client_config(&self, alpn: &[&[u8]]) -> ClientConfig {
        certificates::client(&self.cert, alpn, aws_lc_rs::default_provider())
    }

    /// The first datagrams of `count` clients, each a whole Initial.
    pub(crate) async fn initials(&self, count: usize) -> Vec<Vec<u8>> {
        // Shares of a post-quantum kind would fill more than one datagram.
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
        let config = certificates::client(&self.cert, &[b"roost/1"], provider);
        let relay = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (endpoint, to) = (self.endpoint(), relay.local_addr().unwrap());
        let (mut initials, mut held): (Vec<Vec<u8>>, _) = (Vec::new(), Vec::new());
        while initials.len() < count {
            held.push(endpoint.connect_with(config.clone(), to, "localhost").unwrap());
            let mut initial = vec![0; 1500];
            let len = timeout(PATIENCE, relay.recv(&mut initial)).await.expect("in time").unwrap();
            initial.truncate(len);
            // Those who get no answer try again.
            if initials.iter().all(|other| other[6..14] != initial[6..14]) {
                initials.push(initial);
            }
        }
        initials
    }

    /// A client's end at a port of its own.
    pub(crate) fn endpoint(&self) -> Endpoint {
        certificates::endpoint(&self.cert)
    }

    pub(crate) async fn connect(&self, endpoint: &Endpoint) -> Result<Connection, ConnectionError> {
        let connecting = endpoint.connect(self.addr, "localhost").unwrap();
        timeout(PATIENCE, connecting).await.expect("an answer in time")
    }

    /// A session of `guest`.
    pub(crate) async fn session(&self, endpoint: &Endpoint, guest: &str) -> Client {
        let connection = self.connect(endpoint).await.expect("a connection");
        let mut client = Client::open(connection).await;
        client.say(1, FrameBody::Connect(pb::Connect { guest: guest.into(), ..Default::default() })).await;
        let hello = client.frame().await;
        assert!(matches!(&hello.body, Some(FrameBody::Hello(hello)) if hello.protocol == "roost/1"), "{hello:?}");
        let welcome = client.frame().await;
        assert!(matches!(&welcome.body, Some(FrameBody::Welcome(_))), "{welcome:?}");
        client
    }
}

/// A socket of a client.
pub(crate) fn udp() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

/// Settings of a client that takes no datagrams.
pub(crate) fn without_datagrams() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.datagram_receive_buffer_size(None);
    Arc::new(transport)
}

/// One session.
pub(crate) struct Client {
    pub(crate) connection: Connection,
    pub(crate) tx: SendStream,
    rx: RecvStream,
    cut: Cut,
    input: Vec<u8>,
    frames: std::collections::VecDeque<Frame>,
}

impl Client {
    pub(crate) async fn open(connection: Connection) -> Self {
        let (tx, rx) = connection.open_bi().await.unwrap();
        Self { connection, tx, rx, cut: Cut::default(), input: Vec::new(), frames: Default::default() }
    }

    pub(crate) async fn say(&mut self, rid: u64, body: FrameBody) {
        self.tx.write_all(&frame(rid, body)).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> Heard {
        timeout(PATIENCE, self.hear_patiently()).await.expect("something in time")
    }

    async fn hear_patiently(&mut self) -> Heard {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Heard::Frame(Box::new(frame));
            }
            match self.rx.read_chunk(usize::MAX, true).await {
                Ok(Some(chunk)) => self.input = chunk.bytes.to_vec(),
                // The code comes with the end of the connection.
                Ok(None) | Err(_) => return Heard::Closed(code(&self.connection.closed().await)),
            }
            let mut at = 0;
            while let Some(mut frame) = self.cut.next(&self.input, &mut at, 1 << 20).expect("frames") {
                self.frames.push_back(Encoding::Protobuf.decode(&mut frame).expect("a frame").expect("one"));
            }
        }
    }

    pub(crate) async fn frame(&mut self) -> Frame {
        match self.hear().await {
            Heard::Frame(frame) => *frame,
            other => panic!("{other:?}"),
        }
    }

    /// The code the server closes with; frames before it are passed over.
    pub(crate) async fn closed(&mut self) -> Option<u64> {
        loop {
            if let Heard::Closed(code) = self.hear().await {
                return code;
            }
        }
    }

    /// The reply to `rid`; pushes before it are passed over.
    pub(crate) async fn reply(&mut self, rid: u64) -> FrameBody {
        loop {
            let frame = self.frame().await;
            if frame.rid == rid {
                return frame.body.expect("a body");
            }
        }
    }

    pub(crate) async fn datagram(&mut self) -> Frame {
        let bytes = timeout(PATIENCE, self.connection.read_datagram()).await.expect("in time").unwrap();
        Encoding::Protobuf.decode(&mut &bytes[..]).expect("a frame").expect("one")
    }
}

/// The application's code of an end, if it was one of ours.
pub(crate) fn code(error: &ConnectionError) -> Option<u64> {
    match error {
        ConnectionError::ApplicationClosed(close) => Some(close.error_code.into()),
        _ => None,
    }
}

/// The bytes of a frame.
pub(crate) fn frame(rid: u64, body: FrameBody) -> BytesMut {
    let mut out = BytesMut::new();
    Encoding::Protobuf.encode(&Frame { rid, body: Some(body) }, &mut out);
    out
}

/// A runtime for the clients of a test.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { timeout(10 * PATIENCE, test).await.expect("the test ends") })
}

/// For what has to be seen again and again.
pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}
