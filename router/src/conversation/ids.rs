//! Ids of conversations. The kind can be seen in an id made here: `c_d…` is direct, `c_g…` a group.
//!
//! This is known to the router alone; clients treat ids as opaque. It lets SYNC tell a user's groups without a read.

use roost_wire::{ConvId, UserId};
use sha2::{Digest, Sha256};

/// Places of the letters in the alphabet of [`ConvId::from_bits`], whose first letter is the lowest five bits.
const DIRECT: u128 = 13;
const GROUP: u128 = 16;

fn id(bits: u128, letter: u128) -> ConvId {
    ConvId::from_bits((bits & !31) | letter)
}

/// The one direct conversation of two users, whoever asks. Both may be the same: notes to oneself.
pub(crate) fn direct(a: &UserId, b: &UserId) -> ConvId {
    let (first, second) = if a <= b { (a, b) } else { (b, a) };
    // Ids hold no space, so the pair cannot be cut in another place.
    let hash = Sha256::new().chain_update(first.as_str()).chain_update(b" ").chain_update(second.as_str()).finalize();
    id(u128::from_le_bytes(hash[..16].try_into().expect("32 bytes have 16")), DIRECT)
}

/// The id of a new group.
pub(crate) fn group(bits: u128) -> ConvId {
    id(bits, GROUP)
}

/// Whether the id is that of a group.
pub(crate) fn is_group(conv: &ConvId) -> bool {
    conv.as_str().starts_with("c_g")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f09_the_id_of_a_pair_does_not_depend_on_who_asks() {
        let [ada, bob, eve] = ["u_ada", "u_bob", "u_eve"].map(|id| UserId::new(id).unwrap());
        assert_eq!(direct(&ada, &bob), direct(&bob, &ada));
        assert_ne!(direct(&ada, &bob), direct(&ada, &eve));
        assert_ne!(direct(&ada, &ada), direct(&bob, &bob));
        assert!(direct(&ada, &bob).as_str().starts_with("c_d"));
        assert!(is_group(&group(u128::MAX)) && is_group(&group(0)));
        assert!(!is_group(&direct(&ada, &bob)));
    }
}
