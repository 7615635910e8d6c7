//! A thread's connections by QUIC: they share a few sockets, so events are of connections and not of sockets.

use std::io;
use std::os::fd::AsRawFd as _;
use std::time::Instant;

use mio::unix::SourceFd;
use mio::{Interest, Poll};
use roost_uring::fleet::Close;

use super::worker::{SECOND, Worker};
use super::{DATAGRAMS, Shared};
use crate::client::Event;
use crate::clock::ns;
use crate::lines::{self, QuicFleet};
use crate::round::Round;

/// Moves to other addresses in a turn.
const MOVES_PER_TURN: usize = 256;

/// The connections, and whose turn it is to move.
pub(super) struct Quic {
    fleet: QuicFleet,
    moves: Option<Round>,
}

/// What happened to a connection, its bytes put aside.
enum Told {
    Connected,
    Received(usize),
    Over(String),
    Closed,
}

impl Quic {
    /// Room for `count` connections; `None`: the run is by TCP.
    ///
    /// # Errors
    /// No socket can be had, or waited for.
    pub(super) fn new(shared: &Shared, count: u32, poll: &Poll) -> io::Result<Option<Self>> {
        let Some(fleet) = shared.carrier.quic(count)? else { return Ok(None) };
        for socket in fleet.sockets() {
            poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), DATAGRAMS, Interest::READABLE)?;
        }
        let share = shared.scenario.migrating;
        // Everybody's turn comes once while the share makes a whole.
        let moves = (share > 0.0).then(|| Round::new(shared.clock.now_ns(), (SECOND as f64 / share) as u64, count));
        Ok(Some(Self { fleet, moves }))
    }
}

impl Worker {
    /// Sends what waits. Returns when the thread has to go on by itself.
    pub(super) fn settle_quic(&mut self, now: u64) -> u64 {
        let Some(Quic { fleet, moves }) = &mut self.quic else { return u64::MAX };
        let due = fleet.settle();
        let due = due.map_or(u64::MAX, |due| now.saturating_add(ns(due.saturating_duration_since(Instant::now()))));
        due.min(moves.as_ref().map_or(u64::MAX, Round::due_ns))
    }

    /// Takes what came, and tells clients.
    pub(super) fn carry_quic(&mut self) {
        let now = self.now();
        let Some(Quic { fleet, moves }) = &mut self.quic else { return };
        fleet.turn().expect("sockets of datagrams do not fail");
        for _ in 0..MOVES_PER_TURN {
            let Some((slot, _)) = moves.as_mut().and_then(|moves| moves.take(now)) else { break };
            self.recorder.counts.migrated += u64::from(fleet.migrate(slot));
        }
        while let Some((slot, told)) = self.told_by_quic() {
            match told {
                Told::Connected => {
                    self.slots[slot as usize].client.open_stream();
                    self.happened(slot, Event::Upgraded, now);
                    self.flush(slot);
                }
                Told::Received(taken) => self.taken(slot, taken),
                Told::Over(why) => self.end(slot, &why),
                Told::Closed => {}
            }
        }
    }

    fn told_by_quic(&mut self) -> Option<(u32, Told)> {
        let (slot, event) = self.quic.as_mut()?.fleet.event()?;
        let told = match event {
            lines::Event::Connected => Told::Connected,
            lines::Event::Received(bytes) => {
                self.buffer[..bytes.len()].copy_from_slice(bytes);
                Told::Received(bytes.len())
            }
            lines::Event::Over(why) => Told::Over(why),
            lines::Event::Told(code) => Told::Over(format!("closed by the server with {code}")),
            lines::Event::Closed => Told::Closed,
        };
        Some((slot, told))
    }

    /// Begins a connection, if the run is by QUIC.
    pub(super) fn open_quic(&mut self, slot: u32) -> Option<io::Result<()>> {
        Some(self.quic.as_mut()?.fleet.connect(slot, self.shared.target.address))
    }

    /// Hands what a client says to its connection.
    pub(super) fn say_by_quic(&mut self, slot: u32) {
        let Some(Quic { fleet, .. }) = &mut self.quic else { return };
        let state = &mut self.slots[slot as usize];
        let out = std::mem::take(state.client.outbound());
        if !out.is_empty() {
            fleet.send(slot, &out);
            state.spoke_ns = self.shared.clock.now_ns();
        }
    }

    /// Ends a connection; `politely`: the server is told.
    pub(super) fn close_quic(&mut self, slot: u32, politely: bool) {
        if let Some(Quic { fleet, .. }) = &mut self.quic {
            fleet.close(slot, if politely { Close::Fin } else { Close::Reset });
        }
    }
}
