//! Going round all clients once in a period, each at its own time: heartbeats without a timer for each client.

/// Whose turn it is. Pure: times come from the caller.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    start_ns: u64,
    period_ns: u64,
    count: u32,
    /// Turns taken since `start_ns`.
    taken: u64,
}

impl Round {
    /// Begins with the first of `count` clients at `start_ns`; everybody's turn comes again after `period_ns`.
    pub(crate) const fn new(start_ns: u64, period_ns: u64, count: u32) -> Self {
        Self { start_ns, period_ns, count, taken: 0 }
    }

    /// The same turns, so much later.
    pub(crate) const fn later(&self, by_ns: u64) -> Self {
        Self { start_ns: self.start_ns + by_ns, period_ns: self.period_ns, count: self.count, taken: self.taken }
    }

    /// When the next turn is.
    pub(crate) fn due_ns(&self) -> u64 {
        if self.count == 0 {
            return u64::MAX;
        }
        let offset = u128::from(self.taken) * u128::from(self.period_ns) / u128::from(self.count);
        self.start_ns.saturating_add(u64::try_from(offset).unwrap_or(u64::MAX))
    }

    /// Whose turn it is now, and when it was meant to be; `None` before the time.
    pub(crate) fn take(&mut self, now_ns: u64) -> Option<(u32, u64)> {
        let due_ns = self.due_ns();
        if due_ns > now_ns {
            return None;
        }
        let at = (self.taken % u64::from(self.count)) as u32;
        self.taken += 1;
        Some((at, due_ns))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn everybody_has_one_turn_in_each_period_and_they_are_even(
            start in 0..1_000_000u64, period in 1..1_000_000u64, count in 1..200u32, rounds in 1..4u64,
        ) {
            let mut round = Round::new(start, period, count);
            let mut late = round.later(5);
            let mut turns = vec![Vec::new(); count as usize];
            while let Some((at, due)) = round.take(start + rounds * period - 1) {
                turns[at as usize].push(due);
                prop_assert_eq!(late.take(u64::MAX), Some((at, due + 5)));
            }
            for (at, turns) in turns.iter().enumerate() {
                let first = start + at as u64 * period / u64::from(count);
                for (nth, due) in turns.iter().enumerate() {
                    prop_assert!(due.abs_diff(first + nth as u64 * period) <= 1);
                }
                // With fewer ns than clients some share a time.
                prop_assert!(turns.len() as u64 == rounds || period < u64::from(count));
            }
        }
    }

    #[test]
    fn nobody_has_no_turn() {
        assert_eq!(Round::new(0, 1, 0).take(u64::MAX - 1), None);
    }
}
