//! Records against the traces of RFC 8448 §3.

use rustls::ConnectionTrafficSecrets;
use rustls::crypto::cipher::{AeadKey, Iv};

use super::super::record::{Direction, HEADER_BYTES};
use super::super::secrets::Secret;

/// Keys of AES-128-GCM.
fn keys(key: &str, iv: &str, sequence: u64) -> Direction {
    let mut wide = [0; 32];
    wide[..16].copy_from_slice(&bytes(key));
    let iv: [u8; 12] = bytes(iv).try_into().unwrap();
    let secrets = ConnectionTrafficSecrets::Aes128Gcm { key: AeadKey::from(wide), iv: Iv::from(iv) };
    Direction::new((sequence, secrets)).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |digit: u8| (digit as char).to_digit(16).unwrap() as u8;
    digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

const CLIENT: (&str, &str) = ("17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9");
const SERVER: (&str, &str) = ("9f02283b6c9c07efc26bb9f2ac92e356", "cf782b88dd83549aadf1e984");

const CLIENT_DATA: &str = "17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42 f9 14 aa 66 bc ab 3f \
    2b 98 19 a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2 97 70 14 bd 1e 3d ea e6 3a ee bb 21 69 49 15 e4";
const CLIENT_ALERT: &str = "17 03 03 00 13 c9 87 27 60 65 56 66 b7 4d 7f f1 15 3e fd 6d b6 d0 b0 e3";
const SERVER_DATA: &str = "17 03 03 00 43 2e 93 7e 11 ef 4a c7 40 e5 38 ad 36 00 5f c4 a4 69 32 fc 32 25 d0 5f 82 aa 1b 36 \
    e3 0e fa f9 7d 90 e6 df fc 60 2d cb 50 1a 59 a8 fc c4 9c 4b f2 e5 f0 a2 1c 00 47 c2 ab f3 32 54 0d d0 32 e1 67 c2 95 5d";
const SERVER_ALERT: &str = "17 03 03 00 13 b5 8f d6 71 66 eb f5 99 d2 47 20 cf be 7e fa 7a 88 64 a9";

#[test]
fn opens_what_the_client_of_rfc8448_sent() {
    let mut keys = keys(CLIENT.0, CLIENT.1, 0);
    let key = keys.key().unwrap();
    let (mut data, mut alert) = (bytes(CLIENT_DATA), bytes(CLIENT_ALERT));
    let content = keys.open(&key, &mut data).unwrap();
    assert_eq!((content.kind, content.len), (23, 50));
    assert_eq!(data[HEADER_BYTES..HEADER_BYTES + 50], (0..50).collect::<Vec<u8>>());
    let content = keys.open(&key, &mut alert).unwrap();
    assert_eq!((content.kind, &alert[HEADER_BYTES..HEADER_BYTES + content.len]), (21, &[1, 0][..]));
}

#[test]
fn seals_what_the_server_of_rfc8448_sent() {
    // Its first record was a ticket.
    let mut keys = keys(SERVER.0, SERVER.1, 1);
    let mut out = b"before".to_vec();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    out.extend(0..50);
    keys.seal(23, 6, &mut out).unwrap();
    assert_eq!(out[6..], bytes(SERVER_DATA));
    let mut out = vec![0; HEADER_BYTES];
    out.extend_from_slice(&[1, 0]);
    keys.seal(21, 0, &mut out).unwrap();
    assert_eq!(out, bytes(SERVER_ALERT));
}

#[test]
fn a_sequence_number_is_never_used_again() {
    let mut keys = keys(SERVER.0, SERVER.1, u64::MAX);
    let mut out = vec![0; HEADER_BYTES];
    assert!(keys.seal(23, 0, &mut out).is_err(), "the last one has no successor");
}

/// What those keys are made of.
const CLIENT_SECRET: &str =
    "9e 40 64 6c e7 9a 7f 9d c0 5a f8 88 9b ce 65 52 87 5a fa 0b 06 df 00 87 f7 92 eb b7 c1 75 04 a5";
const SERVER_SECRET: &str =
    "a1 1a f9 f0 55 31 f8 56 ad 47 11 6b 45 a9 50 32 82 04 b4 f4 4b fb 6b 3a 4b 4f 1f 3f cb 63 16 43";

#[test]
fn makes_the_keys_of_rfc8448_of_its_secrets() {
    for (secret, (key, iv)) in [(CLIENT_SECRET, CLIENT), (SERVER_SECRET, SERVER)] {
        let secret = Secret::new(&bytes(secret)).unwrap();
        let (mut made_key, mut made_iv) = ([0; 16], [0; 12]);
        secret.expand(b"key", &mut made_key).unwrap();
        secret.expand(b"iv", &mut made_iv).unwrap();
        assert_eq!((made_key.as_slice(), made_iv.as_slice()), (&bytes(key)[..], &bytes(iv)[..]));
    }
    assert!(Secret::new(&[0; 49]).is_none());
    assert!(Secret::default().next().is_err(), "keys without a secret have no successor");
}
