//! What the router keeps of a session beside its route: only of those that watch or subscribe.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap};
use roost_wire::link::SessionKey;
use roost_wire::{ConvId, UserId};

use crate::sharded::Sharded;

/// Sessions with something to keep.
#[derive(Default)]
pub(crate) struct Sessions {
    /// Users they watch.
    watches: Kept<Vec<UserId>>,
    /// Channels they subscribed to.
    channels: Kept<Channels>,
    /// For marks: with random keys nobody finds names that share one and so get around the limit.
    hasher: DefaultHashBuilder,
}

/// Something of those sessions that have it.
type Kept<V> = Sharded<HashMap<SessionKey, V>>;

/// The channels of a session, counted. Who is to get what is known where it is sent: this is for the limit, so marks
/// of the names will do, and the one channel that most subscribe to needs no list. Two names with one mark in one
/// session count as one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Channels {
    #[default]
    None,
    One(u32),
    /// At least one.
    #[allow(clippy::box_collection, reason = "8 bytes instead of 24")]
    Many(Box<Vec<u32>>),
}

// A million sessions may have one.
const _: () = assert!(size_of::<Channels>() <= 16);

impl Channels {
    /// Enters the channel with this mark, unless it is the `max + 1`st. True: it is in.
    pub(crate) fn enter(&mut self, mark: u32, max: usize) -> bool {
        if self.marks().contains(&mark) {
            return true;
        }
        if self.marks().len() >= max {
            return false;
        }
        match self {
            Self::None => *self = Self::One(mark),
            Self::One(first) => *self = Self::Many(Box::new(vec![*first, mark])),
            Self::Many(marks) => marks.push(mark),
        }
        true
    }

    /// Forgets the channel with this mark, if it is in.
    pub(crate) fn leave(&mut self, mark: u32) {
        match self {
            Self::One(of) if *of == mark => *self = Self::None,
            Self::Many(marks) => {
                marks.retain(|of| *of != mark);
                if let [last] = marks[..] {
                    *self = Self::One(last);
                }
            }
            _ => {}
        }
    }

    fn marks(&self) -> &[u32] {
        match self {
            Self::None => &[],
            Self::One(mark) => std::slice::from_ref(mark),
            Self::Many(marks) => marks,
        }
    }
}

impl Sessions {
    /// What stands for the name of a channel in [`Channels`].
    pub(crate) fn mark(&self, channel: &ConvId) -> u32 {
        self.hasher.hash_one(channel) as u32
    }

    /// Changes whom `session` watches, if `alive` still holds under the lock. So nothing is kept of a session that
    /// ended meanwhile. `None` if it had ended.
    pub(crate) fn change_watches<T>(
        &self,
        session: SessionKey,
        alive: impl FnOnce() -> bool,
        change: impl FnOnce(&mut Vec<UserId>) -> T,
    ) -> Option<T> {
        change_kept(&self.watches, session, alive, change, Vec::is_empty)
    }

    /// The same for its channels.
    pub(crate) fn change_channels<T>(
        &self,
        session: SessionKey,
        alive: impl FnOnce() -> bool,
        change: impl FnOnce(&mut Channels) -> T,
    ) -> Option<T> {
        change_kept(&self.channels, session, alive, change, |channels| *channels == Channels::None)
    }

    /// Forgets a session that ended, and gives whom it watched.
    pub(crate) fn remove(&self, session: SessionKey) -> Vec<UserId> {
        self.channels.of(&session).lock().remove(&session);
        self.watches.of(&session).lock().remove(&session).unwrap_or_default()
    }
}

fn change_kept<V: Default, T>(
    kept: &Kept<V>,
    session: SessionKey,
    alive: impl FnOnce() -> bool,
    change: impl FnOnce(&mut V) -> T,
    is_empty: impl FnOnce(&V) -> bool,
) -> Option<T> {
    let mut sessions = kept.of(&session).lock();
    if !alive() {
        return None;
    }
    let of = sessions.entry(session).or_default();
    let changed = change(of);
    if is_empty(of) {
        sessions.remove(&session);
    }
    Some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_counted_once_up_to_the_limit() {
        let mut channels = Channels::default();
        for mark in 0..5 {
            assert!(channels.enter(mark, 5) && channels.enter(mark, 5), "{mark}");
        }
        assert!(!channels.enter(5, 5));
        [9, 2, 4, 0, 3].into_iter().for_each(|mark| channels.leave(mark));
        assert_eq!(channels, Channels::One(1));
        assert!(channels.enter(5, 5));
        [1, 5].into_iter().for_each(|mark| channels.leave(mark));
        assert_eq!(channels, Channels::None);
    }

    #[test]
    fn names_share_no_mark() {
        let sessions = Sessions::default();
        let mark = |number: u32| sessions.mark(&ConvId::channel(&format!("news-{number}")).unwrap());
        assert_eq!((0..100).map(mark).collect::<std::collections::BTreeSet<u32>>().len(), 100);
    }
}
