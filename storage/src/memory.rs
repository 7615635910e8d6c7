//! The model: a store in memory, plain enough to be seen to be right. Other back ends are compared with it.
//!
//! Absent on purpose: durability, limits on memory, any cleverness.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use roost_wire::pb::Role;
use roost_wire::{ConvId, Seq, UserId};

use crate::{
    Append, Appended, CONFLICT_ENTRIES_MAX, ConvMeta, Entry, IndexPage, IndexRow, Mark, Member, Range, Result, Stamp,
    Store, StoreError, User, rules,
};

/// A store that forgets everything with its last clone. For tests, simulations and as the model of the suite.
#[derive(Clone, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Default)]
struct State {
    /// The last stamp given.
    stamp: Stamp,
    convs: BTreeMap<ConvId, Conv>,
    rows: BTreeMap<UserId, BTreeMap<ConvId, IndexRow>>,
    users: BTreeMap<UserId, User>,
}

#[derive(Clone)]
struct Conv {
    meta: ConvMeta,
    /// The entry with seq n is at n - 1.
    log: Vec<Entry>,
    members: BTreeMap<UserId, Role>,
}

impl MemoryStore {
    /// Another store that holds the same, and goes its own way from here.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.state.lock().clone();
        Self { state: Arc::new(Mutex::new(state)) }
    }
}

impl State {
    fn next_stamp(&mut self) -> Stamp {
        self.stamp += 1;
        self.stamp
    }

    fn rows_of(&self, user: &UserId) -> impl Iterator<Item = &IndexRow> {
        self.rows.get(user).into_iter().flat_map(BTreeMap::values)
    }

    fn row_mut(&mut self, conv: &ConvId, user: &UserId) -> Option<&mut IndexRow> {
        self.rows.get_mut(user)?.get_mut(conv)
    }

    /// Gives `user` a role in `conv`; makes the row if need be.
    fn set_role(&mut self, conv: &ConvId, user: &UserId, role: Role, stamp: Stamp) {
        if let Some(conv) = self.convs.get_mut(conv) {
            conv.members.insert(user.clone(), role);
        }
        let row = self.rows.entry(user.clone()).or_default().entry(conv.clone()).or_insert_with(|| IndexRow {
            conv: conv.clone(),
            head: 0,
            read: 0,
            delivered: 0,
            role: None,
            changed: 0,
        });
        if row.role != Some(role) {
            row.role = Some(role);
            row.changed = stamp;
        }
    }

    fn remove(&mut self, conv: &ConvId, user: &UserId, stamp: Stamp) {
        if let Some(conv) = self.convs.get_mut(conv) {
            conv.members.remove(user);
        }
        if let Some(row) = self.row_mut(conv, user)
            && row.role.is_some()
        {
            row.role = None;
            row.changed = stamp;
        }
    }

    fn create(&mut self, meta: ConvMeta, members: Vec<Member>) -> (ConvMeta, bool) {
        if let Some(conv) = self.convs.get(&meta.conv) {
            return (conv.meta.clone(), false);
        }
        let stamp = self.next_stamp();
        let meta = ConvMeta { head: 0, changed: stamp, ..meta };
        let conv = Conv { meta: meta.clone(), log: Vec::new(), members: BTreeMap::new() };
        self.convs.insert(meta.conv.clone(), conv);
        for member in members {
            self.set_role(&meta.conv, &member.user, member.role, stamp);
        }
        (meta, true)
    }

    fn append(&mut self, append: Append) -> Result<Appended> {
        rules::check_append(&append)?;
        let Some(conv) = self.convs.get_mut(&append.conv) else {
            return Err(StoreError::NoConversation);
        };
        let head = conv.meta.head;
        if append.expected != head + 1 {
            let tail = after(&conv.log, append.expected - 1).iter().take(CONFLICT_ENTRIES_MAX).cloned().collect();
            return Ok(Appended::Conflict { tail, head });
        }
        self.stamp += 1;
        let stamp = self.stamp;
        conv.log.extend(append.entries);
        conv.meta.head = conv.log.len() as Seq;
        conv.meta.changed = stamp;
        if let Some(name) = append.name {
            conv.meta.name = name;
        }
        if let Some(open) = append.open {
            conv.meta.open = open;
        }
        for change in append.members {
            match change.role {
                Some(role) => self.set_role(&append.conv, &change.user, role, stamp),
                None => self.remove(&append.conv, &change.user, stamp),
            }
        }
        for update in append.index {
            if let Some(row) = self.row_mut(&append.conv, &update.user) {
                let changed = raise(&mut row.head, update.head) | raise(&mut row.read, update.read);
                if changed {
                    row.changed = stamp;
                }
            }
        }
        Ok(Appended::Stored { stamp })
    }

    fn index(&self, user: &UserId, since: Stamp, limit: usize) -> IndexPage {
        let mut rows: Vec<IndexRow> = self.rows_of(user).filter(|row| row.changed > since).cloned().collect();
        rows.sort_by_key(|row| row.changed);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let stamp = if more { rows.last().map_or(since, |row| row.changed) } else { self.last_change(user) };
        IndexPage { rows, stamp, more }
    }

    fn last_change(&self, user: &UserId) -> Stamp {
        self.rows_of(user).map(|row| row.changed).max().unwrap_or(0)
    }

    fn mark(&mut self, mark: &Mark) {
        let stamp = self.stamp + 1;
        if let Some(row) = self.row_mut(&mark.conv, &mark.user) {
            raise(&mut row.delivered, mark.delivered);
            if raise(&mut row.read, mark.read) {
                row.changed = stamp;
                self.stamp = stamp;
            }
        }
    }

    fn search(&self, prefix: &str, limit: usize) -> Vec<User> {
        let prefix = rules::fold(prefix);
        let mut found: Vec<(String, &User)> = self.users.values().map(|user| (rules::fold(&user.name), user)).collect();
        found.retain(|(name, _)| name.starts_with(&prefix));
        found.sort_by(|a, b| (&a.0, &a.1.user).cmp(&(&b.0, &b.1.user)));
        found.into_iter().take(limit).map(|(_, user)| user.clone()).collect()
    }
}

/// The entries of a log above `seq`.
fn after(log: &[Entry], seq: Seq) -> &[Entry] {
    &log[log.partition_point(|entry| entry.seq <= seq)..]
}

/// Raises `seq` to `to`; true if that changed it.
fn raise(seq: &mut Seq, to: Option<Seq>) -> bool {
    match to {
        Some(to) if to > *seq => {
            *seq = to;
            true
        }
        _ => false,
    }
}

impl Store for MemoryStore {
    async fn create(&self, meta: ConvMeta, members: Vec<Member>) -> Result<(ConvMeta, bool)> {
        rules::check_create(&meta, &members)?;
        Ok(self.state.lock().create(meta, members))
    }

    async fn append(&self, append: Append) -> Result<Appended> {
        self.state.lock().append(append)
    }

    async fn range(&self, conv: &ConvId, range: Range, limit: usize) -> Result<Vec<Entry>> {
        let state = self.state.lock();
        let Some(conv) = state.convs.get(conv) else {
            return Ok(Vec::new());
        };
        Ok(match range {
            Range::After(seq) => after(&conv.log, seq).iter().take(limit).cloned().collect(),
            Range::Before(seq) => {
                let below = &conv.log[..conv.log.len() - after(&conv.log, seq.saturating_sub(1)).len()];
                below[below.len().saturating_sub(limit)..].to_vec()
            }
        })
    }

    async fn last_entries(&self, convs: &[ConvId]) -> Result<Vec<Option<Entry>>> {
        let state = self.state.lock();
        Ok(convs.iter().map(|conv| state.convs.get(conv)?.log.last().cloned()).collect())
    }

    async fn metas(&self, convs: &[ConvId]) -> Result<Vec<Option<ConvMeta>>> {
        let state = self.state.lock();
        Ok(convs.iter().map(|conv| Some(state.convs.get(conv)?.meta.clone())).collect())
    }

    async fn members(&self, conv: &ConvId) -> Result<Vec<Member>> {
        let state = self.state.lock();
        let members = state.convs.get(conv).map(|conv| &conv.members);
        Ok(members.into_iter().flatten().map(|(user, role)| Member { user: user.clone(), role: *role }).collect())
    }

    async fn rows(&self, conv: &ConvId, users: &[UserId]) -> Result<Vec<Option<IndexRow>>> {
        let state = self.state.lock();
        Ok(users.iter().map(|user| state.rows.get(user)?.get(conv).cloned()).collect())
    }

    async fn index(&self, user: &UserId, since: Stamp, limit: usize) -> Result<IndexPage> {
        Ok(self.state.lock().index(user, since, limit))
    }

    async fn last_change(&self, user: &UserId) -> Result<Stamp> {
        Ok(self.state.lock().last_change(user))
    }

    async fn mark(&self, marks: Vec<Mark>) -> Result<()> {
        let mut state = self.state.lock();
        marks.iter().for_each(|mark| state.mark(mark));
        Ok(())
    }

    async fn put_users(&self, users: Vec<User>) -> Result<()> {
        rules::check_users(&users)?;
        let mut state = self.state.lock();
        for mut user in users {
            if let Some(old) = state.users.get(&user.user) {
                user.last_seen_ms = user.last_seen_ms.max(old.last_seen_ms);
            }
            state.users.insert(user.user.clone(), user);
        }
        Ok(())
    }

    async fn users(&self, users: &[UserId]) -> Result<Vec<Option<User>>> {
        let state = self.state.lock();
        Ok(users.iter().map(|user| state.users.get(user).cloned()).collect())
    }

    async fn search(&self, prefix: &str, limit: usize) -> Result<Vec<User>> {
        Ok(self.state.lock().search(prefix, limit))
    }
}
