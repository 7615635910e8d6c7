//! Messages on their way: each has a cmid chosen once, and goes out until its outcome is certain.
//!
//! Invariants:
//! - of one conversation at most one message is in flight, and they leave in the order they came in: a later one can
//!   never be stored before an earlier one, whatever is refused or lost between;
//! - a message leaves the outbox only by SENT, by an error that says it is certainly not stored, or by its own entry
//!   seen in the log;
//! - once a try may have succeeded, every later one says so (`attempt` above 0) and carries `seen`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use roost_wire::{ConvId, FrameBody, Seq, pb};
use serde::{Deserialize, Serialize};

use super::Cmid;

/// A message that waits for its acknowledgement, as an outbox store keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The client's own id of it, kept over all tries.
    pub cmid: Cmid,
    /// Where to.
    pub conv: ConvId,
    /// What it says.
    pub text: String,
    /// True for a PUBLISH to a channel, false for a SEND.
    #[serde(default)]
    pub publish: bool,
    /// The last seq of the conversation that was known when it was handed in: an earlier success lies above it.
    #[serde(default)]
    pub seen: Option<Seq>,
}

#[derive(Debug)]
struct Item {
    record: Record,
    /// Order of coming in.
    number: u64,
    /// Above 0 once a try may have succeeded.
    attempt: u32,
    /// Tries that were certainly refused, for a passing reason.
    refusals: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Flying,
    /// Refused for now.
    Later(Instant),
}

/// The messages that wait, per conversation.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    lanes: BTreeMap<ConvId, VecDeque<Item>>,
    /// First messages of lanes that may go now, oldest first.
    ready: BTreeSet<(u64, ConvId)>,
    /// First messages of lanes that wait for a moment.
    later: BTreeSet<(Instant, ConvId)>,
    cmids: BTreeMap<Cmid, ConvId>,
    entries: usize,
    bytes: usize,
    numbers: u64,
}

impl Outbox {
    /// Whether `bytes` of text more have room.
    pub(crate) fn has_room(&self, bytes: usize, entries_max: usize, bytes_max: usize) -> bool {
        self.entries < entries_max && self.bytes + bytes <= bytes_max
    }

    pub(crate) fn len(&self) -> usize {
        self.entries
    }

    /// Takes a message. `restored` ones may have been sent in an earlier life. A cmid that is here already is ignored.
    pub(crate) fn push(&mut self, record: Record, restored: bool) {
        if self.cmids.contains_key(&record.cmid) {
            return;
        }
        self.numbers += 1;
        self.entries += 1;
        self.bytes += record.text.len();
        self.cmids.insert(record.cmid, record.conv.clone());
        let conv = record.conv.clone();
        let lane = self.lanes.entry(conv.clone()).or_default();
        lane.push_back(Item {
            record,
            number: self.numbers,
            attempt: u32::from(restored),
            refusals: 0,
            state: State::Waiting,
        });
        if lane.len() == 1 {
            self.ready.insert((self.numbers, conv));
        }
    }

    /// The next message to put on the wire, which is then in flight. `seen` tells the last known seq.
    pub(crate) fn next(&mut self, seen: impl Fn(&ConvId) -> Option<Seq>) -> Option<(Cmid, FrameBody)> {
        let (_, conv) = self.ready.pop_first()?;
        let item = self.lanes.get_mut(&conv)?.front_mut()?;
        item.state = State::Flying;
        if item.attempt == 0 {
            // Nothing of it can be in the log yet, so the newest known seq serves as well and is cheaper to search from.
            item.record.seen = seen(&conv).max(item.record.seen);
        }
        Some((item.record.cmid, item.body()))
    }

    /// The outcome is certain: the message leaves.
    pub(crate) fn settle(&mut self, cmid: &Cmid) -> Option<Record> {
        let conv = self.cmids.get(cmid)?.clone();
        let lane = self.lanes.get_mut(&conv)?;
        let place = lane.iter().position(|item| item.record.cmid == *cmid)?;
        let item = lane.remove(place)?;
        match item.state {
            State::Waiting if place == 0 => drop(self.ready.remove(&(item.number, conv.clone()))),
            State::Later(at) => drop(self.later.remove(&(at, conv.clone()))),
            State::Waiting | State::Flying => {}
        }
        self.cmids.remove(cmid);
        self.entries -= 1;
        self.bytes -= item.record.text.len();
        match lane.front() {
            Some(next) if place == 0 => drop(self.ready.insert((next.number, conv))),
            Some(_) => {}
            None => drop(self.lanes.remove(&conv)),
        }
        Some(item.record)
    }

    /// The try was refused or its outcome is unknown: the same cmid goes out again at `at`.
    pub(crate) fn retry(&mut self, cmid: &Cmid, at: Instant, ambiguous: bool) {
        let Some(item) = self.flying(cmid) else { return };
        item.attempt = if ambiguous || item.attempt > 0 { item.attempt.saturating_add(1) } else { 0 };
        item.refusals = item.refusals.saturating_add(1);
        item.state = State::Later(at);
        let conv = item.record.conv.clone();
        self.later.insert((at, conv));
    }

    /// How often the message was refused, and whether every try so far certainly failed.
    pub(crate) fn refusals(&mut self, cmid: &Cmid) -> Option<(u32, bool)> {
        self.flying(cmid).map(|item| (item.refusals, item.attempt == 0))
    }

    /// The connection that `cmid` went out on is gone: it may or may not have arrived.
    pub(crate) fn lost(&mut self, cmid: &Cmid) {
        let Some(item) = self.flying(cmid) else { return };
        item.attempt = item.attempt.saturating_add(1);
        item.state = State::Waiting;
        let ready = (item.number, item.record.conv.clone());
        self.ready.insert(ready);
    }

    fn flying(&mut self, cmid: &Cmid) -> Option<&mut Item> {
        let conv = self.cmids.get(cmid)?;
        let item = self.lanes.get_mut(conv)?.front_mut()?;
        (item.record.cmid == *cmid && item.state == State::Flying).then_some(item)
    }

    /// Messages whose time has come may go.
    pub(crate) fn wake(&mut self, now: Instant) {
        while let Some((at, _)) = self.later.first() {
            if *at > now {
                break;
            }
            let Some((_, conv)) = self.later.pop_first() else { break };
            if let Some(item) = self.lanes.get_mut(&conv).and_then(VecDeque::front_mut) {
                item.state = State::Waiting;
                self.ready.insert((item.number, conv));
            }
        }
    }

    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.later.first().map(|(at, _)| *at)
    }

    /// The message of `cmid`.
    pub(crate) fn record(&self, cmid: &Cmid) -> Option<&Record> {
        let conv = self.cmids.get(cmid)?;
        self.lanes.get(conv)?.iter().map(|item| &item.record).find(|record| record.cmid == *cmid)
    }

    /// Whether an earlier try of it may have succeeded.
    pub(crate) fn was_tried(&self, cmid: &Cmid) -> bool {
        let lane = self.cmids.get(cmid).and_then(|conv| self.lanes.get(conv));
        lane.and_then(|lane| lane.iter().find(|item| item.record.cmid == *cmid)).is_some_and(|item| item.attempt > 0)
    }

    /// Every message still waiting, as its store keeps it.
    pub(crate) fn drain(&mut self) -> Vec<Record> {
        let lanes = std::mem::take(self).lanes;
        lanes.into_values().flatten().map(|item| item.record).collect()
    }
}

impl Item {
    fn body(&self) -> FrameBody {
        let record = &self.record;
        let (cmid, body) = (record.cmid.to_string(), Some(pb::Body { text: record.text.clone(), event: None }));
        let (attempt, seen) = (self.attempt, if self.attempt > 0 { record.seen } else { None });
        if record.publish {
            FrameBody::Publish(pb::Publish { channel: record.conv.to_string(), cmid, body, attempt, seen })
        } else {
            FrameBody::Send(pb::Send { conv: record.conv.to_string(), cmid, body, attempt, seen })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn record(number: u128, conv: &str) -> Record {
        Record {
            cmid: Cmid::from_bits(number),
            conv: ConvId::new(conv).expect("an id"),
            text: format!("text {number}"),
            publish: false,
            seen: None,
        }
    }

    fn sent(outbox: &mut Outbox, known: Option<Seq>) -> Option<pb::Send> {
        match outbox.next(|_| known) {
            Some((_, FrameBody::Send(send))) => Some(send),
            Some((_, other)) => panic!("{other:?}"),
            None => None,
        }
    }

    #[test]
    fn f38_one_message_of_a_conversation_is_in_flight_and_order_holds() {
        let mut outbox = Outbox::default();
        for (number, conv) in [(1, "c_a"), (2, "c_a"), (3, "c_b")] {
            outbox.push(record(number, conv), false);
        }
        let convs: Vec<String> = std::iter::from_fn(|| sent(&mut outbox, None)).map(|send| send.conv).collect();
        assert_eq!(convs, ["c_a", "c_b"]);
        let now = Instant::now();
        outbox.retry(&Cmid::from_bits(1), now + Duration::from_secs(1), false);
        outbox.wake(now);
        assert_eq!(sent(&mut outbox, None), None, "the second waits for the first");
        outbox.wake(now + Duration::from_secs(1));
        assert_eq!(sent(&mut outbox, None).map(|send| send.cmid), Some(Cmid::from_bits(1).to_string()));
        assert!(outbox.settle(&Cmid::from_bits(1)).is_some());
        assert_eq!(sent(&mut outbox, None).map(|send| send.cmid), Some(Cmid::from_bits(2).to_string()));
        assert_eq!(outbox.len(), 2);
    }

    #[test]
    fn f38_a_resend_keeps_its_cmid_and_the_seq_known_when_it_first_left() {
        let mut outbox = Outbox::default();
        outbox.push(record(1, "c_a"), false);
        let first = sent(&mut outbox, Some(7)).expect("ready");
        assert_eq!((first.attempt, first.seen), (0, None));
        outbox.lost(&Cmid::from_bits(1));
        let second = sent(&mut outbox, Some(20)).expect("ready again");
        assert_eq!((second.attempt, second.seen), (1, Some(7)));
        assert_eq!(second.cmid, first.cmid);
        outbox.retry(&Cmid::from_bits(1), Instant::now(), false);
        outbox.wake(Instant::now());
        assert_eq!(sent(&mut outbox, Some(30)).map(|send| (send.attempt, send.seen)), Some((2, Some(7))));
    }

    #[test]
    fn f38_a_certain_refusal_is_no_attempt() {
        let mut outbox = Outbox::default();
        outbox.push(record(1, "c_a"), false);
        let now = Instant::now();
        sent(&mut outbox, Some(1)).expect("ready");
        assert_eq!(outbox.refusals(&Cmid::from_bits(1)), Some((0, true)));
        outbox.retry(&Cmid::from_bits(1), now, false);
        outbox.wake(now);
        assert_eq!(sent(&mut outbox, Some(3)).map(|send| (send.attempt, send.seen)), Some((0, None)));
        assert_eq!(outbox.refusals(&Cmid::from_bits(1)), Some((1, true)));
    }

    #[test]
    fn f38_a_restored_message_counts_as_tried() {
        let mut outbox = Outbox::default();
        outbox.push(Record { seen: Some(4), ..record(1, "c_a") }, true);
        outbox.push(record(1, "c_a"), true);
        assert_eq!(outbox.len(), 1, "the same cmid is one message");
        assert_eq!(sent(&mut outbox, Some(9)).map(|send| (send.attempt, send.seen)), Some((1, Some(4))));
    }

    #[test]
    fn room_is_counted_in_messages_and_bytes() {
        let mut outbox = Outbox::default();
        outbox.push(record(1, "c_a"), false);
        assert!(outbox.has_room(10, 2, 100));
        assert!(!outbox.has_room(10, 1, 100));
        assert!(!outbox.has_room(100, 2, 100));
        outbox.settle(&Cmid::from_bits(1));
        assert!(outbox.has_room(100, 1, 100));
    }
}
