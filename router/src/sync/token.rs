//! Sync tokens: what a client holds, in a form that is opaque to it.
//!
//! A token is a version and three numbers in hexadecimal: the stamp up to which index rows were told, the stamp up to
//! which heads of groups were told, and a tag of the user and the server's key. Between the pages of one SYNC a fourth
//! stands before the tag: the stamp up to which nothing more could appear when the first page was read. A token of
//! another user or server, or one that is damaged, counts as none: the client is then told everything.

use roost_storage::Stamp;

/// What a client holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SyncToken {
    /// Rows changed up to this were told.
    pub(crate) rows: Stamp,
    /// Groups whose head moved up to this were told.
    pub(crate) heads: Stamp,
    /// More pages follow, and nothing above this may be taken for told at their end. [`Stamp::MAX`]: no such limit.
    pub(crate) settled: Stamp,
}

impl SyncToken {
    /// Reads a token made for `tag`. `None`: none, or not one of ours.
    pub(crate) fn parse(text: &str, tag: u64) -> Option<Self> {
        let (version, numbers) = text.split_once('.')?;
        let mut parts = numbers.split('.').map(|part| u64::from_str_radix(part, 16));
        let mut next = || parts.next()?.ok();
        let (rows, heads) = (next()?, next()?);
        let settled = match version {
            "1" => Stamp::MAX,
            "2" => next()?,
            _ => return None,
        };
        let of = next()?;
        (of == tag && parts.next().is_none()).then_some(Self { rows, heads, settled })
    }

    pub(crate) fn text(self, tag: u64) -> String {
        let Self { rows, heads, settled } = self;
        match settled {
            Stamp::MAX => format!("1.{rows:x}.{heads:x}.{tag:x}"),
            settled => format!("2.{rows:x}.{heads:x}.{settled:x}.{tag:x}"),
        }
    }

    /// What is certain once the last page was told.
    pub(crate) fn ended(self) -> Self {
        let Self { rows, heads, settled } = self;
        Self { rows: rows.min(settled), heads: heads.min(settled), settled: Stamp::MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn f06_a_token_of_another_user_counts_as_none() {
        let token = SyncToken { rows: 7, heads: 9, settled: Stamp::MAX };
        let text = token.text(1);
        assert_eq!(SyncToken::parse(&text, 1), Some(token));
        assert_eq!(SyncToken::parse(&text, 2), None);
        for bad in
            ["", "1.", "1.7.9", "2.7.9.1", "3.7.9.1", "1.7.9.1.0", "1.7.9.x", "1.-7.9.1", "1.7.9.11111111111111111"]
        {
            assert_eq!(SyncToken::parse(bad, 1), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn tokens_round_trip_and_garbage_never_panics(rows: u64, heads: u64, settled: u64, tag: u64, garbage in ".{0,40}") {
            let token = SyncToken { rows, heads, settled };
            prop_assert_eq!(SyncToken::parse(&token.text(tag), tag), Some(token));
            let _ = SyncToken::parse(&garbage, tag);
        }
    }
}
