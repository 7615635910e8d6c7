//! Reads, each from one moment of the tables.
//!
//! They run on the caller's thread: most are answered from memory in microseconds, less than a hop to another thread
//! takes. One that must go to the disk holds the thread up for as long as the disk takes, so that the runtime should
//! have more than one.

use roost_wire::pb::Role;
use roost_wire::{ConvId, Seq, UserId};

use super::engine::{Lookup, View, read_failed};
use super::keys;
use super::values;
use crate::{
    Appended, CONFLICT_ENTRIES_MAX, Entry, IndexPage, IndexRow, Member, Range, Result, Stamp, StoreError, User, rules,
};

use fjall::Readable;

/// At most `limit` entries of a log, in rising order.
pub(crate) fn range(view: &View<'_>, conv: &ConvId, range: Range, limit: usize) -> Result<Vec<Entry>> {
    let (first, last) = match range {
        Range::After(Seq::MAX) | Range::Before(0 | 1) => return Ok(Vec::new()),
        Range::After(seq) => (seq + 1, Seq::MAX),
        Range::Before(seq) => (1, seq - 1),
    };
    let found = view.snapshot.range(&view.tables.log, keys::entry(conv, first)..=keys::entry(conv, last));
    let entry = |guard: fjall::Guard| {
        let (key, value) = guard.into_inner().map_err(read_failed)?;
        values::decode_entry(&key, &value)
    };
    let mut entries = match range {
        Range::After(_) => found.take(limit).map(entry).collect::<Result<Vec<_>>>()?,
        Range::Before(_) => found.rev().take(limit).map(entry).collect::<Result<Vec<_>>>()?,
    };
    if matches!(range, Range::Before(_)) {
        entries.reverse();
    }
    // A hole would be served as history and never be asked for again.
    if entries.windows(2).any(|pair| pair[0].seq + 1 != pair[1].seq) {
        return Err(StoreError::Damaged(format!("the log of {conv} has a gap")));
    }
    Ok(entries)
}

/// What an append is told that met another head.
pub(crate) fn conflict(view: &View<'_>, conv: &ConvId, expected: Seq) -> Result<Appended> {
    let head = view.meta(conv)?.map_or(0, |meta| meta.head);
    if expected > head {
        return Ok(Appended::Conflict { tail: Vec::new(), head });
    }
    let tail = range(view, conv, Range::After(expected - 1), CONFLICT_ENTRIES_MAX)?;
    Ok(Appended::Conflict { tail, head })
}

/// The last entry of a log.
pub(crate) fn last_entry(view: &View<'_>, conv: &ConvId) -> Result<Option<Entry>> {
    Ok(range(view, conv, Range::Before(Seq::MAX), 1)?.pop())
}

/// The members of a conversation, by user id.
pub(crate) fn members(view: &View<'_>, conv: &ConvId) -> Result<Vec<Member>> {
    let found = view.snapshot.prefix(&view.tables.members, keys::prefix(conv.as_str()));
    found
        .map(|guard| {
            let (key, value) = guard.into_inner().map_err(read_failed)?;
            let role: Role = values::decode_role(&key, &value)?;
            Ok(Member { user: values::user_in_key(&key)?, role })
        })
        .collect()
}

/// All rows of a user, in no order of time. The time it takes grows with the number of the user's conversations.
fn rows_of(view: &View<'_>, user: &UserId) -> impl Iterator<Item = Result<IndexRow>> {
    let found = view.snapshot.prefix(&view.tables.rows, keys::prefix(user.as_str()));
    found.map(|guard| {
        let (key, value) = guard.into_inner().map_err(read_failed)?;
        values::decode_row(&key, &value)
    })
}

/// The first `limit` rows changed after `since`. Holds about twice as many at a time.
pub(crate) fn index(view: &View<'_>, user: &UserId, since: Stamp, limit: usize) -> Result<IndexPage> {
    let mut rows: Vec<IndexRow> = Vec::new();
    let (mut more, mut newest) = (false, 0);
    for row in rows_of(view, user) {
        let row = row?;
        newest = newest.max(row.changed);
        if row.changed > since {
            rows.push(row);
        }
        if rows.len() > limit.saturating_mul(2) {
            more |= keep_oldest(&mut rows, limit);
        }
    }
    more |= keep_oldest(&mut rows, limit);
    rows.sort_unstable_by_key(|row| row.changed);
    let stamp = if more { rows.last().map_or(since, |row| row.changed) } else { newest };
    Ok(IndexPage { rows, stamp, more })
}

/// Cuts `rows` to those `limit` that changed first; true if that took some away.
fn keep_oldest(rows: &mut Vec<IndexRow>, limit: usize) -> bool {
    if rows.len() <= limit {
        return false;
    }
    rows.select_nth_unstable_by_key(limit, |row| row.changed);
    rows.truncate(limit);
    true
}

/// The newest stamp among the rows of a user.
pub(crate) fn last_change(view: &View<'_>, user: &UserId) -> Result<Stamp> {
    rows_of(view, user).try_fold(0, |newest, row| Ok(newest.max(row?.changed)))
}

/// Users by the beginning of their folded name.
pub(crate) fn search(view: &View<'_>, prefix: &str, limit: usize) -> Result<Vec<User>> {
    let found = view.snapshot.prefix(&view.tables.names, keys::name_prefix(&rules::fold(prefix)));
    let mut users = Vec::new();
    for guard in found.take(limit) {
        let key = guard.key().map_err(read_failed)?;
        if *key == *keys::LINK {
            break; // behind all names, and none itself
        }
        let id = values::user_in_key(&key)?;
        let user = view.user(&id)?;
        users.push(user.ok_or_else(|| StoreError::Damaged(format!("a name leads to {id}, who is not there")))?);
    }
    Ok(users)
}
