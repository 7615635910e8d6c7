//! Many clients against servers of other hands.
#![cfg(target_os = "linux")]

mod common;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Run, io_uring, run};
use serde_json::Value;

const CLIENTS: u64 = 300;
const PUBLISHES: u64 = 32;

/// A mosquitto with a listener for WebSocket.
struct Mosquitto {
    child: Child,
    at: SocketAddr,
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// `None`: there is none here.
fn mosquitto(folder: &Path) -> Option<Mosquitto> {
    // Debian keeps servers where the path of a user does not lead.
    let places = ["mosquitto", "/usr/sbin/mosquitto"];
    let program = places.into_iter().find(|place| Command::new(place).arg("-h").output().is_ok());
    let Some(program) = program else {
        eprintln!("not tested here: there is no mosquitto (apt-get install mosquitto)");
        return None;
    };
    let (own, at, file) = (free(), free(), folder.join("mosquitto.conf"));
    let text = format!(
        "user root\nallow_anonymous true\npersistence false\nlog_dest none\nlistener {} 127.0.0.1\n\
        listener {} 127.0.0.1\nsocket_domain ipv4\nprotocol websockets\n",
        own.port(),
        at.port()
    );
    std::fs::write(&file, text).unwrap();
    let child = Command::new(program).arg("-c").arg(&file).stdin(Stdio::null()).spawn().unwrap();
    let mut server = Mosquitto { child, at };
    let until = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(at).is_err() {
        assert!(server.child.try_wait().unwrap().is_none(), "mosquitto ended");
        assert!(Instant::now() < until, "mosquitto does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    Some(server)
}

fn number(run: &Run, pointer: &str) -> u64 {
    let report = run.report();
    report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer} in {report:#}"))
}

#[test]
fn a_broker_of_mqtt_tells_everybody_and_each_byte_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let (Some(()), Some(server)) = (io_uring(), mosquitto(folder.path())) else { return };
    let (target, pid) = (format!("ws://{}/mqtt", server.at), server.child.id().to_string());
    let (clients, publishes) = (CLIENTS.to_string(), PUBLISHES.to_string());
    let run = run(&[
        "hold",
        "--protocol",
        "mqtt",
        "--connections",
        &clients,
        "--for",
        "2s",
        "--heartbeat",
        "1s",
        "--publishes",
        &publishes,
        "--publish-rate",
        "32",
        "--burst",
        "8",
        "--target",
        &target,
        "--server-pid",
        &pid,
    ]);
    // How fast this machine is today is not what this is about.
    assert!([0, 5].contains(&run.code), "{}", run.output);
    assert_eq!(number(&run, "/sessions/held"), CLIENTS);
    assert_eq!(number(&run, "/deliveries/pushed"), CLIENTS * PUBLISHES);
    for none in ["/sessions/lost", "/deliveries/missing", "/duplicated", "/reordered", "/garbled"] {
        assert_eq!(number(&run, none), 0, "{none}");
    }
    assert!(number(&run, "/heartbeats/answered") >= CLIENTS);
}

#[test]
fn what_cannot_be_done_with_another_protocol_is_wrong_usage() {
    for (args, why) in [
        (&["hold", "--protocol", "nats"][..], "needs a --target"),
        (&["echo", "--protocol", "mqtt", "--target", "ws://127.0.0.1:9/"], "only a plain server"),
        (&["hold", "--protocol", "centrifugo", "--target", "ws://127.0.0.1:9/", "--token-key", "k"], "only roost"),
        (&["broadcast", "--protocol", "mqtt"], "needs a --target"),
        (&["idle", "--protocol", "mqtt"], "possible values: roost, plain"),
    ] {
        let run = run(args);
        assert_eq!(run.code, 2, "{args:?}: {}", run.output);
        assert!(run.output.contains(why), "{args:?}: {}", run.output);
    }
}
