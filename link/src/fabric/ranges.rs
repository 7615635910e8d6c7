//! Which shards are whose.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;

/// Shards that can be given away, in ranges.
#[derive(Debug)]
pub(crate) struct Ranges {
    /// Apart from one another, in rising order.
    free: Vec<Range<u16>>,
    /// Given back, and since when; oldest first.
    resting: VecDeque<(Range<u16>, Instant)>,
    rest: Duration,
}

impl Ranges {
    /// All of `shards` are free; what is given back rests for `rest`.
    pub(crate) fn new(shards: Range<u16>, rest: Duration) -> Self {
        Self { free: vec![shards], resting: VecDeque::new(), rest }
    }

    /// Takes `count` shards that follow one another, and gives the first. `None`: there are none, or `count` is 0.
    pub(crate) fn take(&mut self, count: u16, now: Instant) -> Option<u16> {
        while self.resting.front().is_some_and(|(_, since)| now.duration_since(*since) >= self.rest) {
            let (rested, _) = self.resting.pop_front()?;
            self.free(rested);
        }
        let found = self.free.iter_mut().find(|range| count > 0 && range.len() >= count.into())?;
        let base = found.start;
        found.start += count;
        self.free.retain(|range| !range.is_empty());
        Some(base)
    }

    /// Takes `shards` back.
    pub(crate) fn rest(&mut self, shards: Range<u16>, now: Instant) {
        self.resting.push_back((shards, now));
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

    #[test]
    fn a_range_rests_before_it_is_given_again() {
        let now = Instant::now();
        let mut ranges = Ranges::new(3..7, REST);
        assert_eq!(ranges.take(4, now), Some(3));
        assert_eq!(ranges.take(1, now), None);
        ranges.rest(3..7, now);
        assert_eq!(ranges.take(1, now + REST - Duration::from_millis(1)), None, "it rests");
        assert_eq!(ranges.take(2, now + REST), Some(3));
        assert_eq!(ranges.take(0, now + REST), None);
    }

    proptest! {
        #[test]
        fn no_shard_has_two_owners_and_none_is_lost(steps in prop::collection::vec((1u16..9, any::<bool>()), 1..80)) {
            let mut ranges = Ranges::new(5..40, REST);
            let mut now = Instant::now();
            let mut taken: Vec<Range<u16>> = Vec::new();
            for (count, take) in steps {
                now += REST;
                if take {
                    if let Some(base) = ranges.take(count, now) {
                        let range = base..base + count;
                        prop_assert!(range.start >= 5 && range.end <= 40);
                        prop_assert!(taken.iter().all(|other| other.end <= range.start || range.end <= other.start));
                        taken.push(range);
                    }
                } else if !taken.is_empty() {
                    let range = taken.swap_remove(usize::from(count) % taken.len());
                    ranges.rest(range, now);
                }
            }
            taken.into_iter().for_each(|range| ranges.rest(range, now));
            prop_assert_eq!(ranges.take(35, now + REST), Some(5), "all is one range again");
        }
    }
}
