//! Who of this shard joined which conversation.
//!
//! A topic keeps its members in a dense array, a session keeps its places in such arrays: joining and leaving cost
//! O(1), fan-out walks an array. Either side names the other's place, so a move within one is told to the other.
//!
//! A fan-out to a topic may take several turns. It walks the array from its end, `undone` being how many members are
//! still to be served; leaving keeps the served ones behind the others, so that nobody is served twice or forgotten.

use std::collections::BTreeMap;

use roost_wire::ConvId;
use slab::Slab;

/// The topics of a shard.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    names: BTreeMap<ConvId, u32>,
    topics: Slab<Topic>,
}

#[derive(Debug)]
struct Topic {
    name: ConvId,
    members: Vec<Member>,
    undone: usize,
}

/// A session in a topic's array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    slot: u32,
    /// Where the session's own list holds the topic.
    entry: u32,
}

/// A topic in a session's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    topic: u32,
    /// Where the topic's array holds the session.
    position: u32,
}

/// The topics of one session. Most have one, which needs no list: a million sessions may have it.
#[derive(Debug)]
pub(crate) enum Joined {
    /// At most one.
    Few(Option<Place>),
    Many(Vec<Place>),
}

impl Default for Joined {
    fn default() -> Self {
        Self::Few(None)
    }
}

const _: () = assert!(size_of::<Joined>() <= 24);

impl Joined {
    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        self.places().len()
    }

    /// Bytes of memory held, the box included.
    pub(crate) fn heap_bytes(&self) -> usize {
        let listed = if let Self::Many(places) = self { places.capacity() } else { 0 };
        size_of::<Self>() + listed * size_of::<Place>()
    }

    /// Follows a move in a topic's array.
    pub(crate) fn moved(&mut self, to: &Moved) {
        self.places_mut()[to.entry as usize].position = to.position;
    }

    fn places(&self) -> &[Place] {
        match self {
            Self::Few(place) => place.as_slice(),
            Self::Many(places) => places,
        }
    }

    fn places_mut(&mut self) -> &mut [Place] {
        match self {
            Self::Few(place) => place.as_mut_slice(),
            Self::Many(places) => places,
        }
    }

    fn push(&mut self, place: Place) {
        match self {
            Self::Few(none @ None) => *none = Some(place),
            Self::Few(Some(first)) => *self = Self::Many(vec![*first, place]),
            Self::Many(places) => places.push(place),
        }
    }

    /// Takes the place at `entry` out; the last one is there from now on.
    fn swap_remove(&mut self, entry: usize) -> Place {
        match self {
            Self::Few(place) => place.take().expect("an entry names a place"),
            Self::Many(places) => {
                let removed = places.swap_remove(entry);
                match places[..] {
                    [last] => *self = Self::Few(Some(last)),
                    _ if places.capacity() > 4 * places.len().max(4) => places.shrink_to(2 * places.len()),
                    _ => {}
                }
                removed
            }
        }
    }
}

/// A member whose place in a topic's array changed: to be told to its [`Joined`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    /// The session's slot.
    pub(crate) slot: u32,
    entry: u32,
    position: u32,
}

impl Topics {
    /// Enters `slot`, whose list is `joined`. False if it was in already.
    pub(crate) fn join(&mut self, slot: u32, joined: &mut Joined, name: &ConvId) -> bool {
        let id = match self.names.get(name) {
            Some(id) => *id,
            None => {
                let topic = Topic { name: name.clone(), members: Vec::new(), undone: 0 };
                let id = self.topics.insert(topic) as u32;
                self.names.insert(name.clone(), id);
                id
            }
        };
        if joined.places().iter().any(|place| place.topic == id) {
            return false;
        }
        let members = &mut self.topics[id as usize].members;
        joined.push(Place { topic: id, position: members.len() as u32 });
        members.push(Member { slot, entry: joined.len() as u32 - 1 });
        true
    }

    /// Takes the session of `joined` out of one topic; `None` if it was not in. The moves are to be told to other
    /// sessions.
    pub(crate) fn leave(&mut self, joined: &mut Joined, name: &ConvId) -> Option<[Option<Moved>; 2]> {
        let id = *self.names.get(name)?;
        let entry = joined.places().iter().position(|place| place.topic == id)?;
        Some(self.leave_entry(joined, entry))
    }

    /// Takes the session of `joined` out of the last topic of its list; `None` if there is no more.
    pub(crate) fn leave_last(&mut self, joined: &mut Joined) -> Option<[Option<Moved>; 2]> {
        let last = joined.len().checked_sub(1)?;
        Some(self.leave_entry(joined, last))
    }

    /// Begins a fan-out to the topic: its id. `None`: nobody is in it.
    pub(crate) fn begin(&mut self, name: &ConvId) -> Option<u32> {
        let id = *self.names.get(name)?;
        let topic = &mut self.topics[id as usize];
        topic.undone = topic.members.len();
        Some(id)
    }

    /// The slot of the next member of a fan-out. `None`: it is done.
    pub(crate) fn next_undone(&mut self, id: u32) -> Option<u32> {
        let topic = self.topics.get_mut(id as usize)?;
        topic.undone = topic.undone.checked_sub(1)?;
        Some(topic.members[topic.undone].slot)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// Bytes of memory held, the map's nodes estimated.
    pub(crate) fn heap_bytes(&self) -> usize {
        let member_bytes: usize =
            self.topics.iter().map(|(_, topic)| topic.members.capacity() * size_of::<Member>()).sum();
        let name_bytes = self.names.len() * (size_of::<ConvId>() + size_of::<u32>()) * 3 / 2;
        member_bytes + self.topics.capacity() * size_of::<Topic>() + name_bytes
    }

    fn leave_entry(&mut self, joined: &mut Joined, entry: usize) -> [Option<Moved>; 2] {
        let place = joined.swap_remove(entry);
        let topic = &mut self.topics[place.topic as usize];
        let moves = topic.remove(place.position as usize);
        if topic.members.is_empty() {
            let topic = self.topics.remove(place.topic as usize);
            self.names.remove(&topic.name);
        }
        // The session's last topic took the entry's place in its own list.
        if let Some(moved) = joined.places().get(entry) {
            self.topics[moved.topic as usize].members[moved.position as usize].entry = entry as u32;
        }
        moves
    }

    /// Whether both sides agree about the session in `slot`.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn agrees(&self, slot: u32, joined: &Joined) -> bool {
        joined.places().iter().enumerate().all(|(entry, place)| {
            self.topics.get(place.topic as usize).is_some_and(|topic| {
                topic.members.get(place.position as usize) == Some(&Member { slot, entry: entry as u32 })
                    && topic.undone <= topic.members.len()
            })
        })
    }

    /// How many memberships there are.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn memberships(&self) -> usize {
        self.topics.iter().map(|(_, topic)| topic.members.len()).sum()
    }
}

impl Topic {
    /// Removes the member at `position` and returns who moved: the last one still to be served takes its place if it
    /// was still to be served itself, and the last of all takes the place that is then free.
    fn remove(&mut self, position: usize) -> [Option<Moved>; 2] {
        let mut free = position;
        let mut moves = [None, None];
        if position < self.undone {
            self.undone -= 1;
            free = self.undone;
            self.members.swap(position, free);
            moves[0] = (position != free).then(|| self.moved_to(position));
        }
        self.members.swap_remove(free);
        moves[1] = (free < self.members.len()).then(|| self.moved_to(free));
        if self.members.capacity() > 4 * self.members.len().max(4) {
            self.members.shrink_to(2 * self.members.len());
        }
        moves
    }

    fn moved_to(&self, position: usize) -> Moved {
        let Member { slot, entry } = self.members[position];
        Moved { slot, entry, position: position as u32 }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// A few sessions by slot, with their lists.
    struct World {
        topics: Topics,
        lists: Vec<Joined>,
    }

    impl World {
        fn tell(&mut self, moves: [Option<Moved>; 2]) {
            for moved in moves.iter().flatten() {
                self.lists[moved.slot as usize].moved(moved);
            }
        }

        fn leave(&mut self, slot: usize, name: &ConvId) -> bool {
            let moves = self.topics.leave(&mut self.lists[slot], name);
            let was_in = moves.is_some();
            self.tell(moves.unwrap_or_default());
            was_in
        }
    }

    #[test]
    fn an_empty_topic_is_forgotten() {
        let name = ConvId::new("news").unwrap();
        let mut world = World { topics: Topics::default(), lists: vec![Joined::default()] };
        assert!(world.topics.join(0, &mut world.lists[0], &name));
        assert!(!world.topics.join(0, &mut world.lists[0], &name), "joined twice");
        assert!(world.leave(0, &name));
        assert!(!world.leave(0, &name), "left twice");
        assert_eq!((world.topics.len(), world.topics.begin(&name)), (0, None));
    }

    proptest! {
        #[test]
        fn a_fan_out_serves_everybody_who_stays_exactly_once(
            steps in prop::collection::vec((0usize..12, 0usize..3, 0u8..10), 0..200),
        ) {
            let names: Vec<ConvId> = ["a", "b", "c"].iter().map(|name| ConvId::new(name).unwrap()).collect();
            let mut world =
                World { topics: Topics::default(), lists: (0..12).map(|_| Joined::default()).collect() };
            let mut model: BTreeSet<(usize, usize)> = BTreeSet::new();
            for (slot, topic, action) in steps {
                match action {
                    0..=4 => {
                        let fresh = world.topics.join(slot as u32, &mut world.lists[slot], &names[topic]);
                        prop_assert_eq!(fresh, model.insert((slot, topic)));
                    }
                    5 | 6 => prop_assert_eq!(world.leave(slot, &names[topic]), model.remove(&(slot, topic))),
                    7 => {
                        while let Some(moves) = world.topics.leave_last(&mut world.lists[slot]) {
                            world.tell(moves);
                        }
                        model.retain(|(other, _)| *other != slot);
                    }
                    _ => {
                        // A fan-out, in the middle of which a few sessions leave.
                        let Some(id) = world.topics.begin(&names[topic]) else { continue };
                        let mut served = BTreeSet::new();
                        for gone in [slot, (slot + 5) % 12, (slot + 7) % 12] {
                            for _ in 0..2 {
                                if let Some(next) = world.topics.next_undone(id) {
                                    prop_assert!(served.insert(next as usize));
                                }
                            }
                            prop_assert_eq!(world.leave(gone, &names[topic]), model.remove(&(gone, topic)));
                        }
                        while let Some(next) = world.topics.next_undone(id) {
                            prop_assert!(served.insert(next as usize));
                        }
                        for (slot, _) in model.iter().filter(|(_, joined)| *joined == topic) {
                            prop_assert!(served.contains(slot));
                        }
                    }
                }
                prop_assert_eq!(world.topics.memberships(), model.len());
                for (slot, list) in world.lists.iter().enumerate() {
                    prop_assert!(world.topics.agrees(slot as u32, list));
                }
            }
        }
    }
}
