//! What was acknowledged against what is in the log: the proof that nothing was lost.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::client::Stamp;
use crate::plan::Conv;

/// Losses listed by name; further ones are only counted.
pub(crate) const LOSSES_LISTED_MAX: usize = 10_000;

/// Sender and serial of a message.
type Message = (u32, u32);
/// The content of a conversation by seq, the first at 0.
type Contents = HashMap<Conv, Vec<Option<Message>>>;

/// What one thread saw.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    acks: Vec<(Conv, u64, Message)>,
    /// By pushes.
    seen: Contents,
    /// By reading the log.
    logged: Contents,
    absent: BTreeSet<(Conv, u64)>,
    /// Conversations whose log was read from its beginning, and its last seq.
    ended: HashMap<Conv, u64>,
    /// Times that one seq was seen with two contents.
    contradictions: u64,
    /// Highest acknowledged seq of each conversation.
    heads: HashMap<Conv, u64>,
}

/// One acknowledged message that is not where it was acknowledged to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Loss {
    pub conv: String,
    pub seq: u64,
    pub sender: u32,
    pub serial: u32,
    pub why: Cow<'static, str>,
}

/// What the evidence of all threads says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Judgement {
    pub lost: u64,
    pub losses: Vec<Loss>,
    /// Messages that stand in the log more than once.
    pub doubled: u64,
    /// Entries that different readers saw differently.
    pub contradictions: u64,
    /// Acknowledged messages of conversations whose log could not be read.
    pub unverified: u64,
    pub conversations_read: u64,
    pub entries_read: u64,
}

impl Evidence {
    pub(crate) fn acknowledged(&mut self, conv: Conv, seq: u64, stamp: Stamp) {
        self.acks.push((conv, seq, (stamp.sender, stamp.serial)));
        let head = self.heads.entry(conv).or_default();
        *head = seq.max(*head);
    }

    pub(crate) fn pushed(&mut self, conv: Conv, seq: u64, stamp: Stamp) {
        self.contradictions += u64::from(!note(&mut self.seen, conv, seq, (stamp.sender, stamp.serial)));
    }

    pub(crate) fn fetched(&mut self, conv: Conv, seq: u64, stamp: Stamp) {
        self.contradictions += u64::from(!note(&mut self.logged, conv, seq, (stamp.sender, stamp.serial)));
    }

    pub(crate) fn absent(&mut self, conv: Conv, seq: u64) {
        self.absent.insert((conv, seq));
    }

    /// The log of `conv` was read from its beginning to `at`.
    pub(crate) fn ended(&mut self, conv: Conv, at: u64) {
        self.ended.insert(conv, at);
    }

    /// Highest acknowledged seq of each conversation that has one.
    pub(crate) const fn heads(&self) -> &HashMap<Conv, u64> {
        &self.heads
    }

    /// How many messages were acknowledged in each conversation.
    pub(crate) fn acknowledged_by_conversation(&self) -> HashMap<Conv, u64> {
        let mut counts = HashMap::new();
        for (conv, ..) in &self.acks {
            *counts.entry(*conv).or_default() += 1;
        }
        counts
    }

    /// Whether some reader found that the log skips this entry.
    pub(crate) fn is_absent(&self, conv: Conv, seq: u64) -> bool {
        self.absent.contains(&(conv, seq))
    }
}

/// Notes what an entry holds. False if something else was noted before.
fn note(contents: &mut Contents, conv: Conv, seq: u64, message: Message) -> bool {
    let contents = contents.entry(conv).or_default();
    let Some(at) = seq.checked_sub(1).and_then(|at| usize::try_from(at).ok()) else { return false };
    if contents.len() <= at {
        contents.resize(at + 1, None);
    }
    *contents[at].get_or_insert(message) == message
}

/// Puts the evidence of all threads together. `name` gives the id of a conversation.
pub(crate) fn judge(evidence: Vec<Evidence>, name: impl Fn(Conv) -> String) -> Judgement {
    let mut judgement = Judgement::default();
    let mut acks = Vec::new();
    let mut logged = Contents::new();
    let mut seen = Vec::new();
    let (mut absent, mut ended) = (HashSet::new(), HashMap::new());
    for part in evidence {
        judgement.contradictions += part.contradictions;
        acks.extend(part.acks);
        absent.extend(part.absent);
        ended.extend(part.ended);
        seen.push(part.seen);
        for (conv, contents) in part.logged {
            for (at, message) in contents.into_iter().enumerate() {
                if let Some(message) = message {
                    judgement.contradictions += u64::from(!note(&mut logged, conv, at as u64 + 1, message));
                }
            }
        }
    }
    let at = |conv: Conv, seq: u64| {
        let at = usize::try_from(seq.checked_sub(1)?).ok()?;
        logged.get(&conv)?.get(at).copied().flatten()
    };
    for (conv, contents) in seen.iter().flatten() {
        for (index, message) in contents.iter().enumerate() {
            let pushed = message.zip(at(*conv, index as u64 + 1));
            judgement.contradictions += u64::from(pushed.is_some_and(|(pushed, logged)| pushed != logged));
        }
    }
    judgement.conversations_read = ended.len() as u64;
    for conv in ended.keys() {
        let mut messages = HashSet::new();
        for message in logged.get(conv).into_iter().flatten().flatten() {
            judgement.entries_read += 1;
            judgement.doubled += u64::from(!messages.insert(*message));
        }
    }
    acks.sort_unstable();
    for (conv, seq, message) in acks {
        let end = ended.get(&conv).copied();
        let why = match (at(conv, seq), end) {
            (Some(found), _) if found == message => continue,
            (Some(_), _) => "its place in the log holds another message",
            (None, _) if absent.contains(&(conv, seq)) => "the log skips it",
            (None, Some(end)) if seq > end => "the log ends before it",
            (None, Some(_)) => "the log holds something else there",
            (None, None) => {
                judgement.unverified += 1;
                continue;
            }
        };
        judgement.lost += 1;
        if judgement.losses.len() < LOSSES_LISTED_MAX {
            judgement.losses.push(Loss {
                conv: name(conv),
                seq,
                sender: message.0,
                serial: message.1,
                why: why.into(),
            });
        }
    }
    judgement
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(serial: u32) -> Stamp {
        Stamp { sender: 1, serial, intended_ns: 0 }
    }

    fn judged(evidence: Vec<Evidence>) -> Judgement {
        judge(evidence, |conv| format!("c_{conv}"))
    }

    #[test]
    fn what_is_acknowledged_pushed_and_logged_alike_is_well() {
        let (mut sender, mut reader) = (Evidence::default(), Evidence::default());
        for seq in 1..=3 {
            sender.acknowledged(0, seq, stamp(seq as u32));
            reader.pushed(0, seq, stamp(seq as u32));
            reader.fetched(0, seq, stamp(seq as u32));
        }
        reader.ended(0, 3);
        assert_eq!(sender.heads()[&0], 3);
        let judgement = judged(vec![sender, reader]);
        assert_eq!((judgement.lost, judgement.doubled, judgement.contradictions, judgement.unverified), (0, 0, 0, 0));
        assert_eq!((judgement.conversations_read, judgement.entries_read), (1, 3));
    }

    #[test]
    fn each_kind_of_loss_is_found_and_named() {
        let mut all = Evidence::default();
        for seq in 1..=5 {
            all.acknowledged(0, seq, stamp(seq as u32));
        }
        all.fetched(0, 1, stamp(1));
        all.absent(0, 2);
        all.fetched(0, 3, stamp(9));
        all.fetched(0, 4, stamp(4));
        all.ended(0, 4);
        let judgement = judged(vec![all]);
        let why: Vec<_> = judgement.losses.iter().map(|loss| (loss.seq, &*loss.why)).collect();
        assert_eq!(
            why,
            [(2, "the log skips it"), (3, "its place in the log holds another message"), (5, "the log ends before it"),]
        );
        assert_eq!((judgement.lost, judgement.losses[0].conv.as_str()), (3, "c_0"));
    }

    #[test]
    fn a_message_twice_in_the_log_and_one_seen_differently_are_found() {
        let (mut one, mut other) = (Evidence::default(), Evidence::default());
        one.pushed(0, 1, stamp(1));
        other.fetched(0, 1, stamp(2));
        other.fetched(0, 2, stamp(2));
        other.ended(0, 2);
        let judgement = judged(vec![one, other]);
        assert_eq!((judgement.doubled, judgement.contradictions, judgement.lost), (1, 1, 0));
    }

    #[test]
    fn a_log_that_could_not_be_read_proves_nothing() {
        let mut all = Evidence::default();
        all.acknowledged(7, 1, stamp(1));
        let judgement = judged(vec![all]);
        assert_eq!((judgement.lost, judgement.unverified), (0, 1));
    }
}
