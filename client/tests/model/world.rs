//! A client, a server and the wires between them.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use roost_client::core::{Cmid, Config, Core, Effect, Event, Gone, Identity, LinkId, Record, Resume, Start};
use roost_client::url::Url;
use roost_wire::{ConvId, Encoding, FrameBody, pb};

use crate::server::{Down, Server};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Send(u8),
    OtherWrites(u8),
    DeliverUp(u8),
    DeliverDown(u8),
    /// The app takes some events.
    Take(u8),
    Advance(u16),
    /// Everything under way is lost.
    Cut,
    /// The server gets what was sent; its replies are lost.
    CutAfterTheServerReadAll,
    /// A push is dropped; as the protocol says, the server tells the client to SYNC.
    LosePush,
    RefuseNext,
    UnknownNext {
        stored: bool,
    },
    RefuseSyncNext,
    Goaway {
        slot_ms: u16,
    },
    /// The client's process dies and starts again, with its state or with its outbox only.
    Restart {
        keep: bool,
    },
}

#[derive(Default)]
struct Wire {
    open: bool,
    up: VecDeque<pb::Frame>,
    down: VecDeque<Down>,
}

pub(crate) struct World {
    now: Instant,
    encoding: Encoding,
    seed: u64,
    core: Core,
    server: Server,
    wires: BTreeMap<LinkId, Wire>,
    /// What survives a restart of the client.
    records: BTreeMap<Cmid, Record>,
    resume: Resume,
    /// Events the app has not looked at.
    events: VecDeque<Event>,
    /// What the app has seen, per conversation.
    seen: BTreeMap<ConvId, u64>,
    /// What the app has sent, in order, and what it was told.
    sent: Vec<(ConvId, Cmid)>,
    told: BTreeMap<Cmid, pb::Sent>,
}

fn conv(number: u8) -> ConvId {
    ConvId::new(&format!("c_{number}")).expect("an id")
}

fn client(encoding: Encoding, resume: Resume, records: Vec<Record>, seed: u64) -> Core {
    let config = Config { start: Start::First, send_refusals_max: u32::MAX, ..Config::default() };
    let url = Url::parse("ws://model").expect("an address");
    let identity = Identity { token: Some("t".into()), guest: None, device: "d".into() };
    Core::new(config, encoding, url, identity, resume, records, seed)
}

impl World {
    pub(crate) fn new(seed: u64, json: bool, replaces: bool) -> Self {
        let encoding = if json { Encoding::Json } else { Encoding::Protobuf };
        let mut world = Self {
            now: Instant::now(),
            encoding,
            seed,
            core: client(encoding, Resume::default(), Vec::new(), seed),
            server: Server::new(replaces),
            wires: BTreeMap::new(),
            records: BTreeMap::new(),
            resume: Resume::default(),
            events: VecDeque::new(),
            seen: BTreeMap::new(),
            sent: Vec::new(),
            told: BTreeMap::new(),
        };
        world.core.start(world.now);
        world.drain();
        world
    }

    pub(crate) fn act(&mut self, action: Action) {
        match action {
            Action::Send(number) => self.send(number),
            Action::OtherWrites(number) => {
                self.with_server(|server, out| server.other_writes(conv(number).as_str(), out));
            }
            Action::DeliverUp(count) => (0..count).for_each(|_| {
                self.deliver_up();
            }),
            Action::DeliverDown(count) => (0..count).for_each(|_| {
                self.deliver_down();
            }),
            Action::Take(count) => (0..count).for_each(|_| {
                self.take();
            }),
            Action::Advance(ms) => self.advance(Duration::from_millis(ms.into())),
            Action::Cut => self.cut(),
            Action::CutAfterTheServerReadAll => {
                while self.deliver_up() {}
                self.cut();
            }
            Action::LosePush => self.lose_push(),
            Action::RefuseNext => self.server.refuse_next = true,
            Action::UnknownNext { stored } => self.server.unknown_next = Some(stored),
            Action::RefuseSyncNext => self.server.refuse_sync_next = true,
            Action::Goaway { slot_ms } => {
                let goaway = pb::Goaway { deadline_ms: 30_000, slot_ms: slot_ms.into(), ..pb::Goaway::default() };
                for link in self.server.sessions.clone() {
                    self.wires
                        .entry(link)
                        .or_default()
                        .down
                        .push_back(Down::Frame(0, FrameBody::Goaway(goaway.clone())));
                }
            }
            Action::Restart { keep } => self.restart(keep),
        }
        self.drain();
    }

    fn send(&mut self, number: u8) {
        let cmid = Cmid::from_bits(self.sent.len() as u128 + 1);
        let conv = conv(number);
        let record =
            Record { cmid, conv: conv.clone(), text: "from ada".into(), publish: false, seen: self.core.seen(&conv) };
        self.records.insert(cmid, record.clone());
        self.sent.push((conv, cmid));
        self.core.send(record, self.now);
    }

    fn with_server(&mut self, act: impl FnOnce(&mut Server, &mut Vec<(LinkId, Down)>)) {
        let mut out = Vec::new();
        act(&mut self.server, &mut out);
        for (link, down) in out {
            if let Some(wire) = self.wires.get_mut(&link) {
                wire.down.push_back(down);
            }
        }
    }

    fn deliver_up(&mut self) -> bool {
        let Some((link, frame)) =
            self.wires.iter_mut().find_map(|(link, wire)| wire.up.pop_front().map(|frame| (*link, frame)))
        else {
            return false;
        };
        self.with_server(|server, out| server.frame(link, frame, out));
        true
    }

    fn deliver_down(&mut self) -> bool {
        // The transport opens first.
        if let Some((link, wire)) = self.wires.iter_mut().find(|(_, wire)| !wire.open) {
            wire.open = true;
            let link = *link;
            self.core.opened(link, self.now);
            self.drain();
            return true;
        }
        let Some((link, down)) =
            self.wires.iter_mut().find_map(|(link, wire)| wire.down.pop_front().map(|down| (*link, down)))
        else {
            return false;
        };
        match down {
            Down::Frame(rid, body) => {
                let mut payload = BytesMut::new();
                self.encoding.encode(&pb::Frame { rid, body: Some(body) }, &mut payload);
                self.core.message(link, &payload, self.now);
            }
            Down::Close(code) => {
                self.forget_wire(link);
                self.core.closed(link, &Gone::Closed { code: Some(code), reason: String::new() }, self.now);
            }
        }
        self.drain();
        true
    }

    fn lose_push(&mut self) {
        for wire in self.wires.values_mut() {
            let push = |down: &Down| matches!(down, Down::Frame(0, FrameBody::Entry(_)));
            if let Some(place) = wire.down.iter().position(push) {
                wire.down.remove(place);
                let changed = pb::Changed { more: true, ..pb::Changed::default() };
                wire.down.push_back(Down::Frame(0, FrameBody::Changed(changed)));
                return;
            }
        }
    }

    fn cut(&mut self) {
        let links: Vec<LinkId> = self.wires.keys().copied().collect();
        for link in links {
            self.forget_wire(link);
            self.core.closed(link, &Gone::Closed { code: None, reason: String::new() }, self.now);
            self.drain();
        }
    }

    fn forget_wire(&mut self, link: LinkId) {
        self.wires.remove(&link);
        self.server.sessions.retain(|session| *session != link);
    }

    fn restart(&mut self, keep: bool) {
        self.resume = if keep { self.core.resume() } else { Resume::default() };
        let records = self.records.values().cloned().collect();
        self.seed += 1;
        self.core = client(self.encoding, self.resume.clone(), records, self.seed);
        self.wires.clear();
        self.server.sessions.clear();
        self.events.clear();
        if !keep {
            self.seen.clear();
        }
        self.core.start(self.now);
    }

    fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(at) = self.core.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.core.timeout(self.now);
            self.drain();
        }
        self.now = until;
    }

    fn drain(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Open { link, .. } => drop(self.wires.insert(link, Wire::default())),
                Effect::Transmit { link, payload } => {
                    let frame = self.encoding.decode(&mut &payload[..]).expect("a frame").expect("one frame");
                    self.wires.get_mut(&link).expect("an open link").up.push_back(frame);
                }
                Effect::Shut { link, .. } => {
                    // What was written before is still read by the server.
                    let up = self.wires.remove(&link).map(|wire| wire.up).unwrap_or_default();
                    for frame in up {
                        self.with_server(|server, out| server.frame(link, frame, out));
                    }
                    self.server.sessions.retain(|session| *session != link);
                }
                Effect::Event(event) => {
                    assert!(!matches!(event, Event::Ended(_) | Event::Rejected { .. }), "{event:?}");
                    self.events.push_back(event);
                }
                Effect::Sent { cmid, result } => {
                    let sent = result.unwrap_or_else(|error| panic!("{error}"));
                    self.records.remove(&cmid).expect("told once");
                    self.told.insert(cmid, sent);
                }
                Effect::Answer { .. } => panic!("nothing was asked"),
            }
        }
    }

    fn take(&mut self) -> bool {
        let Some(event) = self.events.pop_front() else { return false };
        match event {
            Event::Entry(entry) => {
                let conv = ConvId::new(&entry.conv).expect("an id");
                let seen = self.seen.entry(conv.clone()).or_default();
                assert_eq!(entry.seq, *seen + 1, "{conv}: not the next one");
                *seen = entry.seq;
                self.core.received(&conv, entry.seq, self.now);
                self.drain();
            }
            Event::Skipped { .. } => panic!("{event:?}"),
            _ => {}
        }
        true
    }

    /// No more trouble: everything is delivered, time passes.
    pub(crate) fn heal(&mut self) {
        (self.server.refuse_next, self.server.unknown_next, self.server.refuse_sync_next) = (false, None, false);
        for _ in 0..400 {
            while self.deliver_up() || self.deliver_down() || self.take() {}
            self.advance(Duration::from_secs(1));
        }
    }

    pub(crate) fn check(&mut self) {
        for (number, log) in &self.server.logs {
            let conv = ConvId::new(number).expect("an id");
            let stored: Vec<String> =
                log.entries.iter().filter(|entry| entry.from == "u_ada").map(|entry| entry.cmid.clone()).collect();
            let sent: Vec<String> =
                self.sent.iter().filter(|(to, _)| *to == conv).map(|(_, cmid)| cmid.to_string()).collect();
            assert_eq!(stored, sent, "{conv}: each once, in the order of sending");
            let seen = self.seen.get(&conv).copied().unwrap_or_default();
            assert_eq!(seen, log.entries.len() as u64, "{conv}: the app has seen all of it");
        }
        for (conv, cmid) in &self.sent {
            let told = &self.told[cmid];
            let place = usize::try_from(told.seq).expect("small") - 1;
            assert_eq!(self.server.logs[conv.as_str()].entries[place].cmid, cmid.to_string());
        }
        assert!(self.records.is_empty() && self.core.outbox_len() == 0);
        assert_eq!(self.wires.len(), 1, "one connection is left");
    }

    pub(crate) fn head(&self, number: u8) -> usize {
        self.server.logs[conv(number).as_str()].entries.len()
    }

    pub(crate) fn dups(&self) -> usize {
        self.server.dups
    }
}
