//! RFC 6455 §4 and RFC 9112: heads of requests and responses.

use bytes::BytesMut;
use proptest::prelude::*;
use roost_wire::limits::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX};
use roost_wire::ws::handshake::{
    HeadError, Request, ResponseError, Upgrade, key_from, parse_request, parse_response, refusal, refusal_for_now,
    write_accept, write_accept_deflate, write_request,
};

/// The key of RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// RFC 6455 §1.2, with its line ends written out.
const EXAMPLE: &str = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n\
    Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";

fn upgrade(head: &str) -> Upgrade<'_> {
    match parse_request(head.as_bytes()) {
        Ok(Some((Request::Upgrade(upgrade), len))) if len == head.len() => upgrade,
        other => panic!("{other:?} of {head}"),
    }
}

#[test]
fn reads_the_example_of_rfc6455_section_1_2() {
    let want = Upgrade {
        path: "/chat",
        host: "server.example.com",
        origin: Some("http://example.com"),
        key: KEY,
        protocols: Some("chat, superchat"),
        deflate: None,
        bearer: None,
    };
    assert_eq!(want.protocols().collect::<Vec<_>>(), ["chat", "superchat"]);
    assert_eq!(parse_request(EXAMPLE.as_bytes()), Ok(Some((Request::Upgrade(want), EXAMPLE.len()))));
    for cut in 0..EXAMPLE.len() {
        assert_eq!(parse_request(&EXAMPLE.as_bytes()[..cut]), Ok(None), "cut at {cut}");
    }
    let more = [EXAMPLE.as_bytes(), b"\x81\x85"].concat();
    assert!(matches!(parse_request(&more), Ok(Some((_, len))) if len == EXAMPLE.len()), "what follows is not ours");
}

#[test]
fn accepts_as_in_rfc6455_section_1_3() {
    let mut out = BytesMut::new();
    write_accept(KEY, Some("chat"), &mut out);
    let want = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
    assert_eq!(out, want);
    let (response, len) = parse_response(&out, KEY).unwrap().unwrap();
    assert_eq!((response.protocol, len), (Some("chat"), want.len()));
    for cut in 0..out.len() {
        assert_eq!(parse_response(&out[..cut], KEY), Ok(None), "cut at {cut}");
    }
}

#[test]
fn agrees_on_permessage_deflate_as_in_rfc7692_section_7_1() {
    let offer = "Sec-WebSocket-Extensions: foo, permessage-deflate; server_max_window_bits=7\r\n\
        Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10; client_max_window_bits\r\nOrigin:";
    let head = EXAMPLE.replace("Origin:", offer);
    let deflate = upgrade(&head).deflate.expect("the last offer can be kept");
    assert_eq!(deflate.server_max_window_bits(), Some(10));
    let mut out = BytesMut::new();
    write_accept_deflate(KEY, None, Some(deflate), &mut out);
    let answer = "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
        client_no_context_takeover; server_max_window_bits=10\r\n\r\n";
    let out = String::from_utf8(out.to_vec()).unwrap();
    assert!(out.ends_with(answer), "{out}");
    // Our own client offers none: an answer that has one was not asked for (RFC 6455 §4.1).
    assert_eq!(
        parse_response(out.as_bytes(), KEY),
        Err(ResponseError::Malformed("an extension that was not asked for"))
    );
    let broken = EXAMPLE.replace("Origin:", "Sec-WebSocket-Extensions: permessage-deflate;\r\nOrigin:");
    assert_eq!(parse_request(broken.as_bytes()), Err(HeadError::Malformed("Sec-WebSocket-Extensions")));
}

#[test]
fn takes_what_clients_and_proxies_really_send() {
    for (name, from, to) in [
        ("§4.2.1 case of the tokens", "Upgrade: websocket", "UPGRADE: WebSocket"),
        ("§4.2.1 a list of connection options", "Connection: Upgrade", "Connection: keep-alive, Upgrade"),
        ("RFC 9110 §5.3 a list over two lines", "Connection: Upgrade", "Connection: keep-alive\r\nConnection: upgrade"),
        ("RFC 9110 §7.8 several protocols", "Upgrade: websocket", "Upgrade: h2c, websocket"),
        ("an empty body", "Host:", "Content-Length: 0\r\nHost:"),
        ("RFC 9110 §5.5 blanks around a value", "Version: 13", "Version: \t13 \t"),
        ("RFC 9112 §3.2.2 absolute form", "GET /chat", "GET http://server.example.com/chat"),
        ("a query", "GET /chat", "GET /chat?room=1/2"),
        ("RFC 9112 §2.2 an empty line before", "GET /chat", "\r\nGET /chat"),
    ] {
        let head = EXAMPLE.replace(from, to);
        assert_ne!(head, EXAMPLE, "{name}");
        assert_eq!(upgrade(&head).path, "/chat", "{name}");
    }
    let head = EXAMPLE.replace("GET /chat ", "GET HTTP://Server.example.com?x ");
    assert_eq!(upgrade(&head).path, "/", "an absolute form without a path");
}

#[test]
fn finds_the_bearer_token_and_no_other() {
    for (value, want) in [
        ("Bearer abc.def", Some("abc.def")),
        ("bearer  abc", Some("abc")),
        ("Bearer", None),
        ("Bearer ", None),
        ("Basic QWxhZGRpbg==", None),
    ] {
        let head = EXAMPLE.replace("Origin: http://example.com", &format!("Authorization: {value}"));
        assert_eq!(upgrade(&head).bearer, want, "{value}");
    }
}

#[test]
fn refuses_upgrades_that_break_rfc6455_section_4_2_1() {
    use HeadError::{Malformed, Version};
    for (name, from, to, want) in [
        ("method", "GET", "POST", Malformed("an upgrade is a GET")),
        ("HTTP/1.0", "HTTP/1.1", "HTTP/1.0", Malformed("an upgrade needs HTTP/1.1")),
        ("no Host", "Host: server.example.com\r\n", "", Malformed("Host is missing")),
        ("no Upgrade", "Upgrade: websocket\r\n", "", Malformed("Upgrade: websocket is missing")),
        ("another Upgrade", "Upgrade: websocket\r\n", "Upgrade: h2c\r\n", Malformed("Upgrade: websocket is missing")),
        ("no Connection", "Connection: Upgrade", "Connection: close", Malformed("Connection: Upgrade is missing")),
        ("no key", "Sec-WebSocket-Key", "X-Key", Malformed("Sec-WebSocket-Key is missing")),
        ("a short key", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j", Malformed("Sec-WebSocket-Key")),
        ("no base64", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j!!==", Malformed("Sec-WebSocket-Key")),
        ("a key of 18 bytes", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZWQx", Malformed("Sec-WebSocket-Key")),
        ("no version", "Sec-WebSocket-Version: 13\r\n", "", Malformed("Sec-WebSocket-Version is missing")),
        ("version 8", "Version: 13", "Version: 8", Version),
        ("a body", "Host:", "Content-Length: 5\r\nHost:", Malformed("an upgrade has no body")),
        ("a chunked body", "Host:", "Transfer-Encoding: chunked\r\nHost:", Malformed("an upgrade has no body")),
        ("another host in the target", "GET /chat", "GET http://example.com/chat", Malformed("target and Host differ")),
        ("a target that is no path", "GET /chat", "GET chat", Malformed("target")),
    ] {
        let head = EXAMPLE.replace(from, to);
        assert_ne!(head, EXAMPLE, "{name}");
        assert_eq!(parse_request(head.as_bytes()), Err(want), "{name}");
    }
    for field in ["Host", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol", "Origin"] {
        let line = EXAMPLE.lines().find(|line| line.starts_with(field)).unwrap();
        let head = EXAMPLE.replace(line, &format!("{line}\r\n{}", line.to_lowercase()));
        assert_eq!(parse_request(head.as_bytes()), Err(Malformed("a field stands twice")), "{field}");
    }
}

#[test]
fn refuses_heads_that_two_readers_could_read_differently() {
    for (name, head) in [
        (
            "RFC 9112 §6.3 two lengths",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "RFC 9112 §6.3 a length twice",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        ),
        ("RFC 9110 §8.6 a length with a sign", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n"),
        ("RFC 9112 §5.2 obs-fold", "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n"),
        ("RFC 9112 §5.1 a blank before the colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
        ("RFC 9112 §2.2 a line without CR", "GET / HTTP/1.1\nHost: a\r\n\r\n"),
        ("RFC 9112 §2.2 an end without CR", "GET / HTTP/1.1\r\nHost: a\r\n\n"),
        ("RFC 9112 §2.2 an empty line without CR in front", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("RFC 9112 §2.2 CR in a value", "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n"),
        ("RFC 9112 §3.2 no Host", "GET / HTTP/1.1\r\n\r\n"),
        ("RFC 9112 §3.2 two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        ("RFC 9112 §3.2 two Hosts in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
        ("RFC 9110 §5.5 NUL in a value", "GET / HTTP/1.1\r\nHost: a\0\r\n\r\n"),
        ("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\u{7c}\x03\x03"),
    ] {
        let got = parse_request(head.as_bytes());
        assert!(matches!(got, Err(HeadError::Malformed(_))), "{name}: {got:?}");
    }
}

#[test]
fn other_requests_are_for_the_http_service() {
    for head in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /v1/guest HTTP/1.1\r\nHost: a\r\nContent-Length: 14\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let followed = format!("{head}{{\"name\":\"Ada\"}}");
        assert_eq!(parse_request(followed.as_bytes()), Ok(Some((Request::Other, head.len()))), "{head}");
    }
}

#[test]
fn heads_are_limited_in_bytes_and_fields() {
    let padded = |bytes: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        format!("{start}{}\r\n\r\n", "x".repeat(bytes - start.len() - 4))
    };
    assert!(parse_request(padded(HEAD_BYTES_MAX).as_bytes()).is_ok_and(|head| head.is_some()));
    assert_eq!(parse_request(padded(HEAD_BYTES_MAX + 1).as_bytes()), Err(HeadError::TooLarge));
    let unfinished = "GET / HTTP/1.1\r\nHost: a\r\nX: ".to_owned() + &"x".repeat(HEAD_BYTES_MAX);
    assert_eq!(parse_request(&unfinished.as_bytes()[..HEAD_BYTES_MAX - 1]), Ok(None));
    assert_eq!(parse_request(&unfinished.as_bytes()[..HEAD_BYTES_MAX]), Err(HeadError::TooLarge));
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    assert!(parse_request(fields(HEAD_FIELDS_MAX).as_bytes()).is_ok_and(|head| head.is_some()));
    assert_eq!(parse_request(fields(HEAD_FIELDS_MAX + 1).as_bytes()), Err(HeadError::TooLarge));
    // What is wrong behind the longest head makes no difference: it may come later.
    let wrong = format!("{}\0\r\n\r\n", &unfinished[..HEAD_BYTES_MAX]);
    assert_eq!(parse_request(wrong.as_bytes()), Err(HeadError::TooLarge));
}

#[test]
fn refusals_are_whole_responses() {
    for (response, line, more) in [
        (HeadError::TooLarge.response(), "HTTP/1.1 431 Request Header Fields Too Large", ""),
        (HeadError::Malformed("field").response(), "HTTP/1.1 400 Bad Request", ""),
        (HeadError::Version.response(), "HTTP/1.1 426 Upgrade Required", "Sec-WebSocket-Version: 13\r\n"),
        (refusal(403, "origin not allowed"), "HTTP/1.1 403 Forbidden", ""),
        (refusal_for_now(503, 7, "full"), "HTTP/1.1 503 Service Unavailable", "Retry-After: 7"),
        (refusal(418, "no phrase of ours"), "HTTP/1.1 418 ", ""),
    ] {
        let text = std::str::from_utf8(&response).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(line) && head.contains(more), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\nConnection: close", body.len())), "{text}");
        let status = line[9..12].parse().unwrap();
        assert_eq!(parse_response(&response, KEY), Err(ResponseError::Status(status)));
    }
}

#[test]
fn a_client_checks_the_answer_as_rfc6455_section_4_1_says() {
    let mut out = BytesMut::new();
    write_accept(KEY, None, &mut out);
    let accept = std::str::from_utf8(&out).unwrap();
    for (name, answer, want) in [
        ("another key", accept.replace("s3pP", "S3pP"), ResponseError::Accept),
        ("no key", accept.replace("Sec-WebSocket-Accept", "X"), ResponseError::Accept),
        (
            "no Upgrade",
            accept.replace("Upgrade: websocket", "X: y"),
            ResponseError::Malformed("not switched to WebSocket"),
        ),
        ("no Connection", accept.replace("Connection", "X"), ResponseError::Malformed("not switched to WebSocket")),
        ("HTTP/1.0", accept.replace("HTTP/1.1", "HTTP/1.0"), ResponseError::Malformed("status line")),
        ("not 101", accept.replace("101", "200"), ResponseError::Status(200)),
        (
            "an extension",
            accept.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: x\r\n\r\n"),
            ResponseError::Malformed("an extension that was not asked for"),
        ),
    ] {
        assert_eq!(parse_response(answer.as_bytes(), KEY), Err(want), "{name}");
    }
}

#[test]
fn a_client_never_writes_a_broken_head() {
    for (path, host, token) in
        [("/a b", "h", "t"), ("ws", "h", "t"), ("/", "h\r\nX: y", "t"), ("/", "", "t"), ("/", "h", "t\n")]
    {
        let mut out = BytesMut::new();
        let got = write_request(path, host, KEY, None, Some(token), None, &mut out);
        assert!(matches!(got, Err(HeadError::Malformed(_))), "{path} {host:?} {token:?}");
        assert!(out.is_empty());
    }
}

proptest! {
    #[test]
    fn what_a_client_asks_the_server_reads(
        nonce: [u8; 16], path in "/[a-z/]{0,20}", query in "(\\?[a-z=&]{0,20})?", host in "[a-z.]{1,20}(:[0-9]{1,5})?",
        protocol in prop::option::of("[a-z.]{1,20}"), bearer in prop::option::of("[A-Za-z0-9._-]{1,300}"),
        origin in prop::option::of("https://[a-z.]{1,20}"),
    ) {
        let key = key_from(nonce);
        let mut out = BytesMut::new();
        let target = format!("{path}{query}");
        write_request(&target, &host, &key, protocol.as_deref(), bearer.as_deref(), origin.as_deref(), &mut out).unwrap();
        let (request, len) = parse_request(&out).unwrap().unwrap();
        prop_assert_eq!(len, out.len());
        prop_assert_eq!(request, Request::Upgrade(Upgrade {
            path: &path, host: &host, origin: origin.as_deref(), key: &key, protocols: protocol.as_deref(),
            deflate: None, bearer: bearer.as_deref(),
        }));
        let mut answer = BytesMut::new();
        write_accept(&key, protocol.as_deref(), &mut answer);
        let (response, _) = parse_response(&answer, &key).unwrap().unwrap();
        prop_assert_eq!(response.protocol, protocol.as_deref());
    }

    #[test]
    fn any_bytes_are_a_head_or_an_error_and_never_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..400), at in any::<prop::sample::Index>(), with in any::<Vec<u8>>(),
    ) {
        let _ = parse_request(&bytes);
        let _ = parse_response(&bytes, KEY);
        // A well-formed head with something else in its middle.
        let mut head = EXAMPLE.as_bytes().to_vec();
        let at = at.index(head.len());
        let end = (at + with.len()).min(head.len());
        head.splice(at..end, with);
        if let Ok(Some((_, len))) = parse_request(&head) {
            prop_assert!(len <= head.len());
        }
    }
}
