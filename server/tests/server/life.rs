//! A node's life with real clients: drain, a full disk, health.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::{Client, Failed, PATIENCE, Server, folder, roost};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

#[tokio::test]
async fn f31_sigterm_asks_clients_to_leave_and_stops_when_they_did() {
    let (_folder, path) = folder();
    let server = Server::start(&path, &["--drain-deadline", "20s"]);
    let guest = server.guest("Ada");
    let mut client = Client::connect(server.listen, &guest).await;
    server.signal(Signal::TERM);
    let goaway = loop {
        let frame = client.hear().await.unwrap();
        if let Some(goaway) = frame.get("goaway") {
            break goaway.clone();
        }
    };
    assert_eq!(goaway["reason"], "drain");
    assert!(goaway["slot_ms"].as_u64().unwrap() <= goaway["deadline_ms"].as_u64().unwrap());
    assert_eq!(server.get(server.admin, "/readyz").0, 503);
    assert_eq!(server.get(server.admin, "/livez").0, 200);
    // Served until it leaves.
    client.ask("ping", json!({}), "pong").await.unwrap();
    drop(client);
    assert!(server.ended().success());
}

/// Whatever is under way in the kernel is brought to its end first.
#[test]
fn an_orderly_stop_has_nothing_to_warn_of() {
    let (_folder, path) = folder();
    let [data, ready] = ["data", "ready.json"].map(|name| path.join(name).to_str().unwrap().to_owned());
    let addresses = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let files = ["--data", &data, "--ready-file", &ready];
    let args = [&["serve", "--log", "warn"][..], &addresses, &files].concat();
    let child = roost(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while !std::path::Path::new(&ready).exists() {
        assert!(began.elapsed() < PATIENCE, "the server did not become ready");
        std::thread::sleep(Duration::from_millis(5));
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.success(), String::from_utf8(output.stderr).unwrap().as_str()), (true, ""));
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let (_folder, path) = folder();
    let server = Server::start(&path, &["--drain-deadline", "3600s"]);
    let guest = server.guest("Ada");
    let mut client = Client::connect(server.listen, &guest).await;
    server.signal(Signal::TERM);
    while client.hear().await.unwrap().get("goaway").is_none() {}
    server.signal(Signal::TERM);
    while client.hear().await.is_ok() {}
    assert!(server.ended().success());
}

#[tokio::test]
async fn f06_guests_may_be_switched_off() {
    let (_folder, path) = folder();
    let server = Server::start(&path, &["--guests", "false"]);
    let body = json!({ "name": "Ada" }).to_string();
    let (status, answer) = server.http(server.listen, "POST", "/v1/guest", "Content-Type: application/json\r\n", &body);
    assert_eq!(status, 403, "{answer}");
    assert!(answer.contains("\"code\":202"), "{answer}");
    let mut client = Client::open(server.listen).await;
    let refused = client.ask("connect", json!({ "guest": "Ada", "device": "d" }), "welcome").await;
    assert!(matches!(refused, Err(Failed::Error(error)) if error["code"] == 202));
}

#[tokio::test]
async fn a_refreshed_token_is_the_same_user() {
    let (_folder, path) = folder();
    let server = Server::start(&path, &[]);
    let guest = server.guest("Ada");
    let bearer = format!("Authorization: Bearer {}\r\n", guest.token);
    let (status, answer) = server.http(server.listen, "POST", "/v1/refresh", &bearer, "");
    assert_eq!(status, 200, "{answer}");
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["user"], guest.user.as_str());
    let (status, _) = server.http(server.listen, "POST", "/v1/refresh", "Authorization: Bearer x.y.z\r\n", "");
    assert_eq!(status, 401);
}

#[tokio::test]
async fn a_bad_http_request_gets_a_coded_error() {
    let (_folder, path) = folder();
    let server = Server::start(&path, &[]);
    let json_type = "Content-Type: application/json\r\n";
    for (path, headers, body, want) in [
        ("/v1/guest", json_type, "{", (400, "\"code\":100")),
        ("/v1/guest", "", "{}", (400, "application/json")),
        ("/v1/guest", json_type, r#"{"name":""}"#, (400, "\"code\":104")),
        ("/v1/guest", json_type, &format!(r#"{{"name":"{}"}}"#, "x".repeat(200_000)), (413, "\"code\":403")),
        ("/v1/publish", json_type, "{}", (401, "\"code\":200")),
        ("/nothing", json_type, "{}", (404, "nothing")),
    ] {
        let (status, answer) = server.http(server.listen, "POST", path, headers, body);
        assert_eq!(status, want.0, "{path}: {answer}");
        assert!(answer.contains(want.1), "{path}: {answer}");
    }
    assert_eq!(server.get(server.listen, "/ws").0, 426);
    assert_eq!(server.get(server.listen, "/../Cargo.toml").0, 404);
}

#[tokio::test]
async fn f34_a_connection_that_served_a_page_is_not_kept_for_an_upgrade_it_cannot_become() {
    use std::io::{Read, Write};
    let (_folder, path) = folder();
    let server = Server::start(&path, &[]);
    let mut stream = std::net::TcpStream::connect(server.listen).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nHost: {}\r\n\r\n", server.listen).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let head = answer.split("\r\n\r\n").next().unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 200") && head.contains("connection: close"), "{head}");
}
