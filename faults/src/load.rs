//! People who talk while things break, and the ledger of what they were told.
//!
//! Each has a client of the SDK: it reconnects, sends again, fetches what is missing. What is checked is what the app
//! of each device sees: every acknowledged message once, in the order of the log.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use parking_lot::Mutex;
use roost_client::{Client, Config, Event, Events, Transport};
use roost_wire::{ConvId, Seq, UserId};
use serde::Serialize;
use tokio::task::JoinHandle;

/// How long everything may take to come to rest after the load has stopped.
const SETTLE_WITHIN: Duration = Duration::from_secs(150);
/// People in one group.
const GROUP: usize = 5;

/// What was acknowledged.
#[derive(Default)]
struct Ledger {
    /// By conversation and seq: what was said.
    said: BTreeMap<(ConvId, Seq), String>,
    /// When something was acknowledged, and how long that took from when it was due.
    acks: Vec<(Instant, Duration)>,
    /// Sends that were refused for good.
    refused: Vec<String>,
    /// A seq that was given twice, and the like.
    wrong: Vec<String>,
}

/// What one device was shown.
#[derive(Default)]
struct Shown {
    /// Per conversation: the texts in the order they came.
    entries: HashMap<ConvId, Vec<(Seq, String)>>,
    skipped: u64,
}

struct Person {
    client: Client,
    user: UserId,
    shown: Arc<Mutex<Shown>>,
    listening: JoinHandle<()>,
}

/// People under way.
pub(crate) struct Load {
    people: Vec<Person>,
    /// Conversations with the places of their members.
    convs: Vec<(ConvId, Vec<usize>)>,
    ledger: Arc<Mutex<Ledger>>,
    stop: Arc<AtomicBool>,
    talking: Vec<JoinHandle<()>>,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Verdict {
    /// Messages acknowledged.
    pub(crate) acknowledged: usize,
    /// Acknowledged, and not shown at some member's device.
    pub(crate) lost: usize,
    /// Shown twice, or stored twice.
    pub(crate) doubled: usize,
    /// Shown out of the order of the log.
    pub(crate) reordered: usize,
    /// Refused for good.
    pub(crate) refused: usize,
    /// The longest time in which nothing at all was acknowledged, in ms.
    pub(crate) outage_ms: u64,
    /// The longest time from when a message was due until it was acknowledged, in ms.
    pub(crate) worst_ack_ms: u64,
    /// Some of what went wrong.
    pub(crate) examples: Vec<String>,
}

impl Verdict {
    /// Nothing acknowledged was lost, doubled or reordered, and nothing refused.
    pub(crate) const fn is_well(&self) -> bool {
        self.lost + self.doubled + self.reordered + self.refused == 0 && self.acknowledged > 0
    }
}

impl Load {
    /// Connects `count` people to `url`: pairs that talk directly, and groups of five; each says something every `every`.
    pub(crate) async fn start(url: &str, count: usize, every: Duration) -> anyhow::Result<Self> {
        let mut people = Vec::new();
        for number in 0..count {
            people.push(Person::enter(url, number).await?);
        }
        let ledger = Arc::<Mutex<Ledger>>::default();
        let mut convs = Vec::new();
        for pair in (0..count).collect::<Vec<_>>().chunks_exact(2) {
            let made =
                people[pair[0]].client.create_direct(&people[pair[1]].user).await.context("a conversation of two")?;
            convs.push((ConvId::new(&made.conv)?, pair.to_vec()));
        }
        for group in (0..count).collect::<Vec<_>>().chunks_exact(GROUP) {
            let others: Vec<UserId> = group[1..].iter().map(|place| people[*place].user.clone()).collect();
            let made = people[group[0]].client.create_group("Birds", &others, false).await.context("a group")?;
            convs.push((ConvId::new(&made.conv)?, group.to_vec()));
        }
        let stop = Arc::<AtomicBool>::default();
        let mut load = Self { people, convs, ledger, stop, talking: Vec::new() };
        load.talk(every);
        Ok(load)
    }

    fn talk(&mut self, every: Duration) {
        for (place, person) in self.people.iter().enumerate() {
            let mine: Vec<ConvId> = self
                .convs
                .iter()
                .filter(|(_, members)| members.contains(&place))
                .map(|(conv, _)| conv.clone())
                .collect();
            let (client, ledger, stop) = (person.client.clone(), Arc::clone(&self.ledger), Arc::clone(&self.stop));
            self.talking.push(tokio::spawn(async move {
                let mut due = tokio::time::interval(every);
                let mut sends = Vec::new();
                for number in 0_usize.. {
                    let at = due.tick().await.into_std();
                    if stop.load(Relaxed) {
                        break;
                    }
                    let conv = mine[number % mine.len()].clone();
                    let text = format!("{place}.{number}");
                    let (sending, ledger) = (client.send(&conv, text.clone()), Arc::clone(&ledger));
                    sends.push(tokio::spawn(async move {
                        match sending.await {
                            Ok(sent) => ledger.lock().acknowledged(conv, sent.seq, &text, at),
                            Err(error) => ledger.lock().refused.push(format!("{text}: {error}")),
                        }
                    }));
                }
                for send in sends {
                    let _ = send.await;
                }
            }));
        }
    }

    /// Messages acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.ledger.lock().said.len()
    }

    /// Stops talking, waits until every message has its fate and every device what was acknowledged, and judges.
    /// `since`: what came before it does not count as an outage.
    pub(crate) async fn finish(mut self, since: Instant) -> anyhow::Result<Verdict> {
        self.stop.store(true, Relaxed);
        let began = Instant::now();
        for talking in std::mem::take(&mut self.talking) {
            let left = SETTLE_WITHIN.saturating_sub(began.elapsed());
            if tokio::time::timeout(left, talking).await.is_err() {
                bail!("messages have no fate {SETTLE_WITHIN:?} after the last one was sent");
            }
        }
        while began.elapsed() < SETTLE_WITHIN && self.missing().next().is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let verdict = self.judge(since).await?;
        for person in &self.people {
            person.client.close();
            person.listening.abort();
        }
        Ok(verdict)
    }

    /// What was acknowledged and is not shown: to whom, and what.
    fn missing(&self) -> impl Iterator<Item = (usize, ConvId, Seq)> {
        let ledger = self.ledger.lock();
        let mut missing = Vec::new();
        for (conv, members) in &self.convs {
            let said: Vec<Seq> =
                ledger.said.range((conv.clone(), 0)..=(conv.clone(), Seq::MAX)).map(|((_, seq), _)| *seq).collect();
            for place in members {
                let shown = self.people[*place].shown.lock();
                let have = shown.entries.get(conv).map_or(&[][..], Vec::as_slice);
                let have: std::collections::BTreeSet<Seq> = have.iter().map(|(seq, _)| *seq).collect();
                missing.extend(said.iter().filter(|seq| !have.contains(seq)).map(|seq| (*place, conv.clone(), *seq)));
            }
        }
        missing.into_iter()
    }

    async fn judge(&self, since: Instant) -> anyhow::Result<Verdict> {
        let mut verdict = Verdict::default();
        let mut examples = Vec::new();
        for (place, conv, seq) in self.missing() {
            verdict.lost += 1;
            examples.push(format!("lost: {conv} {seq} at person {place}"));
        }
        for (conv, members) in &self.convs {
            let log = self.read_log(members[0], conv).await?;
            let mut texts: HashMap<&str, Seq> = HashMap::new();
            for (seq, text) in &log {
                if let Some(first) = texts.insert(text, *seq).filter(|_| !text.is_empty()) {
                    verdict.doubled += 1;
                    examples.push(format!("stored twice: {text} as {first} and {seq} of {conv}"));
                }
            }
            let ledger = self.ledger.lock();
            for ((_, seq), text) in ledger.said.range((conv.clone(), 0)..=(conv.clone(), Seq::MAX)) {
                if log.get(seq) != Some(text) {
                    verdict.lost += 1;
                    examples.push(format!("not in the log: {text} as {seq} of {conv}, which has {:?}", log.get(seq)));
                }
            }
            for place in members {
                let shown = self.people[*place].shown.lock();
                let entries = shown.entries.get(conv).map_or(&[][..], Vec::as_slice);
                for two in entries.windows(2) {
                    let (before, after) = (two[0].0, two[1].0);
                    verdict.doubled += usize::from(before == after);
                    verdict.reordered += usize::from(before > after);
                    if before >= after {
                        examples.push(format!("shown at {place}: {before}, then {after} of {conv}"));
                    }
                }
            }
        }
        let skipped: u64 = self.people.iter().map(|person| person.shown.lock().skipped).sum();
        if skipped > 0 {
            verdict.lost += usize::try_from(skipped)?;
            examples.push(format!("{skipped} entries were skipped by the SDK"));
        }
        self.times(since, &mut verdict, &mut examples);
        examples.truncate(8);
        verdict.examples = examples;
        Ok(verdict)
    }

    fn times(&self, since: Instant, verdict: &mut Verdict, examples: &mut Vec<String>) {
        let mut ledger = self.ledger.lock();
        verdict.acknowledged = ledger.said.len();
        verdict.refused = ledger.refused.len();
        verdict.doubled += ledger.wrong.len();
        examples.extend(ledger.wrong.iter().chain(&ledger.refused).cloned());
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        ledger.acks.sort_unstable_by_key(|(at, _)| *at);
        let mut last = since;
        for (at, took) in ledger.acks.iter().filter(|(at, _)| *at >= since) {
            verdict.outage_ms = verdict.outage_ms.max(ms(at.duration_since(last)));
            verdict.worst_ack_ms = verdict.worst_ack_ms.max(ms(*took));
            last = *at;
        }
    }

    /// The whole log of a conversation, as a member reads it.
    async fn read_log(&self, place: usize, conv: &ConvId) -> anyhow::Result<BTreeMap<Seq, String>> {
        let mut log = BTreeMap::new();
        loop {
            let after = log.last_key_value().map_or(0, |(seq, _)| *seq);
            let page = self.people[place].client.history_after(conv, after, 200).await.context("reading the log")?;
            if page.entries.is_empty() {
                return Ok(log);
            }
            for entry in page.entries {
                log.insert(entry.seq, entry.body.map(|body| body.text).unwrap_or_default());
            }
        }
    }
}

impl Ledger {
    fn acknowledged(&mut self, conv: ConvId, seq: Seq, text: &str, due: Instant) {
        let now = Instant::now();
        self.acks.push((now, now.duration_since(due)));
        if let Some(other) = self.said.insert((conv, seq), text.to_owned())
            && other != text
        {
            self.wrong.push(format!("seq {seq} was given to {other} and to {text}"));
        }
    }
}

impl Person {
    async fn enter(url: &str, number: usize) -> anyhow::Result<Self> {
        // Impatient, so that a minute shows what a phone would see in ten.
        let config = Config {
            answer_within: Duration::from_secs(3),
            backoff_cap: Duration::from_secs(2),
            send_refusals_max: 10_000,
            outbox_entries_max: 100_000,
            ..Config::default()
        };
        let builder = Client::builder(url).guest(format!("Person {number}")).device("phone").config(config);
        let (client, events) = builder.transport(Transport::WebSocket).connect().await.context("cannot enter")?;
        let (user, _) = client.me().context("nobody said who this is")?;
        let shown = Arc::<Mutex<Shown>>::default();
        let listening = tokio::spawn(listen(events, Arc::clone(&shown)));
        Ok(Self { client, user, shown, listening })
    }
}

async fn listen(mut events: Events, shown: Arc<Mutex<Shown>>) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Entry(entry) => {
                let Ok(conv) = ConvId::new(&entry.conv) else { continue };
                let text = entry.body.map(|body| body.text).unwrap_or_default();
                shown.lock().entries.entry(conv).or_default().push((entry.seq, text));
            }
            Event::Skipped { from, to, .. } => shown.lock().skipped += to - from + 1,
            _ => {}
        }
    }
}
