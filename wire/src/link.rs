//! What travels between edge and router, in one process or between two: commands up, envelopes down.
//!
//! The edge knows connections and no meaning; the router knows meaning and no connections. Both know this module.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use prost::Message as _;

use crate::pb::{self, Frame};
use crate::ws::{Deflater, payload_of};
use crate::{CloseCode, ConvId, Encoding, FrameBody, Seq, UserId};

/// Names a session on its node, and never another one: shard, slot in the shard's slab, and how often the slot was
/// used before. A key outlives its session safely: a stale one finds nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(u64);

impl SessionKey {
    const SLOT_BITS: u32 = 28;
    const GENERATION_BITS: u32 = 26;
    /// Most shards of a node.
    pub const SHARDS_MAX: u16 = 1 << 10;
    /// Most slots of a shard.
    pub const SLOTS_MAX: u32 = 1 << Self::SLOT_BITS;
    /// Generations count modulo this.
    pub const GENERATIONS: u32 = 1 << Self::GENERATION_BITS;

    /// Packs the three parts.
    ///
    /// # Panics
    /// If `shard` or `slot` is not below its maximum: both are counted by us, never by a peer.
    #[must_use]
    pub const fn new(shard: u16, slot: u32, generation: u32) -> Self {
        assert!(shard < Self::SHARDS_MAX && slot < Self::SLOTS_MAX, "shard or slot out of range");
        let generation = generation % Self::GENERATIONS;
        Self(((shard as u64) << 54) | ((generation as u64) << Self::SLOT_BITS) | slot as u64)
    }

    /// The shard that owns the session.
    #[must_use]
    pub const fn shard(self) -> u16 {
        (self.0 >> 54) as u16
    }

    /// Its slot there.
    #[must_use]
    pub const fn slot(self) -> u32 {
        (self.0 & (Self::SLOTS_MAX as u64 - 1)) as u32
    }

    /// The same slot and generation on another shard: a router that hosts sessions of several edges gives each edge
    /// shards of its own.
    ///
    /// # Panics
    /// If `shard` is not below its maximum.
    #[must_use]
    pub const fn with_shard(self, shard: u16) -> Self {
        Self::new(shard, self.slot(), self.generation())
    }

    /// All three parts in one number, as [`Self::from_bits`] takes it.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The key of a number. Every number is a key: its parts fill the 64 bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// How often the slot was used before, modulo [`Self::GENERATIONS`].
    #[must_use]
    pub const fn generation(self) -> u32 {
        ((self.0 >> Self::SLOT_BITS) & (Self::GENERATIONS as u64 - 1)) as u32
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.{}", self.shard(), self.slot(), self.generation())
    }
}

/// As WELCOME tells it: sixteen hexadecimal digits.
impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// From edge to router.
#[derive(Debug)]
pub enum Up {
    /// A client wants to become a session. Answered by [`Down::Accepted`] or [`Down::Refused`].
    Connect {
        /// The session to be.
        session: SessionKey,
        /// The command's rid.
        rid: u64,
        /// The command; its `token` is empty if `bearer` is to be used.
        connect: pb::Connect,
        /// The token of the upgrade's `Authorization` header, if it had one.
        bearer: Option<Box<str>>,
        /// The other end of its connection.
        peer: SocketAddr,
    },
    /// A command of a live session. Answered by exactly one [`Down::Reply`], whatever its `rid`; the reply has no
    /// frame if `rid` is 0 and the command succeeded.
    Command {
        /// Who asks.
        session: SessionKey,
        /// The user that [`Down::Accepted`] named.
        user: UserId,
        /// The command's rid.
        rid: u64,
        /// The command.
        body: FrameBody,
    },
    /// A session that was accepted has ended; nothing may be sent to it any more.
    Gone {
        /// Which.
        session: SessionKey,
        /// Whose.
        user: UserId,
    },
}

/// From router to the shard of an edge.
#[derive(Clone, Debug)]
pub enum Down {
    /// The session is live. If the shard no longer knows the key it answers [`Up::Gone`].
    Accepted {
        /// Which.
        session: SessionKey,
        /// The rid of CONNECT.
        rid: u64,
        /// Its user.
        user: UserId,
        /// The reply; the edge fills in limits and heartbeat, which are its own.
        welcome: Box<pb::Welcome>,
    },
    /// The client may not enter: the error is sent, then the connection closed.
    Refused {
        /// Which.
        session: SessionKey,
        /// The rid of CONNECT.
        rid: u64,
        /// The reply.
        error: pb::Error,
        /// The close after it.
        close: CloseCode,
    },
    /// The reply to a command, one to each; it ends one command in flight.
    Reply {
        /// Which session asked.
        session: SessionKey,
        /// The reply with the command's rid. `None`: the command wanted no reply and succeeded.
        frame: Option<Box<Frame>>,
    },
    /// A token was refreshed: the session now lives until `expires`. The reply comes separately.
    Extend {
        /// Which.
        session: SessionKey,
        /// In ms since the Unix epoch.
        expires: u64,
    },
    /// A push to sessions of this shard.
    Deliver {
        /// What.
        envelope: Arc<Envelope>,
        /// To whom.
        audience: Audience,
    },
    /// From now on the session receives what is delivered to the topic.
    Join {
        /// Which.
        session: SessionKey,
        /// The conversation.
        topic: ConvId,
    },
    /// No more.
    Leave {
        /// Which.
        session: SessionKey,
        /// The conversation.
        topic: ConvId,
    },
    /// What was to be delivered may be lost: every session of this shard is told to sync, paced.
    Doubt,
    /// End the session.
    Close {
        /// Which.
        session: SessionKey,
        /// With this code and its text.
        code: CloseCode,
    },
}

/// Who gets an envelope, within one shard.
#[derive(Clone, Debug)]
pub enum Audience {
    /// These sessions.
    Sessions(Arc<[SessionKey]>),
    /// Every session that joined the topic.
    Topic {
        /// The conversation.
        topic: ConvId,
        /// But not this one: it was told by a reply.
        except: Option<SessionKey>,
    },
}

/// What may happen to a push when its reader is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Never lost: if it cannot be queued, the session is marked behind and catches up from the log.
    Durable,
    /// Dropped first.
    Ephemeral,
}

/// A push, the same for all its receivers: the complete WebSocket message is built once per encoding and shared; so is
/// the compressed one.
pub struct Envelope {
    lane: Lane,
    frame: Frame,
    messages: [OnceLock<Bytes>; Encoding::ALL.len()],
    compressed: [OnceLock<Option<Bytes>>; Encoding::ALL.len()],
}

impl Envelope {
    /// Takes a push (its rid is 0).
    #[must_use]
    pub fn new(lane: Lane, body: FrameBody) -> Arc<Self> {
        let frame = Frame { rid: 0, body: Some(body) };
        let messages = [const { OnceLock::new() }; Encoding::ALL.len()];
        let compressed = [const { OnceLock::new() }; Encoding::ALL.len()];
        Arc::new(Self { lane, frame, messages, compressed })
    }

    /// A WebSocket message that is no push: complete, uncompressed, the same in every encoding.
    #[must_use]
    pub fn plain(lane: Lane, message: &Bytes) -> Arc<Self> {
        let messages =
            [const { OnceLock::new() }; Encoding::ALL.len()].map(|_: OnceLock<Bytes>| message.clone().into());
        let compressed = [const { OnceLock::new() }; Encoding::ALL.len()];
        Arc::new(Self { lane, frame: Frame::default(), messages, compressed })
    }

    /// Its lane.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        self.lane
    }

    /// The push itself.
    #[must_use]
    pub const fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Conversation and seq, if the push is an entry of a log.
    #[must_use]
    pub fn entry(&self) -> Option<(&str, Seq)> {
        match &self.frame.body {
            Some(FrameBody::Entry(entry)) => Some((&entry.conv, entry.seq)),
            _ => None,
        }
    }

    /// Bytes of the push in protobuf, without headers. Builds nothing.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        self.frame.encoded_len()
    }

    /// The complete WebSocket message in `encoding`: built at the first call, shared at every later one.
    #[must_use]
    pub fn message(&self, encoding: Encoding) -> &Bytes {
        self.messages[encoding.index()].get_or_init(|| encoding.server_message(&self.frame))
    }

    /// The same, compressed: by the first who asks for it, shared by all who do later. `None`: it would not become
    /// smaller, so [`Envelope::message`] is to be sent.
    #[must_use]
    pub fn compressed(&self, encoding: Encoding, deflater: &mut Deflater) -> Option<&Bytes> {
        let message = self.message(encoding);
        let compress = || deflater.server_message(encoding.message_kind(), payload_of(message));
        self.compressed[encoding.index()].get_or_init(compress).as_ref()
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope").field("lane", &self.lane).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_keys_keep_their_parts() {
        for (shard, slot, generation) in [(0, 0, 0), (1023, SessionKey::SLOTS_MAX - 1, SessionKey::GENERATIONS - 1)] {
            let key = SessionKey::new(shard, slot, generation);
            assert_eq!((key.shard(), key.slot(), key.generation()), (shard, slot, generation));
        }
        assert_eq!(SessionKey::new(1, 2, SessionKey::GENERATIONS).generation(), 0);
    }

    #[test]
    fn session_keys_travel_as_numbers_and_move_between_shards() {
        for bits in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef] {
            assert_eq!(SessionKey::from_bits(bits).to_bits(), bits);
        }
        let key = SessionKey::new(3, 70_000, 9);
        assert_eq!(key.with_shard(1000), SessionKey::new(1000, 70_000, 9));
        assert_eq!(key.with_shard(1000).with_shard(3), key);
    }

    #[test]
    fn an_envelope_is_encoded_once_per_encoding() {
        let envelope = Envelope::new(Lane::Durable, FrameBody::Ping(pb::Ping {}));
        let first = envelope.message(Encoding::Json).as_ptr();
        assert_eq!(envelope.message(Encoding::Json).as_ptr(), first);
        assert_ne!(envelope.message(Encoding::Protobuf).as_ptr(), first);
    }

    #[test]
    fn an_envelope_is_compressed_once_per_encoding() {
        let mut deflater = Deflater::new();
        let body = pb::Body { text: "never, never, never, never, never, never, never".into(), ..pb::Body::default() };
        let entry = pb::Entry { body: Some(body), ..pb::Entry::default() };
        let envelope = Envelope::new(Lane::Durable, FrameBody::Entry(entry));
        for encoding in Encoding::ALL {
            let first = envelope.compressed(encoding, &mut deflater).expect("it repeats itself");
            assert!(first.len() < envelope.message(encoding).len());
            let again = envelope.compressed(encoding, &mut Deflater::new()).expect("it is there");
            assert_eq!(again.as_ptr(), first.as_ptr());
        }
        let short = Envelope::new(Lane::Durable, FrameBody::Ping(pb::Ping {}));
        assert_eq!(short.compressed(Encoding::Json, &mut deflater), None, "it would not become smaller");
    }
}
