//! Reading the log and the members.

use futures_util::stream::{StreamExt as _, TryStreamExt as _};
use prost::Message as _;
use roost_wire::pb::{Body, Role};
use roost_wire::{ConvId, Seq};

use super::effects::user_id;
use super::log::{bucket_of, first_bucket_of, is_closed};
use super::{CqlStore, READS_AT_ONCE};
use crate::{Entry, Member, Range, Result, StoreError};

/// Entries of one request.
const PAGE_ENTRIES: usize = 256;

type EntryCells = (i64, i64, String, String, Vec<u8>, Option<i64>, Option<i64>);

/// Entries of one bucket, in the order asked for, with the bucket's head and note.
struct Page {
    entries: Vec<Entry>,
    head: Option<Seq>,
    done: Option<Seq>,
}

impl CqlStore {
    /// Entries in rising order. Effects of what is returned are applied.
    pub(super) async fn read_range(&self, conv: &ConvId, range: Range, limit: usize) -> Result<Vec<Entry>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        match range {
            Range::After(seq) => self.read_after(conv, seq, limit).await,
            Range::Before(seq) => self.read_before(conv, seq, limit).await,
        }
    }

    async fn read_after(&self, conv: &ConvId, after: Seq, limit: usize) -> Result<Vec<Entry>> {
        let Some(first) = after.checked_add(1).filter(|first| *first <= i64::MAX as u64) else { return Ok(Vec::new()) };
        let mut log: Vec<Entry> = Vec::new();
        let mut bucket = first_bucket_of(first);
        while log.len() < limit {
            let at = log.last().map_or(after, |last| last.seq);
            let count = PAGE_ENTRIES.min(limit - log.len());
            let mut page = self.page(conv, bucket, Range::After(at), count, false).await?;
            // Servers may have the head of an append before they have its entries, until the round is finished.
            if page.entries.first().is_some_and(|entry| entry.seq != at + 1) || is_short(&page, count) {
                page = self.page(conv, bucket, Range::After(at), count, true).await?;
            }
            if page.entries.first().is_some_and(|entry| entry.seq != at + 1) || has_gap(&page.entries) {
                return Err(StoreError::Damaged(format!("{conv} has a gap after {at}")));
            }
            self.settle_page(conv, bucket, &page).await?;
            let (got, head) = (page.entries.len(), page.head);
            log.extend(page.entries);
            if got == count {
                continue;
            }
            // This bucket has no more: the next may, if this one is full, or if it was only tried as the one before.
            let next = log.last().map_or(after, |last| last.seq) + 1;
            let closed = head.is_some_and(|head| is_closed(bucket, head));
            if !closed && (got > 0 || bucket >= bucket_of(next)) {
                break;
            }
            bucket += 1;
        }
        Ok(log)
    }

    async fn read_before(&self, conv: &ConvId, before: Seq, limit: usize) -> Result<Vec<Entry>> {
        if before <= 1 {
            return Ok(Vec::new());
        }
        let known = self.shared.memory.get(conv).map(|known| known.bucket);
        let mut bucket = bucket_of(before - 1);
        if known.is_none_or(|known| bucket > known) && bucket > 0 {
            let Some(view) = self.look(conv).await? else { return Ok(Vec::new()) };
            bucket = bucket.min(view.bucket);
        }
        let mut log: Vec<Entry> = Vec::new();
        while log.len() < limit {
            let at = log.last().map_or(before, |last| last.seq);
            let count = PAGE_ENTRIES.min(limit - log.len());
            let mut page = self.page(conv, bucket, Range::Before(at), count, false).await?;
            let top = page.head.map_or(at, |head| at.min(head.saturating_add(1)));
            if page.entries.first().is_some_and(|entry| entry.seq + 1 != top) {
                page = self.page(conv, bucket, Range::Before(at), count, true).await?;
            }
            let below = log.last().is_some_and(|_| page.entries.first().is_some_and(|entry| entry.seq + 1 != at));
            if below || has_gap(&page.entries) {
                return Err(StoreError::Damaged(format!("{conv} has a gap before {at}")));
            }
            self.settle_page(conv, bucket, &page).await?;
            let got = page.entries.len();
            log.extend(page.entries);
            if got == count {
                continue;
            }
            match bucket.checked_sub(1) {
                Some(lower) => bucket = lower,
                None => break,
            }
        }
        log.reverse();
        Ok(log)
    }

    /// One request. `serial` finishes what is being decided, and sees it.
    async fn page(&self, conv: &ConvId, bucket: u64, range: Range, count: usize, serial: bool) -> Result<Page> {
        let (db, to) = (&self.shared.db, &self.shared.db.statements);
        let (statement, seq) = match (range, serial) {
            (Range::After(seq), false) => (&to.after, seq),
            (Range::After(seq), true) => (&to.after_serial, seq),
            (Range::Before(seq), false) => (&to.before, seq),
            (Range::Before(seq), true) => (&to.before_serial, seq),
        };
        let seq = i64::try_from(seq).unwrap_or(i64::MAX);
        let cells = db.rows::<EntryCells>(statement, (conv.as_str(), bucket as i64, seq, count as i32)).await?;
        let (head, done) = cells.first().map_or((None, None), |first| (first.5, first.6));
        let entries = cells.into_iter().map(|cells| entry(conv, cells)).collect::<Result<_>>()?;
        Ok(Page { entries, head: head.map(|head| head as u64), done: done.map(|done| done as u64) })
    }

    /// Sees to it that what `page` shows can be found by all other ways.
    async fn settle_page(&self, conv: &ConvId, bucket: u64, page: &Page) -> Result<()> {
        let newest = page.entries.iter().map(|entry| entry.seq).max();
        let known = self.shared.memory.get(conv).map(|known| known.applied);
        if newest > page.done.max(known)
            && page.head.is_some_and(|head| !is_closed(bucket, head) || newest == Some(head))
        {
            self.look(conv).await?;
        }
        Ok(())
    }

    /// The last entry of each conversation.
    pub(super) async fn read_last(&self, convs: &[ConvId]) -> Result<Vec<Option<Entry>>> {
        futures_util::stream::iter(convs.to_vec())
            .map(|conv| async move {
                let bucket = self.shared.memory.get(&conv).map_or(0, |known| known.bucket);
                let page = self.page(&conv, bucket, Range::Before(i64::MAX as u64), 1, false).await?;
                let sure = match page.head {
                    Some(head) => !is_closed(bucket, head) && page.entries.first().is_some_and(|last| last.seq == head),
                    None => bucket == 0,
                };
                if sure {
                    self.settle_page(&conv, bucket, &page).await?;
                    return Ok(page.entries.into_iter().next());
                }
                let Some(view) = self.look(&conv).await? else { return Ok(None) };
                let last = self.read_range(&conv, Range::Before(view.meta.head + 1), 1).await?;
                Ok(last.into_iter().next())
            })
            .buffered(READS_AT_ONCE)
            .try_collect()
            .await
    }

    /// The members of `conv`, by user id.
    pub(super) async fn read_members(&self, conv: &ConvId) -> Result<Vec<Member>> {
        let read = || async {
            let (store, asked) = (self.clone(), conv.clone());
            let read = move || {
                let (store, asked) = (store.clone(), asked.clone());
                async move {
                    let db = &store.shared.db;
                    db.all_rows::<(String, Option<i8>)>(&db.statements.members, (asked.as_str(),)).await
                }
            };
            self.shared.members_reads.read(conv.clone(), &self.shared.db.metrics.shared_reads, read).await
        };
        let (view, mut cells) = tokio::try_join!(self.look(conv), read())?;
        if view.is_some_and(|view| view.repaired) {
            cells = read().await?;
        }
        let mut members = Vec::with_capacity(cells.len());
        for (user, role) in cells {
            if let Some(role) = role_of(role.unwrap_or(0))? {
                members.push(Member { user: user_id(&user)?, role });
            }
        }
        members.sort_unstable_by(|a, b| a.user.cmp(&b.user));
        Ok(members)
    }
}

/// Whether `page` ends before the head that it shows, though there was room.
fn is_short(page: &Page, count: usize) -> bool {
    page.entries.len() < count && page.entries.last().is_some_and(|last| page.head.is_some_and(|head| last.seq < head))
}

fn has_gap(entries: &[Entry]) -> bool {
    entries.windows(2).any(|pair| pair[0].seq.abs_diff(pair[1].seq) != 1)
}

/// `None` for one who has left.
pub(super) fn role_of(cell: i8) -> Result<Option<Role>> {
    match Role::try_from(i32::from(cell)) {
        Ok(Role::Unspecified) => Ok(None),
        Ok(role) => Ok(Some(role)),
        Err(_) => Err(StoreError::Damaged(format!("role {cell}"))),
    }
}

fn entry(conv: &ConvId, cells: EntryCells) -> Result<Entry> {
    let (seq, ts, from, cmid, body, _, _) = cells;
    let damaged = |error: prost::DecodeError| StoreError::Damaged(format!("entry {seq} of {conv}: {error}"));
    Ok(Entry {
        seq: seq as u64,
        ts_ms: ts as u64,
        from: user_id(&from)?,
        cmid,
        body: Body::decode(body.as_slice()).map_err(damaged)?,
    })
}
