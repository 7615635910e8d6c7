//! A client: the real client core, an app that shows what it is told, and a disk that survives it.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::BytesMut;
use roost_client::core::{Core, Gone, Identity, LinkId};
use roost_client::url::Url;
use roost_client::{Cmid, Config, Record, Resume};
use roost_edge::driver::quic::testkit::Trust;
use roost_wire::ws::handshake::{key_from, parse_response, write_request};
use roost_wire::ws::{Decoder, Event, MessageKind, Side, write_client_message, write_pong};
use roost_wire::{Encoding, UserId, limits};

use crate::quic::Lane;
use crate::rng::Stream;

/// What is left when the app is killed.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) resume: Resume,
    /// Sends without an outcome, in the order they were made.
    pub(crate) outbox: BTreeMap<Cmid, Record>,
}

/// A WebSocket as the client sees it.
pub(crate) struct Socket {
    pub(crate) conn: u64,
    state: State,
}

enum State {
    Shaking { key: String, head: Vec<u8> },
    Open(Decoder),
}

/// By which transports an app wants to connect. QUIC carries protobuf alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Socket,
    Quic,
    /// QUIC, and a WebSocket where that does not come through.
    Auto,
}

/// A connection that is being opened by two transports.
pub(crate) struct Race {
    pub(crate) url: Url,
    /// When a WebSocket is tried too.
    pub(crate) socket_at: Option<Instant>,
}

/// A device of a person.
pub(crate) struct Client {
    /// Whose.
    pub(crate) person: usize,
    device: String,
    pub(crate) core: Option<Core>,
    pub(crate) user: Option<UserId>,
    pub(crate) sockets: BTreeMap<LinkId, Socket>,
    /// Connections by QUIC, those that only say goodbye included.
    pub(crate) lanes: BTreeMap<u64, Lane>,
    /// What is not decided yet.
    pub(crate) races: BTreeMap<LinkId, Race>,
    pub(crate) trust: Trust,
    pub(crate) way: Way,
    /// The next connection is opened this way.
    pub(crate) forced: Option<Way>,
    /// A WebSocket came through where QUIC did not: that is believed until then.
    pub(crate) no_quic_until: Option<Instant>,
    /// The session that the app was told of last has not been told to be lost.
    pub(crate) told_connected: bool,
    /// Datagrams do not come through.
    pub(crate) udp_blocked: bool,
    pub(crate) disk: Disk,
    /// How far its clock stands from the true time, in ms.
    pub(crate) skew_ms: i64,
    config: Config,
    encoding: Encoding,
    pub(crate) random: Stream,
}

/// What bytes from the network meant.
pub(crate) enum Heard {
    Opened,
    Message(Vec<u8>),
    Gone(Gone),
    /// Bytes to send back.
    Answer(BytesMut),
}

impl Client {
    pub(crate) fn new(seed: u64, number: usize, person: usize, config: &Config, window_bytes: usize) -> Self {
        let ways = [Way::Auto, Way::Auto, Way::Auto, Way::Quic, Way::Socket];
        // Half of them speak JSON.
        let encoding = Encoding::ALL[number % 2];
        let way = match encoding {
            Encoding::Json => Way::Socket,
            Encoding::Protobuf => ways[Stream::new(seed, &format!("way of client {number}")).below(ways.len())],
        };
        Self {
            person,
            device: format!("device {number}"),
            core: None,
            user: None,
            sockets: BTreeMap::new(),
            lanes: BTreeMap::new(),
            races: BTreeMap::new(),
            trust: Trust::new(limits::ALPN, window_bytes as u32),
            way,
            forced: None,
            no_quic_until: None,
            told_connected: false,
            udp_blocked: false,
            disk: Disk::default(),
            encoding,
            skew_ms: 0,
            config: config.clone(),
            random: Stream::new(seed, &format!("client {number}")),
        }
    }

    /// Starts the app, with what the disk holds, as a new guest the first time.
    pub(crate) fn start(&mut self, now: Instant) {
        self.start_as(now, None);
    }

    /// Starts the app. A second device begins with a `token` of the first.
    pub(crate) fn start_as(&mut self, now: Instant, token: Option<String>) {
        let url = Url::parse("ws://roost.invalid/ws").expect("it is an address");
        let guest = token.is_none().then(|| format!("Person {}", self.person));
        let identity = Identity { token, guest, device: self.device.clone() };
        let restored = self.disk.outbox.values().cloned().collect();
        let seed = self.random.bits() as u64;
        let (config, resume) = (self.config.clone(), self.disk.resume.clone());
        let mut core = Core::new(config, self.encoding, url, identity, resume, restored, seed);
        core.start(now);
        self.core = Some(core);
    }

    /// Kills the app. Returns the connections it held.
    pub(crate) fn kill(&mut self) -> Vec<u64> {
        if let Some(mut core) = self.core.take() {
            self.disk.resume = core.resume();
        }
        // Nobody is there any more to say goodbye.
        self.lanes.clear();
        self.races.clear();
        (self.forced, self.no_quic_until, self.told_connected) = (None, None, false);
        std::mem::take(&mut self.sockets).into_values().map(|socket| socket.conn).collect()
    }

    pub(crate) fn cmid(&mut self, now_ms: u64) -> Cmid {
        Cmid::new(now_ms.saturating_add_signed(self.skew_ms), self.random.bytes())
    }

    /// Opens a socket on `conn`; returns its first bytes.
    pub(crate) fn open(&mut self, link: LinkId, conn: u64) -> BytesMut {
        let key = key_from(self.random.bytes());
        let mut head = BytesMut::new();
        let protocol = Some(self.encoding.subprotocol());
        write_request("/ws", "node.invalid", &key, protocol, None, None, &mut head).expect("nothing strange in it");
        self.sockets.insert(link, Socket { conn, state: State::Shaking { key, head: Vec::new() } });
        head
    }

    /// A message as bytes of the socket.
    pub(crate) fn message(&mut self, payload: &[u8]) -> BytesMut {
        let mut bytes = BytesMut::new();
        let kind = self.encoding.message_kind();
        write_client_message(kind, payload, self.random.bytes(), &mut bytes);
        bytes
    }

    /// Takes bytes of the network.
    pub(crate) fn receive(&mut self, link: LinkId, mut bytes: Vec<u8>) -> Vec<Heard> {
        let mut heard = Vec::new();
        let Some(socket) = self.sockets.get_mut(&link) else { return heard };
        if let State::Shaking { key, head } = &mut socket.state {
            head.append(&mut bytes);
            match parse_response(head, key) {
                Ok(None) => return heard,
                Ok(Some((_, len))) => {
                    bytes = head.split_off(len);
                    socket.state = State::Open(Decoder::new(Side::Client, roost_client::core::MESSAGE_BYTES_MAX));
                    heard.push(Heard::Opened);
                }
                Err(error) => {
                    heard.push(Heard::Gone(Gone::Failed(error.to_string())));
                    return heard;
                }
            }
        }
        let State::Open(decoder) = &mut socket.state else { return heard };
        let mut at = 0;
        loop {
            match decoder.next(&mut bytes, &mut at) {
                Ok(None) => return heard,
                Ok(Some(Event::Message { kind, payload })) => {
                    assert_eq!(kind == MessageKind::Text, self.encoding == Encoding::Json, "wrong kind of message");
                    heard.push(Heard::Message(payload.to_vec()));
                }
                Ok(Some(Event::Ping(payload))) => {
                    let mut pong = BytesMut::new();
                    write_pong(payload, Some([1, 2, 3, 4]), &mut pong);
                    heard.push(Heard::Answer(pong));
                }
                Ok(Some(Event::Pong(_))) => {}
                Ok(Some(Event::Close(body))) => {
                    let code = body.map(|body| body.code);
                    let reason = body.map(|body| body.reason.to_owned()).unwrap_or_default();
                    heard.push(Heard::Gone(Gone::Closed { code, reason }));
                    return heard;
                }
                Err(error) => panic!("the node broke RFC 6455: {error}"),
            }
        }
    }
}
