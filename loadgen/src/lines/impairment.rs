//! A network worse than the one there is: datagrams take longer, overtake one another and get lost. Pure: times come from the
//! caller, chance from a seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

use crate::scenario::millis;

/// Datagrams that may be on their way; what comes when there are so many is lost, as at any router.
const DATAGRAMS_MAX: usize = 1 << 16;

/// What befalls a datagram, in either direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Impairment {
    /// How much longer it takes.
    #[serde(rename = "delay_ms", with = "millis")]
    pub(crate) delay: Duration,
    /// How much that may be more or less; each has its own, so they overtake one another.
    #[serde(rename = "jitter_ms", with = "millis")]
    pub(crate) jitter: Duration,
    /// The share that does not arrive, 0 to 1.
    pub(crate) loss: f64,
}

impl Impairment {
    /// Nothing happens.
    pub(crate) fn is_none(&self) -> bool {
        self.delay.is_zero() && self.jitter.is_zero() && self.loss <= 0.0
    }

    /// For people; nothing if nothing happens.
    pub(crate) fn words(&self) -> String {
        if self.is_none() {
            return String::new();
        }
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        format!(", {} ± {} ms and {} % lost each way", ms(self.delay), ms(self.jitter), self.loss * 100.0)
    }
}

/// Datagrams of the kind `T` under way.
pub(super) struct Link<T> {
    impairment: Impairment,
    chance: StdRng,
    /// By when they arrive; those of one moment in the order in which they came.
    under_way: BinaryHeap<Reverse<Flight<T>>>,
    taken: u64,
}

struct Flight<T> {
    at: Instant,
    number: u64,
    what: T,
}

impl<T> Link<T> {
    /// `None` if nothing befalls them.
    pub(super) fn new(impairment: Impairment, seed: u64) -> Option<Self> {
        let chance = StdRng::seed_from_u64(seed);
        (!impairment.is_none()).then(|| Self { impairment, chance, under_way: BinaryHeap::new(), taken: 0 })
    }

    /// A datagram leaves.
    pub(super) fn take(&mut self, what: T, now: Instant) {
        let Impairment { delay, jitter, loss } = self.impairment;
        if self.under_way.len() >= DATAGRAMS_MAX || (loss > 0.0 && self.chance.random_bool(loss)) {
            return;
        }
        let more = jitter.mul_f64(self.chance.random_range(0.0..=2.0));
        let at = now + (delay + more).saturating_sub(jitter);
        self.taken += 1;
        self.under_way.push(Reverse(Flight { at, number: self.taken, what }));
    }

    /// The next datagram that has arrived.
    pub(super) fn arrived(&mut self, now: Instant) -> Option<T> {
        self.next().filter(|at| *at <= now)?;
        self.under_way.pop().map(|Reverse(flight)| flight.what)
    }

    /// When the next one arrives.
    pub(super) fn next(&self) -> Option<Instant> {
        self.under_way.peek().map(|Reverse(flight)| flight.at)
    }
}

impl<T> Ord for Flight<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<T> PartialOrd for Flight<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Flight<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Flight<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn without_impairment_there_is_no_link() {
        assert!(Link::<u32>::new(Impairment::default(), 1).is_none());
        assert!(Link::<u32>::new(Impairment { loss: 0.1, ..Impairment::default() }, 1).is_some());
    }

    #[test]
    fn datagrams_come_late_within_the_jitter_overtake_and_so_many_are_lost() {
        let impairment = Impairment { delay: 20 * MS, jitter: 5 * MS, loss: 0.05 };
        let (mut link, start) = (Link::new(impairment, 7).unwrap(), Instant::now());
        for number in 0..10_000 {
            link.take(number, start + number * MS / 10);
        }
        assert_eq!(link.arrived(start + 14 * MS), None);
        let (mut came, mut overtaken, mut last) = (0, 0, 0);
        while let Some(at) = link.next() {
            let number = link.arrived(at).unwrap();
            let took = at - (start + number * MS / 10);
            assert!((15 * MS..=25 * MS).contains(&took), "{took:?}");
            came += 1;
            overtaken += u32::from(number < last);
            last = last.max(number);
        }
        // Five deviations of 22 about 9 500; every datagram is within 100 others' jitter.
        assert!((9390..9610).contains(&came), "{came}");
        assert!(overtaken > 5000, "{overtaken}");
    }

    #[test]
    fn without_jitter_nothing_overtakes() {
        let (mut link, now) =
            (Link::new(Impairment { delay: MS, ..Impairment::default() }, 7).unwrap(), Instant::now());
        for number in 0..100 {
            link.take(number, now);
        }
        let came: Vec<_> = std::iter::from_fn(|| link.arrived(now + MS)).collect();
        assert_eq!(came, (0..100).collect::<Vec<_>>());
    }
}
