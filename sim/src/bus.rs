//! The bus between nodes: parcels that are late, lost, doubled, overtaken or kept apart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use roost_router::{Bus, NodeId, Parcel};
use tokio::sync::Notify;

use crate::fault::{Fault, FaultCounts};
use crate::rng::Stream;

/// What nodes have posted and the world has not seen yet.
#[derive(Default)]
pub(crate) struct Posted(Mutex<Vec<(usize, Option<NodeId>, Parcel)>>);

/// One life of a node on the bus.
pub(crate) struct Plug {
    node: usize,
    life: u32,
    alive: Arc<AtomicBool>,
    posted: Arc<Posted>,
    news: Arc<Notify>,
}

impl Plug {
    pub(crate) fn new(node: usize, life: u32, alive: Arc<AtomicBool>, posted: Arc<Posted>, news: Arc<Notify>) -> Self {
        Self { node, life, alive, posted, news }
    }
}

impl Bus for Plug {
    fn node(&self) -> NodeId {
        NodeId(self.node as u64)
    }

    fn incarnation(&self) -> u64 {
        self.life.into()
    }

    fn post(&self, to: Option<NodeId>, parcel: Parcel) {
        if self.alive.load(Relaxed) {
            self.posted.0.lock().push((self.node, to, parcel));
            self.news.notify_one();
        }
    }
}

/// What is under way between nodes.
pub(crate) struct SimBus {
    pub(crate) posted: Arc<Posted>,
    flying: BTreeMap<(Instant, u64), (usize, Parcel)>,
    number: u64,
    /// When the last parcel of a pair arrives: usually none overtakes it.
    last: BTreeMap<(usize, usize), Instant>,
    /// Pairs (from, to) that hear nothing.
    apart: BTreeSet<(usize, usize)>,
    time: Stream,
    loss: Option<Chance>,
    double: Option<Chance>,
    late: Option<Chance>,
}

/// Happens to some parcels.
pub(crate) struct Chance {
    percent: u32,
    pub(crate) rng: Stream,
}

impl Chance {
    /// A chance of its own stream, below `percent_max`.
    pub(crate) fn new(seed: u64, fault: Fault, percent_max: usize) -> Self {
        let mut rng = Stream::new(seed, fault.name());
        Self { percent: 1 + rng.below(percent_max) as u32, rng }
    }

    /// A chance of `percent`.
    pub(crate) fn of(seed: u64, fault: Fault, percent: u32) -> Self {
        Self { percent, rng: Stream::new(seed, fault.name()) }
    }

    pub(crate) fn strikes(&mut self) -> bool {
        self.rng.chance(self.percent)
    }
}

impl SimBus {
    pub(crate) fn new(seed: u64, has: impl Fn(Fault) -> bool) -> Self {
        let chance = |fault, percent_max| has(fault).then(|| Chance::new(seed, fault, percent_max));
        Self {
            posted: Arc::default(),
            flying: BTreeMap::new(),
            number: 0,
            last: BTreeMap::new(),
            apart: BTreeSet::new(),
            time: Stream::new(seed, "bus"),
            loss: chance(Fault::BusLoss, 25),
            double: chance(Fault::BusDuplicate, 25),
            late: chance(Fault::BusReorder, 25),
        }
    }

    /// Sends what was posted on its way to the node it is for, or to all other of `nodes`, with what happens to it there.
    pub(crate) fn take_posted(&mut self, nodes: usize, now: Instant, counts: &mut FaultCounts) {
        let posted = std::mem::take(&mut *self.posted.0.lock());
        for (from, only, parcel) in posted {
            let wanted = |to: &usize| *to != from && only.is_none_or(|only| only.0 == *to as u64);
            for to in (0..nodes).filter(wanted) {
                self.send(from, to, &parcel, now, counts);
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, parcel: &Parcel, now: Instant, counts: &mut FaultCounts) {
        if self.loss.as_mut().is_some_and(Chance::strikes) {
            counts.add(Fault::BusLoss, 1);
            return;
        }
        if self.apart.contains(&(from, to)) {
            return;
        }
        let mut at = now + self.time.ms(1, 5);
        if let Some(late) = &mut self.late
            && late.strikes()
        {
            counts.add(Fault::BusReorder, 1);
            at += late.rng.ms(5, 3000);
        } else {
            let last = self.last.entry((from, to)).or_insert(at);
            at = at.max(*last);
            *last = at;
        }
        self.fly(at, to, parcel);
        if let Some(double) = &mut self.double
            && double.strikes()
        {
            counts.add(Fault::BusDuplicate, 1);
            let again = at + double.rng.ms(0, 500);
            self.fly(again, to, parcel);
        }
    }

    fn fly(&mut self, at: Instant, to: usize, parcel: &Parcel) {
        self.number += 1;
        self.flying.insert((at, self.number), (to, parcel.clone()));
    }

    /// When the next parcel arrives.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.flying.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next parcel that has arrived, and where.
    pub(crate) fn take(&mut self, now: Instant) -> Option<(usize, Parcel)> {
        let first = self.flying.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// `to` hears nothing of `from` any more, or hears it again.
    pub(crate) fn part(&mut self, from: usize, to: usize, apart: bool) {
        if apart {
            self.apart.insert((from, to));
        } else {
            self.apart.remove(&(from, to));
        }
    }

    /// Nothing goes wrong from now on.
    pub(crate) fn calm_down(&mut self) {
        self.apart.clear();
        (self.loss, self.double, self.late) = (None, None, None);
    }
}

/// How often a node beats.
pub(crate) const BEAT_EVERY: Duration = Duration::from_secs(1);
