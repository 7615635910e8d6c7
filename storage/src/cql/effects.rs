//! What an append does outside its partition, written down within it.
//!
//! The conditional batch of an append carries its effects as a blob. They are applied after it, as upserts that may be
//! repeated in any order, then noted as done. Whoever meets a head whose effects are not noted applies them again. A
//! conversation's next append is sent only after that: so there is never more than one append to make good, and
//! [`Effects`] stands in a static column that the next append overwrites.
//!
//! Timestamps of cells decide what wins, not the time of writing: they are twice the seq that a cell names, so that a
//! lower seq never replaces a higher one, plus one if a repair writes. Between two writes of the same cell and
//! timestamp servers keep the larger value: stamps are stored as their distance from [`i64::MAX`], so that the earlier
//! one stays, and repeating a write does not make a row look changed. A repair gives new stamps, because the time in which
//! the old ones would be read may have passed.

use std::time::Instant;

use futures_util::stream::{StreamExt as _, TryStreamExt as _};
use prost::Message;
use roost_wire::pb::Role;
use roost_wire::{ConvId, Seq, UserId};
use scylla::value::CqlValue;

use super::db::{Failure, UPSERTS_TOGETHER, Upsert};
use super::index::StoredRow;
use super::{CqlStore, WRITES_AT_ONCE};
use crate::{Append, ConvMeta, IndexUpdate, Member, MemberChange, Result, Stamp, StoreError};

/// Upserts that go out with one stamp: as many as one round of requests takes.
const ROUND_WRITES: usize = UPSERTS_TOGETHER * WRITES_AT_ONCE;

/// Effects of one append, or of the making of a conversation (`seq` 0).
#[derive(Clone, PartialEq, Message)]
pub(super) struct Effects {
    /// The last seq of the append.
    #[prost(uint64, tag = "1")]
    pub(super) seq: Seq,
    #[prost(uint64, tag = "2")]
    pub(super) stamp: Stamp,
    #[prost(message, repeated, tag = "3")]
    rows: Vec<Raised>,
    #[prost(message, repeated, tag = "4")]
    members: Vec<Change>,
    #[prost(string, optional, tag = "5")]
    name: Option<String>,
    #[prost(bool, optional, tag = "6")]
    open: Option<bool>,
    /// The append was the first of its bucket.
    #[prost(bool, tag = "7")]
    opens_bucket: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Raised {
    #[prost(string, tag = "1")]
    user: String,
    #[prost(uint64, optional, tag = "2")]
    head: Option<Seq>,
    #[prost(uint64, optional, tag = "3")]
    read: Option<Seq>,
}

#[derive(Clone, PartialEq, Message)]
struct Change {
    #[prost(string, tag = "1")]
    user: String,
    /// Unspecified: leaves.
    #[prost(enumeration = "Role", tag = "2")]
    role: i32,
}

/// Who applies effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hand {
    /// The writer, at once.
    First,
    /// Somebody later.
    Repair,
}

/// Timestamp of a cell that names `seq`.
pub(super) fn rank(seq: Seq, hand: Hand) -> i64 {
    // Seqs above this are never reached; marks that claim them are all alike.
    let seq = i64::try_from(seq).unwrap_or(i64::MAX).min(i64::MAX / 2 - 1);
    2 * seq + i64::from(hand == Hand::Repair)
}

/// A stamp as it is stored.
pub(super) fn distance(stamp: Stamp) -> i64 {
    i64::MAX - i64::try_from(stamp).unwrap_or(i64::MAX)
}

impl Effects {
    pub(super) fn of_append(append: &Append, last: Seq, stamp: Stamp, opens_bucket: bool) -> Self {
        let raised = |update: &IndexUpdate| Raised {
            user: update.user.as_str().to_owned(),
            head: update.head.filter(|head| *head > 0),
            read: update.read.filter(|read| *read > 0),
        };
        let change = |change: &MemberChange| Change {
            user: change.user.as_str().to_owned(),
            role: change.role.unwrap_or(Role::Unspecified).into(),
        };
        Self {
            seq: last,
            stamp,
            rows: append.index.iter().map(raised).collect(),
            members: append.members.iter().map(change).collect(),
            name: append.name.clone(),
            open: append.open,
            opens_bucket,
        }
    }

    pub(super) fn of_making(meta: &ConvMeta, members: &[Member], stamp: Stamp) -> Self {
        let change = |member: &Member| Change { user: member.user.as_str().to_owned(), role: member.role.into() };
        Self {
            seq: 0,
            stamp,
            rows: Vec::new(),
            members: members.iter().map(change).collect(),
            name: Some(meta.name.clone()),
            open: Some(meta.open),
            opens_bucket: false,
        }
    }

    /// The same, told as having happened at `stamp`.
    pub(super) fn at(self, stamp: Stamp) -> Self {
        Self { stamp, ..self }
    }

    pub(super) fn read(blob: &[u8]) -> Result<Self> {
        Self::decode(blob).map_err(|error| StoreError::Damaged(format!("effects of an append: {error}")))
    }
}

/// One upsert.
enum Write {
    Name(String),
    Open(bool),
    Tail(u64),
    Member(UserId, i8),
    Role(UserId, i8),
    Head(UserId, Seq),
    Read(UserId, Seq),
    Both(UserId, Seq),
}

impl CqlStore {
    /// Applies `effects`, whose stamp was `picked` then, of the append in `bucket`; until all are durable. The row of a role
    /// that does not change is left alone.
    ///
    /// If that comes late, it is told with a new stamp, as by a repair: nobody may look where the old one is any more.
    ///
    /// # Errors
    /// Some may be applied: the caller answers that the outcome is unknown.
    pub(super) async fn apply(
        &self,
        conv: &ConvId,
        bucket: u64,
        mut effects: Effects,
        mut hand: Hand,
        mut picked: Instant,
    ) -> Result<()> {
        let mut writes = Vec::new();
        writes.extend(effects.name.clone().map(Write::Name));
        writes.extend(effects.open.map(Write::Open));
        if effects.opens_bucket {
            writes.push(Write::Tail(bucket));
        }
        self.roles(conv, &effects, hand, &mut writes).await?;
        self.raised(conv, &effects, &mut writes).await?;
        let limit = self.shared.faults.writes_of_effects(writes.len());
        let mut writes = writes.into_iter().take(limit).peekable();
        while writes.peek().is_some() {
            // From here on a round takes one and a half requests at most: twice that time is the margin of tokens.
            if picked.elapsed() > self.shared.options.request_timeout / 2 {
                (effects.stamp, picked, hand) = (self.shared.clock.stamp(), Instant::now(), Hand::Repair);
            }
            let round = writes.by_ref().take(ROUND_WRITES);
            let upserts = round.map(|write| self.upsert(conv, write, &effects, hand)).collect();
            self.shared.db.write_all(upserts).await.map_err(Failure::of_write)?;
        }
        self.shared.faults.after_effects()
    }

    fn upsert(&self, conv: &ConvId, write: Write, effects: &Effects, hand: Hand) -> Upsert<'_> {
        let to = &self.shared.db.statements;
        let big = CqlValue::BigInt;
        let (conv, text) = (CqlValue::Text(conv.as_str().to_owned()), |user: UserId| CqlValue::Text(user.into()));
        let (at, change) = (big(distance(effects.stamp)), big(rank(effects.seq + 1, hand)));
        let seqs = |seq: Seq| (big(rank(seq, hand)), big(i64::try_from(seq).unwrap_or(i64::MAX)));
        match write {
            Write::Name(name) => (&to.set_name, vec![change, CqlValue::Text(name), conv]),
            Write::Open(open) => (&to.set_open, vec![change, CqlValue::Boolean(open), conv]),
            Write::Tail(bucket) => (&to.set_tail, vec![big(bucket as i64), big(bucket as i64), conv]),
            Write::Member(user, role) => (&to.set_member, vec![change, CqlValue::TinyInt(role), conv, text(user)]),
            Write::Role(user, role) => (&to.set_role, vec![change, CqlValue::TinyInt(role), at, text(user), conv]),
            Write::Head(user, seq) => {
                let (rank, seq) = seqs(seq);
                (&to.set_head, vec![rank, seq, at, text(user), conv])
            }
            Write::Read(user, seq) => {
                let (rank, seq) = seqs(seq);
                (&to.set_read, vec![rank, seq, at, text(user), conv])
            }
            Write::Both(user, seq) => {
                let (rank, seq) = seqs(seq);
                (&to.set_head_read, vec![rank, seq.clone(), at.clone(), seq, at, text(user), conv])
            }
        }
    }

    /// Changes of membership, one after the other for each user, as writes.
    async fn roles(&self, conv: &ConvId, effects: &Effects, hand: Hand, writes: &mut Vec<Write>) -> Result<()> {
        let mut users: Vec<(UserId, Vec<i32>)> = Vec::new();
        for change in &effects.members {
            let user = user_id(&change.user)?;
            match users.iter_mut().find(|(known, _)| *known == user) {
                Some((_, roles)) => roles.push(change.role),
                None => users.push((user, vec![change.role])),
            }
        }
        // Nobody has a row in a conversation that is being made.
        let ids: Vec<UserId> = users.iter().map(|(user, _)| user.clone()).collect();
        let rows = if effects.seq == 0 { vec![None; ids.len()] } else { self.stored_rows(conv, &ids).await? };
        for ((user, roles), row) in users.into_iter().zip(rows) {
            let before = row.as_ref().and_then(StoredRow::role_cell);
            let (after, changed) = fold(before, &roles);
            let Some(role) = after else { continue };
            if changed {
                self.shared.memory.note_row(&user, conv);
                writes.push(Write::Role(user.clone(), role));
            }
            // A first hand that died may have come to the row and not to this.
            if changed || hand == Hand::Repair {
                writes.push(Write::Member(user, role));
            }
        }
        Ok(())
    }

    /// Heads and read marks, as writes. Rows that do not exist are left out.
    async fn raised(&self, conv: &ConvId, effects: &Effects, writes: &mut Vec<Write>) -> Result<()> {
        let mut users = Vec::with_capacity(effects.rows.len());
        for row in &effects.rows {
            users.push(user_id(&row.user)?);
        }
        let exist = self.rows_exist(conv, &users).await?;
        for ((user, row), _) in users.into_iter().zip(&effects.rows).zip(exist).filter(|(_, exists)| *exists) {
            match (row.head, row.read) {
                (Some(head), Some(read)) if head == read => writes.push(Write::Both(user, head)),
                (head, read) => {
                    writes.extend(head.map(|head| Write::Head(user.clone(), head)));
                    writes.extend(read.map(|read| Write::Read(user, read)));
                }
            }
        }
        Ok(())
    }

    /// Which of `users` have a row in `conv`.
    pub(super) async fn rows_exist(&self, conv: &ConvId, users: &[UserId]) -> Result<Vec<bool>> {
        let memory = &self.shared.memory;
        let mut exist: Vec<bool> = users.iter().map(|user| memory.has_row(user, conv)).collect();
        let unknown: Vec<usize> = (0..users.len()).filter(|place| !exist[*place]).collect();
        let asked: Vec<UserId> = unknown.iter().map(|place| users[*place].clone()).collect();
        for (place, row) in unknown.into_iter().zip(self.stored_rows(conv, &asked).await?) {
            if row.is_some_and(|row| row.role_cell().is_some()) {
                memory.note_row(&users[place], conv);
                exist[place] = true;
            }
        }
        Ok(exist)
    }

    /// The cells of the rows of `users` in `conv`, in their order.
    pub(super) async fn stored_rows(&self, conv: &ConvId, users: &[UserId]) -> Result<Vec<Option<StoredRow>>> {
        let db = &self.shared.db;
        futures_util::stream::iter(users.to_vec())
            .map(|user| async move { db.row::<StoredRow>(&db.statements.row, (user.as_str(), conv.as_str())).await })
            .buffered(super::READS_AT_ONCE)
            .try_collect()
            .await
    }
}

/// The role cell after `changes`, and whether any of them changed it. Who is not there cannot leave.
fn fold(before: Option<i8>, changes: &[i32]) -> (Option<i8>, bool) {
    let (mut role, mut changed) = (before, false);
    for change in changes {
        let to = *change as i8;
        if role != Some(to) && !(to == 0 && role.is_none()) {
            (role, changed) = (Some(to), true);
        }
    }
    (role, changed)
}

pub(super) fn user_id(text: &str) -> Result<UserId> {
    UserId::new(text).map_err(|error| StoreError::Damaged(format!("user {text:?}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_membership_are_folded_as_they_came() {
        for (before, changes, after, changed) in [
            (None, &[0][..], None, false),
            (None, &[3, 0], Some(0), true),
            (Some(3), &[3], Some(3), false),
            (Some(0), &[0], Some(0), false),
            (Some(3), &[0, 3], Some(3), true),
        ] {
            assert_eq!(fold(before, changes), (after, changed), "{before:?} {changes:?}");
        }
    }

    #[test]
    fn a_higher_seq_outranks_a_lower_one_and_a_repair_the_first_hand() {
        assert!(rank(1, Hand::First) < rank(1, Hand::Repair));
        assert!(rank(1, Hand::Repair) < rank(2, Hand::First));
        assert!(rank(u64::MAX, Hand::Repair) > 0);
        assert!(distance(5) > distance(6), "of equal ranks the earlier stamp stays");
    }

    #[test]
    fn effects_that_cannot_be_read_are_damage() {
        assert!(matches!(Effects::read(&[0xff]), Err(StoreError::Damaged(_))));
    }
}
