//! Tables of fixed files: a ring may hold sockets that have no descriptor.

use rustix::process::{Resource, getrlimit};

/// Places of one table at most, whatever the limit of descriptors (`IORING_MAX_FIXED_FILES`).
pub const PLACES_MAX: u32 = 1 << 20;

/// Places a table can have here if `wanted` are: a table may not be larger than the soft limit of descriptors, but each
/// ring has a table of its own. At least 1.
#[must_use]
pub fn places(wanted: u32) -> u32 {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    wanted.min(limit).clamp(1, PLACES_MAX)
}
