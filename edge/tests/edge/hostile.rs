//! Clients that mean harm, by raw sockets: each is answered and counted, and the others go on.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use roost_edge::{DriverKind, EdgeConfig, OriginPolicy, Subnet};
use roost_wire::{Encoding, FrameBody, pb};
use socket2::{Domain, Socket, Type};

use crate::support::{Client, PATIENCE, Server, config, send, serve};

/// Everybody is limited, this machine too.
fn nobody_exempt() -> EdgeConfig {
    EdgeConfig { addresses_exempt: Vec::new(), ..config() }
}

/// A connection from an address of this machine.
fn connect_from(ip: [u8; 4], server: &Server) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((ip, 0)).into()).unwrap();
    socket.connect(&server.addr.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn connect(server: &Server) -> TcpStream {
    connect_from([127, 0, 0, 1], server)
}

/// Everything until the end; a reset is an end too.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let (mut all, mut buf) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut buf) {
            Ok(0) => return all,
            Ok(n) => all.extend_from_slice(&buf[..n]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return all,
            Err(error) => panic!("neither an answer nor an end: {error}"),
        }
    }
}

/// The status of the response that ends the connection; 0 if there is none.
fn status(stream: &mut TcpStream) -> u16 {
    let answer = String::from_utf8_lossy(&rest(stream)).into_owned();
    answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0)
}

/// Sends as much as the server takes.
fn flood(stream: &mut TcpStream, bytes: &[u8], most: usize) {
    let mut sent = 0;
    while sent < most {
        match stream.write(bytes) {
            Ok(0) => return,
            Ok(n) => sent += n,
            // Closed on us.
            Err(_) => return,
        }
    }
}

/// A masked frame with the mask 0.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// A neighbour gets its answer.
fn served(neighbour: &mut Client) {
    neighbour.say(77, send("are you there"));
    while neighbour.hear_frame().rid != 77 {}
}

#[test]
fn a_head_that_comes_byte_by_byte_has_the_same_deadline() {
    let mut config = config();
    config.shard.head_within = Duration::from_millis(400);
    let server = serve(config);
    let mut neighbour = Client::connect(server.addr, Encoding::Json, "ada");
    let mut slow = connect(&server);
    let began = Instant::now();
    for byte in b"GET /ws HTTP/1.1\r\nHost: edge\r\nX: ".iter().chain(std::iter::repeat(&b'x')) {
        if slow.write_all(&[*byte]).is_err() || server.handle().metrics().total.refused_head_late == 1 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "each byte buys it more time");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(matches!(status(&mut slow), 408 | 0));
    server.until("counted", |metrics| metrics.total.refused_head_late == 1);
    served(&mut neighbour);
}

#[test]
fn a_body_that_comes_byte_by_byte_has_a_deadline() {
    let mut config = config();
    config.shard.request_within = Duration::from_millis(400);
    let server = serve(config);
    let mut slow = connect(&server);
    slow.write_all(b"POST /up HTTP/1.1\r\nHost: edge\r\nContent-Length: 100000\r\n\r\n").unwrap();
    let began = Instant::now();
    while slow.write_all(b"x").is_ok() && server.handle().metrics().total.refused_request_late == 0 {
        assert!(began.elapsed() < PATIENCE, "each byte buys it more time");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(matches!(status(&mut slow), 408 | 0));
    server.until("let go", |metrics| metrics.total.refused_request_late == 1 && metrics.connections_open() == 0);
}

#[test]
fn heads_that_two_readers_could_read_differently_are_refused() {
    let server = serve(config());
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let many = "X: y\r\n".repeat(70);
    let large = format!("X: {}\r\n", "y".repeat(17 * 1024));
    let cases = [
        ("CL and TE", "POST / HTTP/1.1\r\nHost: e\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n".into(), 400),
        ("two CL", "POST / HTTP/1.1\r\nHost: e\r\nContent-Length: 4\r\nContent-Length: 5\r\n".into(), 400),
        ("signed CL", "POST / HTTP/1.1\r\nHost: e\r\nContent-Length: +4\r\n".into(), 400),
        ("upgrade with CL", format!("GET /ws HTTP/1.1\r\nHost: e\r\nContent-Length: 4\r\n{upgrade}"), 400),
        ("upgrade with TE", format!("GET /ws HTTP/1.1\r\nHost: e\r\nTransfer-Encoding: chunked\r\n{upgrade}"), 400),
        ("two Host", "GET / HTTP/1.1\r\nHost: e\r\nHost: f\r\n".into(), 400),
        ("no Host", "GET / HTTP/1.1\r\nX: y\r\n".into(), 400),
        (
            "two keys",
            format!("GET /ws HTTP/1.1\r\nHost: e\r\n{upgrade}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
            400,
        ),
        ("folded line", "GET / HTTP/1.1\r\nHost: e\r\nX: a\r\n b\r\n".into(), 400),
        ("blank before colon", "GET / HTTP/1.1\r\nHost: e\r\nContent-Length : 4\r\n".into(), 400),
        ("bare LF", "GET / HTTP/1.1\nHost: e\nX: y\n\n".into(), 400),
        ("another host in the target", format!("GET http://evil/ws HTTP/1.1\r\nHost: e\r\n{upgrade}"), 400),
        ("HTTP/1.0 upgrade", format!("GET /ws HTTP/1.0\r\nHost: e\r\n{upgrade}"), 400),
        ("HTTP/2 preface", "PRI * HTTP/2.0\r\n".into(), 400),
        ("another version", format!("GET /ws HTTP/1.1\r\nHost: e\r\n{}", upgrade.replace("13", "8")), 426),
        ("many fields", format!("GET / HTTP/1.1\r\nHost: e\r\n{many}"), 431),
        ("large head", format!("GET / HTTP/1.1\r\nHost: e\r\n{large}"), 431),
    ];
    let count = cases.len() as u64;
    for (name, head, want) in cases {
        let mut stream = connect(&server);
        // What would be smuggled stands behind; nobody may answer it.
        let _ = stream.write_all(format!("{head}\r\nGET /smuggled HTTP/1.1\r\nHost: e\r\n\r\n").as_bytes());
        let answer = String::from_utf8_lossy(&rest(&mut stream)).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {want} ")), "{name}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: {answer}");
    }
    let total = server.handle().metrics().total;
    assert_eq!((total.refused_head_malformed + total.refused_head_large, total.refused_head_large), (count, 2));
    assert_eq!((total.upgrades, total.http_opened), (0, 0));
    // The absolute form itself is lawful.
    let mut stream = connect(&server);
    write!(stream, "GET http://e/ws HTTP/1.1\r\nHost: e\r\n{upgrade}\r\n").unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
}

#[test]
fn an_origin_is_let_in_only_if_it_is_one_of_the_list_to_the_letter() {
    let mut config = config();
    config.shard.origins = OriginPolicy::Listed(vec!["https://ok.example".into()]);
    let server = serve(config);
    let ask = |origin: &str| {
        let mut stream = connect(&server);
        write!(
            stream,
            "GET /ws HTTP/1.1\r\nHost: ok.example\r\nOrigin: {origin}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[9..]).into_owned()
    };
    assert_eq!(ask("https://ok.example"), "101");
    let strangers = [
        "null",
        "http://ok.example",
        "https://ok.example.evil",
        "https://ok.example:444",
        "https://ok.example/",
        "https://evil/https://ok.example",
        "https://sub.ok.example",
        "https://okXexample",
        "https://OK.example.",
    ];
    for origin in strangers {
        assert_eq!(ask(origin), "403", "{origin}");
    }
    assert_eq!(server.handle().metrics().total.refused_origin, strangers.len() as u64);
}

#[test]
fn one_address_holds_so_many_connections_and_not_one_more() {
    let server = serve(EdgeConfig { connections_per_address_max: 3, ..nobody_exempt() });
    let mut held: Vec<_> = (0..3).map(|_| connect(&server)).collect();
    let mut fourth = connect(&server);
    assert_eq!(status(&mut fourth), 429);
    let mut neighbour = Client::upgrade(connect_from([127, 0, 0, 2], &server), Encoding::Json);
    assert!(matches!(neighbour.hear_frame().body, Some(FrameBody::Hello(_))), "another address");
    assert_eq!(server.handle().metrics().accept_refused_address, 1);
    // One that ends makes room, as soon as its descriptor is closed.
    held.pop().unwrap().shutdown(Shutdown::Both).unwrap();
    let began = Instant::now();
    loop {
        let mut next = connect(&server);
        next.write_all(b"GET /room HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n").unwrap();
        if status(&mut next) == 200 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "no room though one has left");
        std::thread::sleep(Duration::from_millis(50));
    }
    let labels = |reason: &'static str| move |label: &(&str, std::borrow::Cow<'_, str>)| label.1 == reason;
    let metrics = server.handle().metrics();
    assert!(metrics.iter().any(|sample| sample.labels.iter().any(labels("address")) && sample.value >= 1.0));
}

#[test]
fn a_proxy_that_is_exempt_brings_as_many_as_it_likes() {
    let exempt: Vec<Subnet> = vec!["127.0.0.3".parse().unwrap()];
    let server = serve(EdgeConfig { connections_per_address_max: 2, addresses_exempt: exempt, ..config() });
    let proxy: Vec<_> = (0..20).map(|_| connect_from([127, 0, 0, 3], &server)).collect();
    server.until("all in", |metrics| metrics.connections_open() == 20);
    let _two = [connect(&server), connect(&server)];
    // Accepted at once they would not be counted in their order.
    server.until("two more in", |metrics| metrics.connections_open() == 22);
    assert_eq!(status(&mut connect(&server)), 429);
    drop(proxy);
}

#[test]
fn connections_that_say_nothing_make_room_for_those_that_do() {
    let server = serve(EdgeConfig { shards: 1, unauthenticated_max: 8, ..config() });
    let mut neighbour = Client::connect(server.addr, Encoding::Json, "ada");
    let mut silent: Vec<_> = (0..8)
        .map(|number| {
            let stream = connect(&server);
            server.until("in", |metrics| metrics.connections_open() == number + 2);
            stream
        })
        .collect();
    let _waiting = Client::open(server.addr, Encoding::Json);
    assert_eq!(status(&mut silent[0]), 503, "the oldest goes, and is told");
    assert_eq!(server.handle().metrics().total.refused_unauthenticated, 1);
    // However many come, who sends CONNECT gets in.
    for number in 0..100 {
        silent.push(connect(&server));
        if number % 10 == 0 {
            Client::connect(server.addr, Encoding::Json, &format!("g{number}"));
        }
    }
    let total = server.handle().metrics().total;
    assert!(total.unauthenticated_opened - total.unauthenticated_closed <= 8, "{total:?}");
    served(&mut neighbour);
    let metrics = server.handle().metrics();
    assert!(metrics.iter().any(|sample| sample.name == "roost_connections_unauthenticated" && sample.value <= 8.0));
}

#[test]
fn a_flood_of_pings_is_closed_with_4504_and_the_neighbours_are_served() {
    let server = serve(EdgeConfig { shards: 1, ..config() });
    let mut neighbour = Client::connect(server.addr, Encoding::Json, "ada");
    for guest in ["", "mallory"] {
        // Before CONNECT as well as after it.
        let mut attacker = if guest.is_empty() {
            Client::open(server.addr, Encoding::Json)
        } else {
            Client::connect(server.addr, Encoding::Json, guest)
        };
        let mut stream = attacker.stream.try_clone().unwrap();
        let pings = frame(0x89, b"0123456789").repeat(1000);
        let flooding = std::thread::spawn(move || flood(&mut stream, &pings, 64 << 20));
        served(&mut neighbour);
        assert_eq!(attacker.hear_close(), Some(4504));
        flooding.join().unwrap();
    }
    server.until("counted", |metrics| metrics.total.closed_flood == 2);
    // A pong costs more than a ping: that there were few of them is the point.
    let total = server.handle().metrics().total;
    assert!(total.frames_out < 1000, "{total:?}");
    served(&mut neighbour);
}

#[test]
fn a_flood_of_tiny_frames_waits_in_the_senders_own_buffers() {
    let mut config = EdgeConfig { shards: 1, ..config() };
    (config.shard.frames_per_second, config.shard.frames_burst) = (2000, 2000);
    let server = serve(config);
    let mut neighbour = Client::connect(server.addr, Encoding::Json, "ada");
    let attacker = Client::connect(server.addr, Encoding::Json, "mallory");
    let mut stream = attacker.stream.try_clone().unwrap();
    let tiny = frame(0x81, br#"{"pong":{}}"#).repeat(100);
    let before = server.handle().metrics().total.frames_in;
    let began = Instant::now();
    let flooding = std::thread::spawn(move || {
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        flood(&mut stream, &tiny, 64 << 20);
    });
    server.until("not read for a while", |metrics| metrics.total.throttles >= 1);
    served(&mut neighbour);
    flooding.join().unwrap();
    let total = server.handle().metrics().total;
    // The burst, the rate, and what one read brings above them.
    let most = 2000 + 2000 * (began.elapsed().as_secs() + 1) + 64 * 1024 / 16;
    assert!(total.frames_in - before <= most, "{} frames, {most} at most", total.frames_in - before);
    served(&mut neighbour);
}

#[test]
fn what_is_begun_and_never_finished_is_closed_with_4005() {
    let mut config = config();
    config.shard.message_within = Duration::from_millis(400);
    let server = serve(config);
    let mut attacker = Client::connect(server.addr, Encoding::Json, "mallory");
    attacker.stream.write_all(&[0x81, 0xfe, 0x10, 0x00, 0, 0, 0, 0]).unwrap();
    let mut drip = attacker.stream.try_clone().unwrap();
    let dripping = std::thread::spawn(move || {
        while drip.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    assert_eq!(attacker.hear_close(), Some(4005));
    attacker.stream.shutdown(Shutdown::Both).unwrap();
    dripping.join().unwrap();
    server.until("counted", |metrics| metrics.total.closed_message_late == 1);
}

#[test]
fn frames_that_break_a_rule_are_closed_at_once_and_hold_no_memory() {
    let server = serve(config());
    let mut neighbour = Client::connect(server.addr, Encoding::Json, "ada");
    let announced = |len: u64| [&[0x81, 0xff][..], &len.to_be_bytes(), &[0; 4]].concat();
    let empty_fragments = [frame(0x01, b""), frame(0x00, b"").repeat(2000)].concat();
    let cases = [
        ("1 GiB announced", announced(1 << 30), 1009),
        ("2^63 announced", announced(1 << 63), 1002),
        ("a byte above the limit", announced(64 * 1024 + 1), 1009),
        ("fragments above the limit", [frame(0x01, &[b'x'; 40_000]), frame(0x00, &[b'x'; 40_000])].concat(), 1009),
        ("empty fragments", empty_fragments, 1009),
        ("reserved bit 1", frame(0xc1, b"{}"), 1002),
        ("reserved bit 2", frame(0xa1, b"{}"), 1002),
        ("reserved bit 3", frame(0x91, b"{}"), 1002),
        ("not masked", b"\x81\x02{}".to_vec(), 1002),
        ("bad UTF-8 in the second fragment", [frame(0x01, b"{\"a\":\"\xc3"), frame(0x00, b"\x28")].concat(), 1007),
        // The message goes on, and the answer does not wait for its end.
        ("bad UTF-8 before the end", [&[0x81, 0xfe, 0x40, 0x00, 0, 0, 0, 0][..], b"ab\xff\xff"].concat(), 1007),
        ("ping in pieces", frame(0x09, b"x"), 1002),
        ("long ping", frame(0x89, &[b'x'; 126]), 1002),
    ];
    let count = cases.len() as u64;
    for (name, bytes, want) in cases {
        let mut attacker = Client::connect(server.addr, Encoding::Json, "mallory");
        let _ = attacker.stream.write_all(&bytes);
        assert_eq!(attacker.hear_close(), Some(want), "{name}");
    }
    server.until("counted", |metrics| metrics.total.closed_protocol == count);
    served(&mut neighbour);
}

#[test]
fn a_reader_of_nothing_is_held_to_its_queue_and_closed() {
    let mut config = EdgeConfig { shards: 1, ..config() };
    config.shard.behind_within = Duration::from_millis(500);
    config.shard.frames_per_second = 0;
    let server = serve(config);
    let mut neighbour = Client::connect(server.addr, Encoding::Json, "ada");
    let attacker = Client::connect(server.addr, Encoding::Json, "mallory");
    // Each asks for an answer that is larger than the question, and none of them is read.
    let ask = attacker.message(9, FrameBody::Get(pb::Get { conv: "c_1".into() })).repeat(500);
    let mut stream = attacker.stream.try_clone().unwrap();
    let flooding = std::thread::spawn(move || flood(&mut stream, &ask, 256 << 20));
    server.until("closed", |metrics| metrics.total.closed_slow == 1);
    flooding.join().unwrap();
    served(&mut neighbour);
    drop(attacker);
}

#[test]
fn a_flood_of_connects_from_many_addresses_leaves_room_for_a_neighbour() {
    let server =
        serve(EdgeConfig { shards: 1, connections_per_address_max: 4, unauthenticated_max: 64, ..nobody_exempt() });
    let mut neighbour = Client::connect(server.addr, Encoding::Json, "ada");
    let mut held = Vec::new();
    for round in 0..400_u16 {
        let [high, low] = (round / 5).to_be_bytes();
        held.push(connect_from([127, 77, high, low], &server));
    }
    server.until("worked off", |metrics| metrics.accept_refused_address + metrics.total.connections_opened == 401);
    let metrics = server.handle().metrics();
    assert_eq!(metrics.accept_refused_address, 80, "the fifth of each");
    assert!(metrics.total.refused_unauthenticated >= 320 - 64, "{:?}", metrics.total);
    served(&mut neighbour);
    // And one who comes now gets in.
    let from: IpAddr = [127, 0, 0, 9].into();
    let IpAddr::V4(from) = from else { unreachable!("it is one") };
    let mut late = Client::upgrade(connect_from(from.octets(), &server), Encoding::Json);
    assert!(matches!(late.hear_frame().body, Some(FrameBody::Hello(_))));
}

#[test]
fn connections_leave_descriptors_for_the_rest_of_the_node() {
    // Connections of the io_uring driver have none: see `tables.rs`.
    let server = serve(EdgeConfig { descriptors_max: 4, driver: DriverKind::Poll, ..config() });
    let began = Instant::now();
    let mut held: Vec<_> = (0..4).map(|_| connect(&server)).collect();
    server.until("all in", |metrics| metrics.connections_open() == 4);
    // One is told each time accepting pauses.
    assert_eq!(status(&mut connect(&server)), 503);
    let waiting = connect(&server);
    server.until("pauses", |metrics| metrics.accept_pauses >= 2);
    let pauses = u128::from(server.handle().metrics().accept_pauses);
    let most = began.elapsed().as_millis() / 100 + 1;
    assert!(pauses <= most, "{pauses} pauses where at most {most} fit: that is a busy loop");
    held.clear();
    let began = Instant::now();
    loop {
        let mut next = connect(&server);
        next.write_all(b"GET /room HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n").unwrap();
        if status(&mut next) == 200 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "there is room again, and nobody gets it");
    }
    drop(waiting);
}
