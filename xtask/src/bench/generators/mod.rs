//! `cargo xtask bench generators`: what other load generators take for the same work as `roost-load`, in CPU time of their own.
//!
//! All of them meet the same server, started afresh: `roost serve --bench-paths`, whose `/echo` sends back what it gets. Two
//! kinds of work: sockets that are opened and held, and sockets that each have one text under way. What a generator takes to
//! start and stop is measured with one socket, and taken off.
//!
//! - `tools`: the generators, how they are got and what they are told.

mod tools;

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use self::tools::{Tool, Work};
use super::compare::descriptors;
use super::results::{keep, median};
use super::server::{Launch, Running};
use super::{build, place};
use crate::steps::{Steps, ended_within, root, target};

/// Rounds of a run whose figures are kept.
const ROUNDS: usize = 3;
/// How long one run of a generator may take.
const WITHIN: Duration = Duration::from_secs(180);
/// Kernel ticks of CPU time in a second, as `/proc` counts them on every Linux that there is.
const TICKS_PER_SECOND: f64 = 100.0;

/// What one run took.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    generator_cpu_s: f64,
    server_cpu_s: f64,
    /// As the server counted them.
    connections: f64,
    echoes: f64,
}

/// Figures of one generator in one round.
struct Figures {
    round: usize,
    tool: &'static str,
    start_cpu_s: f64,
    connect: Taken,
    echo: Taken,
}

impl Figures {
    /// Microseconds of CPU a connection: the generator's, its start taken off, and the server's.
    fn per_connection(&self) -> (f64, f64) {
        let Taken { generator_cpu_s, server_cpu_s, connections, .. } = self.connect;
        ((generator_cpu_s - self.start_cpu_s) / connections * 1e6, server_cpu_s / connections * 1e6)
    }

    /// The same of a text and its answer.
    fn per_echo(&self) -> (f64, f64) {
        let Taken { generator_cpu_s, server_cpu_s, echoes, .. } = self.echo;
        ((generator_cpu_s - self.start_cpu_s) / echoes * 1e6, server_cpu_s / echoes * 1e6)
    }
}

/// Gets the generators, lets them take turns, and keeps the figures unless `quick`.
pub(crate) fn run(steps: &mut Steps, quick: bool) -> anyhow::Result<()> {
    build(steps, &[])?;
    descriptors()?;
    let mut missing = Vec::new();
    let mut tools = Vec::new();
    for get in tools::ALL {
        match get(steps) {
            Ok(tool) => tools.push(tool),
            Err(error) => {
                println!("\nleft out: {error:#}");
                missing.push(format!("{error:#}"));
            }
        }
    }
    let place = place::describe();
    let mut figures = Vec::new();
    for round in 1..=if quick { 1 } else { ROUNDS } {
        for tool in &tools {
            match measure(tool, round, quick) {
                Ok(measured) => figures.push(measured),
                Err(error) => {
                    println!("{}: {error:#}", tool.name);
                    missing.push(format!("{}, round {round}: {error:#}", tool.name));
                }
            }
        }
    }
    let page = page(&place, &tools, &figures, &missing);
    println!("\n{page}");
    if !quick {
        keep(&root().join("benches/results"), "generators", &place, &json(&figures), &page)?;
    }
    Ok(())
}

fn measure(tool: &Tool, round: usize, quick: bool) -> anyhow::Result<Figures> {
    let (sockets, seconds) = if quick { (100, 2) } else { (1000, 10) };
    let start = once(tool, Work { sockets: 1, per_second: 1, seconds: 1, echo: false })?;
    let connect = once(tool, Work { sockets, per_second: 200, seconds: 2, echo: false })?;
    let echo = once(tool, Work { sockets: 100, per_second: 100, seconds, echo: true })?;
    if connect.connections < f64::from(sockets) * 0.99 || echo.echoes < 1.0 {
        bail!("{} connections of {sockets}, {} texts came back", connect.connections, echo.echoes);
    }
    let figures = Figures { round, tool: tool.name, start_cpu_s: start.generator_cpu_s, connect, echo };
    println!(
        "round {round}  {:<12} {:>8.1} us a connection, {:>6.2} us an echo, {:>4.1} s to start",
        tool.name,
        figures.per_connection().0,
        figures.per_echo().0,
        figures.start_cpu_s
    );
    Ok(figures)
}

/// One run of a generator against a fresh server.
fn once(tool: &Tool, work: Work) -> anyhow::Result<Taken> {
    let folder = target().join("bench").join("generators");
    let server = Running::launch(&folder, |folder| {
        let mut command = Command::new(target().join("release/roost"));
        command.args(["serve", "--admin", "127.0.0.1:0", "--bench-paths", "--log", "warn"]);
        // Tsung names an origin that is nobody's.
        command.args(["--origins", "any", "--data"]);
        command.arg(folder.join("data"));
        Ok(Launch::told(command, folder, Vec::new()))
    })?;
    let log = std::fs::File::create(folder.join("generator.log"))?;
    let mut command = (tool.command)(tool, work, server.address(), &folder)?;
    command.current_dir(&folder).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let before = children_cpu_s()?;
    let mut generator = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let Some(status) = ended_within(&mut generator, WITHIN)? else {
        bail!("{} did not end within {WITHIN:?}", tool.name);
    };
    if !status.success() && !(tool.accepts)(status.code()) {
        let said = std::fs::read_to_string(folder.join("generator.log")).unwrap_or_default();
        let last: Vec<&str> = said.lines().rev().take(5).collect();
        bail!("{} ended with {status}: {}", tool.name, last.join(" | "));
    }
    let counters = server.metrics()?;
    Ok(Taken {
        generator_cpu_s: children_cpu_s()? - before,
        server_cpu_s: cpu_s(&format!("/proc/{}/stat", server.pid()), 13)?,
        connections: counters("roost_upgrades_total"),
        echoes: counters("roost_writes_total") - counters("roost_upgrades_total"),
    })
}

/// CPU time of all processes that this one has waited for, and that those have.
fn children_cpu_s() -> anyhow::Result<f64> {
    cpu_s("/proc/self/stat", 15)
}

/// CPU time, of user and system, from the `field`th number on of a process's `stat` (proc(5), counted from 0).
fn cpu_s(stat: &str, field: usize) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(stat).with_context(|| format!("cannot read {stat}"))?;
    // The name may have blanks; what follows it begins with the third field.
    let (_, rest) = text.rsplit_once(')').context("no process")?;
    let ticks: f64 =
        rest.split_whitespace().skip(field - 2).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS_PER_SECOND)
}

fn of<'a>(figures: &'a [Figures], tool: &'a str) -> impl Iterator<Item = &'a Figures> {
    figures.iter().filter(move |one| one.tool == tool)
}

fn json(figures: &[Figures]) -> Value {
    let one = |one: &Figures| {
        let ((connection, server_connection), (echo, server_echo)) = (one.per_connection(), one.per_echo());
        json!({
            "round": one.round, "generator": one.tool, "start_cpu_s": one.start_cpu_s,
            "cpu_us_per_connection": connection, "server_cpu_us_per_connection": server_connection,
            "cpu_us_per_echo": echo, "server_cpu_us_per_echo": server_echo, "echoes": one.echo.echoes,
        })
    };
    figures.iter().map(one).collect()
}

fn page(place: &Value, tools: &[Tool], figures: &[Figures], missing: &[String]) -> String {
    let mut page = String::from("# Load generators beside each other\n\n");
    let medians = |tool: &str, read: fn(&Figures) -> f64| {
        let all: Vec<f64> = of(figures, tool).map(read).collect();
        if all.is_empty() { f64::NAN } else { median(&all) }
    };
    let own = [medians("roost-load", |one| one.per_connection().0), medians("roost-load", |one| one.per_echo().0)];
    page += "Medians. Microseconds of CPU, less is better; in brackets how many times those of `roost-load`.\n\n";
    page += "| generator | a connection | the server's | a text and its answer | the server's | texts a second of one core | starting, s |\n";
    page += "|---|---:|---:|---:|---:|---:|---:|\n";
    for tool in tools {
        let connection = medians(tool.name, |one| one.per_connection().0);
        let echo = medians(tool.name, |one| one.per_echo().0);
        let _ = writeln!(
            page,
            "| {} | {connection:.0} ({:.1}) | {:.0} | {echo:.2} ({:.1}) | {:.2} | {:.0} | {:.1} |",
            tool.version,
            connection / own[0],
            medians(tool.name, |one| one.per_connection().1),
            echo / own[1],
            medians(tool.name, |one| one.per_echo().1),
            1e6 / echo,
            medians(tool.name, |one| one.start_cpu_s),
        );
    }
    page += "\nWork: 1 000 sockets opened at 200 a second and held for 2 s; 100 sockets with one text of 128 B each under way for 10 s. The \
             server is Roost's `/echo`; it counts both. What a generator takes to start and stop, measured with one socket, is taken off.\n";
    if !missing.is_empty() {
        page += "\n## What has to be told\n\n";
        missing.iter().for_each(|line| _ = writeln!(page, "- {line}"));
    }
    page += &place::section(place);
    page += "\n## How\n\n    cargo xtask bench generators\n\nWhat each is told: `benches/generators`.\n";
    page
}

/// Writes `text` into `folder`.
fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<std::path::PathBuf> {
    let file = folder.join(name);
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_time_of_a_child_is_counted_once_it_was_waited_for() {
        let before = children_cpu_s().unwrap();
        let status =
            Command::new("sh").args(["-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"]).status().unwrap();
        assert!(status.success());
        assert!(children_cpu_s().unwrap() > before);
        assert!(cpu_s("/proc/nobody/stat", 13).is_err());
    }

    #[test]
    fn the_start_of_a_generator_is_not_its_work() {
        let connect = Taken { generator_cpu_s: 3.0, server_cpu_s: 0.5, connections: 1000.0, echoes: 0.0 };
        let echo = Taken { generator_cpu_s: 2.0, server_cpu_s: 1.0, connections: 100.0, echoes: 10_000.0 };
        let figures = Figures { round: 1, tool: "k6", start_cpu_s: 1.0, connect, echo };
        assert_eq!(figures.per_connection(), (2000.0, 500.0));
        assert_eq!(figures.per_echo(), (100.0, 100.0));
    }
}
