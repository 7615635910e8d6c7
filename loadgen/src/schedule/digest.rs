//! That two runs meant to do the same, in one number.

use sha2::{Digest as _, Sha256};

use super::{Send, mixed};
use crate::plan::Plan;

/// A sum of hashes of intended messages: it does not depend on which thread sent which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest(u128);

impl Digest {
    /// A message was meant to be sent.
    pub(crate) fn add(&mut self, send: &Send) {
        let who = u64::from(send.client) << 32 | u64::from(send.conv);
        let one = mixed(send.at_ns ^ mixed(who));
        self.0 = self.0.wrapping_add(u128::from(one) << 64 | u128::from(mixed(one ^ who)));
    }

    /// What another thread meant to send as well.
    pub(crate) const fn join(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }
}

/// The plan and all that was meant to be sent, in hexadecimal digits.
pub(crate) fn told(plan: &Plan, sends: Digest) -> String {
    let mut hash = Sha256::new();
    hash.update(plan.hash());
    hash.update(sends.0.to_le_bytes());
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
