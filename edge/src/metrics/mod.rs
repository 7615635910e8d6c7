//! What the edge counts, and how it is read.
//!
//! Each shard has counters that only its thread writes; whoever reads adds them up.

pub mod names;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use roost_edge_core::metrics::{OneWriter, ShardSnapshot};

use self::names::Name;
use crate::driver::quic::QuicSnapshot;
use crate::handle::Inner;
use crate::sync::{AtomicU64, Ordering::Relaxed};
use crate::tls::{TlsMetrics, TlsSnapshot};

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only up.
    Counter,
    /// Up and down.
    Gauge,
}

/// Counters of one shard's loop. Only its thread writes. Aligned: two shards share no cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct LoopMetrics {
    writer: OneWriter,
    turns: AtomicU64,
    turns_exhausted: AtomicU64,
    busy_ns: AtomicU64,
    writes: AtomicU64,
    connections: AtomicU64,
    taken: AtomicU64,
    rings: AtomicU64,
    places_used: AtomicU64,
    polls_rearmed: AtomicU64,
    completions_overflowed: AtomicU64,
    /// Those of the TLS between its driver and its shard.
    pub(crate) tls: Arc<TlsMetrics>,
}

/// What the counters of one shard's loop stood at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopSnapshot {
    /// Turns of the loop.
    pub turns: u64,
    /// Turns that left work over.
    pub turns_exhausted: u64,
    /// Time not spent waiting.
    pub busy: Duration,
    /// Writes that took bytes. Frames sent by this: how many frames a write gathers.
    pub writes: u64,
    /// Deliveries dropped at the full mailbox.
    pub mailbox_dropped: u64,
    /// Rings of its io_uring driver; 0 with another one.
    pub rings: u64,
    /// Places in their tables that hold a connection, one that leaves included.
    pub places_used: u64,
    /// Polls that the kernel ended and that were armed again.
    pub polls_rearmed: u64,
    /// Times completions did not fit into a ring.
    pub completions_overflowed: u64,
    /// What its TLS counted.
    pub tls: TlsSnapshot,
}

/// Counters of accepting.
#[derive(Debug, Default)]
pub(crate) struct AcceptMetrics {
    pub(crate) pauses: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) refused_address: AtomicU64,
}

fn add(counter: &AtomicU64, count: u64) {
    // One writer: a load and a store, no locked instruction.
    counter.store(counter.load(Relaxed).wrapping_add(count), Relaxed);
}

impl LoopMetrics {
    /// A turn ended after `busy`; `exhausted` if it left work over, `connections` are attached now.
    pub(crate) fn turned(&self, busy: Duration, exhausted: bool, connections: usize) {
        self.writer.check();
        add(&self.turns, 1);
        add(&self.turns_exhausted, exhausted.into());
        add(&self.busy_ns, busy.as_nanos() as u64);
        self.connections.store(connections as u64, Relaxed);
    }

    /// Writes took bytes.
    pub(crate) fn wrote(&self, writes: u64) {
        self.writer.check();
        add(&self.writes, writes);
    }

    /// A connection was taken from the mailbox.
    pub(crate) fn taken(&self) {
        self.writer.check();
        add(&self.taken, 1);
    }

    /// What an io_uring driver has: rings, places in use, and since it began polls armed again and overflows.
    #[cfg(target_os = "linux")]
    pub(crate) fn rings(&self, rings: usize, places_used: u32, rearmed: u64, overflowed: u64) {
        self.writer.check();
        self.rings.store(rings as u64, Relaxed);
        self.places_used.store(places_used.into(), Relaxed);
        self.polls_rearmed.store(rearmed, Relaxed);
        self.completions_overflowed.store(overflowed, Relaxed);
    }

    /// Connections the shard has, or is about to have, if `given` were handed to it.
    pub(crate) fn load(&self, given: u64) -> u64 {
        self.connections.load(Relaxed) + given.saturating_sub(self.taken.load(Relaxed))
    }

    pub(crate) fn snapshot(&self, mailbox_dropped: u64) -> LoopSnapshot {
        LoopSnapshot {
            turns: self.turns.load(Relaxed),
            turns_exhausted: self.turns_exhausted.load(Relaxed),
            busy: Duration::from_nanos(self.busy_ns.load(Relaxed)),
            writes: self.writes.load(Relaxed),
            mailbox_dropped,
            rings: self.rings.load(Relaxed),
            places_used: self.places_used.load(Relaxed),
            polls_rearmed: self.polls_rearmed.load(Relaxed),
            completions_overflowed: self.completions_overflowed.load(Relaxed),
            tls: self.tls.snapshot(),
        }
    }
}

/// What all counters of an edge stood at.
#[derive(Clone, Debug, Default)]
pub struct EdgeSnapshot {
    /// Summed over the shards.
    pub total: ShardSnapshot,
    /// Per shard.
    pub shards: Vec<(ShardSnapshot, LoopSnapshot)>,
    /// TLS, summed over the shards.
    pub tls: TlsSnapshot,
    /// QUIC's own, summed over its shards; `None` where it is off.
    pub quic: Option<QuicSnapshot>,
    /// Times accepting paused because descriptors or memory ran out.
    pub accept_pauses: u64,
    /// Connections that failed while being accepted.
    pub accept_errors: u64,
    /// Connections refused because no descriptor was left.
    pub accept_refused: u64,
    /// Connections refused because too many of their address are open.
    pub accept_refused_address: u64,
}

/// One line of a metrics page.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The metric. Samples of one metric follow each other.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// Names and values from small, closed sets.
    pub labels: Vec<(&'static str, Cow<'static, str>)>,
    /// Seconds, bytes or a count, as the name says.
    pub value: f64,
}

impl Sample {
    fn new(Name { name, help, kind }: Name, label: Option<(&'static str, Cow<'static, str>)>, value: f64) -> Self {
        Self { name, help, kind, labels: label.into_iter().collect(), value }
    }
}

impl EdgeSnapshot {
    pub(crate) fn collect(inner: &Inner) -> Self {
        let accept = &inner.accept.metrics;
        let mut snapshot = Self {
            accept_pauses: accept.pauses.load(Relaxed),
            accept_errors: accept.errors.load(Relaxed),
            accept_refused: accept.refused.load(Relaxed),
            accept_refused_address: accept.refused_address.load(Relaxed),
            ..Self::default()
        };
        for shard in &inner.quic_metrics {
            *snapshot.quic.get_or_insert_default() += &shard.snapshot();
        }
        for (shard, inbox) in inner.metrics.iter().zip(&inner.inboxes) {
            let (counters, turns) = (shard.0.snapshot(), shard.1.snapshot(inbox.dropped()));
            snapshot.total += &counters;
            snapshot.tls += &turns.tls;
            snapshot.shards.push((counters, turns));
        }
        snapshot
    }

    /// Connections accepted and not ended.
    #[must_use]
    pub fn connections_open(&self) -> u64 {
        self.total.connections_opened.saturating_sub(self.total.connections_closed)
    }

    /// Sessions accepted by the router and not ended.
    #[must_use]
    pub fn sessions_open(&self) -> u64 {
        self.total.sessions_opened.saturating_sub(self.total.sessions_closed)
    }

    /// Every metric, for a metrics page.
    pub fn iter(&self) -> impl Iterator<Item = Sample> {
        let borrowed = |(label, value)| (label, Cow::Borrowed(value));
        let refused = [("descriptors", self.accept_refused), ("address", self.accept_refused_address)]
            .map(|(reason, value)| (names::REFUSED, Some(("reason", reason)), value));
        let summed = names::SUMMED.iter().flat_map(move |&(name, label, value)| {
            // The acceptor's own refusals stand with the others of their name.
            let first = (name == names::REFUSED && label == Some(("reason", "full"))).then_some(refused);
            first.into_iter().flatten().chain([(name, label, value(&self.total))])
        });
        let accept =
            [(names::ACCEPT_PAUSES, None, self.accept_pauses), (names::ACCEPT_ERRORS, None, self.accept_errors)];
        let tls = names::TLS.iter().map(|&(name, label, value)| (name, label, value(&self.tls)));
        let counted = self.quic.unwrap_or_default();
        let quic = names::QUIC.iter().map(move |&(name, label, value)| (name, label, value(&counted)));
        let whole = summed
            .chain(accept)
            .chain(tls)
            .chain(quic)
            .map(move |(name, label, value)| Sample::new(name, label.map(borrowed), value as f64));
        let shards = names::PER_SHARD.iter().flat_map(|&(name, _, value)| {
            self.shards.iter().enumerate().map(move |(shard, (_, turns))| {
                Sample::new(name, Some(("shard", Cow::Owned(shard.to_string()))), value(turns))
            })
        });
        whole.chain(shards)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_metric_follow_each_other_and_no_two_are_the_same() {
        let shard = (ShardSnapshot::default(), LoopSnapshot::default());
        let snapshot = EdgeSnapshot { shards: vec![shard; 3], accept_refused: 2, ..EdgeSnapshot::default() };
        let samples: Vec<Sample> = snapshot.iter().collect();
        let mut names: Vec<&str> = samples.iter().map(|sample| sample.name).collect();
        names.dedup();
        let unique = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), unique, "a name appears in two places");
        for (at, sample) in samples.iter().enumerate() {
            let same = |other: &Sample| other.name == sample.name && other.labels == sample.labels;
            assert!(!samples[..at].iter().any(same), "{sample:?}");
        }
        let refused = samples.iter().find(|sample| sample.labels.contains(&("reason", "descriptors".into())));
        assert_eq!(refused.map(|sample| sample.value), Some(2.0));
    }
}
