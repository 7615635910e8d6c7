//! Which shards are whose.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;

use crate::NodeName;

/// Shards that can be given away, in ranges.
#[derive(Debug)]
pub(crate) struct Ranges {
    /// Apart from one another, in rising order.
    free: Vec<Range<u16>>,
    /// Given back, by whom, and since when; oldest first.
    resting: VecDeque<(Range<u16>, NodeName, Instant)>,
    rest: Duration,
}

impl Ranges {
    /// All of `shards` are free; what is given back rests for `rest`.
    pub(crate) fn new(shards: Range<u16>, rest: Duration) -> Self {
        Self { free: vec![shards], resting: VecDeque::new(), rest }
    }

    /// Takes `count` shards that follow one another, and gives the first. `None`: there are none, or `count` is 0.
    pub(crate) fn take(&mut self, count: u16, whose: &NodeName, now: Instant) -> Option<u16> {
        while self.resting.front().is_some_and(|(_, _, since)| now.duration_since(*since) >= self.rest) {
            let (rested, _, _) = self.resting.pop_front()?;
            self.free(rested);
        }
        // Nobody else is reached by what was meant for it: an edge whose link breaks time and again takes no more.
        let own = |(range, by, _): &(Range<u16>, NodeName, Instant)| by == whose && range.len() == usize::from(count);
        if let Some(at) = self.resting.iter().position(own) {
            return self.resting.remove(at).map(|(range, _, _)| range.start);
        }
        let found = self.free.iter_mut().find(|range| count > 0 && range.len() >= count.into())?;
        let base = found.start;
        found.start += count;
        self.free.retain(|range| !range.is_empty());
        Some(base)
    }

    /// Takes `shards` back.
    pub(crate) fn rest(&mut self, shards: Range<u16>, by: NodeName, now: Instant) {
        self.resting.push_back((shards, by, now));
    }

    fn free(&mut self, range: Range<u16>) {
        let at = self.free.partition_point(|other| other.start < range.start);
        self.free.insert(at, range);
        self.free.dedup_by(|after, before| {
            let follows = before.end == after.start;
            if follows {
                before.end = after.end;
            }
            follows
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REST: Duration = Duration::from_secs(60);

    fn edge(node: &str, incarnation: u64) -> NodeName {
        NodeName { node: node.into(), incarnation }
    }

    #[test]
    fn a_range_rests_before_it_is_given_again() {
        let now = Instant::now();
        let mut ranges = Ranges::new(3..7, REST);
        let (one, two) = (edge("one", 1), edge("two", 1));
        assert_eq!(ranges.take(4, &one, now), Some(3));
        assert_eq!(ranges.take(1, &two, now), None);
        ranges.rest(3..7, one.clone(), now);
        assert_eq!(ranges.take(4, &one, now), Some(3), "its own, again");
        ranges.rest(3..7, one, now);
        let soon = now + REST - Duration::from_millis(1);
        assert_eq!(ranges.take(4, &edge("one", 2), soon), None, "it rests");
        assert_eq!(ranges.take(2, &two, now + REST), Some(3));
        assert_eq!(ranges.take(0, &two, now + REST), None);
    }

    proptest! {
        #[test]
        fn no_shard_has_two_owners_and_none_is_lost(steps in prop::collection::vec((1u16..9, any::<bool>()), 1..80)) {
            let mut ranges = Ranges::new(5..40, REST);
            let edge = |count: u16| edge(["a", "b", "c"][usize::from(count) % 3], 1);
            let mut now = Instant::now();
            let mut taken: Vec<Range<u16>> = Vec::new();
            for (count, take) in steps {
                now += REST;
                if take {
                    if let Some(base) = ranges.take(count, &edge(count), now) {
                        let range = base..base + count;
                        prop_assert!(range.start >= 5 && range.end <= 40);
                        prop_assert!(taken.iter().all(|other| other.end <= range.start || range.end <= other.start));
                        taken.push(range);
                    }
                } else if !taken.is_empty() {
                    let range = taken.swap_remove(usize::from(count) % taken.len());
                    ranges.rest(range, edge(count), now);
                }
            }
            taken.into_iter().for_each(|range| ranges.rest(range, edge(0), now));
            prop_assert_eq!(ranges.take(35, &edge(1), now + REST), Some(5), "all is one range again");
        }
    }
}
