//! Who may change what in a group. No I/O: a change is planned from the members as they are.
//!
//! | change              | owner | admin | member | others       |
//! |---------------------|-------|-------|--------|--------------|
//! | rename, open, close | yes   | yes   | no     | no           |
//! | add members         | yes   | yes   | no     | no           |
//! | remove a member     | yes   | yes   | no     | no           |
//! | remove an admin     | yes   | no    | no     | no           |
//! | remove the owner    | no    | no    | no     | no           |
//! | change roles        | yes   | no    | no     | no           |
//! | join                |       |       |        | if it is open|
//! | leave               | yes   | yes   | yes    |              |
//!
//! A group that has members has exactly one owner. Giving `owner` to somebody makes the old owner an admin. When the
//! owner leaves, the first admin becomes owner, or else the first member; first by user id, as members are listed.
//! Adding a member or removing somebody who is none changes nothing and is no error, so that a repeated command ends
//! as the first did. Nobody removes himself: that is LEAVE.

use roost_storage::MemberChange;
use roost_wire::pb::{self, EventKind, Role};
use roost_wire::{ErrorCode, UserId};

use super::roster::Roster;

/// What a change does, all at once.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// One entry each. None: nothing changes.
    pub(crate) events: Vec<pb::Event>,
    pub(crate) members: Vec<MemberChange>,
    pub(crate) name: Option<String>,
    pub(crate) open: Option<bool>,
}

impl Plan {
    fn event(&mut self, kind: EventKind, users: &[&UserId], role: Role) {
        let users = users.iter().map(|user| user.as_str().to_owned()).collect();
        self.events.push(pb::Event { kind: kind.into(), users, name: String::new(), role: role.into() });
    }

    fn set(&mut self, user: &UserId, role: Option<Role>) {
        self.members.push(MemberChange { user: user.clone(), role });
    }
}

/// What a MEMBERS command asks for, its ids checked.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) add: Vec<UserId>,
    pub(crate) remove: Vec<UserId>,
    pub(crate) roles: Vec<(UserId, Role)>,
}

/// # Errors
/// 301 if `asker` is no member, 302 if it is a plain member.
fn at_least_admin(roster: &Roster, asker: &UserId) -> Result<Role, ErrorCode> {
    match roster.role(asker) {
        None => Err(ErrorCode::NotMember),
        Some(role @ (Role::Owner | Role::Admin)) => Ok(role),
        Some(_) => Err(ErrorCode::RoleTooLow),
    }
}

/// Plans a MEMBERS command: removals, then additions, then roles.
pub(crate) fn members(roster: &Roster, asker: &UserId, wanted: &Wanted, members_max: usize) -> Result<Plan, ErrorCode> {
    let own = at_least_admin(roster, asker)?;
    if !wanted.roles.is_empty() && own != Role::Owner {
        return Err(ErrorCode::RoleTooLow);
    }
    let mut plan = Plan::default();
    let removed: Vec<&UserId> = wanted.remove.iter().filter(|user| roster.role(user).is_some()).collect();
    for user in &removed {
        match roster.role(user) {
            _ if *user == asker => return Err(ErrorCode::BadField),
            Some(Role::Owner) => return Err(ErrorCode::RoleTooLow),
            Some(Role::Admin) if own != Role::Owner => return Err(ErrorCode::RoleTooLow),
            _ => plan.set(user, None),
        }
    }
    let added: Vec<&UserId> = wanted.add.iter().filter(|user| roster.role(user).is_none()).collect();
    if added.iter().any(|user| wanted.remove.contains(user)) {
        return Err(ErrorCode::BadField);
    }
    if roster.len() - removed.len() + added.len() > members_max {
        return Err(ErrorCode::TooManyMembers);
    }
    added.iter().for_each(|user| plan.set(user, Some(Role::Member)));
    if !removed.is_empty() {
        plan.event(EventKind::Removed, &removed, Role::Unspecified);
    }
    if !added.is_empty() {
        plan.event(EventKind::Added, &added, Role::Member);
    }
    plan_roles(&mut plan, roster, asker, wanted)?;
    Ok(plan)
}

fn plan_roles(plan: &mut Plan, roster: &Roster, asker: &UserId, wanted: &Wanted) -> Result<(), ErrorCode> {
    let mut heir: Option<&UserId> = None;
    for (user, role) in &wanted.roles {
        let present = if wanted.remove.contains(user) {
            None
        } else if wanted.add.contains(user) {
            roster.role(user).or(Some(Role::Member))
        } else {
            roster.role(user)
        };
        let present = present.ok_or(ErrorCode::NoUser)?;
        // The owner cannot step down without naming another, which is then done for him.
        if user == asker && *role != Role::Owner && wanted.roles.iter().all(|(_, role)| *role != Role::Owner) {
            return Err(ErrorCode::BadField);
        }
        if present == *role || user == asker {
            continue;
        }
        if *role == Role::Owner && heir.replace(user).is_some() {
            return Err(ErrorCode::BadField);
        }
        plan.set(user, Some(*role));
        plan.event(EventKind::RoleChanged, &[user], *role);
    }
    if heir.is_some() {
        plan.set(asker, Some(Role::Admin));
        plan.event(EventKind::RoleChanged, &[asker], Role::Admin);
    }
    Ok(())
}

/// Plans an UPDATE. `name` and `open` are what the group has now.
pub(crate) fn update(
    roster: &Roster,
    asker: &UserId,
    (name, open): (&str, bool),
    new_name: Option<&str>,
    new_open: Option<bool>,
) -> Result<Plan, ErrorCode> {
    at_least_admin(roster, asker)?;
    let new_name = new_name.filter(|new| *new != name);
    let new_open = new_open.filter(|new| *new != open);
    let mut plan = Plan { name: new_name.map(str::to_owned), open: new_open, ..Plan::default() };
    if new_name.is_some() || new_open.is_some() {
        // Opening is announced as the present name once more: readers look at the group again.
        plan.event(EventKind::Renamed, &[], Role::Unspecified);
        new_name.unwrap_or(name).clone_into(&mut plan.events[0].name);
    }
    Ok(plan)
}

/// Plans a JOIN.
pub(crate) fn join(roster: &Roster, asker: &UserId, open: bool, members_max: usize) -> Result<Plan, ErrorCode> {
    let mut plan = Plan::default();
    if roster.role(asker).is_some() {
        return Ok(plan);
    }
    if !open {
        return Err(ErrorCode::Forbidden);
    }
    if roster.len() >= members_max {
        return Err(ErrorCode::TooManyMembers);
    }
    // Into a group that everybody left one comes as its owner.
    let role = if roster.len() == 0 { Role::Owner } else { Role::Member };
    plan.set(asker, Some(role));
    plan.event(EventKind::Joined, &[asker], role);
    Ok(plan)
}

/// Plans a LEAVE.
pub(crate) fn leave(roster: &Roster, asker: &UserId) -> Result<Plan, ErrorCode> {
    let own = roster.role(asker).ok_or(ErrorCode::NotMember)?;
    let mut plan = Plan::default();
    plan.set(asker, None);
    plan.event(EventKind::Left, &[asker], Role::Unspecified);
    let mut others = roster.iter().filter(|member| member.user != *asker);
    let heir = match own {
        Role::Owner => others.clone().find(|member| member.role == Role::Admin).or_else(|| others.next()),
        _ => None,
    };
    if let Some(heir) = heir {
        plan.set(&heir.user, Some(Role::Owner));
        plan.event(EventKind::RoleChanged, &[&heir.user], Role::Owner);
    }
    Ok(plan)
}
