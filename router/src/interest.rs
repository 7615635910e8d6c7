//! Conversations above the interest threshold: their members' sessions join a topic.
//!
//! When such a conversation is loaded, its members are entered in a table, then those online are made to join. A
//! session that comes later looks itself up in the table, in memory. So CONNECT costs no read for anybody: nothing
//! is pushed from a conversation that is not loaded, and loading it lets the sessions join first. Memory: about 70
//! bytes per member of a loaded large conversation.
//!
//! Entries carry a number that is new with each load, so that dropping an old load leaves a newer one alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use roost_storage::Store;
use roost_wire::link::Down;
use roost_wire::{ConvId, UserId};
use smallvec::SmallVec;

use crate::conversation::Conversation;
use crate::conversation::roster::Roster;
use crate::outbox::Outbox;
use crate::sharded::Sharded;
use crate::{Bus, Downstream, Env, Router};

/// The loaded large conversations of a user, each with the number of its load.
type Large = SmallVec<[(ConvId, u64); 1]>;

/// Loaded large conversations by member.
#[derive(Default)]
pub(crate) struct Interest {
    users: Sharded<HashMap<UserId, Large>>,
    loads: AtomicU64,
}

impl Interest {
    /// The topics that a session of `user` joins.
    pub(crate) fn of(&self, user: &UserId) -> SmallVec<[ConvId; 1]> {
        let users = self.users.of(user).lock();
        users.get(user).into_iter().flatten().map(|(conv, _)| conv.clone()).collect()
    }

    fn add(&self, user: &UserId, conv: &ConvId, load: u64) {
        let mut users = self.users.of(user).lock();
        let convs = users.entry(user.clone()).or_default();
        match convs.iter_mut().find(|(of, _)| of == conv) {
            Some(found) => found.1 = load,
            None => convs.push((conv.clone(), load)),
        }
    }

    fn remove(&self, user: &UserId, conv: &ConvId, load: u64) {
        let mut users = self.users.of(user).lock();
        if let Entry::Occupied(mut entry) = users.entry(user.clone()) {
            entry.get_mut().retain(|(of, as_of)| of != conv || *as_of != load);
            if entry.get().is_empty() {
                entry.remove();
            }
        }
    }
}

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// Brings the topic of `conv` in line with its size, after it was loaded.
    pub(crate) fn watch_interest(&self, conv: &Arc<Conversation>) {
        self.interest_changed(conv, None);
    }

    /// As [`Self::watch_interest`], after the members were those of `before`.
    pub(crate) fn interest_changed(&self, conv: &Conversation, before: Option<&Roster>) {
        let threshold = self.config.interest_threshold;
        let found = conv.peek(|loaded| {
            let large = !loaded.is_channel() && loaded.roster.len() > threshold;
            (large, loaded.interest, loaded.roster.clone())
        });
        match found {
            Some((true, None, roster)) => {
                let load = self.interest.loads.fetch_add(1, Relaxed) + 1;
                conv.peek(|loaded| loaded.interest = Some(load));
                self.join(conv, load, roster.users());
            }
            Some((true, Some(load), roster)) => {
                let Some(before) = before else { return };
                self.join(conv, load, roster.users().filter(|user| before.role(user).is_none()));
                self.part(conv, load, before.users().filter(|user| roster.role(user).is_none()));
            }
            Some((false, Some(load), roster)) => {
                conv.peek(|loaded| loaded.interest = None);
                self.part(conv, load, before.unwrap_or(&roster).users());
            }
            _ => {}
        }
    }

    /// Before `conv` is read anew by its own task: nobody is in its topic.
    pub(crate) fn leave_topic(&self, conv: &Conversation) {
        let found = conv.peek(|loaded| (loaded.interest.take(), loaded.roster.clone()));
        if let Some((Some(load), roster)) = found {
            self.part(conv, load, roster.users());
        }
    }

    /// After `conv` was dropped from memory. Its sessions stay in the topic: whoever ceases to be a member does so
    /// after the conversation was loaded again, and is then made to leave. With other nodes that may happen elsewhere,
    /// unheard: sessions then leave now.
    pub(crate) fn lose_interest(&self, conv: &Conversation) {
        let found = conv.peek(|loaded| (loaded.interest.take(), loaded.roster.clone()));
        match found {
            Some((Some(load), roster)) if self.is_alone() => {
                roster.users().for_each(|user| self.interest.remove(user, &conv.id, load));
            }
            Some((Some(load), roster)) => self.part(conv, load, roster.users()),
            _ => {}
        }
    }

    fn join<'a>(&self, conv: &Conversation, load: u64, users: impl Iterator<Item = &'a UserId>) {
        let mut out = Outbox::default();
        let mut sessions = Vec::new();
        for user in users {
            // First the table, then the routes: a session that comes between finds itself in one of the two.
            self.interest.add(user, &conv.id, load);
            self.local.reach(user, &mut sessions);
        }
        for session in sessions {
            out.push(session.shard(), Down::Join { session, topic: conv.id.clone() });
        }
        out.flush(&*self.down);
    }

    fn part<'a>(&self, conv: &Conversation, load: u64, users: impl Iterator<Item = &'a UserId>) {
        let mut out = Outbox::default();
        let mut sessions = Vec::new();
        for user in users {
            self.interest.remove(user, &conv.id, load);
            self.local.reach(user, &mut sessions);
        }
        for session in sessions {
            out.push(session.shard(), Down::Leave { session, topic: conv.id.clone() });
        }
        out.flush(&*self.down);
    }
}
