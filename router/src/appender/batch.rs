//! SENDs that met at a conversation: checked, told apart from resends, appended as one batch, answered and pushed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use roost_storage::{Append, Entry, IndexUpdate, Range, Store};
use roost_wire::{ErrorCode, Seq, UserId, pb};
use tokio::time::Instant;

use super::dedup::Recent;
use super::propose::{ROUNDS_MAX, Tried};
use super::queue::{Came, Sending};
use crate::conversation::{Conversation, Loaded};
use crate::fanout::Telling;
use crate::outbox::Outbox;
use crate::{Bus, Downstream, Env, Router};

/// Entries read at once on behalf of a resend.
const RESEND_READ_ENTRIES: usize = 256;

/// A first try that took this long from its coming to a look at its conversation, which had to be read for it, is looked
/// for in the log like a resend. No client sends again and lets so much else be appended sooner.
const OVERTAKEN_AFTER: Duration = Duration::from_millis(100);
/// A first try that was held up this long is not appended any more, but told to be sent again. By now its client may
/// have sent it through another node and been refused there for good, by what held then; a resend is judged anew by both.
const EXPIRED_AFTER: Duration = Duration::from_secs(2);

/// A SEND that is not answered yet.
struct Pending {
    send: Sending,
    key: u128,
    print: u64,
}

/// What is known of a SEND before it is appended.
enum Verdict {
    /// New, as far as memory shows.
    New,
    /// An earlier try may lie above this seq, where memory does not reach.
    Look(Seq),
    /// Done.
    Answer(Result<pb::Sent, pb::Error>),
}

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// Appends `sends` to `conv`; answers each, pushes the entries.
    pub(crate) async fn append_sends(&self, conv: &Arc<Conversation>, sends: Vec<Sending>) {
        let mut pending: Vec<Pending> = sends.into_iter().map(|send| self.pending(send)).collect();
        // The seq from which on an entry may be of a try of ours whose outcome was unknown.
        let mut doubt_from: Option<Seq> = None;
        let mut give_up = ErrorCode::Overloaded;
        let began = self.check_begins().at;
        for _ in 0..ROUNDS_MAX {
            let mut out = Outbox::default();
            if let Err(error) = self.load_for(conv, &pending, began).await {
                give_up = ErrorCode::from_number(error.code).unwrap_or(ErrorCode::Internal);
                break;
            }
            self.answer_known(conv, &mut pending, doubt_from, &mut out).await;
            out.flush(&*self.down);
            if pending.is_empty() {
                return;
            }
            if let Err(code) = self.give_birth(conv).await {
                give_up = code;
                break;
            }
            let Some(append) = self.draft(conv, &pending) else { continue };
            let expected = append.expected;
            let mut doubt = doubt_from.is_some();
            let ts_ms = append.entries[0].ts_ms;
            let except = |entry: &Entry| self.session_of(&pending, entry);
            let tried = self.propose(conv, append, &mut doubt, except).await;
            if doubt {
                doubt_from.get_or_insert(expected);
            }
            match tried {
                Tried::Stored => {
                    self.stored(conv, &mut pending, expected, ts_ms);
                    if pending.is_empty() {
                        return;
                    }
                }
                Tried::Moved => {}
                Tried::Failed(error) => {
                    give_up = ErrorCode::from_number(error.code).unwrap_or(ErrorCode::Internal);
                    break;
                }
                Tried::Doubt => break,
            }
        }
        let mut out = Outbox::default();
        for Pending { send, .. } in pending {
            let error = match doubt_from {
                Some(_) => ErrorCode::Unknown.error(),
                None => send.refusal(give_up),
            };
            self.metrics.errors.add(1);
            send.origin.answer(Err(error), &mut out);
        }
        if doubt_from.is_some() {
            self.in_doubt(conv);
        }
        out.flush(&*self.down);
    }

    /// Loads `conv`. Before a sender is refused the store is asked whether it joined on another node.
    async fn load_for(&self, conv: &Arc<Conversation>, pending: &[Pending], began: Instant) -> Result<(), pb::Error> {
        self.load(conv).await?;
        if self.is_alone() {
            return Ok(());
        }
        let stranger =
            |loaded: &Loaded, one: &Pending| !one.send.publish && loaded.roster.role(&one.send.from).is_none();
        let refused = conv.peek(|loaded| !loaded.is_channel() && pending.iter().any(|one| stranger(loaded, one)));
        if refused == Some(true) { self.load_since(conv, began).await } else { Ok(()) }
    }

    fn pending(&self, send: Sending) -> Pending {
        let key = self.fingerprints.key(&send.from, &send.cmid);
        Pending { key, print: self.fingerprints.body(&send.body), send }
    }

    fn session_of(&self, pending: &[Pending], entry: &Entry) -> Option<roost_wire::link::SessionKey> {
        let key = self.fingerprints.key(&entry.from, &entry.cmid);
        let sender = &pending.iter().find(|pending| pending.key == key)?.send;
        if sender.publish { None } else { sender.origin.session() }
    }

    /// Answers and removes those that need no append: refused ones, and resends of what is in the log.
    async fn answer_known(
        &self,
        conv: &Arc<Conversation>,
        pending: &mut Vec<Pending>,
        doubt_from: Option<Seq>,
        out: &mut Outbox,
    ) {
        let resend_max = self.config.resend_entries_max as u64;
        let mut verdicts: Vec<Verdict> = conv
            .peek(|loaded| pending.iter().map(|one| judge(loaded, one, doubt_from, resend_max)).collect())
            .unwrap_or_default();
        let looks = |verdict: &Verdict| matches!(verdict, Verdict::Look(_));
        if verdicts.iter().any(looks) {
            self.look_back(conv, pending, &mut verdicts).await;
            // What was not found was not stored.
            conv.peek(|loaded| {
                let left = verdicts.iter_mut().zip(pending.iter()).filter(|(verdict, _)| looks(verdict));
                left.filter(|(_, one)| is_stranger(loaded, &one.send)).for_each(|(verdict, _)| *verdict = not_member());
            });
        }
        let mut verdicts = verdicts.into_iter();
        let mut kept = Vec::with_capacity(pending.len());
        for one in pending.drain(..) {
            match verdicts.next() {
                Some(Verdict::Answer(answer)) => {
                    match &answer {
                        Ok(_) => self.metrics.duplicates.add(1),
                        Err(_) => self.metrics.errors.add(1),
                    }
                    one.send.origin.answer(answer, out);
                }
                _ => kept.push(one),
            }
        }
        *pending = kept;
    }

    /// Reads the log where earlier tries may lie, once for all that need it.
    async fn look_back(&self, conv: &Arc<Conversation>, pending: &[Pending], verdicts: &mut [Verdict]) {
        let above = conv.peek(|loaded| loaded.recents.above()).unwrap_or(0);
        let reach = above.saturating_sub(self.config.resend_seen_entries_max as u64);
        let mut from = above;
        let mut sought: HashMap<u128, SmallPlaces> = HashMap::new();
        for (place, verdict) in verdicts.iter_mut().enumerate() {
            match *verdict {
                Verdict::Look(floor) if floor < reach => {
                    let error = ErrorCode::Unknown.because("sent too long ago to be found: look in HISTORY");
                    *verdict = Verdict::Answer(Err(error));
                }
                Verdict::Look(floor) => {
                    from = from.min(floor);
                    sought.entry(pending[place].key).or_default().push(place);
                }
                _ => {}
            }
        }
        while from < above && !sought.is_empty() {
            self.metrics.resend_reads.add(1);
            let limit = RESEND_READ_ENTRIES.min((above - from) as usize);
            let Ok(page) = self.read(self.store.range(&conv.id, Range::After(from), limit)).await else {
                for place in sought.into_values().flatten() {
                    verdicts[place] = Verdict::Answer(Err(ErrorCode::Unknown.error()));
                }
                return;
            };
            let Some(last) = page.last() else { return };
            from = last.seq;
            for recent in page.iter().map(|entry| self.fingerprints.recent(entry)) {
                for place in sought.remove(&recent.key).into_iter().flatten() {
                    let sent = sent(conv.id.as_str(), recent.seq, recent.ts_ms, true);
                    let same = recent.body == pending[place].print;
                    verdicts[place] = Verdict::Answer(if same { Ok(sent) } else { Err(cmid_conflict()) });
                }
            }
        }
    }

    /// Makes the channel on its first publish.
    async fn give_birth(&self, conv: &Conversation) -> Result<(), ErrorCode> {
        let unborn = conv.peek(|loaded| (!loaded.exists).then(|| loaded.meta.clone())).flatten();
        let Some(meta) = unborn else { return Ok(()) };
        match self.write(self.store.create(meta, Vec::new())).await {
            Ok(_) => {
                conv.peek(|loaded| loaded.exists = true);
                Ok(())
            }
            // Whether the channel exists or not, nothing was said in it.
            Err(error) if error.code == ErrorCode::Unknown.number() => Err(ErrorCode::Unavailable),
            Err(error) => Err(ErrorCode::from_number(error.code).unwrap_or(ErrorCode::Internal)),
        }
    }

    /// The append of all that is pending; of several with the same cmid only the first, the others meet it then.
    fn draft(&self, conv: &Conversation, pending: &[Pending]) -> Option<Append> {
        let now_ms = self.env.now_ms();
        conv.peek(|loaded| {
            let expected = loaded.meta.head + 1;
            let entries: Vec<Entry> = firsts(pending)
                .zip(expected..)
                .map(|(one, seq)| Entry {
                    seq,
                    ts_ms: now_ms,
                    from: one.send.from.clone(),
                    cmid: one.send.cmid.clone(),
                    body: one.send.body.clone(),
                })
                .collect();
            Append {
                conv: conv.id.clone(),
                expected,
                index: self.index_updates(loaded, &entries),
                entries,
                members: Vec::new(),
                name: None,
                open: None,
            }
        })
    }

    /// The index rows that `entries` raise: of every member of a small conversation, of the senders in a larger one.
    /// What one sends one has read.
    pub(crate) fn index_updates(&self, loaded: &Loaded, entries: &[Entry]) -> Vec<IndexUpdate> {
        let Some(last) = entries.last().map(|entry| entry.seq) else { return Vec::new() };
        let sent = |user: &UserId| entries.iter().rev().find(|entry| entry.from == *user).map(|entry| entry.seq);
        let update = |user: &UserId| IndexUpdate { user: user.clone(), head: Some(last), read: sent(user) };
        if loaded.is_channel() {
            return Vec::new();
        }
        if loaded.roster.len() <= self.config.index_threshold {
            return loaded.roster.users().map(update).collect();
        }
        let senders: BTreeSet<&UserId> = entries.iter().map(|entry| &entry.from).collect();
        senders.into_iter().map(update).collect()
    }

    /// After the append: moves the head in memory, answers the senders, pushes the entries.
    fn stored(&self, conv: &Arc<Conversation>, pending: &mut Vec<Pending>, expected: Seq, ts_ms: u64) {
        let mut done = HashSet::with_capacity(pending.len());
        let mut later = Vec::new();
        let mut recents = Vec::with_capacity(pending.len());
        let mut posted = Vec::new();
        let mut tellings = Vec::with_capacity(pending.len());
        for one in pending.drain(..) {
            if !done.insert(one.key) {
                later.push(one);
                continue;
            }
            let Pending { send, key, print } = one;
            let seq = expected + tellings.len() as u64;
            recents.push((send.from.clone(), Recent { key, body: print, seq, ts_ms }));
            let except = if send.publish { None } else { send.origin.session() };
            let sent = sent(conv.id.as_str(), seq, ts_ms, false);
            let entry = Entry { seq, ts_ms, from: send.from, cmid: send.cmid, body: send.body };
            if !self.is_alone() {
                posted.push(entry.clone());
            }
            tellings.push(Telling { entry, except, sent: Some((send.origin, sent)) });
        }
        *pending = later;
        self.advance(conv, recents);
        let mut out = Outbox::default();
        self.tell_all(conv, tellings, &mut out);
        out.flush(&*self.down);
        self.post_entries(conv, &posted);
    }

    /// Moves the head in memory over entries that were stored, in order.
    pub(crate) fn advance(&self, conv: &Conversation, entries: Vec<(UserId, Recent)>) {
        let mut state = conv.state.lock();
        state.told = entries.last().map(|(_, last)| last.seq).or(state.told);
        if let Some(told) = state.told {
            state.decided(told);
        }
        let Some(loaded) = state.loaded.as_deref_mut() else { return };
        for (from, recent) in entries {
            loaded.recents.push(recent);
            loaded.meta.head = recent.seq;
            if let Some((_, read)) = loaded.marks.get_mut(&from) {
                *read = recent.seq;
            }
        }
        loaded.recents.trim(self.config.recent_entries_max);
    }
}

type SmallPlaces = smallvec::SmallVec<[usize; 1]>;

/// Those that are the first of their cmid.
fn firsts(pending: &[Pending]) -> impl Iterator<Item = &Pending> {
    let mut keys = HashSet::with_capacity(pending.len());
    pending.iter().filter(move |one| keys.insert(one.key))
}

fn judge(loaded: &Loaded, one: &Pending, doubt_from: Option<Seq>, resend_max: u64) -> Verdict {
    let send = &one.send;
    if send.publish != loaded.is_channel() {
        return Verdict::Answer(Err(ErrorCode::WrongKind.error()));
    }
    if let Some(earlier) = loaded.recents.find(one.key) {
        if earlier.body != one.print {
            return Verdict::Answer(Err(cmid_conflict()));
        }
        let ours = doubt_from.is_some_and(|from| earlier.seq >= from);
        return Verdict::Answer(Ok(sent(loaded.meta.conv.as_str(), earlier.seq, earlier.ts_ms, !ours)));
    }
    // An earlier try may have been stored while the sender was a member: that is looked for before anybody is refused.
    let unseen = || if is_stranger(loaded, send) { not_member() } else { Verdict::New };
    // After a doubt a try of ours may have got in since; above the head as it was then it can only be that one.
    let floor = match (send.attempt, doubt_from) {
        (0, None) => match send.came {
            None => return unseen(),
            Some(Came { since, .. }) if since.elapsed() >= EXPIRED_AFTER => {
                return Verdict::Answer(Err(ErrorCode::Unknown.because("held up for too long: send it again")));
            }
            // On its way in it may have been overtaken by a resend through another node.
            Some(Came { head: Some(head), .. }) => head,
            Some(Came { since, .. }) if since.elapsed() < OVERTAKEN_AFTER => return unseen(),
            Some(_) => loaded.meta.head.saturating_sub(resend_max),
        },
        (0, Some(from)) => from - 1,
        _ => send.seen.unwrap_or_else(|| loaded.meta.head.saturating_sub(resend_max)),
    };
    if floor < loaded.recents.above() { Verdict::Look(floor) } else { unseen() }
}

/// Whether the sender may not write here.
fn is_stranger(loaded: &Loaded, send: &Sending) -> bool {
    !send.publish && loaded.roster.role(&send.from).is_none()
}

fn not_member() -> Verdict {
    Verdict::Answer(Err(ErrorCode::NotMember.error()))
}

fn sent(conv: &str, seq: Seq, ts: u64, dup: bool) -> pb::Sent {
    pb::Sent { conv: conv.to_owned(), seq, ts, dup }
}

fn cmid_conflict() -> pb::Error {
    ErrorCode::CmidConflict.error()
}
