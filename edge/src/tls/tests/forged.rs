//! Records whose tag is right and whose content is not.

use rustls::AlertDescription as Alert;

use super::super::broken::Reason;
use super::super::record::{HEADER_BYTES, PLAIN_BYTES_MAX, RECORDS_PER_KEY, SEALED_BYTES_MAX};
use super::*;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

/// A record of `content`, of which the last byte that is not zero is its type.
fn record(keys: &mut Direction, content: &[u8]) -> Vec<u8> {
    let mut out = vec![0; HEADER_BYTES];
    let (kind, front) = content.split_last().unwrap();
    out.extend_from_slice(front);
    keys.seal(*kind, 0, &mut out).unwrap();
    out
}

fn with(kind: u8, body: &[u8]) -> Vec<u8> {
    [body, &[kind]].concat()
}

#[test]
fn padding_is_taken_off_and_empty_data_is_nothing() {
    let (mut session, mut keys) = forger();
    let mut told = Told::default();
    let padded = [&with(DATA, b"padded")[..], &[0; 300]].concat();
    let widest = [&with(DATA, b"!")[..], &[0; PLAIN_BYTES_MAX - 1]].concat();
    for content in [with(DATA, b""), padded, with(DATA, b""), widest, with(DATA, &[0, 0, 7, 0])] {
        give(&mut session, &record(&mut keys, &content), usize::MAX, &mut told);
    }
    assert_eq!((told.plain.as_slice(), told.broken), (&b"padded!\0\0\x07\0"[..], None));
}

#[test]
fn content_that_no_client_may_send_breaks_the_session_and_the_client_hears_why() {
    let too_long = with(DATA, &vec![1; PLAIN_BYTES_MAX + 1]);
    for (what, content, alert) in [
        ("nothing but zeros", vec![0; 20], Alert::UnexpectedMessage),
        ("no type at all", vec![0], Alert::UnexpectedMessage),
        ("an unknown type", with(24, b"x"), Alert::UnexpectedMessage),
        ("change_cipher_spec", with(20, &[1]), Alert::UnexpectedMessage),
        ("a handshake without a message", with(HANDSHAKE, b""), Alert::UnexpectedMessage),
        ("a second hello", with(HANDSHAKE, &[1, 0, 0, 1, 0]), Alert::UnexpectedMessage),
        ("a certificate nobody asked for", with(HANDSHAKE, &[11, 0, 0, 4, 0, 0, 0, 0]), Alert::UnexpectedMessage),
        ("half a KeyUpdate", with(HANDSHAKE, &[24, 0, 0]), Alert::UnexpectedMessage),
        ("two KeyUpdates in a record", with(HANDSHAKE, &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0]), Alert::UnexpectedMessage),
        ("a KeyUpdate that asks for 2", with(HANDSHAKE, &[24, 0, 0, 1, 2]), Alert::IllegalParameter),
        ("an alert of one byte", with(ALERT, &[1]), Alert::DecodeError),
        ("two alerts in a record", with(ALERT, &[1, 90, 1, 90]), Alert::DecodeError),
        ("an alert of nothing", with(ALERT, b""), Alert::DecodeError),
        ("more plaintext than is allowed", too_long, Alert::RecordOverflow),
    ] {
        let (mut session, mut keys) = forger();
        let mut told = Told::default();
        give(&mut session, &record(&mut keys, &with(DATA, b"before")), usize::MAX, &mut told);
        let mut bytes = record(&mut keys, &content);
        bytes.extend_from_slice(&record(&mut keys, &with(DATA, b"behind")));
        give(&mut session, &bytes, usize::MAX, &mut told);
        let broken = told.broken.unwrap_or_else(|| panic!("{what}: not refused"));
        assert_eq!((broken.alert, broken.reason), (alert, Reason::Malformed), "{what}");
        assert_eq!(told.plain, b"before", "{what}");
        assert_eq!((told.out.first(), session.is_open()), (Some(&DATA), false), "{what}: a sealed alert");
        assert_eq!(told.out.len(), HEADER_BYTES + 2 + 1 + 16, "{what}");
    }
}

#[test]
fn a_client_that_gives_up_is_not_answered() {
    let (mut session, mut keys) = forger();
    let mut told = Told::default();
    give(&mut session, &record(&mut keys, &with(ALERT, &[2, 80])), usize::MAX, &mut told);
    assert_eq!(told.broken.map(|broken| broken.reason), Some(Reason::Refused));
    assert!(told.out.is_empty());
}

#[test]
fn meaningless_alerts_are_ignored_but_not_for_ever() {
    let (mut session, mut keys) = forger();
    let mut told = Told::default();
    for _ in 0..4 {
        give(&mut session, &record(&mut keys, &with(ALERT, &[1, 90])), usize::MAX, &mut told);
    }
    assert_eq!(told.broken, None);
    give(&mut session, &record(&mut keys, &with(ALERT, &[1, 90])), usize::MAX, &mut told);
    assert_eq!(told.broken, Some(Broken::malformed(Alert::UnexpectedMessage)));
}

#[test]
fn new_keys_come_as_often_as_a_client_likes_but_not_for_nothing() {
    let mut forge = Forge::new();
    for data in [true, false] {
        for _ in 0..32 {
            let bytes = forge.record(HANDSHAKE, &[24, 0, 0, 1, 0], 0);
            forge.update();
            forge.give(&bytes, usize::MAX);
        }
        assert!(!forge.broken);
        if data {
            let bytes = forge.record(DATA, b"x", 0);
            forge.give(&bytes, usize::MAX);
        }
    }
    let bytes = forge.record(HANDSHAKE, &[24, 0, 0, 1, 0], 0);
    forge.give(&bytes, usize::MAX);
    assert!(forge.broken, "one more than so many");
    assert_eq!(forge.plain, b"x");
}

#[test]
fn our_keys_are_changed_before_they_sealed_too_much() {
    let mut forge = Forge::new();
    for _ in 0..2 {
        forge.skip_to(RECORDS_PER_KEY - 2);
        for _ in 0..5 {
            assert_eq!(forge.answer(b"some data"), b"some data");
        }
        assert!(forge.sealed() < 10, "{} records with the same keys", forge.sealed());
    }
}

#[test]
fn a_record_that_is_not_sealed_or_too_long_breaks_the_session_before_it_has_come() {
    for (what, bytes, alert) in [
        ("a bare alert", vec![ALERT, 3, 3, 0, 2, 1, 0], Alert::UnexpectedMessage),
        ("a bare handshake", vec![HANDSHAKE, 3, 3, 0, 5, 24, 0, 0, 1, 0], Alert::UnexpectedMessage),
        ("change_cipher_spec", vec![20, 3, 3, 0, 1, 1], Alert::UnexpectedMessage),
        ("an empty record", vec![DATA, 3, 3, 0, 0], Alert::BadRecordMac),
        ("a tag and no more", [&[DATA, 3, 3, 0, 16][..], &[7; 16]].concat(), Alert::BadRecordMac),
        (
            "one byte too long",
            [&[DATA, 3, 3][..], &((SEALED_BYTES_MAX + 1) as u16).to_be_bytes()].concat(),
            Alert::RecordOverflow,
        ),
    ] {
        for step in [1, usize::MAX] {
            let (mut session, _) = forger();
            let mut told = Told::default();
            give(&mut session, &bytes, step, &mut told);
            assert_eq!(told.broken, Some(Broken::malformed(alert)), "{what}");
            assert_eq!(session.kept_bytes(), 0, "{what}");
        }
    }
}

#[test]
fn a_record_that_comes_twice_or_out_of_turn_breaks_the_session() {
    for twice in [true, false] {
        let (mut session, mut keys) = forger();
        let mut told = Told::default();
        let (first, second) = (record(&mut keys, &with(DATA, b"1")), record(&mut keys, &with(DATA, b"2")));
        let (one, other) = if twice { (&first, &first) } else { (&second, &first) };
        give(&mut session, one, usize::MAX, &mut told);
        if twice {
            give(&mut session, other, usize::MAX, &mut told);
        }
        assert_eq!(told.broken, Some(Broken::malformed(Alert::BadRecordMac)));
    }
}

#[test]
fn no_more_is_kept_of_a_cut_record_than_has_come() {
    let (mut session, mut keys) = forger();
    let mut told = Told::default();
    let bytes = record(&mut keys, &with(DATA, &vec![7; PLAIN_BYTES_MAX]));
    give(&mut session, &bytes[..HEADER_BYTES + 1], usize::MAX, &mut told);
    assert_eq!(session.kept_bytes(), HEADER_BYTES + 1);
    give(&mut session, &bytes[HEADER_BYTES + 1..], 1000, &mut told);
    assert_eq!((told.plain.len(), session.kept_bytes()), (PLAIN_BYTES_MAX, 0));
}
