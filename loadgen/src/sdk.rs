//! A sample of the users on the real SDK: one more device of theirs, which hears what they hear and writes as often as they do.
//!
//! What the load's own clients leave out (an outbox, resending, order by waiting) is here, on tokio, as in an app. Every entry is
//! checked: none twice, none out of order, none left out up to what the log holds in the end, every byte of its text.
//!
//! Absent on purpose: their numbers among those of the load. An app's own waiting is no latency of the server.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use roost_client::{Builder, Client, Event, Events, Transport, Trust};
use roost_wire::limits::PAGE_ENTRIES_MAX;
use roost_wire::{ConvId, Seq};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep_until, timeout};

use crate::client::{Names, Stamp, body};
use crate::clock::{Clock, ns};
use crate::driver::Shared;
use crate::plan::{Conv, Kind, UserNo};
use crate::recorder::record;
use crate::schedule::{Course, Leg, mixed};

/// How long a client may take to enter, and a request to be answered.
const PATIENCE: Duration = Duration::from_secs(20);
/// Numbers of senders count down from here: those of the load count up.
const SENDER_LAST: u32 = u32::MAX;
/// How many different failures are told apart.
const FAILURES_MAX: usize = 16;
/// Clients that enter per second.
const ENTERS_PER_SECOND: u32 = 200;

/// How its clients reach the server.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// `http://…`; empty if nobody comes that way.
    pub(crate) plain: String,
    /// `https://…`; empty if nobody comes that way.
    pub(crate) secure: String,
    /// Whose certificates are believed, where there is TLS.
    pub(crate) ca: Option<PathBuf>,
}

/// What came of them.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) clients: u64,
    /// Those that became a session.
    pub(crate) entered: u64,
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    /// Entries shown to the app, those of its own user included.
    pub(crate) delivered: u64,
    /// Entries of the log in the end that were not.
    pub(crate) missing: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) garbled: u64,
    /// Microseconds: from the intended time to the acknowledgement, to the app, from the beginning to the session.
    pub(crate) ack: Histogram<u64>,
    pub(crate) delivery: Histogram<u64>,
    pub(crate) connect: Histogram<u64>,
    pub(crate) failures: BTreeMap<String, u64>,
}

impl Default for Outcome {
    fn default() -> Self {
        let histogram = || Histogram::new(3).expect("three digits are allowed");
        Self {
            clients: 0,
            entered: 0,
            sent: 0,
            acknowledged: 0,
            delivered: 0,
            missing: 0,
            duplicated: 0,
            reordered: 0,
            garbled: 0,
            ack: histogram(),
            delivery: histogram(),
            connect: histogram(),
            failures: BTreeMap::new(),
        }
    }
}

impl Outcome {
    /// Adds what another one has.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.clients, other.clients),
            (&mut self.entered, other.entered),
            (&mut self.sent, other.sent),
            (&mut self.acknowledged, other.acknowledged),
            (&mut self.delivered, other.delivered),
            (&mut self.missing, other.missing),
            (&mut self.duplicated, other.duplicated),
            (&mut self.reordered, other.reordered),
            (&mut self.garbled, other.garbled),
        ] {
            *mine += theirs;
        }
        for (mine, theirs) in
            [(&mut self.ack, &other.ack), (&mut self.delivery, &other.delivery), (&mut self.connect, &other.connect)]
        {
            mine.add(theirs).expect("histograms that grow take every value");
        }
        for (why, count) in &other.failures {
            self.fail(why, *count);
        }
    }

    fn fail(&mut self, why: &str, count: u64) {
        let known = self.failures.len() < FAILURES_MAX || self.failures.contains_key(why);
        *self.failures.entry(if known { why } else { "others" }.to_owned()).or_default() += count;
    }
}

/// The users that have one, evenly among all.
pub(crate) fn sample(users: u32, share: f64) -> impl Iterator<Item = UserNo> {
    let count = (f64::from(users) * share.clamp(0.0, 1.0)).ceil() as u64;
    (0..count).map(move |at| (at * u64::from(users) / count.max(1)) as UserNo)
}

/// What everybody is told.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Word {
    /// Enter, and wait.
    Enter,
    /// The load begins then.
    Load(u64),
    /// It is over: say nothing more.
    Quiet,
    /// Look what there is, and end.
    Finish,
}

/// Clients at work, on a thread of their own.
pub(crate) struct Running {
    word: watch::Sender<Word>,
    entered: mpsc::UnboundedReceiver<()>,
    wanted: u64,
    handle: JoinHandle<Outcome>,
}

impl Running {
    /// Starts them: they begin to enter.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(crate) fn start(shared: &Arc<Shared>, names: &Arc<Names>, setup: Setup) -> std::io::Result<Self> {
        let users: Vec<UserNo> = sample(shared.scenario.users(), shared.scenario.sdk_share).collect();
        let (word, told) = watch::channel(Word::Enter);
        let (in_there, entered) = mpsc::unbounded_channel();
        let (shared, names, wanted) = (Arc::clone(shared), Arc::clone(names), users.len() as u64);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = std::thread::Builder::new().name("load-sdk".into()).spawn(move || {
            let mut whole = Outcome { clients: users.len() as u64, ..Outcome::default() };
            let parts = runtime.block_on(async {
                let convs = conversations(&shared, &users);
                let mut tasks = tokio::task::JoinSet::new();
                for (number, (user, convs)) in users.iter().zip(convs).enumerate() {
                    let one = One::new(number as u32, *user, &convs, &shared, &names);
                    tasks.spawn(one.live(Arc::clone(&shared), setup.clone(), told.clone(), in_there.clone()));
                }
                drop(in_there);
                tasks.join_all().await
            });
            parts.iter().for_each(|part| whole.merge(part));
            whole
        })?;
        Ok(Self { word, entered, wanted, handle })
    }

    /// Whether all have entered or failed.
    pub(crate) fn is_ready(&mut self) -> bool {
        while self.wanted > 0 {
            match self.entered.try_recv() {
                Ok(()) => self.wanted -= 1,
                Err(mpsc::error::TryRecvError::Empty) => return false,
                Err(mpsc::error::TryRecvError::Disconnected) => self.wanted = 0,
            }
        }
        true
    }

    /// The load begins.
    pub(crate) fn load(&self, start_ns: u64) {
        // They may all have failed.
        let _ = self.word.send(Word::Load(start_ns));
    }

    /// The load is over.
    pub(crate) fn quiet(&self) {
        let _ = self.word.send(Word::Quiet);
    }

    /// What came of it: each looks what there is in the logs, and leaves.
    pub(crate) fn end(self) -> Outcome {
        let _ = self.word.send(Word::Finish);
        self.handle.join().expect("a thread of the generator failed")
    }
}

/// The conversations of some users.
fn conversations(shared: &Shared, users: &[UserNo]) -> Vec<Vec<Conv>> {
    let places: HashMap<UserNo, usize> = users.iter().enumerate().map(|(at, user)| (*user, at)).collect();
    let mut of = vec![Vec::new(); users.len()];
    for (conv, planned) in shared.plan.conversations.iter().enumerate() {
        for member in &planned.members {
            if let Some(at) = places.get(&shared.plan.user_of(*member))
                && of[*at].last() != Some(&(conv as Conv))
            {
                of[*at].push(conv as Conv);
            }
        }
    }
    of
}

/// One of them.
struct One {
    number: u32,
    user: UserNo,
    /// By their ids: what was shown last, and whether it is a channel.
    convs: HashMap<String, (Seq, bool)>,
    /// Where it writes.
    writes: Vec<ConvId>,
    /// Messages per second at a pace of 1.
    per_second: f64,
    transport: crate::scenario::Transport,
    /// Entries that came behind ones that did not: they are looked for in the log.
    gaps: Vec<(String, Seq, Seq)>,
    clock: Clock,
    body_bytes: usize,
    course: Course,
    rng: StdRng,
    serial: u32,
    outcome: Outcome,
}

impl One {
    fn new(number: u32, user: UserNo, convs: &[Conv], shared: &Shared, names: &Names) -> Self {
        let mut first = 0;
        let crowd = shared.scenario.crowds.iter().find(|crowd| {
            first += crowd.users;
            user < first
        });
        let kind = |conv: &Conv| shared.plan.conversations[*conv as usize].kind;
        let made = |conv: &&Conv| !names.id(**conv).is_empty();
        let writes = convs.iter().filter(made).filter(|conv| kind(conv) != Kind::Channel);
        Self {
            number,
            user,
            writes: writes.filter_map(|conv| ConvId::new(names.id(*conv)).ok()).collect(),
            convs: convs
                .iter()
                .filter(made)
                .map(|conv| (names.id(*conv).to_owned(), (0, kind(conv) == Kind::Channel)))
                .collect(),
            per_second: crowd.map_or(0.0, |crowd| crowd.sends_per_second / f64::from(crowd.users.max(1))),
            transport: crowd.map_or_else(Default::default, |crowd| crowd.transport),
            gaps: Vec::new(),
            clock: shared.clock,
            body_bytes: shared.scenario.body_bytes,
            course: Course::of(&shared.scenario),
            rng: StdRng::seed_from_u64(mixed(shared.scenario.seed ^ 0x0073_646b ^ u64::from(user) << 24)),
            serial: 0,
            outcome: Outcome::default(),
        }
    }

    async fn live(
        mut self,
        shared: Arc<Shared>,
        setup: Setup,
        told: watch::Receiver<Word>,
        in_there: mpsc::UnboundedSender<()>,
    ) -> Outcome {
        tokio::time::sleep(Duration::from_secs(1) * self.number / ENTERS_PER_SECOND).await;
        let entered = self.enter(&shared, &setup).await;
        drop(shared);
        let _ = in_there.send(());
        drop(in_there);
        match entered {
            Ok((client, events)) => self.talk(&client, events, told).await,
            Err(why) => self.outcome.fail(&why, 1),
        }
        self.outcome
    }

    async fn enter(&mut self, shared: &Shared, setup: &Setup) -> Result<(Client, Events), String> {
        let token = shared.credentials.token(self.user).ok_or("there is no key to make a token with")?;
        let began = Instant::now();
        let url = if self.transport.has_tls() { &setup.secure } else { &setup.plain };
        let mut builder: Builder = Client::builder(url).token(token).device("sdk");
        if let Some(ca) = &setup.ca {
            builder = builder.trust(Trust::File(ca.clone()));
        }
        let builder = builder.transport(if self.transport.is_quic() { Transport::Quic } else { Transport::WebSocket });
        let entered = timeout(PATIENCE, builder.connect()).await.map_err(|_| "it did not enter in time".to_owned())?;
        let (client, events) = entered.map_err(|error| error.to_string())?;
        record(&mut self.outcome.connect, 0, ns(began.elapsed()));
        self.outcome.entered += 1;
        for (conv, _) in self.convs.iter().filter(|(_, (_, channel))| *channel) {
            let conv = ConvId::new(conv).map_err(|error| error.to_string())?;
            let subscribed = timeout(PATIENCE, client.subscribe(&conv)).await;
            subscribed.map_err(|_| "it could not subscribe in time".to_owned())?.map_err(|error| error.to_string())?;
        }
        Ok((client, events))
    }

    /// From the session to the end.
    async fn talk(&mut self, client: &Client, mut events: Events, mut told: watch::Receiver<Word>) {
        let mut fates = tokio::task::JoinSet::new();
        let (mut start_ns, mut next) = (None, None);
        loop {
            let due = next.map(|at_ns: u64| {
                let now = self.clock.now_ns();
                tokio::time::Instant::now() + Duration::from_nanos(at_ns.saturating_sub(now))
            });
            tokio::select! {
                biased;
                changed = told.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let word = *told.borrow_and_update();
                    match word {
                        Word::Load(at) => {
                            start_ns = Some(at);
                            next = self.next_send(at, at);
                        }
                        Word::Quiet => next = None,
                        Word::Finish => break,
                        Word::Enter => {}
                    }
                }
                () = sleep_until(due.unwrap_or_else(tokio::time::Instant::now)), if due.is_some() => {
                    if let Some((start, at)) = start_ns.zip(next) {
                        self.say(client, at, &mut fates);
                        next = self.next_send(start, at);
                    }
                }
                event = events.recv() => match event {
                    Some(event) => self.happened(event),
                    None => break,
                },
                Some(fate) = fates.join_next(), if !fates.is_empty() => self.fated(fate),
            }
        }
        self.finish(client, events, fates).await;
    }

    /// When it says something next after `at_ns`; `None`: not any more.
    fn next_send(&mut self, start_ns: u64, at_ns: u64) -> Option<u64> {
        if self.per_second <= 0.0 || self.writes.is_empty() {
            return None;
        }
        let mut at = at_ns.saturating_sub(start_ns) as f64;
        let most = self.course.legs.iter().map(Leg::pace_max).fold(0.0, f64::max);
        let end = self.course.legs.last()?.to_ns as f64;
        loop {
            at += -(1.0 - self.rng.random::<f64>()).ln() * 1e9 / (self.per_second * most);
            if at >= end || most <= 0.0 {
                return None;
            }
            let leg = self.course.legs.iter().find(|leg| at < leg.to_ns as f64)?;
            if self.rng.random::<f64>() * most < leg.pace_at(at) {
                return Some(start_ns + at as u64);
            }
        }
    }

    fn say(&mut self, client: &Client, intended_ns: u64, fates: &mut tokio::task::JoinSet<Fate>) {
        let conv = &self.writes[self.rng.random_range(0..self.writes.len())];
        let stamp = Stamp::new(SENDER_LAST - self.number, self.serial, false, intended_ns);
        self.serial += 1;
        let mut text = String::new();
        body::write(stamp, self.body_bytes, &mut text);
        let sending = client.send(conv, text);
        self.outcome.sent += 1;
        fates.spawn(async move { (intended_ns, sending.await.map(|_| ()).map_err(|error| error.to_string())) });
    }

    fn fated(&mut self, fate: Result<Fate, tokio::task::JoinError>) {
        match fate {
            Ok((intended_ns, Ok(()))) => {
                self.outcome.acknowledged += 1;
                record(&mut self.outcome.ack, intended_ns, self.clock.now_ns());
            }
            Ok((_, Err(why))) => self.outcome.fail(&why, 1),
            Err(_) => self.outcome.fail("it was not told what became of a message", 1),
        }
    }

    fn happened(&mut self, event: Event) {
        let entry = match event {
            Event::Entry(entry) => entry,
            // HISTORY may have them: they were not shown.
            Event::Skipped { from, to, .. } => return self.outcome.fail("entries were skipped", to + 1 - from.min(to)),
            Event::Rejected { error, .. } => return self.outcome.fail(&format!("refused with {}", error.code), 1),
            _ => return,
        };
        let now = self.clock.now_ns();
        let Some((last, _)) = self.convs.get_mut(&entry.conv) else { return };
        match entry.seq {
            seq if seq == *last => self.outcome.duplicated += 1,
            seq if seq < *last => self.outcome.reordered += 1,
            seq => {
                self.outcome.delivered += 1;
                if seq > *last + 1 {
                    self.gaps.push((entry.conv.clone(), *last + 1, seq - 1));
                }
                *last = seq;
                let text = entry.body.as_ref().map_or("", |body| &body.text);
                match body::read(text.as_bytes(), self.body_bytes) {
                    Some(stamp) => record(&mut self.outcome.delivery, stamp.intended_ns, now),
                    None => self.outcome.garbled += 1,
                }
            }
        }
    }

    /// Waits for what is on its way, and looks how much the logs hold.
    async fn finish(&mut self, client: &Client, mut events: Events, mut fates: tokio::task::JoinSet<Fate>) {
        let until = tokio::time::Instant::now() + PATIENCE;
        while let Ok(Some(fate)) = tokio::time::timeout_at(until, fates.join_next()).await {
            self.fated(fate);
        }
        let open = fates.len() as u64;
        if open > 0 {
            self.outcome.fail("not acknowledged in time", open);
        }
        let mut heads = HashMap::new();
        for conv in self.convs.keys() {
            let Ok(id) = ConvId::new(conv) else { continue };
            match tokio::time::timeout_at(until, client.history_before(&id, None, 1)).await {
                Ok(Ok(page)) => _ = heads.insert(conv.clone(), page.head),
                Ok(Err(error)) => self.outcome.fail(&format!("a log could not be read: {error}"), 1),
                Err(_) => self.outcome.fail("a log could not be read in time", 1),
            }
        }
        while self.behind(&heads) > 0 {
            match tokio::time::timeout_at(until, events.recv()).await {
                Ok(Some(event)) => self.happened(event),
                Ok(None) | Err(_) => break,
            }
        }
        self.outcome.missing = self.behind(&heads);
        for (conv, from, to) in std::mem::take(&mut self.gaps) {
            let Ok(id) = ConvId::new(&conv) else { continue };
            // A log need not have every seq.
            let limit = u32::try_from(to - from + 1).unwrap_or(u32::MAX).min(PAGE_ENTRIES_MAX);
            match tokio::time::timeout_at(until, client.history_after(&id, from - 1, limit)).await {
                Ok(Ok(page)) => {
                    self.outcome.missing += page.entries.iter().filter(|entry| entry.seq <= to).count() as u64;
                }
                _ => self.outcome.fail("a log could not be read in time", 1),
            }
        }
        client.close();
    }

    /// How many entries of the logs are behind what was shown.
    fn behind(&self, heads: &HashMap<String, Seq>) -> u64 {
        let shown = |conv: &String| self.convs.get(conv).map_or(0, |(last, _)| *last);
        heads.iter().map(|(conv, head)| head.saturating_sub(shown(conv))).sum()
    }
}

/// When a message was meant to be sent, and what became of it.
type Fate = (u64, Result<(), String>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_spread_evenly_and_never_empty() {
        assert_eq!(sample(1000, 0.01).count(), 10);
        assert_eq!(sample(1000, 0.01).collect::<Vec<_>>()[..3], [0, 100, 200]);
        assert_eq!(sample(7, 0.01).collect::<Vec<_>>(), [0]);
        assert_eq!(sample(7, 0.0).count(), 0);
        assert_eq!(sample(5, 1.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }
}
