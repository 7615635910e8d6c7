//! The main thread of a run: one order after another, and what was measured while each was done.

mod gone;

use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::gone::Where;
use super::look::Look;
use super::order::{Order, Publish, Tick};
use super::plan::{Broadcast, Drop as How, Echo, Plan, Storm};
use super::tally::{Counts, Tally};
use super::token::Minter;
use super::voice::{Entry, Voice};
use super::worker::{Make, Worker};
use crate::clock::{Clock, ns};
use crate::driver::Target;
use crate::engine::RunError;
use crate::interrupt::Interrupt;
use crate::lines::Carrier;
use crate::progress::{Progress, Standing};
use crate::report::series::Series;

/// How long to wait for the first sign of a server.
const PROBE_WITHIN: Duration = Duration::from_secs(3);
/// How long sessions rest before their memory is looked at.
const REST: Duration = Duration::from_millis(1500);
/// Between an order and its first intended time.
const RUN_UP: Duration = Duration::from_millis(50);
/// How often a waiting run looks for Ctrl-C.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Below this the host has no memory left: better to stop than to be killed.
const AVAILABLE_BYTES_MIN: u64 = 256 << 20;

/// What to run, and against what.
pub(crate) struct Job {
    pub(crate) plan: Plan,
    pub(crate) target: Target,
    /// Signs tokens; without it clients enter as guests.
    pub(crate) secret: Option<Box<[u8; 32]>>,
    /// Ids of users begin with this number.
    pub(crate) run: u64,
    pub(crate) now_ms: u64,
    pub(crate) threads: u32,
    pub(crate) server_pid: Option<u32>,
    pub(crate) carrier: Carrier,
}

/// What was measured while one order was done.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) what: What,
    pub(crate) tally: Tally,
    pub(crate) seconds: f64,
    pub(crate) before: Look,
    pub(crate) after: Look,
    /// Sessions at its end.
    pub(crate) live: u64,
}

/// The orders that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Ramp,
    Hold,
    Subscribe,
    Publish,
    Echo,
    Storm,
    Drain,
    Finish,
}

impl What {
    pub(crate) const fn phase(self) -> &'static str {
        match self {
            Self::Ramp => "connecting",
            Self::Hold => "holding",
            Self::Subscribe => "subscribing",
            Self::Publish => "broadcast",
            Self::Echo => "echo",
            Self::Storm => "storm",
            Self::Drain => "drain",
            Self::Finish => "closing",
        }
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) stages: Vec<Measured>,
    /// Before the first connection, and when all were idle.
    pub(crate) before: Look,
    pub(crate) idle: Look,
    /// Sessions when that look was taken.
    pub(crate) idle_sessions: u64,
    pub(crate) rings: usize,
    /// What everybody subscribed to, if somebody did.
    pub(crate) channel: String,
    /// From the first intended time of the ramp on.
    pub(crate) series: Series,
    pub(crate) interrupted: bool,
    /// Why the run stopped by itself.
    pub(crate) stopped: Option<String>,
    /// The server went away in the middle: this is only a part.
    pub(crate) gone: Option<String>,
}

impl Outcome {
    /// What was measured while an order was done; `None` if it was not given.
    pub(crate) fn stage(&self, what: What) -> Option<&Measured> {
        self.stages.iter().find(|stage| stage.what == what)
    }
}

/// Somebody asked to stop, or it cannot go on.
struct Stopped;

struct Run<'a> {
    plan: Plan,
    run: u64,
    clock: Clock,
    orders: Vec<Sender<Order>>,
    notes: Receiver<Tick>,
    handles: Vec<JoinHandle<()>>,
    server_pid: Option<u32>,
    progress: &'a mut Progress,
    interrupt: &'a Interrupt,
    obeyed: usize,
    /// The last tick of each thread: live, opening, away.
    standing: Vec<(u32, u32, u32)>,
    /// The first intended time of the ramp.
    zero: Option<Instant>,
    told_at: Instant,
    told: Counts,
    server: Where,
    outcome: Outcome,
}

/// Runs a job.
///
/// # Errors
/// The server could not be reached, or this system lacks something: io_uring, most likely.
pub(crate) fn run(job: Job, progress: &mut Progress, interrupt: &Interrupt) -> Result<Outcome, RunError> {
    if !matches!(job.carrier, Carrier::Quic { .. }) {
        probe(job.target.address, &job.target.host)?;
    }
    let mut run = Run::start(job, progress, interrupt)?;
    let _ = run.go();
    run.look_at_the_end();
    run.finish();
    run.outcome.series.close();
    let entered = run.outcome.stage(What::Ramp).map_or(0, |ramp| ramp.tally.counts.entered);
    if entered == 0 && !run.outcome.interrupted {
        let ends =
            run.outcome.stage(What::Ramp).and_then(|ramp| ramp.tally.ends.iter().max_by_key(|(_, count)| **count));
        let why = ends.map_or("no client could connect", |(why, _)| why);
        return Err(RunError::Unreachable(format!("no session: {why}")));
    }
    Ok(run.outcome)
}

fn probe(address: SocketAddr, host: &str) -> Result<(), RunError> {
    let probed = TcpStream::connect_timeout(&address, PROBE_WITHIN);
    probed.map(drop).map_err(|error| RunError::Unreachable(format!("cannot connect to {host}: {error}")))
}

impl<'a> Run<'a> {
    fn start(job: Job, progress: &'a mut Progress, interrupt: &'a Interrupt) -> Result<Self, RunError> {
        let Job { plan, target, secret, run, now_ms, threads, server_pid, carrier } = job;
        let by_tcp = !matches!(carrier, Carrier::Quic { .. });
        let server = Where { address: target.address, host: target.host.clone(), by_tcp, gone_since: None };
        let threads = threads.clamp(1, plan.connections);
        let before = Look::take(server_pid);
        let clock = Clock::start();
        let (to_main, notes) = channel();
        let (mut orders, mut handles, mut rings) = (Vec::new(), Vec::new(), 0);
        let share = |number: u32| (u64::from(plan.connections) * u64::from(number) / u64::from(threads)) as u32;
        for number in 0..threads {
            let entry = match &secret {
                Some(secret) => Entry::Tokens(Box::new(Minter::new(secret, run, now_ms, TOKEN_TTL_S))),
                None => Entry::Guests,
            };
            let (to_thread, told) = channel();
            let (path, host) = (target.path.clone(), target.host.clone());
            let voice = Voice::new(plan.protocol, path, host, entry, plan.seed ^ u64::from(number) << 48);
            let voice = if matches!(carrier, Carrier::Quic { .. }) { voice.native() } else { voice };
            let worker = Worker::new(Make {
                number,
                threads,
                first: share(number),
                count: share(number + 1) - share(number),
                target: target.address,
                carrier: carrier.clone(),
                voice,
                clock,
                heartbeat: plan.heartbeat,
                patience: plan.grace,
                setup_within: plan.grace.max(SETUP_WITHIN_MIN),
                migrating: plan.migrating,
                seed: plan.seed,
                told,
                notes: to_main.clone(),
            })?;
            rings += worker.rings();
            let thread = std::thread::Builder::new().name(format!("mass-{number}"));
            handles.push(thread.spawn(move || worker.run())?);
            orders.push(to_thread);
        }
        Ok(Self {
            plan,
            run,
            clock,
            orders,
            notes,
            handles,
            server_pid,
            progress,
            interrupt,
            obeyed: interrupt.count(),
            standing: vec![(0, 0, 0); threads as usize],
            told_at: Instant::now(),
            zero: None,
            told: Counts::default(),
            server,
            outcome: Outcome { before, rings, ..Outcome::default() },
        })
    }

    fn go(&mut self) -> Result<(), Stopped> {
        let zero = Instant::now() + RUN_UP;
        self.zero = Some(zero);
        self.progress.zero(zero);
        self.measure(What::Ramp, |run| Order::Ramp {
            start_ns: run.after(RUN_UP),
            per_second: run.plan.connects_per_second / run.orders.len() as f64,
        })?;
        self.rest()?;
        if !self.plan.hold.is_zero() {
            self.measure(What::Hold, |run| Order::Hold { until_ns: run.after(run.plan.hold) })?;
        }
        self.outcome.idle = Look::take(self.server_pid);
        self.outcome.idle_sessions = self.live();
        if let Some(broadcast) = self.plan.broadcast {
            self.broadcast(broadcast)?;
        }
        if let Some(Echo { hold, body_bytes }) = self.plan.echo {
            let grace_ns = ns(self.plan.grace);
            self.measure(What::Echo, |run| Order::Echo { body_bytes, until_ns: run.after(hold), grace_ns })?;
        }
        if let Some(Storm { how, window }) = self.plan.storm {
            let per_second = f64::from(self.plan.connections) / window.as_secs_f64() / self.orders.len() as f64;
            let reset = how == How::Rst;
            self.measure(What::Storm, |_| Order::Storm { reset, per_second })?;
        }
        if self.plan.drain {
            let within = DRAIN_WITHIN.max(self.plan.grace);
            self.measure(What::Drain, |run| Order::Drain { until_ns: run.after(within) })?;
        }
        Ok(())
    }

    fn broadcast(&mut self, broadcast: Broadcast) -> Result<(), Stopped> {
        let channel = format!("mass-{:016x}", self.run);
        self.outcome.channel.clone_from(&channel);
        let per_second = self.plan.connects_per_second / self.orders.len() as f64;
        let took = Duration::from_secs_f64(f64::from(self.plan.connections) / self.plan.connects_per_second);
        self.measure(What::Subscribe, move |run| Order::Subscribe {
            channel: channel.clone(),
            start_ns: run.after(RUN_UP),
            per_second,
            until_ns: run.after(took + run.plan.grace * 2),
        })?;
        self.measure(What::Publish, move |run| {
            Order::Publish(Publish {
                start_ns: run.after(RUN_UP),
                count: broadcast.publishes,
                per_second: broadcast.publishes_per_second,
                burst: broadcast.burst,
                body_bytes: broadcast.body_bytes,
                grace_ns: ns(run.plan.grace + DELIVERY_GRACE * run.plan.connections),
            })
        })
    }

    /// Gives an order to all threads, and measures until each has done it.
    fn measure(&mut self, what: What, order: impl Fn(&Self) -> Order) -> Result<(), Stopped> {
        self.progress.phase(what.phase());
        let (before, began) = (Look::take(self.server_pid), Instant::now());
        self.outcome.stages.push(Measured {
            what,
            tally: Tally::default(),
            seconds: 0.0,
            before,
            after: before,
            live: 0,
        });
        let order = order(self);
        for thread in &self.orders {
            // A thread that ended is found when its note comes.
            let _ = thread.send(order.clone());
        }
        let number = self.outcome.stages.len();
        let (mut begun, mut done) = (vec![false; self.orders.len()], vec![false; self.orders.len()]);
        // Not before every thread has begun: what it hears belongs to the order that it is doing.
        let mut to_stop = what == What::Drain;
        let result = loop {
            if let Ok(tick) = self.notes.recv_timeout(LOOK_EVERY) {
                begun[tick.thread as usize] |= tick.order as usize == number;
                done[tick.thread as usize] |= (tick.order as usize == number && tick.done) || tick.ended.is_some();
                if let Err(stopped) = self.tick(tick) {
                    break Err(stopped);
                }
            } else {
                // One that panicked tells nothing.
                done.iter_mut().zip(&self.handles).for_each(|(done, handle)| *done |= handle.is_finished());
            }
            if done.iter().all(|done| *done) {
                break Ok(());
            }
            if to_stop && begun.iter().all(|begun| *begun) {
                self.ask_server_to_stop();
                to_stop = false;
            }
            if let Err(stopped) = self.look_around(what, began) {
                break Err(stopped);
            }
        };
        let (live, after) = (self.live(), Look::take(self.server_pid));
        if let Some(stage) = self.outcome.stages.last_mut() {
            (stage.seconds, stage.after, stage.live) = (began.elapsed().as_secs_f64(), after, live);
        }
        result
    }

    /// What a thread tells belongs to the order that it was doing.
    fn tick(&mut self, tick: Tick) -> Result<(), Stopped> {
        self.standing[tick.thread as usize] = (tick.live, tick.opening, tick.away);
        if let Some(zero) = self.zero {
            let (second, live) = (zero.elapsed().as_secs(), self.live());
            self.outcome.series.add(second, (&tick.tally).into());
            self.outcome.series.live(second, live);
        }
        if let Some(stage) = (tick.order as usize).checked_sub(1).and_then(|at| self.outcome.stages.get_mut(at)) {
            stage.tally.merge(&tick.tally);
        }
        match tick.ended {
            Some(Err(why)) => {
                self.outcome.stopped = Some(format!("a thread of the generator failed: {why}"));
                Err(Stopped)
            }
            _ => Ok(()),
        }
    }

    fn look_around(&mut self, what: What, began: Instant) -> Result<(), Stopped> {
        let asked = self.interrupt.count();
        if asked > self.obeyed {
            self.obeyed = asked;
            self.outcome.interrupted = true;
            return Err(Stopped);
        }
        if self.told_at.elapsed() < Duration::from_millis(950) {
            return Ok(());
        }
        let look = Look::take(self.server_pid);
        let seconds = self.told_at.elapsed().as_secs_f64();
        self.told_at = Instant::now();
        let line = self.line(what, &look, seconds, began);
        let standing = self.standing_now(seconds);
        self.progress.tell_as(&standing, &line);
        if look.available_bytes.is_some_and(|bytes| bytes < AVAILABLE_BYTES_MIN) && what != What::Finish {
            let live = self.live();
            self.outcome.stopped = Some(format!("this host has no memory left, with {live} sessions"));
            return Err(Stopped);
        }
        self.look_for_server(what)
    }

    /// Of all stages so far.
    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.outcome.stages.iter().for_each(|stage| counts.add(&stage.tally.counts));
        counts
    }

    /// How it stands; rates are those of the `seconds` since this was asked before.
    fn standing_now(&mut self, seconds: f64) -> Standing {
        let counts = self.counts();
        let told = std::mem::replace(&mut self.told, counts);
        let rate = |of: fn(&Counts) -> u64| ((of(&counts) - of(&told)) as f64 / seconds.max(1e-9)).round() as u64;
        let tally = self.outcome.stages.last().map(|stage| &stage.tally);
        let times = tally.map(|tally| if tally.delivery.is_empty() { &tally.answer } else { &tally.delivery });
        let times = times.filter(|times| !times.is_empty());
        Standing {
            live: self.live(),
            wanted: self.plan.connections.into(),
            sent: rate(|counts| counts.published),
            acknowledged: rate(|counts| counts.acknowledged),
            delivered: rate(|counts| counts.pushed + counts.echoed),
            connected: Some(rate(|counts| counts.entered)),
            delivery_p50_us: times.map(|times| times.value_at_quantile(0.5)),
            delivery_p99_us: times.map(|times| times.value_at_quantile(0.99)),
            errors: counts.refused,
            failed: counts.given_up,
            dropped: counts.lost,
            late_p99_us: tally.filter(|tally| !tally.late.is_empty()).map(|tally| tally.late.value_at_quantile(0.99)),
            ..Standing::default()
        }
    }

    /// The live line.
    fn line(&self, what: What, look: &Look, seconds: f64, began: Instant) -> String {
        let Counts { entered, given_up: failed, lost, .. } = self.counts();
        let per_second = (entered - self.told.entered) as f64 / seconds;
        let mut line = format!("{}/{} live", self.live(), self.plan.connections);
        if matches!(what, What::Ramp | What::Storm) {
            line += &format!("  {per_second:.0} connected/s");
        }
        line += &format!("  {failed} failed  {lost} lost");
        if let Some(stage) = self.outcome.stages.last() {
            let counts = &stage.tally.counts;
            match what {
                What::Hold => {
                    line += &format!("  {} beats, {} answered", counts.beats_sent, counts.beats_answered);
                    line += &format!("  {:.0} of {} s", began.elapsed().as_secs_f64(), self.plan.hold.as_secs());
                }
                What::Subscribe => line += &format!("  {} subscribed", counts.subscribed),
                What::Publish => line += &format!("  {} published, {} delivered", counts.published, counts.pushed),
                What::Echo => line += &format!("  {} echoed", counts.echoed),
                _ => {}
            }
        }
        let mega = |bytes: u64| bytes as f64 / 1e6;
        if let Some(bytes) = look.rss_bytes {
            line += &format!("  server {:.0} MB", mega(bytes));
        }
        if let Some(bytes) = look.available_bytes {
            line += &format!("  {:.1} GB free", mega(bytes) / 1e3);
        }
        line
    }

    /// Lets sessions rest, and goes on listening.
    fn rest(&mut self) -> Result<(), Stopped> {
        let began = Instant::now();
        while began.elapsed() < REST {
            if let Ok(tick) = self.notes.recv_timeout(LOOK_EVERY) {
                self.tick(tick)?;
            }
        }
        Ok(())
    }

    fn ask_server_to_stop(&self) {
        use rustix::process::{Pid, Signal, kill_process};
        let pid = self.server_pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // If it is gone, everybody is found to be.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Closes what is left, and waits for the threads.
    fn finish(&mut self) {
        let goodbye = self.plan.connections <= GOODBYES_MAX;
        if self.measure(What::Finish, |_| Order::Finish { goodbye }).is_err() {
            // Asked once more: the end of the process closes what is left.
            return;
        }
        for handle in self.handles.drain(..) {
            handle.join().expect("a thread of the generator failed");
        }
    }

    fn live(&self) -> u64 {
        self.standing.iter().map(|(live, ..)| u64::from(*live)).sum()
    }

    fn after(&self, time: Duration) -> u64 {
        self.clock.now_ns() + ns(time)
    }
}

/// How long tokens are valid: longer than a run.
const TOKEN_TTL_S: u64 = 7 * 24 * 3600;
/// A connection may always take so long to become a session.
const SETUP_WITHIN_MIN: Duration = Duration::from_secs(30);
/// So much longer than the usual grace a message may be on its way for each client that gets it.
const DELIVERY_GRACE: Duration = Duration::from_micros(100);
/// How long a server may take to see everybody off.
const DRAIN_WITHIN: Duration = Duration::from_secs(60);
/// Up to so many clients say goodbye in the end. More would leave more TIME_WAIT behind than the host has room for.
const GOODBYES_MAX: u32 = 20_000;
