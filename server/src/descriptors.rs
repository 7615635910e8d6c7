//! Descriptors: one a connection with the poll driver, and some for everything else. The io_uring driver's tables are as large
//! as the limit, too.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Share of the limit that is no connection's: 1 in this many.
const RESERVED_SHARE: u64 = 10;
/// Descriptors reserved at least: the store's files, its journal, the admin port, listeners, pollers.
const RESERVED_MIN: u64 = 320;
/// And at most.
const RESERVED_MAX: u64 = 2048;

/// A connection is a descriptor: takes as many as this process may have.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        tracing::warn!(%error, ?limit, "the limit of descriptors stays as it is");
    }
}

/// How many of them connections of the poll driver may have. The rest is reserved, so that the store and the admin port go on when
/// clients have taken all they may.
pub(crate) fn for_connections() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(beside_reserve(limit)).unwrap_or(usize::MAX))
}

/// Those of `limit` that are not reserved.
pub(crate) fn beside_reserve(limit: u64) -> u64 {
    let reserved = (limit / RESERVED_SHARE).clamp(RESERVED_MIN, RESERVED_MAX);
    // Where the limit is tiny, half of it: something must be able to connect.
    limit.saturating_sub(reserved).max(limit / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_always_left_for_the_rest_of_the_node() {
        for (limit, connections) in
            [(1_048_576, 1_046_528), (20_000, 18_000), (1024, 704), (512, 256), (256, 128), (64, 32), (1, 1)]
        {
            assert_eq!(beside_reserve(limit), connections, "{limit}");
        }
    }
}
