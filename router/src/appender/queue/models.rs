//! Models of the hand-over between those who queue commands and the one task that works on them, for loom: it runs each
//! under every order in which the threads can meet. `cargo xtask loom` runs them.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use roost_wire::link::SessionKey;
use roost_wire::{ConvId, FrameBody, UserId, pb};

use super::{Next, Work};
use crate::conversation::Conversation;
use crate::lock::explore;
use crate::router::Command;

/// A conversation, and what became of the commands. The counts are not loom's: they are no part of what it explores.
struct Rig {
    conv: Conversation,
    workers: AtomicUsize,
    done: Mutex<Vec<u64>>,
}

impl Rig {
    fn new() -> Arc<Self> {
        let conv = Conversation::new(ConvId::from_bits(1));
        Arc::new(Self { conv, workers: AtomicUsize::new(0), done: Mutex::default() })
    }

    /// Queues the command `rid`; works on the queue if nobody does. False if it is refused.
    fn submit(&self, rid: u64, queued_max: usize) -> bool {
        let body = FrameBody::Get(pb::Get::default());
        let command = Command { session: SessionKey::new(0, 0, 0), user: UserId::from_bits(1), rid, body };
        match self.conv.push(Work::Other(Box::new(command)), queued_max) {
            Ok(true) => {
                self.work();
                true
            }
            Ok(false) => true,
            Err(back) => {
                assert!(matches!(*back, Work::Other(command) if command.rid == rid), "another one came back");
                false
            }
        }
    }

    /// What the task of a conversation does.
    fn work(&self) {
        assert_eq!(self.workers.fetch_add(1, Relaxed), 0, "two tasks work on one conversation");
        while let Some(next) = self.conv.take() {
            let Next::Other(command) = next else { panic!("only commands were queued") };
            self.done.lock().unwrap().push(command.rid);
            // The other threads may come in between.
            loom::thread::yield_now();
        }
        // From the take that found nothing on another task may begin.
        self.workers.fetch_sub(1, Relaxed);
    }

    /// What was done, in its order; nothing may be left.
    fn done(&self) -> Vec<u64> {
        let state = self.conv.state.lock();
        assert!(state.queue.is_empty(), "work is left, and nobody will come for it");
        assert!(!state.running, "the conversation thinks that somebody works on it");
        self.done.lock().unwrap().clone()
    }
}

#[test]
fn every_command_is_done_once_in_the_order_of_its_sender_by_one_task_at_a_time() {
    explore(3, || {
        let rig = Rig::new();
        let senders: Vec<_> = [10, 20]
            .map(|first| {
                let rig = rig.clone();
                loom::thread::spawn(move || assert!(rig.submit(first, 8) && rig.submit(first + 1, 8), "there is room"))
            })
            .into();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        let done = rig.done();
        for first in [10, 20] {
            let own: Vec<u64> = done.iter().copied().filter(|rid| rid / 10 == first / 10).collect();
            assert_eq!(own, [first, first + 1], "of {done:?}");
        }
    });
}

#[test]
fn what_is_refused_at_the_limit_is_given_back_and_the_rest_is_done() {
    explore(2, || {
        let rig = Rig::new();
        let senders: Vec<_> = [1, 2, 3]
            .map(|rid| {
                let rig = rig.clone();
                loom::thread::spawn(move || rig.submit(rid, 1).then_some(rid))
            })
            .into();
        let mut taken: Vec<u64> = senders.into_iter().filter_map(|sender| sender.join().unwrap()).collect();
        let mut done = rig.done();
        done.sort_unstable();
        taken.sort_unstable();
        assert_eq!(done, taken);
        assert!(!taken.is_empty(), "an empty queue takes one");
    });
}
