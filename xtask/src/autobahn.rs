//! `cargo xtask autobahn`: the Autobahn test suite against `/echo` of a release build, with compression on.
//!
//! The suite is of another hand and tests every rule of RFC 6455 and RFC 7692 from the outside: 247 cases of frames,
//! text, fragments and closing, 54 of size and speed, 216 of permessage-deflate. All have to pass, strictly: a case
//! that is called "non-strict" or whose connection ended uncleanly is a failure here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::bench::place;
use crate::bench::server::{Kind, Running};
use crate::steps::{Steps, cargo, root, target};
use crate::tally::Tally;
use crate::tools;

/// Every case.
const ALL: &[&str] = &["*"];
/// Everything but most of the thousands of compressed messages: each kind, small and large, whole and in fragments.
const QUICK: &[&str] = &[
    "1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*", "12.*.1", "12.*.2", "12.*.3", "12.*.5", "13.*.1",
    "13.*.2", "13.*.3", "13.*.5",
];
/// What CI runs by TLS as well: every kind of frame, closing, the longest message and that in the smallest pieces.
pub(crate) const BY_TLS: &[&str] = &["1.*", "2.*", "5.*", "6.1.*", "7.*", "9.1.6", "9.5.1", "12.1.1"];
/// The suite and what it needs; the last versions that run on Python 2.
const PACKAGES: &[&str] = &["autobahntestsuite==0.8.2", "autobahn==0.10.9", "Twisted==20.3.0"];
/// How it is started: a namespace of its packages is found only through a site folder, not through PYTHONPATH.
const START: &str = "import sys, site; site.addsitedir(sys.argv.pop(1)); \
    from autobahntestsuite import wstest; sys.exit(wstest.run())";
/// What is missing, and how to get it.
pub(crate) const NO_PYTHON: &str = "It runs on Python 2.7 only, and there is none. `pyenv install 2.7.18` builds it \
    (https://github.com/pyenv/pyenv); one that lies elsewhere is named by PYTHON2";
/// When a run is given up.
const TIME_MAX: Duration = Duration::from_secs(2 * 3600);
/// How often progress is shown where there is no terminal.
const SHOWN_EVERY: Duration = Duration::from_secs(15);

/// What a run is to do.
pub(crate) struct Plan<'a> {
    /// The cases that CI runs instead of all.
    pub(crate) quick: bool,
    /// Whether it comes by TLS.
    pub(crate) tls: bool,
    /// Patterns of cases; none for what `quick` says.
    pub(crate) cases: &'a [String],
    /// Whether the figures are kept.
    pub(crate) keep: bool,
}

/// What a run came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// How many cases were called what: how they behaved, and how their connection was closed.
    behavior: BTreeMap<String, usize>,
    close: BTreeMap<String, usize>,
    /// The cases that did not pass, with both.
    wrong: Vec<String>,
    cases: usize,
}

/// Builds, starts, runs, counts.
pub(crate) fn run(steps: &mut Steps, plan: &Plan<'_>) -> anyhow::Result<()> {
    let suite = install(steps)?;
    let mut build = cargo(["build", "--release", "--package", "roost-server"]);
    if std::env::var_os("CI").is_some() {
        // Nobody runs it but this suite, and optimising across crates takes ten minutes.
        build.env("CARGO_PROFILE_RELEASE_LTO", "off");
    }
    steps.run("build the server", &mut build)?;
    let folder = target().join("autobahn");
    let server = Running::start(if plan.tls { Kind::SecretEcho } else { Kind::Echo }, &folder)?;
    let cases: Vec<String> = match plan.cases {
        [] if plan.quick => QUICK.iter().map(|pattern| whole(pattern)).collect(),
        [] => ALL.iter().map(|pattern| whole(pattern)).collect(),
        cases => cases.iter().map(|pattern| whole(pattern)).collect(),
    };
    let spec = folder.join("spec.json");
    let reports = folder.join("reports");
    let url = format!("{}://{}/echo", if plan.tls { "wss" } else { "ws" }, server.address());
    let text = json!({
        "outdir": reports,
        "servers": [{"agent": "roost", "url": url, "options": {"version": 18}}],
        "cases": cases, "exclude-cases": [], "exclude-agent-cases": {},
    });
    std::fs::write(&spec, text.to_string()).context("cannot write the specification")?;
    let mut command = Command::new(&suite.python);
    command.args(["-u", "-W", "ignore", "-c", START]).arg(&suite.packages);
    command.args(["-m", "fuzzingclient", "-s"]).arg(&spec).current_dir(&folder);
    let began = Instant::now();
    let mut outcome = Outcome::default();
    let result = steps.watched("autobahn", &mut command, |command| {
        let announced = watch(command)?;
        let report = std::fs::read_to_string(reports.join("index.json")).context("the suite left no report")?;
        outcome = count(&serde_json::from_str(&report).context("its report is no JSON")?)?;
        if outcome.cases != announced {
            bail!("of {announced} cases {} were reported", outcome.cases);
        }
        let failed = outcome.wrong.len() as u64;
        Ok(Tally { passed: outcome.cases as u64 - failed, failed, skipped: 0 })
    });
    print!("{}", show(&outcome));
    if !outcome.wrong.is_empty() {
        println!("what they said lies under {}", reports.display());
    }
    result?;
    if plan.keep { keep(&cases, &outcome, began.elapsed()) } else { Ok(()) }
}

/// The suite takes a pattern for the beginning of a name: `12.*.1` would be `12.1.17` too.
fn whole(pattern: &str) -> String {
    if pattern.contains('*') { format!("{pattern}$") } else { pattern.to_owned() }
}

/// The suite as it is installed.
struct Suite {
    python: PathBuf,
    packages: PathBuf,
}

/// Installs the suite into the target folder, if it is not there.
fn install(steps: &mut Steps) -> anyhow::Result<Suite> {
    let python = tools::python2().context(NO_PYTHON)?;
    let packages = target().join("tools").join("autobahn");
    let stamp = packages.join("installed");
    let wanted = PACKAGES.join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(Suite { python, packages });
    }
    if packages.exists() {
        std::fs::remove_dir_all(&packages).context("cannot empty the suite's folder")?;
    }
    let mut pip = Command::new(&python);
    pip.args(["-W", "ignore", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]);
    steps.run("autobahn: packages", pip.arg(&packages).args(PACKAGES))?;
    std::fs::write(&stamp, wanted).context("cannot write into the target folder")?;
    Ok(Suite { python, packages })
}

/// Runs the suite to its end, showing how far it is; returns how many cases it said it would run.
fn watch(command: &mut Command) -> anyhow::Result<usize> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
    let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let (mut progress, mut announced, mut begun) = (Progress::default(), 0, 0);
    for line in lines {
        let line = line?;
        if let Some(number) = announcement(&line) {
            announced = number;
        } else if let Some(case) = case_begun(&line) {
            begun += 1;
            progress.show(begun, announced, case);
        }
        if progress.began.elapsed() > TIME_MAX {
            child.kill()?;
            child.wait()?;
            bail!("given up after {TIME_MAX:?}, in case {begun} of {announced}");
        }
    }
    progress.end();
    let status = child.wait()?;
    if !status.success() || announced == 0 {
        bail!("the suite ended with {status}");
    }
    Ok(announced)
}

/// `Ok, will run 517 test cases against 1 servers`.
fn announcement(line: &str) -> Option<usize> {
    line.strip_prefix("Ok, will run ")?.split(' ').next()?.parse().ok()
}

/// `Running test case ID 1.1.1 for agent …`.
fn case_begun(line: &str) -> Option<&str> {
    line.strip_prefix("Running test case ID ")?.split(' ').next()
}

/// The line that tells how far a run is.
struct Progress {
    began: Instant,
    shown: Option<Instant>,
    in_place: bool,
}

impl Default for Progress {
    fn default() -> Self {
        Self { began: Instant::now(), shown: None, in_place: std::io::stdout().is_terminal() }
    }
}

impl Progress {
    fn show(&mut self, begun: usize, of: usize, case: &str) {
        let due = self.in_place || self.shown.is_none_or(|shown| shown.elapsed() >= SHOWN_EVERY);
        if !due {
            return;
        }
        self.shown = Some(Instant::now());
        let seconds = self.began.elapsed().as_secs();
        let line = format!("{:>3} of {of} cases, {seconds} s, case {case}", begun - 1);
        if self.in_place {
            print!("\r{line:<60}");
            // To see it is all there is to it.
            let _ = std::io::stdout().flush();
        } else {
            println!("{line}");
        }
    }

    fn end(&self) {
        if self.in_place {
            println!();
        }
    }
}

/// Counts what the report says of its only agent.
fn count(report: &Value) -> anyhow::Result<Outcome> {
    let agents = report.as_object().context("the report has no agents")?;
    let cases = agents.values().next().and_then(Value::as_object).context("the report has no cases")?;
    let mut outcome = Outcome::default();
    for (case, result) in cases {
        let [behavior, close] = ["behavior", "behaviorClose"].map(|key| result[key].as_str().unwrap_or("MISSING"));
        *outcome.behavior.entry(behavior.to_owned()).or_default() += 1;
        *outcome.close.entry(close.to_owned()).or_default() += 1;
        outcome.cases += 1;
        // What is informational has no right answer.
        if [behavior, close].iter().any(|said| !matches!(*said, "OK" | "INFORMATIONAL")) {
            outcome.wrong.push(format!("{case}: {behavior}, closed {close}"));
        }
    }
    outcome.wrong.sort_by_key(|line| numbers(line));
    Ok(outcome)
}

/// The parts of a case's name, to sort by.
fn numbers(line: &str) -> Vec<u32> {
    let name = line.split(':').next().unwrap_or_default();
    name.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

fn show(outcome: &Outcome) -> String {
    let list = |counts: &BTreeMap<String, usize>| {
        counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
    };
    let mut text = format!("{} cases: {}; closed: {}\n", outcome.cases, list(&outcome.behavior), list(&outcome.close));
    for line in &outcome.wrong {
        let _ = writeln!(text, "  {line}");
    }
    text
}

/// Writes the figures into benches/results.
fn keep(cases: &[String], outcome: &Outcome, took: Duration) -> anyhow::Result<()> {
    let place = place::describe();
    let told = |key: &str| place[key].as_str().map_or_else(|| place[key].to_string(), str::to_owned);
    let text = format!(
        "# The Autobahn test suite\n\n`cargo xtask autobahn --keep`, autobahntestsuite 0.8.2 against `/echo` of a release build \
         with compression on.\n\n- cases: `{}`\n- {}- {} s\n- {}, commit {}, {} cores of {}, {}\n",
        cases.join("`, `"),
        show(outcome),
        took.as_secs(),
        told("date"),
        told("commit"),
        told("cores"),
        told("cpu"),
        told("kernel"),
    );
    let path: &Path = &root().join("benches/results/autobahn.md");
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("kept in {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_suite_tell_how_far_it_is() {
        assert_eq!(announcement("Ok, will run 517 test cases against 1 servers"), Some(517));
        assert_eq!(
            case_begun("Running test case ID 12.3.10 for agent None from peer tcp4:127.0.0.1:1"),
            Some("12.3.10")
        );
        assert_eq!(announcement("Servers = ['ws://127.0.0.1:1/echo']"), None);
        assert_eq!(case_begun(""), None);
    }

    #[test]
    fn whatever_is_not_strictly_well_is_a_failure() {
        let case = |behavior: &str, close: &str| json!({"behavior": behavior, "behaviorClose": close});
        let report = json!({"roost": {
            "1.1.1": case("OK", "OK"), "10.1.1": case("NON-STRICT", "OK"), "7.1.6": case("INFORMATIONAL", "INFORMATIONAL"),
            "9.1.1": case("FAILED", "OK"), "7.1.5": case("OK", "UNCLEAN"), "12.1.1": case("UNIMPLEMENTED", "OK"),
            "13.1.1": json!({}),
        }});
        let outcome = count(&report).unwrap();
        assert_eq!(
            outcome.wrong,
            [
                "7.1.5: OK, closed UNCLEAN",
                "9.1.1: FAILED, closed OK",
                "10.1.1: NON-STRICT, closed OK",
                "12.1.1: UNIMPLEMENTED, closed OK",
                "13.1.1: MISSING, closed MISSING",
            ]
        );
        assert_eq!((outcome.cases, outcome.behavior["OK"], outcome.close["OK"]), (7, 2, 4));
        assert!(show(&outcome).starts_with("7 cases: 1 FAILED, 1 INFORMATIONAL, 1 MISSING, 1 NON-STRICT, 2 OK"));
        assert!(count(&json!({})).is_err());
    }
}
