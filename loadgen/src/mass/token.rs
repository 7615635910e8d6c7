//! Tokens by the million: what `roost_router::auth::Keys` makes, with all that is the same for every client done once.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use roost_router::auth::{Claims, Keys, Scope};
use roost_wire::UserId;
use sha2::{Digest as _, Sha256};

/// Bytes that SHA-256 takes at once.
const BLOCK_BYTES: usize = 64;

/// Makes tokens for the clients of a run.
pub(crate) struct Minter {
    /// The first part of every token, with its dot.
    header: String,
    /// SHA-256 that has taken the key: once for the text, once for what came of it (RFC 2104 §2).
    inner: Sha256,
    outer: Sha256,
    /// Ids of users begin with this number.
    run: u64,
    now_ms: u64,
    ttl_s: u64,
}

impl std::fmt::Debug for Minter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Minter(secret)")
    }
}

impl Minter {
    /// Signs with `secret`. Tokens are valid from `now_ms` on for `ttl_s` seconds.
    pub(crate) fn new(secret: &[u8; 32], run: u64, now_ms: u64, ttl_s: u64) -> Self {
        let keyed = |with: u8| {
            let mut pad = [with; BLOCK_BYTES];
            pad.iter_mut().zip(secret).for_each(|(byte, key)| *byte ^= key);
            Sha256::new().chain_update(pad)
        };
        let mut minter = Self { header: String::new(), inner: keyed(0x36), outer: keyed(0x5c), run, now_ms, ttl_s };
        // The header as the library writes it: it is the same for all.
        let token = Keys::new(secret).mint(&minter.claims(0));
        minter.header = token.split_inclusive('.').next().unwrap_or_default().to_owned();
        minter
    }

    /// The user that a client is.
    pub(crate) fn user(&self, client: u32) -> UserId {
        UserId::from_bits(u128::from(self.run) << 32 | u128::from(client))
    }

    /// The token of a client.
    pub(crate) fn mint(&self, client: u32) -> String {
        let claims = serde_json::to_vec(&self.claims(client)).expect("claims are strings and numbers");
        let mut token = String::with_capacity(self.header.len() + claims.len() * 4 / 3 + 48);
        token.push_str(&self.header);
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let inner = self.inner.clone().chain_update(token.as_bytes()).finalize();
        let signature = self.outer.clone().chain_update(inner).finalize();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }

    fn claims(&self, client: u32) -> Claims {
        Claims::new(self.user(client), "Load", Scope::User, self.now_ms, self.ttl_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_790_000_000_000;

    #[test]
    fn a_token_is_what_the_servers_own_key_makes_and_accepts() {
        let secret: [u8; 32] = std::array::from_fn(|at| at as u8 * 7 + 3);
        let minter = Minter::new(&secret, 0x1234_5678_9abc_def0, NOW_MS, 60);
        let keys = Keys::new(&secret);
        for client in [0, 1, 77, u32::MAX] {
            let token = minter.mint(client);
            assert_eq!(token, keys.mint(&minter.claims(client)));
            assert_eq!(keys.verify(&token, NOW_MS).unwrap().sub, minter.user(client));
        }
        assert_ne!(minter.user(1), minter.user(2));
        assert_eq!(format!("{minter:?}"), "Minter(secret)");
    }
}
