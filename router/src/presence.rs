//! Who is online, told to those who look, and when a user was last seen.
//!
//! A user is online while it has a session. Any authenticated user may watch any other. A change is told once it has
//! held for a moment: a user that flaps causes nothing. Times of last presence are written in batches, for users that
//! have a record; for others nothing is written.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
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
use crate::{Downstream, Env, Router};

/// Users written at once.
const LAST_SEEN_BATCH: usize = 512;

/// Who watches whom, and what is still to be told or written.
#[derive(Default)]
pub(crate) struct Presence {
    watched: Sharded<HashMap<UserId, Watched>>,
    /// Watched users whose state may have changed.
    due: Mutex<HashSet<UserId>>,
    /// Times in ms since the Unix epoch that are not written yet.
    last_seen: Mutex<HashMap<UserId, u64>>,
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
        self.last_seen.lock().is_empty()
    }
}

impl<S: Store, D: Downstream, E: Env> Router<S, D, E> {
    /// WATCH: answers with the present state; changes follow as pushes.
    pub(crate) async fn watch(&self, session: SessionKey, user: &UserId, watch: &pb::Watch) -> Answer {
        let mut users = user_ids(&watch.users)?;
        users.sort_unstable();
        users.dedup();
        let alive = || self.local.holds(user, session);
        let watching = self.sessions.change(session, alive, |kept| {
            let new: Vec<_> = users.iter().filter(|user| !kept.watches.contains(user)).cloned().collect();
            if kept.watches.len() + new.len() > WATCHES_MAX {
                return Err(ErrorCode::TooManyWatches.error());
            }
            for user in &new {
                let mut watched = self.presence.watched.of(user).lock();
                let entry = watched
                    .entry(user.clone())
                    .or_insert_with(|| Watched { by: SmallVec::new(), online: self.local.is_online(user) });
                entry.by.push(session);
            }
            kept.watches.extend(new);
            Ok(())
        });
        match watching {
            None => return Ok(FrameBody::Ok(pb::Ok {})),
            Some(refused @ Err(_)) => refused?,
            Some(Ok(())) => {}
        }
        // First the watch, then the look: a change between is told twice rather than never.
        let records = self.read(self.store.users(&users)).await?;
        let states = users.iter().zip(records).map(|(user, record)| self.state_of(user, record.as_ref()));
        Ok(FrameBody::Presence(pb::Presence { users: states.collect() }))
    }

    /// UNWATCH. Users that were not watched are ignored.
    pub(crate) fn unwatch(&self, session: SessionKey, unwatch: &pb::Unwatch) -> Answer {
        let users = user_ids(&unwatch.users)?;
        self.sessions.change(session, || true, |kept| kept.watches.retain(|user| !users.contains(user)));
        self.presence.unwatch_all(session, &users);
        Ok(FrameBody::Ok(pb::Ok {}))
    }

    fn state_of(&self, user: &UserId, record: Option<&User>) -> pb::UserPresence {
        let online = self.local.is_online(user);
        let stored = record.map_or(0, |record| record.last_seen_ms);
        let last_seen = if online {
            self.env.now_ms()
        } else {
            self.presence.last_seen.lock().get(user).copied().unwrap_or(0).max(stored)
        };
        pb::UserPresence { user: user.as_str().to_owned(), online, last_seen }
    }

    /// The user's first session came or its last one went.
    pub(crate) fn presence_changed(self: &Arc<Self>, user: &UserId) {
        if !self.presence.watched.of(user).lock().contains_key(user) {
            return;
        }
        let first = {
            let mut due = self.presence.due.lock();
            due.insert(user.clone());
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
        for user in due {
            let online = self.local.is_online(&user);
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
            let users = vec![self.state_of(&user, None)];
            let envelope = Envelope::new(Lane::Ephemeral, FrameBody::Presence(pb::Presence { users }));
            self.push_to(&by_shard(watchers), None, &envelope, &mut out);
        }
        out.flush(&*self.down);
    }

    /// The user's last session went.
    pub(crate) fn saw_last(self: &Arc<Self>, user: &UserId) {
        let now_ms = self.env.now_ms();
        let first = {
            let mut last_seen = self.presence.last_seen.lock();
            if last_seen.len() >= self.config.last_seen_pending_max && !last_seen.contains_key(user) {
                self.metrics.last_seen_dropped.add(1);
                return;
            }
            last_seen.insert(user.clone(), now_ms);
            last_seen.len() == 1
        };
        if first {
            let router = Arc::clone(self);
            self.runtime.spawn(async move {
                tokio::time::sleep(router.config.last_seen_flush_after).await;
                router.flush_last_seen().await;
            });
        }
    }

    /// Writes the times of last presence that wait. What cannot be written is dropped: it is a hint.
    pub(crate) async fn flush_last_seen(&self) {
        let pending = std::mem::take(&mut *self.presence.last_seen.lock());
        let pending: Vec<(UserId, u64)> = pending.into_iter().collect();
        for part in pending.chunks(LAST_SEEN_BATCH) {
            let users: Vec<UserId> = part.iter().map(|(user, _)| user.clone()).collect();
            let Ok(records) = self.read(self.store.users(&users)).await else {
                self.metrics.last_seen_dropped.add(part.len());
                continue;
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
}
