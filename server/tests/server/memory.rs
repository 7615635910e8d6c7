//! A node whose memory runs out: it refuses who comes, and serves who is there.

use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::{Client, PATIENCE, Server, folder, roost};
use rustix::process::Signal;
use serde_json::{Value, json};

const LIMIT_BYTES: u64 = 1 << 30;

/// A machine of 8 GiB, and a control group of 1 GiB.
fn machine(root: &Path, used_bytes: u64) {
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // In one step: the server never reads half of it.
        let half = path.with_extension("half");
        std::fs::write(&half, text).unwrap();
        std::fs::rename(&half, &path).unwrap();
    };
    write("proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 8000000 kB\n");
    write("proc/self/cgroup", "0::/\n");
    write("sys/fs/cgroup/memory.max", &LIMIT_BYTES.to_string());
    write("sys/fs/cgroup/memory.current", &used_bytes.to_string());
}

/// Waits until `/readyz` answers so, and gives its body.
fn until_ready(server: &Server, wanted: u16) -> Value {
    let began = Instant::now();
    loop {
        let (status, body) = server.get(server.admin, "/readyz");
        if status == wanted {
            return serde_json::from_str(&body).unwrap();
        }
        assert!(began.elapsed() < PATIENCE, "/readyz stays at {status}: {body}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The answer to an upgrade that is refused.
fn upgrade(server: &Server) -> String {
    let mut stream = std::net::TcpStream::connect(server.listen).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    // Refused, the connection ends behind the answer.
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn without_memory_new_sessions_get_503_and_a_time_and_those_that_are_there_go_on() {
    let (_kept, path) = folder();
    let system = path.join("system");
    machine(&system, LIMIT_BYTES / 4);
    let flags = ["--system-root", system.to_str().unwrap(), "--memory-reserve", "256MiB"];
    let server = Server::start(&path, &flags);
    let (ada, bob) = (server.guest("Ada"), server.guest("Bob"));
    let mut client = Client::connect(server.listen, &ada).await;
    let conv = client.direct(&bob).await;
    assert_eq!(until_ready(&server, 200)["memory"], "ok");
    assert_eq!(server.metric(&["roost_memory_reserve_bytes"]), f64::from(256 << 20));
    assert_eq!(server.metric(&["roost_memory_available_bytes"]), (LIMIT_BYTES / 4 * 3) as f64);

    machine(&system, LIMIT_BYTES - (255 << 20));
    let told = until_ready(&server, 503);
    assert_eq!((&told["memory"], &told["phase"]), (&json!("nearly full"), &json!("ready")));
    let answer = upgrade(&server);
    let after = answer.lines().find_map(|line| line.strip_prefix("Retry-After: "));
    assert!(answer.starts_with("HTTP/1.1 503 ") && after.is_some_and(|after| after.parse::<u32>().is_ok()), "{answer}");
    assert_eq!(server.metric(&["roost_connections_refused_total", "\"memory\""]), 1.0);
    assert_eq!(server.metric(&["roost_memory_refusing"]), 1.0);
    let send = json!({ "conv": conv, "cmid": uuid::Uuid::now_v7().to_string(), "body": { "text": "still here" } });
    assert_eq!(client.ask("send", send, "sent").await.unwrap()["seq"], 1);
    assert_eq!(server.get(server.listen, "/").0, 200, "pages are served");

    // A little more than the reserve is not enough: it would be refusing again in a moment.
    machine(&system, LIMIT_BYTES - (257 << 20));
    let began = Instant::now();
    while server.metric(&["roost_memory_available_bytes"]) != f64::from(257 << 20) {
        assert!(began.elapsed() < PATIENCE, "nobody looks at the memory");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(server.get(server.admin, "/readyz").0, 503);
    machine(&system, LIMIT_BYTES / 4);
    assert_eq!(until_ready(&server, 200)["memory"], "ok");
    Client::connect(server.listen, &bob).await;
    assert_eq!(server.metric(&["roost_memory_refusing"]), 0.0);
    drop(client);
    assert!(server.stop(Signal::TERM).success());
}

#[test]
fn a_reserve_that_leaves_sessions_no_memory_is_a_wrong_setting() {
    let (_kept, path) = folder();
    let (system, data) = (path.join("system"), path.join("data"));
    machine(&system, 0);
    let mut args = vec!["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--memory-reserve", "513MiB"];
    args.extend(["--system-root", system.to_str().unwrap(), "--data", data.to_str().unwrap()]);
    let output = roost(&args).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{told}");
    assert!(told.contains("memory_reserve: 537") && told.contains("more than half"), "{told}");
    assert!(!data.exists(), "the directory was touched");
}
