//! Users, and the search for them by name.
//!
//! Names stand once more in partitions by their first [`BUCKET_CHARS`] characters. That list is written before the record and
//! cleaned after it, so it may name users who are called otherwise by now: a search looks at the records.

use std::collections::BTreeMap;

use futures_util::stream::{StreamExt as _, TryStreamExt as _};
use roost_wire::UserId;

use super::db::Failure;
use super::effects::user_id;
use super::{CqlStore, READS_AT_ONCE, WRITES_AT_ONCE};
use crate::{Result, User, rules};

/// Characters of a folded name that name its partition.
const BUCKET_CHARS: usize = 2;
/// Names of one request.
const PAGE_NAMES: usize = 100;

type UserCells = (Option<String>, Option<i64>, Option<i64>);

/// The partition of a folded name. Never empty: servers refuse an empty key.
fn bucket_of(folded: &str) -> String {
    format!("={}", folded.chars().take(BUCKET_CHARS).collect::<String>())
}

/// The partition in which the partitions of names with this beginning are listed.
fn first_of(folded: &str) -> String {
    format!("={}", folded.chars().take(1).collect::<String>())
}

impl CqlStore {
    pub(super) async fn read_users(&self, users: &[UserId]) -> Result<Vec<Option<User>>> {
        let db = &self.shared.db;
        futures_util::stream::iter(users.to_vec())
            .map(|user| async move {
                let cells = db.row::<UserCells>(&db.statements.user, (user.as_str(),)).await?;
                let Some((Some(name), created, seen)) = cells else { return Ok(None) };
                let (created_ms, last_seen_ms) = (created.unwrap_or(0) as u64, seen.unwrap_or(0) as u64);
                Ok(Some(User { user, name, created_ms, last_seen_ms }))
            })
            .buffered(READS_AT_ONCE)
            .try_collect()
            .await
    }

    pub(super) async fn write_users(&self, users: Vec<User>) -> Result<()> {
        rules::check_users(&users)?;
        let mut last: BTreeMap<UserId, User> = BTreeMap::new();
        for mut user in users {
            if let Some(earlier) = last.get(&user.user) {
                user.last_seen_ms = user.last_seen_ms.max(earlier.last_seen_ms);
            }
            last.insert(user.user.clone(), user);
        }
        let ids: Vec<UserId> = last.keys().cloned().collect();
        let before = self.read_users(&ids).await?;
        futures_util::stream::iter(last.into_values().zip(before).map(Ok))
            .try_for_each_concurrent(WRITES_AT_ONCE, |(user, before)| self.write_user(user, before))
            .await
            .map_err(Failure::of_write)
    }

    async fn write_user(&self, user: User, before: Option<User>) -> Result<(), Failure> {
        let (db, to) = (&self.shared.db, &self.shared.db.statements);
        let (id, at) = (user.user.as_str(), self.shared.clock.stamp() as i64);
        let folded = rules::fold(&user.name);
        let was = before.as_ref().map(|before| rules::fold(&before.name));
        if was.as_deref() != Some(&folded) {
            let bucket = bucket_of(&folded);
            db.write(&to.add_bucket, (first_of(&folded), &bucket)).await?;
            db.write(&to.add_name, (&bucket, &folded, id, at)).await?;
        }
        let same =
            before.as_ref().is_some_and(|before| before.name == user.name && before.created_ms == user.created_ms);
        if !same {
            db.write(&to.set_user, (at, &user.name, user.created_ms as i64, id)).await?;
        }
        if user.last_seen_ms > 0 {
            let seen = i64::try_from(user.last_seen_ms).unwrap_or(i64::MAX);
            db.write(&to.set_seen, (seen, seen, id)).await?;
        }
        match was {
            Some(was) if was != folded => db.write(&to.drop_name, (at, bucket_of(&was), &was, id)).await,
            _ => Ok(()),
        }
    }

    pub(super) async fn find_users(&self, prefix: &str, limit: usize) -> Result<Vec<User>> {
        let prefix = rules::fold(prefix);
        let mut found = Vec::new();
        for bucket in self.buckets(&prefix).await? {
            if found.len() >= limit {
                break;
            }
            self.find_in(&bucket, &prefix, limit, &mut found).await?;
        }
        Ok(found)
    }

    /// The partitions that may have names with this beginning, in the order of the names.
    async fn buckets(&self, prefix: &str) -> Result<Vec<String>> {
        let db = &self.shared.db;
        if prefix.chars().nth(BUCKET_CHARS - 1).is_some() {
            return Ok(vec![bucket_of(prefix)]);
        }
        let firsts = if prefix.is_empty() {
            db.all_rows::<(String,)>(&db.statements.firsts, ()).await?.into_iter().map(|(first,)| first).collect()
        } else {
            vec![first_of(prefix)]
        };
        let mut buckets = Vec::new();
        for first in firsts {
            buckets.extend(db.all_rows::<(String,)>(&db.statements.buckets, (first,)).await?);
        }
        let mut buckets: Vec<String> = buckets.into_iter().map(|(bucket,)| bucket).collect();
        buckets.sort_unstable();
        Ok(buckets)
    }

    async fn find_in(&self, bucket: &str, prefix: &str, limit: usize, found: &mut Vec<User>) -> Result<()> {
        let db = &self.shared.db;
        // No id is empty: all names from the prefix on come after this.
        let mut at = (prefix.to_owned(), String::new());
        while found.len() < limit {
            let values = (bucket, &at.0, &at.1, PAGE_NAMES as i32);
            let mut names = db.rows::<(String, String)>(&db.statements.names, values).await?;
            let full = names.len() == PAGE_NAMES;
            let Some(last) = names.last().cloned() else { return Ok(()) };
            let end = !full || !last.0.starts_with(prefix);
            names.retain(|(folded, _)| folded.starts_with(prefix));
            let ids = names.iter().map(|(_, user)| user_id(user)).collect::<Result<Vec<_>>>()?;
            let users = self.read_users(&ids).await?;
            let called = |(user, (folded, _)): (Option<User>, (String, String))| {
                user.filter(|user| rules::fold(&user.name) == folded)
            };
            let room = limit - found.len();
            found.extend(users.into_iter().zip(names).filter_map(called).take(room));
            if end {
                return Ok(());
            }
            at = last;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_a_common_beginning_are_in_partitions_in_their_order() {
        let names = ["", "\0", "a", "a b", "ab", "abc", "b", "🐦", "🐦x"];
        assert!(names.map(bucket_of).is_sorted());
        assert!(names.iter().all(|name| bucket_of(name).starts_with(&first_of(name))));
        assert_eq!((bucket_of("abc"), first_of("abc"), bucket_of("")), ("=ab".into(), "=a".into(), "=".into()));
    }
}
