//! One client, and where it is.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use roost_edge::driver::quic::testkit::{Caller, Level, Order, Orders};
use roost_wire::link::SessionKey;

/// Most bytes that an exchanged packet of data may hold.
const ROOM_BYTES_MAX: usize = 1000;

pub(super) struct Client {
    pub(super) caller: Caller,
    pub(super) addr: SocketAddr,
    /// Its session.
    pub(super) key: Option<SessionKey>,
    /// What it says instead of what it should.
    pub(super) orders: Orders,
    /// What it has sent, and what is not delivered yet.
    pub(super) unheard: VecDeque<Vec<u8>>,
    /// What came for it, and it has not read.
    pub(super) inbox: VecDeque<Vec<u8>>,
    /// All that it wrote to the stream, and read there.
    pub(super) written: Vec<u8>,
    pub(super) read: Vec<u8>,
    pub(super) opened: bool,
}

impl Client {
    pub(super) fn new(caller: Caller, addr: SocketAddr, orders: Orders) -> Self {
        Self {
            caller,
            addr,
            key: None,
            orders,
            unheard: VecDeque::new(),
            inbox: VecDeque::new(),
            written: Vec::new(),
            read: Vec::new(),
            opened: false,
        }
    }

    /// Reads what came, and says what there is to say.
    pub(super) fn work(&mut self, now: Instant) {
        while let Some(bytes) = self.inbox.pop_front() {
            self.caller.hear(&bytes, now);
        }
        let (bytes, _) = self.caller.read();
        self.read.extend_from_slice(&bytes);
        while self.caller.datagram().is_some() {}
        self.unheard.extend(self.caller.speak(now));
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.opened |= self.caller.open();
        let written = self.caller.write(bytes);
        self.written.extend_from_slice(&bytes[..written]);
    }

    /// Says `frames` in its next packet of this kind.
    pub(super) fn forge(&mut self, level: Level, header: u8, frames: &[u8], keep: bool) {
        self.orders.push(Order { level, header, frames: frames.to_vec(), keep });
        if level == Level::Data {
            // A datagram that makes room for them.
            let room = (frames.len() + 8).min(ROOM_BYTES_MAX);
            self.caller.send_datagram(Bytes::from(vec![0; room]));
        }
    }
}
