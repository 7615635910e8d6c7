//! One thread: its clients, their sockets, its loop.
//!
//! Every turn takes from each source as much as its budget allows: orders, those who begin, heartbeats, what happened to
//! sockets. Nothing waits for a server; what is late is late from its intended time.

mod ends;
mod events;
mod stage;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use bytes::BytesMut;

use super::arrivals::Arrivals;
use super::crowd::{Beat, Crowd, Heard};
use super::gaps::Gaps;
use super::order::{Order, Tick};
use super::source::source;
use super::tally::Tally;
use super::voice::{Voice, sheet};
use crate::clock::Clock;
use crate::lines::{Carrier, Lines};
use crate::recorder::record;
use crate::round::Round;
use stage::Stage;

pub(super) const MILLISECOND: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1000 * MILLISECOND;

/// Connections of all threads that may be half open: fewer than a listener's queue has room for.
const OPENING_MAX: u32 = 2048;
/// Budgets of a turn.
const BEGIN_PER_TURN: u32 = 256;
const BEATS_PER_TURN: u32 = 512;
const EVENTS_PER_TURN: u32 = 2048;
/// How often a thread tells what it measured.
const TICK_EVERY_NS: u64 = 250 * MILLISECOND;
/// How long it sleeps at most: orders come without a call.
const SLEEP_NS: u64 = 10 * MILLISECOND;

/// What a thread is made from.
pub(crate) struct Make {
    pub(crate) number: u32,
    pub(crate) threads: u32,
    /// Its clients: so many, from this number on.
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) target: SocketAddr,
    pub(crate) carrier: Carrier,
    pub(crate) voice: Voice,
    pub(crate) clock: Clock,
    /// How often clients send a heartbeat, unless the server wants it more often.
    pub(crate) heartbeat: Duration,
    /// How long its answer may take.
    pub(crate) patience: Duration,
    /// How long a connection may take to become a session.
    pub(crate) setup_within: Duration,
    /// Share of the clients that go on from another address each second.
    pub(crate) migrating: f64,
    pub(crate) seed: u64,
    pub(crate) told: Receiver<Order>,
    pub(crate) notes: Sender<Tick>,
}

/// What a client will do later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Later {
    /// Connect; it was meant to at this time.
    Open(u64),
    /// Go, as the server asked this connection to.
    Leave(u8),
    /// Ask for the channel once more, on this connection.
    Subscribe(u8),
}

pub(crate) struct Worker {
    number: u32,
    target: SocketAddr,
    crowd: Crowd,
    lines: Lines,
    voice: Voice,
    clock: Clock,
    seed: u64,
    told: Receiver<Order>,
    notes: Sender<Tick>,
    stage: Stage,
    /// How many orders came.
    orders: u32,
    done: bool,
    /// Sessions lost in this stage.
    stage_lost: u32,
    tally: Tally,
    /// What clients of this thread were not pushed.
    gaps: Gaps,
    /// Those who begin.
    arrivals: Arrivals,
    opening_max: u32,
    /// Who was due before this was held up by connections that are half open.
    held_ns: u64,
    /// Who does what later.
    later: BinaryHeap<Reverse<(u64, u32, Later)>>,
    /// Connections in the order of their beginning, and when they are given up.
    deadlines: VecDeque<(u64, u32, u8)>,
    setup_within_ns: u64,
    heartbeat_ns: u64,
    patience_ns: u64,
    beats: Round,
    /// The same some time later: to see whether they were answered.
    looks: Round,
    beating: bool,
    /// Whose turn it is to go on from another address, if any do.
    moves: Option<Round>,
    next_tick_ns: u64,
    out: BytesMut,
    heard: Vec<Heard>,
}

/// Everybody's turn comes once while the share makes a whole.
fn moves(share: f64, now: u64, count: u32) -> Option<Round> {
    (share > 0.0).then(|| Round::new(now, (SECOND as f64 / share) as u64, count))
}

impl Worker {
    /// Makes the thread's part: rings, clients.
    ///
    /// # Errors
    /// As [`Carrier::lines`].
    pub(crate) fn new(make: Make) -> io::Result<Self> {
        let Make { number, threads, first, count, target, voice, clock, heartbeat, patience, .. } = make;
        let (heartbeat_ns, patience_ns) = (crate::clock::ns(heartbeat), crate::clock::ns(patience));
        let beats = Round::new(clock.now_ns(), heartbeat_ns.max(1), count);
        Ok(Self {
            number,
            target,
            crowd: Crowd::new(first, count),
            lines: make.carrier.lines(count)?,
            voice,
            clock,
            seed: make.seed ^ u64::from(number) << 32,
            told: make.told,
            notes: make.notes,
            stage: Stage::Idle,
            orders: 0,
            done: false,
            stage_lost: 0,
            tally: Tally::default(),
            gaps: Gaps::default(),
            arrivals: Arrivals::nobody(),
            opening_max: (OPENING_MAX / threads).max(16),
            held_ns: 0,
            later: BinaryHeap::new(),
            deadlines: VecDeque::new(),
            setup_within_ns: crate::clock::ns(make.setup_within),
            heartbeat_ns,
            patience_ns,
            looks: beats.later(patience_ns),
            beats,
            beating: heartbeat_ns > 0,
            moves: moves(make.migrating, clock.now_ns(), count),
            next_tick_ns: 0,
            out: sheet(),
            heard: Vec::new(),
        })
    }

    /// Rings it took.
    pub(crate) fn rings(&self) -> usize {
        self.lines.rings()
    }

    /// Serves the main thread until [`Order::Finish`].
    pub(crate) fn run(mut self) {
        let result = self.serve();
        let now = self.clock.now_ns();
        self.tell(now, Some(result.map_err(|error| error.to_string())));
    }

    fn serve(&mut self) -> io::Result<()> {
        loop {
            let now = self.clock.now_ns();
            while let Ok(order) = self.told.try_recv() {
                // What was measured until now belongs to the order before.
                self.tell(now, None);
                self.orders += 1;
                self.done = false;
                self.begin(order, now);
            }
            self.begin_due(now)?;
            self.run_later(now)?;
            self.end_late(now)?;
            self.beat(now)?;
            self.migrate_due(now);
            self.go_on(now)?;
            if self.is_over() {
                return Ok(());
            }
            if now >= self.next_tick_ns {
                self.tell(now, None);
            }
            let wait_ns = self.next_due(now).saturating_sub(self.clock.now_ns()).min(SLEEP_NS);
            self.lines.wait(Duration::from_nanos(wait_ns))?;
            self.events()?;
        }
    }

    /// When something is to be done without being asked.
    fn next_due(&self, now: u64) -> u64 {
        let begin = if self.crowd.opening() < self.opening_max { self.arrivals.due_ns() } else { u64::MAX };
        let later = self.later.peek().map_or(u64::MAX, |Reverse((at, ..))| *at);
        let beats = if self.beating { self.beats.due_ns().min(self.looks.due_ns()) } else { u64::MAX };
        let moves = self.moves.as_ref().map_or(u64::MAX, Round::due_ns);
        begin.min(later).min(beats).min(moves).min(self.next_tick_ns).min(self.stage_due(now))
    }

    /// Connects whoever is due.
    fn begin_due(&mut self, now: u64) -> io::Result<()> {
        for _ in 0..BEGIN_PER_TURN {
            if self.crowd.opening() >= self.opening_max {
                self.held_ns = now;
                return Ok(());
            }
            let Some((at, intended_ns)) = self.arrivals.take(now) else { return Ok(()) };
            // Who had to wait for the server's answers to others was not late because of this generator.
            if intended_ns > self.held_ns {
                record(&mut self.tally.late, intended_ns, now);
            }
            self.open(at, intended_ns, now)?;
        }
        Ok(())
    }

    /// Begins to connect, as soon as its slot is free.
    fn open(&mut self, at: u32, intended_ns: u64, now: u64) -> io::Result<()> {
        use super::client::Phase;
        match self.crowd.phase(at) {
            Phase::Gone => {}
            Phase::Closing => {
                self.later.push(Reverse((now + MILLISECOND, at, Later::Open(intended_ns))));
                return Ok(());
            }
            _ => return Ok(()),
        }
        self.crowd.opens(at, intended_ns);
        self.tally.counts.begun += 1;
        self.deadlines.push_back((now + self.setup_within_ns, at, self.crowd.opening_of(at)));
        let source = source(self.target.ip(), self.crowd.number(at)).map(|source| (source, 0).into());
        self.lines.connect(at, source, self.target)
    }

    fn run_later(&mut self, now: u64) -> io::Result<()> {
        for _ in 0..BEGIN_PER_TURN {
            let Some(Reverse((due, at, what))) = self.later.peek().copied() else { return Ok(()) };
            if due > now {
                return Ok(());
            }
            match what {
                Later::Open(_) if self.crowd.opening() >= self.opening_max => return Ok(()),
                Later::Open(intended_ns) => {
                    self.later.pop();
                    self.open(at, intended_ns, now)?;
                }
                Later::Subscribe(opening) => {
                    self.later.pop();
                    if self.crowd.opening_of(at) == opening {
                        self.out.clear();
                        self.crowd.subscribe(at, self.stage.subscribes(), &mut self.voice, &mut self.out);
                        self.flush(at)?;
                    }
                }
                Later::Leave(opening) => {
                    self.later.pop();
                    self.leave(at, opening, now)?;
                }
            }
        }
        Ok(())
    }

    /// Gives up connections that take too long.
    fn end_late(&mut self, now: u64) -> io::Result<()> {
        while let Some((deadline, at, opening)) = self.deadlines.front().copied() {
            let waits = self.crowd.phase(at).is_opening() && self.crowd.opening_of(at) == opening;
            if waits && deadline > now {
                return Ok(());
            }
            self.deadlines.pop_front();
            if waits {
                self.ended(at, "the server did not answer in time", now)?;
            }
        }
        Ok(())
    }

    /// Sends the heartbeats that are due, and looks after those that were not answered.
    fn beat(&mut self, now: u64) -> io::Result<()> {
        if !self.beating {
            return Ok(());
        }
        for _ in 0..BEATS_PER_TURN {
            let Some((at, due_ns)) = self.beats.take(now) else { break };
            if !self.stage.beats(due_ns) {
                continue;
            }
            let beat_ms = (due_ns / MILLISECOND) as u32;
            self.out.clear();
            if self.crowd.beat(at, beat_ms, &mut self.voice, &mut self.out) == Beat::Sent {
                self.tally.counts.beats_sent += 1;
                self.flush(at)?;
            }
        }
        for _ in 0..BEATS_PER_TURN {
            let Some((at, _)) = self.looks.take(now) else { break };
            let patience_ms = (self.patience_ns / MILLISECOND) as u32;
            let overdue = |sent: u32| ((now / MILLISECOND) as u32).wrapping_sub(sent) >= patience_ms;
            if self.crowd.awaits_pong(at).is_some_and(overdue) {
                self.tally.counts.beats_unanswered += 1;
                self.ended(at, "a heartbeat was not answered", now)?;
            }
        }
        Ok(())
    }

    /// Lets those whose turn it is go on from another address.
    fn migrate_due(&mut self, now: u64) {
        let Some(moves) = &mut self.moves else { return };
        for _ in 0..BEATS_PER_TURN {
            let Some((at, _)) = moves.take(now) else { return };
            self.tally.counts.migrated += u64::from(self.lines.migrate(at));
        }
    }

    /// The server wants heartbeats so often.
    fn beat_every(&mut self, heartbeat_ms: u32, now: u64) {
        let wanted_ns = u64::from(heartbeat_ms) * MILLISECOND;
        if self.beating && wanted_ns > 0 && wanted_ns < self.heartbeat_ns {
            self.heartbeat_ns = wanted_ns;
            self.beats = Round::new(now, wanted_ns, self.crowd.len());
            self.looks = self.beats.later(self.patience_ns);
        }
    }

    /// Sends what was written for a client.
    fn flush(&mut self, at: u32) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let bytes = Box::from(&self.out[..]);
        self.out.clear();
        self.lines.send(at, bytes)
    }

    /// Tells what was measured since the last time.
    fn tell(&mut self, now: u64, ended: Option<Result<(), String>>) {
        self.next_tick_ns = now + TICK_EVERY_NS;
        let away = self.later.iter().filter(|Reverse((_, _, what))| matches!(what, Later::Open(_))).count() as u32;
        let tick = Tick {
            thread: self.number,
            order: self.orders,
            tally: std::mem::take(&mut self.tally),
            live: self.crowd.live(),
            opening: self.crowd.opening(),
            away,
            done: self.done,
            ended,
        };
        // The main thread listens until the threads have ended; if it panicked there is nobody to tell.
        let _ = self.notes.send(tick);
    }
}
