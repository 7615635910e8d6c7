//! Keys of packets that are kept as what they are made from.
//!
//! An expanded AES key takes some 600 bytes, and a connection has six: those of now and of the next phase, and two for
//! headers. Kept raw they take 48 each, and expanding one for a packet takes about as long as sealing it (RFC 9001 §5).
//!
//! Nothing else differs from rustls' own: tests hold both together.

use std::sync::LazyLock;

use aws_lc_rs::aead::quic as header;
use aws_lc_rs::aead::{self, Aad, LessSafeKey, UnboundKey};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::cipher::{AeadKey, Iv, Nonce};
use rustls::quic::{Algorithm, HeaderProtectionKey, PacketKey, Tag};
use rustls::{CipherSuite, Error, SupportedCipherSuite, Tls13CipherSuite, crypto};

/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 32;
/// Bytes of an authentication tag, in all of these.
const TAG_BYTES: usize = 16;
/// Bytes of a nonce (RFC 9001 §5.3).
const IV_BYTES: usize = 12;

/// One way to seal packets.
struct Compact {
    packets: &'static aead::Algorithm,
    headers: &'static header::Algorithm,
    key_bytes: usize,
    /// Packets that one key may seal, and forged ones that it may be tried on (RFC 9001 §6.6).
    confidentiality_limit: u64,
    integrity_limit: u64,
}

static AES_128: Compact = Compact {
    packets: &aead::AES_128_GCM,
    headers: &header::AES_128,
    key_bytes: 16,
    confidentiality_limit: 1 << 23,
    integrity_limit: 1 << 52,
};
static AES_256: Compact = Compact {
    packets: &aead::AES_256_GCM,
    headers: &header::AES_256,
    key_bytes: 32,
    confidentiality_limit: 1 << 23,
    integrity_limit: 1 << 52,
};
static CHACHA20: Compact = Compact {
    packets: &aead::CHACHA20_POLY1305,
    headers: &header::CHACHA20,
    key_bytes: 32,
    confidentiality_limit: u64::MAX,
    integrity_limit: 1 << 36,
};
/// A key as it came out of the key schedule.
struct Raw([u8; KEY_BYTES_MAX]);

impl Raw {
    fn new(key: &AeadKey) -> Self {
        let mut raw = [0; KEY_BYTES_MAX];
        let key = key.as_ref();
        raw[..key.len()].copy_from_slice(key);
        Self(raw)
    }
}

/// What memory is used for next is not to find it. The look keeps the compiler from leaving that out.
impl Drop for Raw {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}

struct Packets {
    of: &'static Compact,
    key: Raw,
    iv: [u8; IV_BYTES],
}

impl Packets {
    fn expanded(&self) -> Result<LessSafeKey, Error> {
        let key = UnboundKey::new(self.of.packets, &self.key.0[..self.of.key_bytes]);
        key.map(LessSafeKey::new).map_err(|_| Error::General("a key of the wrong length".into()))
    }

    fn nonce(&self, packet_number: u64) -> aead::Nonce {
        aead::Nonce::assume_unique_for_key(Nonce::new(&Iv::copy(&self.iv), packet_number).0)
    }
}

impl PacketKey for Packets {
    fn encrypt_in_place(&self, packet_number: u64, header: &[u8], payload: &mut [u8]) -> Result<Tag, Error> {
        self.expanded()?
            .seal_in_place_separate_tag(self.nonce(packet_number), Aad::from(header), payload)
            .map(|tag| Tag::from(tag.as_ref()))
            .map_err(|_| Error::EncryptError)
    }

    fn decrypt_in_place<'a>(
        &self,
        packet_number: u64,
        header: &[u8],
        payload: &'a mut [u8],
    ) -> Result<&'a [u8], Error> {
        self.expanded()?
            .open_in_place(self.nonce(packet_number), Aad::from(header), payload)
            .map(|plain| &*plain)
            .map_err(|_| Error::DecryptError)
    }

    fn tag_len(&self) -> usize {
        TAG_BYTES
    }

    fn confidentiality_limit(&self) -> u64 {
        self.of.confidentiality_limit
    }

    fn integrity_limit(&self) -> u64 {
        self.of.integrity_limit
    }
}

struct Headers {
    of: &'static Compact,
    key: Raw,
}

impl Headers {
    /// RFC 9001 §5.4.1. `masked`: the first byte tells the length of the packet number only once it is unmasked.
    fn mask(&self, sample: &[u8], first: &mut u8, packet_number: &mut [u8], masked: bool) -> Result<(), Error> {
        let wrong = |_| Error::General("a key or sample of the wrong length".into());
        let key = header::HeaderProtectionKey::new(self.of.headers, &self.key.0[..self.of.key_bytes]).map_err(wrong)?;
        let [first_mask, mask @ ..] = key.new_mask(sample).map_err(wrong)?;
        if packet_number.len() > mask.len() {
            return Err(Error::General("a packet number that is too long".into()));
        }
        // The long header hides four bits of it, the short one five.
        let hidden = if *first & 0x80 == 0 { 0x1f } else { 0x0f };
        let plain = if masked { *first ^ (first_mask & hidden) } else { *first };
        let len = usize::from(plain & 0x03) + 1;
        *first ^= first_mask & hidden;
        for (byte, mask) in packet_number.iter_mut().zip(mask).take(len) {
            *byte ^= mask;
        }
        Ok(())
    }
}

impl HeaderProtectionKey for Headers {
    fn encrypt_in_place(&self, sample: &[u8], first: &mut u8, packet_number: &mut [u8]) -> Result<(), Error> {
        self.mask(sample, first, packet_number, false)
    }

    fn decrypt_in_place(&self, sample: &[u8], first: &mut u8, packet_number: &mut [u8]) -> Result<(), Error> {
        self.mask(sample, first, packet_number, true)
    }

    fn sample_len(&self) -> usize {
        self.of.headers.sample_len()
    }
}

impl Algorithm for Compact {
    fn packet_key(&self, key: AeadKey, iv: Iv) -> Box<dyn PacketKey> {
        let mut raw_iv = [0; IV_BYTES];
        raw_iv.copy_from_slice(&iv.as_ref()[..IV_BYTES]);
        Box::new(Packets { of: self.shared(), key: Raw::new(&key), iv: raw_iv })
    }

    fn header_protection_key(&self, key: AeadKey) -> Box<dyn HeaderProtectionKey> {
        Box::new(Headers { of: self.shared(), key: Raw::new(&key) })
    }

    fn aead_key_len(&self) -> usize {
        self.key_bytes
    }
}

impl Compact {
    /// The one of its kind that lives for ever.
    fn shared(&self) -> &'static Self {
        [&AES_128, &AES_256, &CHACHA20].into_iter().find(|one| one.packets == self.packets).unwrap_or(&AES_128)
    }
}

/// The suites of TLS 1.3 with such keys.
static SUITES: LazyLock<Vec<Tls13CipherSuite>> = LazyLock::new(|| {
    let of = [
        (TLS13_AES_128_GCM_SHA256, &AES_128),
        (TLS13_AES_256_GCM_SHA384, &AES_256),
        (TLS13_CHACHA20_POLY1305_SHA256, &CHACHA20),
    ];
    let suite = |(suite, compact): (SupportedCipherSuite, &'static Compact)| {
        let suite = suite.tls13()?;
        let common = crypto::CipherSuiteCommon {
            suite: suite.common.suite,
            hash_provider: suite.common.hash_provider,
            confidentiality_limit: suite.common.confidentiality_limit,
        };
        let (hkdf_provider, aead_alg) = (suite.hkdf_provider, suite.aead_alg);
        Some(Tls13CipherSuite { common, hkdf_provider, aead_alg, quic: Some(compact) })
    };
    of.into_iter().filter_map(suite).collect()
});

/// The suite of a name with compact keys. `None`: there is none.
fn compact(name: CipherSuite) -> Option<&'static Tls13CipherSuite> {
    SUITES.iter().find(|suite| suite.common.suite == name)
}

/// `provider` with the suites of TLS 1.3 that it has, in its order, and compact keys.
pub(super) fn compacted(provider: &CryptoProvider) -> CryptoProvider {
    let suites = provider.cipher_suites.iter().filter_map(|suite| compact(suite.suite()));
    CryptoProvider { cipher_suites: suites.map(SupportedCipherSuite::from).collect(), ..provider.clone() }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    use rustls::Side;
    use rustls::quic::{Keys, Version};

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|digit| !digit.is_ascii_whitespace()).collect();
        digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
    }

    fn raw(hex: &str) -> Raw {
        let mut raw = [0; KEY_BYTES_MAX];
        let key = bytes(hex);
        raw[..key.len()].copy_from_slice(&key);
        Raw(raw)
    }

    #[test]
    fn rfc_9001_appendix_a2_header_of_a_client_initial() {
        let key = Headers { of: &AES_128, key: raw("9f50449e04a0e810283a1e9933adedd2") };
        let sample = bytes("d1b1c98dd7689fb8ec11d242b123dc9b");
        let (mut first, mut number) = (0xc3, bytes("00000002"));
        key.encrypt_in_place(&sample, &mut first, &mut number).unwrap();
        assert_eq!((first, number.clone()), (0xc0, bytes("7b9aec34")));
        key.decrypt_in_place(&sample, &mut first, &mut number).unwrap();
        assert_eq!((first, number), (0xc3, bytes("00000002")));
    }

    #[test]
    fn rfc_9001_appendix_a5_chacha20_short_header_packet() {
        let key = "c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8";
        let packets =
            Packets { of: &CHACHA20, key: raw(key), iv: bytes("e0459b3474bdd0e44a41c144").try_into().unwrap() };
        let headers = "25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4";
        let headers = Headers { of: &CHACHA20, key: raw(headers) };
        let (header, mut payload) = (bytes("4200bff4"), vec![1]);
        let tag = packets.encrypt_in_place(654_360_564, &header, &mut payload).unwrap();
        payload.extend_from_slice(tag.as_ref());
        assert_eq!(payload, bytes("655e5cd55c41f69080575d7999c25a5bfb"));
        let (mut first, mut number) = (header[0], header[1..].to_vec());
        headers.encrypt_in_place(&payload[1..], &mut first, &mut number).unwrap();
        assert_eq!((first, &number[..]), (0x4c, &bytes("fe4189")[..]));
        assert_eq!(packets.decrypt_in_place(654_360_564, &header, &mut payload).unwrap(), [1]);
    }

    #[test]
    fn whatever_rustls_own_keys_seal_these_open_and_the_other_way_round() {
        let mut random = StdRng::from_seed([4; 32]);
        for theirs in [TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256] {
            let theirs = theirs.tls13().unwrap();
            let ours = compact(theirs.common.suite).unwrap();
            for _ in 0..100 {
                let mut id = [0; 8];
                random.fill_bytes(&mut id);
                let keys = |suite: &'static Tls13CipherSuite| {
                    Keys::initial(Version::V1, suite, suite.quic.unwrap(), &id, Side::Client)
                };
                let (theirs, ours) = (keys(theirs), keys(ours));
                let (mut plain, mut header) = (vec![0; random.next_u32() as usize % 1500], [0; 20]);
                random.fill_bytes(&mut plain);
                random.fill_bytes(&mut header);
                let number = random.next_u64() >> 2;
                let seal = |key: &dyn PacketKey| {
                    let mut sealed = plain.clone();
                    let tag = key.encrypt_in_place(number, &header, &mut sealed).unwrap();
                    sealed.extend_from_slice(tag.as_ref());
                    sealed
                };
                let sealed = seal(&*ours.local.packet);
                assert_eq!(sealed, seal(&*theirs.local.packet));
                assert_eq!(ours.local.packet.decrypt_in_place(number, &header, &mut sealed.clone()).unwrap(), plain);
                for spoil in [0, sealed.len() - 1] {
                    let mut spoilt = sealed.clone();
                    spoilt[spoil] ^= 1;
                    assert!(ours.local.packet.decrypt_in_place(number, &header, &mut spoilt).is_err());
                }
                assert!(ours.local.packet.decrypt_in_place(number + 1, &header, &mut sealed.clone()).is_err());
                assert!(ours.local.packet.decrypt_in_place(number, &header, &mut [0; 15]).is_err());
                let limits = |key: &dyn PacketKey| (key.confidentiality_limit(), key.integrity_limit(), key.tag_len());
                assert_eq!(limits(&*ours.local.packet), limits(&*theirs.local.packet));
                let mask = |key: &dyn HeaderProtectionKey, decrypt: bool, len: usize| {
                    let (mut first, mut number, sample) = (header[0], header[1..=len].to_vec(), &header[4..20]);
                    if decrypt {
                        key.decrypt_in_place(sample, &mut first, &mut number).unwrap();
                    } else {
                        key.encrypt_in_place(sample, &mut first, &mut number).unwrap();
                    }
                    (first, number)
                };
                assert_eq!(ours.local.header.sample_len(), theirs.local.header.sample_len());
                for decrypt in [false, true] {
                    for len in 1..=4 {
                        let (ours, theirs) = (&*ours.local.header, &*theirs.local.header);
                        assert_eq!(mask(ours, decrypt, len), mask(theirs, decrypt, len));
                    }
                }
            }
        }
    }

    #[test]
    fn a_sample_or_number_of_the_wrong_length_is_an_error_and_changes_nothing() {
        let key = Headers { of: &AES_128, key: raw("9f50449e04a0e810283a1e9933adedd2") };
        for (sample, number) in [(15, 4), (17, 4), (16, 5)] {
            let (mut first, mut number) = (0xc3, vec![7; number]);
            assert!(key.encrypt_in_place(&vec![0; sample], &mut first, &mut number).is_err());
            assert!(first == 0xc3 && number.iter().all(|byte| *byte == 7));
        }
    }

    #[test]
    fn a_provider_keeps_its_suites_of_tls_1_3_in_its_order() {
        let names = |provider: &CryptoProvider| -> Vec<CipherSuite> {
            provider.cipher_suites.iter().map(SupportedCipherSuite::suite).collect()
        };
        let provider = crypto::aws_lc_rs::default_provider();
        let wanted: Vec<CipherSuite> = names(&provider).into_iter().filter(|name| compact(*name).is_some()).collect();
        assert_eq!((wanted.len(), names(&compacted(&provider))), (3, wanted));
    }

    #[test]
    fn a_key_takes_less_than_a_tenth_of_an_expanded_one() {
        assert!(size_of::<Packets>() <= 56 && size_of::<Headers>() <= 40);
    }
}
