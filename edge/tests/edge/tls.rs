//! TLS and plain HTTP on one port, to real clients by rustls.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use roost_edge::tls::{Identity, TlsSetup};
use roost_edge::{Edge, EdgeConfig, ShardConfig};
use roost_wire::{CloseCode, Encoding};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use crate::support::{Client, Heard, Hyper, PATIENCE, Router, Server, config, pattern, publish, serve};

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// An edge that speaks TLS, and who trusts it.
struct Secure {
    server: Server,
    identity: Arc<Identity>,
    _dir: tempfile::TempDir,
}

fn unix_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

impl Secure {
    fn new(config: EdgeConfig, plaintext: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::dev(dir.path(), unix_s()).unwrap();
        let setup = TlsSetup::new(identity.server_config(&[b"http/1.1"]).unwrap(), plaintext);
        let bound = Edge::bind(config).expect("port 0 is free").with_tls(setup);
        let server = Server::start(bound, Arc::new(Router::default()), Hyper::new());
        Self { server, identity, _dir: dir }
    }

    fn plain(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Settings of a client that trusts the certificate of now.
    fn trust(&self, version: &'static SupportedProtocolVersion) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.identity.chain().remove(0)).unwrap();
        ClientConfig::builder_with_protocol_versions(&[version]).with_root_certificates(roots).with_no_client_auth()
    }

    fn client(&self, config: &Arc<ClientConfig>) -> ClientConnection {
        ClientConnection::new(config.clone(), ServerName::try_from("localhost").unwrap()).unwrap()
    }

    fn open(&self, config: &Arc<ClientConfig>) -> Stream {
        StreamOwned::new(self.client(config), self.plain())
    }

    fn until(&self, what: &str, holds: impl Fn(&roost_edge::EdgeSnapshot) -> bool) {
        self.server.until(what, holds);
    }
}

/// Everything that comes until the end, which may come without being said, or as a reset.
fn everything(stream: &mut impl Read) -> Vec<u8> {
    let (mut all, mut buf) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        match stream.read(&mut buf) {
            Ok(0) => return all,
            Ok(n) => all.extend_from_slice(&buf[..n]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                let ends = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::ConnectionAborted];
                assert!(ends.contains(&error.kind()), "{error}");
                return all;
            }
        }
    }
}

#[test]
fn sessions_with_and_without_tls_hear_each_other_on_one_port() {
    // The router of these tests tells a topic to one shard.
    let secure = Secure::new(EdgeConfig { shards: 1, ..config() }, true);
    let mut plain = Client::connect(secure.server.addr, Encoding::Json, "plain");
    for version in [&TLS13, &TLS12] {
        let mut client = Client::over(secure.open(&Arc::new(secure.trust(version))), Encoding::Protobuf);
        assert!(matches!(client.hear(), Heard::Frame(_)), "HELLO");
        client.enter("secret");
        for len in [1, 1000, 40_000] {
            let text = "x".repeat(len);
            client.say(2, publish(&text));
            client.hear_frame();
            assert_eq!(plain.entry(), text);
            plain.say(3, publish(&text));
            plain.hear_frame();
            assert_eq!(client.entry(), text);
        }
        drop(client);
    }
    secure.until("two handshakes, and none open", |metrics| {
        metrics.tls.handshakes_full == 2 && metrics.tls.open() == 0 && metrics.connections_open() == 1
    });
    secure.server.handle().stop();
    assert_eq!(plain.hear_close(), Some(1001));
}

#[test]
fn a_session_is_closed_with_its_code_and_then_with_the_end_of_tls() {
    let secure = Secure::new(config(), false);
    let mut client = Client::over(secure.open(&Arc::new(secure.trust(&TLS13))), Encoding::Protobuf);
    client.hear();
    client.enter("ada");
    secure.server.handle().stop();
    assert_eq!(client.hear_close(), Some(CloseCode::GoingAway.number()));
    // An end that was not said would be an error.
    assert_eq!(client.stream.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn plain_http_to_a_port_of_tls_hears_so_and_is_counted() {
    let secure = Secure::new(config(), false);
    for (count, request) in (1..).zip([&b"GET /ws HTTP/1.1\r\nHost: edge\r\n\r\n"[..], b"\0\x01\x02 garbage", b"G"]) {
        let mut stream = secure.plain();
        stream.write_all(request).unwrap();
        let answer = String::from_utf8(everything(&mut stream)).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("this port speaks TLS: use https:// or wss://"), "{answer}");
        secure.until("counted", |metrics| metrics.tls.failed_plaintext == count);
    }
    secure.until("none is left", |metrics| metrics.connections_open() == 0);
}

#[test]
fn who_is_turned_away_at_the_door_is_told_in_words_of_tls_where_there_is_nothing_else() {
    let limited = || EdgeConfig { connections_per_address_max: 1, addresses_exempt: Vec::new(), ..config() };
    for (plaintext, said) in [(false, &[21, 3, 3, 0, 2, 2, 80][..]), (true, b"HTTP/1.1 429 ")] {
        let secure = Secure::new(limited(), plaintext);
        let _first = secure.plain();
        secure.until("the first is in", |metrics| metrics.connections_open() == 1);
        let answer = everything(&mut secure.plain());
        assert!(answer.starts_with(said), "{answer:?}");
        secure.until("counted", |metrics| metrics.accept_refused_address == 1);
    }
}

#[test]
fn tls_to_a_port_without_it_is_refused_at_once() {
    let secure = Secure::new(config(), false);
    let server = serve(config());
    let mut client = secure.client(&Arc::new(secure.trust(&TLS13)));
    let mut stream = TcpStream::connect(server.addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    // A head that has no end yet, perhaps: its end is the deadline's, so it is given one.
    hello.extend_from_slice(b"\r\n\r\n");
    stream.write_all(&hello).unwrap();
    let answer = everything(&mut stream);
    assert!(answer.starts_with(b"HTTP/1.1 400 ") || answer.is_empty(), "{answer:?}");
    server.until("none is left", |metrics| metrics.connections_open() == 0);
}

#[test]
fn a_handshake_that_never_ends_has_the_deadline_of_a_head() {
    let shard = ShardConfig { head_within: Duration::from_millis(300), ..ShardConfig::default() };
    let secure = Secure::new(EdgeConfig { shard, ..config() }, false);
    let mut client = secure.client(&Arc::new(secure.trust(&TLS13)));
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let mut streams = Vec::new();
    // Nothing, a part of the first record, all of it and no more.
    for bytes in [&b""[..], &hello[..1], &hello[..hello.len() / 2], &hello] {
        let mut stream = secure.plain();
        stream.write_all(bytes).unwrap();
        streams.push(stream);
    }
    secure.until("all are there", |metrics| metrics.total.connections_opened == 4);
    secure.until("none is left", |metrics| metrics.connections_open() == 0);
    for mut stream in streams {
        let heard = everything(&mut stream);
        assert!(!heard.starts_with(b"HTTP"), "no answer that it could not read");
    }
    secure.until("three had begun", |metrics| metrics.tls.failed_ended == 3);
}

#[test]
fn a_request_behind_which_the_end_is_said_is_answered() {
    let secure = Secure::new(config(), false);
    for version in [&TLS13, &TLS12] {
        for shuts in [true, false] {
            let mut stream = secure.open(&Arc::new(secure.trust(version)));
            stream.write_all(b"GET /big/3000000 HTTP/1.1\r\nHost: edge\r\n\r\n").unwrap();
            stream.conn.send_close_notify();
            stream.flush().unwrap();
            if shuts {
                stream.sock.shutdown(Shutdown::Write).unwrap();
            }
            let answer = everything(&mut stream);
            assert!(answer.ends_with(&pattern(3_000_000)), "{} bytes", answer.len());
        }
    }
    secure.until("none is left", |metrics| metrics.tls.open() == 0 && metrics.connections_open() == 0);
}

#[test]
fn who_comes_back_resumes_whichever_shard_it_meets() {
    let secure = Secure::new(EdgeConfig { shards: 4, ..config() }, false);
    let config = Arc::new(secure.trust(&TLS13));
    for _ in 0..20 {
        let mut stream = secure.open(&config);
        stream.write_all(b"GET /x HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n").unwrap();
        assert!(everything(&mut stream).starts_with(b"HTTP/1.1 200"));
    }
    secure
        .until("all but the first", |metrics| (metrics.tls.handshakes_full, metrics.tls.handshakes_resumed) == (1, 19));
}

#[test]
fn a_changed_certificate_is_for_new_handshakes_and_old_sessions_go_on() {
    let secure = Secure::new(config(), false);
    let (old, dir) = (Arc::new(secure.trust(&TLS13)), secure._dir.path());
    let mut client = Client::over(secure.open(&old), Encoding::Json);
    client.hear();
    client.enter("ada");
    std::fs::remove_file(dir.join("cert.pem")).unwrap();
    secure.identity.reload_changed(unix_s()).unwrap();
    // A session of before is resumed without a certificate: so one that has no ticket.
    let mut fresh = secure.trust(&TLS13);
    let mut distrusting = secure.open(&{
        let mut config = (*old).clone();
        config.resumption = rustls::client::Resumption::disabled();
        Arc::new(config)
    });
    assert!(distrusting.write_all(b"GET / HTTP/1.1\r\n\r\n").is_err(), "it trusts the old one alone");
    let _ = distrusting.conn.write_tls(&mut distrusting.sock);
    secure.until("told by an alert", |metrics| metrics.tls.failed_refused == 1);
    fresh.resumption = rustls::client::Resumption::disabled();
    let mut stream = secure.open(&Arc::new(fresh));
    stream.write_all(b"GET /x HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n").unwrap();
    assert!(everything(&mut stream).starts_with(b"HTTP/1.1 200"));
    client.say(2, publish("still here"));
    assert_eq!(client.hear_frame().rid, 2);
}

#[test]
fn who_finds_no_room_hears_an_alert_where_only_tls_is_spoken() {
    let secure = Secure::new(EdgeConfig { shards: 1, connections_max: 1, ..config() }, false);
    let trust = Arc::new(secure.trust(&TLS13));
    let mut first = Client::over(secure.open(&trust), Encoding::Json);
    first.hear();
    first.enter("ada");
    let mut second = secure.open(&trust);
    // It may be told before it has said anything.
    let error =
        second.write_all(b"GET / HTTP/1.1\r\n\r\n").err().unwrap_or_else(|| second.read(&mut [0; 1]).unwrap_err());
    assert!(error.to_string().contains("InternalError"), "{error}");
    first.say(2, publish("still here"));
    assert_eq!(first.hear_frame().rid, 2);
}

#[test]
fn forged_bytes_end_a_session_and_are_counted() {
    let secure = Secure::new(config(), false);
    let mut client = Client::over(secure.open(&Arc::new(secure.trust(&TLS13))), Encoding::Json);
    client.hear();
    client.enter("ada");
    client
        .stream
        .sock
        .write_all(&[23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20])
        .unwrap();
    let error = client.stream.read(&mut [0; 1]).unwrap_err();
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    secure.until("counted, and gone", |metrics| {
        metrics.tls.broken == 1 && metrics.tls.open() == 0 && metrics.connections_open() == 0
    });
}
