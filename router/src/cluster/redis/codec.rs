//! Parcels as bytes and back: `proto/bus.proto`.
//!
//! Bytes of a bus are another node's, perhaps a newer one's, perhaps a stranger's: they never panic, and what is wrong
//! with one parcel is told by an error and costs that parcel alone.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use roost_storage::{Entry, Member};
use roost_wire::link::{Envelope, Lane};
use roost_wire::{ConvId, IdError, UserId, pb as wire};

use crate::cluster::bus::{Known, NodeId, Notice, Parcel, To};

mod pb {
    #![allow(missing_docs, unreachable_pub, clippy::doc_markdown, reason = "generated")]
    include!(concat!(env!("OUT_DIR"), "/roost.bus.v1.rs"));
}

use pb::parcel::Notice as Told;

/// The version of the schema that this node writes, and the lowest and highest that it reads.
pub const VERSION: u32 = 1;
/// The lowest version that this node reads.
pub const VERSION_MIN: u32 = 1;
/// Most bytes of a parcel. Of entries above it only the conversation is told; anything else is not told.
pub const PARCEL_BYTES_MAX: usize = 1 << 20;
/// A message takes no further parcel from here on.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Most bytes of a message, with room for what surrounds the parcels. A larger one is refused unread.
pub const MESSAGE_BYTES_MAX: usize = BATCH_BYTES_MAX + PARCEL_BYTES_MAX + 1024;

/// The field of `Batch` that holds the parcels.
const PARCELS: u32 = 15;

/// Why bytes are no parcels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodecError {
    /// It is no message of the schema.
    #[error("not a message of the bus: {0}")]
    Broken(#[from] prost::DecodeError),
    /// Of another schema.
    #[error("version {0} of the bus; this node reads {VERSION_MIN} to {VERSION}")]
    Version(u32),
    /// More bytes than [`MESSAGE_BYTES_MAX`], or than [`PARCEL_BYTES_MAX`].
    #[error("{0} B are too many")]
    TooLarge(usize),
    /// No id where one is due.
    #[error(transparent)]
    Id(#[from] IdError),
    /// Something that must be there is not, or has a value that means nothing.
    #[error("no {0}")]
    Missing(&'static str),
}

impl CodecError {
    /// A small, closed set.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Broken(_) => "broken",
            Self::Version(_) => "version",
            Self::TooLarge(_) => "too_large",
            Self::Id(_) => "id",
            Self::Missing(_) => "missing",
        }
    }
}

/// What a message holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// A node's test whether it hears itself.
    Ping { from: NodeId, incarnation: u64, ping: u64 },
    /// Parcels of a life of a node, not yet decoded.
    Batch { from: NodeId, incarnation: u64, parcels: Vec<Bytes> },
}

/// What stands before the parcels of a message.
pub(crate) fn header(from: NodeId, incarnation: u64, ping: u64) -> Vec<u8> {
    let batch = pb::Batch { version: VERSION, from: from.0, incarnation, ping, parcels: Vec::new() };
    batch.encode_to_vec()
}

/// Appends a parcel as a part of a message.
///
/// # Errors
/// [`CodecError::TooLarge`]: nothing was appended.
pub(crate) fn append(parcel: &Parcel, message: &mut Vec<u8>) -> Result<(), CodecError> {
    let mut told = to_pb(parcel);
    if told.encoded_len() > PARCEL_BYTES_MAX
        && let Notice::Appended { conv, .. } = &parcel.notice
    {
        // Readers find in the log what is too much to be told.
        told.notice = Some(Told::Missed(pb::Missed { conv: conv.to_string() }));
    }
    let bytes = told.encoded_len();
    if bytes > PARCEL_BYTES_MAX {
        return Err(CodecError::TooLarge(bytes));
    }
    encode_key(PARCELS, WireType::LengthDelimited, message);
    encode_varint(bytes as u64, message);
    told.encode(message).expect("a Vec grows");
    Ok(())
}

/// Opens a message.
///
/// # Errors
/// [`CodecError`]; nothing of it can be used then.
pub(crate) fn open(message: Bytes) -> Result<Opened, CodecError> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(CodecError::TooLarge(message.len()));
    }
    let pb::Batch { version, from, incarnation, ping, parcels } = pb::Batch::decode(message)?;
    if !(VERSION_MIN..=VERSION).contains(&version) {
        return Err(CodecError::Version(version));
    }
    let from = NodeId(from);
    Ok(match ping {
        0 => Opened::Batch { from, incarnation, parcels },
        ping => Opened::Ping { from, incarnation, ping },
    })
}

/// Decodes a parcel of a message.
///
/// # Errors
/// [`CodecError`].
pub(crate) fn parcel(from: NodeId, incarnation: u64, bytes: Bytes) -> Result<Parcel, CodecError> {
    let pb::Parcel { number, direct, notice } = pb::Parcel::decode(bytes)?;
    let notice = match notice {
        Some(told) => from_pb(told)?,
        // A newer node told what this one does not know. It has a number, so it must count as heard: to ask somebody
        // else is what this node need not act upon.
        None => Notice::Ask { of: from },
    };
    Ok(Parcel { from, incarnation, direct, number, notice })
}

fn to_pb(parcel: &Parcel) -> pb::Parcel {
    let told = match &parcel.notice {
        Notice::Appended { conv, entries, members } => Told::Appended(pb::Appended {
            conv: conv.to_string(),
            entries: entries.iter().map(entry_to_pb).collect(),
            members: members.as_deref().map(pack),
        }),
        Notice::Missed { conv } => Told::Missed(pb::Missed { conv: conv.to_string() }),
        Notice::Push { to, envelope } => Told::Push(push_to_pb(to, envelope)),
        Notice::SessionTaken { user, device, knew } => Told::SessionTaken(pb::SessionTaken {
            user: user.to_string(),
            device: device.to_string(),
            knew: knew.iter().map(known_to_pb).collect(),
        }),
        Notice::Came { user, name } => Told::Came(pb::Came { user: Some(user_to_pb(user, name.as_ref())) }),
        Notice::Gone { user } => Told::Gone(pb::Gone { user: user.to_string() }),
        Notice::Heartbeat { direct } => {
            let direct = direct.iter().map(|(node, number)| pb::Direct { node: node.0, number: *number });
            Told::Heartbeat(pb::Heartbeat { direct: direct.collect() })
        }
        Notice::Blind => Told::Blind(pb::Blind {}),
        Notice::Disconnect { user } => Told::Disconnect(pb::Disconnect { user: user.to_string() }),
        Notice::Leaving => Told::Leaving(pb::Leaving {}),
        Notice::Ask { of } => Told::Ask(pb::Ask { of: of.0 }),
        Notice::Users { part, last, users } => Told::Users(pb::Users {
            part: *part,
            last: *last,
            users: users.iter().map(|(user, name)| user_to_pb(user, name.as_ref())).collect(),
        }),
    };
    pb::Parcel { number: parcel.number, direct: parcel.direct, notice: Some(told) }
}

fn from_pb(told: Told) -> Result<Notice, CodecError> {
    Ok(match told {
        Told::Appended(pb::Appended { conv, entries, members }) => Notice::Appended {
            conv: ConvId::new(&conv)?,
            entries: entries.into_iter().map(entry_from_pb).collect::<Result<_, _>>()?,
            members: members.map(|members| unpack(&members.packed)).transpose()?.map(Arc::from),
        },
        Told::Missed(pb::Missed { conv }) => Notice::Missed { conv: ConvId::new(&conv)? },
        Told::Push(push) => push_from_pb(push)?,
        Told::SessionTaken(pb::SessionTaken { user, device, knew }) => Notice::SessionTaken {
            user: UserId::new(&user)?,
            device: device.into(),
            knew: knew.into_iter().map(known_from_pb).collect(),
        },
        Told::Came(pb::Came { user }) => {
            let (user, name) = user_from_pb(user.ok_or(CodecError::Missing("user"))?)?;
            Notice::Came { user, name }
        }
        Told::Gone(pb::Gone { user }) => Notice::Gone { user: UserId::new(&user)? },
        Told::Heartbeat(pb::Heartbeat { direct }) => Notice::Heartbeat {
            direct: direct.into_iter().map(|direct| (NodeId(direct.node), direct.number)).collect(),
        },
        Told::Blind(pb::Blind {}) => Notice::Blind,
        Told::Disconnect(pb::Disconnect { user }) => Notice::Disconnect { user: UserId::new(&user)? },
        Told::Leaving(pb::Leaving {}) => Notice::Leaving,
        Told::Ask(pb::Ask { of }) => Notice::Ask { of: NodeId(of) },
        Told::Users(pb::Users { part, last, users }) => {
            Notice::Users { part, last, users: users.into_iter().map(user_from_pb).collect::<Result<_, _>>()? }
        }
    })
}

fn entry_to_pb(entry: &Entry) -> wire::Entry {
    wire::Entry {
        conv: String::new(),
        seq: entry.seq,
        from: entry.from.to_string(),
        cmid: entry.cmid.clone(),
        ts: entry.ts_ms,
        body: Some(entry.body.clone()),
    }
}

fn entry_from_pb(entry: wire::Entry) -> Result<Entry, CodecError> {
    Ok(Entry {
        seq: entry.seq,
        ts_ms: entry.ts,
        from: UserId::new(&entry.from)?,
        cmid: entry.cmid,
        body: entry.body.ok_or(CodecError::Missing("body"))?,
    })
}

fn push_to_pb(to: &To, envelope: &Envelope) -> pb::Push {
    let (users, members, but) = match to {
        To::Users(users) => (users.iter().map(UserId::to_string).collect(), None, String::new()),
        To::Members { members, but } => {
            (Vec::new(), Some(pack(members)), but.as_ref().map(UserId::to_string).unwrap_or_default())
        }
    };
    let frame = envelope.frame().encode_to_vec().into();
    pb::Push { users, members, but, durable: envelope.lane() == Lane::Durable, frame }
}

fn push_from_pb(push: pb::Push) -> Result<Notice, CodecError> {
    let body = wire::Frame::decode(push.frame)?.body.ok_or(CodecError::Missing("frame"))?;
    let to = match push.members {
        Some(members) => {
            let but = if push.but.is_empty() { None } else { Some(UserId::new(&push.but)?) };
            To::Members { members: unpack(&members.packed)?.into(), but }
        }
        None => To::Users(push.users.iter().map(|user| UserId::new(user)).collect::<Result<_, _>>()?),
    };
    let lane = if push.durable { Lane::Durable } else { Lane::Ephemeral };
    Ok(Notice::Push { to, envelope: Envelope::new(lane, body) })
}

fn pack(members: &[Member]) -> pb::Members {
    let mut packed = Vec::with_capacity(members.len() * 28);
    for member in members {
        let id = member.user.as_str().as_bytes();
        // Ids have 64 bytes at most.
        packed.extend([member.role as u8, id.len() as u8]);
        packed.extend_from_slice(id);
    }
    pb::Members { packed: packed.into() }
}

fn unpack(mut packed: &[u8]) -> Result<Vec<Member>, CodecError> {
    let mut members = Vec::with_capacity(packed.len() / 26);
    while let [role, len, rest @ ..] = packed {
        let (id, after) = rest.split_at_checked(usize::from(*len)).ok_or(CodecError::Missing("member"))?;
        let role = match wire::Role::try_from(i32::from(*role)) {
            Ok(role) if role != wire::Role::Unspecified => role,
            _ => return Err(CodecError::Missing("role")),
        };
        let id = std::str::from_utf8(id).map_err(|_| IdError::Character)?;
        members.push(Member { user: UserId::new(id)?, role });
        packed = after;
    }
    if packed.is_empty() { Ok(members) } else { Err(CodecError::Missing("member")) }
}

fn known_to_pb(known: &Known) -> pb::Known {
    pb::Known { node: known.node.0, incarnation: known.incarnation, number: known.number }
}

fn known_from_pb(known: pb::Known) -> Known {
    Known { node: NodeId(known.node), incarnation: known.incarnation, number: known.number }
}

fn user_to_pb(user: &UserId, name: Option<&Arc<str>>) -> pb::User {
    pb::User { user: user.to_string(), name: name.map(ToString::to_string) }
}

fn user_from_pb(user: pb::User) -> Result<(UserId, Option<Arc<str>>), CodecError> {
    Ok((UserId::new(&user.user)?, user.name.map(Arc::from)))
}

/// About how many bytes a parcel takes in a queue. Cheap: it may be asked under a lock.
pub(crate) fn weight(notice: &Notice) -> usize {
    const PARCEL: usize = 128;
    const MEMBER: usize = 32;
    // Members are shared with the conversation they belong to, but they are encoded with each parcel.
    let body = match notice {
        Notice::Appended { entries, members, .. } => {
            let entries = entries.iter().map(|entry| PARCEL + entry.body.text.len()).sum::<usize>();
            entries + members.as_ref().map_or(0, |members| members.len() * MEMBER)
        }
        Notice::Push { to, envelope } => {
            let to = match to {
                To::Users(users) => users.len(),
                To::Members { members, .. } => members.len(),
            };
            to * MEMBER + envelope.frame_bytes()
        }
        Notice::SessionTaken { knew, .. } => knew.len() * size_of::<Known>(),
        Notice::Heartbeat { direct } => direct.len() * size_of::<(NodeId, u64)>(),
        Notice::Users { users, .. } => users.len() * 2 * MEMBER,
        _ => 0,
    };
    PARCEL + body
}

#[cfg(test)]
mod tests;
