//! Measures the generator's own error: a server of known truth, `--messages` of them, and what the report says of it.
//!
//! `cargo run --release -p roost-loadgen --example truth -- --messages 1000000`
//!
//! The binary that is measured is the `roost-load` beside this one: build it with the same profile first.

#[path = "../tests/common/truth/mod.rs"]
mod truth;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use serde_json::Value;
use truth::check::{Compared, compare, table};
use truth::{Delays, Faults, Plan, start};

#[derive(Parser)]
struct Args {
    /// Messages to send
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Messages per second
    #[arg(long, default_value_t = 5000)]
    rate: u64,
    /// Clients, in pairs
    #[arg(long, default_value_t = 4000)]
    clients: u32,
    /// The program to measure [default: the roost-load beside this one]
    #[arg(long)]
    program: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let ms = Duration::from_millis;
    let delays = Delays { usual: ms(20), slow: ms(60), slowest: ms(150) };
    let server = start(Plan { delays, acks: delays, faults: Faults::default(), stall: None });
    let out = tempfile::tempdir()?;
    let hold = format!("{}ms", args.messages * 1000 / args.rate);
    let target = format!("http://{}", server.address);
    let (clients, rate) = (args.clients.to_string(), args.rate.to_string());
    let flags = ["quick", "--clients", &clients, "--rate", &rate, "--for", &hold, "--group-share", "0"];
    let status = Command::new(program(args.program)?)
        .args(flags)
        .args(["--arrivals", "constant", "--target", &target, "--out"])
        .arg(out.path())
        .stdin(Stdio::null())
        .status()
        .context("cannot run roost-load")?;
    let text = std::fs::read_to_string(out.path().join("report.json")).context("there is no report")?;
    let report: Value = serde_json::from_str(&text)?;
    let mut truth = server.truth();
    let delivery = compare(&report, "/delivery_us", &mut truth.delays_ns);
    let ack = compare(&report, "/ack_us", &mut truth.acks_ns);
    println!("\n{} messages; {status}", truth.messages);
    print!("{}{}", table("delivery", &delivery), table("ack", &ack));
    println!("the generator's own lateness: {}", report["generator"]["late_us"]);
    let close = delivery.iter().chain(&ack).all(Compared::is_close);
    println!("{}", if close { "within 2 % or 100 us of the truth" } else { "NOT within 2 % or 100 us of the truth" });
    Ok(if close { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The binary of the same build.
fn program(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given);
    }
    let here = std::env::current_exe()?;
    let folder =
        here.parent().and_then(|examples| examples.parent()).context("this program stands somewhere strange")?;
    let program = folder.join("roost-load");
    anyhow::ensure!(program.exists(), "{} is not there: build roost-load first", program.display());
    Ok(program)
}
