//! The sessions of this process: user -> devices.
//!
//! Invariants:
//! - a session is registered before anything is read for it, so that what is appended later finds it;
//! - until it is accepted nothing is addressed to it; that something would have been is noted instead;
//! - accepting posts WELCOME under the lock, so that no push can come before it.

#[cfg(all(test, roost_model))]
mod models;

use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;
use hashbrown::hash_table::HashTable;
use roost_wire::UserId;
use roost_wire::link::SessionKey;

use crate::dense::Dense;
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
    parts: Sharded<Part>,
    hasher: DefaultHashBuilder,
}

/// Routes, and where they stand. A table of hashes is up to half empty: it holds places of four bytes, not routes.
#[derive(Default)]
struct Part {
    routes: Dense<Route>,
    places: HashTable<u32>,
}

impl Part {
    /// The places of the routes of `user`, whose hash is `hash`.
    fn of<'a>(&'a self, user: &'a UserId, hash: u64) -> impl Iterator<Item = u32> + 'a {
        self.places.iter_hash(hash).copied().filter(|at| self.routes.get(*at).user == *user)
    }

    /// The place of the route of `user` that `is` it.
    fn find(&self, user: &UserId, hash: u64, is: impl Fn(&Route) -> bool) -> Option<u32> {
        self.of(user, hash).find(|at| is(self.routes.get(*at)))
    }

    fn insert(&mut self, hash: u64, route: Route, hasher: &DefaultHashBuilder) {
        // There are no more of them than sessions, which are counted in 28 bits.
        let at = self.routes.len() as u32;
        self.routes.push(route);
        self.places.insert_unique(hash, at, |at| hasher.hash_one(&self.routes.get(*at).user));
    }

    fn remove(&mut self, hash: u64, at: u32, hasher: &DefaultHashBuilder) -> Route {
        if let Ok(place) = self.places.find_entry(hash, |place| *place == at) {
            place.remove();
        }
        let route = self.routes.swap_remove(at);
        let last = self.routes.len() as u32;
        if at != last {
            let moved = hasher.hash_one(&self.routes.get(at).user);
            if let Some(place) = self.places.find_mut(moved, |place| *place == last) {
                *place = at;
            }
        }
        if self.places.capacity() > SHRINK_ABOVE && self.places.len() < self.places.capacity() / SHRINK_BELOW {
            let room = self.places.len() * 2;
            self.places.shrink_to(room, |at| hasher.hash_one(&self.routes.get(*at).user));
        }
        route
    }
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
        let mut part = self.parts.of(user).lock();
        if let Some(old) = part.find(user, hash, |old| old.device & !Route::FLAGS == device) {
            let replaced = std::mem::replace(part.routes.get_mut(old), route).session;
            return Registered { replaced: Some(replaced), first: false };
        }
        let first = part.of(user, hash).next().is_none();
        part.insert(hash, route, &self.hasher);
        if first {
            came();
        }
        Registered { replaced: None, first }
    }

    /// Registers and accepts at once a session that was accepted elsewhere. `joins` is called under the lock. Gives
    /// whether it is the user's first one; `None`, and nothing is done, if another session of the device is here.
    pub(crate) fn adopt(
        &self,
        user: &UserId,
        device: &str,
        session: SessionKey,
        name: Option<&str>,
        came: impl FnOnce(),
        joins: impl FnOnce(),
    ) -> Option<bool> {
        let device = self.hasher.hash_one(device) & !Route::FLAGS;
        let hash = self.hasher.hash_one(user);
        let mut part = self.parts.of(user).lock();
        if part.find(user, hash, |other| other.device & !Route::FLAGS == device).is_some() {
            return None;
        }
        let first = part.of(user, hash).next().is_none();
        part.insert(hash, Route { user: user.clone(), session, device, name: name.map(Box::from) }, &self.hasher);
        if first {
            came();
        }
        joins();
        Some(first)
    }

    /// The sessions of some shards in one part of the table, with their users.
    pub(crate) fn of_shards(&self, part: usize, shards: &Range<u16>) -> Vec<(SessionKey, UserId)> {
        let Some(part) = self.parts.parts().nth(part) else { return Vec::new() };
        let part = part.lock();
        let of = part.routes.iter().filter(|route| shards.contains(&route.session.shard()));
        of.map(|route| (route.session, route.user.clone())).collect()
    }

    /// Lets pushes through to a registered session. `welcome` is called under the lock and told whether something
    /// was missed since registration. False if the session is not registered any more.
    pub(crate) fn accept(&self, user: &UserId, session: SessionKey, welcome: impl FnOnce(bool)) -> bool {
        let mut part = self.parts.of(user).lock();
        let Some(at) = part.find(user, self.hasher.hash_one(user), |route| route.session == session) else {
            return false;
        };
        let route = part.routes.get_mut(at);
        let missed = route.device & Route::MISSED != 0;
        route.device &= !Route::FLAGS;
        welcome(missed);
        true
    }

    /// Forgets a session. `None` if it was not registered, else whether it was the user's last one; `gone` is then
    /// called under the lock.
    pub(crate) fn remove(&self, user: &UserId, session: SessionKey, gone: impl FnOnce()) -> Option<bool> {
        self.take(user, |route| route.session == session, gone).map(|(_, last)| last)
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
        self.take(user, |route| route.device & !Route::FLAGS == device && older(route.session), gone)
    }

    fn take(&self, user: &UserId, found: impl Fn(&Route) -> bool, gone: impl FnOnce()) -> Option<(SessionKey, bool)> {
        let hash = self.hasher.hash_one(user);
        let mut part = self.parts.of(user).lock();
        let at = part.find(user, hash, found)?;
        let route = part.remove(hash, at, &self.hasher);
        let last = part.of(user, hash).next().is_none();
        if last {
            gone();
        }
        Some((route.session, last))
    }

    /// In how many parts the sessions are kept.
    pub(crate) fn parts(&self) -> usize {
        self.parts.parts().len()
    }

    /// Lists the users of a part, each once, with the name of a token if one is kept; under the lock.
    pub(crate) fn list<T>(&self, part: usize, take: impl FnOnce(Vec<(UserId, Option<Arc<str>>)>) -> T) -> Option<T> {
        let part = self.parts.parts().nth(part)?.lock();
        let user = |route: &Route| (route.user.clone(), route.name.as_deref().map(Arc::from));
        let mut users: Vec<(UserId, Option<Arc<str>>)> = part.routes.iter().map(user).collect();
        // Of several sessions one with a name comes first.
        users.sort_unstable_by(|(a, named), (b, also)| a.cmp(b).then(also.cmp(named)));
        users.dedup_by(|(a, _), (b, _)| a == b);
        Some(take(users))
    }

    /// Appends the accepted sessions of `user` to `sessions`, and notes for the others that they missed something.
    pub(crate) fn reach(&self, user: &UserId, sessions: &mut Vec<SessionKey>) {
        let Part { routes, places } = &mut *self.parts.of(user).lock();
        for at in places.iter_hash(self.hasher.hash_one(user)) {
            let route = routes.get_mut(*at);
            match route.user == *user {
                true if route.is_pending() => route.device |= Route::MISSED,
                true => sessions.push(route.session),
                false => {}
            }
        }
    }

    /// Whether the user has a session.
    pub(crate) fn is_online(&self, user: &UserId) -> bool {
        self.parts.of(user).lock().of(user, self.hasher.hash_one(user)).next().is_some()
    }

    /// Whether this very session is registered.
    pub(crate) fn holds(&self, user: &UserId, session: SessionKey) -> bool {
        let is = |route: &Route| route.session == session;
        self.parts.of(user).lock().find(user, self.hasher.hash_one(user), is).is_some()
    }

    /// The name in the token of one of the user's sessions.
    pub(crate) fn name(&self, user: &UserId) -> Option<Box<str>> {
        let part = self.parts.of(user).lock();
        let at = part.find(user, self.hasher.hash_one(user), |route| route.name.is_some())?;
        part.routes.get(at).name.clone()
    }

    /// The user has a record: names in tokens need not be kept any more.
    pub(crate) fn forget_name(&self, user: &UserId) {
        let Part { routes, places } = &mut *self.parts.of(user).lock();
        for at in places.iter_hash(self.hasher.hash_one(user)) {
            let route = routes.get_mut(*at);
            if route.user == *user {
                route.name = None;
            }
        }
    }

    #[cfg(all(test, not(roost_model)))]
    fn len(&self) -> usize {
        self.parts.parts().map(|part| part.lock().routes.len()).sum()
    }
}

#[cfg(all(test, not(roost_model)))]
mod tests {
    use proptest::prelude::*;

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
        let room = |local: &Local| local.parts.parts().map(|part| part.lock().places.capacity()).sum::<usize>();
        (0..50_000).for_each(|n| assert!(local.register(&user(n), "phone", key(n), None, || {}).first));
        let full = room(&local);
        (100..50_000).for_each(|n| assert_eq!(local.remove(&user(n), key(n), || {}), Some(true)));
        assert!(room(&local) <= full / 8, "{} of {full}", room(&local));
        assert!((0..100).all(|n| local.holds(&user(n), key(n))));
    }

    proptest! {
        #[test]
        fn it_is_a_list_of_sessions(steps in prop::collection::vec((0u32..60, 0u8..3, any::<bool>()), 0..400)) {
            let local = Local::default();
            let mut model: Vec<(u32, u8, SessionKey)> = Vec::new();
            for (at, (user, device, comes)) in steps.into_iter().enumerate() {
                let (id, session) = (UserId::from_bits(user.into()), SessionKey::new(0, at as u32, 0));
                let of_device = model.iter().position(|(of, on, _)| (*of, *on) == (user, device));
                let others = model.iter().any(|(of, on, _)| *of == user && *on != device);
                if comes {
                    let registered = local.register(&id, &device.to_string(), session, None, || {});
                    let replaced = of_device.map(|at| model.swap_remove(at).2);
                    prop_assert_eq!((registered.replaced, registered.first), (replaced, replaced.is_none() && !others));
                    local.accept(&id, session, |_| {});
                    model.push((user, device, session));
                } else if let Some(at) = of_device {
                    let (.., gone) = model.swap_remove(at);
                    prop_assert_eq!(local.remove(&id, gone, || {}), Some(!others));
                }
                prop_assert_eq!(local.len(), model.len());
            }
            for user in 0..60 {
                let mut found = reach(&local, &UserId::from_bits(user.into()));
                let mut want: Vec<_> = model.iter().filter(|(of, ..)| *of == user).map(|(.., key)| *key).collect();
                found.sort_unstable();
                want.sort_unstable();
                prop_assert_eq!(found, want);
            }
        }
    }
}
