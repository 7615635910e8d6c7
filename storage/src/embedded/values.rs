//! How values are stored: a version byte, then a protobuf message.
//!
//! Field numbers are for ever. A new optional field needs no new version; a change of meaning does.

use prost::Message;
use roost_wire::pb::{Body, Kind, Role};
use roost_wire::{ConvId, Seq, UserId};

use crate::{ConvMeta, Entry, IndexRow, Result, Stamp, StoreError, User};

/// The version that this build writes, and the only one it reads.
const VERSION: u8 = 1;

#[derive(Clone, PartialEq, Message)]
struct StoredEntry {
    #[prost(uint64, tag = "1")]
    ts_ms: u64,
    #[prost(string, tag = "2")]
    from: String,
    #[prost(string, tag = "3")]
    cmid: String,
    #[prost(message, optional, tag = "4")]
    body: Option<Body>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredMeta {
    #[prost(enumeration = "Kind", tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(bool, tag = "3")]
    open: bool,
    #[prost(uint64, tag = "4")]
    created_ms: u64,
    #[prost(uint64, tag = "5")]
    head: Seq,
    #[prost(uint64, tag = "6")]
    changed: Stamp,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRow {
    #[prost(uint64, tag = "1")]
    head: Seq,
    #[prost(uint64, tag = "2")]
    read: Seq,
    #[prost(uint64, tag = "3")]
    delivered: Seq,
    /// Unspecified once the user has left.
    #[prost(enumeration = "Role", tag = "4")]
    role: i32,
    #[prost(uint64, tag = "5")]
    changed: Stamp,
}

#[derive(Clone, PartialEq, Message)]
struct StoredMember {
    #[prost(enumeration = "Role", tag = "1")]
    role: i32,
}

#[derive(Clone, PartialEq, Message)]
struct StoredUser {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    created_ms: u64,
    #[prost(uint64, tag = "3")]
    last_seen_ms: u64,
}

fn damaged(what: &'static str, why: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!("{what}: {why}"))
}

fn encode(message: &impl Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + message.encoded_len());
    bytes.push(VERSION);
    message.encode_raw(&mut bytes);
    bytes
}

fn decode<M: Message + Default>(what: &'static str, bytes: &[u8]) -> Result<M> {
    match bytes.split_first() {
        Some((&VERSION, message)) => M::decode(message).map_err(|error| damaged(what, error)),
        Some((version, _)) => Err(damaged(what, format_args!("version {version} is not known"))),
        None => Err(damaged(what, "it is empty")),
    }
}

/// An entry; its seq is in the key.
pub(crate) fn encode_entry(entry: Entry) -> Vec<u8> {
    encode(&StoredEntry { ts_ms: entry.ts_ms, from: entry.from.into(), cmid: entry.cmid, body: Some(entry.body) })
}

pub(crate) fn decode_entry(seq: Seq, bytes: &[u8]) -> Result<Entry> {
    let stored: StoredEntry = decode("an entry", bytes)?;
    Ok(Entry {
        seq,
        ts_ms: stored.ts_ms,
        from: UserId::new(&stored.from).map_err(|error| damaged("an entry's writer", error))?,
        cmid: stored.cmid,
        body: stored.body.unwrap_or_default(),
    })
}

pub(crate) fn encode_meta(meta: &ConvMeta) -> Vec<u8> {
    encode(&StoredMeta {
        kind: meta.kind.into(),
        name: meta.name.clone(),
        open: meta.open,
        created_ms: meta.created_ms,
        head: meta.head,
        changed: meta.changed,
    })
}

pub(crate) fn decode_meta(conv: &ConvId, bytes: &[u8]) -> Result<ConvMeta> {
    let stored: StoredMeta = decode("a conversation", bytes)?;
    Ok(ConvMeta {
        conv: conv.clone(),
        kind: stored.kind(),
        name: stored.name,
        open: stored.open,
        created_ms: stored.created_ms,
        head: stored.head,
        changed: stored.changed,
    })
}

pub(crate) fn encode_row(row: &IndexRow) -> Vec<u8> {
    encode(&StoredRow {
        head: row.head,
        read: row.read,
        delivered: row.delivered,
        role: row.role.unwrap_or(Role::Unspecified).into(),
        changed: row.changed,
    })
}

pub(crate) fn decode_row(conv: ConvId, bytes: &[u8]) -> Result<IndexRow> {
    let stored: StoredRow = decode("an index row", bytes)?;
    Ok(IndexRow {
        conv,
        head: stored.head,
        read: stored.read,
        delivered: stored.delivered,
        role: Some(stored.role()).filter(|role| *role != Role::Unspecified),
        changed: stored.changed,
    })
}

pub(crate) fn encode_role(role: Role) -> Vec<u8> {
    encode(&StoredMember { role: role.into() })
}

pub(crate) fn decode_role(bytes: &[u8]) -> Result<Role> {
    match decode::<StoredMember>("a member", bytes)?.role() {
        Role::Unspecified => Err(damaged("a member", "it has no role")),
        role => Ok(role),
    }
}

pub(crate) fn encode_user(user: &User) -> Vec<u8> {
    encode(&StoredUser { name: user.name.clone(), created_ms: user.created_ms, last_seen_ms: user.last_seen_ms })
}

pub(crate) fn decode_user(user: &UserId, bytes: &[u8]) -> Result<User> {
    let stored: StoredUser = decode("a user", bytes)?;
    Ok(User { user: user.clone(), name: stored.name, created_ms: stored.created_ms, last_seen_ms: stored.last_seen_ms })
}

/// A counter of the table `system`.
pub(crate) fn decode_counter(bytes: &[u8]) -> Result<u64> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|error| damaged("a counter", error))
}

/// The second id in a key of the table of `what`.
pub(crate) fn user_in_key(key: &[u8]) -> Result<UserId> {
    let text = super::keys::second(key).ok_or_else(|| damaged("a key", "it has no second id"))?;
    UserId::new(text).map_err(|error| damaged("a key", error))
}

pub(crate) fn conv_in_key(key: &[u8]) -> Result<ConvId> {
    let text = super::keys::second(key).ok_or_else(|| damaged("a key", "it has no second id"))?;
    ConvId::new(text).map_err(|error| damaged("a key", error))
}

#[cfg(test)]
mod tests {
    use roost_wire::pb::Event;

    use super::*;

    #[test]
    fn values_come_back_as_they_were() {
        let (user, conv) = (UserId::new("u_ada").unwrap(), ConvId::new("c_1").unwrap());
        let event = Event { users: vec!["u_bob".into()], role: Role::Admin.into(), ..Event::default() };
        let entry = Entry {
            seq: 7,
            ts_ms: 1,
            from: user.clone(),
            cmid: "x".into(),
            body: Body { text: "hi".into(), event: Some(event) },
        };
        assert_eq!(decode_entry(7, &encode_entry(entry.clone())), Ok(entry));
        let meta = ConvMeta {
            conv: conv.clone(),
            kind: Kind::Group,
            name: "Birds".into(),
            open: true,
            created_ms: 2,
            head: 3,
            changed: 4,
        };
        assert_eq!(decode_meta(&conv, &encode_meta(&meta)), Ok(meta));
        for role in [None, Some(Role::Owner)] {
            let row = IndexRow { conv: conv.clone(), head: 9, read: 8, delivered: 7, role, changed: 6 };
            assert_eq!(decode_row(conv.clone(), &encode_row(&row)), Ok(row));
        }
        let ada = User { user: user.clone(), name: "Ada".into(), created_ms: 1, last_seen_ms: 2 };
        assert_eq!(decode_user(&user, &encode_user(&ada)), Ok(ada));
        assert_eq!(decode_role(&encode_role(Role::Member)), Ok(Role::Member));
    }

    #[test]
    fn what_cannot_be_read_is_damage_and_not_a_panic() {
        for bytes in [&b""[..], b"\x02", b"\x01\xff", b"\x01\x12\x7f"] {
            assert!(matches!(decode_entry(1, bytes), Err(StoreError::Damaged(_))), "{bytes:?}");
        }
        assert!(matches!(decode_role(&[1]), Err(StoreError::Damaged(_))));
        assert!(matches!(decode_counter(&[1, 2]), Err(StoreError::Damaged(_))));
        assert!(matches!(user_in_key(b"no separator"), Err(StoreError::Damaged(_))));
        assert!(matches!(conv_in_key(b"u_ada\0\xff"), Err(StoreError::Damaged(_))));
    }
}
