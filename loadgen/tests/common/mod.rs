//! Runs of the real binary, and what its reports must look like.
#![allow(dead_code, unreachable_pub, missing_docs)]

pub mod fake;
pub mod schema;

use std::path::Path;
use std::process::{Command, Output, Stdio};

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

impl Run {
    /// The report, which must be as the schema says.
    pub fn report(&self) -> &Value {
        let report = self.report.as_ref().unwrap_or_else(|| panic!("no report: {}", self.output));
        let schema = include_str!("../../report/schema.json");
        let faults = schema::faults(&serde_json::from_str(schema).unwrap(), report);
        assert!(faults.is_empty(), "{faults:#?}");
        assert_eq!(report["exit_code"], self.code, "{}", self.output);
        report
    }
}
