//! What goes wrong with transports: sessions that move, addresses that change, QUIC that does not come through, and cuts at the
//! moment of a hand-over.

use std::time::Duration;

use roost_client::core::{Core, LinkId};

use super::{Turn, World};
use crate::client::Way;
use crate::fault::Fault;

impl World {
    /// A client opens another connection beside the one in use, by the other transport if it has two.
    pub(super) fn move_session(&mut self) {
        let now = self.now();
        let rng = self.fate.of(Fault::Move);
        let (number, other) = (rng.below(self.clients.len()), rng.chance(80));
        let by_socket = self.is_by_socket(number);
        let client = &mut self.clients[number];
        let Some(core) = client.core.as_mut().filter(|core| core.link().is_some()) else { return };
        let way = match (client.way, by_socket == other) {
            // It speaks JSON, or has no other.
            (Way::Socket, _) | (_, false) => Way::Socket,
            (_, true) => Way::Quic,
        };
        core.try_another(now);
        client.forced = Some(way);
        self.model.fault(Fault::Move, format_args!("client {number} tries {way:?}, has a WebSocket: {by_socket}"));
        self.client_effects(number);
        // Unless a connection was under way already.
        self.clients[number].forced = None;
    }

    fn is_by_socket(&self, number: usize) -> bool {
        let client = &self.clients[number];
        client.core.as_ref().and_then(Core::link).is_some_and(|link| client.sockets.contains_key(&link))
    }

    /// A client is somewhere else. If it does not know, its router has only given its datagrams another port.
    pub(super) fn change_address(&mut self) {
        let now = self.now();
        let rng = self.fate.of(Fault::AddressChange);
        let (number, told) = (rng.below(self.clients.len()), rng.chance(50));
        let client = &self.clients[number];
        // A WebSocket is lost with its address: that is no move.
        let lost = self.plan.moving && !client.sockets.is_empty();
        if client.core.is_none() || lost || !told && client.lanes.is_empty() {
            return;
        }
        self.model.fault(Fault::AddressChange, format_args!("client {number}, who knows: {told}"));
        let lanes: Vec<u64> = self.clients[number].lanes.keys().copied().collect();
        for id in lanes {
            let addr = self.free_addr(number);
            let Some(lane) = self.clients[number].lanes.get_mut(&id) else { continue };
            self.homes.remove(&lane.addr);
            self.homes.insert(addr, (number, id));
            lane.moved(addr, told);
        }
        if !told {
            return;
        }
        let by_socket = self.is_by_socket(number);
        for conn in self.conns.values_mut().filter(|conn| conn.client == number && conn.held) {
            conn.up.go_silent();
            conn.down.go_silent();
        }
        let client = &mut self.clients[number];
        client.no_quic_until = None;
        match &mut client.core {
            Some(core) if by_socket => core.try_another(now),
            Some(core) => core.retry_now(now),
            None => {}
        }
    }

    /// Datagrams of a client do not come through for a while.
    pub(super) fn block_udp(&mut self) {
        let rng = self.fate.of(Fault::UdpBlocked);
        let (number, after) = (rng.below(self.clients.len()), rng.ms(2000, 40_000));
        self.set_udp_blocked(number, true);
        self.model.fault(Fault::UdpBlocked, format_args!("client {number}, for {after:?}"));
        self.later(after, Turn::UnblockUdp(number));
    }

    pub(super) fn set_udp_blocked(&mut self, number: usize, blocked: bool) {
        let client = &mut self.clients[number];
        client.udp_blocked = blocked;
        client.lanes.values().for_each(|lane| self.air.block(lane.addr, blocked));
    }

    /// A session is being handed over from `old` to `new`. One of them may break right now, or in a moment.
    pub(super) fn strike_hand_over(&mut self, number: usize, old: LinkId, new: LinkId) {
        if !self.fate.cut_move {
            return;
        }
        let rng = self.fate.of(Fault::MoveCut);
        // The other of the two moments will do as well.
        if rng.chance(40) {
            return;
        }
        let (which, after) = (if rng.chance(50) { old } else { new }, [0, 5, 50][rng.below(3)]);
        self.fate.cut_move = false;
        self.break_link(number, which, Duration::from_millis(after));
        let which = if which == old { "old" } else { "new" };
        self.model.fault(Fault::MoveCut, format_args!("client {number} loses the {which} one in {after} ms"));
    }

    /// A connection of a client breaks; the node hears of it later, or never.
    fn break_link(&mut self, number: usize, link: LinkId, after: Duration) {
        let now = self.now();
        if let Some(lane) = self.lane_of(number, link) {
            lane.weather.breaks_at = Some(now + after);
        }
        let conn = self.clients[number].sockets.get(&link).map(|socket| socket.conn);
        if let Some(conn) = conn.and_then(|conn| self.conns.get_mut(&conn)) {
            conn.cut(now, [after, after]);
        }
    }
}
