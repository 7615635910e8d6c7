//! QUIC shards without sockets and clocks, and clients of theirs. For simulations and fuzzing, never for a server.
//!
//! What TLS draws is left to chance and nothing else, and that decides neither how long a datagram is nor what follows from it
//! (signatures of Ed25519 are all of one length): the same calls with the same seeds make the same run.

mod caller;
mod forge;
mod station;

use std::sync::{Arc, OnceLock};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

pub use self::caller::{Caller, Trust};
pub use self::forge::{Level, Order, Orders};
pub use self::station::{Site, Station};
use super::QuicConn;

/// The name that the certificate is for.
const NAME: &str = "localhost";
/// A private key of Ed25519 in PKCS #8 (RFC 8410 §7): this, and 32 bytes. Everybody may know it.
const KEY_FRONT: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// A certificate that is always the same, and its key.
fn pair() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    static PAIR: OnceLock<(CertificateDer<'static>, PrivateKeyDer<'static>)> = OnceLock::new();
    let (cert, key) = PAIR.get_or_init(make_pair);
    (cert.clone(), key.clone_key())
}

fn make_pair() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = PrivatePkcs8KeyDer::from([&KEY_FRONT[..], &[7; 32]].concat());
    let pair = KeyPair::try_from(&key).expect("a key");
    let mut params = CertificateParams::new([NAME.to_owned()]).expect("a name");
    params.serial_number = Some(1.into());
    let made = params.self_signed(&pair).expect("a certificate");
    (made.der().clone(), key.into())
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // A key share that leaves room in the first datagram.
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    Arc::new(provider)
}

impl QuicConn {
    /// Whether its client takes datagrams beside the stream.
    #[must_use]
    pub const fn takes_datagrams(&self) -> bool {
        self.datagrams
    }
}
