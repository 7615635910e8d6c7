//! When everything of a load is meant to happen: a pure sequence, without a clock, the same for the same seed.
//!
//! - [`Course`]: pace and presence over the phases of a scenario;
//! - [`Intended`]: every message that is meant to be sent, of everybody; each thread takes those of its own clients, so
//!   that what is sent does not depend on how many threads there are;
//! - `presence`: when a client leaves and comes back; who is not there has nothing to say.
//!
//! Invariants:
//! - intended times never go back, and lie within their phase;
//! - nothing here knows how the server does: a slow server meets the same load as a fast one.

mod course;
mod digest;
mod intended;
mod presence;

pub(crate) use course::{Course, Leg};
pub(crate) use digest::{Digest, told};
pub(crate) use intended::{Intended, Send, Speakers};
pub(crate) use presence::{Presence, Presences};

/// A number that looks like chance, from another one (the finaliser of SplitMix64).
pub(crate) const fn mixed(of: u64) -> u64 {
    let mut mixed = of.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The same as a share, 0 to below 1.
pub(crate) fn share_of(of: u64) -> f64 {
    (mixed(of) >> 11) as f64 / (1u64 << 53) as f64
}
