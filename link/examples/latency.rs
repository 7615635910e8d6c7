//! What a router in another process adds to a send and to a delivery: two sessions at one edge, the router first in the
//! same process, then behind a link over loopback. One send at a time, the store in memory.
//!
//! `cargo run --release -p roost-link --example latency [SENDS]`

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use roost_edge::{Edge, EdgeConfig, HttpIo, HttpService, Running, Upstream};
use roost_link::{ApiService, EdgeLink, Fabric, LinkConfig, LinkService, NodeName, Routers, serve};
use roost_router::auth::Keys;
use roost_router::{Alone, Router, RouterConfig, SystemEnv};
use roost_storage::MemoryStore;
use roost_wire::link::Up;
use roost_wire::pb::{self, Frame};
use roost_wire::{Encoding, FrameBody};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Bytes, Message, client::IntoClientRequest};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

type Node = Router<MemoryStore, Fabric, SystemEnv, Alone>;
type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Sends before it is measured.
const WARM_UP: usize = 500;

struct Here(OnceLock<Arc<Node>>);

impl Upstream for Here {
    fn submit(&self, batch: &mut Vec<Up>) {
        self.0.get().expect("set before anybody connects").submit(batch);
    }
}

struct NoPages;

impl HttpService for NoPages {
    fn serve(&self, _: HttpIo, _: SocketAddr) {}
}

fn edge_config() -> EdgeConfig {
    let mut config = EdgeConfig { listen: ([127, 0, 0, 1], 0).into(), shards: 1, ..EdgeConfig::default() };
    config.shard.sends_per_second = 1_000_000;
    config.shard.sends_burst = 1_000_000;
    config.shard.frames_per_second = 1_000_000;
    config.shard.frames_burst = 1_000_000;
    config
}

fn router(fabric: &Arc<Fabric>) -> Arc<Node> {
    let (keys, store) = (Keys::new(&[7; 32]), Arc::new(MemoryStore::default()));
    Router::new(RouterConfig::default(), keys, store, Arc::clone(fabric), SystemEnv)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sends = std::env::args().nth(1).map_or(Ok(20_000), |sends| sends.parse::<usize>())?;
    let bound = Edge::bind(edge_config())?;
    let fabric = Fabric::new(Some(bound.handle()), LinkConfig::default());
    let here = Arc::new(Here(OnceLock::new()));
    here.0.set(router(&fabric)).map_err(|_| "set twice")?;
    let running: Running = bound.start(here, Arc::new(NoPages))?;
    report("the same process", running.handle().local_addr(), sends).await?;

    let fabric = Fabric::new(None, LinkConfig::default());
    let far = router(&fabric);
    let name = |node: &str| NodeName { node: node.into(), incarnation: 1 };
    let link = LinkService::new(Arc::clone(&far), Arc::clone(&fabric), name("router"));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let serving = serve(listener, None, false, link, ApiService::new(far, fabric))?;
    let bound = Edge::bind(edge_config())?;
    let routers = serving.local_addr().to_string().parse::<Routers>()?.watch();
    let link = EdgeLink::new(bound.handle(), name("edge"), routers, None, false, LinkConfig::default());
    while link.routers() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let running = bound.start(link, Arc::new(NoPages))?;
    report("a link over loopback", running.handle().local_addr(), sends).await?;
    Ok(())
}

/// Measures sends of one session to another, one at a time.
async fn report(name: &str, addr: SocketAddr, sends: usize) -> Result<(), Box<dyn std::error::Error>> {
    let (mut ada, mut bob) = (enter(addr, "Ada").await?, enter(addr, "Bob").await?);
    let create = pb::Create { kind: pb::Kind::Direct.into(), members: vec![bob.1.clone()], ..pb::Create::default() };
    say(&mut ada.0, 2, FrameBody::Create(create)).await?;
    let FrameBody::Conversation(made) = hear(&mut ada.0).await? else { return Err("no conversation".into()) };
    let (mut sent, mut told) = (Vec::new(), Vec::new());
    for n in 0..WARM_UP + sends {
        let body = Some(pb::Body { text: "a message of a common length".into(), event: None });
        let send = pb::Send { conv: made.conv.clone(), cmid: n.to_string(), body, ..pb::Send::default() };
        let began = Instant::now();
        say(&mut ada.0, 3, FrameBody::Send(send)).await?;
        let answered = async {
            while !matches!(hear(&mut ada.0).await?, FrameBody::Sent(_)) {}
            Ok::<_, Box<dyn std::error::Error>>(began.elapsed())
        };
        let delivered = async {
            while !matches!(hear(&mut bob.0).await?, FrameBody::Entry(_)) {}
            Ok::<_, Box<dyn std::error::Error>>(began.elapsed())
        };
        let (answered, delivered) = tokio::join!(answered, delivered);
        if n >= WARM_UP {
            sent.push(answered?);
            told.push(delivered?);
        }
    }
    for (what, mut times) in [("acknowledged", sent), ("delivered", told)] {
        times.sort_unstable();
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_micros();
        println!("{name:22} {what:13} p50 {:5} us   p99 {:5} us   p99.9 {:5} us", at(0.5), at(0.99), at(0.999));
    }
    Ok(())
}

async fn enter(addr: SocketAddr, name: &str) -> Result<(Socket, String), Box<dyn std::error::Error>> {
    let mut request = format!("ws://{addr}/ws").into_client_request()?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", Encoding::Protobuf.subprotocol().parse()?);
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await?;
    hear(&mut socket).await?;
    let connect = pb::Connect { guest: name.into(), device: "one".into(), ..pb::Connect::default() };
    say(&mut socket, 1, FrameBody::Connect(connect)).await?;
    match hear(&mut socket).await? {
        FrameBody::Welcome(welcome) => Ok((socket, welcome.user)),
        other => Err(format!("not let in: {other:?}").into()),
    }
}

async fn say(socket: &mut Socket, rid: u64, body: FrameBody) -> Result<(), Box<dyn std::error::Error>> {
    let mut out = Default::default();
    Encoding::Protobuf.encode(&Frame { rid, body: Some(body) }, &mut out);
    Ok(socket.send(Message::Binary(Bytes::from(out.to_vec()))).await?)
}

/// The next frame. Here a message holds one: nothing is in flight beside it.
async fn hear(socket: &mut Socket) -> Result<FrameBody, Box<dyn std::error::Error>> {
    loop {
        let message = socket.next().await.ok_or("the connection ended")??;
        if let Message::Binary(bytes) = message
            && let Some(frame) = Encoding::Protobuf.decode(&mut &bytes[..])?
        {
            return frame.body.ok_or_else(|| "an empty frame".into());
        }
    }
}
