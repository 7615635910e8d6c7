//! `cargo xtask fuzz`: looks for inputs that break the targets of `fuzz/`, by cargo-fuzz.
//!
//! What is found on the way grows a corpus under the target folder; `--keep` brings the smallest part of it that covers
//! as much into `fuzz/corpus`, where the tests on the stable compiler find it, and writes the figures into
//! benches/results. A finding ends the run with its path and the commands that try it again.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::bench::place;
use crate::steps::{Steps, root, target};

/// The version of cargo-fuzz that is installed if there is none.
const CARGO_FUZZ: &str = "0.13.2";
/// Where cargo-fuzz finds the programs.
const PROGRAMS: &str = "fuzz/libfuzzer";
/// Longest input tried: above the largest request head, since what is beyond it matters too.
const INPUT_BYTES_MAX: u32 = 20_000;
/// Longest input kept that no seed made.
const KEPT_BYTES_MAX: u64 = 8 * 1024;
/// An allocation above this is a finding: no target takes messages of more than 1 MiB but by the bytes that come.
const ALLOCATION_MIB_MAX: u32 = 64;
/// An input that takes longer is a finding. By the clock on the wall: a busy machine must not make one.
const INPUT_SECONDS_MAX: u32 = 60;
/// How often progress is shown.
const SHOWN_EVERY: Duration = Duration::from_secs(30);
/// Lines of a program's output that are shown when it finds something.
const LAST_LINES: usize = 60;

/// What a run is to do.
pub(crate) struct Plan<'a> {
    /// Names of targets; none for all.
    pub(crate) targets: &'a [String],
    /// How long each is run.
    pub(crate) span: Duration,
    /// Whether corpora and figures are kept.
    pub(crate) keep: bool,
}

/// What one target came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    target: String,
    seconds: u64,
    executions: u64,
    per_second: u64,
    edges: u64,
    features: u64,
    new_inputs: u64,
    /// Inputs and bytes of the kept corpus afterwards.
    kept: (usize, u64),
}

/// Reads `10m`, `90s` or `2h`.
///
/// # Errors
/// Any other text, in words for the command line.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("a number with s, m or h, as in 10m".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "a number with s, m or h, as in 10m".to_owned())?;
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

pub(crate) fn run(steps: &mut Steps, plan: &Plan<'_>) -> anyhow::Result<()> {
    let all = targets()?;
    if let Some(unknown) = plan.targets.iter().find(|name| !all.contains(name)) {
        bail!("no target is called {unknown}; there are {}", all.join(", "));
    }
    let compiler = compiler()?;
    if !compiler.cargo(&["fuzz", "--version"]).output().is_ok_and(|output| output.status.success()) {
        let mut install = crate::steps::cargo(["install", "--locked", "--version", CARGO_FUZZ, "cargo-fuzz"]);
        steps.run("cargo-fuzz", &mut install)?;
    }
    // The programs are tried with the very dependencies of the product.
    fs::copy(root().join("Cargo.lock"), root().join(PROGRAMS).join("Cargo.lock"))?;
    steps.run("fuzz programs", &mut compiler.cargo(&["fuzz", "build", "--fuzz-dir", PROGRAMS]))?;

    let mut outcomes = Vec::new();
    for name in all.iter().filter(|name| plan.targets.is_empty() || plan.targets.contains(name)) {
        let mut outcome = fuzz(&compiler, name, plan.span)?;
        if plan.keep {
            minimise(&compiler, name)?;
        }
        outcome.kept = size(&corpus(name))?;
        println!("{}", row(&outcome));
        outcomes.push(outcome);
    }
    println!("\nno finding");
    if plan.keep { record(&compiler, &outcomes, plan.span) } else { Ok(()) }
}

/// The compiler that instruments: nightly, or the stable one told to take its options.
struct Compiler {
    name: &'static str,
}

impl Compiler {
    fn cargo(&self, args: &[&str]) -> Command {
        // rustup's programs, not this one's: cargo-fuzz starts them again.
        let mut command = Command::new("rustup");
        command.args(["run", self.name, "cargo"]).args(args).current_dir(root());
        for set in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "RUSTFLAGS"] {
            command.env_remove(set);
        }
        if self.name == "stable" {
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        command.env("CARGO_TARGET_DIR", built());
        command
    }
}

fn compiler() -> anyhow::Result<Compiler> {
    let list = Command::new("rustup").args(["toolchain", "list"]).output();
    let list = list.context("rustup is needed for fuzzing: https://rustup.rs")?;
    let list = String::from_utf8_lossy(&list.stdout);
    for name in ["nightly", "stable"] {
        if list.lines().any(|line| line.starts_with(name)) {
            if name == "stable" {
                println!("no nightly compiler is here (rustup toolchain install nightly): RUSTC_BOOTSTRAP=1 on stable");
            }
            return Ok(Compiler { name });
        }
    }
    bail!("fuzzing needs a nightly compiler: rustup toolchain install nightly --profile minimal")
}

fn built() -> PathBuf {
    target().join("fuzz")
}

fn corpus(name: &str) -> PathBuf {
    root().join("fuzz/corpus").join(name)
}

/// Where new inputs are gathered from run to run.
fn working(name: &str) -> PathBuf {
    built().join("corpus").join(name)
}

/// The targets, by their programs.
fn targets() -> anyhow::Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(root().join(PROGRAMS).join("fuzz_targets"))?
        .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

/// Runs one target for `span`.
fn fuzz(compiler: &Compiler, name: &str, span: Duration) -> anyhow::Result<Outcome> {
    let (working, findings) = (working(name), built().join("findings").join(name));
    fs::create_dir_all(&working)?;
    fs::create_dir_all(&findings)?;
    let mut command = compiler.cargo(&["fuzz", "run", "--fuzz-dir", PROGRAMS, name]);
    command.args([&working, &corpus(name)]).args([
        "--".to_owned(),
        format!("-max_total_time={}", span.as_secs()),
        format!("-max_len={INPUT_BYTES_MAX}"),
        format!("-timeout={INPUT_SECONDS_MAX}"),
        format!("-malloc_limit_mb={ALLOCATION_MIB_MAX}"),
        format!("-artifact_prefix={}/", findings.display()),
        "-print_final_stats=1".to_owned(),
    ]);
    println!("\n==> {name}: {command:?}");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("cannot run cargo fuzz")?;
    let output = child.stderr.take().context("no output")?;
    let mut outcome = Outcome { target: name.to_owned(), ..Outcome::default() };
    let (mut last, mut shown, mut finding) = (VecDeque::new(), Instant::now(), None);
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if outcome.line(&line) && shown.elapsed() >= SHOWN_EVERY {
            shown = Instant::now();
            println!("{line}");
        }
        if let Some((_, path)) = line.split_once("Test unit written to ") {
            finding = Some(PathBuf::from(path.trim()));
        }
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    if child.wait()?.success() {
        return Ok(outcome);
    }
    for line in last {
        println!("{line}");
    }
    let Some(path) = finding else { bail!("{name} failed, without a finding: see above") };
    bail!(
        "{name}: a finding\n  {path}\nto try it again:\n  \
         cargo run -p roost-fuzz --example replay {name} {path}\n\
         once it is mended, keep it:\n  cp {path} fuzz/regressions/{name}/",
        path = path.display()
    )
}

impl Outcome {
    /// Takes a line of libFuzzer's output. True if it says how far it is.
    fn line(&mut self, line: &str) -> bool {
        let number = |text: &str| text.trim().parse::<u64>().unwrap_or(0);
        if let Some(stat) = line.strip_prefix("stat::") {
            let (name, value) = stat.split_once(':').unwrap_or_default();
            match name {
                "number_of_executed_units" => self.executions = number(value),
                "average_exec_per_sec" => self.per_second = number(value),
                "new_units_added" => self.new_inputs = number(value),
                _ => {}
            }
        } else if let Some(rest) = line.strip_prefix("Done ") {
            self.seconds = rest.split(" in ").nth(1).and_then(|rest| rest.split(' ').next()).map_or(0, number);
        } else if line.starts_with('#') && line.contains("cov: ") {
            let after = |name| line.split_once(name).and_then(|(_, rest)| rest.split(' ').next()).map_or(0, number);
            (self.edges, self.features) = (after("cov: "), after("ft: "));
            return true;
        }
        false
    }
}

/// Brings the smallest part of what was gathered that reaches as many edges into the kept corpus; seeds stay.
fn minimise(compiler: &Compiler, name: &str) -> anyhow::Result<()> {
    let (kept, small) = (corpus(name), built().join("minimised").join(name));
    if small.exists() {
        fs::remove_dir_all(&small)?;
    }
    fs::create_dir_all(&small)?;
    fs::create_dir_all(&kept)?;
    let mut merge = compiler.cargo(&["fuzz", "run", "--fuzz-dir", PROGRAMS, name]);
    merge.args([&small, &kept, &working(name)]).args(["--", "-set_cover_merge=1", "-use_counters=0"]);
    merge.arg(format!("-max_len={INPUT_BYTES_MAX}")).stderr(Stdio::null());
    if !merge.status()?.success() {
        bail!("{name}: its corpus cannot be minimised: {merge:?}");
    }
    let is_seed = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-"));
    for entry in fs::read_dir(&kept)? {
        let path = entry?.path();
        if !is_seed(&path) {
            fs::remove_file(path)?;
        }
    }
    for entry in fs::read_dir(&small)? {
        let entry = entry?;
        if entry.metadata()?.len() <= KEPT_BYTES_MAX {
            fs::copy(entry.path(), kept.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Files of a folder, and their bytes.
fn size(folder: &Path) -> anyhow::Result<(usize, u64)> {
    let mut size = (0, 0);
    for entry in fs::read_dir(folder).with_context(|| format!("no corpus in {}", folder.display()))? {
        size.0 += 1;
        size.1 += entry?.metadata()?.len();
    }
    Ok(size)
}

const HEAD: &str = "| target | seconds | executions | a second | edges | features | new inputs | kept inputs | kept KiB | findings |\n\
                    |---|---|---|---|---|---|---|---|---|---|";

fn row(outcome: &Outcome) -> String {
    let Outcome { target, seconds, executions, per_second, edges, features, new_inputs, kept } = outcome;
    let kib = kept.1.div_ceil(1024);
    format!(
        "| {target} | {seconds} | {executions} | {per_second} | {edges} | {features} | {new_inputs} | {} | {kib} | 0 |",
        kept.0
    )
}

/// Writes `benches/results/<date>-fuzz.md`; rows of targets that were not run this time stay.
fn record(compiler: &Compiler, outcomes: &[Outcome], span: Duration) -> anyhow::Result<()> {
    let path = root().join("benches/results").join(format!("{}-fuzz.md", place::today()));
    let before = fs::read_to_string(&path).unwrap_or_default();
    let is_new = |line: &str| outcomes.iter().any(|outcome| line.starts_with(&format!("| {} |", outcome.target)));
    let old = before.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| target |") && !is_new(line));
    let mut rows: Vec<String> = old.map(str::to_owned).chain(outcomes.iter().map(row)).collect();
    rows.sort();
    let mut page = String::from("# Fuzzing\n\n");
    // Writing to a String cannot fail.
    let _ = writeln!(page, "{HEAD}\n{}\n\n## Where\n", rows.join("\n"));
    for (name, value) in place::describe().as_object().into_iter().flatten() {
        let _ =
            writeln!(page, "- {}: {}", name.replace('_', " "), value.as_str().map_or(value.to_string(), str::to_owned));
    }
    let _ = writeln!(page, "- compiler of the programs: {}, with AddressSanitizer and debug assertions", compiler.name);
    let _ = writeln!(page, "\n## How\n\n```\ncargo xtask fuzz --for {}s --keep\n```", span.as_secs());
    fs::write(&path, page)?;
    println!("{}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_a_unit() {
        assert_eq!(span("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(span("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(span("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "m", "10", "ten m", "1d", "10 m"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reads_what_libfuzzer_says() {
        let mut outcome = Outcome::default();
        assert!(outcome.line("#670433\tDONE   cov: 606 ft: 3177 corp: 664/96Kb lim: 2622 exec/s: 10990 rss: 641Mb"));
        assert!(!outcome.line("Done 670433 runs in 61 second(s)"));
        assert!(!outcome.line("stat::number_of_executed_units: 670433"));
        assert!(!outcome.line("stat::new_units_added:          1565"));
        assert_eq!((outcome.edges, outcome.features, outcome.seconds), (606, 3177, 61));
        assert_eq!((outcome.executions, outcome.new_inputs), (670_433, 1565));
    }
}
