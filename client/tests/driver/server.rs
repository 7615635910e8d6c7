//! A server on a real socket that knows a few commands and several ways to misbehave.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use http::HeaderValue;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use roost_wire::{Encoding, FrameBody, pb};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// How the server misbehaves.
#[derive(Clone, Copy, Default)]
pub(crate) struct Behaviour {
    /// Breaks the connection instead of answering this SEND (counted from 1).
    pub(crate) cut_after_sends: Option<u32>,
    /// The first connection is deaf after WELCOME.
    pub(crate) first_is_deaf: bool,
    /// CONNECT is refused with this code.
    pub(crate) refuse: Option<u32>,
}

enum Order {
    Frame(u64, FrameBody),
    Close(u16),
    Cut,
}

#[derive(Default)]
struct Log {
    entries: Vec<pb::Entry>,
    delivered: u64,
}

#[derive(Default)]
struct Logs {
    logs: BTreeMap<String, Log>,
    changes: u64,
    sessions: Vec<mpsc::UnboundedSender<Order>>,
    sends: u32,
    hold: bool,
}

#[derive(Default)]
struct Counts {
    connections: usize,
    open: usize,
}

pub(crate) struct TestServer {
    addr: SocketAddr,
    /// Several servers may share their logs, as nodes of a cluster do.
    logs: Arc<Mutex<Arc<Mutex<Logs>>>>,
    counts: Arc<Mutex<Counts>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no test panics with it")
}

impl Logs {
    fn append(&mut self, conv: &str, from: &str, cmid: &str, text: &str) -> pb::Entry {
        self.changes += 1;
        let log = self.logs.entry(conv.to_owned()).or_default();
        let entry = pb::Entry {
            conv: conv.to_owned(),
            seq: log.entries.len() as u64 + 1,
            from: from.to_owned(),
            cmid: cmid.to_owned(),
            ts: 0,
            body: Some(pb::Body { text: text.to_owned(), event: None }),
        };
        log.entries.push(entry.clone());
        entry
    }
}

impl TestServer {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let logs = Arc::new(Mutex::new(Arc::<Mutex<Logs>>::default()));
        let counts = Arc::<Mutex<Counts>>::default();
        let server = Self { addr, logs: Arc::clone(&logs), counts: Arc::clone(&counts) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = {
                    let mut counts = lock(&counts);
                    counts.connections += 1;
                    counts.open += 1;
                    counts.connections
                };
                let deaf = behaviour.first_is_deaf && number == 1;
                let (logs, counts) = (Arc::clone(&lock(&logs)), Arc::clone(&counts));
                tokio::spawn(async move {
                    serve(stream, &logs, behaviour, deaf).await;
                    lock(&counts).open -= 1;
                });
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Becomes a node of the same cluster as `other`.
    pub(crate) fn share(&self, other: &Self) {
        *lock(&self.logs) = Arc::clone(&lock(&other.logs));
    }

    fn shared(&self) -> Arc<Mutex<Logs>> {
        Arc::clone(&lock(&self.logs))
    }

    /// Connections there ever were, and those still open.
    pub(crate) fn connections(&self) -> usize {
        lock(&self.counts).connections
    }

    pub(crate) fn open(&self) -> usize {
        lock(&self.counts).open
    }

    /// Somebody else writes.
    pub(crate) fn write(&self, conv: &str, text: &str) {
        let logs = self.shared();
        let mut logs = lock(&logs);
        let entry = logs.append(conv, "u_bob", "b", text);
        for session in &logs.sessions {
            let _ = session.send(Order::Frame(0, FrameBody::Entry(entry.clone())));
        }
    }

    pub(crate) fn texts(&self, conv: &str) -> Vec<String> {
        let logs = self.shared();
        let logs = lock(&logs);
        let text = |entry: &pb::Entry| entry.body.as_ref().map(|body| body.text.clone()).unwrap_or_default();
        logs.logs.get(conv).map(|log| log.entries.iter().map(text).collect()).unwrap_or_default()
    }

    pub(crate) fn delivered(&self, conv: &str) -> u64 {
        lock(&self.shared()).logs.get(conv).map_or(0, |log| log.delivered)
    }

    /// SENDs are stored and not answered.
    pub(crate) fn hold_sends(&self, hold: bool) {
        lock(&self.shared()).hold = hold;
    }

    fn order(&self, order: impl Fn() -> Order) {
        for session in lock(&self.shared()).sessions.drain(..) {
            let _ = session.send(order());
        }
    }

    pub(crate) fn cut(&self) {
        self.order(|| Order::Cut);
    }

    pub(crate) fn close(&self, code: u16) {
        self.order(|| Order::Close(code));
    }

    pub(crate) fn goaway(&self, urls: &[String]) {
        let logs = self.shared();
        for session in &lock(&logs).sessions {
            let goaway = pb::Goaway { reason: "drain".into(), deadline_ms: 30_000, slot_ms: 10, urls: urls.to_vec() };
            let _ = session.send(Order::Frame(0, FrameBody::Goaway(goaway)));
        }
    }
}

async fn serve(stream: TcpStream, logs: &Mutex<Logs>, behaviour: Behaviour, deaf: bool) {
    let mut encoding = Encoding::Json;
    // The type is tungstenite's.
    #[allow(clippy::result_large_err)]
    let upgrade = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        if let Some(asked) = request.headers().get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok()) {
            encoding = Encoding::from_subprotocol(asked).expect("one of ours");
            let value = HeaderValue::from_static(encoding.subprotocol());
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, value);
        }
        Ok(response)
    };
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, upgrade).await else { return };
    let (orders, mut inbox) = mpsc::unbounded_channel();
    let _ = orders.send(Order::Frame(0, FrameBody::Hello(pb::Hello::default())));
    let mut welcomed = false;
    loop {
        tokio::select! {
            message = socket.next() => {
                let payload: Bytes = match message {
                    Some(Ok(Message::Binary(payload))) => payload,
                    Some(Ok(Message::Text(text))) => text.into(),
                    Some(Ok(_)) => continue,
                    _ => return,
                };
                let mut rest = &payload[..];
                while let Some(frame) = encoding.decode(&mut rest).expect("a frame") {
                    let connect = matches!(frame.body, Some(FrameBody::Connect(_)));
                    if !(deaf && welcomed) {
                        handle(logs, &orders, behaviour, frame);
                    }
                    welcomed |= connect;
                }
            }
            Some(order) = inbox.recv() => {
                let message = match order {
                    Order::Frame(rid, body) => {
                        let mut payload = BytesMut::new();
                        encoding.encode(&pb::Frame { rid, body: Some(body) }, &mut payload);
                        match encoding {
                            Encoding::Protobuf => Message::Binary(payload.freeze()),
                            Encoding::Json => Message::text(String::from_utf8(payload.to_vec()).expect("JSON is text")),
                        }
                    }
                    Order::Close(code) => Message::Close(Some(CloseFrame { code: code.into(), reason: "test".into() })),
                    Order::Cut => return,
                };
                if socket.send(message).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn handle(logs: &Mutex<Logs>, session: &mpsc::UnboundedSender<Order>, behaviour: Behaviour, frame: pb::Frame) {
    let mut logs = lock(logs);
    let reply = |body| drop(session.send(Order::Frame(frame.rid, body)));
    match frame.body.expect("a body") {
        FrameBody::Connect(connect) => {
            if let Some(code) = behaviour.refuse {
                return reply(FrameBody::Error(pb::Error { code, message: "no".into(), ..pb::Error::default() }));
            }
            assert!(connect.guest == "Ada" || connect.token == "token of ada", "{connect:?}");
            logs.sessions.push(session.clone());
            reply(FrameBody::Welcome(pb::Welcome {
                user: "u_ada".into(),
                name: "Ada".into(),
                token: "token of ada".into(),
                heartbeat_ms: 25_000,
                fresh: connect.sync == logs.changes.to_string(),
                sync: logs.changes.to_string(),
                ..pb::Welcome::default()
            }));
        }
        FrameBody::Send(send) => {
            let earlier = logs.logs.get(&send.conv).filter(|_| send.attempt > 0).and_then(|log| {
                let seen = usize::try_from(send.seen.unwrap_or(0)).expect("small");
                log.entries.iter().skip(seen).find(|entry| entry.cmid == send.cmid).map(|entry| entry.seq)
            });
            let text = send.body.map(|body| body.text).unwrap_or_default();
            let seq = earlier.unwrap_or_else(|| logs.append(&send.conv, "u_ada", &send.cmid, &text).seq);
            logs.sends += 1;
            if behaviour.cut_after_sends == Some(logs.sends) {
                return drop(session.send(Order::Cut));
            }
            if !logs.hold {
                reply(FrameBody::Sent(pb::Sent { conv: send.conv, seq, ts: 0, dup: earlier.is_some() }));
            }
        }
        FrameBody::Ack(ack) => {
            let log = logs.logs.entry(ack.conv).or_default();
            log.delivered = log.delivered.max(ack.seq);
        }
        FrameBody::History(history) => {
            let log = logs.logs.entry(history.conv.clone()).or_default();
            let after = usize::try_from(history.after.unwrap_or(0)).expect("small");
            let entries = log.entries.iter().skip(after).take(history.limit as usize).cloned().collect();
            let head = log.entries.len() as u64;
            reply(FrameBody::Page(pb::Page { conv: history.conv, entries, head }));
        }
        FrameBody::Sync(_) => {
            let row = |(conv, log): (&String, &Log)| pb::Row {
                conv: conv.clone(),
                head: log.entries.len() as u64,
                delivered: log.delivered,
                ..pb::Row::default()
            };
            let rows = logs.logs.iter().map(row).collect();
            reply(FrameBody::Changed(pb::Changed { rows, sync: logs.changes.to_string(), more: false }));
        }
        FrameBody::Create(_) => {
            reply(FrameBody::Conversation(pb::Conversation { conv: "c_2".into(), ..pb::Conversation::default() }));
        }
        FrameBody::Ping(_) => reply(FrameBody::Pong(pb::Pong {})),
        // No answer: requests have to end by themselves.
        _ => {}
    }
}
