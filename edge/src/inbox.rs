//! What other threads may put into a shard's mailbox.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use roost_edge_core::HttpDown;
use roost_edge_core::driver::Wake;
use roost_wire::link::{Down, SessionKey};

use crate::bridge::Post;
use crate::mailbox::{self, Mailbox};

/// The way into one shard, for any thread. `C` is the driver's kind of connection.
pub struct Inbox<C> {
    mailbox: Arc<Mailbox<Item<C>>>,
}

/// One thing in a mailbox.
pub(crate) enum Item<C> {
    /// From the router.
    Down(Down),
    /// From the acceptor.
    Accepted { conn: C, peer: SocketAddr },
    /// From the HTTP service.
    Http { key: SessionKey, down: HttpDown },
    /// From the node.
    Order(Order),
}

/// What a node asks of all its shards.
pub(crate) enum Order {
    /// See [`crate::EdgeHandle::drain`].
    Drain { reason: String, window: Duration, deadline: Duration, seed: u64 },
    /// See [`crate::EdgeHandle::admit`].
    Admit(bool),
    /// See [`crate::EdgeHandle::stop`].
    Stop,
}

impl<C> mailbox::Item for Item<C> {
    fn droppable(&self) -> bool {
        matches!(self, Self::Down(Down::Deliver { .. }))
    }
}

impl<C: Send + 'static> Post for Mailbox<Item<C>> {
    fn post(&self, key: SessionKey, down: HttpDown) {
        Self::post(self, [Item::Http { key, down }]);
    }
}

impl<C> Clone for Inbox<C> {
    fn clone(&self) -> Self {
        Self { mailbox: self.mailbox.clone() }
    }
}

impl<C: Send + 'static> Inbox<C> {
    /// An empty one. `wake` ends the sleep of the shard's driver; above `items_max` items deliveries are dropped, and
    /// the shard is told to doubt.
    #[must_use]
    pub fn new(wake: Arc<dyn Wake>, items_max: usize) -> Self {
        Self { mailbox: Arc::new(Mailbox::new(wake, items_max)) }
    }

    /// Puts `batch` in, leaving it empty.
    pub fn post(&self, batch: &mut Vec<Down>) {
        self.mailbox.post(batch.drain(..).map(Item::Down));
    }

    /// Hands over a connection.
    pub fn accepted(&self, conn: C, peer: SocketAddr) {
        self.mailbox.post([Item::Accepted { conn, peer }]);
    }

    /// See [`crate::EdgeHandle::drain`]. The slots of the sessions are drawn from `seed`.
    pub fn drain(&self, reason: &str, window: Duration, deadline: Duration, seed: u64) {
        self.mailbox.post([Item::Order(Order::Drain { reason: reason.into(), window, deadline, seed })]);
    }

    /// See [`crate::EdgeHandle::admit`].
    pub fn admit(&self, admitting: bool) {
        self.mailbox.post([Item::Order(Order::Admit(admitting))]);
    }

    /// See [`crate::EdgeHandle::stop`].
    pub fn stop(&self) {
        self.mailbox.post([Item::Order(Order::Stop)]);
    }

    /// Deliveries dropped because of the limit so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.mailbox.dropped()
    }
}

impl<C> Inbox<C> {
    pub(crate) const fn mailbox(&self) -> &Arc<Mailbox<Item<C>>> {
        &self.mailbox
    }
}
