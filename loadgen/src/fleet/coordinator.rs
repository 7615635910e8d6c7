//! Who has workers put a load on: connects, agrees on a start, adds up what they tell, and says who was lost.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;

use super::frame::{self, BYTES_MAX, BYTES_MAX_UNPROVED};
use super::part::Part;
use super::proof::{Secret, nonce};
use super::talk::{Hello, Note, Order, Task, Welcome};
use super::worker::{Within, is_here, told_key};
use super::{ALIVE_EVERY, GREET_WITHIN, PROTOCOL, SILENCE_MAX};
use crate::driver::Target;
use crate::engine::{Outcome, RunError};
use crate::host::process::Reading;
use crate::interrupt::Interrupt;
use crate::progress::{Progress, Standing};
use crate::report::{Report, WorkerPart};
use crate::scenario::Scenario;
use crate::verdict::Verdict;

/// From the order to begin to the first intended time.
const RUN_UP: Duration = Duration::from_millis(500);
/// How long after the load the server's CPU time is looked at: what was under way is over.
const SETTLED_AFTER: Duration = Duration::from_millis(500);
/// Messages of workers that wait to be looked at; more wait in their connections.
const WAITING_MESSAGES_MAX: usize = 256;
/// How often a waiting coordinator looks around.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is to be run, and by whom.
pub(crate) struct Plan {
    pub(crate) scenario: Scenario,
    /// `host:port` each.
    pub(crate) workers: Vec<String>,
    pub(crate) secret: Option<Secret>,
    pub(crate) target: Target,
    pub(crate) token_key: Option<[u8; 32]>,
    /// The certificate that is believed, as PEM, and the name it is verified by.
    pub(crate) ca: Option<String>,
    pub(crate) server_name: String,
    pub(crate) threads: Option<u32>,
    pub(crate) server_pid: Option<u32>,
    /// Users' ids begin with numbers from this on.
    pub(crate) run: u64,
}

/// What came of it: as of one process, and what is to be said of each worker.
pub(crate) struct Whole {
    pub(crate) outcome: Outcome,
    pub(crate) workers: Vec<WorkerPart>,
}

impl Whole {
    /// Threads of all workers.
    pub(crate) fn threads(&self) -> u32 {
        self.workers.iter().map(|worker| worker.threads).sum::<u32>().max(1)
    }

    /// Puts what is known of workers into the report. One that lost a worker is a part of what was asked for: its numbers
    /// say nothing about what the server would have done with all of it.
    pub(crate) fn mark(workers: Vec<WorkerPart>, report: &mut Report) {
        let lost: Vec<String> = workers
            .iter()
            .filter_map(|worker| {
                let (why, clients) = (worker.lost_because.as_ref()?, worker.clients);
                let when =
                    worker.lost_after_s.map_or("before the load".into(), |after| format!("{after:.1} s into the load"));
                Some(format!("Worker {} was lost {when} ({why}): its {clients} clients count as gone.", worker.address))
            })
            .collect();
        report.workers = workers;
        if lost.is_empty() {
            return;
        }
        report.partial.get_or_insert_with(|| lost.join(" "));
        report.valid = false;
        if matches!(report.verdict, Verdict::Pass | Verdict::Threshold) {
            report.verdict = Verdict::Generator;
            report.exit_code = report.verdict.exit_code();
            report.reasons.retain(|reason| !reason.starts_with("Everything"));
        }
        report.reasons.splice(0..0, lost);
    }
}

#[derive(Debug)]
enum State {
    Preparing,
    Ready,
    Loading,
    Done,
    /// Why, and how far into the load.
    Lost(String, Option<f64>),
}

struct Worker {
    address: String,
    stream: TcpStream,
    /// Half of what a question and its answer took.
    away: Duration,
    clients: u64,
    threads: u32,
    state: State,
    entered: u64,
    live: u64,
    sent: u64,
    late: Histogram<u64>,
    /// CPU time and duration of its load.
    cpu_ns: u64,
    load_us: u64,
}

impl Worker {
    const fn is_open(&self) -> bool {
        matches!(self.state, State::Preparing | State::Ready | State::Loading)
    }
}

struct Run<'a> {
    scenario: Scenario,
    workers: Vec<Worker>,
    notes: Receiver<(usize, Result<Note, String>)>,
    progress: &'a mut Progress,
    interrupt: &'a Interrupt,
    obeyed: usize,
    server_pid: Option<u32>,
    zero: Option<Instant>,
    looked: bool,
    told_at: Instant,
    alive_at: Instant,
    unreachable: Option<String>,
    outcome: Outcome,
}

/// Runs it. Nothing is started unless every worker is there and agrees.
///
/// # Errors
/// A worker that is not there or refuses; a server that no worker reaches.
pub(crate) fn run(
    plan: Plan,
    progress: &mut Progress,
    interrupt: &Interrupt,
) -> anyhow::Result<Result<Whole, RunError>> {
    progress.phase("calling workers");
    let of = u32::try_from(plan.workers.len()).unwrap_or(u32::MAX);
    let before = Reading::take(plan.server_pid);
    let (to_main, notes) = sync_channel(WAITING_MESSAGES_MAX);
    let mut workers = Vec::new();
    for (at, address) in (0..).zip(&plan.workers) {
        let slice = plan.scenario.slice(at, of);
        let worker =
            call(address, plan.secret.as_ref(), slice.clients.into()).with_context(|| format!("worker {address}"))?;
        workers.push((worker, slice));
    }
    for (at, (worker, slice)) in (0..).zip(&mut workers) {
        let task = plan.task(slice.clone(), at, worker.stream.peer_addr()?);
        let mut stream = &worker.stream;
        frame::write(&mut stream, &Order::Prepare(Box::new(task)))
            .with_context(|| format!("worker {}", worker.address))?;
        listen(at as usize, worker.stream.try_clone()?, to_main.clone())?;
    }
    let mut run = Run {
        scenario: plan.scenario,
        workers: workers.into_iter().map(|(worker, _)| worker).collect(),
        notes,
        progress,
        interrupt,
        obeyed: interrupt.count(),
        server_pid: plan.server_pid,
        zero: None,
        looked: false,
        told_at: Instant::now(),
        alive_at: Instant::now(),
        unreachable: None,
        outcome: Outcome { before, ..Outcome::default() },
    };
    run.progress.phase("connecting");
    run.go();
    Ok(run.finish())
}

impl Plan {
    fn task(&self, scenario: Scenario, at: u64, worker: SocketAddr) -> Task {
        let Target { address, host, path, others } = self.target.clone();
        let here = is_here(worker.ip());
        Task {
            scenario,
            address,
            host,
            path,
            others,
            run: self.run.wrapping_add(at),
            token_key: self.token_key.as_ref().filter(|_| here).map(told_key),
            needs_token_key: self.token_key.is_some(),
            ca: self.ca.clone(),
            server_name: self.server_name.clone(),
            threads: self.threads,
        }
    }
}

/// Connects to a worker, and agrees with it on who both are.
fn call(address: &str, secret: Option<&Secret>, clients: u64) -> anyhow::Result<Worker> {
    let found =
        address.to_socket_addrs().ok().and_then(|mut found| found.next()).context("its address is not known")?;
    let stream = TcpStream::connect_timeout(&found, GREET_WITHIN).context("cannot connect")?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    let mut from = Within { stream: &stream, until: Instant::now() + GREET_WITHIN };
    let theirs: Hello = frame::read(&mut from, BYTES_MAX_UNPROVED).context("no greeting of a worker")?;
    let nonce = nonce();
    let ours = Hello {
        program: env!("CARGO_PKG_NAME").into(),
        version: env!("CARGO_PKG_VERSION").into(),
        protocol: PROTOCOL,
        nonce: nonce.clone(),
        proof: secret.map(|secret| secret.proof("coordinator", &theirs.nonce)),
    };
    let asked = Instant::now();
    frame::write(&mut &stream, &ours)?;
    let mut from = Within { stream: &stream, until: Instant::now() + GREET_WITHIN };
    let proof = match frame::read(&mut from, BYTES_MAX_UNPROVED)? {
        Welcome::Accepted { proof, .. } => proof,
        Welcome::Refused { why } => bail!("it refuses: {why}"),
    };
    if let Some(secret) = secret
        && !proof.is_some_and(|proof| secret.is_proved("worker", &nonce, &proof))
    {
        bail!("it does not know the secret");
    }
    Ok(Worker {
        address: address.to_owned(),
        away: asked.elapsed() / 2,
        stream,
        clients,
        threads: 0,
        state: State::Preparing,
        entered: 0,
        live: 0,
        sent: 0,
        late: Histogram::new(3).expect("three digits are allowed"),
        cpu_ns: 0,
        load_us: 0,
    })
}

/// Reads what a worker says until it is over. Full queues wait, and so does the worker.
fn listen(at: usize, mut from: TcpStream, notes: SyncSender<(usize, Result<Note, String>)>) -> anyhow::Result<()> {
    from.set_read_timeout(Some(SILENCE_MAX))?;
    std::thread::Builder::new().name(format!("worker-{at}")).spawn(move || {
        loop {
            let note = frame::read::<Note>(&mut from, BYTES_MAX).map_err(|error| error.to_string());
            let over = matches!(note, Err(_) | Ok(Note::Done(_) | Note::Failed { .. }));
            if notes.send((at, note)).is_err() || over {
                return;
            }
        }
    })?;
    Ok(())
}

impl Run<'_> {
    fn go(&mut self) {
        while self.workers.iter().any(Worker::is_open) {
            match self.notes.recv_timeout(LOOK_EVERY) {
                Ok((at, Ok(note))) => self.note(at, note),
                Ok((at, Err(why))) => self.lose(at, why),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let asked = self.interrupt.count();
            if asked > self.obeyed {
                self.obeyed = asked;
                if std::mem::replace(&mut self.outcome.interrupted, true) {
                    return;
                }
                self.progress.phase("stopping; once more to stop at once");
                self.tell_all(&Order::Stop);
            }
            if self.alive_at.elapsed() >= ALIVE_EVERY {
                self.alive_at = Instant::now();
                self.tell_all(&Order::Alive);
            }
            self.look();
        }
    }

    fn note(&mut self, at: usize, note: Note) {
        let worker = &mut self.workers[at];
        match note {
            Note::Alive => {}
            Note::Ready { entered } => {
                (worker.entered, worker.state) = (entered, State::Ready);
                self.outcome.entered += entered;
                self.begin_if_ready();
            }
            Note::Tick { second, live, recorder } => {
                worker.live = live;
                worker.sent += recorder.counts.sent;
                worker.late.add(&recorder.late).expect("a histogram that grows takes every value");
                self.outcome.total.merge(&recorder);
                if let Some(second) = second {
                    let live = self.workers.iter().map(|worker| worker.live).sum();
                    self.outcome.series.live(second, live);
                    self.outcome.series.add(second, *recorder);
                }
                self.tell(second);
            }
            Note::Done(part) => self.done(at, *part),
            Note::Failed { why, unreachable } => {
                if unreachable {
                    self.unreachable.get_or_insert_with(|| why.clone());
                }
                self.lose(at, why);
            }
        }
    }

    fn done(&mut self, at: usize, part: Part) {
        let worker = &mut self.workers[at];
        worker.state = State::Done;
        (worker.threads, worker.cpu_ns, worker.load_us) = (part.threads, part.cpu_ns, part.load_us);
        part.add_to(&mut self.outcome);
    }

    /// A worker is not heard of any more: what it told stays, its clients are gone.
    fn lose(&mut self, at: usize, why: String) {
        let into =
            self.zero.and_then(|zero| Instant::now().checked_duration_since(zero)).map(|time| time.as_secs_f64());
        let worker = &mut self.workers[at];
        if !worker.is_open() {
            return;
        }
        self.progress.line(&format!("worker {} is lost: {why}", worker.address));
        self.outcome.total.counts.dropped += worker.live;
        *self.outcome.ends.entry("its worker was lost".into()).or_default() += worker.live;
        worker.live = 0;
        worker.state = State::Lost(why, into);
        self.begin_if_ready();
    }

    /// When nobody is still preparing, everybody begins at the same moment.
    fn begin_if_ready(&mut self) {
        let preparing = self.workers.iter().any(|worker| matches!(worker.state, State::Preparing));
        let ready = self.workers.iter().any(|worker| matches!(worker.state, State::Ready));
        if preparing || !ready || self.zero.is_some() {
            return;
        }
        self.outcome.connected = Reading::take(self.server_pid);
        self.outcome.load_begin = self.outcome.connected;
        let zero = Instant::now() + RUN_UP;
        for worker in self.workers.iter_mut().filter(|worker| matches!(worker.state, State::Ready)) {
            let wait = zero.saturating_duration_since(Instant::now()).saturating_sub(worker.away);
            let in_us = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
            // One that cannot be told is found lost by its reader.
            let _ = frame::write(&mut &worker.stream, &Order::Begin { in_us });
            worker.state = State::Loading;
        }
        self.progress.phase("load");
        self.progress.zero(zero);
        self.zero = Some(zero);
    }

    fn tell_all(&self, order: &Order) {
        for worker in self.workers.iter().filter(|worker| worker.is_open()) {
            let _ = frame::write(&mut &worker.stream, order);
        }
    }

    /// Looks at the server when the load is over.
    fn look(&mut self) {
        let over = self.scenario.load.hold() + SETTLED_AFTER;
        if !self.looked && self.zero.is_some_and(|zero| zero.elapsed() >= over) {
            self.looked = true;
            self.outcome.load_end = Reading::take(self.server_pid);
            self.progress.phase("waiting for deliveries, and reading the logs");
        }
    }

    fn tell(&mut self, second: Option<u64>) {
        if self.told_at.elapsed() < Duration::from_millis(900) {
            return;
        }
        self.told_at = Instant::now();
        let hold = self.scenario.load.hold().as_secs_f64().ceil() as u64;
        // The second before: of the last one some workers have yet to tell.
        let whole = second.map(|second| second.saturating_sub(1));
        let last = whole.and_then(|second| self.outcome.series.peek(second));
        let counts = last.map(|recorder| recorder.counts).unwrap_or_default();
        let delivered = last.filter(|_| counts.delivered > 0);
        self.progress.tell(&Standing {
            live: self.workers.iter().map(|worker| worker.live).sum(),
            wanted: self.scenario.clients.into(),
            sent: counts.sent,
            acknowledged: counts.acknowledged,
            delivered: counts.delivered,
            delivery_p50_us: delivered.map(|last| last.delivery.value_at_quantile(0.5)),
            delivery_p99_us: delivered.map(|last| last.delivery.value_at_quantile(0.99)),
            errors: self.outcome.total.errors.values().sum(),
            second: whole.filter(|second| *second < hold).map(|second| (second + 1, hold)),
            ..Standing::default()
        });
    }

    fn finish(mut self) -> Result<Whole, RunError> {
        for at in 0..self.workers.len() {
            self.lose(at, "the run was stopped at once".into());
        }
        if !self.looked {
            self.outcome.load_end = Reading::take(self.server_pid);
        }
        if self.outcome.entered == 0 && !self.outcome.interrupted {
            let lost = self.workers.iter().find_map(|worker| match &worker.state {
                State::Lost(why, _) => Some(why.clone()),
                _ => None,
            });
            let why = self.unreachable.or(lost).unwrap_or_else(|| "no client could connect".into());
            return Err(RunError::Unreachable(why));
        }
        if self.outcome.load_time.is_zero() {
            // Nobody reached the end.
            self.outcome.load_time = self.zero.map_or(Duration::ZERO, |zero| zero.elapsed());
        }
        self.outcome.series.close();
        let workers = self.workers.into_iter().map(told).collect();
        Ok(Whole { outcome: self.outcome, workers })
    }
}

/// What is said of a worker.
fn told(worker: Worker) -> WorkerPart {
    let (state, lost_because, lost_after_s) = match worker.state {
        State::Lost(why, after) => ("lost", Some(why), after),
        _ => ("finished", None, None),
    };
    let time_ns = worker.load_us as f64 * 1e3 * f64::from(worker.threads.max(1));
    WorkerPart {
        address: worker.address,
        clients: worker.clients,
        threads: worker.threads,
        state: state.into(),
        lost_after_s: lost_after_s.map(|after| (after * 10.0).round() / 10.0),
        lost_because,
        cpu: if time_ns > 0.0 { (worker.cpu_ns as f64 / time_ns * 1e4).round() / 1e4 } else { 0.0 },
        late_p99_us: (!worker.late.is_empty()).then(|| worker.late.value_at_quantile(0.99)),
        messages: worker.sent,
    }
}
