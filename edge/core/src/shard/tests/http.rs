use std::time::Duration;

use bytes::Bytes;

use crate::testkit::{Rig, peer, upgrade};
use crate::{Effect, End, HttpDown, ShardConfig};

const GET: &[u8] = b"GET /index.html HTTP/1.1\r\nHost: x\r\n\r\n";

fn window(bytes: usize) -> Rig {
    Rig::new(ShardConfig { http_window_bytes: bytes, ..ShardConfig::default() })
}

#[test]
fn a_request_that_is_not_ours_is_handed_over_with_all_that_was_read() {
    let other_path = String::from_utf8(upgrade("")).unwrap().replace("/ws ", "/other ").into_bytes();
    let mut with_body = b"POST /v1/guest HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n".to_vec();
    with_body.extend(b"body");
    for request in [GET.to_vec(), other_path, with_body] {
        for piece in [1, 10, request.len()] {
            let mut rig = window(1 << 20);
            let key = rig.open();
            for part in request.chunks(piece) {
                rig.receive(key, part);
            }
            let mut got = Vec::new();
            for effect in rig.effects() {
                match effect {
                    Effect::HttpOpen { session, peer: from, bytes } => {
                        assert_eq!((session, from, got.is_empty()), (key, peer(), true));
                        got.extend(bytes);
                    }
                    Effect::HttpData { session, bytes } => {
                        assert_eq!((session, got.is_empty()), (key, false));
                        got.extend(bytes);
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(got, request);
        }
    }
}

#[test]
fn the_window_pauses_and_resumes_reading() {
    let mut rig = window(1024);
    let key = rig.open();
    rig.receive(key, GET);
    rig.receive(key, &[0; 1000]);
    assert_eq!(rig.effect_names(), [format!("http open {}", GET.len()), "http data 1000".into(), "pause".into()]);
    rig.shard.http(key, HttpDown::Taken(GET.len() + 400), rig.now);
    assert_eq!(rig.effect_names(), Vec::<String>::new(), "more than half is not taken");
    rig.shard.http(key, HttpDown::Taken(100), rig.now);
    assert_eq!(rig.effect_names(), ["resume"]);
    // Taking more than was given is forgiven.
    rig.shard.http(key, HttpDown::Taken(usize::MAX), rig.now);
    rig.receive(key, &[0; 1024]);
    assert_eq!(rig.effect_names(), ["http data 1024"]);
}

#[test]
fn a_response_is_written_and_then_the_connection_goes() {
    let mut rig = window(1024);
    let key = rig.open();
    rig.receive(key, GET);
    rig.effects();
    rig.shard.http(key, HttpDown::Data(Bytes::from_static(b"HTTP/1.1 200 OK\r\n")), rig.now);
    rig.shard.http(key, HttpDown::Data(Bytes::from_static(b"\r\n")), rig.now);
    rig.shard.http(key, HttpDown::End, rig.now);
    assert_eq!(rig.effect_names(), ["write"]);
    rig.receive(key, b"what comes now is for nobody");
    rig.shard.http(key, HttpDown::Data(Bytes::from_static(b"late")), rig.now);
    assert_eq!(rig.read_some(key, 10), b"HTTP/1.1 2");
    assert_eq!(rig.read_bytes(key), b"00 OK\r\n\r\n");
    assert_eq!(rig.effect_names(), ["close"]);
    assert_eq!(rig.shard.connections(), 0);
}

#[test]
fn either_end_may_end_it() {
    let mut rig = window(1024);
    let key = rig.open();
    rig.receive(key, GET);
    rig.effects();
    rig.shard.ended(key, End::Eof, rig.now);
    assert_eq!(rig.effect_names(), ["http end"]);
    let key = rig.open();
    rig.receive(key, GET);
    rig.effects();
    rig.shard.http(key, HttpDown::End, rig.now);
    assert_eq!(rig.effect_names(), ["close"], "nothing waited");
    assert_eq!(rig.counted().connections_closed, 2);
}

#[test]
fn who_ends_its_side_behind_a_request_is_still_answered() {
    let mut rig = window(1024);
    let key = rig.open();
    rig.receive(key, GET);
    assert!(rig.shard.half_closed(key, rig.now));
    assert!(rig.shard.half_closed(key, rig.now), "told twice, it changes nothing");
    assert_eq!(rig.effect_names(), [format!("http open {}", GET.len()), "http eof".into()]);
    rig.shard.http(key, HttpDown::Data(Bytes::from_static(b"HTTP/1.1 200 OK\r\n\r\n")), rig.now);
    rig.shard.http(key, HttpDown::End, rig.now);
    assert!(rig.shard.half_closed(key, rig.now), "it still waits for what is queued");
    assert_eq!(rig.effect_names(), ["write"]);
    assert_eq!(rig.read_bytes(key), b"HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(rig.effect_names(), ["close"]);
    // The same for a refusal of ours; it goes as soon as it is written.
    let key = rig.open();
    rig.receive(key, b"GET /ws HTTP/1.1\r\n\r\n");
    assert!(rig.shard.half_closed(key, rig.now));
    assert!(rig.read_bytes(key).starts_with(b"HTTP/1.1 4"));
    assert_eq!(rig.effect_names(), ["close"]);
    assert!(!rig.shard.half_closed(key, rig.now), "the key is stale");
}

#[test]
fn nobody_waits_for_half_a_head_or_half_a_websocket() {
    let mut rig = window(1024);
    let (head, session) = (rig.open(), rig.live());
    rig.receive(head, b"GET / HT");
    for key in [head, session] {
        assert!(!rig.shard.half_closed(key, rig.now));
        rig.shard.ended(key, End::Eof, rig.now);
    }
    assert_eq!(rig.effect_names(), ["gone u_ada"]);
    assert_eq!(rig.shard.connections(), 0);
}

#[test]
fn a_reader_that_takes_nothing_of_a_response_is_let_go() {
    let mut rig = window(1024);
    let key = rig.open();
    rig.receive(key, GET);
    rig.pass(Duration::from_millis(29_900));
    rig.shard.http(key, HttpDown::Data(Bytes::from_static(b"HTTP/1.1 200 OK\r\n\r\n")), rig.now);
    rig.effects();
    rig.pass(Duration::from_millis(29_900));
    rig.read_some(key, 1);
    rig.pass(Duration::from_millis(29_900));
    assert_eq!(rig.effect_names(), Vec::<String>::new());
    rig.pass(Duration::from_millis(300));
    assert_eq!(rig.effect_names(), ["http end", "close"]);
}
