//! What goes wrong, and how it is put right again. Every kind draws from a stream of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Turn, World};
use crate::fault::Fault;
use crate::model::About;
use crate::rng::Stream;
use crate::store::Trouble;

/// Farthest that a clock stands from another, in ms: a day.
const CLOCK_MS_MAX: i64 = 24 * 3600 * 1000;

/// The streams of the faults, and those that wait for their moment.
pub(super) struct Fate {
    streams: BTreeMap<Fault, Stream>,
    /// The next append cuts its sender off before SENT.
    pub(super) lose_ack: bool,
    /// The next append kills its node before it knows.
    pub(super) kill_at_write: bool,
    /// The host of the store dies as soon as it has something to lose.
    pub(super) crash_store: bool,
    /// The next hand-over of a session loses one of the two connections.
    pub(super) cut_move: bool,
    /// A node dies after so many steps.
    doomed: Option<(usize, usize)>,
}

impl Fate {
    pub(super) fn new(seed: u64) -> Self {
        let stream = |fault: &Fault| (*fault, Stream::new(seed, &format!("fault: {}", fault.name())));
        let streams = Fault::ALL.iter().map(stream).collect();
        Self { streams, lose_ack: false, kill_at_write: false, crash_store: false, cut_move: false, doomed: None }
    }

    pub(super) fn of(&mut self, fault: Fault) -> &mut Stream {
        self.streams.get_mut(&fault).expect("every kind has one")
    }

    /// How long a killed node stays down, and when its clients hear of it.
    pub(super) fn restart(&mut self, fault: Fault) -> (Duration, [Duration; 2]) {
        let rng = self.of(fault);
        (rng.ms(0, 6000), [rng.ms(0, 200), rng.ms(0, 200)])
    }

    /// Counts a step; true if somebody dies at it.
    pub(super) fn kills_now(&mut self) -> bool {
        match &mut self.doomed {
            Some((_, 0)) => true,
            Some((_, steps)) => {
                *steps -= 1;
                false
            }
            None => false,
        }
    }

    /// Nothing waits any more.
    pub(super) fn calm_down(&mut self) {
        (self.lose_ack, self.kill_at_write, self.crash_store) = (false, false, false);
        (self.cut_move, self.doomed) = (false, None);
    }
}

/// A connection of a client.
#[derive(Clone, Copy)]
enum Line {
    Socket(u64),
    /// By QUIC: whose, and which.
    Lane(usize, u64),
}

impl World {
    /// Plans the next fault of this kind, unless it is one that needs no moment.
    pub(super) fn next_fault(&mut self, fault: Fault) {
        let timed = !matches!(
            fault,
            Fault::ClockSkew
                | Fault::BusLoss
                | Fault::BusDuplicate
                | Fault::BusReorder
                | Fault::WritesLost
                | Fault::DatagramLoss
                | Fault::DatagramReorder
                | Fault::DatagramDuplicate
                | Fault::DatagramSpoilt
                | Fault::DatagramReplay
        );
        let mean = self.setup.faults.iter().find(|(known, _)| *known == fault).map(|(_, mean)| *mean);
        if let Some(mean) = mean.filter(|_| timed) {
            let after = self.fate.of(fault).ms(0, 2 * mean.as_millis() as u64);
            self.later(after, Turn::Fault(fault));
        }
    }

    pub(super) fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::LinkDelay | Fault::LinkCut | Fault::LinkSilent | Fault::LinkStall => self.strike_link(fault),
            Fault::Storm => self.storm(),
            Fault::AckLost => self.fate.lose_ack = true,
            Fault::NodeKillAtWrite => self.fate.kill_at_write = true,
            Fault::ClientKill => self.kill_client(),
            Fault::NodeKill => {
                let rng = self.fate.of(fault);
                let (node, steps) = (rng.below(self.nodes.len()), rng.below(40));
                self.fate.doomed = Some((node, steps));
            }
            Fault::AllKill => self.kill_all(),
            Fault::Drain => self.drain(),
            Fault::StoreSlow | Fault::StoreRefuse | Fault::StoreAnswerLost | Fault::StoreHang => {
                self.strike_store(fault);
            }
            Fault::StoreCrash => self.fate.crash_store = true,
            Fault::ClockJump => self.jump_clock(),
            Fault::BusPartition => self.part_nodes(),
            Fault::UdpBlocked => self.block_udp(),
            Fault::AddressChange => self.change_address(),
            Fault::Move => self.move_session(),
            Fault::MoveCut => self.fate.cut_move = true,
            Fault::ClockSkew
            | Fault::WritesLost
            | Fault::BusLoss
            | Fault::BusDuplicate
            | Fault::BusReorder
            | Fault::DatagramLoss
            | Fault::DatagramReorder
            | Fault::DatagramDuplicate
            | Fault::DatagramSpoilt
            | Fault::DatagramReplay => {}
        }
    }

    fn strike_link(&mut self, fault: Fault) {
        let sockets = self.conns.iter().filter(|(_, conn)| conn.held).map(|(id, _)| Line::Socket(*id));
        let lanes = self.clients.iter().enumerate().flat_map(|(number, client)| {
            let held = client.lanes.iter().filter(|(_, lane)| lane.is_held());
            held.map(move |(id, _)| Line::Lane(number, *id))
        });
        let lines: Vec<Line> = sockets.chain(lanes).collect();
        if lines.is_empty() {
            return;
        }
        match lines[self.fate.of(fault).below(lines.len())] {
            Line::Socket(id) => self.strike_socket(fault, id),
            Line::Lane(number, id) => self.strike_lane(fault, number, id),
        }
    }

    fn strike_socket(&mut self, fault: Fault, id: u64) {
        let now = self.now();
        let rng = self.fate.of(fault);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let client = conn.client;
        match fault {
            Fault::LinkDelay => {
                let (until, extra) = (now + rng.ms(100, 5000), rng.ms(100, 4000));
                conn.up.lag(until, extra);
                conn.down.lag(until, extra);
            }
            Fault::LinkCut => conn.cut(now, [rng.ms(0, 200), rng.ms(0, 200)]),
            Fault::LinkSilent => {
                let direction = rng.below(4);
                if direction != 0 {
                    conn.up.go_silent();
                }
                if direction != 1 {
                    conn.down.go_silent();
                }
            }
            _ => conn.down.stall(now + rng.ms(1000, 20_000)),
        }
        self.model.fault(fault, format_args!("connection {id} of client {client}"));
    }

    fn strike_lane(&mut self, fault: Fault, number: usize, id: u64) {
        let now = self.now();
        let rng = self.fate.of(fault);
        let Some(lane) = self.clients[number].lanes.get_mut(&id) else { return };
        let weather = &mut lane.weather;
        match fault {
            Fault::LinkDelay => weather.lag = Some((now + rng.ms(100, 5000), rng.ms(100, 4000))),
            Fault::LinkCut => weather.breaks_at = Some(now + rng.ms(0, 200)),
            Fault::LinkSilent => {
                let direction = rng.below(4);
                weather.dumb |= direction != 0;
                weather.deaf |= direction != 1;
            }
            _ => weather.unread_until = Some(now + rng.ms(1000, 20_000)),
        }
        self.model.fault(fault, format_args!("connection {id} by QUIC of client {number}"));
    }

    /// Cuts what a client holds; false if it holds nothing.
    pub(super) fn cut_client(&mut self, client: usize) -> bool {
        let now = self.now();
        let rng = self.fate.of(Fault::AckLost);
        let mut cut = false;
        for conn in self.conns.values_mut().filter(|conn| conn.client == client && conn.held) {
            conn.cut(now, [rng.ms(0, 200), rng.ms(0, 200)]);
            cut = true;
        }
        for lane in self.clients[client].lanes.values_mut().filter(|lane| lane.is_held()) {
            // Nothing of what is under way arrives.
            (lane.weather.dumb, lane.weather.deaf) = (true, true);
            lane.weather.breaks_at = Some(now + rng.ms(0, 200));
            cut = true;
        }
        cut
    }

    fn storm(&mut self) {
        let now = self.now();
        let rng = self.fate.of(Fault::Storm);
        for conn in self.conns.values_mut() {
            conn.cut(now, [rng.ms(0, 100), rng.ms(0, 100)]);
        }
        let mut count = self.conns.len();
        let lanes = self.clients.iter_mut().flat_map(|client| client.lanes.values_mut());
        for lane in lanes.filter(|lane| lane.is_held()) {
            lane.weather.breaks_at = Some(now + rng.ms(0, 100));
            count += 1;
        }
        self.model.fault(Fault::Storm, format_args!("{count} connections"));
    }

    fn kill_client(&mut self) {
        let rng = self.fate.of(Fault::ClientKill);
        let (number, after) = (rng.below(self.clients.len()), rng.ms(0, 8000));
        if self.clients[number].core.is_none() {
            return;
        }
        self.model.fault(Fault::ClientKill, format_args!("client {number}"));
        for lane in self.clients[number].lanes.values() {
            self.homes.remove(&lane.addr);
        }
        for id in self.clients[number].kill() {
            self.let_go(id);
        }
        // What the app asked for dies with it.
        self.asked.retain(|_, (client, _)| *client != number);
        self.model.unsubscribed_all(number);
        self.later(after, Turn::StartClient(number));
    }

    pub(super) fn start_client(&mut self, number: usize) {
        if self.clients[number].core.is_none() {
            self.note(&About::client(number), format_args!("{number} starts again"));
            let now = self.now();
            self.clients[number].start(now);
        }
    }

    /// The moment of a node has come.
    pub(super) fn kill_doomed(&mut self) {
        let Some((node, _)) = self.fate.doomed.take() else { return };
        if self.nodes[node].is_some() {
            let (down_for, ends) = self.fate.restart(Fault::NodeKill);
            self.model.fault(Fault::NodeKill, format_args!("node {node}, for {down_for:?}"));
            self.kill_node(node, down_for, ends);
        }
    }

    fn kill_all(&mut self) {
        self.model.fault(Fault::AllKill, format_args!("all nodes"));
        for node in 0..self.nodes.len() {
            let (down_for, ends) = self.fate.restart(Fault::AllKill);
            self.kill_node(node, down_for, ends);
        }
    }

    fn drain(&mut self) {
        let now = self.now();
        let rng = self.fate.of(Fault::Drain);
        let (number, window, deadline, seed) =
            (rng.below(self.setup.nodes), rng.ms(0, 3000), rng.ms(1000, 6000), rng.bits() as u64);
        let others = (0..self.nodes.len()).filter(|other| *other != number && self.nodes[*other].is_some());
        let urls: Vec<String> = others.map(|other| format!("ws://node-{other}.invalid/ws")).collect();
        let Some(node) = self.nodes[number].as_mut().filter(|node| !node.draining) else { return };
        node.draining = true;
        let life = node.life;
        for shard in &mut node.shards {
            shard.drain("drain", window, deadline, urls.clone(), now, seed);
        }
        self.model.fault(Fault::Drain, format_args!("node {number} within {deadline:?}"));
        self.later(deadline + Duration::from_millis(500), Turn::StopNode { node: number, life });
    }

    /// A drained node stops, and starts again.
    pub(super) fn stop_node(&mut self, number: usize, life: u32) {
        if self.nodes[number].as_ref().is_none_or(|node| node.life != life) {
            return;
        }
        self.note(&About::all(), format_args!("node {number} stops"));
        let (down_for, ends) = self.fate.restart(Fault::Drain);
        self.kill_node(number, down_for, ends);
    }

    fn strike_store(&mut self, fault: Fault) {
        let now = self.now();
        let rng = self.fate.of(fault);
        let trouble = match fault {
            Fault::StoreSlow => {
                // Longer than routers wait, now and then.
                let (until, extra) = (now + rng.ms(200, 8000), rng.ms(20, 14_000));
                self.store.slow_down(until, extra);
                return self.model.fault(fault, format_args!("up to {extra:?} a call"));
            }
            Fault::StoreRefuse => Trouble::Refuse,
            Fault::StoreAnswerLost => Trouble::LoseAnswer,
            _ => Trouble::Hang,
        };
        let write = rng.chance(60);
        if write {
            self.store.trouble_write(trouble);
        } else {
            self.store.trouble_read(trouble);
        }
        self.model.fault(fault, format_args!("the next {}", if write { "write" } else { "read" }));
    }

    /// The host of the store dies, if it is to and has something to lose.
    pub(super) fn crash_store(&mut self) {
        if !self.fate.crash_store || self.store.unsynced() == 0 {
            return;
        }
        self.fate.crash_store = false;
        let rng = self.fate.of(Fault::StoreCrash);
        let (kept_percent, after) = ([0, 50, 100][rng.below(3)], rng.ms(0, 4000));
        let (batch, lost) = self.store.crash(kept_percent);
        self.model.fault(Fault::StoreCrash, format_args!("{lost} writes are lost, back in {after:?}"));
        self.model.faults.add(Fault::WritesLost, lost);
        self.learn(&batch);
        batch.release();
        self.later(after, Turn::RecoverStore);
    }

    pub(super) fn skew_clocks(&mut self) {
        if !self.setup.has(Fault::ClockSkew) {
            return;
        }
        let rng = self.fate.of(Fault::ClockSkew);
        let mut draw = || rng.below(2 * CLOCK_MS_MAX as usize) as i64 - CLOCK_MS_MAX;
        self.clocks.iter().for_each(|clock| clock.jump(draw()));
        self.clients.iter_mut().for_each(|client| client.skew_ms = draw());
        let count = self.clocks.len() + self.clients.len();
        self.model.faults.add(Fault::ClockSkew, count as u64);
    }

    fn jump_clock(&mut self) {
        let (began, now) = (self.began, self.now());
        let rng = self.fate.of(Fault::ClockJump);
        let number = rng.below(self.setup.nodes);
        let farthest = [2_000, 60_000, CLOCK_MS_MAX][rng.below(3)];
        let by_ms = rng.below(2 * farthest as usize) as i64 - farthest;
        self.clocks[number].jump(by_ms);
        let unix_ms = self.clocks[number].unix_ms(began);
        for shard in self.nodes[number].iter_mut().flat_map(|node| &mut node.shards) {
            shard.wall_clock(unix_ms, now);
        }
        self.model.fault(Fault::ClockJump, format_args!("node {number} by {by_ms} ms"));
    }

    fn part_nodes(&mut self) {
        let count = self.nodes.len();
        if count < 2 {
            return;
        }
        let rng = self.fate.of(Fault::BusPartition);
        let from = rng.below(count);
        let to = (from + 1 + rng.below(count - 1)) % count;
        let (both, after) = (rng.chance(60), rng.ms(500, 30_000));
        self.model.fault(Fault::BusPartition, format_args!("node {to} does not hear node {from}, mutual: {both}"));
        for (from, to) in [(from, to), (to, from)].into_iter().take(if both { 2 } else { 1 }) {
            self.bus.part(from, to, true);
            self.later(after, Turn::Rejoin { from, to });
        }
    }
}
