//! Everything around a shard: a driver, a router and the HTTP service that obey their contracts, and clients that read.
//!
//! - here: what peers and the driver do, and time;
//! - `router`: what the router and the HTTP service do;
//! - `effects`: what the shard asks for;
//! - `checks`: what must hold.

mod checks;
mod effects;
mod router;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arbitrary::Unstructured;
use bytes::BytesMut;
use roost_edge_core::{End, Shard, ShardConfig, ShardMetrics};
use roost_wire::Encoding;
use roost_wire::link::SessionKey;
use roost_wire::ws::{Deflater, Header, MessageKind};

use super::peer::{Peer, Readers};

/// The wall clock when it begins.
const UNIX_MS: u64 = 1_790_000_000_000;
const COMMANDS: [&str; 14] = [
    r#"{"connect":{"token":"t"}}"#,
    r#"{"send":{"conv":"c_1","cmid":"1","body":{"text":"hi"}}}"#,
    r#"{"ack":{"conv":"c_1","seq":1}}"#,
    r#"{"ping":{}}"#,
    r#"{"refresh":{"token":"n"}}"#,
    r#"{"entry":{}}"#,
    r#"{"publish":{"channel":"news"}}"#,
    r#"{"history":{"conv":"c_1","after":0}}"#,
    r#"{"typing":{"conv":"c_1","on":true}}"#,
    r#"{"watch":{"users":["u_bob"]}}"#,
    r#"{"sync":{"since":""}}"#,
    r#"{"pong":{}}"#,
    r#"{"subscribe":{"channel":"news"}}"#,
    r#"{"later":{}}"#,
];

/// A command by its number, in JSON.
fn command_text(which: u8, rid: u8) -> String {
    let text = COMMANDS[usize::from(which) % COMMANDS.len()];
    if rid == 0 { text.to_owned() } else { format!("{{\"rid\":{rid},{}", &text[1..]) }
}

/// The same in protobuf, or as it is if it is no command.
fn command_frame(which: u8, rid: u8) -> Vec<u8> {
    let text = command_text(which, rid);
    let mut payload = BytesMut::new();
    match Encoding::Json.decode(&mut text.as_bytes()) {
        Ok(Some(frame)) => Encoding::Protobuf.encode(&frame, &mut payload),
        _ => payload.extend_from_slice(text.as_bytes()),
    }
    payload.to_vec()
}

pub(super) struct World {
    shard: Shard,
    metrics: Arc<ShardMetrics>,
    now: Instant,
    unix_ms: u64,
    peers: Vec<Peer>,
    by_key: BTreeMap<SessionKey, usize>,
    readers: Readers,
    /// Who joined each topic, by the router's commands.
    members: [BTreeSet<usize>; 3],
    pushes: u64,
    drains: usize,
    /// What is asked for now came beside the stream.
    in_datagram: bool,
    /// The driver can send no datagrams now.
    no_datagrams: bool,
    /// Items other than deliveries that the shard may not have obeyed yet.
    controls: u64,
    stopping: bool,
}

fn small() -> ShardConfig {
    ShardConfig {
        compression: true,
        connections_max: 6,
        unauthenticated_max: 3,
        frame_bytes_max: 1024,
        outbound_bytes_max: 4096,
        outbound_frames_max: 8,
        reply_bytes_max: 6000,
        commands_in_flight_max: 4,
        fanout_slice: 3,
        fanout_items_max: 5,
        http_window_bytes: 1024,
        sends_per_second: 5,
        sends_burst: 2,
        ..ShardConfig::default()
    }
}

impl World {
    pub(super) fn new() -> Self {
        let (config, metrics, now) = (small(), Arc::new(ShardMetrics::default()), Instant::now());
        assert_eq!(config.check(), Ok(()));
        Self {
            shard: Shard::new(Arc::new(config), 2, metrics.clone(), now, UNIX_MS),
            metrics,
            now,
            unix_ms: UNIX_MS,
            peers: Vec::new(),
            by_key: BTreeMap::new(),
            readers: Readers::new(),
            members: Default::default(),
            pushes: 0,
            drains: 0,
            in_datagram: false,
            no_datagrams: false,
            controls: 0,
            stopping: false,
        }
    }

    /// One of the connections there ever were, the latest ones first. An error if there is none.
    pub(super) fn pick(&self, input: &mut Unstructured<'_>) -> arbitrary::Result<usize> {
        let back = usize::from(input.arbitrary::<u8>()?);
        let count = self.peers.len();
        if count == 0 { Err(arbitrary::Error::IncorrectFormat) } else { Ok(count - 1 - back % count) }
    }

    pub(super) fn open(&mut self) -> Option<usize> {
        let key = self.shard.opened(SocketAddr::from(([192, 0, 2, 1], 40_000)), self.now)?;
        assert!(!self.stopping, "nothing is taken any more");
        let index = self.peers.len();
        assert_eq!(self.by_key.insert(key, index), None, "{key:?} was given twice");
        self.peers.push(Peer::new(index, key));
        Some(index)
    }

    /// Bytes of a peer. A paused connection is not read.
    pub(super) fn receive(&mut self, peer: usize, bytes: &[u8]) {
        let peer = &self.peers[peer];
        if peer.attached && !peer.paused && !peer.half_closed && !bytes.is_empty() {
            self.shard.received(peer.key, &mut bytes.to_vec(), self.now);
        }
    }

    /// A connection that is a session from the start.
    pub(super) fn open_native(&mut self, datagrams: bool) -> Option<usize> {
        let key = self.shard.opened_native(SocketAddr::from(([192, 0, 2, 2], 40_000)), datagrams, self.now)?;
        assert!(!self.stopping, "nothing is taken any more");
        let index = self.peers.len();
        assert!(self.by_key.insert(key, index).is_none(), "{key:?} was given before");
        self.peers.push(Peer::native(index, key, datagrams));
        Some(index)
    }

    /// Bytes beside the stream. Any key may be named.
    pub(super) fn datagram(&mut self, peer: usize, bytes: &[u8]) {
        // What goes up now is what the datagram held.
        self.obey_effects();
        let peer = &self.peers[peer];
        if peer.attached && !peer.paused {
            self.shard.datagram(peer.key, &mut bytes.to_vec(), self.now);
            self.in_datagram = true;
            self.obey_effects();
            self.in_datagram = false;
        }
    }

    /// A command beside the stream.
    pub(super) fn command_datagram(&mut self, peer: usize, which: u8, rid: u8) {
        self.datagram(peer, &command_frame(which, rid));
    }

    /// A command that comes in two pieces.
    pub(super) fn command_cut(&mut self, peer: usize, which: u8, cut: u8) {
        let frame = command_frame(which, cut);
        let (front, back) = frame.split_at(usize::from(cut) % frame.len().max(1));
        self.receive(peer, front);
        self.obey_effects();
        self.receive(peer, back);
    }

    /// The driver has no room for datagrams from now on, or has again.
    pub(super) fn refuse_datagrams(&mut self, refuse: bool) {
        self.no_datagrams = refuse;
    }

    pub(super) fn upgrade(&mut self, peer: usize, offer: u8) {
        let (encoding, more) = match offer & 7 {
            0 => (Encoding::Protobuf, "Sec-WebSocket-Protocol: roost.v1.pb\r\n"),
            1 => (Encoding::Json, "Sec-WebSocket-Protocol: other, roost.v1.json\r\n"),
            2 => (Encoding::Json, "Authorization: Bearer t\r\n"),
            3 => (Encoding::Json, "Origin: https://evil.example\r\n"),
            4 => (Encoding::Protobuf, "Sec-WebSocket-Protocol: roost.v1.pb, roost.v1.json\r\n"),
            5 | 6 => (Encoding::Json, ""),
            _ => (Encoding::Json, "Content-Length: 0\r\n"),
        };
        let deflate = match offer >> 6 {
            0 => "",
            1 => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
            2 => "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n",
            _ => "Sec-WebSocket-Extensions: other, permessage-deflate; client_max_window_bits\r\n",
        };
        let head = format!(
            "GET /ws HTTP/1.1\r\nHost: chat.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}{deflate}\r\n"
        );
        // Only the first head of a connection decides.
        if !std::mem::replace(&mut self.peers[peer].upgraded, true) && !self.peers[peer].native {
            self.peers[peer].encoding = encoding;
            self.peers[peer].offers_deflate = !deflate.is_empty();
        }
        self.receive(peer, head.as_bytes());
    }

    /// A command by its number, as this peer writes it.
    pub(super) fn command(&mut self, peer: usize, which: u8, rid: u8) {
        let payload = match self.peers[peer].encoding {
            Encoding::Json => command_text(which, rid).into_bytes(),
            Encoding::Protobuf => command_frame(which, rid),
        };
        if self.peers[peer].native {
            return self.receive(peer, &payload);
        }
        self.message(peer, (self.peers[peer].encoding == Encoding::Json).into(), &payload);
    }

    /// A whole message. Bits of `form`: it is text; it is marked as compressed; it is compressed.
    pub(super) fn message(&mut self, peer: usize, form: u8, payload: &[u8]) {
        let kind = if form & 1 == 1 { MessageKind::Text } else { MessageKind::Binary };
        let compressed = if form & 4 == 4 { Deflater::new().compress(payload).map(<[u8]>::to_vec) } else { None };
        let payload = compressed.as_deref().unwrap_or(payload);
        let header = Header {
            fin: true,
            compressed: form & 2 == 2,
            opcode: kind.into(),
            len: payload.len() as u64,
            mask: Some([0; 4]),
        };
        let mut out = BytesMut::new();
        header.encode(&mut out);
        out.extend_from_slice(payload);
        self.receive(peer, &out);
    }

    pub(super) fn control(&mut self, peer: usize, opcode: u8, payload: &[u8]) {
        let payload = &payload[..payload.len().min(125)];
        let mut out = vec![0x88 | (opcode & 3), 0x80 | payload.len() as u8, 0, 0, 0, 0];
        out.extend_from_slice(payload);
        self.receive(peer, &out);
    }

    pub(super) fn half_close(&mut self, peer: usize) {
        let Peer { key, attached, half_closed, paused, .. } = self.peers[peer];
        if !attached || half_closed || paused {
            return;
        }
        self.peers[peer].half_closed = true;
        if !self.shard.half_closed(key, self.now) {
            self.ended(peer, End::Eof);
        }
    }

    pub(super) fn broken(&mut self, peer: usize) {
        if self.peers[peer].attached {
            self.ended(peer, End::Error);
        }
    }

    fn ended(&mut self, peer: usize, end: End) {
        self.peers[peer].attached = false;
        self.shard.ended(self.peers[peer].key, end, self.now);
        assert!(self.shard.outbound(self.peers[peer].key).is_none(), "it is forgotten");
    }

    /// The transport takes at most `max` bytes, and its client reads them.
    pub(super) fn write(&mut self, peer: usize, max: usize) {
        let Some(Peer { key, attached: true, write_wanted: true, .. }) = self.peers.get(peer) else { return };
        let key = *key;
        let Some(outbound) = self.shard.outbound(key) else { return };
        let mut bytes: Vec<u8> = outbound.chunks().flatten().copied().collect();
        bytes.truncate(max);
        self.shard.sent(key, bytes.len(), self.now);
        let peer = &mut self.peers[peer];
        peer.write_wanted = self.shard.outbound(key).is_some_and(|outbound| !outbound.is_empty());
        peer.read(bytes, &self.readers);
    }

    pub(super) fn turn(&mut self) {
        if !self.shard.turn(self.now) {
            self.controls = 0;
        }
    }

    /// Turns until nothing is left to do at once.
    pub(super) fn turns(&mut self) {
        let mut count = 0;
        while self.shard.turn(self.now) {
            count += 1;
            assert!(count < 100_000, "turns without an end");
        }
        self.controls = 0;
    }

    /// Lets time pass, obeying every deadline on the way.
    pub(super) fn pass(&mut self, ms: u32) {
        let end = self.now + Duration::from_millis(ms.into());
        self.unix_ms += u64::from(ms);
        let mut count = 0;
        while let Some(next) = self.shard.next_deadline().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.turns();
            self.obey_effects();
            count += 1;
            assert!(count < 100_000, "a deadline that does not pass");
        }
        self.now = end;
        self.turns();
    }
}
