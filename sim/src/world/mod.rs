//! One run: people, a network, a node, faults, and the checks between them.

mod turns;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use roost_client::core::{self, Effect as ClientEffect, Gone, LinkId, Ticket};
use roost_client::{Event, SendError};
use roost_edge_core::{Effect, End};
use roost_storage::testkit::FaultyStore;
use roost_storage::{MemoryStore, Range, Store};
use roost_wire::link::SessionKey;
use roost_wire::pb::{Create, Kind};
use roost_wire::{ConvId, FrameBody};

use crate::check::{Model, Outcome};
use crate::net::{Arrival, Conn};
use crate::node::{Node, SimStore};
use crate::person::{Heard, Person};
use crate::rng::Stream;

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// People, at least 3.
    pub people: usize,
    /// Messages they send.
    pub sends: usize,
    /// Faults that happen while they do; 0 is a fair-weather run.
    pub faults: usize,
    /// Prints everything that happens.
    pub trace: bool,
}

/// How long everybody may take to be where the log is, once the faults are over, in virtual time.
const SETTLE_WITHIN: Duration = Duration::from_secs(600);
/// How often it is looked whether they are.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Something that happens at a moment of its own.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Send,
    Fault,
    StartNode,
    StartPerson(usize),
}

struct Room {
    conv: ConvId,
    members: Vec<usize>,
}

struct World {
    plan: Plan,
    began: tokio::time::Instant,
    store: Arc<SimStore>,
    node: Option<Node>,
    lives: u32,
    people: Vec<Person>,
    conns: BTreeMap<u64, Conn>,
    conns_made: u64,
    /// Conversations asked for, by the ticket of the CREATE.
    asked: BTreeMap<Ticket, Vec<usize>>,
    rooms: Vec<Room>,
    turns: BTreeMap<(Instant, u64), Turn>,
    turns_made: u64,
    sends_left: usize,
    faults_left: usize,
    model: Model,
    net: Stream,
    work: Stream,
    fate: Stream,
}

/// The connection that the node knows as `key`.
fn served(conns: &mut BTreeMap<u64, Conn>, key: SessionKey) -> Option<&mut Conn> {
    conns.values_mut().find(|conn| conn.session == Some(key))
}

/// Runs `plan` to its end.
///
/// # Panics
/// If the parts break their contracts with each other: that is a finding too.
#[must_use]
pub fn run(plan: &Plan) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing");
    runtime.block_on(World::new(*plan).run())
}

impl World {
    fn new(plan: Plan) -> Self {
        let Plan { seed, people, sends, faults, trace } = plan;
        assert!(people >= 3, "a group needs three");
        Self {
            plan,
            began: tokio::time::Instant::now(),
            store: Arc::new(FaultyStore::new(MemoryStore::default())),
            node: None,
            lives: 0,
            people: (0..people).map(|number| Person::new(seed, number)).collect(),
            conns: BTreeMap::new(),
            conns_made: 0,
            asked: BTreeMap::new(),
            rooms: Vec::new(),
            turns: BTreeMap::new(),
            turns_made: 0,
            sends_left: sends,
            faults_left: faults,
            model: Model::new(trace),
            net: Stream::new(seed, "network"),
            work: Stream::new(seed, "workload"),
            fate: Stream::new(seed, "faults"),
        }
    }

    async fn run(mut self) -> Outcome {
        self.start_node();
        let now = self.now();
        for person in &mut self.people {
            person.start(now);
        }
        self.settle();
        self.meet().await;
        let (first_send, first_fault) = (self.work.ms(0, 50), self.fate.ms(0, 500));
        self.later(first_send, Turn::Send);
        self.later(first_fault, Turn::Fault);
        while self.sends_left > 0 || self.faults_left > 0 || !self.turns.is_empty() {
            self.step(None).await;
            if self.model.has_violations() {
                return self.model.outcome();
            }
        }
        self.calm_down().await;
        self.compare().await;
        self.model.outcome()
    }

    /// Everybody connects, then the conversations are made. No faults yet.
    async fn meet(&mut self) {
        while self.people.iter().any(|person| person.user.is_none()) {
            self.step(None).await;
        }
        let count = self.people.len();
        let pairs = (0..count).map(|number| vec![number, (number + 1) % count]);
        for (ticket, members) in std::iter::once((0..count).collect()).chain(pairs).enumerate() {
            let kind = if ticket == 0 { Kind::Group } else { Kind::Direct };
            let ids = members[1..].iter().filter_map(|member| self.people[*member].user.as_ref());
            let create = Create {
                kind: kind as i32,
                name: if ticket == 0 { "Everybody".into() } else { String::new() },
                members: ids.map(ToString::to_string).collect(),
                open: false,
            };
            let (asker, ticket, now) = (members[0], Ticket(ticket as u64), self.now());
            self.asked.insert(ticket, members);
            if let Some(core) = &mut self.people[asker].core {
                core.request(ticket, FrameBody::Create(create), now);
            }
        }
        self.settle();
        while !self.asked.is_empty() {
            self.step(None).await;
        }
    }

    /// No more faults: everybody catches up, or it is a violation.
    async fn calm_down(&mut self) {
        let deadline = self.now() + SETTLE_WITHIN;
        loop {
            let look = self.now() + LOOK_EVERY;
            while self.now() < look {
                self.step(Some(look)).await;
                if self.model.has_violations() {
                    return;
                }
            }
            if self.everybody_has_all().await {
                return;
            }
            if self.now() >= deadline {
                let behind = self.people.iter().filter_map(|person| person.core.as_ref()).map(core::Core::outbox_len);
                let text =
                    format!("not settled after {SETTLE_WITHIN:?}; outboxes hold {:?}", behind.collect::<Vec<_>>());
                self.model.violated(text);
                return;
            }
        }
    }

    async fn everybody_has_all(&self) -> bool {
        if self.people.iter().any(|person| !person.disk.outbox.is_empty()) {
            return false;
        }
        for room in &self.rooms {
            let metas = self.store.inner().metas(std::slice::from_ref(&room.conv)).await;
            let head = metas.ok().and_then(|metas| metas.into_iter().next().flatten()).map_or(0, |meta| meta.head);
            if !room.members.iter().all(|person| self.model.has_all(*person, &room.conv, head)) {
                return false;
            }
        }
        true
    }

    /// Compares every log with what was promised and shown.
    async fn compare(&mut self) {
        for room in &self.rooms {
            let mut log = Vec::new();
            loop {
                let after = log.len() as u64;
                let page = self.store.inner().range(&room.conv, Range::After(after), 1000).await;
                let page = page.expect("the model does not fail");
                if page.is_empty() {
                    break;
                }
                log.extend(page);
            }
            self.model.check_log(&room.conv, &log, &room.members);
        }
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn note(&mut self, what: &str) {
        self.model.note(self.began.elapsed().as_millis(), what);
    }

    fn later(&mut self, after: Duration, turn: Turn) {
        self.turns_made += 1;
        self.turns.insert((self.now() + after, self.turns_made), turn);
    }

    /// Waits for the next thing to happen, at most until `limit`, and lets it happen.
    async fn step(&mut self, limit: Option<Instant>) {
        let turn = self.turns.first_key_value().map(|((at, _), _)| *at);
        let arrival = self.conns.values().filter_map(Conn::next).min();
        let client = self.people.iter().filter_map(|person| person.core.as_ref()?.next_deadline()).min();
        let shard = self.node.as_ref().and_then(|node| node.shard.next_deadline());
        let next = [turn, arrival, client, shard, limit].into_iter().flatten().min();
        let sleep = async {
            match next {
                Some(at) => tokio::time::sleep_until(tokio::time::Instant::from_std(at)).await,
                None => std::future::pending().await,
            }
        };
        let mailbox = self.node.as_ref().map(|node| Arc::clone(&node.mailbox));
        let news = async {
            match mailbox {
                Some(mailbox) => mailbox.news.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = news => {}
            () = sleep => {}
        }
        self.arrivals();
        let now = self.now();
        for person in &mut self.people {
            if let Some(core) = &mut person.core
                && core.next_deadline().is_some_and(|at| at <= now)
            {
                core.timeout(now);
            }
        }
        while let Some(entry) = self.turns.first_entry()
            && entry.key().0 <= now
        {
            let turn = entry.remove();
            self.take_turn(turn);
        }
        self.settle();
    }

    /// Carries effects out until there are none.
    fn settle(&mut self) {
        let now = self.now();
        loop {
            let mut worked = false;
            if let Some(node) = &mut self.node {
                node.turn(now);
                while let Some(effect) = self.node.as_mut().and_then(Node::poll) {
                    self.node_effect(effect);
                    worked = true;
                }
            }
            for number in 0..self.people.len() {
                while let Some(effect) = self.people[number].core.as_mut().and_then(core::Core::poll_effect) {
                    self.client_effect(number, effect);
                    worked = true;
                }
            }
            self.conns.retain(|_, conn| !conn.is_over());
            if !worked {
                return;
            }
        }
    }

    fn node_effect(&mut self, effect: Effect) {
        let now = self.now();
        let Some(node) = &mut self.node else { return };
        match effect {
            Effect::Write(key) => {
                let Some(outbound) = node.shard.outbound(key) else { return };
                let bytes: Vec<u8> = outbound.chunks().flatten().copied().collect();
                node.shard.sent(key, bytes.len(), now);
                if let Some(conn) = served(&mut self.conns, key) {
                    conn.down.send(&bytes, now, &mut self.net);
                }
            }
            Effect::Close(key) => {
                if let Some(conn) = served(&mut self.conns, key) {
                    conn.session = None;
                    conn.down.finish(now, &mut self.net);
                }
            }
            Effect::Pause(key) | Effect::Resume(key) => {
                if let Some(conn) = served(&mut self.conns, key) {
                    conn.paused = matches!(effect, Effect::Pause(_));
                }
            }
            other => panic!("people speak WebSocket only: {other:?}"),
        }
    }

    fn client_effect(&mut self, number: usize, effect: ClientEffect) {
        let now = self.now();
        match effect {
            ClientEffect::Open { link, .. } => self.open(number, link),
            ClientEffect::Transmit { link, payload } => {
                let bytes = self.people[number].message(&payload);
                if let Some(conn) = self.conn_of(number, link) {
                    self.conns.get_mut(&conn).expect("found").up.send(&bytes, now, &mut self.net);
                }
            }
            ClientEffect::Shut { link, .. } => {
                if let Some(id) = self.conn_of(number, link) {
                    self.people[number].sockets.remove(&link);
                    self.let_go(id);
                }
            }
            ClientEffect::Event(event) => self.event(number, event),
            ClientEffect::Sent { cmid, result } => {
                if result == Err(SendError::Ended) {
                    return;
                }
                let record = self.people[number].disk.outbox.remove(&cmid);
                match result {
                    Ok(sent) => {
                        self.note(&format!("{number} has SENT {} {}", sent.conv, sent.seq));
                        let text = record.map(|record| record.text).unwrap_or_default();
                        self.model.acknowledged(&cmid.to_string(), &text, &sent);
                    }
                    Err(error) => self.model.violated(format!("person {number}: {cmid} was refused: {error}")),
                }
            }
            ClientEffect::Answer { ticket, result } => self.answer(number, ticket, result),
        }
    }

    fn answer(&mut self, number: usize, ticket: Ticket, result: Result<FrameBody, roost_client::RequestError>) {
        let Some(members) = self.asked.remove(&ticket) else { return };
        match result {
            Ok(FrameBody::Conversation(made)) => {
                let conv = ConvId::new(&made.conv).expect("the node names it");
                self.note(&format!("{number} made {conv}"));
                self.rooms.push(Room { conv, members });
            }
            other => self.model.violated(format!("person {number} could not make a conversation: {other:?}")),
        }
    }

    fn event(&mut self, number: usize, event: Event) {
        match event {
            Event::Connected { user, .. } => {
                self.note(&format!("{number} is connected"));
                self.people[number].user = Some(user);
            }
            Event::Entry(entry) => {
                self.note(&format!("{number} is shown {} {}", entry.conv, entry.seq));
                let (conv, seq, now) = (ConvId::new(&entry.conv), entry.seq, self.now());
                self.model.shown(number, entry);
                if let (Ok(conv), Some(core)) = (conv, &mut self.people[number].core) {
                    core.received(&conv, seq, now);
                    if self.work.chance(30) {
                        core.read(&conv, seq, now);
                    }
                }
            }
            Event::Receipt(receipt) => {
                let of = |person: &Person| person.user.as_ref().is_some_and(|user| user.as_str() == receipt.user);
                if let Some(of) = self.people.iter().position(of) {
                    self.model.receipt(of, &receipt);
                }
            }
            Event::Skipped { conv, from, to } => {
                self.model.violated(format!("person {number} was not shown {conv} {from} to {to}"));
            }
            Event::Ended(reason) => self.model.violated(format!("the client of person {number} gave up: {reason:?}")),
            _ => {}
        }
    }

    fn open(&mut self, number: usize, link: LinkId) {
        let now = self.now();
        let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 1024));
        let session = self.node.as_mut().and_then(|node| node.shard.opened(peer, now));
        let Some(session) = session else {
            if let Some(core) = &mut self.people[number].core {
                core.closed(link, &Gone::Failed("connection refused".into()), now);
            }
            return;
        };
        self.conns_made += 1;
        let mut conn = Conn::new(number, link, session);
        let head = self.people[number].open(link, self.conns_made);
        conn.up.send(&head, now, &mut self.net);
        self.conns.insert(self.conns_made, conn);
    }

    fn conn_of(&self, number: usize, link: LinkId) -> Option<u64> {
        self.people[number].sockets.get(&link).map(|socket| socket.conn)
    }

    /// The person's end is gone; the node hears of it later.
    fn let_go(&mut self, id: u64) {
        let now = self.now();
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.held = false;
            conn.up.finish(now, &mut self.net);
        }
    }

    fn arrivals(&mut self) {
        let now = self.now();
        let ids: Vec<u64> = self.conns.keys().copied().collect();
        for id in ids {
            while let Some(conn) = self.conns.get_mut(&id)
                && let Some(session) = conn.session.filter(|_| !conn.paused)
                && let Some(arrival) = conn.up.take(now)
            {
                let Some(node) = &mut self.node else { break };
                match arrival {
                    Arrival::Bytes(mut bytes) => node.shard.received(session, &mut bytes, now),
                    Arrival::End => {
                        conn.session = None;
                        node.shard.ended(session, End::Eof, now);
                    }
                }
            }
            while let Some(conn) = self.conns.get_mut(&id)
                && conn.held
                && let Some(arrival) = conn.down.take(now)
            {
                let (number, link) = (conn.person, conn.link);
                match arrival {
                    Arrival::Bytes(bytes) => self.heard(number, link, id, bytes),
                    Arrival::End => self.lost(number, link, id, &Gone::Failed("the connection broke".into())),
                }
            }
        }
    }

    fn heard(&mut self, number: usize, link: LinkId, id: u64, bytes: Vec<u8>) {
        let now = self.now();
        for heard in self.people[number].receive(link, bytes) {
            let Some(core) = &mut self.people[number].core else { return };
            match heard {
                Heard::Opened => core.opened(link, now),
                Heard::Message(payload) => core.message(link, &payload, now),
                Heard::Gone(gone) => return self.lost(number, link, id, &gone),
                Heard::Answer(bytes) => {
                    if let Some(conn) = self.conns.get_mut(&id) {
                        conn.up.send(&bytes, now, &mut self.net);
                    }
                }
            }
        }
    }

    fn lost(&mut self, number: usize, link: LinkId, id: u64, gone: &Gone) {
        let now = self.now();
        self.let_go(id);
        self.people[number].sockets.remove(&link);
        if let Some(core) = &mut self.people[number].core {
            core.closed(link, gone, now);
        }
    }
}
