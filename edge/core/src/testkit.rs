//! Helpers of this crate's tests.

use std::time::Instant;

/// A moment to count from; which one makes no difference.
#[expect(clippy::disallowed_methods, reason = "an Instant cannot be made otherwise")]
pub(crate) fn epoch() -> Instant {
    Instant::now()
}
