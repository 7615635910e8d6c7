//! The sockets of a shard, by the slot of their key.

use mio::net::TcpStream;
use roost_wire::link::SessionKey;

use super::Conn;
use crate::Permit;

/// What the driver knows of a socket: the lower bits; above them stands the generation of its key.
#[derive(Clone, Copy)]
pub(super) struct Flags(u32);

impl Flags {
    const BITS: u32 = 6;

    /// There may be something to read.
    pub(super) const READABLE: u32 = 1;
    /// The shard wants nothing from it now.
    pub(super) const PAUSED: u32 = 2;
    /// It took less than was offered: wait for an event.
    pub(super) const BLOCKED: u32 = 4;
    /// The peer's end, or a failure, stands behind what is still to be read.
    pub(super) const ENDING: u32 = 8;
    /// It stands in the list of those to be read.
    pub(super) const QUEUED: u32 = 16;

    pub(super) const fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }

    pub(super) const fn set(&mut self, flag: u32) {
        self.0 |= flag;
    }

    pub(super) const fn clear(&mut self, flag: u32) {
        self.0 &= !flag;
    }
}

pub(super) struct Socket {
    permit: Option<Permit>,
    pub(super) stream: TcpStream,
    pub(super) flags: Flags,
}

const _: () = assert!(SessionKey::GENERATIONS <= 1 << (u32::BITS - Flags::BITS));

impl Socket {
    pub(super) fn new(stream: TcpStream, permit: Option<Permit>, key: SessionKey) -> Self {
        Self { permit, stream, flags: Flags(key.generation() << Flags::BITS) }
    }

    const fn generation(&self) -> u32 {
        self.flags.0 >> Flags::BITS
    }

    pub(super) fn into_conn(self) -> Conn {
        Conn { stream: self.stream.into(), permit: self.permit }
    }

    /// True if it is to be put into the list of those to be read; then it counts as being there.
    pub(super) const fn may_queue(&mut self) -> bool {
        let may = self.flags.has(Flags::READABLE) && !self.flags.has(Flags::PAUSED) && !self.flags.has(Flags::QUEUED);
        if may {
            self.flags.set(Flags::QUEUED);
        }
        may
    }
}

// A million of them are held. In debug builds mio keeps more, for its own checks.
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Option<Socket>>() == 16);

/// The shard's slab decides which slots are in use; this follows it.
#[derive(Default)]
pub(super) struct Sockets {
    slots: Vec<Option<Socket>>,
    len: usize,
}

impl Sockets {
    pub(super) fn put(&mut self, key: SessionKey, socket: Socket) {
        let slot = key.slot() as usize;
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
        }
        if self.slots[slot].replace(socket).is_none() {
            self.len += 1;
        }
    }

    /// The socket of `key`; `None` if the key is stale.
    pub(super) fn get(&mut self, key: SessionKey) -> Option<&mut Socket> {
        self.slots.get_mut(key.slot() as usize)?.as_mut().filter(|socket| socket.generation() == key.generation())
    }

    /// Takes the socket of `key` out; dropping it closes it.
    pub(super) fn take(&mut self, key: SessionKey) -> Option<Socket> {
        self.get(key)?;
        self.len -= 1;
        self.slots[key.slot() as usize].take()
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn keys(&self, shard: u16) -> impl Iterator<Item = SessionKey> {
        let key = move |(slot, socket): (usize, &Option<Socket>)| {
            socket.as_ref().map(|socket| SessionKey::new(shard, slot as u32, socket.generation()))
        };
        self.slots.iter().enumerate().filter_map(key)
    }
}
