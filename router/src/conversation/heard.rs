//! Entries that another node appended, as it tells of them: pushed to the sessions here, in the order of their seqs,
//! each once.
//!
//! `told` is the last seq that was pushed from here. What is above it by more than one lies behind something that did
//! not come, or not yet: the log has it, and is read. What is not above it was pushed already. Nothing has to be known
//! of a conversation to push entries that come with their readers; if it is in memory, memory follows.

use std::sync::Arc;

use roost_storage::{Entry, Member, Store};
use roost_wire::{Seq, pb};

use super::Conversation;
use super::roster::Roster;
use crate::fanout::{Reach, Telling, by_shard, to_sync};
use crate::outbox::Outbox;
use crate::{Bus, Downstream, Env, Router};

/// What was heard of a conversation.
pub(crate) enum Heard {
    /// See [`crate::Notice::Appended`].
    Entries { entries: Arc<[Entry]>, members: Option<Arc<[Member]>> },
    /// See [`crate::Notice::Missed`].
    Missed,
}

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// Makes known here what another node told. Only the conversation's task calls this.
    pub(crate) async fn heard(&self, conv: &Arc<Conversation>, heard: Heard) {
        match heard {
            Heard::Entries { entries, members } => self.heard_entries(conv, &entries, members).await,
            Heard::Missed => {
                self.forget(conv);
                match self.load(conv).await {
                    Ok(()) => self.tell_to_sync(conv),
                    Err(error) if error.retryable => self.doubt(1),
                    Err(_) => {}
                }
            }
        }
    }

    async fn heard_entries(&self, conv: &Arc<Conversation>, entries: &[Entry], members: Option<Arc<[Member]>>) {
        let (Some(first), Some(last)) = (entries.first().map(|e| e.seq), entries.last().map(|e| e.seq)) else { return };
        let (head, told) = {
            let mut state = conv.state.lock();
            let head = state.loaded.as_ref().map(|loaded| loaded.meta.head);
            let below = head.map_or(first - 1, |head| head.min(first - 1));
            (head, *state.told.get_or_insert(below))
        };
        let done = match head {
            Some(head) => self.heard_in_memory(conv, entries, head).await,
            None if last <= told => Ok(()),
            None if first <= told + 1 && (members.is_some() || conv.id.is_channel()) => {
                self.pass_on(conv, entries, members, told);
                Ok(())
            }
            // Loading makes the members of a large conversation join, and pushes what is above `told`.
            None => self.load(conv).await,
        };
        if let Err(error) = done
            && error.retryable
        {
            // Reading it anew tells what is above `told`.
            self.forget(conv);
            self.settle_later(conv);
        }
    }

    async fn heard_in_memory(&self, conv: &Arc<Conversation>, entries: &[Entry], head: Seq) -> Result<(), pb::Error> {
        let (known, new) = entries.split_at(entries.partition_point(|entry| entry.seq <= head));
        if !known.is_empty() {
            self.tell(conv, known, &|_| None);
        }
        let Some(first) = new.first() else { return Ok(()) };
        if first.seq == head + 1 {
            let last = new.last().map(|last| last.seq);
            self.catch_up(conv, new.to_vec(), last, |_| None).await?;
        } else {
            self.catch_up_from(conv, head, |_| None).await?;
        }
        // Where members changed, those who are in now are told by reading it anew.
        self.load(conv).await
    }

    /// Pushes entries of a conversation that is not in memory to those who came with them.
    fn pass_on(&self, conv: &Conversation, entries: &[Entry], members: Option<Arc<[Member]>>, told: Seq) {
        let reach = match members {
            Some(members) => Reach::Sessions(by_shard(self.sessions_of(Roster::shared(members).users()))),
            None => Reach::Topic,
        };
        let new = entries.iter().filter(|entry| entry.seq > told);
        let tellings = new.map(|entry| Telling { entry: entry.clone(), except: None, sent: None }).collect();
        let mut out = Outbox::default();
        self.tell_reach(conv, &reach, tellings, &mut out);
        out.flush(&*self.down);
        conv.state.lock().told = entries.last().map(|last| last.seq).max(Some(told));
    }

    /// Tells the readers of a loaded conversation here to sync.
    pub(crate) fn tell_to_sync(&self, conv: &Conversation) {
        let mut out = Outbox::default();
        self.push_reach(conv, &to_sync(), &mut out);
        out.flush(&*self.down);
    }
}
