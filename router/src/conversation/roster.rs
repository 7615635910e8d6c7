//! The members of a conversation, ordered by user id, shared with whoever reads them.

use std::sync::Arc;

use hashbrown::HashMap;
use roost_storage::{Member, MemberChange};
use roost_wire::UserId;
use roost_wire::pb::Role;

/// Members in rising order of their ids. Cloning shares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Roster(Arc<[Member]>);

impl Roster {
    pub(crate) fn new(mut members: Vec<Member>) -> Self {
        members.sort_unstable_by(|a, b| a.user.cmp(&b.user));
        members.dedup_by(|a, b| a.user == b.user);
        Self(members.into())
    }

    /// Members that are in order already.
    pub(crate) const fn shared(members: Arc<[Member]>) -> Self {
        Self(members)
    }

    pub(crate) fn role(&self, user: &UserId) -> Option<Role> {
        let place = self.0.binary_search_by(|member| member.user.cmp(user)).ok()?;
        Some(self.0[place].role)
    }

    /// The same members, shared.
    pub(crate) fn share(&self) -> Arc<[Member]> {
        Arc::clone(&self.0)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Member> {
        self.0.iter()
    }

    pub(crate) fn users(&self) -> impl Iterator<Item = &UserId> {
        self.0.iter().map(|member| &member.user)
    }

    /// The roster after `changes`.
    pub(crate) fn with(&self, changes: &[MemberChange]) -> Self {
        // The last change of a user counts.
        let changes: HashMap<&UserId, Option<Role>> =
            changes.iter().map(|change| (&change.user, change.role)).collect();
        let kept = self.0.iter().filter(|member| !changes.contains_key(&member.user)).cloned();
        let changed = changes.iter().filter_map(|(user, role)| Some(Member { user: (*user).clone(), role: (*role)? }));
        let members = kept.chain(changed).collect();
        Self::new(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_add_replace_and_remove() {
        let [ada, bob, eve] = ["ada", "bob", "eve"].map(|id| UserId::new(id).unwrap());
        let member = |user: &UserId, role| Member { user: user.clone(), role };
        let change = |user: &UserId, role| MemberChange { user: user.clone(), role };
        let roster = Roster::new(vec![member(&bob, Role::Member), member(&ada, Role::Owner)]);
        let after =
            roster.with(&[change(&eve, Some(Role::Member)), change(&bob, None), change(&ada, Some(Role::Admin))]);
        assert_eq!(after, Roster::new(vec![member(&ada, Role::Admin), member(&eve, Role::Member)]));
        assert_eq!((after.role(&bob), after.role(&eve)), (None, Some(Role::Member)));
    }
}
