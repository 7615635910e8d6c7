//! What came of a worker's slice, and how parts become the whole.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::Outcome;
use crate::ledger::{Judgement, LOSSES_LISTED_MAX};
use crate::report::PhaseMark;

/// What a worker knows in the end, beside what it had told second by second.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) entered: u64,
    pub(super) held: u64,
    pub(super) unanswered: u64,
    pub(super) missing_pushes: u64,
    pub(super) missing: u64,
    pub(super) judgement: Judgement,
    pub(super) expected: u64,
    pub(super) ends: BTreeMap<String, u64>,
    pub(super) load_us: u64,
    pub(super) cpu_ns: u64,
    pub(super) threads: u32,
    pub(super) interrupted: bool,
    pub(super) phases: Vec<PhaseMark>,
    pub(super) partial: Option<String>,
    pub(super) digest: String,
}

impl Part {
    /// Of a run with so many threads. What was measured went out by ticks.
    pub(super) fn of(outcome: Outcome, threads: u32) -> Self {
        Self {
            entered: outcome.entered,
            held: outcome.held,
            unanswered: outcome.unanswered,
            missing_pushes: outcome.missing_pushes,
            missing: outcome.missing,
            judgement: outcome.judgement,
            expected: outcome.expected,
            ends: outcome.ends,
            load_us: u64::try_from(outcome.load_time.as_micros()).unwrap_or(u64::MAX),
            cpu_ns: outcome.generator_cpu_ns,
            threads,
            interrupted: outcome.interrupted,
            phases: outcome.phases,
            partial: outcome.partial,
            digest: outcome.digest,
        }
    }

    /// Adds it to the whole. Each worker judged its own conversations, so that judgements add up.
    pub(super) fn add_to(self, whole: &mut Outcome) {
        whole.held += self.held;
        whole.unanswered += self.unanswered;
        whole.missing_pushes += self.missing_pushes;
        whole.missing += self.missing;
        whole.expected += self.expected;
        whole.load_time = whole.load_time.max(Duration::from_micros(self.load_us));
        whole.generator_cpu_ns += self.cpu_ns;
        whole.interrupted |= self.interrupted;
        for (why, count) in self.ends {
            *whole.ends.entry(why).or_default() += count;
        }
        if self.phases.len() > whole.phases.len() {
            whole.phases = self.phases;
        }
        if whole.partial.is_none() {
            whole.partial = self.partial;
        }
        whole.digest.push_str(&self.digest);
        let (mine, theirs) = (&mut whole.judgement, self.judgement);
        mine.lost += theirs.lost;
        mine.doubled += theirs.doubled;
        mine.contradictions += theirs.contradictions;
        mine.unverified += theirs.unverified;
        mine.conversations_read += theirs.conversations_read;
        mine.entries_read += theirs.entries_read;
        let room = LOSSES_LISTED_MAX.saturating_sub(mine.losses.len());
        mine.losses.extend(theirs.losses.into_iter().take(room));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_whole() {
        let part = |n: u64| Part {
            entered: n,
            held: n,
            expected: 10 * n,
            judgement: Judgement { lost: n, entries_read: 100 * n, ..Judgement::default() },
            ends: [("gone".to_owned(), n)].into(),
            load_us: 1000 * n,
            cpu_ns: n,
            threads: 1,
            digest: format!("{n}"),
            ..Part::default()
        };
        let mut whole = Outcome::default();
        for n in [3, 5] {
            let there: Part = serde_json::from_str(&serde_json::to_string(&part(n)).unwrap()).unwrap();
            there.add_to(&mut whole);
        }
        assert_eq!((whole.held, whole.expected, whole.judgement.lost, whole.judgement.entries_read), (8, 80, 8, 800));
        assert_eq!((whole.ends["gone"], whole.load_time, &*whole.digest), (8, Duration::from_millis(5), "35"));
        assert_eq!((whole.generator_cpu_ns, whole.interrupted), (8, false));
    }
}
