//! What servers speak on top of WebSocket: one file each, behind one trait.
//!
//! Invariants:
//! - nothing here belongs to a client: what a dialect must remember of one is a flag of it, or bytes half received;
//! - bytes of a server never panic: what is not understood is [`Heard::Failed`](super::crowd::Heard::Failed).

mod centrifugo;
mod mqtt;
mod nats;
mod plain;
mod roost;
mod stream;
#[cfg(test)]
mod tests;

use std::fmt::Debug;

use bytes::BytesMut;
use roost_wire::ws::MessageKind;

use super::crowd::Crowd;
use super::hear::Ears;
use super::voice::Voice;
use crate::client::Stamp;
use crate::scenario::Dialect;

/// How a dialect is spoken: what is written for a client, and what messages of the server mean to it.
pub(super) trait Speech: Debug + Sync {
    /// The subprotocol that is asked for; a server that takes another one, or none, speaks something else.
    fn subprotocol(&self) -> Option<&'static str> {
        None
    }

    /// What is sent as a heartbeat.
    fn heartbeat(&self) -> Heartbeat {
        Heartbeat::Ping
    }

    /// Whether the server answers each publish.
    fn acknowledges(&self) -> bool;

    /// The server took the upgrade of client `at`: it enters, or is live at once.
    fn upgraded(&self, at: u32, crowd: &mut Crowd, ears: &mut Ears<'_>);

    /// A whole message of WebSocket came for client `at`; what its dialect calls a message may be a part of it, or go on
    /// in the next.
    fn message(&self, kind: MessageKind, payload: &[u8], at: u32, crowd: &mut Crowd, ears: &mut Ears<'_>);

    /// Asks for the channel. Where the server does not confirm it, the client is subscribed when this returns.
    fn subscribe(&self, at: u32, crowd: &mut Crowd, voice: &mut Voice, out: &mut BytesMut);

    /// Says something to everybody.
    fn publish(&self, stamp: Stamp, voice: &mut Voice, out: &mut BytesMut);
}

/// What is sent as a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heartbeat {
    /// A ping of WebSocket: every server answers it.
    Ping,
    /// A message whose answer the dialect knows.
    Message(MessageKind, &'static [u8]),
}

/// Who speaks it.
pub(super) fn speech(dialect: Dialect) -> &'static dyn Speech {
    match dialect {
        Dialect::Roost => &roost::Roost,
        Dialect::Plain => &plain::Plain,
        Dialect::Nats => &nats::Nats,
        Dialect::Mqtt => &mqtt::Mqtt,
        Dialect::Centrifugo => &centrifugo::Centrifugo,
    }
}
