//! `cargo xtask bench capacity`: how much Roost carries on this machine, searched with the generator beside it.
//!
//! Messages per second among a fixed crowd, and sessions that all hear a channel: each with its objective, until it is not met or
//! the generator is the limit, which the result says.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::{place, results};
use crate::steps::{Steps, root, target};

/// A search.
struct Case {
    name: &'static str,
    args: &'static [&'static str],
    /// Of a search that only shows that it works.
    quick: &'static [&'static str],
}

const CASES: [Case; 2] = [
    Case {
        name: "messages",
        args: &[
            "--slo",
            "p99_delivery<250ms",
            "--slo",
            "lost==0",
            "--vary",
            "rate",
            "--scenario",
            "quick",
            "--clients",
            "2000",
            "--from",
            "500",
            "--for",
            "20s",
            "--precision",
            "0.05",
        ],
        quick: &["--from", "50", "--to", "100", "--clients", "50", "--for", "1s", "--confirm", "1"],
    },
    Case {
        name: "listeners",
        args: &[
            "--slo",
            "p99_delivery<1s",
            "--vary",
            "connections",
            "--scenario",
            "broadcast",
            "--from",
            "1000",
            "--to",
            "200000",
            "--precision",
            "0.1",
            "--",
            "--publishes",
            "20",
            "--rate",
            "1",
            "--connect-rate",
            "8000",
            "--serve",
            "--connections-max 250000",
        ],
        quick: &["--from", "50", "--to", "100", "--confirm", "1", "--", "--publishes", "3", "--rate", "2"],
    },
];

/// The generator was the limit: what held is kept, and it is said.
const EXIT_GENERATOR: i32 = 5;

/// Runs the searches. `quick` only shows that they work: nothing is kept.
pub(super) fn run(steps: &mut Steps, quick: bool) -> anyhow::Result<()> {
    super::build(steps, &[])?;
    let place = place::describe();
    let mut page = String::from("# What Roost carries on one machine\n\nServer and generator share it.\n");
    let mut found = Vec::new();
    for case in &CASES {
        let capacity = search(case, quick)?;
        tell(&mut page, case, &capacity);
        found.push(json!({ "case": case.name, "args": case.args, "capacity": capacity }));
    }
    page += &place::section(&place);
    page += "\n## How\n\n    cargo xtask bench capacity\n";
    println!("\n{page}");
    if quick {
        return Ok(());
    }
    results::keep(&root().join("benches/results"), "capacity", &place, &Value::Array(found), &page)
}

fn search(case: &Case, quick: bool) -> anyhow::Result<Value> {
    let out = target().join("bench/capacity").join(case.name);
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let mut search = Command::new(target().join("release/roost-load"));
    search.arg("capacity").arg("--out").arg(&out).args(arguments(case, quick));
    println!("\n==> {search:?}");
    let status = search.status().context("cannot start roost-load")?;
    if !status.success() && status.code() != Some(EXIT_GENERATOR) {
        bail!("{}: roost-load ended with {status}", case.name);
    }
    read(&out.join("capacity.json"))
}

/// A short search has its own bounds, and keeps the rest.
fn arguments(case: &Case, quick: bool) -> Vec<&'static str> {
    if !quick {
        return case.args.to_vec();
    }
    let kept = ["--slo", "--vary", "--scenario"];
    let search = case.args.split(|arg| *arg == "--").next().unwrap_or_default();
    let of_search = search.chunks(2).filter(|pair| kept.contains(&pair[0])).flatten().copied();
    of_search.chain(case.quick.iter().copied()).collect()
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).context("the answer is no JSON")
}

/// A search's part of the page.
fn tell(page: &mut String, case: &Case, capacity: &Value) {
    let mut line = |text: String| writeln!(page, "{text}").expect("a String takes everything");
    line(format!("\n## {}\n\n{}\n", case.name, capacity["answer"]["sentence"].as_str().unwrap_or("?")));
    // As a shell wants it.
    let quoted = |arg: &&str| if arg.contains(['<', '=', ' ']) { format!("'{arg}'") } else { (*arg).to_owned() };
    let args: Vec<String> = case.args.iter().map(quoted).collect();
    line(format!("`roost-load capacity {}`\n", args.join(" ")));
    line("| run | load | outcome | p99 ms | delivered/s | server cores | generator CPU |".into());
    line("|---:|---:|---|---:|---:|---:|---:|".into());
    for step in capacity["steps"].as_array().into_iter().flatten() {
        let number = |pointer: &str, of: f64, digits: usize| {
            step.pointer(pointer)
                .and_then(Value::as_f64)
                .map_or("–".into(), |value| format!("{:.digits$}", value / of))
        };
        line(format!(
            "| {} | {} | {} | {} | {} | {} | {} |",
            step["step"],
            number("/load", 1.0, 0),
            step["outcome"].as_str().unwrap_or("?"),
            number("/delivery_us/p99", 1000.0, 1),
            number("/deliveries_per_second", 1.0, 0),
            number("/server_cpu_cores", 1.0, 2),
            number("/generator_cpu", 1.0, 2),
        ));
    }
    let peak = &capacity["scalability"]["peak"];
    if let Some(per_second) = peak["per_second"].as_f64() {
        let beyond = if peak["beyond_data"] == true { ", beyond what was measured: a guess" } else { "" };
        let of = capacity["scalability"]["of"].as_str().unwrap_or_default();
        line(format!("\nBy the universal scalability law it ends at {per_second:.0} {of} per second{beyond}."));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_search_keeps_objectives_and_has_its_own_bounds() {
        for case in &CASES {
            let short = arguments(case, true);
            assert!(short.contains(&"--slo") && short.contains(&"--to"), "{short:?}");
            assert_eq!(short.iter().filter(|arg| **arg == "--from").count(), 1);
            assert_eq!(arguments(case, false), case.args);
        }
    }

    #[test]
    fn the_page_has_the_answer_and_each_run() {
        let capacity = json!({
            "answer": { "sentence": "It carries 800." },
            "steps": [{ "step": 1, "load": 800.0, "outcome": "held", "delivery_us": { "p99": 12_300 }, "server_cpu_cores": 0.5 }],
            "scalability": { "of": "deliveries", "peak": { "per_second": 1000.4, "beyond_data": true } },
        });
        let mut page = String::new();
        tell(&mut page, &CASES[0], &capacity);
        assert!(
            page.contains("It carries 800.") && page.contains("| 1 | 800 | held | 12.3 | – | 0.50 | – |"),
            "{page}"
        );
        assert!(page.contains("1000 deliveries per second, beyond what was measured"), "{page}");
    }
}
