//! What this node tells the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use roost_storage::{Entry, Member, Store};
use roost_wire::UserId;
use roost_wire::link::{Envelope, Lane, SessionKey};

use super::bus::{Bus, Known, NodeId, Notice, Parcel, To};
use super::peers::{Name, Targets};
use super::{Cluster, Listing};
use crate::conversation::Conversation;
use crate::fanout::to_sync;
use crate::{Downstream, Env, Router};

/// Users in one part of a list. Each part is told under the lock that keeps them.
const LIST_PART_USERS: usize = 1024;
/// Users that are listed in one beat, give or take a part of the table.
const LIST_BEAT_USERS: usize = 65_536;
/// Nodes that parcels for one node alone were numbered for. What is for a further one goes to all.
const DIRECT_NODES_MAX: usize = 4096;

impl<B: Bus> Cluster<B> {
    fn post(&self, to: Option<NodeId>, number: u64, notice: Notice) {
        let (from, incarnation) = (self.node, self.incarnation);
        self.bus.post(to, Parcel { from, incarnation, direct: to.is_some(), number, notice });
    }

    /// The last numbers given to parcels for each node alone.
    pub(super) fn directs(&self) -> Arc<[(NodeId, u64)]> {
        self.direct.lock().iter().map(|(node, number)| (*node, *number)).collect()
    }
}

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// Tells the other nodes, if there are any.
    pub(crate) fn post(&self, notice: impl FnOnce() -> Notice) {
        if self.is_alone() {
            return;
        }
        let number = self.cluster.posted.fetch_add(1, Relaxed) + 1;
        self.post_as(number, notice());
    }

    pub(super) fn post_as(&self, number: u64, notice: Notice) {
        self.metrics.parcels_posted.add(1);
        self.cluster.post(None, number, notice);
    }

    /// Tells one other node.
    pub(super) fn post_to(&self, to: NodeId, notice: Notice) {
        let number = {
            let mut direct = self.cluster.direct.lock();
            if direct.len() >= DIRECT_NODES_MAX && !direct.contains_key(&to) {
                None
            } else {
                let last = direct.entry(to).or_default();
                *last += 1;
                Some(*last)
            }
        };
        match number {
            Some(number) => {
                self.metrics.parcels_posted.add(1);
                self.cluster.post(Some(to), number, notice);
            }
            None => self.post(|| notice),
        }
    }

    /// First noted, then looked up: of who comes between it is noticed when that is heard.
    fn note_recent<'a>(&self, users: impl Iterator<Item = &'a UserId>) {
        users.for_each(|user| self.cluster.recent.note(user));
    }

    /// Tells the nodes where any of `users` is, as far as that is known, and those of which it is not known.
    fn post_to_users<'a>(&self, users: &(impl Iterator<Item = &'a UserId> + Clone), notice: impl FnOnce() -> Notice) {
        let targets = self.cluster.peers.lock().targets(users);
        match targets {
            Targets::All => self.post(notice),
            Targets::Nodes(nodes) if nodes.is_empty() => {}
            Targets::Nodes(nodes) => {
                let notice = notice();
                nodes.into_iter().for_each(|node| self.post_to(node, notice.clone()));
            }
        }
    }

    /// Whether there are no other nodes.
    pub(crate) const fn is_alone(&self) -> bool {
        self.cluster.alone
    }

    /// Tells of entries that are durable. Only the conversation's task calls this, in the order of the entries.
    pub(crate) fn post_entries(&self, conv: &Conversation, entries: &[Entry]) {
        if self.is_alone() || entries.is_empty() {
            return;
        }
        let threshold = self.config.interest_threshold;
        let members = conv.peek(|loaded| {
            let small = !loaded.is_channel() && loaded.roster.len() <= threshold;
            small.then(|| loaded.roster.share())
        });
        let members: Option<Arc<[Member]>> = members.flatten();
        let notice = |members| Notice::Appended { conv: conv.id.clone(), entries: entries.into(), members };
        match members {
            Some(members) => {
                let users = Arc::clone(&members);
                self.note_recent(users.iter().map(|member| &member.user));
                self.post_to_users(&users.iter().map(|member| &member.user), || notice(Some(members)));
            }
            // Who reads it, only its members tell.
            None => self.post(|| notice(None)),
        }
    }

    /// Pushes to sessions of users on the other nodes.
    pub(crate) fn post_push(&self, to: impl FnOnce() -> To, envelope: &Arc<Envelope>) {
        if self.is_alone() {
            return;
        }
        let to = to();
        let notice = |to| Notice::Push { to, envelope: Arc::clone(envelope) };
        match to.clone() {
            To::Users(users) => {
                if envelope.lane() == Lane::Durable {
                    self.note_recent(users.iter());
                }
                self.post_to_users(&users.iter(), || notice(to));
            }
            // Typing and receipts: whoever comes later needs none.
            To::Members { members, .. } => {
                self.post_to_users(&members.iter().map(|member| &member.user), || notice(to));
            }
        }
    }

    /// Makes good that something was posted without regard to where `users` are: who got something a moment ago is to
    /// sync.
    pub(super) fn catch_up_users(&self, users: Vec<(NodeId, UserId)>) {
        let mut missed: BTreeMap<NodeId, Vec<UserId>> = BTreeMap::new();
        for (node, user) in users {
            if self.cluster.recent.holds(&user) {
                missed.entry(node).or_default().push(user);
            }
        }
        for (node, users) in missed {
            for users in users.chunks(LIST_PART_USERS) {
                self.post_to(node, Notice::Push { to: To::Users(users.into()), envelope: to_sync() });
            }
        }
    }

    /// A session is about to be registered. Returns what it is to be told with; empty without other nodes.
    ///
    /// What is known comes before the number: so of two sessions of one device, on two nodes, never both are known to
    /// the other one's node, and one of them lives.
    pub(crate) fn number_session(&self, session: SessionKey) -> Arc<[Known]> {
        if self.is_alone() {
            return Arc::default();
        }
        let knew = self.cluster.peers.lock().known();
        let next = self.cluster.posted.load(Relaxed) + 1;
        self.cluster.numbers.of(&session).lock().insert(session, next);
        knew
    }

    pub(crate) fn forget_number(&self, session: SessionKey) {
        if !self.is_alone() {
            self.cluster.numbers.of(&session).lock().remove(&session);
        }
    }

    /// Tells the other nodes that this one stops in good order: nobody need doubt what it told. Call it after
    /// [`Router::close`]; nothing may be submitted or heard any more.
    pub fn leave(&self) {
        self.post(|| Notice::Leaving);
    }

    /// Tells who is here, a few at a time, if somebody asked. Who comes or goes between the parts is told in its place:
    /// each part is posted under the lock that its users come and go under.
    pub(super) fn post_users(&self) {
        let cluster = &self.cluster;
        let mut listing = cluster.listing.lock();
        if listing.is_none() && cluster.asked.swap(false, Relaxed) {
            *listing = Some(Listing::default());
        }
        let Some(under_way) = &mut *listing else { return };
        let mut listed = 0;
        while under_way.place < self.local.parts() && listed < LIST_BEAT_USERS {
            self.local.list(under_way.place, |users| {
                listed += users.len();
                users.chunks(LIST_PART_USERS).for_each(|users| self.post_part(under_way, false, users.into()));
            });
            under_way.place += 1;
        }
        if under_way.place == self.local.parts() {
            self.post_part(under_way, true, [].into());
            *listing = None;
        }
    }

    fn post_part(&self, listing: &mut Listing, last: bool, users: Arc<[(UserId, Name)]>) {
        self.post(|| Notice::Users { part: listing.part, last, users });
        listing.part += 1;
    }
}
