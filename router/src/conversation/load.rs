//! Reading a conversation from the store, and catching up with what others appended.

use std::sync::Arc;

use roost_storage::{ConvMeta, Entry, Member, Range, Store};
use roost_wire::pb::Kind;
use roost_wire::{ConvId, ErrorCode, Seq, pb};

use super::roster::Roster;
use super::{Conversation, Loaded};
use crate::appender::dedup::Recents;
use crate::appender::propose::ROUNDS_MAX;
use crate::{Bus, Downstream, Env, Router};

/// Entries read at once when catching up.
const CATCH_UP_ENTRIES: usize = 256;
/// Entries that are caught up with one by one; further behind, the conversation is read anew.
const CATCH_UP_ENTRIES_MAX: usize = 4096;

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// Reads `conv` unless it is in memory. Only its task calls this.
    ///
    /// # Errors
    /// 300 if it does not exist, or what the store's failure means.
    pub(crate) async fn load(&self, conv: &Arc<Conversation>) -> Result<(), pb::Error> {
        if conv.peek(|_| ()).is_some() {
            return Ok(());
        }
        let loaded = self.read_conversation(&conv.id).await?;
        self.metrics.conversations_loaded.add(1);
        let (head, told) = {
            let mut state = conv.state.lock();
            let head = loaded.meta.head;
            // Other nodes may be about to tell of the last entries: nobody knows then where telling begins.
            if self.is_alone() || head == 0 {
                state.told.get_or_insert(head);
            }
            state.loaded = Some(Box::new(loaded));
            (head, state.told.unwrap_or(head))
        };
        self.watch_interest(conv);
        if head > told {
            self.tell_missed(conv, told, head).await;
        }
        conv.state.lock().decided(head);
        Ok(())
    }

    async fn read_conversation(&self, id: &ConvId) -> Result<Loaded, pb::Error> {
        let checked = self.check_begins();
        let (meta, members, tail) = self.read_parts(id).await?;
        let exists = meta.is_some();
        let mut meta = match meta {
            Some(meta) => meta,
            None if id.is_channel() => self.unborn_channel(id),
            None => return Err(ErrorCode::NoConversation.error()),
        };
        // The reads are not one snapshot: what the tail shows counts.
        meta.head = meta.head.max(tail.last().map_or(0, |last| last.seq));
        let above = tail.first().map_or(meta.head, |first| first.seq - 1);
        let mut recents = Recents::new(above);
        tail.iter().for_each(|entry| recents.push(self.fingerprints.recent(entry)));
        if tail.last().is_some_and(|last| last.seq < meta.head) {
            recents = Recents::new(meta.head);
        }
        Ok(Loaded {
            meta,
            exists,
            roster: Roster::new(members),
            recents,
            marks: hashbrown::HashMap::new(),
            typing: smallvec::SmallVec::new(),
            interest: None,
            checked,
        })
    }

    /// Meta data, members, and the last entries, all as of the last of these.
    async fn read_parts(&self, id: &ConvId) -> Result<(Option<ConvMeta>, Vec<Member>, Vec<Entry>), pb::Error> {
        let ids = std::slice::from_ref(id);
        let metas = self.store.metas(ids);
        let tail = || self.store.range(id, Range::Before(Seq::MAX), self.config.recent_entries_max);
        if self.is_alone() {
            // Only this conversation's task writes to it, and it waits.
            let (metas, members, tail) =
                tokio::try_join!(self.read(metas), self.read(self.store.members(id)), self.read(tail()))?;
            return Ok((metas.into_iter().next().flatten(), members, tail));
        }
        let mut meta = self.read(metas).await?.into_iter().next().flatten();
        for _ in 0..ROUNDS_MAX {
            let members = self.read(self.store.members(id)).await?;
            let tail = self.read(tail()).await?;
            let head = meta.as_ref().map_or(0, |meta| meta.head);
            let reaches = tail.first().is_none_or(|first| first.seq <= head + 1);
            // Members change with an event only: without one since the head was read they are those of the tail.
            if reaches && tail.iter().all(|entry| entry.seq <= head || entry.body.event.is_none()) {
                return Ok((meta, members, tail));
            }
            meta = self.read(self.store.metas(ids)).await?.into_iter().next().flatten();
        }
        Err(self.overloaded())
    }

    fn unborn_channel(&self, id: &ConvId) -> ConvMeta {
        ConvMeta {
            conv: id.clone(),
            kind: Kind::Channel,
            name: id.as_str().to_owned(),
            open: true,
            created_ms: self.env.now_ms(),
            head: 0,
            changed: 0,
        }
    }

    /// Takes note of entries that follow the head as it was known: those of other appenders, or ours after a doubt.
    /// Pushes them, each but to the session that `except` names.
    ///
    /// # Errors
    /// What the store's failure means; the conversation is then to be read anew.
    pub(crate) async fn catch_up(
        &self,
        conv: &Arc<Conversation>,
        mut tail: Vec<Entry>,
        head: Option<Seq>,
        except: impl Fn(&Entry) -> Option<roost_wire::link::SessionKey>,
    ) -> Result<(), pb::Error> {
        let mut taken = 0;
        loop {
            let Some(last) = tail.last().map(|entry| entry.seq) else { return Ok(()) };
            taken += tail.len();
            // Without a known head a page that is not full is the last one.
            let done = head.map_or(tail.len() < CATCH_UP_ENTRIES, |head| last >= head);
            let members_changed = tail.iter().any(|entry| entry.body.event.is_some());
            if members_changed || (taken >= CATCH_UP_ENTRIES_MAX && !done) {
                // Who may read these is not known before the members are read anew; loading then pushes them.
                self.forget(conv);
                return Ok(());
            }
            self.note(conv, &tail);
            self.tell(conv, &tail, &except);
            if done {
                return Ok(());
            }
            match self.read(self.store.range(&conv.id, Range::After(last), CATCH_UP_ENTRIES)).await {
                Ok(more) => tail = more,
                Err(error) => {
                    self.forget(conv);
                    return Err(error);
                }
            }
        }
    }

    /// Reads what follows `after` and catches up with it.
    ///
    /// # Errors
    /// As [`Self::catch_up`].
    pub(crate) async fn catch_up_from(
        &self,
        conv: &Arc<Conversation>,
        after: Seq,
        except: impl Fn(&Entry) -> Option<roost_wire::link::SessionKey>,
    ) -> Result<(), pb::Error> {
        let tail = self.read(self.store.range(&conv.id, Range::After(after), CATCH_UP_ENTRIES)).await?;
        self.catch_up(conv, tail, None, except).await
    }

    /// Moves the head in memory over `entries`.
    fn note(&self, conv: &Conversation, entries: &[Entry]) {
        conv.peek(|loaded| {
            for entry in entries {
                loaded.recents.push(self.fingerprints.recent(entry));
                loaded.meta.head = loaded.meta.head.max(entry.seq);
            }
            loaded.exists |= !entries.is_empty();
        });
    }

    /// Drops what is known of `conv`: it is read again before the next use.
    pub(crate) fn forget(&self, conv: &Conversation) {
        self.leave_topic(conv);
        let loaded = conv.state.lock().loaded.take();
        drop(loaded);
    }
}
