//! Who begins when: an open model. The n-th begins at its intended time, whatever became of those before.

use crate::pacer::Pacer;
use crate::scenario::Arrivals as How;

/// The rest of those that begin. Pure: times come from the caller.
#[derive(Debug)]
pub(crate) struct Arrivals {
    pacer: Pacer,
    count: u32,
    begun: u32,
    /// Those that follow one another in time are so far apart in number.
    step: u32,
    first: u32,
}

impl Arrivals {
    /// `count` of them in their order, `per_second` of them from `start_ns` on.
    pub(crate) fn in_order(count: u32, per_second: f64, start_ns: u64, seed: u64) -> Self {
        let pacer = Pacer::new(How::Constant, per_second, 1, start_ns, u64::MAX, seed);
        Self { pacer, count, begun: 0, step: 1, first: 0 }
    }

    /// The same in an order that the seed decides: each has a slot of its own.
    pub(crate) fn in_slots(count: u32, per_second: f64, start_ns: u64, seed: u64) -> Self {
        let mixed = super::voice::mixed(seed);
        let step = stride(count, (mixed >> 32) as u32);
        let first = if count == 0 { 0 } else { mixed as u32 % count };
        Self { step, first, ..Self::in_order(count, per_second, start_ns, seed) }
    }

    /// Nobody.
    pub(crate) fn nobody() -> Self {
        Self::in_order(0, 0.0, 0, 0)
    }

    /// All have begun.
    pub(crate) const fn is_over(&self) -> bool {
        self.begun >= self.count
    }

    /// When the next one is meant to begin.
    pub(crate) fn due_ns(&self) -> u64 {
        if self.is_over() { u64::MAX } else { self.pacer.peek().unwrap_or(u64::MAX) }
    }

    /// Who begins now, and when it was meant to; `None` before the time.
    pub(crate) fn take(&mut self, now_ns: u64) -> Option<(u32, u64)> {
        if self.due_ns() > now_ns {
            return None;
        }
        let intended_ns = self.pacer.take()?;
        let at = (u64::from(self.first) + u64::from(self.begun) * u64::from(self.step)) % u64::from(self.count);
        self.begun += 1;
        Some((at as u32, intended_ns))
    }
}

/// A step that visits each of `count` once: near a wanted one, and with no factor in common.
fn stride(count: u32, wanted: u32) -> u32 {
    let from = wanted % count.max(1);
    (from..=count).find(|step| *step > 0 && gcd(*step, count) == 1).unwrap_or(1)
}

const fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn everybody_begins_once_and_in_time(count in 0..500u32, slots: bool, seed: u64, rate in 1.0..1e6f64) {
            let new = if slots { Arrivals::in_slots } else { Arrivals::in_order };
            let mut arrivals = new(count, rate, 1000, seed);
            let mut seen = vec![false; count as usize];
            let mut before = 0;
            while let Some((at, intended)) = arrivals.take(u64::MAX - 1) {
                prop_assert!(!std::mem::replace(&mut seen[at as usize], true), "twice");
                prop_assert!(intended >= before.max(1000));
                before = intended;
            }
            prop_assert!(seen.iter().all(|seen| *seen) && arrivals.is_over());
            let last = 1000.0 + f64::from(count) * 1e9 / rate;
            prop_assert!(before as f64 <= last + 2.0);
        }
    }

    #[test]
    fn slots_are_not_the_order_of_numbers() {
        let mut arrivals = Arrivals::in_slots(1000, 1e6, 0, 7);
        let order: Vec<u32> = std::iter::from_fn(|| arrivals.take(u64::MAX - 1)).map(|(at, _)| at).collect();
        assert!(order.windows(2).filter(|pair| pair[0] + 1 == pair[1]).count() < 10);
    }
}
