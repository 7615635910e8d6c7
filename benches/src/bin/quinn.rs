//! The QUIC server that Roost is compared with: quinn as it comes, a task per connection.
//!
//! It speaks as much of Roost as a load needs, so that the same clients measure both: everybody may enter, nothing is stored,
//! a publish goes to every subscriber as the same bytes.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use clap::Parser;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, Incoming, SendStream, ServerConfig};
use roost_benches::peer::secret;
use roost_wire::native::Cut;
use roost_wire::pb::{self, Frame};
use roost_wire::{Encoding, FrameBody, limits};
use tokio::sync::broadcast;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Pushes that may wait for one connection; a connection that is further behind loses the oldest.
const PUSHES_WAITING_MAX: usize = 1024;
const READ_BYTES_MAX: usize = 64 * 1024;

#[derive(Parser)]
#[command(about = "The quinn server that benches compare Roost's QUIC with")]
struct Args {
    /// Where to listen (UDP)
    #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))]
    listen: SocketAddr,
    /// Written once clients can connect: {"listen": …}
    #[arg(long, value_name = "FILE")]
    ready_file: PathBuf,
    /// The certificate is written here, for `roost-load --ca`
    #[arg(long, value_name = "FILE")]
    cert_file: PathBuf,
}

/// What all connections share.
struct Everybody {
    pushes: broadcast::Sender<Bytes>,
    users: AtomicU64,
    seqs: AtomicU64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let tls = secret(&args.cert_file, limits::ALPN)?;
    let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    let endpoint = Endpoint::server(config, args.listen)?;
    let ready = format!("{{\"listen\":\"{}\"}}\n", endpoint.local_addr()?);
    std::fs::write(&args.ready_file, ready).context("cannot write the ready file")?;
    let pushes = broadcast::channel(PUSHES_WAITING_MAX).0;
    let everybody = Arc::new(Everybody { pushes, users: AtomicU64::new(0), seqs: AtomicU64::new(0) });
    while let Some(incoming) = endpoint.accept().await {
        let everybody = Arc::clone(&everybody);
        // Boxed: the future of the handshake would otherwise be part of every task for good.
        tokio::spawn(Box::pin(async move {
            // A connection that fails is a client that left.
            let _ = serve(incoming, &everybody).await;
        }));
    }
    Ok(())
}

async fn serve(incoming: Incoming, everybody: &Everybody) -> anyhow::Result<()> {
    let connection = incoming.await?;
    let (mut send, mut recv) = connection.accept_bi().await?;
    let hello = pb::Hello { node: "quinn".into(), protocol: limits::ALPN.into(), connect_within_ms: 10_000 };
    say(&mut send, 0, FrameBody::Hello(hello)).await?;
    let (mut pushes, mut cut) = (None, Cut::default());
    loop {
        tokio::select! {
            chunk = recv.read_chunk(READ_BYTES_MAX, true) => {
                let Some(chunk) = chunk? else { return Ok(()) };
                let mut at = 0;
                while let Some(mut frame) = cut.next(&chunk.bytes, &mut at, limits::FRAME_BYTES_MAX)? {
                    if let Some(frame) = Encoding::Protobuf.decode(&mut frame)? {
                        answer(frame, everybody, &mut send, &mut pushes).await?;
                    }
                }
            }
            push = next(&mut pushes) => send.write_chunk(push).await?,
        }
    }
}

/// The next push; never, for who has not subscribed.
async fn next(pushes: &mut Option<broadcast::Receiver<Bytes>>) -> Bytes {
    if let Some(pushes) = pushes {
        loop {
            match pushes.recv().await {
                Ok(push) => return push,
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => break,
            }
        }
    }
    std::future::pending().await
}

async fn answer(
    frame: Frame,
    everybody: &Everybody,
    send: &mut SendStream,
    pushes: &mut Option<broadcast::Receiver<Bytes>>,
) -> anyhow::Result<()> {
    let reply = match frame.body {
        Some(FrameBody::Connect(_)) => {
            let user = format!("u_{}", everybody.users.fetch_add(1, Ordering::Relaxed));
            FrameBody::Welcome(pb::Welcome { user, heartbeat_ms: 60_000, fresh: true, ..pb::Welcome::default() })
        }
        Some(FrameBody::Ping(_)) => FrameBody::Pong(pb::Pong {}),
        Some(FrameBody::Subscribe(_)) => {
            *pushes = Some(everybody.pushes.subscribe());
            FrameBody::Ok(pb::Ok {})
        }
        Some(FrameBody::Publish(publish)) => {
            let seq = everybody.seqs.fetch_add(1, Ordering::Relaxed) + 1;
            let conv = publish.channel;
            let entry = pb::Entry { conv: conv.clone(), seq, body: publish.body, ..pb::Entry::default() };
            let _ = everybody.pushes.send(written(0, FrameBody::Entry(entry)));
            FrameBody::Sent(pb::Sent { conv, seq, ts: 0, dup: false })
        }
        _ => return Ok(()),
    };
    say(send, frame.rid, reply).await
}

fn written(rid: u64, body: FrameBody) -> Bytes {
    let mut bytes = BytesMut::new();
    Encoding::Protobuf.encode(&Frame { rid, body: Some(body) }, &mut bytes);
    bytes.freeze()
}

async fn say(send: &mut SendStream, rid: u64, body: FrameBody) -> anyhow::Result<()> {
    Ok(send.write_chunk(written(rid, body)).await?)
}
