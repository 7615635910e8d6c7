//! The server that Roost is compared with: what a good Rust developer writes in an afternoon with tokio-tungstenite.
//!
//! WebSocket at any path, over TLS (tokio-rustls) if it is asked to. A message is echoed; one that begins with `!` goes to every connection instead. Built to be
//! fast: a task per connection, the bytes of a broadcast shared, TCP_NODELAY, a read buffer of 1 KiB (the default of
//! 128 KiB would make the comparison of memory unfair), a write buffer so that waiting broadcasts leave together, mimalloc.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use roost_benches::peer::{Place, is_to_all, secret};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(about = "The tokio-tungstenite server that benches compare Roost with")]
struct Args {
    #[command(flatten)]
    place: Place,
    /// Speak TLS; the certificate is written here, for `roost-load --ca`
    #[arg(long, value_name = "FILE")]
    cert_file: Option<PathBuf>,
}

/// Broadcasts that may wait for one connection; a connection that is further behind loses the oldest.
const BROADCASTS_WAITING_MAX: usize = 1024;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Args { place, cert_file } = Args::parse();
    let secret = cert_file.map(|file| secret(&file, "http/1.1")).transpose()?;
    let acceptor = secret.map(|config| TlsAcceptor::from(Arc::new(config)));
    let listener = place.listen()?;
    place.ready(&listener)?;
    let listener = TcpListener::from_std(listener)?;
    let everybody = Arc::new(broadcast::channel(BROADCASTS_WAITING_MAX).0);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (everybody, acceptor) = (Arc::clone(&everybody), acceptor.clone());
                // A connection that fails is a client that left. Boxed: the future of the handshake would otherwise be part of
                // every task for good.
                match acceptor {
                    None => drop(tokio::spawn(Box::pin(async move { serve(stream, &everybody).await }))),
                    Some(acceptor) => drop(tokio::spawn(Box::pin(async move {
                        let stream = Box::pin(acceptor.accept(stream)).await?;
                        serve(stream, &everybody).await
                    }))),
                }
            }
            // Out of descriptors, most likely: give connections time to end.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

async fn serve<S>(stream: S, everybody: &broadcast::Sender<Message>) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default().read_buffer_size(1024).write_buffer_size(16 * 1024);
    let mut socket = accept_async_with_config(stream, Some(config)).await?;
    let mut broadcasts = everybody.subscribe();
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    if message.to_text().is_ok_and(|text| is_to_all(text.as_bytes())) {
                        everybody.send(message)?;
                    } else {
                        socket.send(message).await?;
                    }
                }
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(_)) => {} // Pings are answered by the library.
                Some(Err(error)) => return Err(error.into()),
            },
            broadcast = broadcasts.recv() => match broadcast {
                Ok(message) => {
                    // What waits already leaves in the same flush.
                    socket.feed(message).await?;
                    while let Ok(message) = broadcasts.try_recv() {
                        socket.feed(message).await?;
                    }
                    socket.flush().await?;
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            },
        }
    }
}
