//! Index rows: what SYNC reads, and the marks.
//!
//! A user's rows are one partition, which is read whole and sorted here: a row of some hundred bytes per conversation, so
//! that a user with 10 000 conversations costs a megabyte per SYNC. A list kept in order of change would cost a deletion per
//! message, and servers read slowly past deletions.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::stream::TryStreamExt as _;
use roost_wire::{ConvId, Seq, UserId};
use scylla::DeserializeRow;

use super::db::Failure;
use super::effects::{Hand, distance, rank};
use super::read::role_of;
use super::{CqlStore, WRITES_AT_ONCE};
use crate::{IndexPage, IndexRow, Mark, Result, Stamp, StoreError};

/// The cells of a row. One without a role was never made: marks of it are of no account.
#[derive(Clone, Debug, DeserializeRow)]
pub(super) struct StoredRow {
    conv: String,
    head: Option<i64>,
    head_at: Option<i64>,
    read: Option<i64>,
    read_at: Option<i64>,
    delivered: Option<i64>,
    role: Option<i8>,
    role_at: Option<i64>,
}

/// The newest of stamps as they are stored.
fn newest<const CELLS: usize>(cells: [Option<i64>; CELLS]) -> Stamp {
    cells.into_iter().flatten().min().map_or(0, |distance| (i64::MAX - distance) as u64)
}

impl StoredRow {
    pub(super) const fn role_cell(&self) -> Option<i8> {
        self.role
    }

    fn row(self) -> Result<Option<IndexRow>> {
        let Some(role) = self.role else { return Ok(None) };
        let seq = |cell: Option<i64>| cell.unwrap_or(0) as u64;
        Ok(Some(IndexRow {
            conv: ConvId::new(&self.conv)
                .map_err(|error| StoreError::Damaged(format!("conversation {:?}: {error}", self.conv)))?,
            head: seq(self.head),
            read: seq(self.read),
            delivered: seq(self.delivered),
            role: role_of(role)?,
            changed: newest([self.head_at, self.read_at, self.role_at]),
        }))
    }
}

impl CqlStore {
    /// The rows of `users` in `conv`, each as of a moment of its own.
    pub(super) async fn read_rows(&self, conv: &ConvId, users: &[UserId]) -> Result<Vec<Option<IndexRow>>> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let (view, mut cells) = tokio::try_join!(self.look(conv), self.stored_rows(conv, users))?;
        if view.is_some_and(|view| view.repaired) {
            cells = self.stored_rows(conv, users).await?;
        }
        cells.into_iter().map(|cells| cells.map_or(Ok(None), StoredRow::row)).collect()
    }

    pub(super) async fn read_index(&self, user: &UserId, since: Stamp, limit: usize) -> Result<IndexPage> {
        // Before the read: what lands while it goes on has a higher stamp.
        let settled = self.shared.clock.settled();
        let db = &self.shared.db;
        let cells = db.all_rows::<StoredRow>(&db.statements.rows_of, (user.as_str(),)).await?;
        let mut rows = Vec::with_capacity(cells.len());
        for cells in cells {
            rows.extend(cells.row()?);
        }
        Ok(page(rows, since, limit, settled))
    }

    pub(super) async fn read_last_change(&self, user: &UserId) -> Result<Stamp> {
        type Cells = (Option<i64>, Option<i64>, Option<i8>, Option<i64>);
        let db = &self.shared.db;
        let cells = db.all_rows::<Cells>(&db.statements.changes_of, (user.as_str(),)).await?;
        let made = cells.into_iter().filter(|cells| cells.2.is_some());
        Ok(made.map(|(head_at, read_at, _, role_at)| newest([head_at, read_at, role_at])).max().unwrap_or(0))
    }

    pub(super) async fn write_marks(&self, marks: Vec<Mark>) -> Result<()> {
        let mut highest: BTreeMap<(ConvId, UserId), (Seq, Seq)> = BTreeMap::new();
        for mark in marks {
            let (delivered, read) = highest.entry((mark.conv, mark.user)).or_default();
            *delivered = (*delivered).max(mark.delivered.unwrap_or(0));
            *read = (*read).max(mark.read.unwrap_or(0));
        }
        let count = highest.len();
        futures_util::stream::iter(highest.into_iter().map(Ok))
            .try_for_each_concurrent(WRITES_AT_ONCE, |((conv, user), (delivered, read))| async move {
                if !self.rows_exist(&conv, std::slice::from_ref(&user)).await?.contains(&true) {
                    return Ok(());
                }
                let (delivered, read) =
                    tokio::join!(self.mark_delivered(&conv, &user, delivered), self.mark_read(&conv, &user, read));
                delivered.and(read).map_err(Failure::of_write)
            })
            .await?;
        self.shared.db.metrics.marks.fetch_add(count as u64, Relaxed);
        Ok(())
    }

    async fn mark_delivered(&self, conv: &ConvId, user: &UserId, seq: Seq) -> Result<(), Failure> {
        if seq == 0 {
            return Ok(());
        }
        let db = &self.shared.db;
        let values = (rank(seq, Hand::First), cell(seq), user.as_str(), conv.as_str());
        db.write(&db.statements.set_delivered, values).await
    }

    async fn mark_read(&self, conv: &ConvId, user: &UserId, seq: Seq) -> Result<(), Failure> {
        if seq == 0 {
            return Ok(());
        }
        let db = &self.shared.db;
        let at = distance(self.shared.clock.stamp());
        db.write(&db.statements.set_read, (rank(seq, Hand::First), cell(seq), at, user.as_str(), conv.as_str())).await
    }
}

fn cell(seq: Seq) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// One page of `rows`. Rows with one stamp stay together, even above `limit`: a page goes on after a stamp.
fn page(mut rows: Vec<IndexRow>, since: Stamp, limit: usize, settled: Stamp) -> IndexPage {
    let newest = rows.iter().map(|row| row.changed).max().unwrap_or(0);
    rows.retain(|row| row.changed > since);
    rows.sort_by(|a, b| (a.changed, &a.conv).cmp(&(b.changed, &b.conv)));
    let mut count = rows.len().min(limit);
    while count > 0 && count < rows.len() && rows[count].changed == rows[count - 1].changed {
        count += 1;
    }
    let more = rows.len() > count;
    rows.truncate(count);
    let stamp = if more { rows.last().map_or(since, |row| row.changed) } else { newest.min(settled) };
    IndexPage { rows, stamp, more }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(conv: u128, changed: Stamp) -> IndexRow {
        IndexRow { conv: ConvId::from_bits(conv), head: 0, read: 0, delivered: 0, role: None, changed }
    }

    #[test]
    fn a_last_page_ends_where_nothing_is_on_its_way() {
        let rows = vec![row(1, 10), row(2, 20), row(3, 30)];
        let end = |settled| page(rows.clone(), 10, 9, settled);
        assert_eq!((end(99).rows.len(), end(99).stamp), (2, 30), "all is settled");
        assert_eq!((end(15).rows.len(), end(15).stamp), (2, 15), "rows above are told, and will be again");
        assert_eq!(page(rows, 20, 0, 15).stamp, 20, "a page in between goes on by its place");
    }

    #[test]
    fn rows_of_one_stamp_are_never_parted() {
        let rows = vec![row(1, 10), row(2, 20), row(3, 20), row(4, 30)];
        let first = page(rows, 0, 2, 99);
        assert_eq!((first.rows.len(), first.stamp, first.more), (3, 20, true));
    }
}
