//! Workers on this machine: they put one load on together, and one that dies is survived and said.

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Run, command, finished, run};
use serde_json::Value;

/// A worker that lives as long as this.
struct Worker {
    child: Child,
    address: String,
}

impl Worker {
    fn start(flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roost-load"));
        command.args(["worker", "--listen", "127.0.0.1:0", "--quiet"]).args(flags);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("worker at ").unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { child, address }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number(report: &Value, pointer: &str) -> u64 {
    report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer} in {report:#}"))
}

/// Deliveries that the per-second series has.
fn in_series(report: &Value, name: &str) -> u64 {
    report["series"].as_array().unwrap().iter().map(|second| second[name].as_u64().unwrap()).sum()
}

const QUICK: [&str; 7] = ["quick", "--clients", "101", "--rate", "300", "--for", "2s"];

fn together(workers: &[&Worker], flags: &[&str]) -> Run {
    let addresses: Vec<&str> = workers.iter().map(|worker| &*worker.address).collect();
    run(&[&QUICK[..], &["--workers", &addresses.join(",")], flags].concat())
}

#[test]
fn two_workers_put_one_load_on_and_their_results_add_up() {
    let workers = [Worker::start(&[]), Worker::start(&[])];
    let run = together(&[&workers[0], &workers[1]], &[]);
    assert!([0, 5].contains(&run.code), "{}", run.output);
    let report = run.report();
    let parts = report["workers"].as_array().unwrap();
    assert_eq!(parts.len(), 2, "{report:#}");
    assert!(parts.iter().all(|part| part["state"] == "finished" && part["lost_because"].is_null()), "{parts:#?}");
    let clients: Vec<u64> = parts.iter().map(|part| part["clients"].as_u64().unwrap()).collect();
    assert_eq!(clients, [51, 50]);
    assert_eq!((number(report, "/sessions/wanted"), number(report, "/sessions/held")), (101, 101));
    let (sent, acknowledged) = (number(report, "/sends/sent"), number(report, "/sends/acknowledged"));
    // 600 expected with a deviation of 24: six of them.
    assert!((450..750).contains(&acknowledged), "{acknowledged}");
    assert!(parts.iter().all(|part| part["messages"].as_u64().unwrap() > 150), "both put load on: {parts:#?}");
    assert_eq!(parts.iter().map(|part| part["messages"].as_u64().unwrap()).sum::<u64>(), sent);
    // Histograms and ledgers are whole: every delivery is in the histogram, every entry was read.
    assert_eq!(number(report, "/delivery_us/count"), number(report, "/deliveries/pushed"));
    assert_eq!(number(report, "/ack_us/count"), acknowledged);
    assert_eq!(number(report, "/logs/entries_read"), acknowledged);
    let arrived = number(report, "/deliveries/pushed") + number(report, "/caught_up");
    assert_eq!(arrived, number(report, "/deliveries/expected"));
    assert_eq!(in_series(report, "sent"), sent);
    for name in ["/lost", "/duplicated", "/reordered", "/garbled", "/unverified", "/sends/unanswered"] {
        assert_eq!(number(report, name), 0, "{name}");
    }
    assert!(report["server"]["cpu_cores"].is_number() && report["partial"].is_null(), "{report:#}");
    // A worker serves one run after the other.
    let again = together(&[&workers[1]], &[]);
    assert!([0, 5].contains(&again.code), "{}", again.output);
    assert_eq!(number(again.report(), "/sessions/held"), 101);
}

#[test]
fn a_worker_that_is_killed_is_survived_and_said_and_its_clients_are_gone() {
    let (stays, mut dies) = (Worker::start(&[]), Worker::start(&[]));
    let out = tempfile::tempdir().unwrap();
    let addresses = format!("{},{}", stays.address, dies.address);
    let args = ["quick", "--clients", "100", "--rate", "200", "--for", "6s", "--workers", &addresses];
    let mut coordinator = command(&args, out.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(coordinator.stderr.take().unwrap());
    // Two seconds into the load.
    while !said.contains(" 2/6 s") {
        assert!(lines.read_line(&mut said).unwrap() > 0, "{said}");
    }
    dies.child.kill().unwrap();
    lines.read_to_string(&mut said).unwrap();
    let run = finished(coordinator.wait_with_output().unwrap(), out.path());
    assert!(said.contains("is lost"), "{said}");
    let report = run.report();
    assert_eq!(
        (run.code, &report["verdict"], &report["valid"]),
        (5, &"generator".into(), &false.into()),
        "{}",
        run.output
    );
    let parts = report["workers"].as_array().unwrap();
    let lost: Vec<&Value> = parts.iter().filter(|part| part["state"] == "lost").collect();
    assert_eq!(lost.len(), 1, "{parts:#?}");
    assert_eq!(lost[0]["address"], dies.address);
    let after = lost[0]["lost_after_s"].as_f64().unwrap();
    assert!((1.5..7.0).contains(&after), "{after}");
    let told = report["partial"].as_str().unwrap();
    assert!(told.contains(&dies.address) && told.contains("its 50 clients count as gone"), "{told}");
    assert!(report["reasons"].as_array().unwrap().iter().any(|reason| reason.as_str().unwrap().contains("was lost")));
    // Who is left went on to the end, and all that was told stays.
    assert_eq!((number(report, "/sessions/wanted"), number(report, "/sessions/held")), (100, 50));
    assert_eq!(report["sessions"]["ends"]["its worker was lost"], 50);
    let (all, stayed) = (number(report, "/sends/sent"), parts[0]["messages"].as_u64().unwrap());
    assert!(stayed > 400 && all > stayed + 100, "{all} {stayed}");
    assert_eq!((number(report, "/lost"), number(report, "/duplicated")), (0, 0));
}

#[test]
fn a_secret_is_wanted_and_known() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (secret, other) = (file("secret", "0123456789abcdef\n"), file("other", "fedcba9876543210\n"));
    let worker = Worker::start(&["--token-file", &secret]);
    for (flags, said) in
        [(vec![], "it wants a shared secret"), (vec!["--workers-token-file", &*other], "its secret is another one")]
    {
        let run = together(&[&worker], &flags);
        assert!(run.code == 1 && run.output.contains(said) && run.report.is_none(), "{}: {}", run.code, run.output);
    }
    let run = together(&[&worker], &["--workers-token-file", &secret]);
    assert!([0, 5].contains(&run.code), "{}", run.output);
    // Whoever reaches it could have it put load on anybody.
    let open =
        Command::new(env!("CARGO_BIN_EXE_roost-load")).args(["worker", "--listen", "0.0.0.0:0"]).output().unwrap();
    assert_eq!(open.status.code(), Some(2), "{open:?}");
    assert!(String::from_utf8_lossy(&open.stderr).contains("--token-file"));
}

#[test]
fn who_is_no_worker_or_of_another_version_is_refused_with_a_reason() {
    let worker = Worker::start(&[]);
    let mut stream = TcpStream::connect(&worker.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut ask = |body: &str| -> String {
        stream.write_all(&(body.len() as u32).to_be_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    };
    let said = ask(r#"{"program":"roost-loadgen","version":"0.0.0","protocol":1,"nonce":"n","proof":null}"#);
    assert!(said.contains("both must be the same"), "{said}");
    // A listener that says something else, and one that says nothing.
    let liar = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = liar.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in liar.incoming() {
            let _ = stream.unwrap().write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        }
    });
    let began = Instant::now();
    let run = run(&[&QUICK[..], &["--workers", &format!("{},{address}", worker.address)]].concat());
    assert!(run.code == 1 && run.output.contains(&address) && run.report.is_none(), "{}: {}", run.code, run.output);
    assert!(began.elapsed() < Duration::from_secs(60));
    // The one that was there is free again.
    let run = together(&[&worker], &[]);
    assert!([0, 5].contains(&run.code), "{}", run.output);
}
