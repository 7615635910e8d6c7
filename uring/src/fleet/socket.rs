//! What there is to know of a socket.

/// A socket of the fleet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Socket {
    /// Counts its connections.
    pub(super) opening: u8,
    pub(super) flags: u8,
}

/// It has a connection, or is on the way to one.
pub(super) const OPEN: u8 = 1;
/// It is on the way.
pub(super) const CONNECTING: u8 = 1 << 1;
/// A receive is under way, or waits for a buffer.
pub(super) const RECEIVING: u8 = 1 << 2;
/// More may have come since that receive began.
pub(super) const AGAIN: u8 = 1 << 3;
/// The peer sends no more than what is there.
pub(super) const HUNG_UP: u8 = 1 << 4;
/// A send is under way, or waits for room.
pub(super) const SENDING: u8 = 1 << 5;
/// It is being closed: nothing else is told.
pub(super) const CLOSING: u8 = 1 << 6;

// A million of them.
const _: () = assert!(size_of::<Socket>() == 2);

impl Socket {
    pub(super) const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) const fn is_connected(self) -> bool {
        self.flags & (OPEN | CONNECTING | CLOSING) == OPEN
    }
}
