//! Clients that have keys, and do what they want.

use bytes::Bytes;
use roost_edge::driver::quic::testkit::{Caller, Level, Orders, Trust};
use roost_wire::limits::ALPN;

use super::super::client::Client;
use super::{FRIENDS, H3, ROGUES_MAX, World, addr};

impl World {
    /// One more client begins, with all its freedom. Bits of `form`: what it asks for, and whether it goes on.
    pub(in crate::quic) fn rogue(&mut self, form: u8) {
        let number = (self.clients.len() - FRIENDS) as u8;
        if usize::from(number) >= ROGUES_MAX {
            return;
        }
        let alpn = [ALPN, ALPN, H3, "other"][usize::from(form & 3)];
        let orders = Orders::default();
        let trust = Trust::forging(alpn, 64 * 1024, &orders);
        let caller = Caller::new(&trust, [0x80 + number; 32], self.now);
        self.clients.push(Client::new(caller, addr(100 + number), orders));
        let at = self.clients.len() - 1;
        if form & 4 == 0 {
            self.exchange(at);
        }
        if form & 8 == 8 {
            self.clients[at].write(b"!");
            self.exchange(at);
        }
    }

    /// Something else is said in a packet of a client that has the keys for it.
    pub(in crate::quic) fn forge(&mut self, who: u8, form: u8, header: u8, frames: &[u8]) {
        let Some(at) = self.rogue_at(who) else { return };
        let level = [Level::Data, Level::Data, Level::Handshake, Level::Initial][usize::from(form & 3)];
        // Bits that change what kind of packet it is are for strangers.
        self.clients[at].forge(level, if form & 8 == 8 { header } else { 0 }, frames, form & 4 == 4);
        if form & 0x10 == 0 {
            self.exchange(at);
        }
    }

    pub(in crate::quic) fn exchange_rogue(&mut self, who: u8) {
        if let Some(at) = self.rogue_at(who) {
            self.exchange(at);
        }
    }

    /// What a client may do, and what it may not.
    pub(in crate::quic) fn act(&mut self, who: u8, what: u8, much: u16) {
        let Some(at) = self.rogue_at(who) else { return };
        let (client, now) = (&mut self.clients[at], self.now);
        match what % 9 {
            0 => client.write(&vec![what; usize::from(much)]),
            1 => client.caller.finish(),
            2 => client.caller.reset(),
            3 => client.caller.close(much, now),
            4 => client.caller.ping(),
            5 if client.caller.is_connected() => client.caller.update_keys(),
            6 => client.caller.moved(),
            7 => drop(client.caller.send_datagram(Bytes::from(vec![what; usize::from(much)]))),
            _ => client.addr = addr(120 + (at as u8) % 8 * 8 + much as u8 % 8),
        }
        client.work(now);
    }

    /// A client says these bytes: on its stream, or on one of its own beside it.
    pub(in crate::quic) fn say(&mut self, who: u8, where_to: u8, bytes: &[u8]) {
        let Some(at) = self.rogue_at(who) else { return };
        match where_to % 3 {
            0 => self.clients[at].write(bytes),
            other => drop(self.clients[at].caller.write_beside(other == 1, bytes)),
        }
        self.exchange(at);
    }
}
