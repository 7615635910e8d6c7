//! One thread: its clients, its loop and its timers.

use std::cmp::Reverse;
#[cfg(target_os = "linux")]
use std::collections::HashSet;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use mio::{Events, Poll};

#[cfg(target_os = "linux")]
use super::DATAGRAMS;
use super::conn::Slot;
#[cfg(target_os = "linux")]
use super::quic::Quic;
use super::steps::Step;
use super::timer::Timer;
use super::{Command, Done, Note, Shared, TIMER, Tick, WAKE};
use crate::client::{Client, Event, Names, Pen, Track};
use crate::ledger::Evidence;
use crate::plan::{ClientNo, Conv, Kind};
use crate::recorder::Recorder;
use crate::scenario::Event as Happening;
use crate::schedule::{Digest, Intended, Presence};

/// Bytes read at once; lent to every client in turn.
const READ_BYTES: usize = 256 * 1024;
/// Events taken from the system at once.
const EVENTS_PER_TURN: usize = 1024;
/// Timers run before sockets are looked at again.
const TIMERS_PER_TURN: usize = 512;
/// How long a gap may last before it is filled from the log.
const GAP_GRACE_NS: u64 = 250 * MILLISECOND;

pub(super) const SECOND: u64 = 1_000_000_000;
pub(super) const MILLISECOND: u64 = 1_000_000;

/// What a client is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// To send ACKs.
    Mark,
    /// To look whether a PING is due.
    Heartbeat,
    /// To fill a gap.
    Gap(Conv),
    /// To connect again.
    Reconnect,
    /// To send the next message of a closed model.
    Next,
    /// To answer in a conversation.
    Answer(Conv),
    /// To leave or to come back, as its day has it.
    Turn,
    /// To leave once its answers are there.
    Leave,
    /// To go elsewhere, as the server asked.
    Move,
    /// To be cut off by a storm; with a reset or not.
    Cut(bool),
    /// To come back from one.
    Back,
    /// To change to another network.
    Change,
}

pub(super) struct Worker {
    pub(super) number: u32,
    pub(super) shared: Arc<Shared>,
    pub(super) poll: Poll,
    #[cfg(target_os = "linux")]
    pub(super) quic: Vec<Quic>,
    /// Connections of which it has not been told that they are closed, and those that are to follow them.
    #[cfg(target_os = "linux")]
    pub(super) quic_closing: HashSet<u32>,
    #[cfg(target_os = "linux")]
    pub(super) quic_waits: HashMap<u32, u64>,
    timer: Timer,
    told: Receiver<Command>,
    notes: Sender<Note>,
    pub(super) slots: Vec<Slot>,
    pub(super) names: Arc<Names>,
    pub(super) pen: Pen,
    pub(super) events: Vec<Event>,
    pub(super) buffer: Vec<u8>,
    pub(super) step: Step,
    /// Which client waits for what, the soonest first.
    dues: BinaryHeap<Reverse<(u64, u32, Due)>>,
    pub(super) recorder: Recorder,
    pub(super) closes: BTreeMap<String, u64>,
    pub(super) evidence: Evidence,
    /// What is meant to be sent; `None` before and after the load, and without an open model.
    pub(super) intended: Option<Intended>,
    /// What was.
    pub(super) digest: Digest,
    /// The comings and goings of those that have any, and the next of them.
    pub(super) presences: HashMap<u32, (Presence, Option<(u64, bool)>)>,
    /// The server starts anew in the middle.
    pub(super) deploys: bool,
    /// Logs to be read: slot, conversation, and behind which seq.
    pub(super) fetches: VecDeque<(u32, Conv, u64)>,
    /// Logs that are being read, and from behind which seq.
    pub(super) reads: HashMap<(u32, Conv), u64>,
    /// Messages sent.
    pub(super) sent: u64,
    /// Messages that await their answer.
    pub(super) unanswered: u64,
    /// Clients that became a session, or were given up.
    pub(super) decided: u64,
    pub(super) live: u64,
    pub(super) load_start_ns: Option<u64>,
    pub(super) load_cpu_ns: u64,
    next_tick_ns: u64,
}

impl Worker {
    pub(super) fn new(
        number: u32,
        shared: Arc<Shared>,
        poll: Poll,
        told: Receiver<Command>,
        notes: Sender<Note>,
    ) -> io::Result<Self> {
        let scenario = &shared.scenario;
        let of = shared.plan.by_client(scenario.clients);
        let slots = (number..scenario.clients).step_by(shared.threads as usize).map(|client| {
            let echoed = |conv: Conv| shared.plan.conversations[conv as usize].kind == Kind::Channel;
            let tracks = of[client as usize].iter().map(|conv| Track::new(*conv, echoed(*conv))).collect();
            Slot::new(Client::new(scenario.protocol, tracks), scenario.crowd_of(client).0 as u8)
        });
        let slots: Vec<Slot> = slots.collect();
        Ok(Self {
            #[cfg(target_os = "linux")]
            quic: Quic::all(&shared, slots.len() as u32, &poll)?,
            #[cfg(target_os = "linux")]
            quic_closing: HashSet::new(),
            #[cfg(target_os = "linux")]
            quic_waits: HashMap::new(),
            slots,
            deploys: scenario.phases.iter().any(|phase| phase.event == Happening::Deploy),
            timer: Timer::new(&poll)?,
            pen: Pen::new(scenario.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(number)),
            number,
            shared,
            poll,
            told,
            notes,
            names: Arc::default(),
            events: Vec::new(),
            buffer: vec![0; READ_BYTES],
            step: Step::Waiting,
            dues: BinaryHeap::new(),
            recorder: Recorder::default(),
            closes: BTreeMap::new(),
            evidence: Evidence::default(),
            intended: None,
            digest: Digest::default(),
            presences: HashMap::new(),
            fetches: VecDeque::new(),
            reads: HashMap::new(),
            sent: 0,
            unanswered: 0,
            decided: 0,
            live: 0,
            load_start_ns: None,
            load_cpu_ns: 0,
            next_tick_ns: 0,
        })
    }

    /// Serves the main thread until it says [`Command::Finish`].
    pub(super) fn run(mut self) {
        let mut ready = Events::with_capacity(EVENTS_PER_TURN);
        loop {
            let now = self.now();
            let due = self.next_due(now);
            #[cfg(target_os = "linux")]
            let due = due.min(self.settle_quic(now));
            let wait = self.timer.arm(due, now).expect("the timer takes every time");
            match self.poll.poll(&mut ready, wait) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => panic!("poll failed: {error}"),
            }
            for event in &ready {
                match event.token() {
                    WAKE => {}
                    TIMER => self.timer.fired(),
                    #[cfg(target_os = "linux")]
                    DATAGRAMS => {}
                    token => self.ready(token.0 as u32, event),
                }
            }
            #[cfg(target_os = "linux")]
            self.carry_quic();
            while let Ok(command) = self.told.try_recv() {
                if matches!(command, Command::Finish) {
                    return self.finish();
                }
                self.begin(command);
            }
            let now = self.now();
            self.run_timers(now);
            self.send_due();
            self.go_on(now);
            if now >= self.next_tick_ns {
                self.tick(now);
            }
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.shared.clock.now_ns()
    }

    /// The client's number in the plan.
    pub(super) fn client_no(&self, slot: u32) -> ClientNo {
        slot * self.shared.threads + self.number
    }

    /// The slot of a client of this thread.
    pub(super) fn slot_of(&self, client: ClientNo) -> Option<u32> {
        (client % self.shared.threads == self.number).then_some(client / self.shared.threads)
    }

    pub(super) fn later(&mut self, at_ns: u64, slot: u32, due: Due) {
        self.dues.push(Reverse((at_ns, slot, due)));
    }

    pub(super) fn done(&mut self, done: Done) {
        self.step = Step::Waiting;
        self.note(Note::Done(done));
    }

    fn note(&self, note: Note) {
        // The main thread listens until the threads have ended; if it panicked there is nobody to tell.
        let _ = self.notes.send(note);
    }

    fn next_due(&self, now: u64) -> u64 {
        let timer = self.dues.peek().map_or(u64::MAX, |Reverse((at, ..))| *at);
        let send = self.next_send().unwrap_or(u64::MAX);
        timer.min(send).min(self.next_tick_ns).min(self.step_due(now))
    }

    fn run_timers(&mut self, now: u64) {
        for _ in 0..TIMERS_PER_TURN {
            let Some(Reverse((at, slot, due))) = self.dues.peek().copied() else { return };
            if at > now {
                return;
            }
            self.dues.pop();
            self.run_timer(slot, due, at, now);
        }
    }

    fn run_timer(&mut self, slot: u32, due: Due, due_ns: u64, now: u64) {
        let at = slot as usize;
        match due {
            Due::Mark => {
                self.slots[at].marking = false;
                if self.slots[at].client.is_live() {
                    self.recorder.counts.marks += self.slots[at].client.mark(&self.names, &mut self.pen);
                    self.flush(slot);
                }
            }
            Due::Heartbeat => {
                let Slot { client, spoke_ns, heartbeat_ns, .. } = &mut self.slots[at];
                // Up to a fifth less, so that many do not speak at once.
                let patience = *heartbeat_ns - self.pen.bits() % (*heartbeat_ns / 5).max(1);
                if client.is_live() && now.saturating_sub(*spoke_ns) >= patience {
                    client.ping(&mut self.pen);
                    self.flush(slot);
                }
                let next = self.slots[at].spoke_ns + patience;
                self.later(next.max(now + MILLISECOND), slot, Due::Heartbeat);
            }
            Due::Gap(conv) => {
                let Slot { client, .. } = &mut self.slots[at];
                if client.tracks().iter().any(|track| track.conv == conv && track.has_gap())
                    && client.catch_up(conv, &self.names, &mut self.pen)
                {
                    self.flush(slot);
                }
            }
            Due::Reconnect if self.slots[at].is_wanted() => self.open(slot, now),
            Due::Reconnect => {}
            Due::Next => self.send_next(slot, now),
            Due::Answer(conv) => self.send_answer(slot, conv, due_ns),
            Due::Turn => self.turn_due(slot, due_ns),
            Due::Leave => self.leave(slot),
            Due::Move => self.move_elsewhere(slot),
            Due::Cut(reset) => self.cut(slot, reset),
            Due::Back => self.back(slot, due_ns),
            Due::Change => self.change_network(slot, now),
        }
    }

    pub(super) fn mark_later(&mut self, slot: u32, now: u64) {
        if !std::mem::replace(&mut self.slots[slot as usize].marking, true) {
            let after = crate::clock::ns(self.shared.scenario.marks_after);
            self.later(now + after, slot, Due::Mark);
        }
    }

    pub(super) fn gap_later(&mut self, slot: u32, conv: Conv, now: u64) {
        self.later(now + GAP_GRACE_NS, slot, Due::Gap(conv));
    }

    /// Tells what was measured since the last time.
    pub(super) fn tick(&mut self, now: u64) {
        // What was measured until the second was over, however late this thread looks at its clock.
        let until = now.min(self.next_tick_ns);
        let second = self.load_start_ns.filter(|start| until > *start).map(|start| (until - start - 1) / SECOND);
        // On the seconds of the load.
        let from = self.load_start_ns.filter(|start| now >= *start).unwrap_or(0);
        self.next_tick_ns = from + ((now - from) / SECOND + 1) * SECOND;
        if let Some(start) = self.load_start_ns.filter(|start| now < *start) {
            self.next_tick_ns = self.next_tick_ns.min(start);
        }
        let tick = Tick {
            thread: self.number,
            recorder: std::mem::take(&mut self.recorder),
            live: self.live,
            second,
            closes: std::mem::take(&mut self.closes),
        };
        self.note(Note::Tick(Box::new(tick)));
    }

    fn finish(mut self) {
        for slot in 0..self.slots.len() as u32 {
            if self.slots[slot as usize].client.is_live() {
                self.slots[slot as usize].client.close(&mut self.pen);
                self.flush(slot);
                #[cfg(target_os = "linux")]
                self.close_quic(slot, true);
            }
        }
        let now = self.now();
        self.tick(now);
        let evidence = Box::new(std::mem::take(&mut self.evidence));
        self.note(Note::Done(Done::Finished(evidence)));
    }
}
