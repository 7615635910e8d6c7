//! How values are stored: a version byte, four bytes of checksum, then a protobuf message.
//!
//! The checksum is over table, key and message, so that a value that came to stand in the wrong place is noticed as
//! well as one that changed. Values of version 1, written before there was one, have none and are still read.
//!
//! Field numbers are for ever. A new optional field needs no new version; a change of meaning does.

use prost::Message;
use roost_wire::pb::{Body, Kind, Role};
use roost_wire::{ConvId, Seq, UserId};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::keys::Table;
use super::ledger::Link;
use crate::{ConvMeta, Entry, IndexRow, Result, Stamp, StoreError, User};

/// The version that this build writes.
const VERSION: u8 = 2;
/// The version without a checksum.
const UNCHECKED: u8 = 1;
/// Bytes before the message: version and checksum.
const HEAD_BYTES: usize = 5;

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

fn damaged(what: &str, why: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!("{what}: {why}"))
}

/// A value that has no checksum yet: it gets one with its place.
pub(crate) struct Unsealed(Vec<u8>);

impl Unsealed {
    fn raw(payload: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + payload.len());
        bytes.extend_from_slice(&[VERSION, 0, 0, 0, 0]);
        bytes.extend_from_slice(payload);
        Self(bytes)
    }

    /// The bytes to store under `key` in `table`.
    pub(crate) fn seal(mut self, table: Table, key: &[u8]) -> Vec<u8> {
        let sum = checksum(table, key, &self.0[HEAD_BYTES..]);
        self.0[1..HEAD_BYTES].copy_from_slice(&sum.to_le_bytes());
        self.0
    }
}

fn checksum(table: Table, key: &[u8], payload: &[u8]) -> u32 {
    let place = xxh3_64_with_seed(key, table as u64 + 1);
    xxh3_64_with_seed(payload, place) as u32 // half of it: the tables have checksums of their own
}

/// What was sealed for this place.
pub(crate) fn unseal<'a>(table: Table, key: &[u8], bytes: &'a [u8]) -> Result<&'a [u8]> {
    let what = || format!("table {table}, key {}", key.escape_ascii());
    match bytes {
        [UNCHECKED, payload @ ..] => Ok(payload),
        [VERSION, a, b, c, d, payload @ ..] => {
            let sum = u32::from_le_bytes([*a, *b, *c, *d]);
            if checksum(table, key, payload) == sum { Ok(payload) } else { Err(damaged(&what(), "wrong checksum")) }
        }
        [version, ..] => Err(damaged(&what(), format_args!("version {version} is not known"))),
        [] => Err(damaged(&what(), "it is empty")),
    }
}

fn encode(message: &impl Message) -> Unsealed {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + message.encoded_len());
    bytes.extend_from_slice(&[VERSION, 0, 0, 0, 0]);
    message.encode_raw(&mut bytes);
    Unsealed(bytes)
}

fn decode<M: Message + Default>(table: Table, key: &[u8], bytes: &[u8]) -> Result<M> {
    M::decode(unseal(table, key, bytes)?)
        .map_err(|error| damaged(&format!("table {table}, key {}", key.escape_ascii()), error))
}

/// An entry; its seq is in the key.
pub(crate) fn encode_entry(entry: Entry) -> Unsealed {
    encode(&StoredEntry { ts_ms: entry.ts_ms, from: entry.from.into(), cmid: entry.cmid, body: Some(entry.body) })
}

pub(crate) fn decode_entry(key: &[u8], bytes: &[u8]) -> Result<Entry> {
    let seq = super::keys::entry_seq(key).ok_or_else(|| damaged("an entry's key", "it has no seq"))?;
    let stored: StoredEntry = decode(Table::Log, key, bytes)?;
    Ok(Entry {
        seq,
        ts_ms: stored.ts_ms,
        from: UserId::new(&stored.from).map_err(|error| damaged("an entry's writer", error))?,
        cmid: stored.cmid,
        body: stored.body.unwrap_or_default(),
    })
}

pub(crate) fn encode_meta(meta: &ConvMeta) -> Unsealed {
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
    let stored: StoredMeta = decode(Table::Metas, conv.as_str().as_bytes(), bytes)?;
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

pub(crate) fn encode_row(row: &IndexRow) -> Unsealed {
    encode(&StoredRow {
        head: row.head,
        read: row.read,
        delivered: row.delivered,
        role: row.role.unwrap_or(Role::Unspecified).into(),
        changed: row.changed,
    })
}

pub(crate) fn decode_row(key: &[u8], bytes: &[u8]) -> Result<IndexRow> {
    let stored: StoredRow = decode(Table::Rows, key, bytes)?;
    Ok(IndexRow {
        conv: conv_in_key(key)?,
        head: stored.head,
        read: stored.read,
        delivered: stored.delivered,
        role: Some(stored.role()).filter(|role| *role != Role::Unspecified),
        changed: stored.changed,
    })
}

pub(crate) fn encode_role(role: Role) -> Unsealed {
    encode(&StoredMember { role: role.into() })
}

pub(crate) fn decode_role(key: &[u8], bytes: &[u8]) -> Result<Role> {
    match decode::<StoredMember>(Table::Members, key, bytes)?.role() {
        Role::Unspecified => Err(damaged("a member", "it has no role")),
        role => Ok(role),
    }
}

pub(crate) fn encode_user(user: &User) -> Unsealed {
    encode(&StoredUser { name: user.name.clone(), created_ms: user.created_ms, last_seen_ms: user.last_seen_ms })
}

pub(crate) fn decode_user(user: &UserId, bytes: &[u8]) -> Result<User> {
    let stored: StoredUser = decode(Table::Users, user.as_str().as_bytes(), bytes)?;
    Ok(User { user: user.clone(), name: stored.name, created_ms: stored.created_ms, last_seen_ms: stored.last_seen_ms })
}

/// A counter of the table `system`.
pub(crate) fn encode_counter(count: u64) -> Unsealed {
    Unsealed::raw(&count.to_be_bytes())
}

pub(crate) fn decode_counter(key: &[u8], bytes: &[u8]) -> Result<u64> {
    // Before there were checksums a counter had no version either.
    let payload = if bytes.len() == 8 { bytes } else { unseal(Table::System, key, bytes)? };
    payload.try_into().map(u64::from_be_bytes).map_err(|error| damaged("a counter", error))
}

/// A table's row under [`super::keys::LINK`].
pub(crate) fn encode_link(link: Link) -> Unsealed {
    let mut payload = [0; 16];
    payload[..8].copy_from_slice(&link.commit.to_be_bytes());
    payload[8..].copy_from_slice(&link.before.to_be_bytes());
    Unsealed::raw(&payload)
}

pub(crate) fn decode_link(table: Table, bytes: &[u8]) -> Result<Link> {
    let payload: [u8; 16] =
        unseal(table, super::keys::LINK, bytes)?.try_into().map_err(|error| damaged("a link", error))?;
    let half = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    Ok(Link { commit: half(&payload[..8]), before: half(&payload[8..]) })
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
    use crate::embedded::keys;

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
        let key = keys::entry(&conv, 7);
        assert_eq!(decode_entry(&key, &encode_entry(entry.clone()).seal(Table::Log, &key)), Ok(entry));
        let meta = ConvMeta {
            conv: conv.clone(),
            kind: Kind::Group,
            name: "Birds".into(),
            open: true,
            created_ms: 2,
            head: 3,
            changed: 4,
        };
        assert_eq!(decode_meta(&conv, &encode_meta(&meta).seal(Table::Metas, b"c_1")), Ok(meta));
        let key = keys::row(&user, &conv);
        for role in [None, Some(Role::Owner)] {
            let row = IndexRow { conv: conv.clone(), head: 9, read: 8, delivered: 7, role, changed: 6 };
            assert_eq!(decode_row(&key, &encode_row(&row).seal(Table::Rows, &key)), Ok(row));
        }
        let ada = User { user: user.clone(), name: "Ada".into(), created_ms: 1, last_seen_ms: 2 };
        assert_eq!(decode_user(&user, &encode_user(&ada).seal(Table::Users, b"u_ada")), Ok(ada));
        assert_eq!(decode_role(b"k", &encode_role(Role::Member).seal(Table::Members, b"k")), Ok(Role::Member));
        assert_eq!(decode_counter(b"n", &encode_counter(258).seal(Table::System, b"n")), Ok(258));
        let link = Link { commit: 258, before: 257 };
        assert_eq!(decode_link(Table::Log, &encode_link(link).seal(Table::Log, keys::LINK)), Ok(link));
    }

    #[test]
    fn values_without_a_checksum_are_still_read() {
        assert_eq!(decode_role(b"k", &[1, 8, Role::Member as u8]), Ok(Role::Member));
        assert_eq!(decode_counter(b"n", &[0, 0, 0, 0, 0, 0, 1, 2]), Ok(258));
    }

    #[test]
    fn a_value_in_the_wrong_place_or_with_any_wrong_bit_is_damage() {
        let sealed = encode_role(Role::Member).seal(Table::Members, b"k");
        assert!(matches!(decode_role(b"l", &sealed), Err(StoreError::Damaged(_))), "another key");
        assert!(matches!(unseal(Table::Rows, b"k", &sealed), Err(StoreError::Damaged(_))), "another table");
        for bit in 0..sealed.len() * 8 {
            let mut bytes = sealed.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode_role(b"k", &bytes), Err(StoreError::Damaged(_))), "bit {bit}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_damage_and_not_a_panic() {
        let key = keys::entry(&ConvId::new("c_1").unwrap(), 1);
        for bytes in [&b""[..], b"\x02", b"\x03abcd", b"\x01\xff", b"\x01\x12\x7f"] {
            assert!(matches!(decode_entry(&key, bytes), Err(StoreError::Damaged(_))), "{bytes:?}");
        }
        assert!(matches!(decode_entry(b"short", &[1]), Err(StoreError::Damaged(_))));
        assert!(matches!(decode_role(b"k", &[1]), Err(StoreError::Damaged(_))));
        assert!(matches!(decode_counter(b"n", &[1, 2]), Err(StoreError::Damaged(_))));
        assert!(matches!(decode_link(Table::Log, &[1, 2]), Err(StoreError::Damaged(_))));
        assert!(matches!(user_in_key(b"no separator"), Err(StoreError::Damaged(_))));
        assert!(matches!(conv_in_key(b"u_ada\0\xff"), Err(StoreError::Damaged(_))));
    }
}
