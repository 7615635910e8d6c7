//! Changes of groups: MEMBERS, UPDATE, JOIN, LEAVE. Each is appended to the log as entries, together with its effect.

use std::collections::BTreeMap;
use std::sync::Arc;

use roost_storage::{Append, Entry, IndexUpdate, Range, Store};
use roost_wire::link::SessionKey;
use roost_wire::pb::{self, Body, Kind, Role};
use roost_wire::{ErrorCode, FrameBody, Seq, UserId};

use super::roles::{self, Plan, Wanted};
use super::roster::Roster;
use super::{Conversation, Loaded};
use crate::accounts::check_name;
use crate::appender::propose::{ROUNDS_MAX, Tried};
use crate::fanout::{Telling, wire_entry};
use crate::outbox::{Answer, Outbox};
use crate::router::user_ids;
use crate::{Bus, Downstream, Env, Router};

/// Entries read at once to find a change whose outcome was unknown.
const LOOK_ENTRIES: usize = 256;

/// A change that is durable.
struct Done {
    plan: Plan,
    before: Roster,
    entries: Vec<Entry>,
}

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// UPDATE.
    pub(crate) async fn update(&self, conv: &Arc<Conversation>, user: &UserId, update: &pb::Update) -> Answer {
        let name = update.name.as_deref().map(check_name).transpose()?;
        self.change(conv, user, None, |loaded| {
            in_group(loaded, user)?;
            let now = (loaded.meta.name.as_str(), loaded.meta.open);
            roles::update(&loaded.roster, user, now, name, update.open)
        })
        .await?;
        self.view(conv).await
    }

    /// MEMBERS.
    pub(crate) async fn change_members(
        &self,
        conv: &Arc<Conversation>,
        user: &UserId,
        members: &pb::Members,
    ) -> Answer {
        let wanted = wanted(members)?;
        self.load_since(conv, self.check_begins().at).await?;
        // Who may not ask learns nothing about who exists.
        let members_max = self.config.members_max;
        let plan = |loaded: &Loaded| {
            in_group(loaded, user)?;
            roles::members(&loaded.roster, user, &wanted, members_max)
        };
        conv.peek(|loaded| plan(loaded))
            .unwrap_or(Err(ErrorCode::Overloaded))
            .map_err(|code: ErrorCode| code.error())?;
        if !wanted.add.is_empty() {
            self.introduce(&wanted.add).await?;
        }
        self.change(conv, user, None, plan).await?;
        self.view(conv).await
    }

    /// JOIN. Who is in already gets the same answer.
    pub(crate) async fn join_group(&self, conv: &Arc<Conversation>, user: &UserId) -> Answer {
        self.load_since(conv, self.check_begins().at).await?;
        // A conversation that cannot be joined looks the same whatever its kind.
        let joinable = |loaded: &mut Loaded| loaded.meta.kind == Kind::Group || loaded.roster.role(user).is_some();
        if !conv.peek(joinable).unwrap_or(false) {
            return Err(ErrorCode::Forbidden.error());
        }
        self.introduce(std::slice::from_ref(user)).await?;
        let members_max = self.config.members_max;
        let plan = |loaded: &Loaded| roles::join(&loaded.roster, user, loaded.meta.open, members_max);
        self.change(conv, user, None, plan).await?;
        self.view(conv).await
    }

    /// LEAVE.
    pub(crate) async fn leave_group(&self, conv: &Arc<Conversation>, session: SessionKey, user: &UserId) -> Answer {
        self.change(conv, user, Some(session), |loaded| {
            in_group(loaded, user)?;
            roles::leave(&loaded.roster, user)
        })
        .await?;
        Ok(FrameBody::Ok(pb::Ok {}))
    }

    /// Appends what `plan` says of the conversation as it is. If it has changed by then, it is planned again: the
    /// rules are checked against what is in force when the entry is stored.
    async fn change(
        &self,
        conv: &Arc<Conversation>,
        asker: &UserId,
        except: Option<SessionKey>,
        plan: impl Fn(&Loaded) -> Result<Plan, ErrorCode>,
    ) -> Result<(), pb::Error> {
        let mark = self.env.random_bits();
        let first = self.fingerprints.key(asker, &event_cmid(mark, 0));
        let mut tried: Option<Done> = None;
        let mut doubt = false;
        // The seq from which on an entry may be of a try whose outcome was unknown.
        let mut doubt_from: Option<Seq> = None;
        let mut error = ErrorCode::Overloaded.error();
        // Nobody is refused, and nothing taken for done, by what may have changed on another node.
        let began = self.check_begins().at;
        for _ in 0..ROUNDS_MAX {
            if let Err(failed) = self.load_since(conv, began).await {
                error = failed;
                break;
            }
            let got_in = match doubt_from {
                Some(from) => self.is_stored(conv, first, from).await,
                None => Ok(false),
            };
            match got_in {
                Ok(false) => {}
                Ok(true) => {
                    // Loading has pushed the entries.
                    if let Some(done) = tried {
                        self.announce(conv, done, except, false);
                    }
                    return Ok(());
                }
                // In doubt, whatever the error is.
                Err(_) => break,
            }
            let planned = conv.peek(|loaded| plan(loaded));
            let plan = match planned.unwrap_or(Err(ErrorCode::Overloaded)) {
                Ok(plan) if plan.events.is_empty() => return Ok(()),
                Ok(plan) => plan,
                Err(code) => {
                    error = code.error();
                    break;
                }
            };
            let Some((append, before)) = self.draft_change(conv, asker, &plan, mark) else { continue };
            let (expected, entries) = (append.expected, append.entries.clone());
            let done = Done { plan, before, entries };
            let proposed = self.propose(conv, append, &mut doubt, |_| None).await;
            if doubt {
                doubt_from.get_or_insert(expected);
            }
            match proposed {
                Tried::Stored => {
                    self.take_effect(conv, asker, &done);
                    let posted = if self.is_alone() { Vec::new() } else { done.entries.clone() };
                    self.announce(conv, done, except, true);
                    self.post_entries(conv, &posted);
                    return Ok(());
                }
                Tried::Moved => tried = Some(done),
                Tried::Failed(failed) => return Err(failed),
                Tried::Doubt => break,
            }
        }
        if doubt {
            self.in_doubt(conv);
            return Err(ErrorCode::Unknown.error());
        }
        Err(error)
    }

    /// Whether the log has an entry with this key at `from` or above. Where memory does not reach, it is read.
    ///
    /// # Errors
    /// What the store's failure means, or 502 if `from` lies too far back.
    async fn is_stored(&self, conv: &Conversation, key: u128, from: Seq) -> Result<bool, pb::Error> {
        let known = conv.peek(|loaded| (loaded.recents.find(key).is_some(), loaded.recents.above()));
        let (found, above) = known.ok_or_else(|| self.overloaded())?;
        if found {
            return Ok(true);
        }
        let mut after = from - 1;
        if above.saturating_sub(after) > self.config.resend_seen_entries_max as u64 {
            return Err(ErrorCode::Unknown.error());
        }
        while after < above {
            self.metrics.resend_reads.add(1);
            let limit = LOOK_ENTRIES.min((above - after) as usize);
            let page = self.read(self.store.range(&conv.id, Range::After(after), limit)).await?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            if page.iter().any(|entry| self.fingerprints.key(&entry.from, &entry.cmid) == key) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn draft_change(&self, conv: &Conversation, asker: &UserId, plan: &Plan, mark: u128) -> Option<(Append, Roster)> {
        let ts_ms = self.env.now_ms();
        conv.peek(|loaded| {
            let expected = loaded.meta.head + 1;
            let entry = |(place, event): (usize, &pb::Event)| Entry {
                seq: expected + place as u64,
                ts_ms,
                from: asker.clone(),
                cmid: event_cmid(mark, place),
                body: Body { text: String::new(), event: Some(event.clone()) },
            };
            let entries: Vec<Entry> = plan.events.iter().enumerate().map(entry).collect();
            let after = loaded.roster.with(&plan.members);
            let append = Append {
                conv: conv.id.clone(),
                expected,
                index: self.index_after(&loaded.roster, &after, asker, expected, entries.len()),
                entries,
                members: plan.members.clone(),
                name: plan.name.clone(),
                open: plan.open,
            };
            (append, loaded.roster.clone())
        })
    }

    /// Rows to raise: of all members of a small group, else of who acts and who comes. To who comes, everything
    /// before counts as read.
    fn index_after(
        &self,
        before: &Roster,
        after: &Roster,
        asker: &UserId,
        expected: Seq,
        entries: usize,
    ) -> Vec<IndexUpdate> {
        let last = expected + entries as u64 - 1;
        let small = after.len() <= self.config.index_threshold;
        let update = |user: &UserId| {
            let new = before.role(user).is_none();
            let read = match (user == asker, new) {
                (true, _) => Some(last),
                (false, true) => Some(expected - 1),
                (false, false) => None,
            };
            (small || read.is_some()).then(|| IndexUpdate { user: user.clone(), head: Some(last), read })
        };
        after.users().filter_map(update).collect()
    }

    /// Memory follows the store.
    fn take_effect(&self, conv: &Arc<Conversation>, asker: &UserId, done: &Done) {
        let recents = done.entries.iter().map(|entry| (asker.clone(), self.fingerprints.recent(entry))).collect();
        self.advance(conv, recents);
        conv.peek(|loaded| {
            loaded.roster = loaded.roster.with(&done.plan.members);
            loaded.marks.retain(|user, _| loaded.roster.role(user).is_some());
            if let Some(name) = &done.plan.name {
                loaded.meta.name.clone_from(name);
            }
            if let Some(open) = done.plan.open {
                loaded.meta.open = open;
            }
        });
        self.interest_changed(conv, Some(&done.before));
    }

    /// Tells who came and who went by CHANGED, then everybody who is in by the entries.
    fn announce(&self, conv: &Arc<Conversation>, done: Done, except: Option<SessionKey>, with_entries: bool) {
        done.plan.members.iter().for_each(|change| self.groups.forget(&change.user));
        let mut out = Outbox::default();
        let id = conv.id.as_str();
        let last = done.entries.last().cloned();
        let head = last.as_ref().map_or(0, |last| last.seq);
        let read = done.entries.first().map_or(0, |first| first.seq - 1);
        let name = conv.peek(|loaded| loaded.meta.name.clone()).unwrap_or_default();
        // What was found late may have been undone since: who is in again has not left, and was told so.
        let now = conv.peek(|loaded| loaded.roster.clone());
        let is_in = |user: &UserId| now.as_ref().map(|now| now.role(user).is_some());
        let gone = done.plan.members.iter().filter(|change| change.role.is_none()).map(|change| &change.user);
        let gone = gone.filter(|user| is_in(user) != Some(true));
        let left = pb::Row { conv: id.to_owned(), kind: Kind::Group.into(), left: true, ..pb::Row::default() };
        self.push_row(gone, left, except, &mut out);
        let mut came: BTreeMap<Role, Vec<&UserId>> = BTreeMap::new();
        for change in &done.plan.members {
            if let (Some(role), None) = (change.role, done.before.role(&change.user))
                && is_in(&change.user) != Some(false)
            {
                came.entry(role).or_default().push(&change.user);
            }
        }
        for (role, users) in came {
            let row = pb::Row {
                conv: id.to_owned(),
                kind: Kind::Group.into(),
                name: name.clone(),
                head,
                read,
                unread: head - read,
                last: last.clone().map(|last| wire_entry(id, last)),
                role: role.into(),
                ..pb::Row::default()
            };
            self.push_row(users.into_iter(), row, except, &mut out);
        }
        if with_entries {
            let telling = |entry| Telling { entry, except: None, sent: None };
            self.tell_all(conv, done.entries.into_iter().map(telling).collect(), &mut out);
        }
        out.flush(&*self.down);
    }
}

fn event_cmid(mark: u128, place: usize) -> String {
    format!("e{mark:032x}-{place}")
}

/// # Errors
/// 301 unless `user` is a member, 305 for direct conversations and channels.
fn in_group(loaded: &Loaded, user: &UserId) -> Result<(), ErrorCode> {
    match (loaded.meta.kind, loaded.roster.role(user)) {
        (Kind::Channel, _) | (Kind::Direct, Some(_)) => Err(ErrorCode::WrongKind),
        (_, None) => Err(ErrorCode::NotMember),
        _ => Ok(()),
    }
}

fn wanted(members: &pb::Members) -> Result<Wanted, pb::Error> {
    let ids: Vec<String> = members.roles.iter().map(|member| member.user.clone()).collect();
    let roles = members.roles.iter().map(pb::Member::role);
    if roles.clone().any(|role| role == Role::Unspecified) {
        return Err(ErrorCode::BadField.because("role is missing"));
    }
    let mut wanted = Wanted {
        add: user_ids(&members.add)?,
        remove: user_ids(&members.remove)?,
        roles: user_ids(&ids)?.into_iter().zip(roles).collect(),
    };
    let parts = [&mut wanted.add, &mut wanted.remove];
    for users in parts {
        users.sort_unstable();
        users.dedup();
    }
    let mut users: Vec<&UserId> = wanted.roles.iter().map(|(user, _)| user).collect();
    users.sort_unstable();
    if users.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(ErrorCode::BadField.because("a user has one role"));
    }
    Ok(wanted)
}
