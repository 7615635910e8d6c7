//! How the tables are ordered.
//!
//! | table | key | value |
//! |---|---|---|
//! | `log` | conversation NUL seq (8 bytes, big-endian) | entry |
//! | `metas` | conversation | meta data |
//! | `rows` | user NUL conversation | index row |
//! | `members` | conversation NUL user | role |
//! | `users` | user | user |
//! | `names` | folded name, escaped, NUL user | nothing |
//! | `system` | name of a counter | 8 bytes, big-endian |
//!
//! Beside these every table has one row under [`LINK`]: which commit last changed it (see `ledger`).
//!
//! Ids are made of a safe alphabet that has no NUL, and have at most 64 bytes; [`crate::NAME_BYTES_MAX`] keeps names
//! far below the 64 KiB that a key may have.

use roost_wire::{ConvId, Seq, UserId};
use smallvec::SmallVec;

/// A key on the stack: two ids made by Roost fit, longer ones spill.
pub(crate) type Key = SmallVec<[u8; 96]>;

/// The last stamp given, in the table `system`.
pub(crate) const STAMP: &[u8] = b"stamp";

/// Where a table says which commit last changed it. No id and no name begins with this byte, and it stands behind all.
pub(crate) const LINK: &[u8] = &[0xff];

const NUL: u8 = 0;

/// A table. The number is part of every checksum, and the order is that in which the tables are made: both are for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Table {
    Log,
    Rows,
    Metas,
    Members,
    Users,
    Names,
    System,
}

impl Table {
    pub(crate) const COUNT: usize = 7;
    pub(crate) const ALL: [Self; Self::COUNT] =
        [Self::Log, Self::Rows, Self::Metas, Self::Members, Self::Users, Self::Names, Self::System];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Rows => "rows",
            Self::Metas => "metas",
            Self::Members => "members",
            Self::Users => "users",
            Self::Names => "names",
            Self::System => "system",
        }
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Where an entry is.
pub(crate) fn entry(conv: &ConvId, seq: Seq) -> Key {
    let mut key = prefix(conv.as_str());
    key.extend_from_slice(&seq.to_be_bytes());
    key
}

/// The seq in the key of an entry; `None` if it is no such key.
pub(crate) fn entry_seq(key: &[u8]) -> Option<Seq> {
    key.last_chunk().map(|bytes| Seq::from_be_bytes(*bytes))
}

/// Where the row of `user` in `conv` is.
pub(crate) fn row(user: &UserId, conv: &ConvId) -> Key {
    pair(user.as_str(), conv.as_str())
}

/// Where the role of `user` in `conv` is.
pub(crate) fn member(conv: &ConvId, user: &UserId) -> Key {
    pair(conv.as_str(), user.as_str())
}

/// What all keys of an id begin with.
pub(crate) fn prefix(id: &str) -> Key {
    let mut key = Key::from_slice(id.as_bytes());
    key.push(NUL);
    key
}

/// The first id of a key of two, or of an entry's; `None` if there is none.
pub(crate) fn first(key: &[u8]) -> Option<&str> {
    let nul = key.iter().position(|byte| *byte == NUL)?;
    std::str::from_utf8(&key[..nul]).ok()
}

/// The second id of a key of two; `None` if there is none.
pub(crate) fn second(key: &[u8]) -> Option<&str> {
    let nul = key.iter().rposition(|byte| *byte == NUL)?;
    std::str::from_utf8(&key[nul + 1..]).ok()
}

/// Where a name leads to its user. Orders by name, then user.
pub(crate) fn name(folded: &str, user: &UserId) -> Key {
    let mut key = name_prefix(folded);
    key.push(NUL);
    key.extend_from_slice(user.as_str().as_bytes());
    key
}

/// What the keys of all names with this prefix begin with. A name may hold any character, so that NUL is written as
/// 1 1 and 1 as 1 2, which keeps the order and leaves NUL to end the name.
pub(crate) fn name_prefix(folded: &str) -> Key {
    let mut key = Key::new();
    for byte in folded.bytes() {
        match byte {
            0 => key.extend_from_slice(&[1, 1]),
            1 => key.extend_from_slice(&[1, 2]),
            _ => key.push(byte),
        }
    }
    key
}

fn pair(first: &str, second: &str) -> Key {
    let mut key = prefix(first);
    key.extend_from_slice(second.as_bytes());
    key
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_are_ordered_by_seq_and_no_conversation_lies_within_another() {
        let conv = |id: &str| ConvId::new(id).unwrap();
        let keys = [
            entry(&conv("a"), 1),
            entry(&conv("a"), 255),
            entry(&conv("a"), 256),
            entry(&conv("a"), u64::MAX),
            entry(&conv("a-"), 1),
            entry(&conv("aa"), 1),
        ];
        assert!(keys.is_sorted());
        assert_eq!(entry_seq(&keys[2]), Some(256));
        assert_eq!(entry_seq(b"short"), None);
    }

    proptest! {
        #[test]
        fn name_keys_order_by_name_then_user(a in ".{0,4}", b in ".{0,4}", x in "[a-c]{1,3}", y in "[a-c]{1,3}") {
            let user = |id: &str| UserId::new(id).unwrap();
            let ((a, b), (x, y)) = ((format!("{a}\0"), b), (user(&x), user(&y)));
            let keys = name(&a, &x).cmp(&name(&b, &y));
            prop_assert_eq!(keys, (a.as_str(), x.as_str()).cmp(&(b.as_str(), y.as_str())));
            let full = name(&a, &x);
            prop_assert_eq!(second(&full), Some(x.as_str()));
            prop_assert!(full.starts_with(&name_prefix(&a)));
            prop_assert_eq!(name_prefix(&a).starts_with(&name_prefix(&b)), a.starts_with(&b));
        }
    }
}
