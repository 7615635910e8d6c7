//! What a completion says of itself: 64 bits that we chose when its operation began.
//!
//! The upper bits name the kind, the lower ones what the kind needs to find its place. A poll carries slot and
//! generation, so one that outlived its connection finds nothing.

use roost_wire::link::SessionKey;

/// Who a completion is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Somebody wakes the shard.
    Wake,
    /// The state of a connection changed. The shard goes without saying.
    Poll { slot: u32, generation: u32 },
    /// A send ended: its place in the batch.
    Send(u32),
    /// A receive ended: its buffer.
    Recv(u16),
    /// A cancellation found nothing to cancel; nobody waits for that.
    Cancel,
}

/// Bits below the kind.
const KIND: u32 = 60;

impl Token {
    pub(super) const fn poll(key: SessionKey) -> Self {
        Self::Poll { slot: key.slot(), generation: key.generation() }
    }

    pub(super) const fn pack(self) -> u64 {
        match self {
            Self::Wake => 1 << KIND,
            Self::Poll { slot, generation } => 2 << KIND | (generation as u64) << 28 | slot as u64,
            Self::Send(index) => 3 << KIND | index as u64,
            Self::Recv(buffer) => 4 << KIND | buffer as u64,
            Self::Cancel => 5 << KIND,
        }
    }

    /// Panics on what was never packed: the kernel gives back what it got.
    pub(super) fn unpack(bits: u64) -> Self {
        match bits >> KIND {
            1 => Self::Wake,
            2 => Self::Poll {
                slot: (bits % u64::from(SessionKey::SLOTS_MAX)) as u32,
                generation: (bits >> 28) as u32 % SessionKey::GENERATIONS,
            },
            3 => Self::Send(bits as u32),
            4 => Self::Recv(bits as u16),
            5 => Self::Cancel,
            _ => panic!("{bits:#x} is no token of ours"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_keep_what_they_carry() {
        let most = SessionKey::new(0, SessionKey::SLOTS_MAX - 1, SessionKey::GENERATIONS - 1);
        for token in [
            Token::Wake,
            Token::Poll { slot: 0, generation: 0 },
            Token::Poll { slot: 7, generation: 3 },
            Token::poll(most),
            Token::Send(0),
            Token::Send(u32::MAX),
            Token::Recv(u16::MAX),
            Token::Cancel,
        ] {
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
