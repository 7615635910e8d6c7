//! What strangers may take of a whole server: descriptors, guests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::common::{Client, Failed, PATIENCE, Server, folder};
use rustix::process::Signal;
use serde_json::json;

/// Connections from one address after another.
fn crowd(server: &Server, count: u32) -> Vec<TcpStream> {
    let connect = |number: u32| {
        let [.., third, fourth] = (number / 100).to_be_bytes();
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 78, third, fourth], 0)).into()).unwrap();
        socket.connect_timeout(&server.listen.into(), PATIENCE).unwrap();
        TcpStream::from(socket)
    };
    (0..count).map(connect).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_use_up_the_descriptors_leave_the_store_and_the_admin_port_alive() {
    let (_folder, path) = folder();
    let server = Server::start_with_descriptors(&path, &["--driver", "poll"], 512);
    let began = Instant::now();
    let (ada, bob) = (server.guest("Ada"), server.guest("Bob"));
    let mut session = Client::connect(server.listen, &ada).await;
    let conv = session.direct(&bob).await;
    let crowd = crowd(&server, 700);
    let give_up = Instant::now() + PATIENCE;
    while server.metric(&["roost_accept_pauses_total"]) < 3.0 {
        assert!(Instant::now() < give_up, "700 connections fit into 512 descriptors?");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for number in 0..20 {
        assert_eq!(server.get(server.admin, "/livez").0, 200, "the admin port answers");
        assert_eq!(server.get(server.admin, "/readyz").0, 200);
        let send = json!({ "conv": conv, "cmid": number.to_string(), "body": { "text": "still here" } });
        assert_eq!(session.ask("send", send, "sent").await.unwrap()["seq"], number + 1, "sessions are served");
    }
    let open = server.metric(&["process_open_fds"]);
    assert!(open < 512.0, "{open} descriptors: some are left");
    // A pause lasts a tenth of a second: more of them would be a busy loop.
    let pauses = server.metric(&["roost_accept_pauses_total"]);
    let most = began.elapsed().as_secs_f64() * 10.0 + 1.0;
    assert!(pauses <= most, "{pauses} pauses where at most {most} fit");
    drop(crowd);
    let give_up = Instant::now() + PATIENCE;
    loop {
        let (status, _) = server.http(server.listen, "GET", "/", "", "");
        if status == 200 {
            break;
        }
        assert!(Instant::now() < give_up, "there is room again, and nobody gets it");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(server.stop(Signal::TERM).success());
}

/// The whole answer to a new guest from `ip`.
fn guest_from(server: &Server, ip: [u8; 4]) -> String {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((ip, 0)).into()).unwrap();
    socket.connect(&server.listen.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(
            b"POST /v1/guest HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{\"name\":\"Ada\"}",
        )
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_of_one_address_are_counted_over_http_and_sockets_together() {
    let (_folder, path) = folder();
    let server = Server::start(&path, &["--addresses-exempt", "none", "--guests-per-minute", "3"]);
    let connect = json!({ "guest": "Ada", "device": "laptop" });
    let mut first = Client::open(server.listen).await;
    first.ask("connect", connect.clone(), "welcome").await.unwrap();
    for _ in 0..2 {
        assert!(guest_from(&server, [127, 0, 0, 1]).starts_with("HTTP/1.1 200 "));
    }
    let answer = guest_from(&server, [127, 0, 0, 1]).to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 429 ") && answer.contains("retry-after: "), "{answer}");
    assert!(answer.contains("\"code\":400") && answer.contains("\"retryable\":true"), "{answer}");
    let mut late = Client::open(server.listen).await;
    match late.ask("connect", connect, "welcome").await {
        Err(Failed::Error(error)) => {
            assert_eq!((&error["code"], &error["retryable"]), (&json!(400), &json!(true)), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(late.hear().await, Err(Failed::Gone)), "and the connection is closed");
    assert!(guest_from(&server, [127, 0, 0, 2]).starts_with("HTTP/1.1 200 "), "another address");
    assert!(server.metric(&["roost_guests_refused_total"]) >= 2.0);
    assert!(server.metric(&["roost_websocket_closes_total", "overloaded"]) >= 1.0);
    assert!(server.stop(Signal::TERM).success());
}
