//! A commit in the making: what the tables will be once everything waiting is written.
//!
//! Invariants:
//! - a write either changes the draft as a whole or not at all: what can fail (rules, reads) comes first;
//! - no key is put into the batch twice: fjall gives all of a batch one seqno, so that two values would collide.
//!   Therefore rows are changed here and put in at the end; only entries, which are new, go in at once.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;

use fjall::OwnedWriteBatch;
use roost_wire::pb::Role;
use roost_wire::{ConvId, Seq, UserId};

use super::engine::{CommitError, Engine, Lookup};
use super::failpoint::failpoint;
use super::keys::{self, Key, Table};
use super::ledger::{Commits, Ledger};
use super::options::EmbeddedOptions;
use super::queue::{Marks, Raise};
use super::recent::Recent;
use super::values::{self, Unsealed};
use crate::{Append, ConvMeta, IndexRow, Member, Result, Stamp, StoreError, User, rules};

/// What the writer remembers of the tables between commits. Never ahead of them.
pub(crate) struct Remembered {
    metas: Recent<ConvId, ConvMeta>,
    rows: Recent<(UserId, ConvId), IndexRow>,
    /// The last stamp given.
    stamp: Stamp,
}

impl Remembered {
    pub(crate) fn load(engine: &Engine, options: &EmbeddedOptions) -> Result<Self> {
        Ok(Self {
            metas: Recent::new(options.metas_cached_max),
            rows: Recent::new(options.rows_cached_max),
            stamp: engine.counter(keys::STAMP)?,
        })
    }
}

/// How an append ends if the commit succeeds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Stored { stamp: Stamp },
    Conflict,
}

/// A row of some table with whether it differs from what is stored.
struct Drafted<V> {
    value: V,
    dirty: bool,
}

/// The draft of one commit.
pub(crate) struct Draft<'a> {
    engine: &'a Engine,
    remembered: &'a mut Remembered,
    batch: OwnedWriteBatch,
    /// Tables that the batch changes.
    touched: [bool; Table::COUNT],
    stamp: Stamp,
    metas: HashMap<ConvId, Drafted<ConvMeta>>,
    rows: HashMap<(UserId, ConvId), Drafted<IndexRow>>,
    members: HashMap<(ConvId, UserId), Option<Role>>,
    users: HashMap<UserId, User>,
    /// Names that lead to a user, or no longer do.
    names: HashMap<Key, bool>,
    pub(crate) entries: usize,
    pub(crate) marks: usize,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(engine: &'a Engine, remembered: &'a mut Remembered) -> Self {
        Self {
            batch: engine.batch(),
            touched: [false; Table::COUNT],
            engine,
            stamp: remembered.stamp,
            remembered,
            metas: HashMap::new(),
            rows: HashMap::new(),
            members: HashMap::new(),
            users: HashMap::new(),
            names: HashMap::new(),
            entries: 0,
            marks: 0,
        }
    }

    pub(crate) fn create(&mut self, meta: ConvMeta, members: Vec<Member>) -> Result<(ConvMeta, bool)> {
        rules::check_create(&meta, &members)?;
        if self.load_meta(&meta.conv)? {
            return Ok((self.metas[&meta.conv].value.clone(), false));
        }
        for member in &members {
            self.load_row(&meta.conv, &member.user)?;
        }
        let stamp = self.next_stamp();
        let meta = ConvMeta { head: 0, changed: stamp, ..meta };
        for member in members {
            self.set_role(&meta.conv, member.user, member.role, stamp);
        }
        self.metas.insert(meta.conv.clone(), Drafted { value: meta.clone(), dirty: true });
        Ok((meta, true))
    }

    pub(crate) fn append(&mut self, append: Append) -> Result<Verdict> {
        rules::check_append(&append)?;
        if !self.load_meta(&append.conv)? {
            return Err(StoreError::NoConversation);
        }
        if append.expected != self.metas[&append.conv].value.head + 1 {
            return Ok(Verdict::Conflict);
        }
        let users = append.members.iter().map(|change| &change.user);
        for user in users.chain(append.index.iter().map(|update| &update.user)) {
            self.load_row(&append.conv, user)?;
        }
        // From here on nothing fails.
        let stamp = self.next_stamp();
        self.change_meta(&append, stamp);
        self.entries += append.entries.len();
        for entry in append.entries {
            let key = keys::entry(&append.conv, entry.seq);
            self.put(Table::Log, &key, values::encode_entry(entry));
        }
        for change in append.members {
            match change.role {
                Some(role) => self.set_role(&append.conv, change.user, role, stamp),
                None => self.remove(&append.conv, change.user, stamp),
            }
        }
        for update in append.index {
            if let Some(row) = self.rows.get_mut(&(update.user, append.conv.clone())) {
                let changed = raise(&mut row.value.head, update.head) | raise(&mut row.value.read, update.read);
                if changed {
                    row.value.changed = stamp;
                    row.dirty = true;
                }
            }
        }
        Ok(Verdict::Stored { stamp })
    }

    pub(crate) fn put_users(&mut self, users: Vec<User>) -> Result<()> {
        rules::check_users(&users)?;
        let mut olds = Vec::with_capacity(users.len());
        for user in &users {
            olds.push(if self.users.contains_key(&user.user) { None } else { self.engine.user(&user.user)? });
        }
        for (mut user, stored) in users.into_iter().zip(olds) {
            if let Some(old) = self.users.remove(&user.user).or(stored) {
                user.last_seen_ms = user.last_seen_ms.max(old.last_seen_ms);
                self.rename(&user.user, Some(&old.name), &user.name);
            } else {
                self.rename(&user.user, None, &user.name);
            }
            self.users.insert(user.user.clone(), user);
        }
        Ok(())
    }

    /// Lets the new name lead to the user, and the old one no longer.
    fn rename(&mut self, user: &UserId, old: Option<&str>, new: &str) {
        let (old, new) = (old.map(rules::fold), rules::fold(new));
        if old.as_ref() != Some(&new) {
            self.names.extend(old.map(|old| (keys::name(&old, user), false)));
            self.names.insert(keys::name(&new, user), true);
        }
    }

    /// Raises the marks of the rows that exist: of all, or of none if one cannot be read.
    pub(crate) fn mark(&mut self, marks: &Marks) -> Result<()> {
        for (user, conv) in marks.keys() {
            self.load_row(conv, user)?;
        }
        for (key, to) in marks {
            self.raise_marks(key, *to);
        }
        Ok(())
    }

    fn raise_marks(&mut self, key: &(UserId, ConvId), to: Raise) {
        let stamp = self.stamp + 1;
        let Some(row) = self.rows.get_mut(key) else { return };
        let read = raise(&mut row.value.read, to.read);
        if raise(&mut row.value.delivered, to.delivered) | read {
            row.dirty = true;
            self.marks += 1;
        }
        if read {
            row.value.changed = stamp;
            self.stamp = stamp;
        }
    }

    fn put(&mut self, table: Table, key: &[u8], value: Unsealed) {
        self.touched[table as usize] = true;
        self.batch.insert(self.engine.tables.keyspace(table), key, value.seal(table, key));
    }

    fn delete(&mut self, table: Table, key: &[u8]) {
        self.touched[table as usize] = true;
        self.batch.remove(self.engine.tables.keyspace(table), key);
    }

    /// Puts the changed rows of all tables into the batch.
    fn fill(&mut self) {
        let (metas, rows) = (std::mem::take(&mut self.metas), std::mem::take(&mut self.rows));
        for (conv, meta) in metas.iter().filter(|(_, meta)| meta.dirty) {
            self.put(Table::Metas, conv.as_str().as_bytes(), values::encode_meta(&meta.value));
        }
        for ((user, conv), row) in rows.iter().filter(|(_, row)| row.dirty) {
            self.put(Table::Rows, &keys::row(user, conv), values::encode_row(&row.value));
        }
        (self.metas, self.rows) = (metas, rows);
        for ((conv, user), role) in std::mem::take(&mut self.members) {
            let key = keys::member(&conv, &user);
            match role {
                Some(role) => self.put(Table::Members, &key, values::encode_role(role)),
                None => self.delete(Table::Members, &key),
            }
        }
        for (user, value) in std::mem::take(&mut self.users) {
            self.put(Table::Users, user.as_str().as_bytes(), values::encode_user(&value));
        }
        for (key, leads) in std::mem::take(&mut self.names) {
            if leads {
                self.touched[Table::Names as usize] = true;
                self.batch.insert(&self.engine.tables.names, &key[..], &[][..]);
            } else {
                self.delete(Table::Names, &key);
            }
        }
        if self.stamp != self.remembered.stamp {
            self.put(Table::System, keys::STAMP, values::encode_counter(self.stamp));
        }
    }

    /// Commits and notes it in the ledger, unless there is nothing to commit. The writer's memory follows only then.
    pub(crate) fn commit(mut self, ledger: &mut Ledger) -> Result<(), CommitError> {
        self.fill();
        if !self.batch.is_empty() {
            self.touched[Table::System as usize] = true; // it has the number of every commit
            let touched = self.touched;
            let (links, commits) =
                ledger.commits().next(Table::ALL.into_iter().filter(|table| touched[*table as usize]));
            for (table, link) in links {
                self.put(table, keys::LINK, values::encode_link(link));
            }
            self.engine.commit(self.batch)?;
            noted(ledger, commits)
                .map_err(|error| CommitError::Unknown(format!("noting a commit failed: {error}; restart needed")))?;
        }
        self.remembered.stamp = self.stamp;
        remember(&mut self.remembered.metas, self.metas);
        remember(&mut self.remembered.rows, self.rows);
        Ok(())
    }

    fn next_stamp(&mut self) -> Stamp {
        self.stamp += 1;
        self.stamp
    }

    /// Brings the meta data into the draft; false if the conversation does not exist.
    fn load_meta(&mut self, conv: &ConvId) -> Result<bool> {
        if self.metas.contains_key(conv) {
            return Ok(true);
        }
        let value = match self.remembered.metas.get(conv) {
            Some(meta) => Some(meta.clone()),
            None => self.engine.meta(conv)?,
        };
        let exists = value.is_some();
        self.metas.extend(value.map(|value| (conv.clone(), Drafted { value, dirty: false })));
        Ok(exists)
    }

    /// Brings the row into the draft, if it exists.
    fn load_row(&mut self, conv: &ConvId, user: &UserId) -> Result<()> {
        let key = (user.clone(), conv.clone());
        if self.rows.contains_key(&key) {
            return Ok(());
        }
        let value = match self.remembered.rows.get(&key) {
            Some(row) => Some(row.clone()),
            None => self.engine.row(conv, user)?,
        };
        self.rows.extend(value.map(|value| (key, Drafted { value, dirty: false })));
        Ok(())
    }

    fn change_meta(&mut self, append: &Append, stamp: Stamp) {
        let Some(Drafted { value: meta, dirty }) = self.metas.get_mut(&append.conv) else { return };
        *dirty = true;
        meta.head += append.entries.len() as Seq;
        meta.changed = stamp;
        if let Some(name) = &append.name {
            meta.name.clone_from(name);
        }
        if let Some(open) = append.open {
            meta.open = open;
        }
    }

    /// Gives `user` a role; makes the row if need be. The row was loaded.
    fn set_role(&mut self, conv: &ConvId, user: UserId, role: Role, stamp: Stamp) {
        self.members.insert((conv.clone(), user.clone()), Some(role));
        let row = self.rows.entry((user, conv.clone())).or_insert_with(|| Drafted {
            value: IndexRow { conv: conv.clone(), head: 0, read: 0, delivered: 0, role: None, changed: 0 },
            dirty: false,
        });
        if row.value.role != Some(role) {
            row.value.role = Some(role);
            row.value.changed = stamp;
            row.dirty = true;
        }
    }

    /// Ends a membership and marks the row as left. The row was loaded.
    fn remove(&mut self, conv: &ConvId, user: UserId, stamp: Stamp) {
        self.members.insert((conv.clone(), user.clone()), None);
        if let Some(row) = self.rows.get_mut(&(user, conv.clone()))
            && row.value.role.is_some()
        {
            row.value.role = None;
            row.value.changed = stamp;
            row.dirty = true;
        }
    }
}

/// After this the commit may be answered.
fn noted(ledger: &mut Ledger, commits: Commits) -> io::Result<()> {
    failpoint!(CommitShown);
    ledger.note(commits)?;
    failpoint!(CommitNoted);
    Ok(())
}

fn remember<K: Eq + Hash + Clone, V>(recent: &mut Recent<K, V>, drafted: HashMap<K, Drafted<V>>) {
    for (key, row) in drafted {
        recent.insert(key, row.value);
    }
}

/// Raises `seq` to `to`; true if that changed it.
fn raise(seq: &mut Seq, to: Option<Seq>) -> bool {
    let higher = to.filter(|to| to > seq);
    *seq = higher.unwrap_or(*seq);
    higher.is_some()
}
