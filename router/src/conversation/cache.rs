//! Conversations by id, bounded: what was not used for a while is dropped.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hashbrown::HashMap;
use roost_wire::ConvId;

use super::Conversation;
use crate::sharded::Sharded;

/// How many conversations are looked at, at most, to find one to drop.
const EVICTION_STEPS_MAX: usize = 16;

/// Conversations in memory.
pub(crate) struct Cache {
    parts: Sharded<Part>,
    part_max: usize,
}

#[derive(Default)]
struct Part {
    map: HashMap<ConvId, Arc<Conversation>>,
    /// The same, in the order they are looked at (second chance).
    ring: VecDeque<Arc<Conversation>>,
}

/// References that the cache itself holds.
const OWN_REFERENCES: usize = 2;

impl Cache {
    pub(crate) fn new(conversations_max: usize) -> Self {
        Self { parts: Sharded::default(), part_max: Sharded::<Part>::share(conversations_max).max(1) }
    }

    /// The conversation, if it is in memory.
    pub(crate) fn get(&self, id: &ConvId) -> Option<Arc<Conversation>> {
        let part = self.parts.of(id).lock();
        let conv = part.map.get(id)?;
        conv.touched.store(true, Relaxed);
        Some(Arc::clone(conv))
    }

    /// The conversation, made if need be. `evict` is called with one that had to go for it, before anybody can enter
    /// that one again.
    pub(crate) fn enter(&self, id: &ConvId, evict: impl FnOnce(&Conversation)) -> (Arc<Conversation>, Entered) {
        let mut part = self.parts.of(id).lock();
        if let Some(conv) = part.map.get(id) {
            conv.touched.store(true, Relaxed);
            return (Arc::clone(conv), Entered::Known);
        }
        let evicted = if part.map.len() >= self.part_max { part.evict() } else { None };
        if let Some(evicted) = &evicted {
            evict(evicted);
        }
        let conv = Arc::new(Conversation::new(id.clone()));
        part.map.insert(id.clone(), Arc::clone(&conv));
        part.ring.push_back(Arc::clone(&conv));
        (conv, Entered::New { evicted: evicted.is_some() })
    }
}

/// How a conversation came to be in memory.
pub(crate) enum Entered {
    /// It was there.
    Known,
    /// It is new.
    New {
        /// Another one was dropped for it.
        evicted: bool,
    },
}

impl Part {
    /// Drops a conversation nobody uses. `None` if none was found quickly: the cache then grows.
    fn evict(&mut self) -> Option<Arc<Conversation>> {
        for _ in 0..EVICTION_STEPS_MAX {
            let conv = self.ring.pop_front()?;
            // Whoever uses a conversation got it under this part's lock and still holds a reference.
            let idle = Arc::strong_count(&conv) == OWN_REFERENCES;
            if idle && !conv.touched.swap(false, Relaxed) {
                self.map.remove(&conv.id);
                return Some(conv);
            }
            self.ring.push_back(conv);
        }
        None
    }
}

#[cfg(all(test, not(roost_model)))]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_in_use_and_drops_what_is_not() {
        let cache = Cache::new(64);
        let held = cache.enter(&ConvId::from_bits(0), |_| panic!("there is room")).0;
        let mut evicted = 0;
        for bits in 1..10_000 {
            let entered = cache.enter(&ConvId::from_bits(bits), |conv| assert_ne!(conv.id, held.id)).1;
            evicted += usize::from(matches!(entered, Entered::New { evicted: true }));
        }
        let cached: usize = cache.parts.parts().map(|part| part.lock().map.len()).sum();
        assert_eq!(cached + evicted, 10_000);
        assert!(cached <= 3 * 64, "{cached}");
        assert!(Arc::ptr_eq(&held, &cache.get(&held.id).expect("in use")));
    }
}
