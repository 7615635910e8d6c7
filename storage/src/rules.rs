//! What every back end refuses, and how names are compared. Written once, so that back ends cannot drift apart.

use prost::Message;
use roost_wire::pb::{Kind, Role};

use crate::{APPEND_BYTES_MAX, APPEND_ENTRIES_MAX, Append, ConvMeta, Member, NAME_BYTES_MAX, Result, StoreError, User};

/// Refuses an append that breaks a rule, whatever is stored.
pub(crate) fn check_append(append: &Append) -> Result<()> {
    if append.expected == 0 {
        return Err(StoreError::BadRequest("seqs begin with 1"));
    }
    if append.entries.is_empty() || append.entries.len() > APPEND_ENTRIES_MAX {
        return Err(StoreError::BadRequest("an append has 1 to APPEND_ENTRIES_MAX entries"));
    }
    if append.expected.checked_add(append.entries.len() as u64).is_none() {
        return Err(StoreError::BadRequest("the seqs run out"));
    }
    if append.entries.iter().zip(append.expected..).any(|(entry, seq)| entry.seq != seq) {
        return Err(StoreError::BadRequest("entries are numbered from `expected` on"));
    }
    if append.entries.iter().map(|entry| entry.body.encoded_len()).sum::<usize>() > APPEND_BYTES_MAX {
        return Err(StoreError::BadRequest("the bodies exceed APPEND_BYTES_MAX"));
    }
    if append.members.iter().any(|change| change.role == Some(Role::Unspecified)) {
        return Err(StoreError::BadRequest("a member has a role"));
    }
    append.name.as_deref().map_or(Ok(()), check_name)
}

/// Refuses a conversation that breaks a rule.
pub(crate) fn check_create(meta: &ConvMeta, members: &[Member]) -> Result<()> {
    if meta.kind == Kind::Unspecified {
        return Err(StoreError::BadRequest("a conversation has a kind"));
    }
    if members.iter().any(|member| member.role == Role::Unspecified) {
        return Err(StoreError::BadRequest("a member has a role"));
    }
    check_name(&meta.name)
}

/// Refuses users that break a rule.
pub(crate) fn check_users(users: &[User]) -> Result<()> {
    users.iter().try_for_each(|user| check_name(&user.name))
}

fn check_name(name: &str) -> Result<()> {
    if name.len() > NAME_BYTES_MAX {
        return Err(StoreError::BadRequest("a name exceeds NAME_BYTES_MAX"));
    }
    Ok(())
}

/// A name as it is searched: lower case, letter by letter.
///
/// `str::to_lowercase` looks at the neighbours of a sigma, so that the folded prefix of a name would not always be a
/// prefix of the folded name.
pub(crate) fn fold(name: &str) -> String {
    name.chars().flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folded_prefix_is_a_prefix_of_the_folded_name() {
        for (name, prefix) in [("Ada", "aD"), ("ΑΣΑ", "ΑΣ"), ("İx", "İ"), ("Ärger", "ä")] {
            assert!(fold(name).starts_with(&fold(prefix)), "{name} {prefix}");
        }
    }
}
