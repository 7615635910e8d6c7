//! The state of a connection, beside whose it is.

use roost_wire::link::SessionKey;

/// The lower bits; above them stands the generation of its key.
#[derive(Clone, Copy, Debug)]
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
    #[cfg(target_os = "linux")]
    pub(super) const SENDING: u32 = 32;

    /// Those of a fresh connection.
    pub(super) const fn new(key: SessionKey) -> Self {
        Self(key.generation() << Self::BITS)
    }

    /// The generation of its key.
    pub(super) const fn generation(self) -> u32 {
        self.0 >> Self::BITS
    }

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

    /// True if it is to be put into the list of those to be read; then it counts as being there.
    pub(super) const fn may_queue(&mut self) -> bool {
        let may = self.has(Self::READABLE) && !self.has(Self::PAUSED | Self::QUEUED);
        if may {
            self.set(Self::QUEUED);
        }
        may
    }
}

const _: () = assert!(SessionKey::GENERATIONS <= 1 << (u32::BITS - Flags::BITS));
