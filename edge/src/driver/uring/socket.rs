//! What the driver knows of a connection.

use roost_wire::link::SessionKey;

use super::place::Place;
use crate::Permit;
use crate::driver::table::Row;

/// The state of a connection: the lower bits; above them stands the generation of its key.
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
    /// A send is under way.
    pub(super) const SENDING: u32 = 32;

    /// Whether any of `flags` is set.
    pub(super) const fn has(self, flags: u32) -> bool {
        self.0 & flags != 0
    }

    pub(super) const fn set(&mut self, flag: u32) {
        self.0 |= flag;
    }

    pub(super) const fn clear(&mut self, flag: u32) {
        self.0 &= !flag;
    }
}

const _: () = assert!(SessionKey::GENERATIONS <= 1 << (u32::BITS - Flags::BITS));

pub(super) struct Socket {
    pub(super) place: Place,
    pub(super) permit: Option<Permit>,
    pub(super) flags: Flags,
}

// A million of them are held.
const _: () = assert!(size_of::<Option<Socket>>() == 16);

impl Socket {
    pub(super) const fn new(place: Place, permit: Option<Permit>, key: SessionKey) -> Self {
        Self { place, permit, flags: Flags(key.generation() << Flags::BITS) }
    }

    /// True if it is to be put into the list of those to be read; then it counts as being there.
    pub(super) const fn may_queue(&mut self) -> bool {
        let may = self.flags.has(Flags::READABLE) && !self.flags.has(Flags::PAUSED | Flags::QUEUED);
        if may {
            self.flags.set(Flags::QUEUED);
        }
        may
    }
}

impl Row for Socket {
    fn generation(&self) -> u32 {
        self.flags.0 >> Flags::BITS
    }
}
