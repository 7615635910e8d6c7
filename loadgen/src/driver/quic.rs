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

/// The connections of a crowd, by the number of their slot, and whose turn it is to move.
pub(super) struct Quic {
    crowd: u8,
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
    /// Room for `count` connections of each crowd that comes by QUIC.
    ///
    /// # Errors
    /// No socket can be had, or waited for.
    pub(super) fn all(shared: &Shared, count: u32, poll: &Poll) -> io::Result<Vec<Self>> {
        let mut all = Vec::new();
        for (crowd, (carrier, planned)) in shared.carriers.iter().zip(&shared.scenario.crowds).enumerate() {
            let Some(fleet) = carrier.quic(count)? else { continue };
            for socket in fleet.sockets() {
                poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), DATAGRAMS, Interest::READABLE)?;
            }
            let share = planned.migrating;
            // Everybody's turn comes once while the share makes a whole.
            let moves = (share > 0.0).then(|| Round::new(shared.clock.now_ns(), (SECOND as f64 / share) as u64, count));
            all.push(Self { crowd: crowd as u8, fleet, moves });
        }
        Ok(all)
    }
}

impl Worker {
    /// Sends what waits. Returns when the thread has to go on by itself.
    pub(super) fn settle_quic(&mut self, now: u64) -> u64 {
        let mut soonest = u64::MAX;
        for Quic { fleet, moves, .. } in &mut self.quic {
            let due = fleet.settle();
            let due = due.map_or(u64::MAX, |due| now.saturating_add(ns(due.saturating_duration_since(Instant::now()))));
            soonest = soonest.min(due).min(moves.as_ref().map_or(u64::MAX, Round::due_ns));
        }
        soonest
    }

    /// Takes what came, and tells clients.
    pub(super) fn carry_quic(&mut self) {
        let now = self.now();
        for at in 0..self.quic.len() {
            let Quic { fleet, moves, .. } = &mut self.quic[at];
            fleet.turn().expect("sockets of datagrams do not fail");
            for _ in 0..MOVES_PER_TURN {
                let Some((slot, _)) = moves.as_mut().and_then(|moves| moves.take(now)) else { break };
                self.recorder.counts.migrated += u64::from(fleet.migrate(slot));
            }
            while let Some((slot, told)) = self.told_by_quic(at) {
                // What is left of a connection that we ended.
                if self.quic_closing.contains(&slot) && !matches!(told, Told::Closed) {
                    continue;
                }
                match told {
                    Told::Connected => {
                        self.slots[slot as usize].client.open_stream();
                        self.happened(slot, Event::Upgraded, now);
                        self.flush(slot);
                    }
                    Told::Received(taken) => self.taken(slot, taken),
                    Told::Over(why) => self.end(slot, &why),
                    Told::Closed => self.closed_by_quic(slot),
                }
            }
        }
    }

    /// It may connect again; whoever wanted to meanwhile does.
    fn closed_by_quic(&mut self, slot: u32) {
        self.quic_closing.remove(&slot);
        if let Some(intended_ns) = self.quic_waits.remove(&slot)
            && self.slots[slot as usize].is_wanted()
        {
            self.open(slot, intended_ns);
        }
    }

    fn told_by_quic(&mut self, at: usize) -> Option<(u32, Told)> {
        let (slot, event) = self.quic[at].fleet.event()?;
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

    /// The connections of a slot's crowd, if it comes by QUIC.
    fn quic_of(&mut self, slot: u32) -> Option<&mut Quic> {
        let crowd = self.slots[slot as usize].crowd;
        self.quic.iter_mut().find(|quic| quic.crowd == crowd)
    }

    /// Begins a connection, if the client comes by QUIC. While the one before it is being taken down it is put off.
    pub(super) fn open_quic(&mut self, slot: u32, intended_ns: u64) -> Option<io::Result<bool>> {
        let address = self.shared.target.address;
        let closing = self.quic_closing.contains(&slot);
        let quic = self.quic_of(slot)?;
        if closing {
            self.quic_waits.insert(slot, intended_ns);
            return Some(Ok(false));
        }
        Some(quic.fleet.connect(slot, address).map(|()| true))
    }

    /// Goes on from another address; `None`: it does not come by QUIC.
    pub(super) fn migrate_quic(&mut self, slot: u32) -> Option<bool> {
        Some(self.quic_of(slot)?.fleet.migrate(slot))
    }

    /// Hands what a client says to its connection.
    pub(super) fn say_by_quic(&mut self, slot: u32) {
        let now = self.now();
        let state = &mut self.slots[slot as usize];
        let out = std::mem::take(state.client.outbound());
        if out.is_empty() {
            return;
        }
        state.spoke_ns = now;
        if let Some(quic) = self.quic_of(slot) {
            quic.fleet.send(slot, &out);
        }
    }

    /// Ends a connection; `politely`: the server is told.
    pub(super) fn close_quic(&mut self, slot: u32, politely: bool) {
        if let Some(quic) = self.quic_of(slot) {
            quic.fleet.close(slot, if politely { Close::Fin } else { Close::Reset });
            self.quic_closing.insert(slot);
        }
    }
}
