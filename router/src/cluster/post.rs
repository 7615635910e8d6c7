//! What this node tells the others.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use roost_storage::{Entry, Member, Store};
use roost_wire::UserId;
use roost_wire::link::{Envelope, SessionKey};

use super::Listing;
use super::bus::{Bus, Known, Notice, Parcel, To};
use super::peers::Name;
use crate::conversation::Conversation;
use crate::{Downstream, Env, Router};

/// Users in one part of a list. Each part is told under the lock that keeps them.
const LIST_PART_USERS: usize = 1024;
/// Users that are listed in one beat, give or take a part of the table.
const LIST_BEAT_USERS: usize = 65_536;

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// Tells the other nodes, if there are any.
    pub(crate) fn post(&self, notice: impl FnOnce() -> Notice) {
        if B::ALONE {
            return;
        }
        let number = self.cluster.posted.fetch_add(1, Relaxed) + 1;
        self.post_as(number, notice());
    }

    pub(super) fn post_as(&self, number: u64, notice: Notice) {
        self.metrics.parcels_posted.add(1);
        let cluster = &self.cluster;
        cluster.bus.post(Parcel { from: cluster.node, incarnation: cluster.incarnation, number, notice });
    }

    /// Tells of entries that are durable. Only the conversation's task calls this, in the order of the entries.
    pub(crate) fn post_entries(&self, conv: &Conversation, entries: &[Entry]) {
        if B::ALONE || entries.is_empty() {
            return;
        }
        let threshold = self.config.interest_threshold;
        let members = conv.peek(|loaded| {
            let small = !loaded.is_channel() && loaded.roster.len() <= threshold;
            small.then(|| loaded.roster.share())
        });
        let members: Option<Arc<[Member]>> = members.flatten();
        self.post(|| Notice::Appended { conv: conv.id.clone(), entries: entries.into(), members });
    }

    /// Pushes to sessions of users on the other nodes.
    pub(crate) fn post_push(&self, to: impl FnOnce() -> To, envelope: &Arc<Envelope>) {
        self.post(|| Notice::Push { to: to(), envelope: Arc::clone(envelope) });
    }

    /// A session is about to be registered. Returns what it is to be told with; empty without other nodes.
    ///
    /// What is known comes before the number: so of two sessions of one device, on two nodes, never both are known to
    /// the other one's node, and one of them lives.
    pub(crate) fn number_session(&self, session: SessionKey) -> Arc<[Known]> {
        if B::ALONE {
            return Arc::default();
        }
        let knew = self.cluster.peers.lock().known();
        let next = self.cluster.posted.load(Relaxed) + 1;
        self.cluster.numbers.of(&session).lock().insert(session, next);
        knew
    }

    pub(crate) fn forget_number(&self, session: SessionKey) {
        if !B::ALONE {
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
