//! What completions of a fleet say of themselves.

use crate::Token;

/// Whose a completion is. A socket is named by its place and by which of its connections it was: one that outlived its
/// connection finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    /// A step on the way to a connection failed, or the last one succeeded.
    Connect { slot: u32, opening: u8 },
    /// The state of a socket changed.
    Poll { slot: u32, opening: u8 },
    /// A receive ended: its buffer.
    Recv(u16),
    /// A send ended: its number.
    Send(u32),
    /// A socket is closed.
    Close { slot: u32, opening: u8 },
    /// Nobody waits for it.
    Nobody,
}

/// Bits below the kind, and below the number of the connection.
const KIND: u32 = 60;
const OPENING: u32 = 32;

impl Token for Tag {
    fn pack(self) -> u64 {
        let socket = |kind: u64, slot: u32, opening: u8| kind << KIND | u64::from(opening) << OPENING | u64::from(slot);
        match self {
            Self::Connect { slot, opening } => socket(1, slot, opening),
            Self::Poll { slot, opening } => socket(2, slot, opening),
            Self::Recv(buffer) => 3 << KIND | u64::from(buffer),
            Self::Send(number) => 4 << KIND | u64::from(number),
            Self::Close { slot, opening } => socket(5, slot, opening),
            Self::Nobody => 6 << KIND,
        }
    }

    /// Panics on what was never packed: the kernel gives back what it got.
    fn unpack(bits: u64) -> Self {
        let (slot, opening) = (bits as u32, (bits >> OPENING) as u8);
        match bits >> KIND {
            1 => Self::Connect { slot, opening },
            2 => Self::Poll { slot, opening },
            3 => Self::Recv(bits as u16),
            4 => Self::Send(bits as u32),
            5 => Self::Close { slot, opening },
            6 => Self::Nobody,
            _ => panic!("{bits:#x} is no tag of ours"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_keep_what_they_carry() {
        for (slot, opening) in [(0, 0), (7, 255), (u32::MAX, 1)] {
            for tag in [
                Tag::Connect { slot, opening },
                Tag::Poll { slot, opening },
                Tag::Recv(slot as u16),
                Tag::Send(slot),
                Tag::Close { slot, opening },
                Tag::Nobody,
            ] {
                assert_eq!(Tag::unpack(tag.pack()), tag);
                assert_ne!(tag.pack(), u64::MAX, "that one is the ring's own");
            }
        }
    }
}
