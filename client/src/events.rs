//! What an app hears from its client.

use std::sync::Arc;

use roost_wire::{ConvId, Seq};
use tokio::sync::mpsc;

use crate::core::Event;
use crate::driver::Taken;

/// The events of a client, in order.
///
/// They must be read, or dropped: a client whose events pile up stops reading from the server. Asking for the next
/// event says that the one before is dealt with; the server is told so (ACK), unless the client acknowledges by hand.
#[derive(Debug)]
pub struct Events {
    pub(crate) receiver: mpsc::Receiver<Event>,
    pub(crate) taken: Arc<Taken>,
    pub(crate) acknowledge: bool,
    /// Read ahead while connecting.
    pub(crate) first: Option<Event>,
    /// The entry given out last.
    pub(crate) given: Option<(ConvId, Seq)>,
}

impl Events {
    /// The next event; `None` after [`Event::Ended`]. Cancelling loses nothing.
    pub async fn recv(&mut self) -> Option<Event> {
        if let Some((conv, seq)) = self.given.take() {
            self.taken.put(conv, seq);
        }
        let event = match self.first.take() {
            Some(event) => event,
            None => self.receiver.recv().await?,
        };
        if let Event::Entry(entry) = &event
            && self.acknowledge
        {
            self.given = ConvId::new(&entry.conv).ok().map(|conv| (conv, entry.seq));
        }
        Some(event)
    }
}
