//! The groups of a user, kept in memory: what SYNC and `fresh` compare heads of.
//!
//! In a group above the index threshold a message moves the conversation's head and no member's row, so rows alone do
//! not tell what changed. Cost: for a user not in memory one scan of its index rows (none for other tables); then one
//! read of the meta data of its groups per SYNC and per CONNECT with a sync token. Users without groups cost no more
//! than the scan.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;
use roost_storage::{Stamp, Store};
use roost_wire::{ConvId, UserId, pb};

use crate::conversation::ids;
use crate::sharded::Sharded;
use crate::{Bus, Downstream, Env, Router};

/// Index rows read at once.
const SCAN_ROWS: usize = 500;

/// Groups by user.
pub(crate) struct Groups {
    parts: Sharded<Part>,
    part_max: usize,
}

#[derive(Default)]
struct Part {
    users: HashMap<UserId, Known>,
    /// Counts the changes of membership, so that a scan that was overtaken by one is not kept.
    changes: u64,
}

/// The groups of one user, as they were at a stamp of the user's rows.
#[derive(Clone)]
struct Known {
    groups: Arc<[ConvId]>,
    stamp: Stamp,
}

impl Groups {
    pub(crate) fn new(users_max: usize) -> Self {
        Self { parts: Sharded::default(), part_max: Sharded::<Part>::share(users_max).max(1) }
    }

    /// Membership of `user` changed.
    pub(crate) fn forget(&self, user: &UserId) {
        let mut part = self.parts.of(user).lock();
        part.users.remove(user);
        part.changes += 1;
    }
}

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// The groups that `user` is a member of. Where other nodes change members too, the rows that changed since the
    /// last look are read.
    pub(crate) async fn groups_of(&self, user: &UserId) -> Result<Arc<[ConvId]>, pb::Error> {
        let (changes, known) = {
            let part = self.groups.parts.of(user).lock();
            (part.changes, part.users.get(user).cloned())
        };
        let (mut groups, mut since): (BTreeSet<ConvId>, Stamp) = match &known {
            Some(known) if self.is_alone() => return Ok(Arc::clone(&known.groups)),
            Some(known) => (known.groups.iter().cloned().collect(), known.stamp),
            None => (BTreeSet::new(), 0),
        };
        let began = since;
        let settled = self.store.settled();
        loop {
            let page = self.read(self.store.index(user, since, SCAN_ROWS)).await?;
            for row in page.rows.into_iter().filter(|row| ids::is_group(&row.conv)) {
                match row.role {
                    Some(_) => groups.insert(row.conv),
                    None => groups.remove(&row.conv),
                };
            }
            let more = page.more && page.stamp > since;
            since = since.max(page.stamp);
            if !more {
                break;
            }
        }
        since = since.min(settled);
        if let Some(known) = known
            && since == began
        {
            return Ok(known.groups);
        }
        let groups: Arc<[ConvId]> = groups.into_iter().collect();
        let mut part = self.groups.parts.of(user).lock();
        if part.changes == changes {
            if part.users.len() >= self.groups.part_max {
                part.users.clear();
            }
            part.users.insert(user.clone(), Known { groups: Arc::clone(&groups), stamp: since });
        }
        Ok(groups)
    }
}
