//! Appending, and reading where a conversation stands.
//!
//! Which partition an append goes to follows from its first seq alone, so that it is never split: the entries of one
//! append may reach over the end of their bucket, and the next bucket then begins above it. A bucket that reached its end
//! takes no more. So an entry is in the bucket of its seq, or, if it is one of the first
//! [`APPEND_ENTRIES_MAX`] of that, in the one before.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use prost::Message as _;
use roost_wire::pb::Kind;
use roost_wire::{ConvId, Seq};
use scylla::errors::SerializationError;
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::RowWriter;
use tokio::sync::MutexGuard;

use super::CqlStore;
use super::db::Failure;
use super::effects::{Effects, Hand, rank};
use super::known::Known;
use crate::{
    APPEND_ENTRIES_MAX, Append, Appended, CONFLICT_ENTRIES_MAX, ConvMeta, Member, Range, Result, Stamp, StoreError,
    rules,
};

/// Seqs of one bucket.
pub(super) const BUCKET_SEQS: Seq = 4096;
/// Looks at a conversation that moves while it is made good.
const LOOKS_MAX: usize = 4;

const _: () = assert!((APPEND_ENTRIES_MAX as u64) < BUCKET_SEQS, "an append reaches into one more bucket at most");

/// The bucket of an append whose first seq is `seq`.
pub(super) const fn bucket_of(seq: Seq) -> u64 {
    seq / BUCKET_SEQS
}

/// The first bucket that may have the entry `seq`.
pub(super) const fn first_bucket_of(seq: Seq) -> u64 {
    bucket_of((seq + 1).saturating_sub(APPEND_ENTRIES_MAX as u64))
}

/// Whether a bucket whose last seq is `head` takes no more.
pub(super) const fn is_closed(bucket: u64, head: Seq) -> bool {
    head + 1 >= (bucket + 1) * BUCKET_SEQS
}

type StaticCells = (
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i8>,
    Option<i64>,
    Option<String>,
    Option<bool>,
    Option<i64>,
);

/// The static cells of a partition.
#[derive(Clone, Debug)]
pub(super) struct Statics {
    head: Option<Seq>,
    stamp: Stamp,
    done: Option<Seq>,
    kind: i8,
    created_ms: u64,
    name: String,
    open: bool,
    tail: u64,
}

impl Statics {
    fn new(cells: StaticCells) -> Self {
        let (head, stamp, restamp, done, kind, created, name, open, tail) = cells;
        Self {
            head: head.map(|head| head as u64),
            stamp: stamp.max(restamp).unwrap_or(0) as u64,
            done: done.map(|done| done as u64),
            kind: kind.unwrap_or(0),
            created_ms: created.unwrap_or(0) as u64,
            name: name.unwrap_or_default(),
            open: open.unwrap_or(false),
            tail: tail.unwrap_or(0) as u64,
        }
    }
}

/// Where a conversation stands.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) meta: ConvMeta,
    /// The bucket of the head.
    pub(super) bucket: u64,
    /// The effects of an append were applied for this look.
    pub(super) repaired: bool,
}

/// Held by who appends to a conversation, or makes it good.
pub(super) type Turn<'a> = MutexGuard<'a, ()>;

/// Values of the statements of an append.
enum AppendRow<'a> {
    Head(i64, i64, &'a [u8], &'a str, i64, Option<i64>),
    Entry(&'a str, i64, i64, i64, &'a str, &'a str, Vec<u8>, i64),
}

impl SerializeRow for AppendRow<'_> {
    fn serialize(
        &self,
        context: &RowSerializationContext<'_>,
        writer: &mut RowWriter<'_>,
    ) -> Result<(), SerializationError> {
        match self {
            Self::Head(head, stamp, effects, conv, bucket, before) => {
                (head, stamp, effects, conv, bucket, before).serialize(context, writer)
            }
            Self::Entry(conv, bucket, seq, ts, from, cmid, body, batch) => {
                (conv, bucket, seq, ts, from, cmid, body, batch).serialize(context, writer)
            }
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}

impl CqlStore {
    /// Reads where `conv` stands; makes good what an append left undone. `None`: there is no such conversation.
    pub(super) async fn look(&self, conv: &ConvId) -> Result<Option<View>> {
        self.look_with(conv, None).await
    }

    /// As [`Self::look`], for one who has the turn.
    pub(super) async fn look_with(&self, conv: &ConvId, turn: Option<&Turn<'_>>) -> Result<Option<View>> {
        let (mut repaired, mut first) = (false, None);
        for _ in 0..LOOKS_MAX {
            let held = self.shared.memory.get(conv);
            let glanced = self.glance(conv).await?;
            if let Some(held) = held
                && glanced.as_ref().is_none_or(|(view, _)| view.meta.head < held.applied)
            {
                self.gone(conv, held.applied);
                continue;
            }
            let Some((mut view, done)) = glanced else { return Ok(None) };
            view.repaired = repaired;
            let known = self.shared.memory.get(conv);
            if done.max(known.map(|known| known.applied)) >= Some(view.meta.head) {
                self.note(conv, &view);
                return Ok(Some(view));
            }
            // Others go on appending: what was made good since this look began is all that had been answered by then.
            if let Some(known) = known.filter(|known| first.is_some_and(|first| known.applied >= first)) {
                view.bucket = known.bucket;
                (view.meta.head, view.meta.changed) = (known.applied, known.changed);
                return Ok(Some(view));
            }
            first.get_or_insert(view.meta.head);
            repaired |= match turn {
                Some(_) => self.make_good(conv, view.bucket).await?,
                None => {
                    let _turn = self.turn(conv).await;
                    self.make_good(conv, view.bucket).await?
                }
            };
        }
        Err(StoreError::Unavailable("a conversation moves too fast to be read".to_owned()))
    }

    /// The servers lost entries up to `applied`, which they had acknowledged: a single one without a durable commit log that
    /// crashed, or a restored backup. What is left is what counts, so nothing that was remembered does.
    fn gone(&self, conv: &ConvId, applied: Seq) {
        self.shared.db.metrics.losses.fetch_add(1, Relaxed);
        tracing::error!(%conv, applied, "the servers no longer have entries they acknowledged; going on with what they have");
        self.shared.memory.forget();
    }

    fn note(&self, conv: &ConvId, view: &View) {
        let known = Known { bucket: view.bucket, applied: view.meta.head, changed: view.meta.changed };
        self.shared.memory.note(conv, known);
    }

    /// Reads where `conv` stands, and up to where effects are noted as applied.
    async fn glance(&self, conv: &ConvId) -> Result<Option<(View, Option<Seq>)>> {
        let hint = self.shared.memory.get(conv).map_or(0, |known| known.bucket);
        let (first, at_hint) = if hint == 0 {
            (self.statics(conv, 0).await?, None)
        } else {
            let (first, at_hint) = tokio::try_join!(self.statics(conv, 0), self.statics(conv, hint))?;
            (first, Some(at_hint))
        };
        let Some(first) = first.filter(|first| first.head.is_some()) else { return Ok(None) };
        let mut bucket = hint.max(first.tail);
        let mut at = match at_hint {
            Some(at_hint) if bucket == hint => at_hint,
            _ if bucket == 0 => Some(first.clone()),
            _ => self.statics(conv, bucket).await?,
        };
        // The note of where the tail is may be one behind.
        while let Some(head) = at.as_ref().and_then(|at| at.head)
            && is_closed(bucket, head)
        {
            match self.statics(conv, bucket + 1).await? {
                Some(next) if next.head.is_some() => (bucket, at) = (bucket + 1, Some(next)),
                _ => break,
            }
        }
        let at = at.unwrap_or_else(|| first.clone());
        let head = at.head.ok_or_else(|| StoreError::Damaged(format!("bucket {bucket} of {conv} has no head")))?;
        let kind = Kind::try_from(i32::from(first.kind)).unwrap_or(Kind::Unspecified);
        let meta = ConvMeta {
            conv: conv.clone(),
            kind,
            name: first.name,
            open: first.open,
            created_ms: first.created_ms,
            head,
            changed: at.stamp,
        };
        Ok(Some((View { meta, bucket, repaired: false }, at.done)))
    }

    async fn statics(&self, conv: &ConvId, bucket: u64) -> Result<Option<Statics>> {
        let (store, asked) = (self.clone(), conv.clone());
        let read = move || {
            let (store, asked) = (store.clone(), asked.clone());
            async move {
                let db = &store.shared.db;
                let cells = db.row::<StaticCells>(&db.statements.statics, (asked.as_str(), bucket as i64)).await?;
                Ok(cells.map(Statics::new))
            }
        };
        let shared = &self.shared.db.metrics.shared_reads;
        self.shared.statics_reads.read((conv.clone(), bucket), shared, read).await
    }

    /// Applies the effects that the head of `bucket` carries, unless they are noted as applied. The caller has the turn.
    ///
    /// The read is serial: what it shows is decided, and stays.
    async fn make_good(&self, conv: &ConvId, bucket: u64) -> Result<bool> {
        type Cells = (Option<i64>, Option<i64>, Option<Vec<u8>>);
        let db = &self.shared.db;
        let cells = db.row::<Cells>(&db.statements.effects, (conv.as_str(), bucket as i64)).await?;
        let Some((Some(head), done, Some(blob))) = cells else { return Ok(false) };
        let known = self.shared.memory.get(conv).map(|known| known.applied as i64);
        if done.max(known) >= Some(head) {
            return Ok(false);
        }
        let (picked, stamp) = (Instant::now(), self.shared.clock.stamp());
        let effects = Effects::read(&blob)?.at(stamp);
        let seq = effects.seq;
        // Who only reads writes nothing that could be in doubt.
        let unavailable = |error| match error {
            StoreError::Unknown(why) => StoreError::Unavailable(why),
            other => other,
        };
        self.apply(conv, bucket, effects, Hand::Repair, picked).await.map_err(unavailable)?;
        let restamp = (stamp as i64, stamp as i64, conv.as_str(), bucket as i64);
        db.write(&db.statements.set_restamp, restamp).await.map_err(Failure::of_read)?;
        let done = (rank(seq + 1, Hand::First), seq as i64, conv.as_str(), bucket as i64);
        db.write(&db.statements.set_done, done).await.map_err(Failure::of_read)?;
        db.metrics.repairs.fetch_add(1, Relaxed);
        tracing::info!(%conv, seq, "applied the effects of an append that its writer had left");
        self.shared.memory.note(conv, Known { bucket, applied: seq, changed: stamp });
        Ok(true)
    }

    /// Makes a conversation.
    pub(super) async fn make(&self, meta: ConvMeta, members: Vec<Member>) -> Result<(ConvMeta, bool)> {
        rules::check_create(&meta, &members)?;
        let turn = self.turn(&meta.conv).await;
        if let Some(view) = self.look_with(&meta.conv, Some(&turn)).await? {
            return Ok((view.meta, false));
        }
        let picked = Instant::now();
        let stamp = self.shared.clock.stamp();
        let effects = Effects::of_making(&meta, &members, stamp);
        let blob = effects.encode_to_vec();
        let (conv, none) = (meta.conv.as_str(), None::<i64>);
        let values = ((stamp as i64, &blob, i32::from(meta.kind) as i8, meta.created_ms as i64, conv, none),);
        let db = &self.shared.db;
        let made = match db.conditional(&[&db.statements.create], values).await {
            Ok(made) => made,
            Err(failure) if !failure.sent => return Err(failure.of_write()),
            Err(failure) => {
                db.metrics.ambiguous.fetch_add(1, Relaxed);
                // The effects tell whose it is: they have the stamp, which no other node gives at the same microsecond
                // with the same members.
                type Cells = (Option<i64>, Option<i64>, Option<Vec<u8>>);
                let cells = db.row::<Cells>(&db.statements.effects, (conv, 0_i64)).await;
                match cells {
                    Ok(Some((Some(0), _, Some(stored)))) => stored == blob,
                    Ok(Some((Some(_), _, _))) => false,
                    _ => {
                        db.metrics.unknown.fetch_add(1, Relaxed);
                        return Err(failure.of_write());
                    }
                }
            }
        };
        if made {
            self.shared.faults.after_log().await?;
            self.apply(&meta.conv, 0, effects, Hand::First, picked).await.map_err(|error| match error {
                StoreError::Unavailable(why) => StoreError::Unknown(why),
                other => other,
            })?;
            self.applied(&meta.conv, 0, 0, stamp);
            return Ok((ConvMeta { head: 0, changed: stamp, ..meta }, true));
        }
        let view = self.look_with(&meta.conv, Some(&turn)).await?;
        let view = view.ok_or_else(|| StoreError::Unknown("a conversation is there and is not".to_owned()))?;
        Ok((view.meta, false))
    }

    /// Takes note that effects are applied, here at once and in the store soon.
    fn applied(&self, conv: &ConvId, bucket: u64, seq: Seq, stamp: Stamp) {
        self.shared.memory.note(conv, Known { bucket, applied: seq, changed: stamp });
        self.shared.notes.push(conv, bucket, seq, &self.shared.db.metrics);
    }

    pub(super) async fn append_batch(&self, append: Append) -> Result<Appended> {
        rules::check_append(&append)?;
        let turn = self.turn(&append.conv).await;
        let before = append.expected - 1;
        let mut known = self.shared.memory.get(&append.conv);
        if known.is_none_or(|known| known.applied < before) {
            let view = self.look_with(&append.conv, Some(&turn)).await?.ok_or(StoreError::NoConversation)?;
            known = Some(Known { bucket: view.bucket, applied: view.meta.head, changed: view.meta.changed });
        }
        // What is known may be forgotten, never lowered.
        let known = known.ok_or(StoreError::NoConversation)?;
        if known.applied != before {
            drop(turn);
            return self.conflict(&append).await;
        }
        let bucket = bucket_of(append.expected);
        let opens_bucket = bucket != known.bucket;
        if opens_bucket && !(bucket == known.bucket + 1 && is_closed(known.bucket, before)) {
            return Err(StoreError::Damaged(format!("{} ends at {before} in bucket {}", append.conv, known.bucket)));
        }
        let picked = Instant::now();
        let stamp = self.shared.clock.stamp().max(known.changed + 1);
        let last = before + append.entries.len() as u64;
        let effects = Effects::of_append(&append, last, stamp, opens_bucket);
        if !self.propose(&append, bucket, opens_bucket, &effects).await? {
            drop(turn);
            return self.conflict(&append).await;
        }
        self.shared.faults.after_log().await?;
        self.apply(&append.conv, bucket, effects, Hand::First, picked).await.map_err(|error| match error {
            StoreError::Unavailable(why) => StoreError::Unknown(why),
            other => other,
        })?;
        self.shared.db.metrics.entries.fetch_add(append.entries.len() as u64, Relaxed);
        self.applied(&append.conv, bucket, last, stamp);
        Ok(Appended::Stored { stamp })
    }

    /// One round of consensus. Whether the entries are in the log; `false`: another append has their seqs.
    async fn propose(&self, append: &Append, bucket: u64, opens_bucket: bool, effects: &Effects) -> Result<bool> {
        let db = &self.shared.db;
        let batch: i64 = rand::random();
        let (conv, bucket_cell, blob) = (append.conv.as_str(), bucket as i64, effects.encode_to_vec());
        let before = (!opens_bucket).then_some(append.expected as i64 - 1);
        let mut statements = vec![&db.statements.append_head];
        statements.resize(1 + append.entries.len(), &db.statements.append_entry);
        let head = AppendRow::Head(effects.seq as i64, effects.stamp as i64, &blob, conv, bucket_cell, before);
        let mut rows = vec![head];
        for entry in &append.entries {
            let (seq, ts) = (entry.seq as i64, entry.ts_ms as i64);
            let body = entry.body.encode_to_vec();
            rows.push(AppendRow::Entry(conv, bucket_cell, seq, ts, entry.from.as_str(), &entry.cmid, body, batch));
        }
        let faults = &self.shared.faults;
        let sent = if faults.loses_request() { Err(Failure::lost()) } else { db.conditional(&statements, &rows).await };
        match if faults.loses_answer() { Err(Failure::lost()) } else { sent } {
            Ok(true) => Ok(true),
            Err(failure) if !failure.sent => Err(failure.of_write()),
            other => self.decide(append, bucket, batch, other.err()).await,
        }
    }

    /// Finds out what became of a batch that was not applied, or of which there was no answer.
    async fn decide(&self, append: &Append, bucket: u64, batch: i64, failure: Option<Failure>) -> Result<bool> {
        let db = &self.shared.db;
        let Some(failure) = failure else {
            // A condition that failed is an answer: requests of this kind are sent once.
            return Ok(false);
        };
        db.metrics.ambiguous.fetch_add(1, Relaxed);
        tracing::warn!(conv = %append.conv, expected = append.expected, kind = failure.kind.label(), "an append without an answer");
        let values = (append.conv.as_str(), bucket as i64, append.expected as i64);
        let found = db.row::<(Option<i64>, Option<i64>)>(&db.statements.append_of, values).await;
        match found {
            Ok(Some((_, Some(found)))) => Ok(found == batch),
            // Not there: but the servers may still be at it.
            Ok(_) | Err(_) => {
                db.metrics.unknown.fetch_add(1, Relaxed);
                Err(failure.of_write())
            }
        }
    }

    /// The answer to an append that met another head.
    async fn conflict(&self, append: &Append) -> Result<Appended> {
        self.shared.db.metrics.conflicts.fetch_add(1, Relaxed);
        let view = self.look(&append.conv).await?.ok_or(StoreError::NoConversation)?;
        let mut head = view.meta.head;
        let mut tail = Vec::new();
        if append.expected <= head + 1 {
            tail = self.read_range(&append.conv, Range::After(append.expected - 1), CONFLICT_ENTRIES_MAX).await?;
            // Somebody won the seq, and it cannot be seen yet.
            let last = tail.last().ok_or_else(|| StoreError::Unknown("another append is being decided".to_owned()))?;
            head = head.max(last.seq);
        }
        Ok(Appended::Conflict { tail, head })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_in_the_bucket_of_its_seq_or_in_the_one_before() {
        let reach = APPEND_ENTRIES_MAX as u64;
        for first in [1, 4095, 4096, 4097, 8191, 3 * BUCKET_SEQS - 1] {
            for seq in first..first + reach {
                let bucket = bucket_of(first);
                assert!((first_bucket_of(seq)..=bucket_of(seq)).contains(&bucket), "{first} {seq}");
            }
        }
        assert_eq!((first_bucket_of(1), first_bucket_of(4096 + 254), first_bucket_of(4096 + 255)), (0, 0, 1));
    }

    #[test]
    fn a_bucket_is_closed_when_the_next_seq_belongs_to_the_next() {
        for (bucket, head, closed) in
            [(0, 0, false), (0, 4094, false), (0, 4095, true), (0, 4300, true), (1, 8190, false)]
        {
            assert_eq!(is_closed(bucket, head), closed, "{bucket} {head}");
            assert_eq!(bucket_of(head + 1) > bucket, closed);
        }
    }
}
