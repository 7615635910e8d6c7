//! One step of a search: a run of its own, as a child process, whose report says what came of it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::search::{Judged, Purpose};
use crate::interrupt::Interrupt;
use crate::report::Quantiles;
use crate::threshold::{Held, Threshold};

/// How often a waiting search looks around.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Vary {
    /// Messages per second.
    Rate,
    /// Sessions.
    Connections,
}

impl Vary {
    /// For people, behind a number.
    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Self::Rate => "messages per second",
            Self::Connections => "sessions",
        }
    }
}

/// One run and what its report says. What it did not measure is `None`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Step {
    /// From 1.
    pub(crate) step: u32,
    pub(crate) load: f64,
    pub(crate) purpose: Purpose,
    pub(crate) outcome: Judged,
    /// Why it did not hold.
    pub(crate) why: Vec<String>,
    /// What broke first: the metric of the first objective that was not met.
    pub(crate) broke: Option<String>,
    pub(crate) slo: Vec<Held>,
    pub(crate) delivery_us: Quantiles,
    pub(crate) ack_us: Quantiles,
    /// Acknowledged, pushed or echoed: whichever this load has first.
    pub(crate) sends_per_second: Option<f64>,
    pub(crate) deliveries_per_second: Option<f64>,
    pub(crate) sessions: u64,
    pub(crate) server_cpu_cores: Option<f64>,
    pub(crate) server_cpu_us_per_delivery: Option<f64>,
    pub(crate) server_bytes_per_session: Option<f64>,
    pub(crate) server_bytes: Option<u64>,
    pub(crate) generator_cpu: f64,
    pub(crate) generator_late_p99_us: Option<u64>,
    /// The run's own page, beside `capacity.html`.
    pub(crate) report: String,
}

/// A run that left no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoReport {
    /// The server could not be reached.
    #[error("{0}")]
    Unreachable(String),
    /// The run could not be done; what it said.
    #[error("{0}")]
    Failed(String),
    /// Somebody asked to stop.
    #[error("stopped")]
    Stopped,
    /// This machine lacks something.
    #[error("{0:#}")]
    System(#[from] anyhow::Error),
}

/// The exit code of a run that did not reach its server.
const EXIT_UNREACHABLE: i32 = 3;
const EXIT_INTERRUPTED: i32 = 130;

/// Runs `args` of this program with its report in `out`. `tell` gets what it says on the way.
pub(crate) fn run(
    args: &[String],
    out: &Path,
    interrupt: &Interrupt,
    mut tell: impl FnMut(&str),
) -> Result<Value, NoReport> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut child = Command::new(program)
        .args(args)
        .arg("--out")
        .arg(out)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start a run")?;
    let lines = Arc::new(Mutex::new(Vec::<String>::new()));
    let reader = child.stderr.take().map(|stderr| {
        let lines = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        })
    });
    let said = || std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner));
    let (mut obeyed, mut last) = (interrupt.count(), Vec::new());
    let status = loop {
        for line in said() {
            tell(&line);
            last.push(line);
        }
        if let Some(status) = child.try_wait().context("cannot look after a run")? {
            break status;
        }
        if interrupt.count() > obeyed {
            obeyed = interrupt.count();
            // Ours, and not waited for yet: the id cannot be another's.
            let _ = kill_process(Pid::from_child(&child), Signal::INT);
        }
        std::thread::sleep(LOOK_EVERY);
    };
    if let Some(reader) = reader {
        let _ = reader.join();
    }
    last.extend(said());
    read(status, &out.join("report.json"), &last)
}

fn read(status: ExitStatus, path: &PathBuf, said: &[String]) -> Result<Value, NoReport> {
    let code = status.code();
    if code == Some(EXIT_INTERRUPTED) {
        return Err(NoReport::Stopped);
    }
    let why = || {
        said.iter()
            .rev()
            .find(|line| !line.trim().is_empty())
            .map_or_else(|| status.to_string(), |line| line.trim().to_owned())
    };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(serde_json::from_str(&text).context("the report of a run is no JSON")?),
        Err(_) if code == Some(EXIT_UNREACHABLE) => Err(NoReport::Unreachable(why())),
        // All of it: usage takes several lines.
        Err(_) => Err(NoReport::Failed(said.join("\n"))),
    }
}

/// What a run's report says of it.
pub(crate) fn judge(report: &Value, slo: &[Threshold]) -> (Judged, Vec<String>, Option<String>, Vec<Held>) {
    let held: Vec<Held> = slo.iter().map(|slo| slo.check(report)).collect();
    let mut why: Vec<String> = held
        .iter()
        .filter(|held| !held.well)
        .map(|held| format!("{} is not met: it is {}.", held.threshold, held.shown()))
        .collect();
    let broke = held.iter().find(|held| !held.well).map(|held| held.threshold.clone());
    let verdict = report["verdict"].as_str().unwrap_or_default();
    if verdict == "pass" && why.is_empty() {
        return (Judged::Held, why, None, held);
    }
    let reasons = report["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    if verdict != "pass" {
        why.extend(reasons);
    }
    if verdict == "generator" || report["valid"] == false {
        return (Judged::Generator, why, None, held);
    }
    let broke = broke.or_else(|| {
        let own = report["thresholds"].as_array()?.iter().find(|held| held["well"] == false)?;
        Some(own["threshold"].as_str()?.to_owned())
    });
    (Judged::Failed, why, broke.or_else(|| Some(verdict.to_owned())), held)
}

impl Step {
    /// From a report; `at` is its number, load and purpose.
    pub(crate) fn of(
        report: &Value,
        (step, load, purpose): (u32, f64, Purpose),
        slo: &[Threshold],
        page: String,
    ) -> Self {
        let (outcome, why, broke, slo) = judge(report, slo);
        let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64);
        let first = |pointers: &[&str]| pointers.iter().find_map(|pointer| number(pointer));
        let times = |names: &[&str]| {
            let found =
                names.iter().filter_map(|name| report.pointer(name)).find(|times| times["count"].as_u64() > Some(0));
            found.and_then(|times| serde_json::from_value(times.clone()).ok()).unwrap_or_default()
        };
        Self {
            step,
            load,
            purpose,
            outcome,
            why,
            broke,
            slo,
            delivery_us: times(&["/delivery_us", "/echo/echo_us", "/heartbeats/answer_us"]),
            ack_us: times(&["/ack_us"]),
            sends_per_second: first(&["/sends/per_second", "/echo/per_second"]),
            deliveries_per_second: first(&["/deliveries/per_second", "/echo/per_second"]).filter(|rate| *rate > 0.0),
            sessions: number("/sessions/held").unwrap_or(0.0) as u64,
            server_cpu_cores: number("/server/cpu_cores"),
            server_cpu_us_per_delivery: number("/server/cpu_us_per_delivery"),
            server_bytes_per_session: number("/server/user_bytes_per_session"),
            server_bytes: first(&["/server/anonymous_bytes/after_load", "/server/rss_bytes/idle"])
                .map(|bytes| bytes as u64),
            generator_cpu: number("/generator/cpu").unwrap_or(0.0),
            generator_late_p99_us: number("/generator/late_p99_us").map(|us| us as u64),
            report: page,
        }
    }

    /// A run that left no report, because the server was gone.
    pub(crate) fn died(at: (u32, f64, Purpose), why: String, page: String) -> Self {
        let mut step = Self::of(&Value::Null, at, &[], page);
        (step.outcome, step.why, step.broke) = (Judged::Failed, vec![why], Some("the server".into()));
        step
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(verdict: &str, p99: u64) -> (Judged, usize, Option<String>) {
        let report = json!({
            "verdict": verdict, "reasons": ["told"], "delivery_us": { "p99": p99 }, "lost": 0,
            "thresholds": [{ "threshold": "errors==0", "well": verdict != "threshold" }],
        });
        let slo = Threshold::all(&["delivery.p99<250ms", "lost==0"]);
        let (judged, why, broke, held) = judge(&report, &slo);
        assert_eq!(held.len(), 2);
        (judged, why.len(), broke)
    }

    #[test]
    fn a_step_holds_if_its_run_passed_and_every_objective_is_met() {
        assert_eq!(judged("pass", 1000), (Judged::Held, 0, None));
        assert_eq!(judged("pass", 300_000), (Judged::Failed, 1, Some("delivery.p99<250ms".into())));
        assert_eq!(judged("threshold", 1000), (Judged::Failed, 1, Some("errors==0".into())));
        assert_eq!(judged("broken", 1000), (Judged::Failed, 1, Some("broken".into())));
        assert_eq!(judged("broken", 300_000).2, Some("delivery.p99<250ms".into()));
        // Nobody knows what the server would have done.
        assert_eq!(judged("generator", 300_000), (Judged::Generator, 2, None));
    }

    #[test]
    fn what_a_report_does_not_have_is_not_known() {
        let step = Step::of(&json!({ "verdict": "pass" }), (1, 5.0, Purpose::Climb), &[], String::new());
        assert_eq!((step.outcome, step.sends_per_second, step.delivery_us.count), (Judged::Held, None, 0));
        let died = Step::died((2, 9.0, Purpose::Again), "gone".into(), String::new());
        assert_eq!((died.outcome, died.why.len()), (Judged::Failed, 1));
    }
}
