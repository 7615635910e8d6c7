//! SEARCH: users by the beginning of their display name, or by their exact id.

use roost_storage::{Store, User};
use roost_wire::limits::{NAME_BYTES_MAX, SEARCH_USERS_DEFAULT, SEARCH_USERS_MAX};
use roost_wire::{ErrorCode, FrameBody, UserId, pb};

use crate::outbox::Answer;
use crate::{Bus, Downstream, Env, Router};

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// SEARCH. The user with the exact id comes first. Who may not be seen was never seen.
    pub(crate) async fn search(&self, by: &UserId, search: &pb::Search) -> Answer {
        let prefix = search.prefix.trim();
        if prefix.is_empty() || prefix.len() > NAME_BYTES_MAX {
            return Err(ErrorCode::BadField.because(format!("prefix has 1 to {NAME_BYTES_MAX} bytes")));
        }
        let limit = if search.limit == 0 { SEARCH_USERS_DEFAULT } else { search.limit.min(SEARCH_USERS_MAX) };
        let mut found: Vec<User> = match UserId::new(prefix) {
            Ok(user) => self.read(self.store.users(&[user])).await?.into_iter().flatten().collect(),
            Err(_) => Vec::new(),
        };
        for user in self.read(self.store.search(prefix, limit as usize)).await? {
            if found.iter().all(|known| known.user != user.user) {
                found.push(user);
            }
        }
        found.truncate(limit as usize);
        let ids: Vec<UserId> = found.iter().map(|user| user.user.clone()).collect();
        let visible = self.visible(by, &ids).await?;
        let user = |(user, visible): (User, bool)| {
            let last_seen = if visible { self.state_of(&user.user, Some(&user)).1 } else { 0 };
            pb::User { user: user.user.into(), name: user.name, last_seen }
        };
        Ok(FrameBody::Users(pb::Users { users: found.into_iter().zip(visible).map(user).collect() }))
    }
}
