//! The groups of a user, kept in memory: what SYNC and `fresh` compare heads of.
//!
//! In a group above the index threshold a message moves the conversation's head and no member's row, so rows alone do
//! not tell what changed. Cost: for a user not in memory one scan of its index rows (none for other tables); then one
//! read of the meta data of its groups per SYNC and per CONNECT with a sync token. Users without groups cost no more
//! than the scan.

use std::sync::Arc;

use hashbrown::HashMap;
use roost_storage::{Stamp, Store};
use roost_wire::{ConvId, UserId, pb};

use crate::conversation::ids;
use crate::sharded::Sharded;
use crate::{Downstream, Env, Router};

/// Index rows read at once.
const SCAN_ROWS: usize = 500;

/// Groups by user.
pub(crate) struct Groups {
    parts: Sharded<Part>,
    part_max: usize,
}

#[derive(Default)]
struct Part {
    users: HashMap<UserId, Arc<[ConvId]>>,
    /// Counts the changes of membership, so that a scan that was overtaken by one is not kept.
    changes: u64,
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

impl<S: Store, D: Downstream, E: Env> Router<S, D, E> {
    /// The groups that `user` is a member of.
    pub(crate) async fn groups_of(&self, user: &UserId) -> Result<Arc<[ConvId]>, pb::Error> {
        let changes = {
            let part = self.groups.parts.of(user).lock();
            if let Some(groups) = part.users.get(user) {
                return Ok(Arc::clone(groups));
            }
            part.changes
        };
        let mut groups = Vec::new();
        let mut since: Stamp = 0;
        loop {
            let page = self.read(self.store.index(user, since, SCAN_ROWS)).await?;
            let member = page.rows.into_iter().filter(|row| row.role.is_some() && ids::is_group(&row.conv));
            groups.extend(member.map(|row| row.conv));
            if !page.more || page.stamp <= since {
                break;
            }
            since = page.stamp;
        }
        // A row that changed during the scan may have come twice.
        groups.sort_unstable();
        groups.dedup();
        let groups: Arc<[ConvId]> = groups.into();
        let mut part = self.groups.parts.of(user).lock();
        if part.changes == changes {
            if part.users.len() >= self.groups.part_max {
                part.users.clear();
            }
            part.users.insert(user.clone(), Arc::clone(&groups));
        }
        Ok(groups)
    }
}
