//! One simulated user: WebSocket or a stream of QUIC, protocol and bookkeeping in a few hundred bytes, without I/O and without a clock.
//!
//! Bytes come in by [`Client::received`] and go out from [`Client::outbound`]; what happened comes out as [`Event`]s.
//! Unlike `roost_client` it keeps no messages, only which it has ([`Track`]), so that one process can be many thousands.
//!
//! Invariants:
//! - bytes of the server never panic: they become events, the last of them [`Event::Failed`];
//! - every command with a rid is answered by exactly one event, or given back by [`Client::reset`].
//!
//! Absent on purpose: resending. A message without an answer counts as unanswered, and its place in the log is looked
//! at when the load is over.

pub mod body;
pub(crate) mod entry;
mod frames;
mod pen;
mod track;

use bytes::BytesMut;
use roost_wire::limits::{COMMANDS_IN_FLIGHT_MAX, PAGE_ENTRIES_MAX, SERVER_FRAME_BYTES_MAX};
use roost_wire::native::Cut;
use roost_wire::ws::{self, MessageKind, Side, handshake};
use roost_wire::{Encoding, FrameBody, pb};

pub use body::Stamp;
pub use pen::{Names, Pen};
pub use track::{Arrival, Track};

use crate::plan::Conv;
use crate::scenario::Protocol;

/// Most commands a client lets await their answer: some room is left for marks and fetches.
const IN_FLIGHT_MAX: usize = COMMANDS_IN_FLIGHT_MAX as usize - 16;

/// What happened to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The WebSocket is open.
    Upgraded,
    /// The session is live.
    Welcomed {
        /// The user's id.
        user: String,
        /// For coming back.
        token: String,
        /// PING when silent for this long.
        heartbeat_ms: u32,
    },
    /// A conversation was made, or is there.
    Created {
        /// Its number.
        conv: Conv,
        /// Its id on this server.
        id: String,
    },
    /// A channel's entries come from now on.
    Subscribed {
        /// Its number.
        conv: Conv,
    },
    /// A message is durable.
    Acknowledged {
        /// Where.
        conv: Conv,
        /// As which entry.
        seq: u64,
        /// Which.
        stamp: Stamp,
    },
    /// A message was pushed.
    Pushed {
        /// Where.
        conv: Conv,
        /// As which entry.
        seq: u64,
        /// Which.
        stamp: Stamp,
        /// What it is to the session.
        arrival: Arrival,
    },
    /// A message was read from the log; `new` if no push had brought it.
    Fetched {
        /// Where.
        conv: Conv,
        /// As which entry.
        seq: u64,
        /// Which.
        stamp: Stamp,
        /// The session did not have it.
        new: bool,
    },
    /// A page of the log skips this entry: the log does not have it.
    Absent {
        /// Where.
        conv: Conv,
        /// Which.
        seq: u64,
    },
    /// The log was read up to its end, by [`Client::fetch`].
    LogEnded {
        /// Which conversation's.
        conv: Conv,
        /// The last entry read.
        at: u64,
    },
    /// An entry holds something that no client sent.
    Garbled,
    /// An entry is there whose predecessor is not.
    Gap {
        /// Where.
        conv: Conv,
    },
    /// The server left pushes out and says so.
    Behind,
    /// The server asks this connection to go elsewhere, after so long.
    AskedToMove {
        /// In milliseconds.
        slot_ms: u32,
    },
    /// A push that carries no message.
    Other,
    /// A command failed, or (without a command) a frame without rid.
    Refused {
        /// What was asked.
        asked: Option<Asked>,
        /// The code of the ERROR.
        code: u32,
    },
    /// The server closed, with this code if it gave one.
    Closed(Option<u16>),
    /// What came is no WebSocket or no Roost.
    Failed(String),
}

/// A command that awaits its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// CONNECT.
    Connect,
    /// CREATE.
    Create(Conv),
    /// SUBSCRIBE.
    Subscribe(Conv),
    /// SEND or PUBLISH.
    Send(Conv, Stamp),
    /// HISTORY.
    History(Conv),
    /// SYNC.
    Sync,
}

/// What received bytes are read with.
#[derive(Debug)]
pub struct Inbox<'a> {
    /// The conversations.
    pub names: &'a Names,
    /// Length of every text.
    pub body_bytes: usize,
    /// Where events go.
    pub events: &'a mut Vec<Event>,
    /// For answers that the protocol wants at once.
    pub pen: &'a mut Pen,
}

/// A simulated user's connection and what it has received.
#[derive(Debug)]
pub struct Client {
    decoder: ws::Decoder,
    upgrade: Option<Box<Upgrade>>,
    /// Frames stand on a stream of QUIC by themselves, without WebSocket.
    stream: Option<Cut>,
    /// Waiting to be written; owns no memory when empty.
    out: BytesMut,
    asked: Vec<(u32, Asked)>,
    tracks: Box<[Track]>,
    /// Conversations whose log is being read, and how far it was read.
    fetching: Vec<(Conv, u64)>,
    rid: u32,
    serial: u32,
    live: bool,
    protocol: Protocol,
}

// Many thousands of them in one process.
const _: () = assert!(size_of::<Client>() <= 192);

#[derive(Debug)]
struct Upgrade {
    key: String,
    head: Vec<u8>,
}

impl Client {
    /// A client that is in the conversations of `tracks`.
    #[must_use]
    pub fn new(protocol: Protocol, tracks: Box<[Track]>) -> Self {
        Self {
            decoder: decoder(),
            upgrade: None,
            stream: None,
            out: BytesMut::new(),
            asked: Vec::new(),
            tracks,
            fetching: Vec::new(),
            rid: 0,
            serial: 0,
            live: false,
            protocol,
        }
    }

    /// Begins on a fresh connection: the request to upgrade is written.
    ///
    /// # Errors
    /// What is wrong with `path` or `host`.
    pub fn open(&mut self, path: &str, host: &str, pen: &mut Pen) -> Result<(), handshake::HeadError> {
        let nonce = (u128::from(pen.bits()) << 64 | u128::from(pen.bits())).to_ne_bytes();
        let key = handshake::key_from(nonce);
        let protocol = match self.protocol {
            Protocol::Roost => Some(Encoding::Protobuf.subprotocol()),
            Protocol::Plain => None,
        };
        handshake::write_request(path, host, &key, protocol, None, None, &mut self.out)?;
        self.upgrade = Some(Box::new(Upgrade { key, head: Vec::new() }));
        Ok(())
    }

    /// Begins on a fresh stream of QUIC, where there is nothing to upgrade.
    pub fn open_stream(&mut self) {
        self.stream = Some(Cut::default());
    }

    /// Forgets the connection, not what was received. Gives back what was asked and will not be answered.
    pub fn reset(&mut self) -> Vec<(u32, Asked)> {
        self.decoder = decoder();
        self.upgrade = None;
        self.stream = None;
        self.out = BytesMut::new();
        self.live = false;
        self.fetching = Vec::new();
        std::mem::take(&mut self.asked)
    }

    /// Whether the session may be used: after [`Event::Welcomed`], or [`Event::Upgraded`] where that is all.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.live
    }

    /// The conversations it is in.
    #[must_use]
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// Bytes to be written; the caller takes from the front what it wrote.
    pub const fn outbound(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// Whether another message may be sent now.
    #[must_use]
    pub fn may_send(&self) -> bool {
        self.live && self.asked.len() < IN_FLIGHT_MAX
    }

    /// Whether nothing that was asked is without its answer.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.asked.is_empty()
    }

    /// Whether this conversation's log is being read.
    #[must_use]
    pub fn is_fetching(&self) -> bool {
        !self.fetching.is_empty()
    }

    /// CONNECT.
    pub fn connect(&mut self, connect: pb::Connect, pen: &mut Pen) {
        self.ask(Asked::Connect, FrameBody::Connect(connect), pen);
    }

    /// CREATE for the conversation `conv`.
    pub fn create(&mut self, conv: Conv, create: pb::Create, pen: &mut Pen) {
        self.ask(Asked::Create(conv), FrameBody::Create(create), pen);
    }

    /// SUBSCRIBE to the channel `conv`.
    pub fn subscribe(&mut self, conv: Conv, names: &Names, pen: &mut Pen) {
        let channel = names.id(conv).to_owned();
        self.ask(Asked::Subscribe(conv), FrameBody::Subscribe(pb::Subscribe { channel }), pen);
    }

    /// Sends the next message of this client: SEND, PUBLISH, or a text to everybody where the protocol is plain.
    ///
    /// `client` is its number, `intended_ns` when it was meant to be sent.
    pub fn send(&mut self, to: &Message<'_>, pen: &mut Pen) -> Stamp {
        let stamp = Stamp::new(to.client, self.serial, to.answer, to.intended_ns);
        self.serial = self.serial.wrapping_add(1);
        let mut text = std::mem::take(&mut pen.text);
        text.clear();
        match self.protocol {
            Protocol::Roost => {
                body::write(stamp, to.body_bytes, &mut text);
                let body = Some(pb::Body { text, event: None });
                let (conv, cmid) = (to.names.id(to.conv).to_owned(), uuid::Uuid::now_v7().to_string());
                let body = if to.channel {
                    FrameBody::Publish(pb::Publish { channel: conv, body, cmid, attempt: 0, seen: None })
                } else {
                    FrameBody::Send(pb::Send { conv, cmid, body, attempt: 0, seen: None })
                };
                self.ask(Asked::Send(to.conv, stamp), body, pen);
            }
            Protocol::Plain => {
                text.push('!');
                body::write(stamp, to.body_bytes, &mut text);
                ws::write_client_message(MessageKind::Text, text.as_bytes(), pen.mask(), &mut self.out);
                pen.text = text;
            }
        }
        stamp
    }

    /// ACKs for every conversation in which more is there than was told: one WebSocket message. Returns how many.
    pub fn mark(&mut self, names: &Names, pen: &mut Pen) -> u64 {
        if self.protocol == Protocol::Plain {
            return 0;
        }
        pen.payload.clear();
        let mut marks = 0;
        for track in &mut self.tracks {
            if let Some(seq) = track.mark() {
                let ack = pb::Ack { conv: names.id(track.conv).to_owned(), seq };
                let frame = pb::Frame { rid: 0, body: Some(FrameBody::Ack(ack)) };
                Encoding::Protobuf.encode(&frame, &mut pen.payload);
                marks += 1;
            }
        }
        if marks > 0 {
            self.message(pen);
        }
        marks
    }

    /// A sign of life.
    pub fn ping(&mut self, pen: &mut Pen) {
        match self.protocol {
            Protocol::Roost => self.command(0, FrameBody::Ping(pb::Ping {}), pen),
            Protocol::Plain => ws::write_ping(b"", Some(pen.mask()), &mut self.out),
        }
    }

    /// Asks what changed, then reads from the log what it lacks.
    pub fn sync(&mut self, pen: &mut Pen) {
        let asked = self.asked.iter().any(|(_, asked)| *asked == Asked::Sync);
        if self.live && self.protocol == Protocol::Roost && !asked {
            self.ask(Asked::Sync, FrameBody::Sync(pb::Sync { since: String::new(), limit: 0 }), pen);
        }
    }

    /// Reads the log of `conv` from behind `after` to its end. [`Event::LogEnded`] tells when. False if it is being
    /// read already.
    pub fn fetch(&mut self, conv: Conv, after: u64, names: &Names, pen: &mut Pen) -> bool {
        if !self.live || self.protocol == Protocol::Plain || self.fetching.iter().any(|(at, _)| *at == conv) {
            return false;
        }
        self.fetching.push((conv, after));
        self.history(conv, after, names, pen);
        true
    }

    /// Reads from the log of `conv` what is missing before or behind what is there.
    pub fn catch_up(&mut self, conv: Conv, names: &Names, pen: &mut Pen) -> bool {
        let Some(have) = self.track(conv).map(|track| track.have()) else { return false };
        self.fetch(conv, have, names, pen)
    }

    /// Says goodbye; by QUIC the connection does so.
    pub fn close(&mut self, pen: &mut Pen) {
        if self.stream.is_none() {
            ws::write_close(1000, "", Some(pen.mask()), &mut self.out);
        }
    }

    fn history(&mut self, conv: Conv, after: u64, names: &Names, pen: &mut Pen) {
        let history =
            pb::History { conv: names.id(conv).to_owned(), after: Some(after), before: None, limit: PAGE_ENTRIES_MAX };
        self.ask(Asked::History(conv), FrameBody::History(history), pen);
    }

    fn track(&mut self, conv: Conv) -> Option<&mut Track> {
        self.tracks.iter_mut().find(|track| track.conv == conv)
    }

    fn ask(&mut self, asked: Asked, body: FrameBody, pen: &mut Pen) {
        self.rid = self.rid.wrapping_add(1).max(1);
        self.asked.push((self.rid, asked));
        self.command(self.rid.into(), body, pen);
    }

    fn command(&mut self, rid: u64, body: FrameBody, pen: &mut Pen) {
        let mut frame = pb::Frame { rid, body: Some(body) };
        pen.payload.clear();
        Encoding::Protobuf.encode(&frame, &mut pen.payload);
        self.message(pen);
        // The text's memory is used again.
        if let Some(
            FrameBody::Send(pb::Send { body: Some(body), .. })
            | FrameBody::Publish(pb::Publish { body: Some(body), .. }),
        ) = &mut frame.body
        {
            pen.text = std::mem::take(&mut body.text);
        }
    }

    /// Says the frames of the pen's payload.
    fn message(&mut self, pen: &mut Pen) {
        if self.stream.is_some() {
            return self.out.extend_from_slice(&pen.payload);
        }
        let mask = pen.mask();
        ws::write_client_message(MessageKind::Binary, &pen.payload, mask, &mut self.out);
    }
}

/// A message to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The sender's number.
    pub client: u32,
    /// Where to.
    pub conv: Conv,
    /// It is a channel.
    pub channel: bool,
    /// When it was meant to be sent.
    pub intended_ns: u64,
    /// Length of its text.
    pub body_bytes: usize,
    /// It answers another one.
    pub answer: bool,
    /// The conversations.
    pub names: &'a Names,
}

fn decoder() -> ws::Decoder {
    ws::Decoder::new(Side::Client, SERVER_FRAME_BYTES_MAX)
}

#[cfg(test)]
mod tests;
