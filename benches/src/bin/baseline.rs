//! The server that Roost is compared with: what a good Rust developer writes in an afternoon with tokio-tungstenite.
//!
//! WebSocket at any path. A message is echoed; one that begins with `!` goes to every connection instead. Built to be
//! fast: a task per connection, the bytes of a broadcast shared, TCP_NODELAY, a read buffer of 1 KiB (the default of
//! 128 KiB would make the comparison of memory unfair), a write buffer so that waiting broadcasts leave together, mimalloc.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use futures_util::{SinkExt, StreamExt};
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
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Write one line of JSON with address and pid here once it listens
    #[arg(long)]
    ready_file: Option<PathBuf>,
}

/// Broadcasts that may wait for one connection; a connection that is further behind loses the oldest.
const BROADCASTS_WAITING_MAX: usize = 1024;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let socket = socket2::Socket::new(socket2::Domain::for_address(args.listen), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&args.listen.into()).with_context(|| format!("cannot bind {}", args.listen))?;
    socket.listen(4096)?;
    let listener = TcpListener::from_std(socket.into())?;
    let line = format!("{{\"listen\":\"{}\",\"pid\":{}}}\n", listener.local_addr()?, std::process::id());
    match &args.ready_file {
        Some(path) => {
            let half = path.with_extension("half");
            std::fs::write(&half, &line)?;
            std::fs::rename(&half, path)?;
        }
        None => print!("{line}"),
    }
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
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(1024).write_buffer_size(16 * 1024);
    let mut socket = accept_async_with_config(stream, Some(config)).await?;
    let mut broadcasts = everybody.subscribe();
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    if message.to_text().is_ok_and(|text| text.starts_with('!')) {
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
