//! A conversation as the log has it: its entries, and who was a member when.

use std::collections::{BTreeMap, BTreeSet};

use roost_storage::{Append, ConvMeta, Entry, Member};
use roost_wire::pb::{EventKind, Kind, Role};
use roost_wire::{ConvId, Seq, UserId};

/// How long a node may go on telling somebody that others write, read or come, after he was removed: it may learn of
/// it that much later, if the bus or the store is in trouble.
const GRACE_MS: u64 = 60_000;
/// How long a node may go on answering HISTORY and SYNC of somebody who was removed: `roster_lease`, and as long as
/// the reads of one answer may take. Entries that are pushed know no such grace.
const LEASE_MS: u64 = 2_000 + 3 * 10_000;

/// A time of membership: from the state after entry `from` to the state before entry `until`.
#[derive(Debug)]
struct Span {
    from: Seq,
    until: Option<Seq>,
    until_ms: u64,
}

/// One conversation.
#[derive(Debug)]
pub(crate) struct Conv {
    id: ConvId,
    kind: Kind,
    open: bool,
    log: Vec<Entry>,
    cmids: BTreeMap<(UserId, String), Seq>,
    roles: BTreeMap<UserId, Role>,
    spans: BTreeMap<UserId, Vec<Span>>,
    /// The number of the last message of each client.
    sent: BTreeMap<usize, u64>,
    /// Own entries count as read, and so does what was before a member came.
    read: BTreeMap<UserId, Seq>,
}

impl Conv {
    pub(crate) fn new(meta: &ConvMeta, members: &[Member]) -> Self {
        let mut conv = Self {
            id: meta.conv.clone(),
            kind: meta.kind,
            open: meta.open,
            log: Vec::new(),
            cmids: BTreeMap::new(),
            roles: BTreeMap::new(),
            spans: BTreeMap::new(),
            sent: BTreeMap::new(),
            read: BTreeMap::new(),
        };
        for Member { user, role } in members {
            conv.roles.insert(user.clone(), *role);
            conv.spans.entry(user.clone()).or_default().push(Span { from: 0, until: None, until_ms: 0 });
        }
        conv
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn head(&self) -> Seq {
        self.log.len() as Seq
    }

    pub(crate) fn entry(&self, seq: Seq) -> Option<&Entry> {
        self.log.get(usize::try_from(seq).ok()?.checked_sub(1)?)
    }

    pub(crate) fn find(&self, cmid: &str) -> Option<Seq> {
        self.log.iter().find(|entry| entry.cmid == cmid).map(|entry| entry.seq)
    }

    pub(crate) fn role(&self, user: &UserId) -> Option<Role> {
        self.roles.get(user).copied()
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &UserId> {
        self.roles.keys()
    }

    /// How often the user ceased to be a member.
    pub(crate) fn removals(&self, user: &UserId) -> usize {
        self.spans.get(user).map_or(0, |spans| spans.iter().filter(|span| span.until.is_some()).count())
    }

    /// True if the user was a member at some time after entry `seq` was there.
    pub(crate) fn may_see(&self, user: &UserId, seq: Seq) -> bool {
        let sees = |span: &Span| span.until.is_none_or(|until| until > seq);
        self.kind == Kind::Channel || self.spans.get(user).is_some_and(|spans| spans.iter().any(sees))
    }

    /// True if the user was ever a member.
    pub(crate) fn ever_read(&self, user: &UserId) -> bool {
        self.kind == Kind::Channel || self.spans.contains_key(user)
    }

    /// True if the user may see entry `seq`, or might have a moment ago.
    pub(crate) fn may_read(&self, user: &UserId, seq: Seq, now_ms: u64) -> bool {
        let reads = |span: &Span| span.until_ms + LEASE_MS >= now_ms;
        self.may_see(user, seq) || self.spans.get(user).is_some_and(|spans| spans.iter().any(reads))
    }

    /// True if the user is a member, or was a moment ago.
    pub(crate) fn may_hear(&self, user: &UserId, now_ms: u64) -> bool {
        let hears = |span: &Span| span.until.is_none() || span.until_ms + GRACE_MS >= now_ms;
        self.kind == Kind::Channel || self.spans.get(user).is_some_and(|spans| spans.iter().any(hears))
    }

    /// What counts as read without a READ.
    pub(crate) fn read_anyway(&self, user: &UserId) -> Seq {
        self.read.get(user).copied().unwrap_or(0)
    }

    /// Notes that message `number` of `client` is stored; the number of a later one that was stored before it.
    pub(crate) fn sent_before(&mut self, client: usize, number: u64) -> Option<u64> {
        let last = self.sent.entry(client).or_insert(number);
        let before = (*last > number).then_some(*last);
        *last = number.max(*last);
        before
    }

    /// Takes what was appended. Returns what is wrong with it.
    pub(crate) fn append(&mut self, append: &Append, now_ms: u64) -> Vec<String> {
        let mut broken = self.judge(append);
        for entry in &append.entries {
            let Entry { seq, from, cmid, .. } = entry;
            if *seq != self.head() + 1 {
                broken.push(format!("{} has seq {seq} at place {}", self.id, self.head() + 1));
            }
            if let Some(before) = self.cmids.insert((from.clone(), cmid.clone()), *seq) {
                broken.push(format!("{} holds {cmid} of {from} at {before} and at {seq}", self.id));
            }
            self.read.insert(from.clone(), *seq);
            self.log.push(entry.clone());
        }
        self.change(append, now_ms);
        self.open = append.open.unwrap_or(self.open);
        let owners = self.roles.values().filter(|role| **role == Role::Owner).count();
        if self.kind == Kind::Group && !self.roles.is_empty() && owners != 1 {
            broken.push(format!("{} has {owners} owners", self.id));
        }
        broken
    }

    /// Whether those who wrote were allowed to, by what was in force right before.
    fn judge(&self, append: &Append) -> Vec<String> {
        let mut broken = Vec::new();
        for entry in &append.entries {
            let role = self.roles.get(&entry.from);
            let event = entry.body.event.as_ref();
            let allowed = match event.map(|event| (event.kind(), event.users.as_slice())) {
                _ if self.kind == Kind::Channel => event.is_none(),
                None | Some((EventKind::Left, _)) => role.is_some(),
                Some((EventKind::Joined, _)) => self.open || self.roles.is_empty(),
                // An heir is named by the owner's leaving.
                Some((EventKind::RoleChanged, _)) => role == Some(&Role::Owner),
                Some(_) => matches!(role, Some(Role::Owner | Role::Admin)),
            };
            if !allowed {
                let (seq, from) = (entry.seq, &entry.from);
                broken.push(format!("{} {seq}: {from}, who is {role:?}, wrote {event:?}", self.id));
            }
        }
        broken
    }

    fn change(&mut self, append: &Append, now_ms: u64) {
        let (first, last) = (append.expected, self.head());
        let before: BTreeSet<UserId> = self.roles.keys().cloned().collect();
        for change in &append.members {
            match change.role {
                Some(role) => drop(self.roles.insert(change.user.clone(), role)),
                None => drop(self.roles.remove(&change.user)),
            }
        }
        for change in &append.members {
            let (user, is) = (&change.user, self.roles.contains_key(&change.user));
            let spans = self.spans.entry(user.clone()).or_default();
            match (before.contains(user), is) {
                (false, true) if spans.last().is_none_or(|span| span.until.is_some()) => {
                    spans.push(Span { from: last, until: None, until_ms: 0 });
                    let read = self.read.entry(user.clone()).or_default();
                    *read = (*read).max(first - 1);
                }
                (true, false) => {
                    if let Some(span) = spans.last_mut().filter(|span| span.until.is_none()) {
                        debug_assert!(span.from <= first, "it began before it ended");
                        (span.until, span.until_ms) = (Some(first), now_ms);
                    }
                }
                _ => {}
            }
        }
    }
}
