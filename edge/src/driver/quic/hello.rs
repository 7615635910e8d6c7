//! What a client offers in its first message of TLS, read before TLS answers: transport parameters go out with the answer, and
//! a client of HTTP/3 needs others than one of `roost/1`.

/// Bytes of a first message that are looked at. Larger ones are left to TLS: they get what `roost/1` gets.
pub(super) const HELLO_BYTES_MAX: usize = 16 * 1024;
/// ClientHello (RFC 8446 §4).
const CLIENT_HELLO: u8 = 1;
/// The extension that names protocols (RFC 7301 §3.1).
const ALPN: u16 = 16;
/// Transport parameters of streams that a client may open (RFC 9000 §18.2).
const STREAMS_BIDI: u64 = 8;
const STREAMS_UNI: u64 = 9;

/// Whether `said` holds the whole first message, or something else that more bytes do not mend.
pub(super) fn is_whole(said: &[u8]) -> bool {
    match said {
        [CLIENT_HELLO, a, b, c, rest @ ..] => rest.len() >= u32::from_be_bytes([0, *a, *b, *c]) as usize,
        [CLIENT_HELLO, ..] | [] => said.len() >= HELLO_BYTES_MAX,
        _ => true,
    }
}

/// The first of `ours` that the client offers in `hello`, as TLS will choose it. `None` as well if it is no ClientHello:
/// TLS will say so.
pub(super) fn chosen<'a>(hello: &[u8], ours: &'a [Vec<u8>]) -> Option<&'a [u8]> {
    let offered = offered(hello)?;
    ours.iter().find(|ours| names(offered).any(|name| name == *ours)).map(Vec::as_slice)
}

/// The list of protocols in a ClientHello (RFC 8446 §4.1.2).
fn offered(hello: &[u8]) -> Option<&[u8]> {
    let mut rest = hello.strip_prefix(&[CLIENT_HELLO])?;
    // The length, the version and the random number.
    take(&mut rest, 3 + 2 + 32)?;
    for prefix_bytes in [1, 2, 1] {
        // The session id, suites, and ways to compress.
        counted(&mut rest, prefix_bytes)?;
    }
    let mut extensions = counted(&mut rest, 2)?;
    while let Some(kind) = number(&mut extensions, 2) {
        let mut content = counted(&mut extensions, 2)?;
        if kind == usize::from(ALPN) {
            return counted(&mut content, 2);
        }
    }
    None
}

fn names(mut list: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || counted(&mut list, 1))
}

fn take<'a>(from: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(bytes)?;
    *from = rest;
    Some(taken)
}

fn number(from: &mut &[u8], bytes: usize) -> Option<usize> {
    Some(take(from, bytes)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

/// What follows its length, which has so many bytes.
fn counted<'a>(from: &mut &'a [u8], prefix_bytes: usize) -> Option<&'a [u8]> {
    let bytes = number(from, prefix_bytes)?;
    take(from, bytes)
}

/// Encoded transport parameters with other numbers of streams that the peer may open, each below 64.
pub(super) fn with_streams(params: &[u8], bidi: u8, uni: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(params.len() + 6);
    let mut rest = params;
    while let Some((id, value_bytes)) = front(rest) {
        let Some(param) = take(&mut rest, value_bytes) else { break };
        if id != STREAMS_BIDI && id != STREAMS_UNI {
            out.extend_from_slice(param);
        }
    }
    for (id, streams) in [(STREAMS_BIDI, bidi), (STREAMS_UNI, uni)] {
        debug_assert!(streams < 64, "one byte");
        out.extend_from_slice(&[id as u8, 1, streams]);
    }
    out
}

/// The id of the first parameter, and the bytes it takes with its id and length.
fn front(params: &[u8]) -> Option<(u64, usize)> {
    use web_transport_proto::VarInt;
    let mut rest = params;
    let id = VarInt::decode(&mut rest).ok()?.into_inner();
    let bytes = VarInt::decode(&mut rest).ok()?.into_inner();
    Some((id, params.len() - rest.len() + usize::try_from(bytes).ok()?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::quic::{ClientConnection, Version};

    use super::*;

    /// The first message of a client of rustls that offers `alpn`.
    fn hello(alpn: &[&str]) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = "localhost".try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(config), Version::V1, name, vec![]).unwrap();
        let mut said = Vec::new();
        client.write_hs(&mut said);
        said
    }

    #[test]
    fn what_tls_will_choose_is_seen_in_the_first_message() {
        let ours = [b"roost/1".to_vec(), b"h3".to_vec()];
        for (offered, want) in [
            (&["h3"][..], Some(&b"h3"[..])),
            (&["h2", "h3"], Some(b"h3")),
            (&["h3", "roost/1"], Some(b"roost/1")),
            (&["h2"], None),
            (&[], None),
        ] {
            let hello = hello(offered);
            assert_eq!(chosen(&hello, &ours), want, "{offered:?}");
            for cut in 0..hello.len() {
                assert!(!is_whole(&hello[..cut]), "{offered:?}, cut at {cut}");
                assert_eq!(chosen(&hello[..cut], &[b"no".to_vec()]), None);
            }
            assert!(is_whole(&hello));
        }
        assert!(is_whole(b"\x02no hello"), "TLS will refuse it");
    }

    #[test]
    fn other_numbers_of_streams_leave_the_rest_as_it_was() {
        // Eight bidirectional streams, none of the others, and something unknown.
        let params = [&[8, 1, 8][..], &[0x40, 0x7f, 2, 1, 2], &[4, 4, 0x80, 1, 0, 0]].concat();
        let want = [&[0x40, 0x7f, 2, 1, 2][..], &[4, 4, 0x80, 1, 0, 0], &[8, 1, 3], &[9, 1, 4]].concat();
        assert_eq!(with_streams(&params, 3, 4), want);
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_peer_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>()) {
            let ours = [b"h3".to_vec()];
            let _ = (chosen(&bytes, &ours), is_whole(&bytes));
            let mut spoilt = hello(&["h3"]);
            let at = at.index(spoilt.len());
            for (place, byte) in spoilt[at..].iter_mut().zip(&bytes) {
                *place = *byte;
            }
            let _ = (chosen(&spoilt, &ours), is_whole(&spoilt));
        }
    }
}
