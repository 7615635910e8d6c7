//! A real `roost serve` as a child process, and a client that knows the JSON form only.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The `roost` binary with `args`.
pub(crate) fn roost(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roost"));
    command.args(args).env_clear().stdin(Stdio::null());
    // The tests are run once with each driver.
    command.envs(std::env::var_os("ROOST_DRIVER").map(|driver| ("ROOST_DRIVER", driver)));
    command
}

/// A server in a folder.
pub(crate) struct Server {
    child: Child,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Server {
    /// Starts one on free ports with its data in `folder/data`.
    pub(crate) fn start(folder: &Path, flags: &[&str]) -> Self {
        Self::start_by(folder, flags, roost)
    }

    /// The same with so many descriptors.
    pub(crate) fn start_with_descriptors(folder: &Path, flags: &[&str], descriptors: u32) -> Self {
        Self::start_by(folder, flags, |args| {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("ulimit -n {descriptors} && exec \"$@\""), "sh", env!("CARGO_BIN_EXE_roost")]);
            command.args(args).env_clear().stdin(Stdio::null());
            command
        })
    }

    fn start_by(folder: &Path, flags: &[&str], command: impl Fn(&[&str]) -> Command) -> Self {
        let ready = folder.join("ready.json");
        let _ = std::fs::remove_file(&ready);
        let data = folder.join("data");
        let mut args = vec!["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log", "warn"];
        args.extend(["--data", data.to_str().unwrap(), "--ready-file", ready.to_str().unwrap()]);
        args.extend(["--drain-window", "200ms"]);
        if !flags.contains(&"--drain-deadline") {
            args.extend(["--drain-deadline", "1s"]);
        }
        args.extend(flags);
        // Two shards even where a machine of two cores would have one: what passes between them is tested too.
        let mut child =
            command(&args).env("ROOST_SHARDS", "2").stdout(Stdio::null()).spawn().expect("the binary is built");
        let began = Instant::now();
        let told = loop {
            if let Ok(line) = std::fs::read_to_string(&ready) {
                break serde_json::from_str::<Value>(&line).unwrap();
            }
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the server ended with {status}");
            }
            assert!(began.elapsed() < PATIENCE, "the server did not become ready");
            std::thread::sleep(Duration::from_millis(5));
        };
        let address = |name: &str| told[name].as_str().unwrap().parse().unwrap();
        Self { child, listen: address("listen"), admin: address("admin") }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end.
    pub(crate) fn ended(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    pub(crate) fn stop(self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.ended()
    }

    /// Status and body of an HTTP exchange, by hand.
    pub(crate) fn http(
        &self,
        address: SocketAddr,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> (u16, String) {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    }

    pub(crate) fn get(&self, address: SocketAddr, path: &str) -> (u16, String) {
        self.http(address, "GET", path, "", "")
    }

    /// The sum of the series of a metric whose line has all `parts`.
    pub(crate) fn metric(&self, parts: &[&str]) -> f64 {
        let (status, page) = self.get(self.admin, "/metrics");
        assert_eq!(status, 200);
        let lines = page.lines().filter(|line| !line.starts_with('#') && parts.iter().all(|part| line.contains(part)));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    pub(crate) fn guest(&self, name: &str) -> Guest {
        let body = json!({ "name": name }).to_string();
        let (status, answer) = self.http(self.listen, "POST", "/v1/guest", "Content-Type: application/json\r\n", &body);
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        Guest { user: text("user"), token: text("token") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Only a test that failed leaves it running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) user: String,
    pub(crate) token: String,
}

/// A folder that is gone after the test.
pub(crate) fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    (folder, path)
}

/// Why an exchange did not end well.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The connection is gone: whatever was asked may or may not have happened.
    Gone,
    /// The server said no.
    Error(Value),
}

/// A socket and what arrived on it beside the replies.
pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    rid: u64,
    pub(crate) pushes: Vec<Value>,
}

impl Client {
    /// A socket that has not sent CONNECT.
    pub(crate) async fn open(server: SocketAddr) -> Self {
        let (socket, _) = connect_async(format!("ws://{server}/ws")).await.unwrap();
        Self { socket, rid: 0, pushes: Vec::new() }
    }

    pub(crate) async fn connect(server: SocketAddr, guest: &Guest) -> Self {
        let mut client = Self::open(server).await;
        let connect = json!({ "token": guest.token, "device": "test" });
        client.ask("connect", connect, "welcome").await.unwrap();
        client
    }

    pub(crate) async fn say(&mut self, frame: &Value) -> Result<(), Failed> {
        self.socket.send(Message::text(frame.to_string())).await.map_err(|_| Failed::Gone)
    }

    /// The next frame.
    pub(crate) async fn hear(&mut self) -> Result<Value, Failed> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("the server is silent");
            match message {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Failed::Gone),
                Some(Ok(_)) => {}
            }
        }
    }

    /// Sends a command and waits for its reply; pushes that come before it are kept.
    pub(crate) async fn ask(&mut self, command: &str, body: Value, reply: &str) -> Result<Value, Failed> {
        self.rid += 1;
        let rid = self.rid;
        self.say(&json!({ "rid": rid, command: body })).await?;
        loop {
            let mut frame = self.hear().await?;
            if frame["rid"] != rid {
                self.pushes.push(frame);
            } else if frame.get("error").is_some() {
                return Err(Failed::Error(frame["error"].take()));
            } else {
                assert!(frame.get(reply).is_some(), "wanted {reply}: {frame}");
                return Ok(frame[reply].take());
            }
        }
    }

    pub(crate) async fn direct(&mut self, with: &Guest) -> String {
        let create = json!({ "kind": "direct", "members": [with.user] });
        let made = self.ask("create", create, "conversation").await.unwrap();
        made["conv"].as_str().unwrap().to_owned()
    }

    /// Every entry of a conversation.
    pub(crate) async fn history(&mut self, conv: &str) -> Vec<Value> {
        let mut entries = Vec::new();
        loop {
            let after = entries.len();
            let ask = json!({ "conv": conv, "after": after, "limit": 500 });
            let mut page = self.ask("history", ask, "page").await.unwrap();
            let Value::Array(more) = page["entries"].take() else { panic!("{page}") };
            if more.is_empty() {
                return entries;
            }
            entries.extend(more);
        }
    }
}
