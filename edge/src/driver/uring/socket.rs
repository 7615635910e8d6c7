//! What the driver knows of a connection.

use roost_wire::link::SessionKey;

use super::place::Place;
use crate::Permit;
use crate::driver::flags::Flags;
use crate::driver::table::Row;

pub(super) struct Socket {
    pub(super) place: Place,
    pub(super) permit: Option<Permit>,
    pub(super) flags: Flags,
}

// A million of them are held.
const _: () = assert!(size_of::<Option<Socket>>() == 16);

impl Socket {
    pub(super) const fn new(place: Place, permit: Option<Permit>, key: SessionKey) -> Self {
        Self { place, permit, flags: Flags::new(key) }
    }
}

impl Row for Socket {
    fn generation(&self) -> u32 {
        self.flags.generation()
    }
}
