//! Proving that one knows a secret without saying it: HMAC-SHA-256 (RFC 2104) of a number that the other end drew.

use std::path::Path;

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};

/// Bytes of a block of SHA-256 (RFC 2104 §2: B).
const BLOCK_BYTES: usize = 64;
/// Shorter secrets are guessed.
const SECRET_BYTES_MIN: usize = 16;

/// A secret that workers and coordinator share.
#[derive(Clone)]
pub(crate) struct Secret(Vec<u8>);

impl Secret {
    /// The text of a file, without blanks around it.
    ///
    /// # Errors
    /// If the file cannot be read, or holds fewer than 16 bytes.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("cannot read the secret {}", path.display()))?;
        let secret = text.trim_ascii().to_vec();
        let len = secret.len();
        ensure!(
            len >= SECRET_BYTES_MIN,
            "{}: a secret of {len} bytes, {SECRET_BYTES_MIN} at least are needed",
            path.display()
        );
        Ok(Self(secret))
    }

    /// Proves that `who` knows the secret, to who drew `nonce`.
    pub(super) fn proof(&self, who: &str, nonce: &str) -> String {
        let message = format!("roost-load {who} {nonce}");
        hmac(&self.0, message.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether it is proved. Takes as long whatever is wrong.
    pub(super) fn is_proved(&self, who: &str, nonce: &str, proof: &str) -> bool {
        let expected = self.proof(who, nonce);
        let differ = expected.bytes().zip(proof.bytes()).fold(0, |differ, (one, other)| differ | (one ^ other));
        differ == 0 && expected.len() == proof.len()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// A number that nobody can foresee.
pub(super) fn nonce() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; BLOCK_BYTES];
    if key.len() > BLOCK_BYTES {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_hmac_of_rfc_4231() {
        // Test cases 2 and 6.
        for (key, message, expected) in [
            (
                &b"Jefe"[..],
                &b"what do ya want for nothing?"[..],
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 131][..],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ] {
            let told: String = hmac(key, message).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn only_who_knows_the_secret_proves_it_and_only_as_oneself_and_to_that_number() {
        let (secret, other) = (Secret(vec![7; 32]), Secret(vec![8; 32]));
        let proof = secret.proof("coordinator", "n");
        assert!(secret.is_proved("coordinator", "n", &proof));
        for (secret, who, nonce, proof) in [
            (&other, "coordinator", "n", &*proof),
            (&secret, "worker", "n", &*proof),
            (&secret, "coordinator", "m", &*proof),
            (&secret, "coordinator", "n", &proof[1..]),
            (&secret, "coordinator", "n", ""),
        ] {
            assert!(!secret.is_proved(who, nonce, proof));
        }
        assert_ne!(nonce(), nonce());
    }

    #[test]
    fn short_secrets_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), " short \n").unwrap();
        assert!(format!("{:#}", Secret::read(file.path()).unwrap_err()).contains("5 bytes"));
        std::fs::write(file.path(), "0123456789abcdef\n").unwrap();
        assert_eq!(Secret::read(file.path()).unwrap().0.len(), 16);
    }
}
