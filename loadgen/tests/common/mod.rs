//! Runs of the real binary, and what its reports must look like.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "several programs use a part each: they measure, so one after the other puts load on the machine"
)]

pub mod fake;
pub mod schema;
pub mod truth;

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A finished run.
pub struct Run {
    pub code: i32,
    pub output: String,
    /// `None` if there is no report.
    pub report: Option<Value>,
    /// Of `hostile`; `None` if there is none.
    pub hostile: Option<Value>,
}

/// The binary with `args`, its report in `out`.
pub fn command(args: &[&str], out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roost-load"));
    command.args(args).arg("--out").arg(out).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn run(args: &[&str]) -> Run {
    let out = tempfile::tempdir().unwrap();
    let run = finished(command(args, out.path()).output().unwrap(), out.path());
    let left: Vec<_> = std::fs::read_dir(out.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        left.iter().all(|name| ["report.", "hostile."].iter().any(|known| name.to_str().unwrap().starts_with(known))),
        "left behind: {left:?}"
    );
    run
}

pub fn finished(output: Output, out: &Path) -> Run {
    let report = std::fs::read_to_string(out.join("report.json")).ok();
    let hostile = std::fs::read_to_string(out.join("hostile.json")).ok();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    Run {
        code: output.status.code().expect("it ended by itself"),
        output: text,
        report: report.map(|report| serde_json::from_str(&report).unwrap()),
        hostile: hostile.map(|report| serde_json::from_str(&report).unwrap()),
    }
}

/// What reports must be like.
pub const SCHEMA: &str = include_str!("../../report/schema.json");

/// Runs one with many clients; `None` where io_uring is forbidden, which another test looks at.
pub fn mass(args: &[&str]) -> Option<Run> {
    io_uring().map(|()| run(args))
}

/// `None` where io_uring is forbidden.
pub fn io_uring() -> Option<()> {
    let made = roost_uring::fleet::Fleet::new(1);
    if let Err(error) = &made {
        eprintln!("not tested here: {error}");
    }
    made.ok().map(drop)
}

/// A server that lives as long as this.
pub struct Server {
    child: Child,
    pub target: String,
    pub token_key: String,
    pub pid: String,
}

/// Starts a server of this binary, with its data in `folder`.
pub fn server(folder: &Path) -> Server {
    let (ready, data) = (folder.join("ready.json"), folder.join("data"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_roost-load"));
    command.args(["__roost", "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log", "warn"]);
    command.args(["--frames-per-second", "0", "--heartbeat", "1s"]);
    command.arg("--data").arg(&data).arg("--ready-file").arg(&ready).stdin(Stdio::null());
    let mut child = command.spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    let told: Value = loop {
        if let Ok(text) = std::fs::read_to_string(&ready) {
            break serde_json::from_str(&text).unwrap();
        }
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("the server is not ready");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let token_key = data.join("secrets").join("token-key").display().to_string();
    let target = format!("http://{}", told["listen"].as_str().unwrap());
    Server { pid: child.id().to_string(), child, target, token_key }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Run {
    /// The report, which must be as the schema says.
    pub fn report(&self) -> &Value {
        let report = self.report.as_ref().unwrap_or_else(|| panic!("no report: {}", self.output));
        let faults = schema::faults(&serde_json::from_str(SCHEMA).unwrap(), report);
        assert!(faults.is_empty(), "{faults:#?}");
        assert_eq!(report["exit_code"], self.code, "{}", self.output);
        report
    }
}
