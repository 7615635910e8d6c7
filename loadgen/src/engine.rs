//! One run from beginning to end: connect, make conversations, load, wait, look into the logs.

mod aside;
mod job;

use std::collections::VecDeque;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use roost_wire::Seq;

use crate::client::Names;
use crate::clock::{Clock, ns};
use crate::driver::{Command, Done, Note, Shared, Threads, Tick};
use crate::fleet::{Peer, Start};
use crate::host::process::Reading;
use crate::interrupt::Interrupt;
use crate::ledger;
use crate::plan::{Kind, Plan};
use crate::progress::{Progress, Standing};
use crate::report::PhaseMark;
use crate::scenario::{Event, Load, Protocol};
use crate::schedule::{self, Course, Digest, Speakers};
use crate::sdk;
pub(crate) use job::{Deployer, Job, OnLoad, Outcome, RunError};

/// How long to wait for the first sign of a server.
const PROBE_WITHIN: Duration = Duration::from_secs(3);
/// How long sessions rest before their memory is looked at.
const REST: Duration = Duration::from_millis(1500);
/// How long reading the logs may take.
const VERIFY_WITHIN: Duration = Duration::from_secs(60);
/// Between the order to load and its first intended time.
const RUN_UP: Duration = Duration::from_millis(50);
/// How often a waiting run looks for Ctrl-C.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long nobody may be live of those that should be before the server counts as gone.
const GONE_AFTER: Duration = Duration::from_secs(15);

/// Somebody asked to stop, or the server is gone.
struct Stopped;

struct Run<'a> {
    shared: Arc<Shared>,
    threads: Threads,
    progress: &'a mut Progress,
    interrupt: &'a Interrupt,
    /// How many interrupts were obeyed.
    obeyed: usize,
    /// Somebody asked twice.
    hurry: bool,
    live: Vec<u64>,
    told_at: Instant,
    names: Arc<Names>,
    /// Highest acknowledged seq of each conversation.
    heads: Vec<Seq>,
    on_load: Option<OnLoad>,
    peer: Option<Box<dyn Peer>>,
    keep_seconds: bool,
    server_pid: Option<u32>,
    deployer: Option<Deployer>,
    /// Phases that are to come.
    phases: VecDeque<(Instant, String)>,
    /// When the server is to start anew, and where that stands.
    deploys: VecDeque<Instant>,
    deploying: bool,
    /// The server is not the process that it was.
    deployed: bool,
    /// Since when nobody is live in the load.
    gone_since: Option<Instant>,
    /// The load's first intended time, while it lasts.
    load_from: Option<Instant>,
    sdk_setup: Option<sdk::Setup>,
    sdk: Option<sdk::Running>,
    digest: Digest,
    outcome: Outcome,
}

/// Runs a job.
pub(crate) fn run(job: Job, progress: &mut Progress, interrupt: &Interrupt) -> Result<Outcome, RunError> {
    let Job { scenario, target, credentials, threads, server_pid, on_load, peer, deployer, sdk, .. } = job;
    if !scenario.crowds.iter().all(|crowd| crowd.transport.is_quic()) {
        TcpStream::connect_timeout(&target.address, PROBE_WITHIN)
            .map_err(|error| RunError::Unreachable(format!("cannot connect to {}: {error}", target.host)))?;
    }
    let plan = Plan::draw(&scenario);
    let shared = Arc::new(Shared {
        speakers: Arc::new(Speakers::of(&scenario, &plan)),
        scenario,
        plan,
        clock: Clock::start(),
        target,
        #[cfg(target_os = "linux")]
        carriers: job.carriers,
        credentials,
        threads,
    });
    let before = Reading::take(server_pid);
    let mut run = Run {
        threads: Threads::start(&shared)?,
        shared,
        progress,
        interrupt,
        obeyed: interrupt.count(),
        hurry: false,
        live: vec![0; threads as usize],
        told_at: Instant::now(),
        names: Arc::default(),
        heads: Vec::new(),
        keep_seconds: on_load.is_some(),
        on_load,
        peer,
        server_pid,
        deployer,
        phases: VecDeque::new(),
        deploys: VecDeque::new(),
        deploying: false,
        deployed: false,
        gone_since: None,
        load_from: None,
        sdk_setup: sdk,
        sdk: None,
        digest: Digest::default(),
        outcome: Outcome { before, ..Outcome::default() },
    };
    run.go()?;
    Ok(run.finish())
}

impl Run<'_> {
    fn go(&mut self) -> Result<(), RunError> {
        self.progress.phase("connecting");
        let clients = self.shared.scenario.clients as usize;
        let mut users = vec![String::new(); clients];
        let Ok(done) = self.order(&Command::Connect) else { return Ok(()) };
        for done in done {
            let Done::Connected { users: entered } = done else { continue };
            self.outcome.entered += entered.len() as u64;
            for (client, user) in entered {
                users[client as usize] = user;
            }
        }
        if self.outcome.entered == 0 {
            let most = self.outcome.ends.iter().max_by_key(|(_, count)| **count);
            let why = most.map_or("no client could connect", |(why, _)| why);
            let text = format!("no session at {}: {why}", self.shared.target.host);
            self.abandon();
            return Err(RunError::Unreachable(text));
        }
        if self.rest(REST).is_err() {
            return Ok(());
        }
        self.outcome.connected = Reading::take(self.server_pid);
        if !self.shared.plan.conversations.is_empty() && self.prepare(users).is_err() {
            return Ok(());
        }
        if self.start_sdk()?.is_err() {
            return Ok(());
        }
        let Ok(start) = self.agree() else { return Ok(()) };
        self.load(start);
        self.outcome.held = self.live.iter().sum();
        self.look_for_server();
        let settled = self.settle();
        if settled.is_ok() && self.shared.scenario.protocol == Protocol::Roost {
            let _ = self.verify();
        }
        Ok(())
    }

    /// Makes the conversations.
    fn prepare(&mut self, users: Vec<String>) -> Result<(), Stopped> {
        self.progress.phase("making conversations");
        let mut ids = vec![String::new(); self.shared.plan.conversations.len()];
        if self.shared.scenario.protocol == Protocol::Roost {
            for done in self.order(&Command::Create(Arc::new(users)))? {
                let Done::Created { ids: made } = done else { continue };
                for (conv, id) in made {
                    ids[conv as usize] = id;
                }
            }
        }
        self.names = Arc::new(Names::new(ids));
        self.order(&Command::Join(Arc::clone(&self.names)))?;
        Ok(())
    }

    /// Waits until those who run the same load are ready as well. When it is to begin, if they say so.
    fn agree(&mut self) -> Result<Option<Instant>, Stopped> {
        if self.peer.is_some() {
            self.progress.phase("waiting for the others");
        }
        let entered = self.outcome.entered;
        while let Some(peer) = &mut self.peer {
            match peer.start(entered) {
                Start::At(start) => return Ok(Some(start)),
                Start::Wait => self.rest(LOOK_EVERY / 10)?,
            }
        }
        Ok(None)
    }

    fn load(&mut self, start: Option<Instant>) {
        self.progress.phase("load");
        self.outcome.load_begin = Reading::take(self.server_pid);
        let run_up = start.map_or(RUN_UP, |start| start.saturating_duration_since(Instant::now()));
        let start_ns = self.shared.clock.now_ns() + ns(run_up);
        let zero = Instant::now() + run_up;
        self.progress.zero(zero);
        if let Some(on_load) = self.on_load.take() {
            on_load(zero);
        }
        if let Some(sdk) = &self.sdk {
            sdk.load(start_ns);
        }
        let legs = Course::of(&self.shared.scenario).legs;
        let deploys = legs.iter().filter(|leg| leg.event == Event::Deploy);
        self.deploys = deploys.map(|leg| zero + Duration::from_nanos(leg.from_ns)).collect();
        self.load_from = Some(zero);
        let marks = self.shared.scenario.marks();
        if marks.len() > 1 {
            self.progress
                .plan(&marks.iter().map(|mark| (mark.name.clone(), mark.to_s - mark.from_s)).collect::<Vec<_>>());
            self.phases =
                marks.iter().map(|mark| (zero + Duration::from_secs_f64(mark.from_s), mark.name.clone())).collect();
        }
        let loaded = self.order(&Command::Load { start_ns });
        (self.load_from, self.phases) = (None, VecDeque::new());
        let lasted = zero.elapsed().as_secs_f64();
        let marks = marks.into_iter().filter(|mark| mark.from_s < lasted);
        self.outcome.phases = marks.map(|mark| PhaseMark { to_s: mark.to_s.min(lasted), ..mark }).collect();
        if let Some(sdk) = &self.sdk {
            sdk.quiet();
        }
        if matches!(self.shared.scenario.load, Load::Idle { .. }) {
            // The longer they have been idle, the better it is known.
            self.outcome.connected = Reading::take(self.server_pid);
        }
        if loaded.is_err() && self.outcome.interrupted {
            self.progress.phase("stopping; once more to stop at once");
        }
        let deadline_ns = self.after(self.shared.scenario.grace);
        self.heads = vec![0; self.shared.plan.conversations.len()];
        let drained = self.order(&Command::Drain { deadline_ns }).unwrap_or_default();
        self.outcome.load_time = Duration::from_nanos(self.shared.clock.now_ns().saturating_sub(start_ns));
        for done in drained {
            let Done::Drained { heads, unanswered, cpu_ns, digest } = done else { continue };
            self.digest.join(digest);
            self.outcome.unanswered += unanswered;
            self.outcome.generator_cpu_ns += cpu_ns;
            for (conv, head) in heads {
                if let Some(highest) = self.heads.get_mut(conv as usize) {
                    *highest = head.max(*highest);
                }
            }
        }
    }

    /// Lets deliveries finish.
    fn settle(&mut self) -> Result<(), Stopped> {
        self.progress.phase("waiting for deliveries");
        let deadline_ns = self.after(self.shared.scenario.grace);
        let heads = Arc::new(self.heads.clone());
        let settled = self.order(&Command::Settle { heads, deadline_ns });
        self.outcome.load_end = Reading::take(self.server_pid);
        if self.deployed {
            // Of the process that there was in the beginning nothing more is known.
            self.outcome.load_end.cpu_ns = None;
        }
        for done in settled? {
            if let Done::Settled { missing } = done {
                self.outcome.missing_pushes += missing;
            }
        }
        Ok(())
    }

    /// Reads the logs.
    fn verify(&mut self) -> Result<(), Stopped> {
        self.progress.phase("reading the logs");
        let deadline_ns = self.after(VERIFY_WITHIN);
        for done in self.order(&Command::Verify { deadline_ns })? {
            if let Done::Verified { missing } = done {
                self.outcome.missing += missing;
            }
        }
        Ok(())
    }

    /// Ends the threads and puts together what they know.
    fn finish(mut self) -> Outcome {
        self.outcome.sdk = self.sdk.take().map(sdk::Running::end);
        let evidence = self.abandon();
        self.outcome.digest = schedule::told(&self.shared.plan, self.digest);
        let plan = &self.shared.plan;
        let fan_out = |conv: u32| match &plan.conversations[conv as usize] {
            planned if planned.kind == Kind::Channel => planned.members.len() as u64,
            planned => planned.members.len() as u64 - 1,
        };
        self.outcome.expected = match self.shared.scenario.protocol {
            Protocol::Roost => {
                let acks = evidence.iter().flat_map(ledger::Evidence::acknowledged_by_conversation);
                acks.map(|(conv, count)| count * fan_out(conv)).sum()
            }
            Protocol::Plain => self.outcome.total.counts.sent * self.outcome.entered,
        };
        self.outcome.judgement = ledger::judge(evidence, |conv| self.names.id(conv).to_owned());
        self.threads.join();
        self.outcome.series.close();
        self.outcome
    }

    /// Tells the threads to end, whatever they are doing, and waits until they have.
    fn abandon(&mut self) -> Vec<ledger::Evidence> {
        self.threads.tell(&Command::Finish);
        let mut evidence = Vec::new();
        while evidence.len() < self.threads.len() {
            match self.threads.note(LOOK_EVERY) {
                Some(Note::Done(Done::Finished(part))) => evidence.push(*part),
                Some(Note::Tick(tick)) => self.tick(*tick),
                Some(Note::Done(_)) | None => {}
            }
        }
        evidence
    }

    /// Gives an order to all threads and waits until each has done it.
    fn order(&mut self, command: &Command) -> Result<Vec<Done>, Stopped> {
        if self.hurry {
            return Err(Stopped);
        }
        self.threads.tell(command);
        let mut done = Vec::new();
        while done.len() < self.threads.len() {
            match self.threads.note(LOOK_EVERY) {
                Some(Note::Done(what)) if answers(command, &what) => done.push(what),
                // Of an order that was stopped.
                Some(Note::Done(_)) => {}
                Some(Note::Tick(tick)) => self.tick(*tick),
                None => {}
            }
            self.look()?;
        }
        Ok(done)
    }

    fn rest(&mut self, time: Duration) -> Result<(), Stopped> {
        let began = Instant::now();
        while began.elapsed() < time {
            if let Some(Note::Tick(tick)) = self.threads.note(LOOK_EVERY) {
                self.tick(*tick);
            }
            self.look()?;
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), Stopped> {
        let asked = self.interrupt.count();
        if asked > self.obeyed {
            self.obeyed = asked;
            self.hurry = self.outcome.interrupted;
            self.outcome.interrupted = true;
            return Err(Stopped);
        }
        if let Some((_, name)) = self.phases.pop_front_if(|(at, _)| *at <= Instant::now()) {
            self.progress.phase(&name);
        }
        self.deploy()?;
        self.look_who_is_there()
    }

    fn after(&self, time: Duration) -> u64 {
        self.shared.clock.now_ns() + ns(time)
    }

    fn tick(&mut self, tick: Tick) {
        self.live[tick.thread as usize] = tick.live;
        for (why, count) in tick.closes {
            *self.outcome.ends.entry(why).or_default() += count;
        }
        self.outcome.total.merge(&tick.recorder);
        if let Some(peer) = &mut self.peer {
            peer.tick(tick.second, self.live.iter().sum(), &tick.recorder);
        }
        if let Some(second) = tick.second {
            if self.keep_seconds {
                self.outcome.seconds.entry(second).or_default().merge(&tick.recorder);
            }
            self.outcome.series.add(second, tick.recorder);
            self.outcome.series.live(second, self.live.iter().sum());
        }
        if self.told_at.elapsed() >= Duration::from_millis(900) {
            self.told_at = Instant::now();
            self.tell(tick.second);
        }
    }

    fn tell(&self, second: Option<u64>) {
        let hold = self.shared.scenario.load.hold().as_secs_f64().ceil() as u64;
        let last = second.and_then(|second| self.outcome.series.peek(second));
        let counts = last.map(|recorder| recorder.counts).unwrap_or_default();
        let delivery = last.map(|last| &last.delivery).filter(|delivery| !delivery.is_empty());
        let total = &self.outcome.total;
        self.progress.tell(&Standing {
            live: self.live.iter().sum(),
            wanted: self.shared.scenario.clients.into(),
            sent: counts.sent,
            acknowledged: counts.acknowledged,
            delivered: counts.delivered,
            delivery_p50_us: delivery.map(|delivery| delivery.value_at_quantile(0.5)),
            delivery_p99_us: delivery.map(|delivery| delivery.value_at_quantile(0.99)),
            errors: self.outcome.total.errors.values().sum(),
            unsent: total.counts.unsent,
            dropped: total.counts.dropped,
            late_p99_us: Some(&total.late).filter(|late| !late.is_empty()).map(|late| late.value_at_quantile(0.99)),
            second: second.filter(|second| *second < hold).map(|second| (second + 1, hold)),
            ..Standing::default()
        });
    }
}

/// Whether `done` is what the order asked for.
const fn answers(command: &Command, done: &Done) -> bool {
    matches!(
        (command, done),
        (Command::Connect, Done::Connected { .. })
            | (Command::Create(_), Done::Created { .. })
            | (Command::Join(_), Done::Joined)
            | (Command::Load { .. }, Done::Loaded)
            | (Command::Drain { .. }, Done::Drained { .. })
            | (Command::Settle { .. }, Done::Settled { .. })
            | (Command::Verify { .. }, Done::Verified { .. })
            | (Command::Finish, Done::Finished(_))
    )
}
