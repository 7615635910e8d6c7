//! What bytes of a client come to, without a connection. Breaches by another implementation's hand: `tests/python/test_webtransport.py`.

use proptest::prelude::*;
use quinn_proto::{Dir, Side, StreamId};
use web_transport_proto::http::StatusCode;
use web_transport_proto::{Capsule, ConnectRequest, Frame, Settings, VarInt};

use super::request::{Fresh, Head};
use super::session::{Session, goodbye};
use super::tlv::Tlvs;
use super::uni::{Opened, Said, Uni};
use super::*;

fn stream(index: u64) -> StreamId {
    StreamId::new(Side::Client, Dir::Bi, index)
}

fn doors() -> Doors {
    Doors { path: "/wt", origins: OriginPolicy::SameHost }
}

fn request(url: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    ConnectRequest::new(url.parse::<url::Url>().unwrap()).encode(&mut bytes).unwrap();
    bytes
}

fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    VarInt::from_u64(kind).unwrap().encode(&mut bytes);
    VarInt::try_from(payload.len()).unwrap().encode(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn our_settings_offer_webtransport_and_no_table() {
    let settings = Settings::decode(&mut settings().as_slice()).unwrap();
    assert_eq!(settings.supports_webtransport(), 1);
    // QPACK_MAX_TABLE_CAPACITY and QPACK_BLOCKED_STREAMS are absent, which is 0 (RFC 9204 §5).
    for absent in [1_u32, 7] {
        assert!(!settings.contains_key(&web_transport_proto::Setting(VarInt::from_u32(absent))), "{absent}");
    }
}

#[test]
fn a_stream_is_read_no_further_than_its_beginning() {
    for (session, head) in [(0_u64, &[0x40, 0x41, 0][..]), (64, &[0x40, 0x41, 0x40, 64]), (1 << 40, &[])] {
        let mut head = head.to_vec();
        if head.is_empty() {
            Frame::WEBTRANSPORT.encode(&mut head);
            VarInt::from_u64(session).unwrap().encode(&mut head);
        }
        let (mut fresh, mut at) = (Fresh::new(stream(1)), 0);
        while fresh.head(&doors()) == Ok(Head::More) {
            let wanted = fresh.wanted();
            assert!((1..=head.len() - at).contains(&wanted), "{wanted} at {at}");
            // Less than wanted may be there.
            fresh.take(&head[at..at + 1]);
            at += 1;
        }
        assert_eq!((fresh.head(&doors()), at, fresh.wanted()), (Ok(Head::Stream(session)), head.len(), 0));
    }
}

#[test]
fn a_request_is_understood_wherever_it_is_cut_and_what_follows_is_kept() {
    // Frames of a reserved type may stand before it (RFC 9114 §7.2.8).
    let whole = [frame(0x21, b"grease"), request("https://localhost/wt"), b"behind".to_vec()].concat();
    let until = whole.len() - b"behind".len();
    for cut in 0..until {
        let mut fresh = Fresh::new(stream(0));
        fresh.take(&whole[..cut]);
        assert_eq!(fresh.head(&doors()), Ok(Head::More), "{cut}");
        fresh.take(&whole[cut..]);
        assert_eq!(fresh.head(&doors()), Ok(Head::Session(b"behind".to_vec())), "{cut}");
    }
}

#[test]
fn requests_are_judged_by_path_and_origin() {
    let header = |origin: &'static str| {
        let request = ConnectRequest::new("https://chat.example:8443/wt".parse::<url::Url>().unwrap());
        let value = web_transport_proto::http::HeaderValue::from_static(origin);
        let mut bytes = Vec::new();
        let name = web_transport_proto::http::header::ORIGIN;
        request.with_header(name, value).encode(&mut bytes).unwrap();
        bytes
    };
    for (name, bytes, want) in [
        ("ours", request("https://localhost/wt"), Head::Session(vec![])),
        ("with a query", request("https://localhost/wt?x=1"), Head::Session(vec![])),
        ("another path", request("https://localhost/"), Head::Refused(StatusCode::NOT_FOUND)),
        ("the same host", header("https://chat.example:8443"), Head::Session(vec![])),
        ("another port", header("https://chat.example"), Head::Refused(StatusCode::FORBIDDEN)),
        ("another host", header("https://evil.example:8443"), Head::Refused(StatusCode::FORBIDDEN)),
    ] {
        let mut fresh = Fresh::new(stream(0));
        fresh.take(&bytes);
        assert_eq!(fresh.head(&doors()), Ok(want), "{name}");
    }
}

#[test]
fn a_request_that_does_not_end_is_refused_once_it_is_too_large() {
    let (mut fresh, mut bytes) = (Fresh::new(stream(0)), 0);
    // As large as may be announced, and byte after byte.
    fresh.take(&frame(1, &[0; 16 * 1024])[..10]);
    while fresh.head(&doors()) == Ok(Head::More) {
        let wanted = fresh.wanted();
        assert!(wanted > 0, "nothing is wanted, and nothing said");
        fresh.take(&vec![0; wanted.min(1000)]);
        bytes += wanted.min(1000);
    }
    assert_eq!(fresh.head(&doors()), Ok(Head::Refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)));
    assert!(bytes < 9000, "{bytes}");
}

#[test]
fn a_session_hears_its_close_wherever_it_is_cut_and_passes_over_the_rest() {
    let close = goodbye(CloseCode::Replaced);
    let mut data = &close[2..];
    let Ok(Capsule::CloseWebTransportSession { code, reason }) = Capsule::decode(&mut data) else {
        panic!("{close:?}")
    };
    assert_eq!((code, reason.as_str()), (4503, CloseCode::Replaced.text()));
    let capsule = frame(0x17, b"grease");
    let before = [frame(0x21, b""), frame(0, &capsule[..3]), frame(0, &capsule[3..])].concat();
    let stream = [before.as_slice(), &close].concat();
    for cut in 0..stream.len() {
        let mut session = Session::new(self::stream(0));
        let first = session.take(&stream[..cut]);
        assert!(first == Ok(true) || session.take(&stream[cut..]) == Ok(true), "{cut}");
        assert!(cut > before.len() || first == Ok(false), "{cut}: too early");
    }
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in_wherever_they_are_cut(
        frames in prop::collection::vec((0..1_u64 << 62, prop::collection::vec(any::<u8>(), 0..40)), 0..6),
        ends in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(|(kind, payload)| frame(*kind, payload)).collect();
        let mut ends: Vec<usize> = ends.iter().map(|end| end.index(bytes.len() + 1)).chain([bytes.len()]).collect();
        ends.sort_unstable();
        let (mut tlvs, mut got, mut from) = (Tlvs::default(), vec![], 0);
        let mut payload = vec![];
        for end in ends {
            let mut input = &bytes[from..end];
            while let Some(piece) = tlvs.next(&mut input) {
                payload.extend_from_slice(piece.bytes);
                if piece.left == 0 {
                    got.push((piece.kind, std::mem::take(&mut payload)));
                }
            }
            from = end;
        }
        prop_assert_eq!(got, frames);
    }

    #[test]
    fn no_bytes_of_a_peer_panic(
        begin in prop::sample::select(vec![vec![], vec![0], vec![0, 4], vec![2], vec![3], vec![1], vec![0x40, 0x41]]),
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = [begin, bytes].concat();
        let cut = cut.index(bytes.len() + 1);
        let (mut uni, mut opened) = (Uni::new(stream(0)), Opened::default());
        if uni.take(&bytes[..cut], &mut opened).is_ok_and(|said| said != Said::Unwanted) {
            let _ = uni.take(&bytes[cut..], &mut opened);
        }
        let mut session = Session::new(stream(0));
        if session.take(&bytes[..cut]) == Ok(false) {
            let _ = session.take(&bytes[cut..]);
        }
        let mut fresh = Fresh::new(stream(0));
        fresh.take(&bytes[..cut]);
        if fresh.head(&doors()) == Ok(Head::More) {
            fresh.take(&bytes[cut..]);
            let _ = (fresh.head(&doors()), fresh.wanted());
        }
    }
}
