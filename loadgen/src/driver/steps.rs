//! The steps of a run, as one thread does them.

use std::collections::VecDeque;
use std::sync::Arc;

use roost_wire::limits::USERS_PER_COMMAND_MAX;
use roost_wire::{Seq, pb};

use super::worker::{MILLISECOND, SECOND, Worker};
use super::{Command, Done};
use crate::plan::{ClientNo, Conv, Kind};
use crate::scenario::Protocol;

/// Connections of a thread that may be half open.
const CONNECTING_MAX: u64 = 256;
/// Conversations a thread makes at once.
const CREATING_MAX: usize = 64;
/// Logs a thread reads at once.
const FETCHING_MAX: usize = 32;
/// How often a step looks at all clients.
const LOOK_EVERY_NS: u64 = 20 * MILLISECOND;
/// Conversations that are not made within this time are done without.
const CREATE_WITHIN_NS: u64 = 60 * SECOND;
/// Clients that are not there at first have left after this.
const LEAVE_WITHIN_NS: u64 = 5 * SECOND;

/// What a thread is doing.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing but serving its connections.
    Waiting,
    Connecting {
        start_ns: u64,
        begun: u64,
        look_ns: u64,
    },
    Creating {
        waiting: VecDeque<Conv>,
        users: Arc<Vec<String>>,
        open: usize,
        ids: Vec<(Conv, String)>,
        until_ns: u64,
    },
    Joining {
        open: u64,
        until_ns: u64,
    },
    /// Those that are not there at first leave.
    Leaving {
        until_ns: u64,
    },
    Loading {
        end_ns: u64,
    },
    Draining {
        until_ns: u64,
    },
    Settling {
        heads: Arc<Vec<Seq>>,
        until_ns: u64,
        look_ns: u64,
    },
    Verifying {
        heads: Arc<Vec<Seq>>,
        open: usize,
        until_ns: u64,
    },
}

impl Worker {
    /// Begins what the main thread asks for.
    pub(super) fn begin(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Connect => self.step = Step::Connecting { start_ns: now, begun: 0, look_ns: now },
            Command::Create(users) => {
                let mine = |members: &[ClientNo]| self.slot_of(members[0]).is_some();
                let planned = self.shared.plan.conversations.iter().enumerate();
                let waiting = planned.filter(|(_, planned)| mine(&planned.members)).map(|(conv, _)| conv as Conv);
                let waiting = waiting.collect();
                let until_ns = now + CREATE_WITHIN_NS;
                self.step = Step::Creating { waiting, users, open: 0, ids: Vec::new(), until_ns };
            }
            Command::Join(names) => {
                self.names = names;
                let open = self.subscribe_all();
                self.step = Step::Joining { open, until_ns: now + CREATE_WITHIN_NS };
            }
            Command::Load { start_ns } => {
                self.load_start_ns = Some(start_ns);
                self.load_cpu_ns = thread_cpu_ns();
                self.step = Step::Loading { end_ns: self.load_end(start_ns) };
                self.tick(now);
                self.start_load(start_ns);
            }
            Command::Drain { deadline_ns } => {
                self.intended = None;
                self.step = Step::Draining { until_ns: deadline_ns };
            }
            Command::Settle { heads, deadline_ns } => {
                self.gather(now);
                self.step = Step::Settling { heads, until_ns: deadline_ns, look_ns: now };
            }
            Command::Verify { deadline_ns } => self.start_verify(deadline_ns),
            Command::Finish => {}
        }
    }

    /// When the step wants to be looked at again.
    pub(super) fn step_due(&self, now: u64) -> u64 {
        match &self.step {
            Step::Waiting => u64::MAX,
            Step::Connecting { look_ns, .. } => (*look_ns).min(now + LOOK_EVERY_NS),
            Step::Creating { until_ns, .. } | Step::Joining { until_ns, .. } => *until_ns,
            Step::Leaving { until_ns } => (*until_ns).min(now + LOOK_EVERY_NS),
            Step::Loading { end_ns } => *end_ns,
            Step::Draining { until_ns } | Step::Verifying { until_ns, .. } => *until_ns,
            Step::Settling { until_ns, look_ns, .. } => (*look_ns).min(*until_ns),
        }
    }

    pub(super) fn is_plain(&self) -> bool {
        matches!(self.shared.scenario.protocol, Protocol::Plain)
    }

    /// Whether a closed model goes on sending.
    pub(super) fn is_loading(&self, now: u64) -> bool {
        matches!(self.step, Step::Loading { end_ns } if now < end_ns)
    }

    /// The load is over, and everybody comes together.
    pub(super) const fn is_settled(&self) -> bool {
        matches!(self.step, Step::Settling { .. } | Step::Verifying { .. })
    }

    /// Goes on with the step; tells when it is done.
    pub(super) fn go_on(&mut self, now: u64) {
        match &mut self.step {
            Step::Waiting => {}
            Step::Connecting { .. } => self.go_on_connecting(now),
            Step::Creating { open, until_ns, .. } => {
                if now >= *until_ns {
                    *open = 0;
                }
                self.go_on_creating(now);
            }
            Step::Joining { open, until_ns } => {
                if *open == 0 || now >= *until_ns {
                    self.step = Step::Leaving { until_ns: now + LEAVE_WITHIN_NS };
                    self.assemble();
                }
            }
            Step::Leaving { until_ns } => {
                if now >= *until_ns || !self.slots.iter().any(|slot| slot.away && slot.line.is_some()) {
                    self.done(Done::Joined);
                }
            }
            Step::Loading { end_ns } => {
                if now >= *end_ns && self.next_send().is_none() {
                    self.done(Done::Loaded);
                }
            }
            Step::Draining { until_ns } => {
                if self.unanswered == 0 || now >= *until_ns {
                    self.tick(now);
                    let heads = match self.is_plain() {
                        // Without acknowledgements: everything that was sent, by the one publisher.
                        true => vec![(0, self.sent)],
                        false => self.evidence.heads().iter().map(|(conv, head)| (*conv, *head)).collect(),
                    };
                    let cpu_ns = thread_cpu_ns().saturating_sub(self.load_cpu_ns);
                    self.done(Done::Drained { heads, unanswered: self.unanswered, cpu_ns, digest: self.digest });
                }
            }
            Step::Settling { heads, until_ns, look_ns } => {
                if now >= *look_ns || now >= *until_ns {
                    *look_ns = now + LOOK_EVERY_NS;
                    let (heads, until_ns) = (Arc::clone(heads), *until_ns);
                    let missing = self.missing(&heads);
                    if missing == 0 && self.coming_back() == 0 || now >= until_ns {
                        self.tick(now);
                        self.done(Done::Settled { missing });
                        self.step = Step::Settling { heads, until_ns: u64::MAX, look_ns: u64::MAX };
                    }
                }
            }
            Step::Verifying { .. } => self.go_on_verifying(now),
        }
    }

    // ---- connecting ----

    fn go_on_connecting(&mut self, now: u64) {
        let Step::Connecting { start_ns, mut begun, mut look_ns } = self.step else { return };
        let per_second = (self.shared.scenario.connects_per_second / self.shared.threads).max(1);
        let due = (now - start_ns) * u64::from(per_second) / SECOND + 1;
        let half_open = begun.saturating_sub(self.decided);
        let room = CONNECTING_MAX.saturating_sub(half_open.min(CONNECTING_MAX));
        let all = self.slots.len() as u64;
        let until = due.min(all).min(begun + room);
        while begun < until {
            self.open(begun as u32, now);
            begun += 1;
        }
        if now >= look_ns {
            look_ns = now + LOOK_EVERY_NS;
            let late: Vec<u32> = (0..begun as u32).filter(|slot| self.slots[*slot as usize].is_late(now)).collect();
            for slot in late {
                self.end(slot, "the server did not answer in time");
            }
            if self.decided == all {
                self.tick(now);
                let entered = self.slots.iter().enumerate().filter(|(_, state)| state.was_live);
                let user = |state: &super::conn::Slot| state.user.as_deref().unwrap_or_default().to_owned();
                let users = entered.map(|(slot, state)| (self.client_no(slot as u32), user(state))).collect();
                return self.done(Done::Connected { users });
            }
        }
        // The next one by rate, but no sooner than it can be.
        self.step = Step::Connecting { start_ns, begun, look_ns };
        let next = start_ns + begun * SECOND / u64::from(per_second);
        if begun < all
            && room > 0
            && let Step::Connecting { look_ns, .. } = &mut self.step
        {
            *look_ns = (*look_ns).min(next.max(now + MILLISECOND));
        }
    }

    // ---- making conversations ----

    fn go_on_creating(&mut self, now: u64) {
        loop {
            let Step::Creating { waiting, users, open, ids, until_ns } = &mut self.step else { return };
            if waiting.is_empty() && *open == 0 || now >= *until_ns {
                let ids = std::mem::take(ids);
                return self.done(Done::Created { ids });
            }
            if *open >= CREATING_MAX {
                return;
            }
            let Some(conv) = waiting.pop_front() else { return };
            let planned = &self.shared.plan.conversations[conv as usize];
            if planned.kind == Kind::Channel {
                // A channel is there by being named: one of its own for each run.
                let first = users.first().map_or("0", |user| user.trim_start_matches("u_"));
                ids.push((conv, format!("load-{conv}-{first}")));
                continue;
            }
            // Of all the devices of a user the first one stands for it.
            let mut members: Vec<&str> =
                planned.members.iter().map(|member| users[*member as usize].as_str()).collect();
            members.dedup();
            let creator = planned.members[0];
            let (kind, name) = match planned.kind {
                Kind::Direct => (pb::Kind::Direct, String::new()),
                _ => (pb::Kind::Group, format!("Load group {conv}")),
            };
            // Who could not connect is left out; one command names so many users at most.
            let others: Vec<String> =
                members[1..].iter().filter(|user| !user.is_empty()).map(|user| (*user).to_owned()).collect();
            let too_many = others.len() > USERS_PER_COMMAND_MAX;
            if members[0].is_empty() || others.is_empty() || too_many {
                continue;
            }
            *open += 1;
            let create = pb::Create { kind: kind.into(), name, members: others, open: false };
            if let Some(slot) = self.slot_of(creator) {
                self.slots[slot as usize].client.create(conv, create, &mut self.pen);
                self.flush(slot);
            }
        }
    }

    /// A conversation was made; with an empty `id` it was not.
    pub(super) fn created(&mut self, conv: Conv, id: String) {
        if let Step::Creating { open, ids, .. } = &mut self.step {
            *open = open.saturating_sub(1);
            if !id.is_empty() {
                ids.push((conv, id));
            }
        }
    }

    fn subscribe_all(&mut self) -> u64 {
        let mut open = 0;
        if self.is_plain() {
            return open;
        }
        for slot in 0..self.slots.len() as u32 {
            let Self { slots, names, shared, pen, .. } = self;
            let client = &mut slots[slot as usize].client;
            if !client.is_live() {
                continue;
            }
            let channel = |conv: &Conv| shared.plan.conversations[*conv as usize].kind == Kind::Channel;
            let channels: Vec<Conv> = client.tracks().iter().map(|track| track.conv).filter(channel).collect();
            for conv in channels {
                client.subscribe(conv, names, pen);
                open += 1;
            }
            self.flush(slot);
        }
        open
    }

    pub(super) fn subscribed(&mut self) {
        if let Step::Joining { open, .. } = &mut self.step {
            *open = open.saturating_sub(1);
        }
    }

    // ---- after the load ----

    /// Entries up to `heads` that sessions of this thread lack and the log is not known to skip. Those that are away
    /// count: they come back and catch up.
    fn missing(&self, heads: &[Seq]) -> u64 {
        let sessions = self.slots.iter().filter(|slot| self.is_session(slot));
        let tracks = sessions.flat_map(|slot| slot.client.tracks());
        let lacking = tracks.filter(|track| track.missing(head_of(heads, track.conv)) > 0);
        lacking
            .map(|track| {
                let head = head_of(heads, track.conv);
                let lacks = |seq: &Seq| !track.holds(*seq) && !self.evidence.is_absent(track.conv, *seq);
                (track.have() + 1..=head).filter(lacks).count() as u64
            })
            .sum()
    }

    /// Every session reads what it lacks, and one member of each conversation reads its whole log.
    fn start_verify(&mut self, until_ns: u64) {
        let heads = match &self.step {
            Step::Settling { heads, .. } => Arc::clone(heads),
            _ => Arc::default(),
        };
        let mut readers = vec![None; heads.len()];
        for (conv, planned) in self.shared.plan.conversations.iter().enumerate().take(heads.len()) {
            let home = planned.members[0] % self.shared.threads;
            if home == self.number && heads[conv] > 0 {
                let here = planned.members.iter().filter_map(|member| self.slot_of(*member));
                readers[conv] = here.into_iter().find(|slot| self.slots[*slot as usize].client.is_live());
            }
        }
        self.fetches.clear();
        for (slot, state) in self.slots.iter().enumerate().filter(|(_, state)| state.client.is_live()) {
            for track in state.client.tracks() {
                let conv = track.conv as usize;
                if readers.get(conv).copied().flatten() == Some(slot as u32) {
                    self.fetches.push_back((slot as u32, track.conv, 0));
                } else if track.missing(head_of(&heads, track.conv)) > 0 {
                    self.fetches.push_back((slot as u32, track.conv, track.have()));
                }
            }
        }
        self.step = Step::Verifying { heads, open: 0, until_ns };
        let now = self.now();
        self.go_on_verifying(now);
    }

    fn go_on_verifying(&mut self, now: u64) {
        loop {
            let Step::Verifying { heads, open, until_ns } = &mut self.step else { return };
            if now >= *until_ns || (*open == 0 && self.fetches.is_empty()) {
                let heads = Arc::clone(heads);
                self.tick(now);
                let missing = self.missing(&heads);
                return self.done(Done::Verified { missing });
            }
            if *open >= FETCHING_MAX {
                return;
            }
            let Some((slot, conv, after)) = self.fetches.pop_front() else { return };
            let client = &mut self.slots[slot as usize].client;
            if client.fetch(conv, after, &self.names, &mut self.pen) {
                *open += 1;
                self.reads.insert((slot, conv), after);
                self.flush(slot);
            } else if client.is_live() {
                // It is being read because of a gap: once more when that is done.
                self.fetches.push_back((slot, conv, after));
                return;
            }
        }
    }

    /// A log was read to its end.
    pub(super) fn log_ended(&mut self, slot: u32, conv: Conv, at: u64) {
        // Others are filling a gap, and count for nothing here.
        let Some(after) = self.reads.remove(&(slot, conv)) else { return };
        if after == 0 {
            self.evidence.ended(conv, at);
        }
        self.fetch_is_over();
    }

    /// A log could not be read.
    pub(super) fn log_failed(&mut self, slot: u32, conv: Conv) {
        if self.reads.remove(&(slot, conv)).is_some() {
            self.fetch_is_over();
        }
    }

    fn fetch_is_over(&mut self) {
        if let Step::Verifying { open, .. } = &mut self.step {
            *open = open.saturating_sub(1);
        }
    }
}

/// The highest acknowledged seq of a conversation.
fn head_of(heads: &[Seq], conv: Conv) -> Seq {
    heads.get(conv as usize).copied().unwrap_or(0)
}

/// CPU time of this thread.
fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * SECOND + u64::try_from(time.tv_nsec).unwrap_or(0)
}
