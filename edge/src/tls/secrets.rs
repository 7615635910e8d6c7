//! Secrets of TLS 1.3, of which keys are made, and the next secrets (RFC 8446 §7).
//!
//! rustls gives them to whoever logs keys, which is us: on the thread of the handshake, while it goes on. What was caught is
//! compared with the keys that rustls hands over, so a secret of somebody else is never used.

use std::cell::RefCell;
use std::fmt;

use aws_lc_rs::hkdf::{self, HKDF_SHA256, HKDF_SHA384, Prk};
use rustls::KeyLog;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::broken::Broken;

/// As long as the longest hash.
const SECRET_BYTES_MAX: usize = 48;
/// The longest `HkdfLabel` here: length, label and an empty context.
const LABEL_BYTES_MAX: usize = 2 + 1 + 17 + 1;

/// What the keys of one direction are made of. Wiped when it goes.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Secret {
    bytes: [u8; SECRET_BYTES_MAX],
    /// As long as the hash of the cipher suite; 0 for none.
    len: u8,
}

impl Default for Secret {
    fn default() -> Self {
        Self { bytes: [0; SECRET_BYTES_MAX], len: 0 }
    }
}

/// Any length.
struct Len(usize);

impl hkdf::KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

impl Secret {
    /// `None` if it is longer than any.
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        let mut secret = Self { len: u8::try_from(bytes.len()).ok()?, ..Self::default() };
        secret.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(secret)
    }

    /// The one after it (§7.2).
    pub(super) fn next(&self) -> Result<Self, Broken> {
        let mut next = Self { len: self.len, ..Self::default() };
        self.expand(b"traffic upd", &mut next.bytes[..usize::from(self.len)])?;
        Ok(next)
    }

    /// HKDF-Expand-Label without a context (§7.1).
    pub(super) fn expand(&self, label: &[u8], out: &mut [u8]) -> Result<(), Broken> {
        let hash = match self.len {
            32 => HKDF_SHA256,
            48 => HKDF_SHA384,
            _ => return Err(Broken::INTERNAL),
        };
        let mut info = Vec::with_capacity(LABEL_BYTES_MAX);
        info.extend_from_slice(&u16::try_from(out.len()).map_err(|_| Broken::INTERNAL)?.to_be_bytes());
        info.push(u8::try_from(6 + label.len()).map_err(|_| Broken::INTERNAL)?);
        info.extend_from_slice(b"tls13 ");
        info.extend_from_slice(label);
        info.push(0);
        let secret = Prk::new_less_safe(hash, &self.bytes[..usize::from(self.len)]);
        let filled = secret.expand(&[&info], Len(out.len())).and_then(|key| key.fill(out));
        filled.map_err(|_| Broken::INTERNAL)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The secrets of both directions, as far as a handshake has them.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    pub(super) client: Option<Secret>,
    pub(super) server: Option<Secret>,
}

thread_local! {
    static CAUGHT: RefCell<Secrets> = RefCell::default();
}

/// Catches secrets for [`catching`].
#[derive(Debug)]
pub(super) struct Catcher;

impl KeyLog for Catcher {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        let secret = Secret::new(secret);
        CAUGHT.with_borrow_mut(|caught| match label {
            "CLIENT_TRAFFIC_SECRET_0" => caught.client = secret,
            "SERVER_TRAFFIC_SECRET_0" => caught.server = secret,
            _ => {}
        });
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(label, "CLIENT_TRAFFIC_SECRET_0" | "SERVER_TRAFFIC_SECRET_0")
    }
}

/// Does `step` of a handshake whose settings have a [`Catcher`], and puts what it made into `secrets`.
pub(super) fn catching<T>(secrets: &mut Secrets, step: impl FnOnce() -> T) -> T {
    CAUGHT.set(Secrets::default());
    let result = step();
    let caught = CAUGHT.take();
    secrets.client = caught.client.or_else(|| secrets.client.take());
    secrets.server = caught.server.or_else(|| secrets.server.take());
    result
}
