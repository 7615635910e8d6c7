//! The sessions of this process: user -> devices.
//!
//! Invariants:
//! - a session is registered before anything is read for it, so that what is appended later finds it;
//! - until it is accepted nothing is addressed to it; that something would have been is noted instead;
//! - accepting posts WELCOME under the lock, so that no push can come before it.

use std::hash::BuildHasher;

use hashbrown::hash_map::Entry;
use hashbrown::{DefaultHashBuilder, HashMap};
use roost_wire::UserId;
use roost_wire::link::SessionKey;
use smallvec::SmallVec;

use crate::sharded::Sharded;

/// One session of a user: 16 bytes.
#[derive(Clone, Copy)]
struct Route {
    /// Hash of the device's name; the lowest bits are flags.
    device: u64,
    session: SessionKey,
}

impl Route {
    /// WELCOME has not been posted.
    const PENDING: u64 = 1;
    /// Something was addressed to the user meanwhile.
    const MISSED: u64 = 2;
    const FLAGS: u64 = Self::PENDING | Self::MISSED;

    fn is_pending(self) -> bool {
        self.device & Self::PENDING != 0
    }
}

type Routes = SmallVec<[Route; 1]>;

/// How registering changed things.
pub(crate) struct Registered {
    /// The older session of the same device; it is no longer registered.
    pub(crate) replaced: Option<SessionKey>,
    /// The user had no session before.
    pub(crate) first: bool,
}

/// The registry of one process.
#[derive(Default)]
pub(crate) struct Local {
    users: Sharded<HashMap<UserId, Routes>>,
    devices: DefaultHashBuilder,
}

impl Local {
    /// Registers a session that is about to be accepted.
    pub(crate) fn register(&self, user: &UserId, device: &str, session: SessionKey) -> Registered {
        let device = self.devices.hash_one(device) & !Route::FLAGS;
        let route = Route { device: device | Route::PENDING, session };
        let mut users = self.users.of(user).lock();
        match users.entry(user.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(SmallVec::from_buf([route]));
                Registered { replaced: None, first: true }
            }
            Entry::Occupied(mut entry) => {
                let routes = entry.get_mut();
                let replaced = match routes.iter_mut().find(|old| old.device & !Route::FLAGS == device) {
                    Some(old) => Some(std::mem::replace(old, route).session),
                    None => {
                        routes.push(route);
                        None
                    }
                };
                Registered { replaced, first: false }
            }
        }
    }

    /// Lets pushes through to a registered session. `welcome` is called under the lock and told whether something
    /// was missed since registration. False if the session is not registered any more.
    pub(crate) fn accept(&self, user: &UserId, session: SessionKey, welcome: impl FnOnce(bool)) -> bool {
        let mut users = self.users.of(user).lock();
        let route = users.get_mut(user).and_then(|routes| routes.iter_mut().find(|route| route.session == session));
        let Some(route) = route else {
            return false;
        };
        let missed = route.device & Route::MISSED != 0;
        route.device &= !Route::FLAGS;
        welcome(missed);
        true
    }

    /// Forgets a session. `None` if it was not registered, else whether it was the user's last one.
    pub(crate) fn remove(&self, user: &UserId, session: SessionKey) -> Option<bool> {
        let mut users = self.users.of(user).lock();
        let Entry::Occupied(mut entry) = users.entry(user.clone()) else {
            return None;
        };
        let routes = entry.get_mut();
        let place = routes.iter().position(|route| route.session == session)?;
        routes.swap_remove(place);
        let last = routes.is_empty();
        if last {
            entry.remove();
        } else if routes.spilled() && routes.len() == 1 {
            routes.shrink_to_fit();
        }
        Some(last)
    }

    /// Appends the accepted sessions of `user` to `sessions`, and notes for the others that they missed something.
    pub(crate) fn reach(&self, user: &UserId, sessions: &mut Vec<SessionKey>) {
        let mut users = self.users.of(user).lock();
        for route in users.get_mut(user).into_iter().flatten() {
            if route.is_pending() {
                route.device |= Route::MISSED;
            } else {
                sessions.push(route.session);
            }
        }
    }

    /// Whether the user has a session.
    pub(crate) fn is_online(&self, user: &UserId) -> bool {
        self.users.of(user).lock().contains_key(user)
    }

    /// Whether this very session is registered.
    pub(crate) fn holds(&self, user: &UserId, session: SessionKey) -> bool {
        let users = self.users.of(user).lock();
        users.get(user).is_some_and(|routes| routes.iter().any(|route| route.session == session))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.users.parts().map(|part| part.lock().len()).sum()
    }
}

/// What a session with one device costs here, in bytes, before the table's slack.
const _: () = assert!(size_of::<(UserId, Routes)>() <= 56);

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(local: &Local, user: &UserId) -> Vec<SessionKey> {
        let mut sessions = Vec::new();
        local.reach(user, &mut sessions);
        sessions
    }

    #[test]
    fn f07_devices_live_side_by_side_and_the_same_device_is_replaced() {
        let (local, ada) = (Local::default(), UserId::from_bits(1));
        let [a, b, c] = [1, 2, 3].map(|slot| SessionKey::new(0, slot, 0));
        assert!(local.register(&ada, "phone", a).first);
        let second = local.register(&ada, "laptop", b);
        assert!(!second.first && second.replaced.is_none());
        assert_eq!(local.register(&ada, "phone", c).replaced, Some(a));
        for session in [b, c] {
            assert!(local.accept(&ada, session, |missed| assert!(!missed)));
        }
        assert!(!local.accept(&ada, a, |_| panic!("it was replaced")));
        assert_eq!(local.remove(&ada, a), None);
        assert_eq!(reach(&local, &ada).len(), 2);
        assert_eq!(local.remove(&ada, b), Some(false));
        assert_eq!(local.remove(&ada, c), Some(true));
        assert_eq!(local.len(), 0);
    }

    #[test]
    fn a_session_that_is_not_yet_accepted_gets_nothing_and_learns_that_it_missed_something() {
        let (local, ada, key) = (Local::default(), UserId::from_bits(1), SessionKey::new(0, 0, 0));
        local.register(&ada, "phone", key);
        assert_eq!(reach(&local, &ada), []);
        assert!(local.accept(&ada, key, |missed| assert!(missed)));
        assert_eq!(reach(&local, &ada), [key]);
    }
}
