//! Which entries of the channel which clients were not pushed. Pure.

use std::collections::BTreeSet;

/// Entries of all clients of a thread that are remembered one by one; further ones are only counted.
const ENTRIES_MAX: usize = 100_000;
/// Gaps that a report lists.
pub(crate) const LISTED_MAX: usize = 10_000;

/// Entries in a row that a client was not pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Gap {
    pub(crate) client: u32,
    pub(crate) first_seq: u32,
    /// The last of them; [`Gap::OPEN`] if nothing came after it.
    pub(crate) last_seq: u32,
}

impl Gap {
    /// Up to whatever was published last.
    pub(crate) const OPEN: u32 = u32::MAX;
}

/// What a push that is not above the last one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// One that had been left out.
    Filled,
    /// One that had come before.
    Doubled,
    /// One or the other: too many were left out to remember.
    Unknown,
}

/// What is missing now.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    entries: BTreeSet<(u32, u32)>,
    forgotten: bool,
}

impl Gaps {
    /// A client was pushed the entry above these, and not them.
    pub(crate) fn open(&mut self, client: u32, first_seq: u32, last_seq: u32) {
        for seq in first_seq..=last_seq {
            if self.entries.len() >= ENTRIES_MAX {
                self.forgotten = true;
                return;
            }
            self.entries.insert((client, seq));
        }
    }

    /// A client was pushed an entry that is not above the last.
    pub(crate) fn late(&mut self, client: u32, seq: u32) -> Late {
        match (self.entries.remove(&(client, seq)), self.forgotten) {
            (true, _) => Late::Filled,
            (false, true) => Late::Unknown,
            (false, false) => Late::Doubled,
        }
    }

    /// What is still missing, in rising order.
    pub(crate) fn list(&self) -> Vec<Gap> {
        let mut gaps: Vec<Gap> = Vec::new();
        for (client, seq) in self.entries.iter().copied() {
            let full = gaps.len() >= LISTED_MAX;
            match gaps.last_mut() {
                Some(gap) if gap.client == client && gap.last_seq + 1 == seq => gap.last_seq = seq,
                _ if full => break,
                _ => gaps.push(Gap { client, first_seq: seq, last_seq: seq }),
            }
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_left_out_is_listed_in_rows_until_it_comes() {
        let mut gaps = Gaps::default();
        gaps.open(7, 2, 4);
        gaps.open(3, 9, 9);
        assert_eq!(gaps.late(7, 3), Late::Filled);
        assert_eq!((gaps.late(7, 3), gaps.late(7, 1)), (Late::Doubled, Late::Doubled));
        let rows: Vec<_> = gaps.list().iter().map(|gap| (gap.client, gap.first_seq, gap.last_seq)).collect();
        assert_eq!(rows, [(3, 9, 9), (7, 2, 2), (7, 4, 4)]);
    }

    #[test]
    fn what_cannot_be_remembered_is_not_called_doubled() {
        let mut gaps = Gaps::default();
        gaps.open(0, 1, ENTRIES_MAX as u32 + 1);
        assert_eq!((gaps.late(0, 5), gaps.late(0, ENTRIES_MAX as u32 + 1)), (Late::Filled, Late::Unknown));
        assert_eq!(gaps.list().len(), 2);
    }

    proptest! {
        #[test]
        fn the_list_holds_exactly_what_is_missing(
            opened in prop::collection::vec((0..4u32, 1..30u32, 0..5u32), 0..20),
            came in prop::collection::vec((0..4u32, 1..35u32), 0..30),
        ) {
            let mut gaps = Gaps::default();
            let mut model = BTreeSet::new();
            for (client, first, more) in opened {
                gaps.open(client, first, first + more);
                model.extend((first..=first + more).map(|seq| (client, seq)));
            }
            for (client, seq) in came {
                let missing = model.remove(&(client, seq));
                prop_assert_eq!(gaps.late(client, seq), if missing { Late::Filled } else { Late::Doubled });
            }
            let listed = gaps.list();
            let all: Vec<_> =
                listed.iter().flat_map(|gap| (gap.first_seq..=gap.last_seq).map(|seq| (gap.client, seq))).collect();
            prop_assert_eq!(all, model.into_iter().collect::<Vec<_>>());
        }
    }
}
