//! Helpers of this crate's tests: a shard with a clock of its own, and clients that speak to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use roost_wire::link::{Audience, Down, Envelope, Lane, SessionKey, Up};
use roost_wire::pb::{self, Frame};
use roost_wire::ws::{Decoder, Event, Inflater, MessageKind, Side, write_client_message};
use roost_wire::{CloseCode, ConvId, Encoding, FrameBody, UserId};

use crate::{Effect, Shard, ShardConfig, ShardMetrics, ShardSnapshot};

/// The wall clock when a test begins.
pub(crate) const UNIX_MS: u64 = 1_790_000_000_000;

/// A moment to count from; which one makes no difference.
#[expect(clippy::disallowed_methods, reason = "an Instant cannot be made otherwise")]
pub(crate) fn epoch() -> Instant {
    Instant::now()
}

/// The other end of the connections of tests.
pub(crate) fn peer() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 40_000))
}

/// An upgrade with further header lines.
pub(crate) fn upgrade(more: &str) -> Vec<u8> {
    upgrade_at("/ws", more)
}

/// The same at another path.
pub(crate) fn upgrade_at(path: &str, more: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: chat.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
    .into_bytes()
}

/// A text message as a client sends it.
pub(crate) fn text(payload: &str) -> Vec<u8> {
    message(MessageKind::Text, payload.as_bytes())
}

/// A message as a client sends it.
pub(crate) fn message(kind: MessageKind, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    write_client_message(kind, payload, [1, 2, 3, 4], &mut out);
    out.to_vec()
}

/// Frames as a client with protobuf sends them, in one message.
pub(crate) fn protobuf(frames: &[Frame]) -> Vec<u8> {
    let mut out = BytesMut::new();
    for frame in frames {
        Encoding::Protobuf.encode(frame, &mut out);
    }
    message(MessageKind::Binary, &out)
}

/// A masked control frame.
pub(crate) fn control(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80 | opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    out.extend_from_slice(payload);
    out
}

/// A durable push: the entry `seq` of c_1 with a text of `bytes` bytes.
pub(crate) fn entry(seq: u64, bytes: usize) -> Arc<Envelope> {
    let body = pb::Body { text: "x".repeat(bytes), event: None };
    let entry = pb::Entry { conv: "c_1".into(), seq, body: Some(body), ..pb::Entry::default() };
    Envelope::new(Lane::Durable, FrameBody::Entry(entry))
}

/// An ephemeral push.
pub(crate) fn typing() -> Arc<Envelope> {
    let typing = pb::Typing { conv: "c_1".into(), user: "u_ada".into(), on: true };
    Envelope::new(Lane::Ephemeral, FrameBody::Typing(typing))
}

pub(crate) fn topic(name: &str) -> ConvId {
    ConvId::new(name).expect("a test's id")
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).expect("a test's id")
}

/// A shard under test.
pub(crate) struct Rig {
    pub(crate) shard: Shard,
    pub(crate) now: Instant,
    pub(crate) metrics: Arc<ShardMetrics>,
}

impl Rig {
    pub(crate) fn new(config: ShardConfig) -> Self {
        assert_eq!(config.check(), Ok(()));
        let (now, metrics) = (epoch(), Arc::new(ShardMetrics::default()));
        Self { shard: Shard::new(Arc::new(config), 2, metrics.clone(), now, UNIX_MS), now, metrics }
    }

    pub(crate) fn open(&mut self) -> SessionKey {
        self.shard.opened(peer(), self.now).expect("room")
    }

    pub(crate) fn receive(&mut self, key: SessionKey, bytes: &[u8]) {
        self.shard.received(key, &mut bytes.to_vec(), self.now);
    }

    /// A session whose 101 and HELLO are read.
    pub(crate) fn upgraded(&mut self, more: &str) -> SessionKey {
        let key = self.open();
        self.receive(key, &upgrade(more));
        let head = self.read_bytes(key);
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        self.effects();
        key
    }

    /// A live JSON session of `u_ada`, its WELCOME read.
    pub(crate) fn live(&mut self) -> SessionKey {
        self.live_until(0)
    }

    /// The same with a token that expires then.
    pub(crate) fn live_until(&mut self, expires: u64) -> SessionKey {
        let key = self.upgraded("");
        self.receive(key, &text(r#"{"rid":1,"connect":{"token":"t","device":"laptop"}}"#));
        self.accept(key, expires);
        assert_eq!(self.read(key).len(), 1, "WELCOME");
        self.effects();
        key
    }

    /// A live protobuf session.
    pub(crate) fn live_protobuf(&mut self) -> SessionKey {
        let key = self.upgraded("Sec-WebSocket-Protocol: roost.v1.pb\r\n");
        self.receive(key, &protobuf(&[Frame { rid: 1, body: Some(FrameBody::Connect(pb::Connect::default())) }]));
        self.accept(key, 0);
        self.read_bytes(key);
        self.effects();
        key
    }

    pub(crate) fn accept(&mut self, key: SessionKey, expires: u64) {
        let welcome = Box::new(pb::Welcome { user: "u_ada".into(), expires, ..pb::Welcome::default() });
        self.down(Down::Accepted { session: key, rid: 1, user: user("u_ada"), welcome });
        self.turn();
    }

    /// Hands over what the router sent, and runs one slice.
    pub(crate) fn down(&mut self, down: Down) {
        self.downs([down]);
    }

    /// The same for several at once.
    pub(crate) fn downs(&mut self, downs: impl IntoIterator<Item = Down>) {
        for down in downs {
            self.shard.down(down, self.now);
        }
        self.shard.turn(self.now);
    }

    pub(crate) fn deliver(&mut self, envelope: &Arc<Envelope>, keys: &[SessionKey]) {
        self.down(Down::Deliver { envelope: envelope.clone(), audience: Audience::Sessions(keys.into()) });
    }

    /// The router's reply OK to a command with `rid`; rid 0 is one that wanted none.
    pub(crate) fn reply(&mut self, session: SessionKey, rid: u64) {
        let frame = (rid != 0).then(|| Box::new(Frame { rid, body: Some(FrameBody::Ok(pb::Ok {})) }));
        self.down(Down::Reply { session, frame });
    }

    pub(crate) fn close(&mut self, session: SessionKey, code: CloseCode) {
        self.down(Down::Close { session, code });
    }

    /// Turns until nothing is left to do at once.
    pub(crate) fn turn(&mut self) {
        while self.shard.turn(self.now) {}
    }

    /// Lets time pass, obeying every deadline on the way.
    pub(crate) fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        let mut turns = 0;
        while let Some(next) = self.shard.next_deadline().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.turn();
            turns += 1;
            assert!(turns < 100_000, "a deadline that does not pass");
        }
        self.now = end;
        self.turn();
    }

    pub(crate) fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.shard.poll_effect()).collect()
    }

    /// Effects as short texts.
    pub(crate) fn effect_names(&mut self) -> Vec<String> {
        let name = |effect: &Effect| match effect {
            Effect::Up(Up::Connect { rid, .. }) => format!("connect {rid}"),
            Effect::Up(Up::Command { rid, body, .. }) => format!("{} {rid}", body.name()),
            Effect::Up(Up::Gone { user, .. }) => format!("gone {user}"),
            Effect::Broadcast(_) => "broadcast".into(),
            Effect::Write(_) => "write".into(),
            Effect::Pause(_) => "pause".into(),
            Effect::Resume(_) => "resume".into(),
            Effect::Close(_) => "close".into(),
            Effect::CloseWith { code, .. } => format!("close {}", code.number()),
            Effect::Datagram { bytes, .. } => format!("datagram {}", bytes.len()),
            Effect::Page { bytes, .. } => format!("page {}", bytes.len()),
            Effect::HttpOpen { bytes, .. } => format!("http open {}", bytes.len()),
            Effect::HttpData { bytes, .. } => format!("http data {}", bytes.len()),
            Effect::HttpEof { .. } => "http eof".into(),
            Effect::HttpEnd { .. } => "http end".into(),
        };
        self.effects().iter().map(name).collect()
    }

    /// Writes at most `max` bytes of the queue to the client.
    pub(crate) fn read_some(&mut self, key: SessionKey, max: usize) -> Vec<u8> {
        let Some(outbound) = self.shard.outbound(key) else { return Vec::new() };
        let mut bytes: Vec<u8> = outbound.chunks().flatten().copied().collect();
        bytes.truncate(max);
        self.shard.sent(key, bytes.len(), self.now);
        bytes
    }

    /// Writes everything queued now.
    pub(crate) fn read_bytes(&mut self, key: SessionKey) -> Vec<u8> {
        self.read_some(key, usize::MAX)
    }

    /// Writes everything queued now: whole WebSocket messages, JSON as it is, a close frame as `close 1000 reason`.
    pub(crate) fn read(&mut self, key: SessionKey) -> Vec<String> {
        show(&self.read_bytes(key))
    }

    pub(crate) fn queued_bytes(&self, key: SessionKey) -> usize {
        self.shard.outbound(key).map_or(0, crate::Outbound::bytes)
    }

    pub(crate) fn counted(&self) -> ShardSnapshot {
        self.metrics.snapshot()
    }
}

/// What a server sent, as texts; compressed messages are inflated.
pub(crate) fn show(bytes: &[u8]) -> Vec<String> {
    let (mut decoder, mut inflater) = (Decoder::with_deflate(Side::Client, 16 << 20), Inflater::new());
    let (mut bytes, mut at, mut seen) = (bytes.to_vec(), 0, Vec::new());
    while let Some(event) = decoder.next_inflating(&mut bytes, &mut at, &mut inflater).expect("we obey RFC 6455") {
        seen.push(match event {
            Event::Message { kind: MessageKind::Text, payload } => String::from_utf8_lossy(payload).into_owned(),
            Event::Message { kind: MessageKind::Binary, mut payload } => {
                let frame = Encoding::Protobuf.decode(&mut payload).expect("a frame").expect("one");
                format!("{} {}", frame.rid, frame.body.as_ref().map_or("", FrameBody::name))
            }
            Event::Ping(_) => "ping".into(),
            Event::Pong(payload) => format!("pong {}", String::from_utf8_lossy(payload)),
            Event::Close(body) => body.map_or("close".into(), |body| format!("close {} {}", body.code, body.reason)),
        });
    }
    assert!(decoder.is_idle(), "whole messages only");
    seen
}
