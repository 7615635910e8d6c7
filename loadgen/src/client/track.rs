//! What one session has of one conversation: order, gaps, doubles.

use std::collections::BTreeSet;

use crate::plan::Conv;

/// What a message that arrived is to the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It did not have it.
    New,
    /// It did not have it, and a later one was pushed before.
    Late,
    /// It was pushed before, or is its own: an entry goes to every session but the one that sent it.
    Doubled,
    /// It had it from the log. A client drops it.
    Repeated,
}

/// The seqs of one conversation that one session has.
#[derive(Clone, Debug)]
pub struct Track {
    /// Which conversation.
    pub conv: Conv,
    /// Own sends come back as pushes too: a channel.
    echoed: bool,
    /// Everything up to here is there, or known not to exist.
    have: u64,
    /// The highest pushed.
    pushed: u64,
    /// The highest told to the server by ACK.
    marked: u64,
    /// Only while something is unusual.
    rare: Option<Box<Rare>>,
}

#[derive(Clone, Debug, Default)]
struct Rare {
    /// There, above a gap.
    above: BTreeSet<u64>,
    /// Known from SENT or the log, and not pushed. Bounded by [`SILENT_MAX`].
    silent: BTreeSet<u64>,
}

/// How many seqs that came without a push are remembered as such.
const SILENT_MAX: usize = 1024;

impl Track {
    /// A session that has nothing of a conversation that is empty.
    #[must_use]
    pub const fn new(conv: Conv, echoed: bool) -> Self {
        Self { conv, echoed, have: 0, pushed: 0, marked: 0, rare: None }
    }

    /// Everything up to here is there.
    #[must_use]
    pub const fn have(&self) -> u64 {
        self.have
    }

    /// Whether something is there above something that is not.
    #[must_use]
    pub fn has_gap(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| !rare.above.is_empty())
    }

    /// Whether `seq` is there.
    #[must_use]
    pub fn holds(&self, seq: u64) -> bool {
        seq <= self.have || self.rare.as_ref().is_some_and(|rare| rare.above.contains(&seq))
    }

    /// How many of the seqs 1 to `head` are not there.
    #[must_use]
    pub fn missing(&self, head: u64) -> u64 {
        let above = self.rare.as_ref().map_or(0, |rare| rare.above.range(..=head).count() as u64);
        head.saturating_sub(self.have).saturating_sub(above)
    }

    /// An entry was pushed.
    pub fn push(&mut self, seq: u64) -> Arrival {
        let rising = seq > self.pushed;
        self.pushed = self.pushed.max(seq);
        let silent = self.rare.as_mut().is_some_and(|rare| rare.silent.remove(&seq));
        match (self.take(seq), rising) {
            (true, true) => Arrival::New,
            (true, false) => Arrival::Late,
            (false, _) if silent => Arrival::Repeated,
            (false, _) => Arrival::Doubled,
        }
    }

    /// A SENT told the seq of an own message. False if it was there already.
    pub fn confirm(&mut self, seq: u64) -> bool {
        let new = self.take(seq);
        if new && self.echoed {
            self.remember(seq);
        }
        new
    }

    /// An entry was read from the log. False if it was there already.
    pub fn fetch(&mut self, seq: u64) -> bool {
        let new = self.take(seq);
        if new {
            // It may still be on its way as a push.
            self.remember(seq);
        }
        new
    }

    /// The log has no entry `seq`: nothing more is to be expected.
    pub fn absent(&mut self, seq: u64) {
        self.take(seq);
    }

    /// What an ACK should say, if it would say more than the last one. Call it only to send it.
    pub fn mark(&mut self) -> Option<u64> {
        (self.have > self.marked).then(|| {
            self.marked = self.have;
            self.have
        })
    }

    fn take(&mut self, seq: u64) -> bool {
        if self.holds(seq) {
            return false;
        }
        if seq == self.have + 1 {
            self.have = seq;
            if let Some(rare) = &mut self.rare {
                while rare.above.remove(&(self.have + 1)) {
                    self.have += 1;
                }
                if rare.above.is_empty() && rare.silent.is_empty() {
                    self.rare = None;
                }
            }
        } else {
            self.rare.get_or_insert_default().above.insert(seq);
        }
        true
    }

    fn remember(&mut self, seq: u64) {
        let silent = &mut self.rare.get_or_insert_default().silent;
        silent.insert(seq);
        if silent.len() > SILENT_MAX {
            silent.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_push_is_new_late_or_doubled() {
        let mut track = Track::new(0, false);
        assert_eq!(track.push(1), Arrival::New);
        assert_eq!(track.push(1), Arrival::Doubled);
        assert_eq!(track.push(3), Arrival::New);
        assert!(track.has_gap());
        assert_eq!((track.have(), track.missing(4)), (1, 2));
        assert_eq!(track.push(2), Arrival::Late);
        assert_eq!((track.have(), track.has_gap()), (3, false));
    }

    #[test]
    fn an_own_message_fills_its_gap_and_must_not_come_back() {
        let mut track = Track::new(0, false);
        assert_eq!(track.push(2), Arrival::New);
        assert!(track.confirm(1));
        assert_eq!((track.have(), track.has_gap()), (2, false));
        assert_eq!(track.push(1), Arrival::Doubled);
    }

    #[test]
    fn on_a_channel_an_own_message_comes_back_once() {
        let mut track = Track::new(0, true);
        assert!(track.confirm(1));
        assert_eq!(track.push(1), Arrival::Repeated);
        assert_eq!(track.push(1), Arrival::Doubled);
        assert_eq!(track.push(2), Arrival::New);
        assert!(!track.confirm(2));
    }

    #[test]
    fn what_the_log_gave_may_still_be_pushed_once() {
        let mut track = Track::new(0, false);
        assert_eq!(track.push(3), Arrival::New);
        assert!(track.fetch(1));
        track.absent(2);
        assert_eq!(track.have(), 3);
        assert!(!track.fetch(3));
        assert_eq!(track.push(1), Arrival::Repeated);
        assert_eq!(track.push(1), Arrival::Doubled);
        assert_eq!((track.mark(), track.mark()), (Some(3), None));
    }

    proptest! {
        #[test]
        fn whatever_the_order_each_seq_is_taken_once(seqs in prop::collection::vec(1..40u64, 0..120)) {
            let mut track = Track::new(0, false);
            let mut model = BTreeSet::new();
            let mut high = 0;
            for seq in seqs {
                let expected = match (model.insert(seq), seq > high) {
                    (true, true) => Arrival::New,
                    (true, false) => Arrival::Late,
                    (false, _) => Arrival::Doubled,
                };
                high = high.max(seq);
                prop_assert_eq!(track.push(seq), expected);
                prop_assert_eq!(track.have(), (1..).take_while(|seq| model.contains(seq)).last().unwrap_or(0));
                prop_assert_eq!(track.missing(40), 40 - model.len() as u64);
                prop_assert_eq!(track.has_gap(), model.iter().any(|seq| *seq > track.have()));
            }
        }
    }
}
