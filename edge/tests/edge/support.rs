//! A router of a few lines, an HTTP service, and clients.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use roost_edge::{Bound, DriverKind, Edge, EdgeConfig, EdgeHandle, HttpIo, HttpService, Running, Upstream};
use roost_wire::link::{Audience, Down, Envelope, Lane, SessionKey, Up};
use roost_wire::pb::{self, Frame};
use roost_wire::ws::{self, Decoder, Event, Side};
use roost_wire::{CloseCode, ConvId, Encoding, ErrorCode, FrameBody, UserId};
use tokio::runtime::Runtime;

/// Nothing here takes this long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Lets everybody but "nobody" in, joins all to the topic "news", and answers SEND and PUBLISH.
#[derive(Default)]
pub(crate) struct Router {
    edge: OnceLock<EdgeHandle>,
    pub(crate) gone: std::sync::Mutex<Vec<SessionKey>>,
    pub(crate) connected: std::sync::Mutex<Vec<SessionKey>>,
}

impl Router {
    fn answer(&self, up: Up) -> Vec<Down> {
        match up {
            Up::Connect { session, rid, connect, .. } if connect.guest == "nobody" => {
                let error = ErrorCode::GuestsOff.error();
                vec![Down::Refused { session, rid, error, close: CloseCode::Unauthenticated }]
            }
            Up::Connect { session, rid, connect, .. } => {
                self.connected.lock().unwrap().push(session);
                let user = UserId::new(&format!("u_{}", connect.guest)).expect("a guest's name fits an id");
                let welcome =
                    pb::Welcome { user: user.to_string(), session: session.to_string(), ..Default::default() };
                let topic = ConvId::channel("news").expect("a name");
                vec![Down::Accepted { session, rid, user, welcome: Box::new(welcome) }, Down::Join { session, topic }]
            }
            Up::Command { session, rid, body, .. } => {
                let (conv, text) = match body {
                    FrameBody::Send(send) => (send.conv, send.body.unwrap_or_default().text),
                    FrameBody::Publish(publish) => (publish.channel, publish.body.unwrap_or_default().text),
                    _ => {
                        let body = Some(FrameBody::Error(ErrorCode::UnknownCommand.error()));
                        return vec![Down::Reply { session, frame: Some(Box::new(Frame { rid, body })) }];
                    }
                };
                let sent =
                    FrameBody::Sent(pb::Sent { conv: conv.clone(), seq: text.len() as u64, ..Default::default() });
                let reply = Down::Reply { session, frame: Some(Box::new(Frame { rid, body: Some(sent) })) };
                let Ok(topic) = ConvId::channel(&conv) else { return vec![reply] };
                vec![reply, deliver(topic, &text, Some(session))]
            }
            Up::Gone { session, .. } => {
                self.gone.lock().unwrap().push(session);
                Vec::new()
            }
        }
    }
}

/// An entry for everybody who joined `topic`.
pub(crate) fn deliver(topic: ConvId, text: &str, except: Option<SessionKey>) -> Down {
    let body = Some(pb::Body { text: text.into(), ..Default::default() });
    let entry = pb::Entry { conv: topic.to_string(), seq: 1, body, ..Default::default() };
    let envelope = Envelope::new(Lane::Durable, FrameBody::Entry(entry));
    Down::Deliver { envelope, audience: Audience::Topic { topic, except } }
}

impl Upstream for Router {
    fn submit(&self, batch: &mut Vec<Up>) {
        let edge = self.edge.get().expect("set before the start");
        for up in batch.drain(..) {
            let (Up::Connect { session, .. } | Up::Command { session, .. } | Up::Gone { session, .. }) = &up;
            let shard = session.shard();
            edge.post(shard, &mut self.answer(up));
        }
    }
}

/// hyper on a runtime: `/big/N` answers N bytes, a POST says how many bytes it got and their sum.
pub(crate) struct Hyper(pub(crate) Runtime);

impl HttpService for Hyper {
    fn serve(&self, io: HttpIo, _: SocketAddr) {
        self.0.spawn(async move {
            let service = hyper::service::service_fn(answer);
            // A client that goes away in the middle is an error here, and an expected one.
            let mut http = hyper::server::conn::http1::Builder::new();
            let _ = http.half_close(true).serve_connection(TokioIo::new(io), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = match request.uri().path().strip_prefix("/big/").and_then(|len| len.parse().ok()) {
        Some(len) => Bytes::from(pattern(len)),
        None => {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
            let sum: u64 = body.iter().map(|byte| u64::from(*byte)).sum();
            Bytes::from(format!("{path} {} {sum}", body.len()))
        }
    };
    Ok(Response::new(Full::new(body)))
}

/// Bytes that tell when one is lost, doubled or moved.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// A running edge with the router and hyper behind it; dropping it stops it.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) router: Arc<Router>,
    pub(crate) running: Running,
}

pub(crate) fn config() -> EdgeConfig {
    EdgeConfig { listen: ([127, 0, 0, 1], 0).into(), shards: 2, driver: driver(), ..EdgeConfig::default() }
}

/// The suite is run once with each driver: see `cargo xtask test`.
fn driver() -> DriverKind {
    match std::env::var("ROOST_DRIVER").as_deref() {
        Ok("poll") => DriverKind::Poll,
        Ok("uring") => DriverKind::Uring,
        _ => DriverKind::Auto,
    }
}

pub(crate) fn serve(config: EdgeConfig) -> Server {
    Server::start(Edge::bind(config).expect("port 0 is free"), Arc::new(Router::default()), Hyper::new())
}

impl Hyper {
    pub(crate) fn new() -> Self {
        Self(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap())
    }
}

impl Server {
    pub(crate) fn start(bound: Bound, router: Arc<Router>, http: Hyper) -> Self {
        assert!(router.edge.set(bound.handle()).is_ok());
        let addr = bound.local_addr();
        let running = bound.start(router.clone(), Arc::new(http)).unwrap();
        Self { addr, router, running }
    }
}

impl Server {
    pub(crate) fn handle(&self) -> &EdgeHandle {
        self.running.handle()
    }

    /// Waits until the metrics say so.
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&roost_edge::EdgeSnapshot) -> bool) {
        let give_up = Instant::now() + PATIENCE;
        while !holds(&self.handle().metrics()) {
            assert!(Instant::now() < give_up, "{what}: {:?}", self.handle().metrics().total);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A blocking client: frames by hand, so that tests can cut and hold back bytes.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
    decoder: Decoder,
    encoding: Encoding,
    /// Read and not decoded yet.
    input: Vec<u8>,
}

/// What a client was told.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    Frame(Box<Frame>),
    /// A close frame.
    Closed(Option<u16>),
    /// The end of the stream without one.
    End,
}

impl Client {
    /// Upgrades, and reads HELLO.
    pub(crate) fn open(addr: SocketAddr, encoding: Encoding) -> Self {
        let mut client = Self::upgrade(TcpStream::connect(addr).unwrap(), encoding);
        assert!(matches!(client.hear(), Heard::Frame(frame) if matches!(frame.body, Some(FrameBody::Hello(_)))));
        client
    }

    pub(crate) fn upgrade(stream: TcpStream, encoding: Encoding) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream, encoding)
    }

    /// Becomes a session.
    pub(crate) fn connect(addr: SocketAddr, encoding: Encoding, guest: &str) -> Self {
        let mut client = Self::open(addr, encoding);
        client.enter(guest);
        client
    }
}

impl<S: Read + Write> Client<S> {
    /// Upgrades on a stream of any kind.
    pub(crate) fn over(stream: S, encoding: Encoding) -> Self {
        let decoder = Decoder::new(Side::Client, 1 << 20);
        let mut client = Self { stream, decoder, encoding, input: Vec::new() };
        let head = format!(
            "GET /ws HTTP/1.1\r\nHost: edge\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: {}\r\n\r\n",
            encoding.subprotocol()
        );
        client.stream.write_all(head.as_bytes()).unwrap();
        let head = client.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        client
    }

    fn read_head(&mut self) -> String {
        loop {
            if let Some(end) = self.input.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.input.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            assert!(self.fill(), "the connection ended in the head");
        }
    }

    /// Reads more. False: the stream ended.
    fn fill(&mut self) -> bool {
        let mut buf = [0; 64 * 1024];
        match self.stream.read(&mut buf) {
            Ok(0) => false,
            Ok(n) => {
                self.input.extend_from_slice(&buf[..n]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => true,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing came: {error}"),
        }
    }

    /// The bytes of a masked message.
    pub(crate) fn message(&self, rid: u64, body: FrameBody) -> Vec<u8> {
        let key = [1, 2, 3, 4];
        let mut payload = BytesMut::new();
        self.encoding.encode(&Frame { rid, body: Some(body) }, &mut payload);
        let mut message = BytesMut::new();
        ws::write_message_header(self.encoding.message_kind(), payload.len(), Some(key), &mut message);
        ws::mask::apply(&mut payload, key, 0);
        message.extend_from_slice(&payload);
        message.to_vec()
    }

    pub(crate) fn say(&mut self, rid: u64, body: FrameBody) {
        let message = self.message(rid, body);
        self.stream.write_all(&message).unwrap();
    }

    /// The next thing the server says.
    pub(crate) fn hear(&mut self) -> Heard {
        loop {
            let mut at = 0;
            let heard = match self.decoder.next(&mut self.input, &mut at).expect("the server speaks RFC 6455") {
                Some(Event::Message { mut payload, .. }) => {
                    let frame = self.encoding.decode(&mut payload).expect("a frame").expect("not empty");
                    assert!(payload.is_empty(), "one frame per message is what the server sends");
                    Some(Heard::Frame(Box::new(frame)))
                }
                Some(Event::Close(body)) => Some(Heard::Closed(body.map(|body| body.code))),
                Some(Event::Ping(_) | Event::Pong(_)) => {
                    self.input.drain(..at);
                    continue;
                }
                None => None,
            };
            self.input.drain(..at);
            match heard {
                Some(heard) => return heard,
                None if !self.fill() => return Heard::End,
                None => {}
            }
        }
    }

    pub(crate) fn hear_frame(&mut self) -> Frame {
        match self.hear() {
            Heard::Frame(frame) => *frame,
            other => panic!("{other:?}"),
        }
    }

    /// What the server closes with; frames before it are passed over.
    pub(crate) fn hear_close(&mut self) -> Option<u16> {
        loop {
            match self.hear() {
                Heard::Frame(_) => {}
                Heard::Closed(code) => return code,
                Heard::End => panic!("the stream ended without a close frame"),
            }
        }
    }

    /// Sends CONNECT and reads WELCOME.
    pub(crate) fn enter(&mut self, guest: &str) {
        self.say(1, FrameBody::Connect(pb::Connect { guest: guest.into(), ..Default::default() }));
        let frame = self.hear_frame();
        let Some(FrameBody::Welcome(welcome)) = &frame.body else { panic!("{frame:?}") };
        assert_eq!((frame.rid, welcome.user.as_str()), (1, &*format!("u_{guest}")));
    }

    pub(crate) fn entry(&mut self) -> String {
        match self.hear_frame().body {
            Some(FrameBody::Entry(entry)) => entry.body.unwrap_or_default().text,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn send(text: &str) -> FrameBody {
    let body = Some(pb::Body { text: text.into(), ..Default::default() });
    FrameBody::Send(pb::Send { conv: "c_1".into(), cmid: "1".into(), body, ..Default::default() })
}

pub(crate) fn publish(text: &str) -> FrameBody {
    let body = Some(pb::Body { text: text.into(), ..Default::default() });
    FrameBody::Publish(pb::Publish { channel: "news".into(), body, ..Default::default() })
}

/// Begins a request on each of `held`, of which there are more than fit, and waits until one that found no room is told
/// so, not necessarily the last.
pub(crate) fn one_is_refused(held: &mut [TcpStream], began: Instant) {
    for stream in &mut *held {
        stream.write_all(b"GET /").unwrap();
        stream.set_nonblocking(true).unwrap();
    }
    let mut refused = None;
    while refused.is_none() {
        assert!(began.elapsed() < PATIENCE, "nobody was refused");
        std::thread::sleep(Duration::from_millis(10));
        refused = held.iter_mut().find_map(|stream| {
            let mut answer = [0; 64];
            let n = stream.read(&mut answer).ok()?;
            Some(String::from_utf8_lossy(&answer[..n]).into_owned())
        });
    }
    assert!(refused.as_deref().is_some_and(|answer| answer.starts_with("HTTP/1.1 503 ")), "{refused:?}");
}
