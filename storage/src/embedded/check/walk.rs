//! What the tables hold, against each other.

use std::collections::{HashMap, HashSet};

use roost_wire::pb::Role;
use roost_wire::{ConvId, Seq, UserId};
use xxhash_rust::xxh3::xxh3_128;

use super::{ProblemKind, Progress, Report};
use crate::embedded::image::{Image, Row};
use crate::embedded::keys::{self, Table};
use crate::embedded::values;
use crate::{ConvMeta, Result, Stamp, StoreError, rules};

/// Rows between two calls of the progress.
const PROGRESS_ROWS: u64 = 10_000;

struct Conversation {
    head: Seq,
    /// The log was met.
    has_log: bool,
}

/// A log on the way through it.
struct Log {
    conv: String,
    /// The seq that comes next.
    next: Seq,
    /// Hashes of writer and cmid.
    cmids: HashSet<u128>,
}

struct Walk<'a, 'p> {
    image: &'a Image,
    report: &'a mut Report,
    progress: &'a mut (dyn FnMut(&str, u64) + 'p),
    stamp: Stamp,
    conversations: HashMap<ConvId, Conversation>,
}

/// Walks through all tables.
pub(super) fn walk(image: &Image, report: &mut Report, progress: Progress<'_>) {
    let mut walk = Walk { image, report, progress, stamp: 0, conversations: HashMap::new() };
    walk.system();
    walk.metas();
    walk.logs();
    let members = walk.members();
    walk.rows(members);
    walk.users();
}

impl<'a> Walk<'a, '_> {
    /// Calls `each` with every row of a table but its link.
    fn each(&mut self, table: Table, mut each: impl FnMut(&mut Self, &Row)) {
        let mut items = self.image.items(table);
        let mut count = 0;
        for row in &mut items {
            if *row.key == *keys::LINK {
                let link = values::decode_link(table, &row.value);
                self.keep(link);
                continue;
            }
            each(self, &row);
            count += 1;
            if count % PROGRESS_ROWS == 0 {
                (self.progress)(&format!("rows of {table}"), count);
            }
        }
        for fault in items.faults {
            self.report.add(ProblemKind::File, fault.to_string());
        }
    }

    fn add(&mut self, kind: ProblemKind, what: String) {
        self.report.add(kind, what);
    }

    /// What was decoded; a failure is a problem.
    fn keep<T>(&mut self, decoded: Result<T>) -> Option<T> {
        decoded.map_err(|error| self.unreadable(&error)).ok()
    }

    fn unreadable(&mut self, error: &StoreError) {
        self.add(ProblemKind::Value, error.to_string());
    }

    fn stamped(&mut self, what: impl FnOnce() -> String, stamp: Stamp) {
        if stamp > self.stamp {
            let last = self.stamp;
            self.add(ProblemKind::Stamp, format!("{} has stamp {stamp}, the last one given is {last}", what()));
        }
    }

    fn system(&mut self) {
        self.each(Table::System, |walk, row| {
            let count = values::decode_counter(&row.key, &row.value);
            if *row.key == *keys::STAMP {
                walk.stamp = walk.keep(count).unwrap_or(0);
            } else {
                walk.add(ProblemKind::Value, format!("table system, key {}: not known", row.key.escape_ascii()));
            }
        });
    }

    fn metas(&mut self) {
        self.each(Table::Metas, |walk, row| {
            walk.report.counts.conversations += 1;
            let Some(meta) = walk.keep(meta(row)) else { return };
            walk.stamped(|| format!("conversation {}", meta.conv), meta.changed);
            walk.conversations.insert(meta.conv, Conversation { head: meta.head, has_log: false });
        });
    }

    fn logs(&mut self) {
        let mut log: Option<Log> = None;
        self.each(Table::Log, |walk, row| {
            walk.report.counts.entries += 1;
            let (Some(conv), Some(seq)) = (keys::first(&row.key), keys::entry_seq(&row.key)) else {
                return walk.add(ProblemKind::Value, format!("table log, key {}: no key", row.key.escape_ascii()));
            };
            if log.as_ref().is_none_or(|log| log.conv != conv) {
                let begun = Log { conv: conv.to_owned(), next: 1, cmids: HashSet::new() };
                if let Some(log) = log.replace(begun) {
                    walk.end_log(&log);
                }
            }
            if let Some(log) = &mut log {
                walk.entry(log, seq, row);
            }
        });
        if let Some(log) = log {
            self.end_log(&log);
        }
        let silent =
            self.conversations.iter().filter(|(_, conversation)| conversation.head > 0 && !conversation.has_log);
        let mut silent: Vec<_> =
            silent.map(|(conv, found)| format!("{conv} has head {}, but no entries", found.head)).collect();
        silent.sort_unstable();
        silent.into_iter().for_each(|what| self.add(ProblemKind::Head, what));
    }

    fn entry(&mut self, log: &mut Log, seq: Seq, row: &Row) {
        if seq != log.next {
            let what = format!("{}: seqs {} to {} are missing", log.conv, log.next, seq.saturating_sub(1));
            self.add(ProblemKind::Gap, what);
        }
        log.next = seq.saturating_add(1);
        let Some(entry) = self.keep(values::decode_entry(&row.key, &row.value)) else { return };
        if !log.cmids.insert(fingerprint(&entry.from, &entry.cmid)) {
            let what = format!("{} {seq}: {} sent cmid {} before", log.conv, entry.from, entry.cmid.escape_debug());
            self.add(ProblemKind::Double, what);
        }
    }

    fn end_log(&mut self, log: &Log) {
        let (conv, last) = (&log.conv, log.next - 1);
        let found = ConvId::new(conv).ok().and_then(|id| self.conversations.get_mut(&id));
        let what = match found {
            None => format!("{conv} has entries up to {last}, but the conversation is not there"),
            Some(found) => {
                found.has_log = true;
                if found.head == last {
                    return;
                }
                format!("{conv} has head {}, but its log ends with {last}", found.head)
            }
        };
        self.add(ProblemKind::Head, what);
    }

    /// The role of each member, by the hash of its key.
    fn members(&mut self) -> HashMap<u128, Role> {
        let mut members = HashMap::new();
        self.each(Table::Members, |walk, row| {
            walk.report.counts.members += 1;
            let Some(role) = walk.keep(values::decode_role(&row.key, &row.value)) else { return };
            let conv = keys::first(&row.key).and_then(|conv| ConvId::new(conv).ok());
            if conv.is_none_or(|conv| !walk.conversations.contains_key(&conv)) {
                let what = format!("{}: a member of a conversation that is not there", row.key.escape_ascii());
                walk.add(ProblemKind::Member, what);
            }
            members.insert(xxh3_128(&row.key), role);
        });
        members
    }

    fn rows(&mut self, mut members: HashMap<u128, Role>) {
        self.each(Table::Rows, |walk, row| {
            walk.report.counts.rows += 1;
            let user = keys::first(&row.key).and_then(|user| UserId::new(user).ok());
            let Some(user) = user else {
                return walk.add(ProblemKind::Value, format!("table rows, key {}: no key", row.key.escape_ascii()));
            };
            let Some(found) = walk.keep(values::decode_row(&row.key, &row.value)) else { return };
            let role = members.remove(&xxh3_128(&keys::member(&found.conv, &user)));
            let place = || format!("{user} in {}", found.conv);
            if role != found.role {
                let what = format!("{}: the index row says {:?}, the members say {role:?}", place(), found.role);
                walk.add(ProblemKind::Member, what);
            }
            walk.stamped(place, found.changed);
            let Some(head) = walk.conversations.get(&found.conv).map(|conversation| conversation.head) else {
                return walk.add(ProblemKind::Row, format!("{}: the conversation is not there", place()));
            };
            if found.head > head {
                walk.add(ProblemKind::Row, format!("{}: the row has head {}, the log {head}", place(), found.head));
            }
            if found.read > head || found.delivered > head {
                let (read, delivered) = (found.read, found.delivered);
                let what = format!("{}: read {read}, delivered {delivered}, but the head is {head}", place());
                walk.add(ProblemKind::Mark, what);
            }
        });
        if !members.is_empty() {
            self.each(Table::Members, |walk, row| {
                if members.contains_key(&xxh3_128(&row.key)) {
                    walk.add(ProblemKind::Row, format!("{}: a member without an index row", row.key.escape_ascii()));
                }
            });
        }
    }

    fn users(&mut self) {
        let mut names = HashMap::new();
        self.each(Table::Users, |walk, row| {
            walk.report.counts.users += 1;
            let user = std::str::from_utf8(&row.key).ok().and_then(|id| UserId::new(id).ok());
            let Some(user) = user else {
                return walk.add(ProblemKind::Value, format!("table users, key {}: no key", row.key.escape_ascii()));
            };
            let Some(found) = walk.keep(values::decode_user(&user, &row.value)) else { return };
            names.insert(xxh3_128(&keys::name(&rules::fold(&found.name), &user)), user);
        });
        self.each(Table::Names, |walk, row| {
            if names.remove(&xxh3_128(&row.key)).is_none() {
                walk.add(
                    ProblemKind::Name,
                    format!("{}: the name leads to nobody of that name", row.key.escape_ascii()),
                );
            }
        });
        let mut unnamed: Vec<_> = names.into_values().collect();
        unnamed.sort_unstable();
        for user in unnamed {
            self.add(ProblemKind::Name, format!("{user} cannot be found by name"));
        }
    }
}

/// A conversation's meta data.
pub(crate) fn meta(row: &Row) -> Result<ConvMeta> {
    let conv = std::str::from_utf8(&row.key).ok().and_then(|id| ConvId::new(id).ok());
    let conv =
        conv.ok_or_else(|| StoreError::Damaged(format!("table metas, key {}: no key", row.key.escape_ascii())))?;
    values::decode_meta(&conv, &row.value)
}

/// Of writer and cmid: 128 bits, so that two are the same by chance never.
pub(crate) fn fingerprint(from: &UserId, cmid: &str) -> u128 {
    let mut bytes = from.as_str().as_bytes().to_vec();
    bytes.push(0);
    bytes.extend_from_slice(cmid.as_bytes());
    xxh3_128(&bytes)
}
