//! The network that carries datagrams: they are late, lost, doubled, overtaken, spoilt, and sent once more by strangers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::bus::Chance;
use crate::fault::{Fault, FaultCounts};
use crate::rng::Stream;

/// Of a hundred datagrams so many are lost where some are.
const LOST_PERCENT: u32 = 5;
/// Datagrams that strangers remember, to send them once more.
const OVERHEARD_MAX: usize = 32;

/// A datagram.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

/// What is under way between clients and nodes.
pub(crate) struct Air {
    flying: BTreeMap<(Instant, u64), Datagram>,
    number: u64,
    /// When the last datagram from one address to another arrives: usually none overtakes it.
    last: BTreeMap<(SocketAddr, SocketAddr), Instant>,
    /// Addresses whose datagrams do not come through, in either direction.
    blocked: BTreeSet<SocketAddr>,
    overheard: VecDeque<Datagram>,
    /// Of all datagrams: when, whither, how long.
    digest: u64,
    began: Instant,
    time: Stream,
    loss: Option<Chance>,
    late: Option<Chance>,
    double: Option<Chance>,
    spoilt: Option<Chance>,
    stranger: Option<Chance>,
}

impl Air {
    pub(crate) fn new(seed: u64, began: Instant, has: impl Fn(Fault) -> bool) -> Self {
        let chance = |fault, percent_max| has(fault).then(|| Chance::new(seed, fault, percent_max));
        Self {
            flying: BTreeMap::new(),
            number: 0,
            last: BTreeMap::new(),
            blocked: BTreeSet::new(),
            overheard: VecDeque::new(),
            digest: 0,
            began,
            time: Stream::new(seed, "air"),
            loss: has(Fault::DatagramLoss).then(|| Chance::of(seed, Fault::DatagramLoss, LOST_PERCENT)),
            late: chance(Fault::DatagramReorder, 15),
            double: chance(Fault::DatagramDuplicate, 10),
            spoilt: chance(Fault::DatagramSpoilt, 5),
            stranger: chance(Fault::DatagramReplay, 5),
        }
    }

    /// Sends a datagram, which takes `extra` longer than usual.
    pub(crate) fn send(&mut self, datagram: Datagram, extra: Duration, now: Instant, counts: &mut FaultCounts) {
        let (from, to) = (datagram.from, datagram.to);
        let at_ms = now.saturating_duration_since(self.began).as_millis() as u64;
        for part in [at_ms, datagram.bytes.len() as u64, from.port().into(), to.port().into()] {
            self.digest = (self.digest ^ part).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if self.blocked.contains(&from) || self.blocked.contains(&to) {
            return;
        }
        if let Some(stranger) = &mut self.stranger {
            if self.overheard.len() == OVERHEARD_MAX {
                self.overheard.pop_front();
            }
            self.overheard.push_back(datagram.clone());
            if stranger.strikes() {
                counts.add(Fault::DatagramReplay, 1);
                let rng = &mut stranger.rng;
                let mut again = self.overheard[rng.below(self.overheard.len())].clone();
                if rng.chance(80) {
                    again.from = SocketAddr::from(([10, 9, 9, rng.below(4) as u8], 1024));
                }
                let at = now + rng.ms(1, 2000);
                self.fly(at, again);
            }
        }
        if self.loss.as_mut().is_some_and(Chance::strikes) {
            counts.add(Fault::DatagramLoss, 1);
            return;
        }
        let mut at = now + extra + self.time.ms(1, 40);
        if let Some(late) = &mut self.late
            && late.strikes()
        {
            counts.add(Fault::DatagramReorder, 1);
            at += late.rng.ms(1, 400);
        } else {
            let last = self.last.entry((from, to)).or_insert(at);
            at = at.max(*last);
            *last = at;
        }
        if let Some(double) = &mut self.double
            && double.strikes()
        {
            counts.add(Fault::DatagramDuplicate, 1);
            let again = at + double.rng.ms(0, 300);
            self.fly(again, datagram.clone());
        }
        let mut datagram = datagram;
        if let Some(spoilt) = &mut self.spoilt
            && spoilt.strikes()
        {
            counts.add(Fault::DatagramSpoilt, 1);
            spoil(&mut datagram.bytes, &mut spoilt.rng);
        }
        self.fly(at, datagram);
    }

    fn fly(&mut self, at: Instant, datagram: Datagram) {
        self.number += 1;
        self.flying.insert((at, self.number), datagram);
    }

    /// When the next datagram arrives.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.flying.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next datagram that has arrived.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Datagram> {
        let first = self.flying.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// What is sent to `addr`, or from there, does not come through any more; or does again.
    pub(crate) fn block(&mut self, addr: SocketAddr, blocked: bool) {
        if blocked {
            self.blocked.insert(addr);
        } else {
            self.blocked.remove(&addr);
        }
    }

    /// Of everything that was ever sent.
    pub(crate) const fn digest(&self) -> u64 {
        self.digest
    }

    /// Nothing goes wrong from now on.
    pub(crate) fn calm_down(&mut self) {
        self.blocked.clear();
        (self.loss, self.late, self.double, self.spoilt, self.stranger) = (None, None, None, None, None);
    }
}

/// Changes a byte, or cuts the end off.
fn spoil(bytes: &mut Vec<u8>, rng: &mut Stream) {
    let at = rng.below(bytes.len().max(1));
    match bytes.get_mut(at) {
        Some(byte) if rng.chance(60) => *byte ^= 1 << rng.below(8),
        _ => bytes.truncate(at),
    }
}
