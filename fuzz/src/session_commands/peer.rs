//! One connection, as its client sees it: what the server writes, read and judged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use roost_wire::link::SessionKey;
use roost_wire::native::Cut;
use roost_wire::pb::Frame;
use roost_wire::ws::{Decoder, Event, Inflater, Side};
use roost_wire::{Encoding, FrameBody};

use crate::frames;

/// Who may get a push, by its number.
pub(super) type Readers = BTreeMap<u64, BTreeSet<usize>>;

/// Most bytes of a server's message.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// A connection, from its opening on; kept when it has ended, since its key may still be named.
pub(super) struct Peer {
    pub(super) index: usize,
    pub(super) key: SessionKey,
    /// The transport is with the driver.
    pub(super) attached: bool,
    /// It will send nothing more.
    pub(super) half_closed: bool,
    /// The driver was told not to read.
    pub(super) paused: bool,
    /// The driver was told that bytes wait, and has not written them all.
    pub(super) write_wanted: bool,
    /// It is no WebSocket; and takes datagrams.
    pub(super) native: bool,
    pub(super) datagrams: bool,
    /// It sent a request head that asks for a session.
    pub(super) upgraded: bool,
    pub(super) offers_deflate: bool,
    /// What it offered in its upgrade, so what it speaks.
    pub(super) encoding: Encoding,
    /// The rid of a CONNECT that the router has not answered.
    pub(super) connect: Option<u64>,
    /// How often the router accepted it, and was told that it is gone.
    pub(super) accepted: u32,
    pub(super) gone: u32,
    /// The rids of commands that the router has not answered.
    pub(super) commands: VecDeque<u64>,
    pub(super) http: Http,
    /// Durable pushes handed over since it had read WELCOME, that it has neither got nor been told to fetch.
    pub(super) owed: BTreeSet<u64>,
    /// Its WELCOME was read.
    pub(super) welcomed: bool,
    /// A close frame was read.
    pub(super) closed: bool,
    greeted: bool,
    last_push: u64,
    reading: Reading,
}

/// What the HTTP service knows of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Http {
    None,
    Open {
        untaken_bytes: usize,
        eof: bool,
    },
    /// It said that it is done, or was told that the stream ended.
    Over,
}

enum Reading {
    Head(Vec<u8>),
    Frames(Decoder, Option<Inflater>),
    Native(Cut),
    Other,
}

impl Peer {
    pub(super) fn new(index: usize, key: SessionKey) -> Self {
        Self {
            index,
            key,
            attached: true,
            half_closed: false,
            paused: false,
            write_wanted: false,
            native: false,
            datagrams: false,
            upgraded: false,
            offers_deflate: false,
            encoding: Encoding::Json,
            connect: None,
            accepted: 0,
            gone: 0,
            commands: VecDeque::new(),
            http: Http::None,
            owed: BTreeSet::new(),
            welcomed: false,
            closed: false,
            greeted: false,
            last_push: 0,
            reading: Reading::Head(Vec::new()),
        }
    }

    /// One whose stream carries frames from the start.
    pub(super) fn native(index: usize, key: SessionKey, datagrams: bool) -> Self {
        let reading = Reading::Native(Cut::default());
        let peer = Self::new(index, key);
        Self { native: true, datagrams, upgraded: true, encoding: Encoding::Protobuf, reading, ..peer }
    }

    /// Whether every durable push is owed to it from now on.
    pub(super) fn is_reader(&self) -> bool {
        self.attached && self.welcomed && !self.closed
    }

    /// Bytes that the server wrote.
    pub(super) fn read(&mut self, mut bytes: Vec<u8>, readers: &Readers) {
        if !matches!(self.http, Http::None) {
            self.reading = Reading::Other;
        }
        if let Reading::Head(head) = &mut self.reading {
            head.append(&mut bytes);
            let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) else { return };
            assert!(head.starts_with(b"HTTP/1.1 "), "a response: {head:?}");
            bytes = head.split_off(end);
            let text = String::from_utf8_lossy(head);
            self.reading = if !text.starts_with("HTTP/1.1 101 ") {
                Reading::Other
            } else if text.contains("permessage-deflate") {
                assert!(self.offers_deflate, "it agrees only on what was offered");
                Reading::Frames(Decoder::with_deflate(Side::Client, MESSAGE_BYTES_MAX), Some(Inflater::new()))
            } else {
                Reading::Frames(Decoder::new(Side::Client, MESSAGE_BYTES_MAX), None)
            };
        }
        if let Reading::Native(cut) = &mut self.reading {
            let (mut at, mut got) = (0, Vec::new());
            while let Some(frame) = cut.next(&bytes, &mut at, MESSAGE_BYTES_MAX).expect("we send frames") {
                got.push(frames::decode_one(Encoding::Protobuf, frame));
            }
            got.iter().for_each(|frame| self.frame(frame, readers));
            return;
        }
        let Reading::Frames(decoder, inflater) = &mut self.reading else { return };
        assert!(!self.closed || bytes.is_empty(), "bytes behind the close frame");
        let (mut at, mut got) = (0, Vec::new());
        loop {
            let next = match inflater {
                Some(inflater) => decoder.next_inflating(&mut bytes, &mut at, inflater),
                None => decoder.next(&mut bytes, &mut at),
            };
            let Some(event) = next.expect("we obey RFC 6455") else { break };
            match event {
                Event::Message { kind, payload } => {
                    assert_eq!(kind, self.encoding.message_kind());
                    got.push(frames::decode_one(self.encoding, payload));
                }
                Event::Ping(_) => panic!("servers send no ping"),
                Event::Pong(payload) => assert!(payload.len() <= 125),
                Event::Close(body) => {
                    assert!(body.is_some(), "we name a code");
                    self.closed = true;
                    break;
                }
            }
        }
        assert_eq!(at, bytes.len(), "nothing behind the close frame");
        for frame in &got {
            self.frame(frame, readers);
        }
    }

    /// What came beside the stream: one frame that may be lost, and that may overtake others.
    pub(super) fn read_datagram(&self, bytes: &[u8], readers: &Readers) {
        assert!(self.native && self.datagrams && self.accepted > 0, "{:?} takes no datagrams", self.key);
        let frame = frames::decode_one(Encoding::Protobuf, bytes);
        let Some(FrameBody::Typing(typing)) = &frame.body else { panic!("not to be lost: {frame:?}") };
        let number = typing.user.parse().expect("our number");
        assert!(readers[&number].contains(&self.index), "{:?} got {number}, which is for others", self.key);
    }

    /// A reply came on a stream of its own. It may overtake what was queued before.
    pub(super) fn read_page(&self, bytes: &[u8]) {
        assert!(self.native && self.accepted > 0, "{:?} has one stream", self.key);
        let frame = frames::decode_one(Encoding::Protobuf, bytes);
        assert!(frame.rid != 0 && matches!(frame.body, Some(FrameBody::Page(_))), "a page: {frame:?}");
    }

    fn frame(&mut self, frame: &Frame, readers: &Readers) {
        let body = frame.body.as_ref().expect("frames have a body");
        let hello = matches!(body, FrameBody::Hello(_));
        assert_eq!(hello, !std::mem::replace(&mut self.greeted, true), "HELLO comes first and once: {frame:?}");
        match body {
            FrameBody::Welcome(welcome) => {
                assert!(self.accepted > 0 && !self.welcomed, "WELCOME once, from the router");
                assert_eq!(welcome.session, self.key.to_string());
                self.welcomed = true;
            }
            FrameBody::Entry(entry) => {
                self.push(entry.seq, readers);
                self.owed.remove(&entry.seq);
            }
            // What was given back of datagrams may have been overtaken.
            FrameBody::Typing(typing) if self.datagrams => {
                let number = typing.user.parse().expect("our number");
                assert!(self.welcomed && readers[&number].contains(&self.index), "{:?} got {number}", self.key);
            }
            FrameBody::Typing(typing) => self.push(typing.user.parse().expect("our number"), readers),
            FrameBody::Changed(changed) => {
                assert!(changed.more, "the edge says only that there is more");
                self.owed.clear();
            }
            FrameBody::Goaway(_) => assert!(self.welcomed, "GOAWAY is for sessions"),
            FrameBody::Ok(_) | FrameBody::Page(_) => assert!(self.welcomed && frame.rid != 0, "a reply: {frame:?}"),
            FrameBody::Error(error) => assert!(error.code >= 100, "{error:?}"),
            FrameBody::Pong(_) | FrameBody::Hello(_) => {}
            _ => panic!("nobody said that: {frame:?}"),
        }
    }

    fn push(&mut self, number: u64, readers: &Readers) {
        assert!(self.welcomed, "nothing is pushed before WELCOME");
        assert!(number > self.last_push, "{number} after {}", self.last_push);
        assert!(readers[&number].contains(&self.index), "{:?} got {number}, which is for others", self.key);
        self.last_push = number;
    }
}
