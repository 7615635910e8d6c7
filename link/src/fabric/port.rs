//! The queue to one attached edge.

use std::collections::VecDeque;
use std::ops::Range;

use parking_lot::Mutex;
use roost_wire::link::Down;
use tokio::sync::{Notify, OnceCell};

use super::Orphan;
use super::merge::Merge;
use crate::proto::link::RouterBatch;
use crate::{LinkConfig, NodeName};

/// Room that a queue keeps when it is empty, in items.
const CAPACITY_KEPT: usize = 4096;

/// An attached edge, as the router's side sees it.
pub(crate) struct Port {
    name: NodeName,
    base: u16,
    shards: u16,
    queue: Mutex<Queue>,
    news: Notify,
    /// The router knows its sessions no more.
    pub(crate) forgotten: OnceCell<()>,
    items_max: usize,
    bytes_max: usize,
    batch_items_max: usize,
    batch_bytes_max: usize,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<(u16, Down)>,
    /// Of the pushes among them, as far as they are counted: each shard's share of one push counts.
    bytes: usize,
    /// Something was dropped since the last batch.
    doubt: bool,
    /// The router leaves: to be told once.
    goodbye: Option<bool>,
    closed: bool,
}

/// What there is to send.
pub(crate) enum Next {
    Batch(RouterBatch),
    /// Nothing at the moment.
    Wait,
    /// Nothing ever.
    End,
}

impl Port {
    pub(crate) fn new(name: NodeName, base: u16, shards: u16, config: &LinkConfig) -> Self {
        Self {
            name,
            base,
            shards,
            queue: Mutex::default(),
            news: Notify::new(),
            forgotten: OnceCell::new(),
            items_max: config.down_items_max,
            bytes_max: config.down_bytes_max,
            batch_items_max: config.batch_items_max,
            batch_bytes_max: config.batch_bytes_max,
        }
    }

    /// Whose it is.
    pub(crate) const fn name(&self) -> &NodeName {
        &self.name
    }

    /// The shards it has here.
    pub(crate) fn shards(&self) -> Range<u16> {
        self.base..self.base + self.shards
    }

    /// Queues what is for shards of this edge, emptying the batches. Pushes above the limits are dropped; everything
    /// else fits: it is bounded by the commands in flight. Gives how many were dropped, and sessions that were accepted
    /// after the edge had gone.
    pub(crate) fn post(&self, batches: &mut [(u16, Vec<Down>)]) -> (usize, Vec<Orphan>) {
        let (mut dropped, mut orphans) = (0, Vec::new());
        let mut queue = self.queue.lock();
        for (shard, batch) in batches {
            for down in batch.drain(..) {
                match &down {
                    Down::Accepted { session, user, .. } if queue.closed => orphans.push((*session, user.clone())),
                    _ if queue.closed => {}
                    Down::Deliver { envelope, .. } => {
                        let bytes = envelope.frame_bytes();
                        if queue.items.len() >= self.items_max || queue.bytes + bytes > self.bytes_max {
                            dropped += 1;
                            queue.doubt = true;
                        } else {
                            queue.bytes += bytes;
                            queue.items.push_back((*shard, down));
                        }
                    }
                    _ => queue.items.push_back((*shard, down)),
                }
            }
        }
        drop(queue);
        self.news.notify_one();
        (dropped, orphans)
    }

    /// The edge is to bring its sessions elsewhere.
    pub(crate) fn say_goodbye(&self) {
        self.queue.lock().goodbye.get_or_insert(false);
        self.news.notify_one();
    }

    /// Nothing is sent any more, and what comes is dropped.
    pub(crate) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        queue.items = VecDeque::new();
        drop(queue);
        self.news.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.queue.lock().closed
    }

    /// The next batch, if there is anything to say.
    pub(crate) fn next(&self) -> Next {
        let mut merge = Merge::new(self.base, self.shards);
        let mut goodbye = false;
        {
            let mut queue = self.queue.lock();
            if queue.closed {
                return Next::End;
            }
            if queue.goodbye == Some(false) {
                queue.goodbye = Some(true);
                goodbye = true;
            }
            while merge.items() < self.batch_items_max && merge.bytes() < self.batch_bytes_max {
                let Some((shard, down)) = queue.items.pop_front() else { break };
                if let Down::Deliver { envelope, .. } = &down {
                    queue.bytes -= envelope.frame_bytes();
                }
                merge.add(shard, down);
            }
            // What was dropped is in the log by now: whoever syncs finds it.
            if std::mem::take(&mut queue.doubt) {
                merge.doubt_all();
            }
            if queue.items.is_empty() && queue.items.capacity() > CAPACITY_KEPT {
                queue.items = VecDeque::new();
            }
        }
        let items = merge.finish();
        if items.is_empty() && !goodbye { Next::Wait } else { Next::Batch(RouterBatch { hello: None, items, goodbye }) }
    }

    /// Returns when there may be something to say.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }
}
