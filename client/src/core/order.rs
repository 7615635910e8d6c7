//! Entries in order: every conversation is shown as 1, 2, 3… from where the client began, whatever arrives when.
//!
//! Invariants:
//! - the app gets the entries of a conversation in rising order of seq, each once, and a seq that it does not get is
//!   told as skipped;
//! - an entry beyond a gap is held until the gap is filled by HISTORY, or let go and fetched again: what is known to
//!   exist (`target`) is never forgotten while the conversation is followed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use roost_wire::limits::PAGE_ENTRIES_MAX;
use roost_wire::{ConvId, Seq, pb};

/// What the app is to be told.
#[derive(Debug, PartialEq)]
pub(crate) enum Shown {
    Entry(ConvId, pb::Entry),
    /// Entries `from` to `to` will not be shown.
    Skipped {
        conv: ConvId,
        from: Seq,
        to: Seq,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fetch {
    /// Nothing is missing.
    None,
    /// Something is; ask for it at this time.
    Due(Instant),
    /// Asked for what lies after this seq.
    Asked(Seq),
}

#[derive(Debug)]
struct Track {
    /// The last seq shown; `None` until it is known where to begin.
    position: Option<Seq>,
    /// Highest seq known to exist.
    target: Seq,
    held: BTreeMap<Seq, pb::Entry>,
    fetch: Fetch,
    /// Ask once even if nothing is known to be missing: nobody tells the head of a channel.
    probe: bool,
    /// The last seq the app has received.
    taken: Seq,
    /// SYNC was asked where this conversation begins.
    asked_once: bool,
}

/// Limits of [`Order`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct OrderLimits {
    pub(crate) conversations_max: usize,
    pub(crate) held_entries_max: usize,
    pub(crate) catch_up_entries_max: u64,
    pub(crate) gap_grace: Duration,
}

/// All conversations that are followed.
#[derive(Debug)]
pub(crate) struct Order {
    limits: OrderLimits,
    tracks: BTreeMap<ConvId, Track>,
    due: BTreeSet<(Instant, ConvId)>,
    /// Conversations with entries but no place to begin yet.
    unplaced: BTreeSet<ConvId>,
    held: usize,
    asked: usize,
    shown: VecDeque<Shown>,
}

impl Order {
    pub(crate) const fn new(limits: OrderLimits) -> Self {
        Self {
            limits,
            tracks: BTreeMap::new(),
            due: BTreeSet::new(),
            unplaced: BTreeSet::new(),
            held: 0,
            asked: 0,
            shown: VecDeque::new(),
        }
    }

    /// The last seq shown; `None` if it is not known where to begin.
    pub(crate) fn position(&self, conv: &ConvId) -> Option<Seq> {
        self.tracks.get(conv)?.position
    }

    /// Highest seq known to exist; `None` if the conversation is not followed.
    pub(crate) fn target(&self, conv: &ConvId) -> Option<Seq> {
        self.tracks.get(conv).map(|track| track.target)
    }

    /// What the app has received, per conversation.
    pub(crate) fn takens(&self) -> impl Iterator<Item = (&ConvId, Seq)> {
        self.tracks.iter().filter(|(_, track)| track.position.is_some()).map(|(conv, track)| (conv, track.taken))
    }

    /// True if the app has received everything that was shown.
    pub(crate) fn is_taken(&self) -> bool {
        self.tracks.values().all(|track| track.position.is_none_or(|position| track.taken >= position))
    }

    /// The app has received everything up to `seq`.
    pub(crate) fn taken(&mut self, conv: &ConvId, seq: Seq) {
        if let Some(track) = self.tracks.get_mut(conv) {
            track.taken = track.taken.max(seq);
        }
    }

    /// The app had everything of `conv` up to `position` in an earlier life.
    pub(crate) fn restore(&mut self, conv: &ConvId, position: Seq) {
        if let Some(track) = self.track(conv) {
            (track.position, track.target, track.taken) = (Some(position), position, position);
        }
    }

    /// The first entry that is held.
    pub(crate) fn first_held(&self, conv: &ConvId) -> Option<Seq> {
        self.tracks.get(conv)?.held.first_key_value().map(|(seq, _)| *seq)
    }

    /// True the first time: where `conv` begins may be asked for.
    pub(crate) fn ask_once(&mut self, conv: &ConvId) -> bool {
        self.tracks.get_mut(conv).is_some_and(|track| !std::mem::replace(&mut track.asked_once, true))
    }

    /// Conversations whose entries wait for a place to begin.
    pub(crate) const fn unplaced(&self) -> &BTreeSet<ConvId> {
        &self.unplaced
    }

    /// True if nothing is missing anywhere.
    pub(crate) fn is_whole(&self) -> bool {
        self.due.is_empty() && self.asked == 0 && self.unplaced.is_empty()
    }

    pub(crate) fn poll(&mut self) -> Option<Shown> {
        self.shown.pop_front()
    }

    /// Begins `conv` after `position`, if it has no place yet. What is missing from there is asked for at once.
    pub(crate) fn place(&mut self, conv: &ConvId, position: Seq, now: Instant) {
        let Some(track) = self.track(conv) else { return };
        if track.position.is_none() {
            (track.position, track.taken) = (Some(position), position);
            track.target = track.target.max(position);
            self.unplaced.remove(conv);
            self.advance(conv, now);
        }
    }

    /// `conv` is known to reach up to `head`; what is missing is asked for at `at`.
    pub(crate) fn head(&mut self, conv: &ConvId, head: Seq, at: Instant) {
        let Some(track) = self.track(conv) else { return };
        track.target = track.target.max(head);
        self.advance(conv, at);
    }

    /// An entry came. Missing ones before it get a moment to come by themselves.
    pub(crate) fn entry(&mut self, conv: &ConvId, entry: pb::Entry, now: Instant) {
        let grace = self.limits.gap_grace;
        self.hold(conv, entry);
        self.advance(conv, now + grace);
    }

    fn hold(&mut self, conv: &ConvId, entry: pb::Entry) {
        let seq = entry.seq;
        let room = self.held < self.limits.held_entries_max;
        let Some(track) = self.track(conv) else {
            self.shown.push_back(Shown::Skipped { conv: conv.clone(), from: seq, to: seq });
            return;
        };
        track.target = track.target.max(seq);
        // The next one in order needs no room: it leaves at once.
        let next = track.position.map(|position| position + 1);
        if next.is_some_and(|next| seq < next) || (!room && next != Some(seq)) {
            return;
        }
        let unplaced = track.position.is_none();
        if track.held.insert(seq, entry).is_none() {
            self.held += 1;
        }
        if unplaced {
            self.unplaced.insert(conv.clone());
        }
    }

    /// Asks once what lies after the position, though nothing is known to be missing.
    pub(crate) fn probe(&mut self, conv: &ConvId, now: Instant) {
        let Some(track) = self.tracks.get_mut(conv).filter(|track| track.position.is_some()) else { return };
        track.probe = true;
        self.advance(conv, now);
    }

    /// The next HISTORY to send: conversation, `after`, `limit`. It counts as asked then.
    pub(crate) fn next_fetch(&mut self, fetches_max: usize, now: Instant) -> Option<(ConvId, Seq, u32)> {
        if self.asked >= fetches_max || self.due.first().is_none_or(|(at, _)| *at > now) {
            return None;
        }
        let (_, conv) = self.due.pop_first()?;
        let track = self.tracks.get_mut(&conv)?;
        let after = track.position?;
        track.fetch = Fetch::Asked(after);
        self.asked += 1;
        let wanted = track.held.first_key_value().map_or(track.target, |(first, _)| first - 1).saturating_sub(after);
        let limit = u32::try_from(wanted).unwrap_or(u32::MAX).clamp(1, PAGE_ENTRIES_MAX);
        Some((conv, after, if track.probe { PAGE_ENTRIES_MAX } else { limit }))
    }

    pub(crate) fn next_due(&self, fetches_max: usize) -> Option<Instant> {
        if self.asked >= fetches_max { None } else { self.due.first().map(|(at, _)| *at) }
    }

    /// True if what lies after `after` was asked for, and the answer is still to come.
    pub(crate) fn is_asked(&self, conv: &ConvId, after: Seq) -> bool {
        self.tracks.get(conv).is_some_and(|track| track.fetch == Fetch::Asked(after))
    }

    /// The answer to a fetch. Whatever it holds, the position moves or the target falls to what exists: no endless asking.
    pub(crate) fn page(&mut self, conv: &ConvId, page: pb::Page, now: Instant) {
        let Some(after) = self.answered(conv) else { return };
        let Some(track) = self.tracks.get_mut(conv) else { return };
        let Some(position) = track.position else { return };
        track.probe = false;
        // Judged by what was asked for: pushes may have moved the position meanwhile.
        match page.entries.iter().map(|entry| entry.seq).filter(|seq| *seq > after).min() {
            // The first one is not there any more, or not for this user.
            Some(next) if next > position + 1 => self.skip(conv, next - 1),
            Some(_) => {}
            None if page.head > position => {
                let held = track.held.first_key_value().map_or(Seq::MAX, |(first, _)| first - 1);
                self.skip(conv, held.min(page.head));
            }
            // The target was a rumour.
            None => track.target = track.held.last_key_value().map_or(position, |(last, _)| *last).max(position),
        }
        let limit = self.limits.held_entries_max;
        self.limits.held_entries_max = usize::MAX; // A page leaves at once, whatever is held.
        for entry in page.entries {
            self.hold(conv, entry);
        }
        self.limits.held_entries_max = limit;
        self.head(conv, page.head, now);
    }

    /// The fetch failed for a passing reason: ask again at `at`.
    pub(crate) fn fetch_later(&mut self, conv: &ConvId, at: Instant) {
        if self.answered(conv).is_some() {
            self.advance(conv, at);
        }
    }

    /// Stops following `conv`.
    pub(crate) fn forget(&mut self, conv: &ConvId) {
        let Some(track) = self.tracks.remove(conv) else { return };
        self.held -= track.held.len();
        self.unplaced.remove(conv);
        match track.fetch {
            Fetch::Due(at) => drop(self.due.remove(&(at, conv.clone()))),
            Fetch::Asked(_) => self.asked -= 1,
            Fetch::None => {}
        }
    }

    fn answered(&mut self, conv: &ConvId) -> Option<Seq> {
        let track = self.tracks.get_mut(conv)?;
        let Fetch::Asked(after) = track.fetch else { return None };
        track.fetch = Fetch::None;
        self.asked -= 1;
        Some(after)
    }

    fn track(&mut self, conv: &ConvId) -> Option<&mut Track> {
        if !self.tracks.contains_key(conv) {
            if self.tracks.len() >= self.limits.conversations_max {
                return None;
            }
            let track = Track {
                position: None,
                target: 0,
                held: BTreeMap::new(),
                fetch: Fetch::None,
                probe: false,
                taken: 0,
                asked_once: false,
            };
            self.tracks.insert(conv.clone(), track);
        }
        self.tracks.get_mut(conv)
    }

    fn skip(&mut self, conv: &ConvId, to: Seq) {
        let Some(track) = self.tracks.get_mut(conv) else { return };
        let Some(position) = track.position else { return };
        if to > position {
            track.position = Some(to);
            self.shown.push_back(Shown::Skipped { conv: conv.clone(), from: position + 1, to });
        }
    }

    /// Shows what is in order, and plans a fetch at `at` if something is missing.
    fn advance(&mut self, conv: &ConvId, at: Instant) {
        let Some(track) = self.tracks.get(conv) else { return };
        let Some(position) = track.position else { return };
        let far = track.held.first_key_value().map_or(track.target, |(first, _)| *first);
        if far.saturating_sub(position) > self.limits.catch_up_entries_max && !matches!(track.fetch, Fetch::Asked(_)) {
            self.skip(conv, far - self.limits.catch_up_entries_max);
        }
        let Some(track) = self.tracks.get_mut(conv) else { return };
        let mut position = track.position.unwrap_or(position);
        while let Some(first) = track.held.first_entry() {
            if *first.key() > position + 1 {
                break;
            }
            let entry = first.remove();
            self.held -= 1;
            if entry.seq == position + 1 {
                position += 1;
                self.shown.push_back(Shown::Entry(conv.clone(), entry));
            }
        }
        track.position = Some(position);
        track.target = track.target.max(position);
        let missing = track.target > position || track.probe;
        match track.fetch {
            Fetch::None if missing => {
                track.fetch = Fetch::Due(at);
                self.due.insert((at, conv.clone()));
            }
            Fetch::Due(planned) if !missing || at < planned => {
                self.due.remove(&(planned, conv.clone()));
                track.fetch = if missing { Fetch::Due(at) } else { Fetch::None };
                if missing {
                    self.due.insert((at, conv.clone()));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: OrderLimits = OrderLimits {
        conversations_max: 4,
        held_entries_max: 4,
        catch_up_entries_max: 100,
        gap_grace: Duration::from_millis(100),
    };

    fn conv() -> ConvId {
        ConvId::new("c_a").expect("an id")
    }

    fn entry(seq: Seq) -> pb::Entry {
        pb::Entry { conv: "c_a".into(), seq, ..pb::Entry::default() }
    }

    fn page(seqs: &[Seq], head: Seq) -> pb::Page {
        pb::Page { conv: "c_a".into(), entries: seqs.iter().map(|seq| entry(*seq)).collect(), head }
    }

    /// Seqs shown, skipped ranges as negative ends.
    fn shown(order: &mut Order) -> Vec<i64> {
        let as_i64 = |seq: Seq| i64::try_from(seq).expect("small");
        std::iter::from_fn(|| order.poll())
            .flat_map(|shown| match shown {
                Shown::Entry(_, entry) => vec![as_i64(entry.seq)],
                Shown::Skipped { from, to, .. } => vec![-as_i64(from), -as_i64(to)],
            })
            .collect()
    }

    #[test]
    fn f23_entries_are_shown_once_and_in_order() {
        let (mut order, now) = (Order::new(LIMITS), Instant::now());
        order.place(&conv(), 0, now);
        for seq in [1, 1, 3, 2, 3, 4] {
            order.entry(&conv(), entry(seq), now);
        }
        assert_eq!(shown(&mut order), [1, 2, 3, 4]);
        assert!(order.is_whole(), "the gap closed by itself");
    }

    #[test]
    fn what_was_asked_before_a_conversation_was_forgotten_is_not_asked_any_more() {
        let (mut order, now) = (Order::new(LIMITS), Instant::now());
        order.place(&conv(), 4, now);
        order.head(&conv(), 6, now);
        assert_eq!(order.next_fetch(8, now), Some((conv(), 4, 2)));
        assert!(order.is_asked(&conv(), 4));
        order.forget(&conv());
        order.place(&conv(), 0, now);
        order.head(&conv(), 6, now);
        assert!(order.next_fetch(8, now).is_some());
        assert!(order.is_asked(&conv(), 0) && !order.is_asked(&conv(), 4), "entries 1 to 4 are still to come");
    }

    #[test]
    fn f23_a_gap_is_fetched_before_later_entries_are_shown() {
        let (mut order, now) = (Order::new(LIMITS), Instant::now());
        order.place(&conv(), 2, now);
        order.entry(&conv(), entry(6), now);
        assert_eq!(order.next_fetch(8, now), None, "a moment's grace");
        let later = now + LIMITS.gap_grace;
        assert_eq!(order.next_fetch(8, later), Some((conv(), 2, 3)));
        assert_eq!(order.next_fetch(8, later), None, "asked once");
        order.page(&conv(), page(&[3, 4], 6), later);
        assert_eq!(shown(&mut order), [3, 4]);
        assert_eq!(order.next_fetch(8, later), Some((conv(), 4, 1)), "a page may be cut short");
        order.page(&conv(), page(&[5], 7), later);
        assert_eq!(shown(&mut order), [5, 6]);
        assert_eq!(order.next_fetch(8, later), Some((conv(), 6, 1)), "the page told of a higher head");
        order.page(&conv(), page(&[7], 7), later);
        assert_eq!(shown(&mut order), [7]);
        assert!(order.is_whole());
    }

    #[test]
    fn asking_ends_whatever_the_pages_hold() {
        for (name, pages, want) in [
            ("the beginning is gone", vec![page(&[5, 6, 7, 8, 9], 9)], vec![-1, -4, 5, 6, 7, 8, 9]),
            ("nothing may be read", vec![page(&[], 9)], vec![-1, -9]),
            ("the head was a rumour", vec![page(&[1], 1), page(&[], 1)], vec![1]),
            ("the page repeats itself", vec![page(&[1], 9), page(&[1], 9)], vec![1, -2, -9]),
        ] {
            let (mut order, now) = (Order::new(LIMITS), Instant::now());
            order.place(&conv(), 0, now);
            order.head(&conv(), 9, now);
            let mut pages = pages.into_iter();
            while order.next_fetch(8, now).is_some() {
                order.page(&conv(), pages.next().expect(name), now);
            }
            assert_eq!(shown(&mut order), want, "{name}");
            assert!(order.is_whole(), "{name}");
        }
    }

    #[test]
    fn f23_a_page_overtaken_by_pushes_skips_nothing() {
        let (mut order, now) = (Order::new(LIMITS), Instant::now());
        order.place(&conv(), 0, now);
        order.head(&conv(), 5, now);
        assert_eq!(order.next_fetch(8, now), Some((conv(), 0, 5)));
        for seq in 1..=4 {
            order.entry(&conv(), entry(seq), now);
        }
        order.page(&conv(), page(&[1, 2, 3], 5), now);
        assert_eq!(shown(&mut order), [1, 2, 3, 4]);
        assert_eq!(order.next_fetch(8, now), Some((conv(), 4, 1)));
    }

    #[test]
    fn what_is_held_is_bounded_and_fetched_again() {
        let (mut order, now) = (Order::new(LIMITS), Instant::now());
        order.place(&conv(), 0, now);
        for seq in 2..=20 {
            order.entry(&conv(), entry(seq), now);
        }
        assert_eq!(order.held, 4);
        let later = now + LIMITS.gap_grace;
        assert_eq!(order.next_fetch(8, later), Some((conv(), 0, 1)));
        order.page(&conv(), page(&[1], 20), later);
        assert_eq!(shown(&mut order), [1, 2, 3, 4, 5]);
        assert_eq!(order.next_fetch(8, later), Some((conv(), 5, 15)));
    }

    #[test]
    fn a_long_absence_is_skipped_to_its_last_entries() {
        let (mut order, now) = (Order::new(LIMITS), Instant::now());
        order.place(&conv(), 10, now);
        order.head(&conv(), 1000, now);
        assert_eq!(shown(&mut order), [-11, -900]);
        assert_eq!(order.next_fetch(8, now), Some((conv(), 900, 100)));
    }

    #[test]
    fn entries_wait_until_it_is_known_where_to_begin() {
        let (mut order, now) = (Order::new(LIMITS), Instant::now());
        order.entry(&conv(), entry(5), now);
        assert_eq!(shown(&mut order), [0; 0]);
        assert!(order.unplaced().contains(&conv()) && !order.is_whole());
        order.place(&conv(), 3, now);
        assert_eq!(order.next_fetch(8, now), Some((conv(), 3, 1)));
        order.fetch_later(&conv(), now);
        assert_eq!(order.next_fetch(8, now), Some((conv(), 3, 1)), "asked again after a cut");
        order.forget(&conv());
        assert!(order.is_whole());
        assert_eq!((order.held, order.asked), (0, 0));
    }
}
