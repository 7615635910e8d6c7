//! Who may see when somebody is online: oneself, the other of a direct conversation, and members of the same group.
//!
//! A user shares a group with another if both are members of it now, whatever its size. The cost of a look: one read of
//! the direct conversations' meta data, whose ids follow from the pairs; then, for those left, the index rows of each of
//! the asker's groups, until all are found or [`LOOKS_MAX`] rows were looked at. Whoever was not found by then is not
//! seen. Nobody is told why: a user that may not be seen and one that does not exist look the same.

use roost_storage::{IndexRow, Store};
use roost_wire::{ConvId, UserId, pb};

use crate::conversation::ids;
use crate::{Bus, Downstream, Env, Router};

/// Index rows that one look may read.
const LOOKS_MAX: usize = 16_384;

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// Which of `users` the user `by` may see, in their order.
    pub(crate) async fn visible(&self, by: &UserId, users: &[UserId]) -> Result<Vec<bool>, pb::Error> {
        let pairs: Vec<ConvId> = users.iter().map(|user| ids::direct(by, user)).collect();
        let directs = self.read(self.store.metas(&pairs)).await?;
        let mut visible: Vec<bool> =
            users.iter().zip(directs).map(|(user, direct)| user == by || direct.is_some()).collect();
        let mut left: Vec<usize> = (0..users.len()).filter(|place| !visible[*place]).collect();
        if left.is_empty() {
            return Ok(visible);
        }
        let mut looks = 0;
        for group in self.groups_of(by).await?.iter() {
            // With the asker, in one read: it may have left since its groups were read, and another have joined.
            let asked: Vec<UserId> = left.iter().map(|place| &users[*place]).chain([by]).cloned().collect();
            looks += asked.len();
            if looks > LOOKS_MAX {
                break;
            }
            let mut rows = self.read(self.store.rows(group, &asked)).await?;
            let is_member = |row: Option<IndexRow>| row.is_some_and(|row| row.role.is_some());
            if !rows.pop().is_some_and(is_member) {
                continue;
            }
            for (place, row) in left.iter().zip(rows) {
                visible[*place] = is_member(row);
            }
            left.retain(|place| !visible[*place]);
            if left.is_empty() {
                break;
            }
        }
        Ok(visible)
    }
}
