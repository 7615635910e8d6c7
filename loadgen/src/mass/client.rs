//! One of a million clients: what there is to know of it, in a few words of memory.

use roost_wire::limits::SERVER_FRAME_BYTES_MAX;
use roost_wire::ws;

/// What a client is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// It has no connection.
    Gone,
    /// TCP.
    Connecting,
    /// It asked for WebSocket.
    Upgrading,
    /// It asked to enter.
    Entering,
    /// It is a session; where the protocol is plain, a WebSocket.
    Live,
    /// Our end is closed, the slot not yet free.
    Closing,
}

impl Phase {
    /// On the way to be a session.
    pub(crate) const fn is_opening(self) -> bool {
        matches!(self, Self::Connecting | Self::Upgrading | Self::Entering)
    }
}

/// What a push is to the client that got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The next one.
    Next,
    /// One above so many that did not come.
    After(u32),
    /// One that came before, to a client that missed none.
    Doubled,
    /// One that is not above the last, to a client that missed some: late, or doubled.
    Late,
}

/// One client. A node of a run has a million of them in one array.
#[derive(Debug)]
pub(crate) struct Client {
    /// Owns memory only while a frame is half received.
    pub(super) decoder: ws::Decoder,
    /// When its connection was meant to begin.
    pub(super) intended_ns: u64,
    /// The last seq pushed; [`Client::ANY_SEQ`] if whatever comes first is right.
    pub(super) seq: u32,
    /// When its heartbeat was meant to be sent, in ms of the run's clock. It has a meaning while one is awaited.
    pub(super) beat_ms: u32,
    pub(super) phase: Phase,
    pub(super) flags: u8,
    /// Counts its connections, to tell them apart.
    pub(super) opening: u8,
    /// Tries to connect since it was last a session.
    pub(super) tries: u8,
}

// 48 bytes for a million of them: the rest of the 300 is for what the system takes.
const _: () = assert!(size_of::<Client>() <= 48);

impl Client {
    /// A client that knows nothing of the seqs that come.
    pub(super) const ANY_SEQ: u32 = u32::MAX;

    /// A heartbeat awaits its answer.
    pub(super) const AWAITS_PONG: u8 = 1;
    /// It asked for the channel, and the server confirmed it if it confirms anything.
    pub(super) const SUBSCRIBED: u8 = 1 << 1;
    /// Something was left out by pushes.
    pub(super) const MISSED: u8 = 1 << 2;
    /// An echo is awaited.
    pub(super) const AWAITS_ECHO: u8 = 1 << 3;
    /// The next sign of life confirms what was asked for, where a dialect has no other answer.
    pub(super) const CONFIRMS: u8 = 1 << 4;

    pub(super) fn new() -> Self {
        Self {
            decoder: decoder(),
            intended_ns: 0,
            seq: 0,
            beat_ms: 0,
            phase: Phase::Gone,
            flags: 0,
            opening: 0,
            tries: 0,
        }
    }

    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) const fn set(&mut self, flag: u8, on: bool) {
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
    }

    /// An entry was pushed.
    pub(super) fn arrived(&mut self, seq: u32) -> Arrival {
        if self.seq == Self::ANY_SEQ || seq == self.seq.wrapping_add(1) {
            self.seq = seq;
            return Arrival::Next;
        }
        if seq > self.seq {
            let missing = seq - self.seq - 1;
            self.seq = seq;
            self.set(Self::MISSED, true);
            return Arrival::After(missing);
        }
        if self.has(Self::MISSED) { Arrival::Late } else { Arrival::Doubled }
    }
}

pub(super) fn decoder() -> ws::Decoder {
    ws::Decoder::new(ws::Side::Client, SERVER_FRAME_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_is_next_above_a_gap_doubled_or_late() {
        let mut client = Client::new();
        for (seq, arrival) in [
            (1, Arrival::Next),
            (2, Arrival::Next),
            (2, Arrival::Doubled),
            (1, Arrival::Doubled),
            (5, Arrival::After(2)),
            (4, Arrival::Late),
            (6, Arrival::Next),
        ] {
            assert_eq!(client.arrived(seq), arrival, "{seq}");
        }
        client.seq = Client::ANY_SEQ;
        assert_eq!((client.arrived(40), client.arrived(41)), (Arrival::Next, Arrival::Next));
    }
}
