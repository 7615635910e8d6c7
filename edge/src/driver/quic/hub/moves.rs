//! How often a connection may move to another address.
//!
//! quinn-proto answers the first packet from another address with 1200 bytes, however small that packet was, and whoever has
//! the address gets them: it lets a datagram out whole while anything is left of what is allowed, and pads what asks whether
//! somebody is there (RFC 9000 §8.2.1). A client that forges the addresses of its packets would make thirty bytes of one. So
//! moves are counted in time: each has a second, ten may be ahead of that, and what a client says from where it is shortens the
//! time, since three times as much may be answered anyway. What comes from elsewhere above that is dropped.

use std::net::SocketAddr;
use std::time::Instant;

use super::Hub;

/// Ticks that a move takes.
const MOVE_TICKS: u32 = 1000;
/// Ticks that moves may be ahead before the next one.
const AHEAD_TICKS_MAX: u32 = 10 * MOVE_TICKS;
/// Bytes that pay for a move: a third of 1200.
const MOVE_BYTES: u32 = 400;

impl Hub {
    /// Whether a datagram of `len` bytes may come from `remote`, which may be a move of the connection.
    pub(super) fn may_come(&mut self, handle: u32, remote: SocketAddr, len: usize, now: Instant) -> bool {
        let tick = self.ticks.at(now);
        let Some(conn) = self.conns.get(handle) else { return false };
        if conn.quic.remote_address() == remote {
            let paid = (len as u32).saturating_mul(MOVE_TICKS) / MOVE_BYTES;
            conn.moves_until = conn.moves_until.saturating_sub(paid);
            return true;
        }
        if conn.moves_until <= tick.saturating_add(AHEAD_TICKS_MAX) {
            return true;
        }
        self.metrics.dropped_move(1);
        false
    }

    /// The connection has moved.
    pub(super) fn moved(&mut self, handle: u32, now: Instant) {
        let tick = self.ticks.at(now);
        self.metrics.migrations(1);
        if let Some(conn) = self.conns.get(handle) {
            conn.moves_until = conn.moves_until.max(tick).saturating_add(MOVE_TICKS);
        }
    }
}
