//! One run: clients, a network, nodes, a bus, a store, faults, and the checks between them.
//!
//! - `serve`: what nodes and the store do; `clients`: what clients do and hear;
//! - `stations`, `lanes`: the same of QUIC, and of races between transports;
//! - `acts`: what people do; `faults`, `moves`: what goes wrong; `finish`: how it ends.

mod acts;
mod clients;
mod faults;
mod finish;
mod lanes;
mod limits;
mod moves;
mod serve;
mod stations;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use roost_client::core::Ticket;
use roost_wire::link::SessionKey;
use roost_wire::pb::{Create, Kind};
use roost_wire::{ConvId, FrameBody};
use tokio::sync::Notify;

use crate::air::Air;
use crate::bus::SimBus;
use crate::client::Client;
use crate::fault::Fault;
use crate::model::{About, Model, Outcome};
use crate::net::Conn;
use crate::node::{Node, WallClock};
use crate::rng::Stream;
use crate::setup::Setup;
use crate::store::SimStore;
use faults::Fate;

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// People, at least 4.
    pub people: usize,
    /// Nodes; `None` lets the seed decide.
    pub nodes: Option<usize>,
    /// Things that people do.
    pub acts: usize,
    /// Whether anything goes wrong meanwhile.
    pub faults: bool,
    /// Whether sessions move to other transports and addresses, where nothing goes wrong: then no app may notice.
    pub moving: bool,
    /// Prints everything that happens.
    pub trace: bool,
}

impl Plan {
    /// The usual size.
    #[must_use]
    pub const fn of(seed: u64) -> Self {
        Self { seed, people: 5, nodes: None, acts: 80, faults: true, moving: false, trace: false }
    }
}

/// Something that happens at a moment of its own.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Act,
    Fault(Fault),
    StartNode(usize),
    StopNode { node: usize, life: u32 },
    Beat { node: usize, life: u32 },
    StartClient(usize),
    RecoverStore,
    Rejoin { from: usize, to: usize },
    UnblockUdp(usize),
}

/// A conversation of the run.
#[derive(Clone, Debug)]
struct Room {
    conv: ConvId,
    kind: Kind,
}

struct World {
    plan: Plan,
    setup: Setup,
    began: tokio::time::Instant,
    news: Arc<Notify>,
    store: Arc<SimStore>,
    bus: SimBus,
    nodes: Vec<Option<Node>>,
    clocks: Vec<WallClock>,
    lives: u32,
    clients: Vec<Client>,
    conns: BTreeMap<u64, Conn>,
    /// Connections by the node and key that serve them.
    served: BTreeMap<(usize, SessionKey), u64>,
    conns_made: u64,
    air: Air,
    /// Which connection of which client has an address.
    homes: BTreeMap<SocketAddr, (usize, u64)>,
    /// Whose an address was or is.
    owners: BTreeMap<SocketAddr, usize>,
    lanes_made: u64,
    ports: u16,
    /// What was asked, and by whom.
    asked: BTreeMap<Ticket, (usize, FrameBody)>,
    tickets: u64,
    /// Conversations with an append that became durable after its node had died.
    late: BTreeSet<ConvId>,
    /// Messages that were to be sent.
    said: u64,
    rooms: Vec<Room>,
    turns: BTreeMap<(Instant, u64), Turn>,
    turns_made: u64,
    acts_left: usize,
    fate: Fate,
    model: Model,
    net: Stream,
    work: Stream,
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
    // Inside, because outside of the runtime the clock is the real one.
    runtime.block_on(async { World::new(*plan).run().await })
}

impl World {
    fn new(plan: Plan) -> Self {
        assert!(plan.people >= 4, "a group of three needs a stranger");
        let Plan { seed, acts, trace, .. } = plan;
        let setup = Setup::draw(&plan);
        let news = Arc::new(Notify::new());
        let (config, window_bytes) = (&setup.client, setup.window_bytes);
        let client = |(number, person): (usize, &usize)| Client::new(seed, number, *person, config, window_bytes);
        let began = tokio::time::Instant::now();
        Self {
            began,
            air: Air::new(seed, began.into_std(), |fault| setup.has(fault)),
            homes: BTreeMap::new(),
            owners: BTreeMap::new(),
            lanes_made: 0,
            ports: 0,
            store: Arc::new(SimStore::new(seed, Arc::clone(&news))),
            bus: SimBus::new(seed, |fault| setup.has(fault)),
            nodes: (0..setup.nodes).map(|_| None).collect(),
            clocks: (0..setup.nodes).map(|_| WallClock::default()).collect(),
            lives: 0,
            clients: setup.clients.iter().enumerate().map(client).collect(),
            conns: BTreeMap::new(),
            served: BTreeMap::new(),
            conns_made: 0,
            asked: BTreeMap::new(),
            tickets: 0,
            late: BTreeSet::new(),
            said: 0,
            rooms: Vec::new(),
            turns: BTreeMap::new(),
            turns_made: 0,
            acts_left: acts,
            fate: Fate::new(seed),
            model: Model::new(setup.clients.len(), trace),
            net: Stream::new(seed, "network"),
            work: Stream::new(seed, "workload"),
            plan,
            setup,
            news,
        }
    }

    async fn run(mut self) -> Outcome {
        self.skew_clocks();
        for node in 0..self.nodes.len() {
            self.start_node(node);
        }
        self.meet().await;
        if !self.model.has_violations() {
            self.live().await;
        }
        if !self.model.has_violations() {
            self.finish().await;
        }
        self.model.followed += self.nodes.iter().flatten().map(Node::followed).sum::<u64>();
        self.model.note(&About::all(), format_args!("datagrams: {:016x}", self.air.digest()));
        self.model.outcome()
    }

    /// Everybody connects, second devices too, then the conversations are made. No faults yet.
    async fn meet(&mut self) {
        let (now, people) = (self.now(), self.plan.people);
        self.clients[..people].iter_mut().for_each(|client| client.start(now));
        self.settle();
        self.until(|world| world.clients[..people].iter().all(|client| client.user.is_some())).await;
        for number in people..self.clients.len() {
            let first = self.clients[number].person;
            let token = self.clients[first].core.as_mut().map(|core| core.resume().token);
            let now = self.now();
            self.clients[number].start_as(now, token);
        }
        self.settle();
        self.until(|world| world.clients.iter().all(|client| client.user.is_some())).await;
        self.make_rooms();
        self.settle();
        self.until(|world| world.asked.is_empty()).await;
    }

    /// A group of all but the last, who is a stranger but for a direct conversation; a small open group; pairs.
    fn make_rooms(&mut self) {
        let people = self.plan.people;
        let mut plans =
            vec![(Kind::Group, (0..people - 1).collect::<Vec<_>>(), false), (Kind::Group, vec![1, 0, 2], true)];
        plans.extend((0..people).map(|person| (Kind::Direct, vec![person, (person + 1) % people], false)));
        for (kind, members, open) in plans {
            let ids = members[1..].iter().filter_map(|member| self.clients[*member].user.as_ref());
            let create = Create {
                kind: kind.into(),
                name: if kind == Kind::Group { "Birds".into() } else { String::new() },
                members: ids.map(ToString::to_string).collect(),
                open,
            };
            self.ask(members[0], FrameBody::Create(create));
        }
        let channel = ConvId::channel("news").expect("it is a name");
        self.rooms.push(Room { conv: channel, kind: Kind::Channel });
    }

    /// People act and things go wrong, until nobody has anything left to do.
    async fn live(&mut self) {
        let first = self.work.ms(0, 50);
        self.later(first, Turn::Act);
        let faults = self.setup.faults.clone();
        for (fault, _) in faults {
            self.next_fault(fault);
        }
        while self.acts_left > 0 {
            self.step(None).await;
            if self.model.has_violations() {
                return;
            }
        }
    }

    async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let deadline = self.now() + Duration::from_secs(60);
        while !done(self) {
            self.step(Some(deadline)).await;
            if self.model.has_violations() {
                return;
            }
            if self.now() >= deadline {
                return self.model.violated(&About::all(), "the deployment did not come up".into());
            }
        }
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn note(&mut self, about: &About, what: std::fmt::Arguments<'_>) {
        self.model.note(about, what);
    }

    fn later(&mut self, after: Duration, turn: Turn) {
        self.turns_made += 1;
        self.turns.insert((self.now() + after, self.turns_made), turn);
    }

    /// Waits for the next thing to happen, at most until `limit`, and lets it happen.
    async fn step(&mut self, limit: Option<Instant>) {
        let lanes = self.lanes_deadline();
        let next = [
            lanes,
            self.air.next(),
            self.turns.first_key_value().map(|((at, _), _)| *at),
            self.conns.values().filter_map(Conn::next).min(),
            self.clients.iter().filter_map(|client| client.core.as_ref()?.next_deadline()).min(),
            self.nodes.iter().flatten().filter_map(Node::next_deadline).min(),
            self.store.next(),
            self.bus.next(),
            limit,
        ];
        let next = next.into_iter().flatten().min();
        let sleep = async {
            match next {
                Some(at) => tokio::time::sleep_until(tokio::time::Instant::from_std(at)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.news.notified() => {}
            () = sleep => {}
        }
        self.model.now_ms = self.began.elapsed().as_millis() as u64;
        self.crash_store();
        self.sync_store();
        self.parcels();
        self.arrivals();
        self.datagrams();
        self.join_races();
        let now = self.now();
        for client in &mut self.clients {
            if let Some(core) = &mut client.core
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

    fn take_turn(&mut self, turn: Turn) {
        match turn {
            Turn::Act => self.act_and_go_on(),
            Turn::Fault(fault) => {
                self.strike(fault);
                self.next_fault(fault);
            }
            Turn::StartNode(node) => self.start_node(node),
            Turn::StopNode { node, life } => self.stop_node(node, life),
            Turn::Beat { node, life } => self.beat(node, life),
            Turn::StartClient(client) => self.start_client(client),
            Turn::RecoverStore => {
                self.note(&About::all(), format_args!("the store is back"));
                self.store.recover();
            }
            Turn::Rejoin { from, to } => {
                self.note(&About::all(), format_args!("node {to} hears node {from} again"));
                self.bus.part(from, to, false);
            }
            Turn::UnblockUdp(client) => {
                self.note(&About::client(client), format_args!("datagrams of {client} come through again"));
                self.set_udp_blocked(client, false);
            }
        }
    }

    /// Carries effects out until there are none.
    fn settle(&mut self) {
        let now = self.now();
        loop {
            let mut worked = false;
            for number in 0..self.nodes.len() {
                self.mail(number);
                worked |= self.turn_stations(number);
                if let Some(node) = &mut self.nodes[number] {
                    node.turn(now);
                }
                while let Some(effect) = self.nodes[number].as_mut().and_then(Node::poll) {
                    self.node_effect(number, effect);
                    worked = true;
                }
                if let Some(node) = &mut self.nodes[number] {
                    std::mem::take(&mut node.tried).iter().for_each(|cmid| self.model.tried(cmid));
                }
                worked |= self.flush_stations(number);
            }
            for number in 0..self.clients.len() {
                worked |= self.client_effects(number);
                worked |= self.work_lanes(number);
            }
            self.bus.take_posted(self.nodes.len(), now, &mut self.model.faults);
            self.conns.retain(|_, conn| !conn.is_over());
            self.model.steps += 1;
            if self.fate.kills_now() {
                self.kill_doomed();
                worked = true;
            }
            if !worked {
                break;
            }
        }
        self.check_limits();
    }
}
