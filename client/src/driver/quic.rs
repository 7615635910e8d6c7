//! One QUIC connection: frames on its first stream, both ways, in datagrams what may be lost, and pages of history on streams of
//! their own. Or the same on the first stream of
//! a session by WebTransport.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinn::{
    Connection, ConnectionError, Endpoint, EndpointConfig, IdleTimeout, ReadError, ReadToEndError, RecvStream,
    SendStream, TokioRuntime, TransportConfig, VarInt, WriteError,
};
use roost_wire::limits;
use roost_wire::native::Cut;
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::link::{CLOSE_WITHIN, Manner};
use super::race::Way;
use super::webtransport::{self, Session};
use crate::core::{Gone, MESSAGE_BYTES_MAX};
use crate::url::Url;

/// Bytes taken off the stream at a time.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Addresses of a server's name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Pages of history that may be on their way at once.
const PAGES_MAX: u32 = 8;
/// How long one of them may take to answer.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// How long a silent path counts as alive: longer than heartbeats are apart, however the network delays them.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// The sockets of a client, one for each family of addresses, made when they are first needed. All its connections share them,
/// so that they move to another network together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoints(Arc<Mutex<Made>>);

#[derive(Debug, Default)]
struct Made {
    v4: Option<Endpoint>,
    v6: Option<Endpoint>,
}

impl Endpoints {
    fn get(&self, family: &SocketAddr) -> io::Result<Endpoint> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = if family.is_ipv4() { &mut made.v4 } else { &mut made.v6 };
        if let Some(endpoint) = place {
            return Ok(endpoint.clone());
        }
        let endpoint = Endpoint::new(EndpointConfig::default(), None, socket(family)?, Arc::new(TokioRuntime))?;
        Ok(place.insert(endpoint).clone())
    }

    /// Every connection goes on from a new socket: the network has changed.
    pub(crate) fn rebind(&self) {
        let made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for endpoint in made.v4.iter().chain(&made.v6) {
            let moved = endpoint.local_addr().and_then(|family| socket(&family)).and_then(|to| endpoint.rebind(to));
            if let Err(error) = moved {
                // The connections stay where they are, and fail by themselves if that is nowhere.
                tracing::warn!(%error, "QUIC cannot move to another socket");
            }
        }
    }
}

/// A socket at any port, for addresses like `family`.
fn socket(family: &SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if family.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    UdpSocket::bind((any, 0))
}

pub(super) struct Quic {
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
    cut: Cut,
    /// Streams of pages: at most [`PAGES_MAX`], each of at most [`MESSAGE_BYTES_MAX`].
    pages: JoinSet<Result<Vec<u8>, ReadToEndError>>,
    /// What the stream belongs to, by WebTransport.
    session: Option<Session>,
}

impl Quic {
    /// Connects to the first address of the server that answers.
    pub(super) async fn open(url: &Url, manner: &Manner) -> Result<Self, Gone> {
        Self::begin(connect(url, manner, limits::ALPN.as_bytes()).await?).await
    }

    /// The same by WebTransport.
    pub(super) async fn open_webtransport(url: &Url, manner: &Manner) -> Result<Self, Gone> {
        let connection = connect(url, manner, webtransport::ALPN).await?;
        let opening = async {
            let session = Session::open(&connection, url).await?;
            let (send, recv) = session.stream(&connection).await?;
            Ok(Self {
                connection: connection.clone(),
                send,
                recv,
                cut: Cut::default(),
                pages: JoinSet::new(),
                session: Some(session),
            })
        };
        match timeout(HANDSHAKE_WITHIN, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Gone::Failed("no session by WebTransport in time".to_owned())),
        }
    }

    async fn begin(connection: Connection) -> Result<Self, Gone> {
        // The server hears of the stream with the first bytes on it.
        let (send, recv) = connection.open_bi().await.map_err(|error| broke(&error))?;
        Ok(Self { connection, send, recv, cut: Cut::default(), pages: JoinSet::new(), session: None })
    }

    pub(super) const fn way(&self) -> Way {
        if self.session.is_some() { Way::WebTransport } else { Way::Quic }
    }

    /// The next frames. Nothing is lost if the wait is given up.
    pub(super) async fn next(&mut self) -> Result<Bytes, Gone> {
        loop {
            let chunk = tokio::select! {
                chunk = self.recv.read_chunk(READ_BYTES_MAX, true) => chunk,
                datagram = self.connection.read_datagram() => {
                    let datagram = datagram.map_err(|error| self.broke(&error))?;
                    match &self.session {
                        None => return Ok(datagram),
                        Some(session) => match session.payload(&datagram) {
                            Some(payload) => return Ok(payload),
                            None => continue,
                        },
                    }
                }
                stream = self.connection.accept_uni(), if self.session.is_none() => {
                    let mut stream = stream.map_err(|error| broke(&error))?;
                    self.pages.spawn(async move { stream.read_to_end(MESSAGE_BYTES_MAX).await });
                    continue;
                }
                Some(page) = self.pages.join_next() => match page {
                    Ok(Ok(page)) => return whole(page),
                    // It did not fit there and comes by the stream; or the connection is about to say why it is over.
                    Ok(Err(ReadToEndError::Read(_))) | Err(_) => continue,
                    Ok(Err(ReadToEndError::TooLong)) => return Err(Gone::Failed("a page of history is too long".to_owned())),
                },
                gone = ended(&mut self.session) => return Err(gone),
            };
            let chunk = match chunk {
                Ok(Some(chunk)) => chunk.bytes,
                Ok(None) => return Err(self.last_words().await),
                Err(ReadError::ConnectionLost(error)) => return Err(self.broke(&error)),
                Err(error) => return Err(failed(&error)),
            };
            let (mut frames, mut at) = (BytesMut::with_capacity(chunk.len()), 0);
            while let Some(frame) = self.cut.next(&chunk, &mut at, MESSAGE_BYTES_MAX).map_err(|error| failed(&error))? {
                frames.extend_from_slice(frame);
            }
            if !frames.is_empty() {
                return Ok(frames.freeze());
            }
        }
    }

    pub(super) async fn send(&mut self, payload: Bytes) -> Result<(), Gone> {
        match self.send.write_chunk(payload).await {
            Ok(()) => Ok(()),
            Err(WriteError::ConnectionLost(error)) => Err(self.broke(&error)),
            // The stream was refused: the connection is about to say why.
            Err(_) => Err(self.last_words().await),
        }
    }

    /// The stream is over: the close behind it has the reason.
    async fn last_words(&mut self) -> Gone {
        let connection = self.connection.clone();
        let said = async {
            tokio::select! {
                biased;
                gone = ended(&mut self.session) => gone,
                error = connection.closed() => self.broke(&error),
            }
        };
        match timeout(CLOSE_WITHIN, said).await {
            Ok(gone) => gone,
            Err(_) => Gone::Closed { code: None, reason: String::new() },
        }
    }

    fn broke(&self, error: &ConnectionError) -> Gone {
        match error {
            // What closes a connection of HTTP/3 is none of our codes.
            ConnectionError::ApplicationClosed(_) if self.session.is_some() => failed(error),
            error => broke(error),
        }
    }

    /// Sees to it that what was written arrives, and says goodbye.
    pub(super) async fn close(&mut self, code: u16) {
        if self.send.finish().is_ok() {
            let _ = timeout(CLOSE_WITHIN, self.send.stopped()).await;
        }
        let code = match &mut self.session {
            None => code.into(),
            Some(session) => session.close(code).await,
        };
        self.connection.close(VarInt::from_u32(code), b"");
    }
}

/// The session's end as the server tells it; without one this takes for ever.
async fn ended(session: &mut Option<Session>) -> Gone {
    match session {
        Some(session) => session.ended().await,
        None => std::future::pending().await,
    }
}

/// Connects to the first address of the server that answers, to speak `alpn`.
async fn connect(url: &Url, manner: &Manner, alpn: &[u8]) -> Result<Connection, Gone> {
    let mut config = manner.tls.get().and_then(|tls| tls.quic(alpn)).map_err(|error| failed(&error))?;
    config.transport_config(Arc::new(transport()));
    let addresses = lookup_host((url.host(), url.port())).await.map_err(|error| failed(&error))?;
    let mut last = Gone::Failed(format!("{} has no address", url.host()));
    for address in addresses.take(ADDRESSES_MAX) {
        let endpoint = manner.endpoints.get(&address).map_err(|error| failed(&error))?;
        let connecting = endpoint.connect_with(config.clone(), address, url.host()).map_err(|error| failed(&error))?;
        match timeout(HANDSHAKE_WITHIN, connecting).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => last = broke(&error),
            Err(_) => last = Gone::Failed("no answer by QUIC".to_owned()),
        }
    }
    Err(last)
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(IdleTimeout::try_from(IDLE_MAX).ok())
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(PAGES_MAX));
    transport
}

/// What a stream of its own holds: whole frames.
fn whole(frames: Vec<u8>) -> Result<Bytes, Gone> {
    let (mut cut, mut at) = (Cut::default(), 0);
    while cut.next(&frames, &mut at, MESSAGE_BYTES_MAX).map_err(|error| failed(&error))?.is_some() {}
    if cut.is_idle() { Ok(frames.into()) } else { Err(Gone::Failed("a page of history is cut".to_owned())) }
}

pub(super) fn failed(error: &dyn std::fmt::Display) -> Gone {
    Gone::Failed(error.to_string())
}

fn broke(error: &ConnectionError) -> Gone {
    match error {
        ConnectionError::ApplicationClosed(close) => Gone::Closed {
            code: u16::try_from(close.error_code.into_inner()).ok(),
            reason: String::from_utf8_lossy(&close.reason).into_owned(),
        },
        error => failed(error),
    }
}
