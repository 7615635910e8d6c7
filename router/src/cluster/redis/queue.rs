//! What waits: parcels to be sent, messages to be heard. Both have limits of items and of bytes.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::cluster::bus::{NodeId, Notice, Parcel};

/// Parcels to be sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    waiting: Mutex<Waiting>,
    /// Something waits that did not.
    pub(super) wake: Notify,
    parcels_max: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    parcels: VecDeque<Posted>,
    bytes: usize,
}

/// A parcel as it was posted.
#[derive(Debug)]
pub(super) struct Posted {
    /// `None`: to all.
    pub(super) to: Option<NodeId>,
    pub(super) parcel: Parcel,
    bytes: usize,
    at: Instant,
}

impl Outgoing {
    pub(super) fn new(parcels_max: usize, bytes_max: usize) -> Self {
        Self { waiting: Mutex::default(), wake: Notify::new(), parcels_max, bytes_max }
    }

    /// Queues a parcel; `false`: there is no room, and it is lost. Heartbeats are few, and tell what was lost: they
    /// always find room.
    pub(super) fn push(&self, to: Option<NodeId>, parcel: Parcel, bytes: usize, now: Instant) -> bool {
        let mut waiting = self.waiting.lock();
        let full = waiting.parcels.len() >= self.parcels_max || waiting.bytes + bytes > self.bytes_max;
        if full && !matches!(parcel.notice, Notice::Heartbeat { .. }) {
            return false;
        }
        waiting.bytes += bytes;
        waiting.parcels.push_back(Posted { to, parcel, bytes, at: now });
        let first = waiting.parcels.len() == 1;
        drop(waiting);
        if first {
            self.wake.notify_one();
        }
        true
    }

    /// The first parcel, if it is not older than `age`; and how many older ones were dropped to get there.
    pub(super) fn pop(&self, now: Instant, age: Duration) -> (Option<Posted>, usize) {
        let mut waiting = self.waiting.lock();
        let mut dropped = 0;
        while let Some(posted) = waiting.parcels.pop_front() {
            waiting.bytes -= posted.bytes;
            if now.duration_since(posted.at) <= age {
                return (Some(posted), dropped);
            }
            dropped += 1;
        }
        (None, dropped)
    }

    /// Drops what is older than `age`, and says how many.
    pub(super) fn drop_older(&self, now: Instant, age: Duration) -> usize {
        let mut waiting = self.waiting.lock();
        let mut dropped = 0;
        while waiting.parcels.front().is_some_and(|posted| now.duration_since(posted.at) > age) {
            let posted = waiting.parcels.pop_front();
            waiting.bytes -= posted.map_or(0, |posted| posted.bytes);
            dropped += 1;
        }
        dropped
    }

    /// Parcels and bytes that wait.
    pub(super) fn len(&self) -> (usize, usize) {
        let waiting = self.waiting.lock();
        (waiting.parcels.len(), waiting.bytes)
    }
}

/// A message of another node, opened.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) from: NodeId,
    pub(super) incarnation: u64,
    pub(super) parcels: Vec<Bytes>,
}

impl Message {
    fn bytes(&self) -> usize {
        self.parcels.iter().map(Bytes::len).sum()
    }
}

/// Messages to be heard.
#[derive(Debug)]
pub(super) struct Incoming {
    waiting: Mutex<(VecDeque<Message>, usize)>,
    wake: Notify,
    messages_max: usize,
    bytes_max: usize,
}

impl Incoming {
    pub(super) fn new(messages_max: usize, bytes_max: usize) -> Self {
        Self { waiting: Mutex::default(), wake: Notify::new(), messages_max, bytes_max }
    }

    /// Queues a message; `false`: there is no room, and it is lost.
    pub(super) fn push(&self, message: Message) -> bool {
        let mut waiting = self.waiting.lock();
        let (messages, bytes) = &mut *waiting;
        if messages.len() >= self.messages_max || *bytes + message.bytes() > self.bytes_max {
            return false;
        }
        *bytes += message.bytes();
        messages.push_back(message);
        drop(waiting);
        self.wake.notify_one();
        true
    }

    /// The next message, once there is one. May be dropped while it waits: nothing is lost.
    pub(super) async fn pop(&self) -> Message {
        loop {
            let news = self.wake.notified();
            if let Some(message) = self.try_pop() {
                return message;
            }
            news.await;
        }
    }

    fn try_pop(&self) -> Option<Message> {
        let mut waiting = self.waiting.lock();
        let (messages, bytes) = &mut *waiting;
        let message = messages.pop_front()?;
        *bytes -= message.bytes();
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(notice: Notice) -> Parcel {
        Parcel { from: NodeId(1), incarnation: 1, direct: false, number: 1, notice }
    }

    #[test]
    fn parcels_above_a_limit_of_items_or_bytes_are_refused_but_for_heartbeats() {
        let now = Instant::now();
        for (parcels_max, bytes_max) in [(2, 1000), (1000, 20)] {
            let queue = Outgoing::new(parcels_max, bytes_max);
            assert!(queue.push(None, parcel(Notice::Blind), 10, now));
            assert!(queue.push(None, parcel(Notice::Blind), 10, now));
            assert!(!queue.push(None, parcel(Notice::Blind), 10, now));
            assert!(queue.push(None, parcel(Notice::Heartbeat { direct: [].into() }), 10, now));
            assert_eq!(queue.len(), (3, 30));
            assert!(queue.pop(now, Duration::ZERO).0.is_some());
            assert_eq!(queue.len(), (2, 20));
        }
    }

    #[test]
    fn a_parcel_that_waited_too_long_is_dropped() {
        let queue = Outgoing::new(10, 1000);
        let (age, now) = (Duration::from_secs(2), Instant::now());
        assert!(queue.push(None, parcel(Notice::Blind), 10, now));
        assert!(queue.push(None, parcel(Notice::Leaving), 10, now + age));
        let late = now + age + Duration::from_millis(1);
        let (posted, dropped) = queue.pop(late, age);
        assert_eq!(dropped, 1);
        assert!(matches!(posted.unwrap().parcel.notice, Notice::Leaving));
        assert!(queue.push(None, parcel(Notice::Blind), 10, now));
        assert_eq!(queue.drop_older(late, age), 1);
        assert_eq!(queue.len(), (0, 0));
    }

    #[tokio::test]
    async fn messages_above_a_limit_are_refused_and_the_others_come_in_order() {
        let message =
            |number, bytes| Message { from: NodeId(number), incarnation: 1, parcels: vec![vec![0; bytes].into()] };
        let queue = Incoming::new(2, 100);
        assert!(!queue.push(message(1, 101)));
        assert!(queue.push(message(1, 10)));
        assert!(queue.push(message(2, 10)));
        assert!(!queue.push(message(3, 10)));
        assert_eq!(queue.pop().await.from, NodeId(1));
        assert_eq!(queue.pop().await.from, NodeId(2));
        assert!(queue.push(message(4, 100)));
        assert!(!queue.push(message(5, 1)));
    }
}
