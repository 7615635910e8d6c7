//! The gRPC server of a node: the link, the API, health and reflection at one address.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::config::{MESSAGE_BYTES_MAX, WINDOW_BYTES};
use crate::proto::API_DESCRIPTORS;
use crate::proto::api::roost_server::RoostServer;
use crate::proto::link::link_server::LinkServer;
use crate::{ApiService, Hub, LinkService, LinkTls, TlsError};

/// A connection must have finished its TLS handshake within this time.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Connections whose handshakes are under way or that wait to be served.
const CONNECTIONS_WAITING_MAX: usize = 128;
/// Calls under way on one connection.
const STREAMS_MAX: u32 = 1024;
/// Pause after accepting failed: for want of descriptors, most likely.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Why a node serves no gRPC.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Without TLS whoever can reach the port may act as an edge, and so as any user.
    #[error("without TLS gRPC is for loopback only, and {0} is not (say so if the network is trusted)")]
    Insecure(SocketAddr),
    /// See [`TlsError`].
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The reflection service cannot be made.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The address cannot be used.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A running server. Dropping it takes no more connections; those that are there last as long as the runtime.
pub struct Serving {
    addr: SocketAddr,
    health: tonic_health::server::HealthReporter,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
    accepting: JoinHandle<()>,
}

impl Serving {
    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// What health says from now on: not serving, so that callers go elsewhere.
    pub async fn not_ready(&self) {
        self.health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        self.health.set_service_status(API_NAME, tonic_health::ServingStatus::NotServing).await;
    }

    /// Takes no more calls, and waits until those under way are done, or `within` is over.
    pub async fn stop(mut self, within: Duration) {
        self.accepting.abort();
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let _ = tokio::time::timeout(within, &mut self.served).await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.accepting.abort();
        self.served.abort();
    }
}

/// The name of the API, for health checks.
const API_NAME: &str = "roost.api.v1.Roost";

/// Serves edges and backends on `listener`.
///
/// `tls`: both sides show certificates; callers of the API may come without. `None` on an address that is not loopback
/// needs `insecure`.
///
/// # Errors
/// See [`ServeError`].
pub fn serve<H: Hub>(
    listener: TcpListener,
    tls: Option<&LinkTls>,
    insecure: bool,
    link: LinkService<H>,
    api: ApiService<H>,
) -> Result<Serving, ServeError> {
    let addr = listener.local_addr()?;
    if tls.is_none() && !insecure && !addr.ip().is_loopback() {
        return Err(ServeError::Insecure(addr));
    }
    let fabric = Arc::clone(link.fabric());
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(API_DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let tls = tls.map(LinkTls::server).transpose()?;
    if tls.is_some() {
        link.want_certificates();
    }
    let router = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .max_concurrent_streams(Some(STREAMS_MAX))
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .add_service(LinkServer::new(link).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(RoostServer::new(api).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(health_service)
        .add_service(reflection);
    let (stop, stopped) = oneshot::channel();
    let stopped = async {
        let _ = stopped.await;
    };
    let marking = health.clone();
    let (accepting, served) = match tls {
        None => {
            let (connections, accepting) = accept(listener, |stream| async move { Some(stream) });
            let serving = router.serve_with_incoming_shutdown(connections, stopped);
            (accepting, tokio::spawn(run(serving, marking)))
        }
        Some(tls) => {
            let acceptor = TlsAcceptor::from(tls);
            let (connections, accepting) = accept(listener, move |stream: TcpStream| {
                let (acceptor, fabric) = (acceptor.clone(), Arc::clone(&fabric));
                async move {
                    let peer = stream.peer_addr().ok()?;
                    match tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => Some(stream),
                        Ok(Err(error)) => {
                            fabric.metrics.handshakes_failed.add(1);
                            tracing::warn!(%peer, %error, "a gRPC connection was refused");
                            None
                        }
                        Err(_) => {
                            fabric.metrics.handshakes_failed.add(1);
                            tracing::warn!(%peer, "a gRPC connection did not finish its TLS handshake in time");
                            None
                        }
                    }
                }
            });
            let serving = router.serve_with_incoming_shutdown(connections, stopped);
            (accepting, tokio::spawn(run(serving, marking)))
        }
    };
    Ok(Serving { addr, health, stop: Some(stop), served, accepting })
}

async fn run(
    serving: impl Future<Output = Result<(), tonic::transport::Error>>,
    health: tonic_health::server::HealthReporter,
) {
    health.set_service_status(API_NAME, tonic_health::ServingStatus::Serving).await;
    if let Err(error) = serving.await {
        tracing::error!(%error, "the gRPC server ended");
    }
}

/// Accepts connections and `greets` each in a task of its own.
fn accept<IO, G, F>(
    listener: TcpListener,
    greet: G,
) -> (impl stream::Stream<Item = Result<IO, io::Error>>, JoinHandle<()>)
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    G: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = Option<IO>> + Send + 'static,
{
    let (ready, connections) = mpsc::channel(CONNECTIONS_WAITING_MAX);
    let accepting = tokio::spawn(async move {
        loop {
            // Room first: who waits in the kernel's queue costs us nothing.
            let Ok(permit) = ready.clone().reserve_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a gRPC connection");
                    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            let greeting = greet(stream);
            tokio::spawn(async move {
                if let Some(stream) = greeting.await {
                    permit.send(Ok(stream));
                }
            });
        }
    });
    let connections = stream::unfold(connections, |mut connections| async move {
        let next: Result<IO, io::Error> = connections.recv().await?;
        Some((next, connections))
    });
    (connections, accepting)
}
