//! The server that Roost is compared with: what a good Rust developer writes in an afternoon with tokio-tungstenite.
//!
//! WebSocket at any path. A message is echoed; one that begins with `!` goes to every connection instead. Built to be
//! fast: a task per connection, the bytes of a broadcast shared, TCP_NODELAY, a read buffer of 1 KiB (the default of
//! 128 KiB would make the comparison of memory unfair), a write buffer so that waiting broadcasts leave together, mimalloc.

use std::sync::Arc;

use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use roost_benches::peer::{Place, is_to_all};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
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
}

/// Broadcasts that may wait for one connection; a connection that is further behind loses the oldest.
const BROADCASTS_WAITING_MAX: usize = 1024;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let place = Args::parse().place;
    let listener = place.listen()?;
    place.ready(&listener)?;
    let listener = TcpListener::from_std(listener)?;
    let everybody = Arc::new(broadcast::channel(BROADCASTS_WAITING_MAX).0);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let everybody = Arc::clone(&everybody);
                // Boxed: the future of the handshake would otherwise be part of every task for good.
                tokio::spawn(Box::pin(async move {
                    // A connection that fails is a client that left.
                    let _ = serve(stream, &everybody).await;
                }));
            }
            // Out of descriptors, most likely: give connections time to end.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

async fn serve(stream: TcpStream, everybody: &broadcast::Sender<Message>) -> anyhow::Result<()> {
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
