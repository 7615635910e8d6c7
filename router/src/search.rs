//! SEARCH: users by the beginning of their display name, or by their exact id.

use roost_storage::Store;
use roost_wire::limits::{NAME_BYTES_MAX, SEARCH_USERS_DEFAULT, SEARCH_USERS_MAX};
use roost_wire::{ErrorCode, FrameBody, UserId, pb};

use crate::outbox::Answer;
use crate::{Downstream, Env, Router};

impl<S: Store, D: Downstream, E: Env> Router<S, D, E> {
    /// SEARCH. The user with the exact id comes first.
    pub(crate) async fn search(&self, search: &pb::Search) -> Answer {
        let prefix = search.prefix.trim();
        if prefix.is_empty() || prefix.len() > NAME_BYTES_MAX {
            return Err(ErrorCode::BadField.because(format!("prefix has 1 to {NAME_BYTES_MAX} bytes")));
        }
        let limit = if search.limit == 0 { SEARCH_USERS_DEFAULT } else { search.limit.min(SEARCH_USERS_MAX) };
        let mut found = match UserId::new(prefix) {
            Ok(user) => self.read(self.store.users(&[user])).await?.into_iter().flatten().collect(),
            Err(_) => Vec::new(),
        };
        for user in self.read(self.store.search(prefix, limit as usize)).await? {
            if found.iter().all(|known| known.user != user.user) {
                found.push(user);
            }
        }
        found.truncate(limit as usize);
        let user = |user: roost_storage::User| pb::User {
            user: user.user.into(),
            name: user.name,
            last_seen: user.last_seen_ms,
        };
        Ok(FrameBody::Users(pb::Users { users: found.into_iter().map(user).collect() }))
    }
}
