//! The mailbox: nothing waits for the next post, nothing is lost unseen.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::{Bell, explore};
use crate::mailbox::{Item, Mailbox};

/// What senders put in: their number, and a count from 1.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Letter {
    Push(usize, u32),
    Reply(usize, u32),
}

impl Item for Letter {
    fn droppable(&self) -> bool {
        matches!(self, Self::Push(..))
    }
}

/// What the owner of a mailbox saw, take by take.
struct Seen<const SENDERS: usize> {
    takes: usize,
    /// Takes that found something.
    full: usize,
    doubts: Vec<usize>,
    /// By sender: its last number, and the take that brought it.
    last: [(u32, usize); SENDERS],
    taken: u64,
}

impl<const SENDERS: usize> Seen<SENDERS> {
    fn new() -> Self {
        Self { takes: 0, full: 0, doubts: Vec::new(), last: [(0, 0); SENDERS], taken: 0 }
    }

    /// Takes once, and checks what came.
    fn take(&mut self, mailbox: &Mailbox<Letter>, droppable_max: usize) {
        let mut inbox = VecDeque::new();
        let doubt = mailbox.take(&mut inbox);
        if doubt {
            self.doubts.push(self.takes);
        }
        self.full += usize::from(doubt || !inbox.is_empty());
        for (at, letter) in inbox.iter().enumerate() {
            assert!(!letter.droppable() || at < droppable_max, "{at} items were in it when {letter:?} was put in");
            let (Letter::Push(sender, number) | Letter::Reply(sender, number)) = *letter;
            let (last, since) = self.last[sender];
            assert!(number > last, "{letter:?} came after {last}");
            let doubted = self.doubts.iter().any(|take| *take >= since);
            assert!(number == last + 1 || doubted, "{} was dropped before {letter:?}, and no doubt came", last + 1);
            self.last[sender] = (number, self.takes);
        }
        self.taken += inbox.len() as u64;
        self.takes += 1;
    }
}

/// `SENDERS` threads post what `letters` gives them one by one; the owner sleeps on the bell alone until each sender's
/// last letter came, which must be a reply.
fn run<const SENDERS: usize>(preemptions: Option<usize>, droppable_max: usize, letters: fn(usize) -> Vec<Vec<Letter>>) {
    explore(preemptions, move || {
        let bell = Arc::new(Bell::default());
        let mailbox = Arc::new(Mailbox::new(bell.clone(), droppable_max));
        let mut ends = [0; SENDERS];
        let mut posted = 0;
        let mut threads = Vec::new();
        for (sender, end) in ends.iter_mut().enumerate() {
            let posts = letters(sender);
            let count: usize = posts.iter().map(Vec::len).sum();
            posted += count as u64;
            *end = count as u32;
            let mailbox = mailbox.clone();
            threads.push(loom::thread::spawn(move || posts.into_iter().for_each(|post| mailbox.post(post))));
        }
        let mut seen = Seen::<SENDERS>::new();
        while (0..SENDERS).any(|sender| seen.last[sender].0 < ends[sender]) {
            bell.sleep();
            seen.take(&mailbox, droppable_max);
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(seen.taken + mailbox.dropped(), posted, "each is taken once or counted as dropped");
        assert_eq!(
            mailbox.dropped() > 0,
            !seen.doubts.is_empty(),
            "doubt is told if and only if something was dropped"
        );
        assert_eq!(bell.times(), seen.full, "one wake-up each time it turned from empty to not empty");
    });
}

#[test]
fn every_item_arrives_without_another_post_and_in_the_order_of_its_sender() {
    run::<2>(Some(3), usize::MAX, |sender| vec![vec![Letter::Push(sender, 1)], vec![Letter::Reply(sender, 2)]]);
}

#[test]
fn a_post_of_several_items_wakes_like_one() {
    run::<2>(None, usize::MAX, |sender| vec![vec![Letter::Push(sender, 1), Letter::Reply(sender, 2)]]);
}

#[test]
fn the_limit_holds_and_every_overflow_is_seen_as_a_doubt() {
    run::<2>(Some(3), 1, |sender| {
        vec![vec![Letter::Push(sender, 1)], vec![Letter::Push(sender, 2), Letter::Reply(sender, 3)]]
    });
}

#[test]
fn a_mailbox_without_room_still_wakes_its_owner_to_doubt() {
    run::<2>(Some(3), 0, |sender| vec![vec![Letter::Push(sender, 1)], vec![Letter::Reply(sender, 2)]]);
}

#[test]
fn three_senders_and_a_full_mailbox() {
    run::<3>(Some(2), 1, |sender| vec![vec![Letter::Push(sender, 1)], vec![Letter::Reply(sender, 2)]]);
}

/// Counts what becomes of it.
struct Socket(Arc<AtomicUsize>);

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl Item for Socket {
    fn droppable(&self) -> bool {
        false
    }
}

#[test]
fn what_is_posted_while_it_closes_is_given_back_or_let_go_never_kept() {
    explore(None, || {
        let bell = Arc::new(Bell::default());
        let mailbox = Arc::new(Mailbox::new(bell.clone(), usize::MAX));
        let gone = Arc::new(AtomicUsize::new(0));
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let (mailbox, gone) = (mailbox.clone(), gone.clone());
                loom::thread::spawn(move || (0..2).for_each(|_| mailbox.post([Socket(gone.clone())])))
            })
            .collect();
        let mut kept = VecDeque::new();
        mailbox.take(&mut kept);
        kept.extend(mailbox.close());
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        let mut late = VecDeque::new();
        mailbox.take(&mut late);
        assert_eq!(late.len(), 0, "something stays in a closed mailbox");
        assert_eq!(kept.len() + gone.load(Relaxed), 4, "each is given back or let go");
        drop(kept);
        assert_eq!(gone.load(Relaxed), 4);
    });
}

#[test]
fn a_mailbox_may_go_with_its_last_sender_while_its_owner_has_left() {
    explore(None, || {
        let gone = Arc::new(AtomicUsize::new(0));
        let mailbox = Arc::new(Mailbox::new(Arc::new(Bell::default()), usize::MAX));
        let sender = {
            let (mailbox, gone) = (mailbox.clone(), gone.clone());
            loom::thread::spawn(move || mailbox.post([Socket(gone.clone()), Socket(gone)]))
        };
        drop(mailbox);
        sender.join().unwrap();
        assert_eq!(gone.load(Relaxed), 2);
    });
}
