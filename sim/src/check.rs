//! The shadow model: what was promised, what was shown, and whether it holds.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;

use roost_storage::Entry;
use roost_wire::{ConvId, Seq, pb};

/// Lines of history kept for the report of a failure.
const HISTORY_LINES_MAX: usize = 80;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was broken; empty if nothing was.
    pub violations: Vec<String>,
    /// The last things that happened before the first violation, or before the end.
    pub history: String,
    /// Of everything that happened: the same seed gives the same digest.
    pub digest: u64,
    /// Sends acknowledged.
    pub acknowledged: usize,
    /// Entries shown to somebody.
    pub shown: usize,
    /// Faults injected.
    pub faults: usize,
}

/// What is known to have been promised and shown.
#[derive(Default)]
pub(crate) struct Model {
    /// cmid -> conversation, seq and text of what was acknowledged.
    acknowledged: BTreeMap<String, (ConvId, Seq, String)>,
    /// Person and conversation -> entries shown, in order.
    views: BTreeMap<(usize, ConvId), Vec<pb::Entry>>,
    pub(crate) faults: usize,
    shown: usize,
    violations: Vec<String>,
    history: VecDeque<String>,
    digest: u64,
    trace: bool,
}

impl Model {
    pub(crate) fn new(trace: bool) -> Self {
        Self { trace, ..Self::default() }
    }

    /// Something happened. It counts for the digest.
    pub(crate) fn note(&mut self, at_ms: u128, what: &str) {
        let line = format!("{at_ms:>8} ms  {what}");
        for byte in line.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if self.trace {
            println!("{line}");
        }
        if self.violations.is_empty() {
            if self.history.len() == HISTORY_LINES_MAX {
                self.history.pop_front();
            }
            self.history.push_back(line);
        }
    }

    pub(crate) fn violated(&mut self, what: String) {
        // One broken promise brings many more.
        if self.violations.len() < 10 {
            self.violations.push(what);
        }
    }

    pub(crate) fn has_violations(&self) -> bool {
        !self.violations.is_empty()
    }

    pub(crate) fn acknowledged(&mut self, cmid: &str, text: &str, sent: &pb::Sent) {
        let Ok(conv) = ConvId::new(&sent.conv) else {
            return self.violated(format!("SENT of {cmid} names no conversation: {}", sent.conv));
        };
        let now = (conv, sent.seq, text.to_owned());
        if let Some(before) = self.acknowledged.insert(cmid.to_owned(), now.clone())
            && before != now
        {
            self.violated(format!("{cmid} was acknowledged as {before:?}, then as {now:?}"));
        }
    }

    pub(crate) fn shown(&mut self, person: usize, entry: pb::Entry) {
        let Ok(conv) = ConvId::new(&entry.conv) else {
            return self.violated(format!("person {person} was shown an entry of {:?}", entry.conv));
        };
        self.shown += 1;
        let view = self.views.entry((person, conv)).or_default();
        let expected = view.len() as Seq + 1;
        if entry.seq == expected {
            view.push(entry);
        } else {
            let (conv, seq) = (entry.conv, entry.seq);
            self.violated(format!("person {person} was shown {conv} seq {seq} where {expected} was due"));
        }
    }

    /// A delivered receipt about `of` was shown.
    pub(crate) fn receipt(&mut self, of: usize, receipt: &pb::Receipt) {
        let Ok(conv) = ConvId::new(&receipt.conv) else { return };
        let has = self.views.get(&(of, conv)).map_or(0, |view| view.len() as Seq);
        // The read mark may: who sends has read what is before it, as the router sees it.
        if receipt.delivered > has {
            self.violated(format!("person {of} has {has} entries, but {receipt:?} was told"));
        }
    }

    /// True if `person` was shown all of a log with this head.
    pub(crate) fn has_all(&self, person: usize, conv: &ConvId, head: Seq) -> bool {
        self.views.get(&(person, conv.clone())).map_or(0, |view| view.len() as Seq) == head
    }

    /// Compares a log with what was promised and shown of it.
    pub(crate) fn check_log(&mut self, conv: &ConvId, log: &[Entry], members: &[usize]) {
        let mut seen: BTreeMap<&str, Seq> = BTreeMap::new();
        let mut broken = Vec::new();
        for (at, entry) in log.iter().enumerate() {
            if entry.seq != at as Seq + 1 {
                broken.push(format!("{conv} has seq {} at place {}", entry.seq, at + 1));
            }
            if !entry.cmid.is_empty()
                && let Some(before) = seen.insert(&entry.cmid, entry.seq)
            {
                broken.push(format!("{conv} holds {} at {before} and at {}", entry.cmid, entry.seq));
            }
        }
        for (cmid, (_, seq, text)) in self.acknowledged.iter().filter(|(_, (of, ..))| of == conv) {
            match log.get(*seq as usize - 1) {
                Some(entry) if entry.cmid == *cmid && entry.body.text == *text => {}
                other => broken.push(format!("{cmid} was acknowledged as {conv} seq {seq}, where now is {other:?}")),
            }
        }
        for person in members {
            let view = self.views.get(&(*person, conv.clone())).map_or(&[][..], Vec::as_slice);
            if view.len() != log.len() {
                broken.push(format!("person {person} was shown {} of {} entries of {conv}", view.len(), log.len()));
            }
            for (shown, entry) in view.iter().zip(log) {
                if shown.cmid != entry.cmid || shown.body.as_ref() != Some(&entry.body) {
                    broken.push(format!("person {person} was shown {shown:?}, the log has {entry:?}"));
                }
            }
        }
        for what in broken {
            self.violated(what);
        }
    }

    pub(crate) fn outcome(self) -> Outcome {
        let mut history = String::new();
        for line in &self.history {
            let _ = writeln!(history, "{line}");
        }
        Outcome {
            violations: self.violations,
            history,
            digest: self.digest,
            acknowledged: self.acknowledged.len(),
            shown: self.shown,
            faults: self.faults,
        }
    }
}

#[cfg(test)]
mod tests {
    use roost_storage::Entry;
    use roost_wire::UserId;

    use super::*;

    fn entry(seq: Seq, cmid: &str) -> Entry {
        let body = pb::Body { text: format!("text of {cmid}"), event: None };
        Entry { seq, ts_ms: 1, from: UserId::new("u_1").unwrap(), cmid: cmid.into(), body }
    }

    fn shown(entry: &Entry) -> pb::Entry {
        let Entry { seq, cmid, body, .. } = entry.clone();
        pb::Entry { conv: "c_1".into(), seq, from: "u_1".into(), cmid, ts: 1, body: Some(body) }
    }

    /// What the model says after `person 0` was promised and shown this, and the log is that.
    fn verdict(promised: &[(&str, Seq)], view: &[pb::Entry], log: &[Entry]) -> String {
        let mut model = Model::default();
        for (cmid, seq) in promised {
            let sent = pb::Sent { conv: "c_1".into(), seq: *seq, ts: 1, dup: false };
            model.acknowledged(cmid, &format!("text of {cmid}"), &sent);
        }
        for entry in view {
            model.shown(0, entry.clone());
        }
        model.check_log(&ConvId::new("c_1").unwrap(), log, &[0]);
        model.outcome().violations.join("\n")
    }

    #[test]
    fn each_broken_promise_is_noticed() {
        let (one, two) = (entry(1, "a"), entry(2, "b"));
        let view = [shown(&one), shown(&two)];
        let log = [one.clone(), two.clone()];
        assert_eq!(verdict(&[("a", 1), ("b", 2)], &view, &log), "");
        for (name, found, part) in [
            ("lost", verdict(&[("a", 1), ("c", 3)], &view, &log), "c was acknowledged"),
            ("moved", verdict(&[("a", 2)], &view, &log), "a was acknowledged"),
            ("twice acknowledged", verdict(&[("a", 1), ("a", 2)], &view, &log), "then as"),
            ("gap in the log", verdict(&[], &[], std::slice::from_ref(&two)), "at place 1"),
            ("doubled", verdict(&[], &[], &[one.clone(), entry(2, "a")]), "holds a at 1 and at 2"),
            ("not shown", verdict(&[], &view[..1], &log), "was shown 1 of 2"),
            ("shown out of order", verdict(&[], &[shown(&two)], &log), "where 1 was due"),
            ("shown another text", verdict(&[], &[shown(&entry(1, "x"))], &[one]), "the log has"),
        ] {
            assert!(found.contains(part), "{name}: {found:?}");
        }
    }

    #[test]
    fn a_receipt_ahead_of_its_person_is_noticed() {
        let mut model = Model::default();
        model.shown(0, shown(&entry(1, "a")));
        let receipt = pb::Receipt { conv: "c_1".into(), user: "u_1".into(), delivered: 1, read: 0 };
        model.receipt(0, &receipt);
        assert!(!model.has_violations());
        model.receipt(0, &pb::Receipt { delivered: 2, ..receipt });
        assert!(model.has_violations());
    }
}
