//! Who is online, told to those who look, and when a user was last seen.
//!
//! A user is online while it has a session. Who may see whom is said in [`crate::visibility`]; it is decided when a
//! watch begins. A change is told once it has held for a moment: a user that flaps causes nothing. Times of last
//! presence are written in batches, for users that have a record; for others nothing is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use roost_storage::{Store, User};
use roost_wire::limits::WATCHES_MAX;
use roost_wire::link::{Envelope, Lane, SessionKey};
use roost_wire::{ErrorCode, FrameBody, UserId, pb};
use smallvec::SmallVec;

use crate::fanout::by_shard;
use crate::outbox::{Answer, Outbox};
use crate::router::user_ids;
use crate::sharded::Sharded;
use crate::{Bus, Downstream, Env, Router};

/// Users written at once.
const LAST_SEEN_BATCH: usize = 512;

/// Who watches whom, and what is still to be told or written.
#[derive(Default)]
pub(crate) struct Presence {
    watched: Sharded<HashMap<UserId, Watched>>,
    /// Watched users whose state may have changed, and when it last did, in ms since the Unix epoch.
    due: Mutex<BTreeMap<UserId, u64>>,
    last_seen: Mutex<LastSeen>,
}

/// When users were last seen, as far as it is not written.
#[derive(Default)]
struct LastSeen {
    /// In ms since the Unix epoch. What is being written stays here until it is.
    times: BTreeMap<UserId, u64>,
    /// A task is about to write them.
    flushing: bool,
}

/// A user that somebody watches.
struct Watched {
    by: SmallVec<[SessionKey; 2]>,
    /// What the watchers were told last.
    online: bool,
}

impl Presence {
    /// Ends the watches of a session.
    pub(crate) fn unwatch_all(&self, session: SessionKey, users: &[UserId]) {
        for user in users {
            let mut watched = self.watched.of(user).lock();
            if let Some(entry) = watched.get_mut(user) {
                entry.by.retain(|by| *by != session);
                if entry.by.is_empty() {
                    watched.remove(user);
                }
            }
        }
    }

    pub(crate) fn last_seen_is_empty(&self) -> bool {
        self.last_seen.lock().times.is_empty()
    }
}

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// WATCH: answers with the present state; changes follow as pushes. Who may not be seen looks offline and never
    /// seen, and is not watched.
    pub(crate) async fn watch(&self, session: SessionKey, user: &UserId, watch: &pb::Watch) -> Answer {
        let mut users = user_ids(&watch.users)?;
        users.sort_unstable();
        users.dedup();
        let visible = self.visible(user, &users).await?;
        let (seen, hidden): (Vec<_>, Vec<_>) = users.iter().cloned().zip(&visible).partition(|(_, visible)| **visible);
        let [seen, hidden] = [seen, hidden].map(|part| part.into_iter().map(|(user, _)| user).collect::<Vec<UserId>>());
        let alive = || self.local.holds(user, session);
        let watching = self.sessions.change_watches(session, alive, |watches| {
            let new: Vec<_> = seen.iter().filter(|user| !watches.contains(user)).cloned().collect();
            watches.retain(|user| hidden.binary_search(user).is_err());
            self.presence.unwatch_all(session, &hidden);
            if watches.len() + new.len() > WATCHES_MAX {
                return Err(ErrorCode::TooManyWatches.error());
            }
            for user in &new {
                let mut watched = self.presence.watched.of(user).lock();
                let entry = watched
                    .entry(user.clone())
                    .or_insert_with(|| Watched { by: SmallVec::new(), online: self.is_online(user) });
                entry.by.push(session);
            }
            watches.extend(new);
            Ok(())
        });
        match watching {
            None => return Ok(FrameBody::Ok(pb::Ok {})),
            Some(refused @ Err(_)) => refused?,
            Some(Ok(())) => {}
        }
        // First the watch, then the look: a change between is told twice rather than never.
        let records = self.read(self.store.users(&users)).await?;
        let state = |((user, visible), record): ((&UserId, bool), Option<User>)| {
            let (online, last_seen) = if visible { self.state_of(user, record.as_ref()) } else { (false, 0) };
            pb::UserPresence { user: user.as_str().to_owned(), online, last_seen }
        };
        let states = users.iter().zip(visible).zip(records).map(state);
        Ok(FrameBody::Presence(pb::Presence { users: states.collect() }))
    }

    /// UNWATCH. Users that were not watched are ignored.
    pub(crate) fn unwatch(&self, session: SessionKey, unwatch: &pb::Unwatch) -> Answer {
        let users = user_ids(&unwatch.users)?;
        self.sessions.change_watches(session, || true, |watches| watches.retain(|user| !users.contains(user)));
        self.presence.unwatch_all(session, &users);
        Ok(FrameBody::Ok(pb::Ok {}))
    }

    /// Whether a user is online, and when it was last seen, in ms since the Unix epoch: now if it is online, 0 if never.
    pub(crate) fn state_of(&self, user: &UserId, record: Option<&User>) -> (bool, u64) {
        if self.is_online(user) {
            return (true, self.env.now_ms());
        }
        let stored = record.map_or(0, |record| record.last_seen_ms);
        let waiting = self.presence.last_seen.lock().times.get(user).copied().unwrap_or(0);
        (false, waiting.max(stored))
    }

    /// The user's first session came or its last one went.
    pub(crate) fn presence_changed(self: &Arc<Self>, user: &UserId) {
        if !self.presence.watched.of(user).lock().contains_key(user) {
            return;
        }
        let first = {
            let mut due = self.presence.due.lock();
            due.insert(user.clone(), self.env.now_ms());
            due.len() == 1
        };
        if first {
            let router = Arc::clone(self);
            self.spawn_always(async move {
                tokio::time::sleep(router.config.presence_debounce).await;
                router.tell_presence();
            });
        }
    }

    /// Tells the watchers what has changed and held.
    fn tell_presence(&self) {
        let due = std::mem::take(&mut *self.presence.due.lock());
        let mut out = Outbox::default();
        for (user, changed_ms) in due {
            let online = self.is_online(&user);
            let watchers = {
                let mut watched = self.presence.watched.of(&user).lock();
                match watched.get_mut(&user) {
                    Some(entry) if entry.online != online => {
                        entry.online = online;
                        entry.by.to_vec()
                    }
                    _ => continue,
                }
            };
            self.metrics.presence_pushes.add(1);
            // Who is offline went at that moment: every coming and going since would have moved it.
            let last_seen = if online { self.env.now_ms() } else { changed_ms };
            let users = vec![pb::UserPresence { user: user.into(), online, last_seen }];
            let envelope = Envelope::new(Lane::Ephemeral, FrameBody::Presence(pb::Presence { users }));
            self.push_to(&by_shard(watchers), None, &envelope, &mut out);
        }
        out.flush(&*self.down);
    }

    /// The user's last session went.
    pub(crate) fn saw_last(self: &Arc<Self>, user: &UserId) {
        let now_ms = self.env.now_ms();
        let start = {
            let mut last_seen = self.presence.last_seen.lock();
            let times = &mut last_seen.times;
            if times.len() >= self.config.last_seen_pending_max && !times.contains_key(user) {
                self.metrics.last_seen_dropped.add(1);
                return;
            }
            times.insert(user.clone(), now_ms);
            !std::mem::replace(&mut last_seen.flushing, true)
        };
        if start {
            self.runtime.spawn(Arc::clone(self).flush_last_seen_soon());
        }
    }

    /// Writes what waits, a moment after the first came, until nothing does.
    async fn flush_last_seen_soon(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.config.last_seen_flush_after).await;
            self.flush_last_seen().await;
            let mut last_seen = self.presence.last_seen.lock();
            if last_seen.times.is_empty() {
                last_seen.flushing = false;
                return;
            }
        }
    }

    /// Writes the times of last presence that wait. What cannot be written is dropped: it is a hint.
    pub(crate) async fn flush_last_seen(&self) {
        let waiting: Vec<(UserId, u64)> =
            self.presence.last_seen.lock().times.iter().map(|(user, seen)| (user.clone(), *seen)).collect();
        for part in waiting.chunks(LAST_SEEN_BATCH) {
            self.write_last_seen(part).await;
            let mut last_seen = self.presence.last_seen.lock();
            for (user, seen) in part {
                // One that came and went again meanwhile waits for the next time.
                if last_seen.times.get(user) == Some(seen) {
                    last_seen.times.remove(user);
                }
            }
        }
    }

    async fn write_last_seen(&self, part: &[(UserId, u64)]) {
        let users: Vec<UserId> = part.iter().map(|(user, _)| user.clone()).collect();
        let Ok(records) = self.read(self.store.users(&users)).await else {
            self.metrics.last_seen_dropped.add(part.len());
            return;
        };
        let known = records.into_iter().zip(part).filter_map(|(record, (_, seen))| {
            let record = record?;
            Some(User { last_seen_ms: record.last_seen_ms.max(*seen), ..record })
        });
        let known: Vec<User> = known.collect();
        let count = known.len();
        if count > 0 && self.write(self.store.put_users(known)).await.is_err() {
            self.metrics.last_seen_dropped.add(count);
        }
    }
}
