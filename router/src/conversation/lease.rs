//! How long what is known of a conversation counts, where other nodes write to it too.
//!
//! Every change of members, name or roles comes with an entry. So if the head in the store is the head in memory, so
//! are the members: one read of meta data tells. That is looked at
//! - before a group's members are relied on, unless that was done within `roster_lease` and nothing was doubted since:
//!   whoever was removed on another node reads, types and gets receipts through this one no longer than that;
//! - before anybody is refused, and before a change is taken for done already: nobody is told 301 for having joined on
//!   another node a moment ago.
//!
//! Appending needs none of it: the store compares the head. On a node alone nobody else writes, and nothing is looked
//! at.

use std::sync::Arc;

use roost_storage::Store;
use roost_wire::pb::{self, Kind};
use tokio::time::Instant;

use super::{Conversation, Loaded};
use crate::{Bus, Downstream, Env, Router};

/// When what is known of a conversation was so in the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checked {
    /// At this moment or later.
    pub(crate) at: Instant,
    /// So many doubts had been raised by then.
    pub(crate) doubts: u64,
}

impl Loaded {
    /// Whether members, once read, stay: nobody joins or leaves a direct conversation.
    fn is_fixed(&self) -> bool {
        self.meta.kind == Kind::Direct
    }
}

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// What is read from now on is as of now. On a node alone nobody asks, and no clock is read.
    pub(crate) fn check_begins(&self) -> Checked {
        let at = if self.is_alone() { self.cluster.began } else { Instant::now() };
        Checked { at, doubts: self.cluster.doubts() }
    }

    /// Whether `loaded` may be relied on as it is, for reading and the like.
    pub(crate) fn may_rely_on(&self, loaded: &Loaded) -> bool {
        if self.is_alone() || loaded.is_channel() || loaded.is_fixed() {
            return true;
        }
        let checked = loaded.checked;
        checked.doubts == self.cluster.doubts() && checked.at.elapsed() < self.config.roster_lease
    }

    /// Whether `loaded` could be relied on a moment ago: for what was accepted then, and is told only now that it is
    /// durable. A store that was down for longer than a lease in between ends that.
    pub(crate) fn might_rely_on(&self, loaded: &Loaded) -> bool {
        self.may_rely_on(loaded) || loaded.checked.at.elapsed() < 2 * self.config.roster_lease
    }

    /// As [`Self::load`], and sees that what is known may be relied on.
    pub(crate) async fn load_leased(&self, conv: &Arc<Conversation>) -> Result<(), pb::Error> {
        self.load(conv).await?;
        if self.is_alone() || conv.peek(|loaded| self.may_rely_on(loaded)).unwrap_or(true) {
            return Ok(());
        }
        self.compare(conv).await
    }

    /// As [`Self::load`], and sees that what is known was so at some moment after `since`: for whoever is about to be
    /// refused. Costs nothing on a node alone.
    pub(crate) async fn load_since(&self, conv: &Arc<Conversation>, since: Instant) -> Result<(), pb::Error> {
        self.load(conv).await?;
        if self.is_alone() || conv.peek(|loaded| loaded.checked.at > since).unwrap_or(true) {
            return Ok(());
        }
        self.compare(conv).await
    }

    /// Compares a loaded conversation with the store, and catches up.
    async fn compare(&self, conv: &Arc<Conversation>) -> Result<(), pb::Error> {
        let checked = self.check_begins();
        self.metrics.roster_checks.add(1);
        let metas = self.read(self.store.metas(std::slice::from_ref(&conv.id))).await?;
        let stored = metas.into_iter().next().flatten().map_or(0, |meta| meta.head);
        let behind = conv.peek(|loaded| {
            if loaded.checked.doubts != checked.doubts {
                // They may have risen on another node.
                loaded.marks.clear();
            }
            (loaded.meta.head < stored).then_some(loaded.meta.head)
        });
        if let Some(Some(head)) = behind {
            self.catch_up_from(conv, head, |_| None).await?;
        }
        conv.peek(|loaded| loaded.checked = checked);
        // Where members changed it is to be read anew.
        self.load(conv).await
    }
}
