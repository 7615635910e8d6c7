//! What a completion says of itself: 64 bits that we chose when its operation began.
//!
//! The upper bits name the kind, the lower ones what the kind needs to find its place. A poll carries slot and
//! generation, so one that outlived its connection finds nothing.

use roost_wire::link::SessionKey;

/// Who a completion is for. The ring goes without saying.
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
    /// Nobody waits for it: a cancellation found nothing to cancel, or an end could not be said.
    Done,
    /// An accept ended: its row of peers' addresses.
    Accept(u16),
    /// A place was closed.
    Close,
}

/// Bits below the kind.
const KIND: u32 = 60;

impl Token {
    pub(super) const fn poll(key: SessionKey) -> Self {
        Self::Poll { slot: key.slot(), generation: key.generation() }
    }
}

impl roost_uring::Token for Token {
    fn pack(self) -> u64 {
        match self {
            Self::Wake => 1 << KIND,
            Self::Poll { slot, generation } => 2 << KIND | u64::from(generation) << 28 | u64::from(slot),
            Self::Send(index) => 3 << KIND | u64::from(index),
            Self::Recv(buffer) => 4 << KIND | u64::from(buffer),
            Self::Done => 5 << KIND,
            Self::Accept(row) => 6 << KIND | u64::from(row),
            Self::Close => 7 << KIND,
        }
    }

    /// Panics on what was never packed: the kernel gives back what it got.
    fn unpack(bits: u64) -> Self {
        match bits >> KIND {
            1 => Self::Wake,
            2 => Self::Poll {
                slot: (bits % u64::from(SessionKey::SLOTS_MAX)) as u32,
                generation: (bits >> 28) as u32 % SessionKey::GENERATIONS,
            },
            3 => Self::Send(bits as u32),
            4 => Self::Recv(bits as u16),
            5 => Self::Done,
            6 => Self::Accept(bits as u16),
            7 => Self::Close,
            _ => panic!("{bits:#x} is no token of ours"),
        }
    }

    fn wakes(self) -> bool {
        self == Self::Wake
    }
}

#[cfg(test)]
mod tests {
    use roost_uring::Token as _;

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
            Token::Done,
            Token::Accept(63),
            Token::Close,
        ] {
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
