//! New tables from what can be read of the old ones.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

use fjall::OwnedWriteBatch;
use roost_wire::pb::{Kind, Role};
use roost_wire::{ConvId, Seq, UserId};

use super::{Lost, Progress};
use crate::embedded::check::{fingerprint, meta};
use crate::embedded::engine::{CommitError, Engine};
use crate::embedded::image::{Image, Row};
use crate::embedded::keys::{self, Table};
use crate::embedded::values::{self, Unsealed};
use crate::{ConvMeta, IndexRow, Stamp, rules};

/// Rows of one commit.
const COMMIT_ROWS: usize = 1000;
/// Notes that are told; more are only counted.
const NOTES_MAX: usize = 1000;

/// What is known of a conversation.
#[derive(Default)]
struct Found {
    /// The last entry that was kept.
    kept: Seq,
    /// The last seq that anything knows of.
    known: Seq,
    /// When its first entry was taken, in ms since the Unix epoch.
    begun_ms: u64,
    has_meta: bool,
}

struct Rebuild<'a, 'p> {
    image: &'a Image,
    engine: &'a Engine,
    batch: OwnedWriteBatch,
    progress: &'a mut (dyn FnMut(&str, u64) + 'p),
    found: BTreeMap<ConvId, Found>,
    roles: BTreeMap<(ConvId, UserId), Role>,
    /// The stamp of what the repair changes: above all others.
    stamp: Stamp,
    written: u64,
    notes: Vec<String>,
    notes_more: u64,
}

/// Writes into `engine`, which is empty, what `image` has. Gives what is lost, and what else there is to say.
pub(super) fn rebuild(image: &Image, engine: &Engine, progress: Progress<'_>) -> io::Result<(Vec<Lost>, Vec<String>)> {
    let mut rebuild = Rebuild {
        image,
        engine,
        batch: engine.batch(),
        progress,
        found: BTreeMap::new(),
        roles: BTreeMap::new(),
        stamp: 0,
        written: 0,
        notes: Vec::new(),
        notes_more: 0,
    };
    rebuild.survey();
    rebuild.logs()?;
    rebuild.metas()?;
    rebuild.rows()?;
    rebuild.members()?;
    rebuild.users()?;
    let stamp = rebuild.stamp;
    rebuild.put(Table::System, keys::STAMP, values::encode_counter(stamp))?;
    rebuild.commit()?;
    let lost = rebuild.found.iter().filter(|(_, found)| found.known > found.kept);
    let lost = lost.map(|(conv, found)| Lost { conv: conv.to_string(), first: found.kept + 1, last: found.known });
    let lost = lost.collect();
    if rebuild.notes_more > 0 {
        rebuild.notes.push(format!("and {} more of these", rebuild.notes_more));
    }
    Ok((lost, rebuild.notes))
}

impl<'a> Rebuild<'a, '_> {
    fn each(&mut self, table: Table, mut each: impl FnMut(&mut Self, &Row) -> io::Result<()>) -> io::Result<()> {
        let image: &'a Image = self.image;
        image.items(table).filter(|row| *row.key != *keys::LINK).try_for_each(|row| each(self, &row))
    }

    fn put(&mut self, table: Table, key: &[u8], value: Unsealed) -> io::Result<()> {
        self.put_raw(table, key, &value.seal(table, key))
    }

    fn put_raw(&mut self, table: Table, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.batch.insert(self.engine.tables.keyspace(table), key, value);
        self.written += 1;
        if self.batch.len() >= COMMIT_ROWS { self.commit() } else { Ok(()) }
    }

    fn commit(&mut self) -> io::Result<()> {
        let batch = std::mem::replace(&mut self.batch, self.engine.batch());
        (self.progress)("rows written", self.written);
        let committed = self.engine.check_room().and_then(|()| self.engine.commit(batch));
        committed.map_err(|error| match error {
            CommitError::Refused(error) => io::Error::other(error),
            CommitError::Stopped(why) | CommitError::Unknown(why) => io::Error::other(why),
        })
    }

    fn note(&mut self, note: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note);
        } else {
            self.notes_more += 1;
        }
    }

    fn know(&mut self, conv: ConvId, seq: Seq) -> &mut Found {
        let found = self.found.entry(conv).or_default();
        found.known = found.known.max(seq);
        found
    }

    /// Which conversations there are, how far anything says that they go, and the newest stamp.
    fn survey(&mut self) {
        let mut stamp = 0;
        let mut survey = |table: Table, each: &mut dyn FnMut(&mut Self, &Row) -> Option<Stamp>| {
            let image: &'a Image = self.image;
            for row in image.items(table).filter(|row| *row.key != *keys::LINK) {
                stamp = each(self, &row).unwrap_or(0).max(stamp);
            }
        };
        survey(Table::System, &mut |_, row| {
            values::decode_counter(&row.key, &row.value).ok().filter(|_| *row.key == *keys::STAMP)
        });
        survey(Table::Metas, &mut |rebuild, row| {
            let meta = meta(row).ok()?;
            rebuild.know(meta.conv, meta.head).has_meta = true;
            Some(meta.changed)
        });
        survey(Table::Rows, &mut |rebuild, row| {
            let found = values::decode_row(&row.key, &row.value).ok()?;
            rebuild.know(found.conv, found.head.max(found.read).max(found.delivered));
            Some(found.changed)
        });
        survey(Table::Members, &mut |rebuild, row| {
            let (conv, user) = (conv_of(keys::first(&row.key)?)?, values::user_in_key(&row.key).ok()?);
            let role = values::decode_role(&row.key, &row.value).ok()?;
            rebuild.know(conv.clone(), 0);
            rebuild.roles.insert((conv, user), role);
            None
        });
        self.stamp = stamp + 1;
    }

    /// The beginning of each log up to the first entry that is missing or cannot be read.
    fn logs(&mut self) -> io::Result<()> {
        let (mut current, mut whole, mut cmids) = (None, true, HashSet::new());
        self.each(Table::Log, |rebuild, row| {
            let place = keys::first(&row.key).and_then(conv_of).zip(keys::entry_seq(&row.key));
            let Some((conv, seq)) = place else { return Ok(()) };
            if current.as_ref() != Some(&conv) {
                (current, whole) = (Some(conv.clone()), true);
                cmids.clear();
            }
            let found = rebuild.know(conv.clone(), seq);
            let entry = values::decode_entry(&row.key, &row.value).ok().filter(|_| whole && seq == found.kept + 1);
            let Some(mut entry) = entry else {
                whole = false;
                return Ok(());
            };
            found.kept = seq;
            if seq == 1 {
                found.begun_ms = entry.ts_ms;
            }
            if !cmids.insert(fingerprint(&entry.from, &entry.cmid)) {
                entry.cmid = format!("{}#{seq}", entry.cmid);
                rebuild.note(format!("{conv} {seq}: its cmid was in the log before and is now {}", entry.cmid));
            }
            rebuild.put(Table::Log, &row.key, values::encode_entry(entry))
        })
    }

    fn metas(&mut self) -> io::Result<()> {
        self.each(Table::Metas, |rebuild, row| {
            let Ok(meta) = meta(row) else { return Ok(()) };
            let head = rebuild.found.get(&meta.conv).map_or(0, |found| found.kept);
            rebuild.put(Table::Metas, &row.key, values::encode_meta(&ConvMeta { head, ..meta }))
        })?;
        let bare = self.found.iter().filter(|(_, found)| !found.has_meta);
        let bare: Vec<_> = bare.map(|(conv, found)| (conv.clone(), found.kept, found.begun_ms)).collect();
        let peopled: HashSet<_> = self.roles.keys().map(|(conv, _)| conv.clone()).collect();
        for (conv, head, created_ms) in bare {
            let kind = kind_of(&conv, peopled.contains(&conv));
            self.note(format!("{conv}: its name and settings are lost; taken for a {kind:?}"));
            let meta = ConvMeta { kind, name: String::new(), open: false, created_ms, head, changed: self.stamp, conv };
            self.put(Table::Metas, meta.conv.as_str().as_bytes(), values::encode_meta(&meta))?;
        }
        Ok(())
    }

    /// The rows that can be read decide who is a member; those that are missing are made of the members.
    fn rows(&mut self) -> io::Result<()> {
        let mut members = std::mem::take(&mut self.roles);
        let mut roles = BTreeMap::new();
        self.each(Table::Rows, |rebuild, row| {
            let user = keys::first(&row.key).and_then(|user| UserId::new(user).ok());
            let (Some(user), Ok(found)) = (user, values::decode_row(&row.key, &row.value)) else { return Ok(()) };
            let place = (found.conv.clone(), user);
            let member = members.remove(&place);
            if member != found.role {
                rebuild.note(format!("{} in {}: the index row decides, {:?}", place.1, place.0, found.role));
            }
            roles.extend(found.role.map(|role| (place, role)));
            let head = rebuild.found.get(&found.conv).map_or(0, |found| found.kept);
            let mut now = IndexRow {
                head: found.head.min(head),
                read: found.read.min(head),
                delivered: found.delivered.min(head),
                ..found.clone()
            };
            if now != found || member != found.role {
                now.changed = rebuild.stamp;
            }
            rebuild.put(Table::Rows, &row.key, values::encode_row(&now))
        })?;
        for ((conv, user), role) in members {
            self.note(format!("{user} in {conv}: the index row is made anew, nothing is read or delivered"));
            let head = self.found.get(&conv).map_or(0, |found| found.kept);
            let row =
                IndexRow { conv: conv.clone(), head, read: 0, delivered: 0, role: Some(role), changed: self.stamp };
            self.put(Table::Rows, &keys::row(&user, &conv), values::encode_row(&row))?;
            roles.insert((conv, user), role);
        }
        self.roles = roles;
        Ok(())
    }

    fn members(&mut self) -> io::Result<()> {
        for ((conv, user), role) in std::mem::take(&mut self.roles) {
            self.put(Table::Members, &keys::member(&conv, &user), values::encode_role(role))?;
        }
        Ok(())
    }

    fn users(&mut self) -> io::Result<()> {
        let mut names = HashMap::new();
        self.each(Table::Users, |rebuild, row| {
            let id = std::str::from_utf8(&row.key).ok().and_then(|id| UserId::new(id).ok());
            let Some((id, user)) = id.and_then(|id| Some((id.clone(), values::decode_user(&id, &row.value).ok()?)))
            else {
                rebuild.note(format!("user {}: the record is lost", row.key.escape_ascii()));
                return Ok(());
            };
            names.insert(id.clone(), keys::name(&rules::fold(&user.name), &id));
            rebuild.put(Table::Users, &row.key, values::encode_user(&user))
        })?;
        names.into_values().try_for_each(|key| self.put_raw(Table::Names, &key, &[]))
    }
}

fn conv_of(id: &str) -> Option<ConvId> {
    ConvId::new(id).ok()
}

/// What a conversation without meta data is: ids made here say so, others are groups if they have members.
fn kind_of(conv: &ConvId, has_members: bool) -> Kind {
    match conv.as_str() {
        id if id.starts_with("c_d") => Kind::Direct,
        id if id.starts_with("c_g") || has_members => Kind::Group,
        _ => Kind::Channel,
    }
}
