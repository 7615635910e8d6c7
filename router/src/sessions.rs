//! What the router keeps of a session beside its route: only of those that watch or subscribe.

use hashbrown::HashMap;
use roost_wire::link::SessionKey;
use roost_wire::{ConvId, UserId};

use crate::sharded::Sharded;

/// Sessions with something to keep.
#[derive(Default)]
pub(crate) struct Sessions(Sharded<HashMap<SessionKey, Box<Kept>>>);

/// What is kept of one.
#[derive(Default)]
pub(crate) struct Kept {
    /// Users it watches.
    pub(crate) watches: Vec<UserId>,
    /// Channels it subscribed to.
    pub(crate) channels: Vec<ConvId>,
}

impl Sessions {
    /// Changes what is kept of `session`, if `alive` still holds under the lock. So nothing is kept of a session that
    /// ended meanwhile. `None` if it had ended.
    pub(crate) fn change<T>(
        &self,
        session: SessionKey,
        alive: impl FnOnce() -> bool,
        change: impl FnOnce(&mut Kept) -> T,
    ) -> Option<T> {
        let mut sessions = self.0.of(&session).lock();
        if !alive() {
            return None;
        }
        let kept = sessions.entry(session).or_default();
        let changed = change(kept);
        if kept.watches.is_empty() && kept.channels.is_empty() {
            sessions.remove(&session);
        }
        Some(changed)
    }

    /// Forgets a session that ended.
    pub(crate) fn remove(&self, session: SessionKey) -> Option<Box<Kept>> {
        self.0.of(&session).lock().remove(&session)
    }
}
