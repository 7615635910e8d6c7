//! The sessions of this process: user -> devices.
//!
//! Invariants:
//! - a session is registered before anything is read for it, so that what is appended later finds it;
//! - until it is accepted nothing is addressed to it; that something would have been is noted instead;
//! - accepting posts WELCOME under the lock, so that no push can come before it.

#[cfg(all(test, roost_model))]
mod models;

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;
use hashbrown::hash_table::HashTable;
use roost_wire::UserId;
use roost_wire::link::SessionKey;

use crate::sharded::Sharded;

/// A part gives back room once it uses less than a part of it in this many.
const SHRINK_BELOW: usize = 8;
/// And has room for more than this many routes.
const SHRINK_ABOVE: usize = 64;

/// One session. All there is of one that says nothing, so its size counts.
struct Route {
    user: UserId,
    session: SessionKey,
    /// Hash of the device's name; the lowest bits are flags.
    device: u64,
    /// The display name of the token, if the user may have no record.
    name: Option<Box<str>>,
}

/// What a session costs here, in bytes, before its name and the table's slack.
const _: () = assert!(size_of::<Route>() <= 56);

impl Route {
    /// WELCOME has not been posted.
    const PENDING: u64 = 1;
    /// Something was addressed to the user meanwhile.
    const MISSED: u64 = 2;
    const FLAGS: u64 = Self::PENDING | Self::MISSED;

    const fn is_pending(&self) -> bool {
        self.device & Self::PENDING != 0
    }
}

/// How registering changed things.
pub(crate) struct Registered {
    /// The older session of the same device; it is no longer registered.
    pub(crate) replaced: Option<SessionKey>,
    /// The user had no session before.
    pub(crate) first: bool,
}

/// The registry of one process: routes by the hash of their user, several to a user.
#[derive(Default)]
pub(crate) struct Local {
    parts: Sharded<HashTable<Route>>,
    hasher: DefaultHashBuilder,
}

impl Local {
    /// Registers a session that is about to be accepted. `name` is kept for [`Self::name`] while it lives. `came` is
    /// called if it is the user's first one, under the lock, so that comings and goings are told in their order.
    pub(crate) fn register(
        &self,
        user: &UserId,
        device: &str,
        session: SessionKey,
        name: Option<&str>,
        came: impl FnOnce(),
    ) -> Registered {
        let device = self.hasher.hash_one(device) & !Route::FLAGS;
        let route = Route { user: user.clone(), session, device: device | Route::PENDING, name: name.map(Box::from) };
        let hash = self.hasher.hash_one(user);
        let mut routes = self.parts.of(user).lock();
        let mut first = true;
        for old in routes.iter_hash_mut(hash).filter(|old| old.user == *user) {
            if old.device & !Route::FLAGS == device {
                let replaced = std::mem::replace(old, route).session;
                return Registered { replaced: Some(replaced), first: false };
            }
            first = false;
        }
        routes.insert_unique(hash, route, |route| self.hasher.hash_one(&route.user));
        if first {
            came();
        }
        Registered { replaced: None, first }
    }

    /// Lets pushes through to a registered session. `welcome` is called under the lock and told whether something
    /// was missed since registration. False if the session is not registered any more.
    pub(crate) fn accept(&self, user: &UserId, session: SessionKey, welcome: impl FnOnce(bool)) -> bool {
        let mut routes = self.parts.of(user).lock();
        let found = |route: &Route| route.session == session && route.user == *user;
        let Some(route) = routes.find_mut(self.hasher.hash_one(user), found) else {
            return false;
        };
        let missed = route.device & Route::MISSED != 0;
        route.device &= !Route::FLAGS;
        welcome(missed);
        true
    }

    /// Forgets a session. `None` if it was not registered, else whether it was the user's last one; `gone` is then
    /// called under the lock.
    pub(crate) fn remove(&self, user: &UserId, session: SessionKey, gone: impl FnOnce()) -> Option<bool> {
        let found = |route: &Route| route.session == session && route.user == *user;
        self.take(user, found, gone).map(|(_, last)| last)
    }

    /// Forgets the session of a device, if `older` says so of it. Gives it, and whether it was the user's last one, as
    /// [`Self::remove`] does.
    pub(crate) fn displace(
        &self,
        user: &UserId,
        device: &str,
        older: impl Fn(SessionKey) -> bool,
        gone: impl FnOnce(),
    ) -> Option<(SessionKey, bool)> {
        let device = self.hasher.hash_one(device) & !Route::FLAGS;
        let found =
            |route: &Route| route.device & !Route::FLAGS == device && route.user == *user && older(route.session);
        self.take(user, found, gone)
    }

    fn take(&self, user: &UserId, found: impl Fn(&Route) -> bool, gone: impl FnOnce()) -> Option<(SessionKey, bool)> {
        let hash = self.hasher.hash_one(user);
        let mut routes = self.parts.of(user).lock();
        let (route, _) = routes.find_entry(hash, found).ok()?.remove();
        let last = routes.find(hash, |route| route.user == *user).is_none();
        if last {
            gone();
        }
        if routes.capacity() > SHRINK_ABOVE && routes.len() < routes.capacity() / SHRINK_BELOW {
            let room = routes.len() * 2;
            routes.shrink_to(room, |route| self.hasher.hash_one(&route.user));
        }
        Some((route.session, last))
    }

    /// In how many parts the sessions are kept.
    pub(crate) fn parts(&self) -> usize {
        self.parts.parts().len()
    }

    /// Lists the users of a part, each once, with the name of a token if one is kept; under the lock.
    pub(crate) fn list<T>(&self, part: usize, take: impl FnOnce(Vec<(UserId, Option<Arc<str>>)>) -> T) -> Option<T> {
        let routes = self.parts.parts().nth(part)?.lock();
        let user = |route: &Route| (route.user.clone(), route.name.as_deref().map(Arc::from));
        let mut users: Vec<(UserId, Option<Arc<str>>)> = routes.iter().map(user).collect();
        // Of several sessions one with a name comes first.
        users.sort_unstable_by(|(a, named), (b, also)| a.cmp(b).then(also.cmp(named)));
        users.dedup_by(|(a, _), (b, _)| a == b);
        Some(take(users))
    }

    /// Appends the accepted sessions of `user` to `sessions`, and notes for the others that they missed something.
    pub(crate) fn reach(&self, user: &UserId, sessions: &mut Vec<SessionKey>) {
        let mut routes = self.parts.of(user).lock();
        for route in routes.iter_hash_mut(self.hasher.hash_one(user)).filter(|route| route.user == *user) {
            if route.is_pending() {
                route.device |= Route::MISSED;
            } else {
                sessions.push(route.session);
            }
        }
    }

    /// Whether the user has a session.
    pub(crate) fn is_online(&self, user: &UserId) -> bool {
        let routes = self.parts.of(user).lock();
        routes.find(self.hasher.hash_one(user), |route| route.user == *user).is_some()
    }

    /// Whether this very session is registered.
    pub(crate) fn holds(&self, user: &UserId, session: SessionKey) -> bool {
        let routes = self.parts.of(user).lock();
        let found = |route: &Route| route.session == session && route.user == *user;
        routes.find(self.hasher.hash_one(user), found).is_some()
    }

    /// The name in the token of one of the user's sessions.
    pub(crate) fn name(&self, user: &UserId) -> Option<Box<str>> {
        let routes = self.parts.of(user).lock();
        let found = |route: &Route| route.name.is_some() && route.user == *user;
        routes.find(self.hasher.hash_one(user), found).and_then(|route| route.name.clone())
    }

    /// The user has a record: names in tokens need not be kept any more.
    pub(crate) fn forget_name(&self, user: &UserId) {
        let mut routes = self.parts.of(user).lock();
        for route in routes.iter_hash_mut(self.hasher.hash_one(user)).filter(|route| route.user == *user) {
            route.name = None;
        }
    }

    #[cfg(all(test, not(roost_model)))]
    fn len(&self) -> usize {
        self.parts.parts().map(|part| part.lock().len()).sum()
    }
}

#[cfg(all(test, not(roost_model)))]
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
        assert!(local.register(&ada, "phone", a, None, || {}).first);
        let second = local.register(&ada, "laptop", b, None, || {});
        assert!(!second.first && second.replaced.is_none());
        assert_eq!(local.register(&ada, "phone", c, None, || {}).replaced, Some(a));
        for session in [b, c] {
            assert!(local.accept(&ada, session, |missed| assert!(!missed)));
        }
        assert!(!local.accept(&ada, a, |_| panic!("it was replaced")));
        assert_eq!(local.remove(&ada, a, || {}), None);
        assert_eq!(reach(&local, &ada).len(), 2);
        assert_eq!(local.remove(&ada, b, || {}), Some(false));
        assert_eq!(local.remove(&ada, c, || {}), Some(true));
        assert_eq!(local.len(), 0);
    }

    #[test]
    fn a_session_that_is_not_yet_accepted_gets_nothing_and_learns_that_it_missed_something() {
        let (local, ada, key) = (Local::default(), UserId::from_bits(1), SessionKey::new(0, 0, 0));
        local.register(&ada, "phone", key, None, || {});
        assert_eq!(reach(&local, &ada), []);
        assert!(local.accept(&ada, key, |missed| assert!(missed)));
        assert_eq!(reach(&local, &ada), [key]);
    }

    #[test]
    fn a_name_is_kept_while_a_session_lives_that_brought_it() {
        let (local, ada) = (Local::default(), UserId::from_bits(1));
        let [a, b] = [1, 2].map(|slot| SessionKey::new(0, slot, 0));
        local.register(&ada, "phone", a, Some("Ada"), || {});
        local.register(&ada, "laptop", b, None, || {});
        assert_eq!(local.name(&ada).as_deref(), Some("Ada"));
        local.remove(&ada, a, || {});
        assert_eq!(local.name(&ada), None);
        local.register(&ada, "phone", a, Some("Ada"), || {});
        local.forget_name(&ada);
        assert_eq!(local.name(&ada), None);
        assert!(local.holds(&ada, a) && local.holds(&ada, b));
    }

    #[test]
    fn room_is_given_back_when_most_have_left() {
        let local = Local::default();
        let user = |n: u32| UserId::from_bits(n.into());
        let key = |n: u32| SessionKey::new(0, n, 0);
        let room = |local: &Local| local.parts.parts().map(|part| part.lock().capacity()).sum::<usize>();
        (0..50_000).for_each(|n| assert!(local.register(&user(n), "phone", key(n), None, || {}).first));
        let full = room(&local);
        (100..50_000).for_each(|n| assert_eq!(local.remove(&user(n), key(n), || {}), Some(true)));
        assert!(room(&local) <= full / 8, "{} of {full}", room(&local));
        assert!((0..100).all(|n| local.holds(&user(n), key(n))));
    }
}
