//! From other threads to a shard: a list under a lock, and a wake-up only when it turns from empty to not empty.
//!
//! Invariants:
//! - items are taken in the order in which they were put in, per sender;
//! - whoever puts the first item into an empty mailbox wakes the shard after it is in: no item waits for the next one;
//! - at most `droppable_max` items stand in it when a droppable one is put in. What may not be dropped is bounded
//!   elsewhere: replies by the commands in flight, connections by the descriptors, HTTP data by its windows.

use std::collections::VecDeque;
use std::sync::Arc;

use roost_edge_core::driver::Wake;

use crate::sync::{AtomicU64, Mutex, Ordering};

/// Room that a mailbox keeps when it is empty, in items.
const CAPACITY_KEPT: usize = 1024;

/// What a mailbox needs to know of its items.
pub(crate) trait Item {
    /// True if its loss is made good by telling the shard to doubt.
    fn droppable(&self) -> bool;
}

/// One shard's mailbox.
pub(crate) struct Mailbox<T> {
    state: Mutex<State<T>>,
    wake: Arc<dyn Wake>,
    droppable_max: usize,
    dropped: AtomicU64,
}

struct State<T> {
    items: VecDeque<T>,
    /// Something was dropped since the shard looked last.
    doubt: bool,
    /// Nobody will take any more: items are dropped at once.
    closed: bool,
}

impl<T: Item> Mailbox<T> {
    /// An empty mailbox whose owner sleeps in a driver that `wake` wakes. Droppable items are dropped when
    /// `droppable_max` items are in it.
    pub(crate) fn new(wake: Arc<dyn Wake>, droppable_max: usize) -> Self {
        let state = State { items: VecDeque::new(), doubt: false, closed: false };
        Self { state: Mutex::new(state), wake, droppable_max, dropped: AtomicU64::new(0) }
    }

    /// Puts `items` in.
    pub(crate) fn post(&self, items: impl IntoIterator<Item = T>) {
        let mut dropped = 0;
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        let was_empty = state.items.is_empty() && !state.doubt;
        for item in items {
            if item.droppable() && state.items.len() >= self.droppable_max {
                dropped += 1;
                state.doubt = true;
            } else {
                state.items.push_back(item);
            }
        }
        let wake = was_empty && (state.doubt || !state.items.is_empty());
        drop(state);
        if dropped > 0 {
            self.dropped.fetch_add(dropped, Ordering::Relaxed);
        }
        if wake {
            self.wake.wake();
        }
    }

    /// Moves everything into `inbox`, which must be empty. True: something was dropped since the last call.
    pub(crate) fn take(&self, inbox: &mut VecDeque<T>) -> bool {
        debug_assert!(inbox.is_empty(), "taken before the last batch was done");
        if inbox.capacity() > CAPACITY_KEPT {
            inbox.shrink_to(CAPACITY_KEPT);
        }
        let mut state = self.state.lock();
        std::mem::swap(&mut state.items, inbox);
        std::mem::take(&mut state.doubt)
    }

    /// Drops everything that is put in from now on. Returns what was in it.
    pub(crate) fn close(&self) -> VecDeque<T> {
        let mut state = self.state.lock();
        state.closed = true;
        std::mem::take(&mut state.items)
    }

    /// How many items were dropped because of the limit so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(roost_model)))]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[derive(Debug, PartialEq)]
    enum Letter {
        Push(u32),
        Reply(u32),
    }

    impl Item for Letter {
        fn droppable(&self) -> bool {
            matches!(self, Self::Push(_))
        }
    }

    fn mailbox(droppable_max: usize) -> (Arc<Bell>, Mailbox<Letter>) {
        let bell = Arc::new(Bell::default());
        (bell.clone(), Mailbox::new(bell, droppable_max))
    }

    #[test]
    fn wakes_only_when_it_turns_from_empty_to_not_empty() {
        let (bell, mailbox) = mailbox(8);
        mailbox.post([]);
        assert_eq!(bell.0.load(Ordering::Relaxed), 0, "nothing was put in");
        mailbox.post([Letter::Push(1), Letter::Reply(2)]);
        mailbox.post([Letter::Push(3)]);
        assert_eq!(bell.0.load(Ordering::Relaxed), 1);
        let mut inbox = VecDeque::new();
        assert!(!mailbox.take(&mut inbox));
        assert_eq!(inbox, [Letter::Push(1), Letter::Reply(2), Letter::Push(3)]);
        mailbox.post([Letter::Push(4)]);
        assert_eq!(bell.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn drops_pushes_above_the_limit_but_never_replies() {
        let (_, mailbox) = mailbox(2);
        mailbox.post((0..4).map(Letter::Push));
        mailbox.post([Letter::Reply(9)]);
        let mut inbox = VecDeque::new();
        assert!(mailbox.take(&mut inbox), "the shard is told to doubt");
        assert_eq!(inbox, [Letter::Push(0), Letter::Push(1), Letter::Reply(9)]);
        assert_eq!(mailbox.dropped(), 2);
        inbox.clear();
        assert!(!mailbox.take(&mut inbox), "and told once");
    }

    #[test]
    fn a_mailbox_of_size_zero_still_wakes_its_shard_to_doubt() {
        let (bell, mailbox) = mailbox(0);
        mailbox.post([Letter::Push(1)]);
        assert_eq!(bell.0.load(Ordering::Relaxed), 1);
        assert!(mailbox.take(&mut VecDeque::new()));
    }

    #[test]
    fn a_closed_mailbox_takes_nothing() {
        let (bell, mailbox) = mailbox(8);
        mailbox.post([Letter::Reply(1)]);
        assert_eq!(mailbox.close(), [Letter::Reply(1)]);
        mailbox.post([Letter::Reply(2)]);
        let mut inbox = VecDeque::new();
        mailbox.take(&mut inbox);
        assert!(inbox.is_empty());
        assert_eq!(bell.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn gives_back_the_room_of_a_burst() {
        let (_, mailbox) = mailbox(usize::MAX);
        mailbox.post((0..100_000).map(Letter::Push));
        let mut inbox = VecDeque::new();
        mailbox.take(&mut inbox);
        inbox.clear();
        mailbox.take(&mut inbox);
        mailbox.take(&mut inbox);
        assert!(inbox.capacity() < 100_000);
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let (bell, mailbox) = mailbox(usize::MAX);
        let total = 4 * 10_000;
        let mut seen = vec![Vec::new(); 4];
        std::thread::scope(|scope| {
            for sender in 0..4_u32 {
                let mailbox = &mailbox;
                scope.spawn(move || (0..10_000).for_each(|at| mailbox.post([Letter::Push(sender << 16 | at)])));
            }
            let (mut inbox, mut got) = (VecDeque::new(), 0);
            while got < total {
                mailbox.take(&mut inbox);
                got += inbox.len();
                for letter in inbox.drain(..) {
                    let (Letter::Push(number) | Letter::Reply(number)) = letter;
                    seen[(number >> 16) as usize].push(number & 0xffff);
                }
            }
        });
        for numbers in seen {
            assert!(numbers.into_iter().eq(0..10_000), "per sender in order");
        }
        assert!(bell.0.load(Ordering::Relaxed) <= total);
    }
}
