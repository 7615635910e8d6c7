//! `cargo xtask bench million`: one run on this machine, server and clients both on it. Doctor, ramp, hold, broadcast,
//! storm, drain, report.
//!
//! Everything goes over the loopback network of the namespace it is started in.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

use super::place;
use crate::fuzz::span;
use crate::steps::{Steps, target};

/// What both ends of a connection take of the host, in bytes, with some room.
const BYTES_PER_CONNECTION: u64 = 7_500;
/// Deliveries a second that a server on half of a small machine reaches: messages are paced by it.
const DELIVERIES_PER_SECOND: f64 = 50_000.0;
/// The generator was the limit: its figures are kept, and it is told.
const EXIT_GENERATOR: i32 = 5;

#[derive(Args, Debug)]
pub(crate) struct Million {
    /// For million: sessions
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    connections: u32,
    /// For million: connections begun per second
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    rate: u32,
    /// For million: how long they are held
    #[arg(long = "hold", value_name = "TIME", default_value = "2m", value_parser = span)]
    hold: Duration,
    /// For million: messages to everybody
    #[arg(long, value_name = "N", default_value_t = 5)]
    publishes: u32,
    /// For million: the server's driver
    #[arg(long, value_name = "DRIVER", default_value = "uring")]
    driver: String,
    /// For million: where the results go [default: bench/million in cargo's target folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs it. `quick` takes 5 000 sessions for some seconds.
pub(crate) fn run(steps: &mut Steps, million: &Million, quick: bool) -> anyhow::Result<()> {
    let Million { rate, publishes, driver, .. } = million;
    let (connections, hold) = if quick { (5_000, Duration::from_secs(5)) } else { (million.connections, million.hold) };
    let out = million.out.clone().unwrap_or_else(|| target().join("bench/million"));
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    prerequisites(connections)?;
    super::build(steps, &[])?;
    doctor(connections, &out)?;
    // One message reaches everybody before the next one is due, and everybody comes back as fast as they came.
    let publish_rate = (DELIVERIES_PER_SECOND / f64::from(connections)).min(4.0);
    let mut load = Command::new(target().join("release/roost-load"));
    load.arg("hold").arg("--connections").arg(connections.to_string()).arg("--rate").arg(rate.to_string());
    load.arg("--for").arg(format!("{}s", hold.as_secs())).args(["--heartbeat", "60s", "--grace", "60s"]);
    load.arg("--publishes").arg(publishes.to_string()).arg("--publish-rate").arg(format!("{publish_rate:.4}"));
    load.args(["--storm", "rst", "--drain", "--serve"]);
    load.arg(format!(
        "--driver {driver} --connections-max {} --drain-window 30s --drain-deadline 60s",
        connections + 1000
    ));
    load.arg("--out").arg(&out);
    println!("\n==> {load:?}");
    let status = load.status().context("cannot start roost-load")?;
    let text = std::fs::read_to_string(out.join("report.json")).context("there is no report")?;
    let report: Value = serde_json::from_str(&text).context("the report is no JSON")?;
    let page = page(&report, &place::describe(), &format!("{load:?}"));
    println!("\n{page}");
    std::fs::write(out.join("million.md"), page).context("cannot keep the table")?;
    println!("results: {}", out.display());
    if status.success() || status.code() == Some(EXIT_GENERATOR) {
        Ok(())
    } else {
        bail!("roost-load ended with {status}")
    }
}

/// Something of the system that a run needs.
struct Need {
    /// Below /proc/sys.
    name: &'static str,
    at_least: u64,
    /// Without it, it cannot work; else it is only slower.
    must: bool,
    why: &'static str,
}

/// Tells what is missing, with the line that mends it.
fn prerequisites(connections: u32) -> anyhow::Result<()> {
    let connections = u64::from(connections);
    let needs = [
        // Two ends each, and the rest of the host.
        Need { name: "fs/file-max", at_least: connections * 2 + 50_000, must: true, why: "both ends count as files" },
        Need {
            name: "net/core/somaxconn",
            at_least: 4096,
            must: false,
            why: "a short queue of the listener drops connections, which come again after a second",
        },
        Need {
            name: "net/ipv4/tcp_max_syn_backlog",
            at_least: 512,
            must: false,
            why: "as somaxconn, for half of a handshake",
        },
    ];
    let mut missing = Vec::new();
    println!("\n==> prerequisites of {connections} connections");
    for Need { name, at_least, must, why } in needs {
        let has: u64 = read(&format!("/proc/sys/{name}")).and_then(|text| text.parse().ok()).unwrap_or(0);
        let key = name.replace('/', ".");
        if has >= at_least {
            println!("  well     {key} = {has}");
        } else {
            println!(
                "  {}  {key} = {has}: {why}; sysctl -w {key}={at_least}",
                if must { "MISSING" } else { "small  " }
            );
            missing.extend(must.then_some(key));
        }
    }
    let disabled = read("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    if disabled == "2" {
        println!(
            "  MISSING  kernel.io_uring_disabled = 2: clients are sockets of rings; sysctl -w kernel.io_uring_disabled=0"
        );
        missing.push("kernel.io_uring_disabled".into());
    }
    let tracked = read("/proc/sys/net/netfilter/nf_conntrack_max").and_then(|text| text.parse::<u64>().ok());
    if let Some(max) = tracked.filter(|max| *max < connections * 2) {
        println!(
            "  small    net.netfilter.nf_conntrack_max = {max}: if a rule tracks loopback, raise it or take a namespace of your own"
        );
    }
    let needed = connections * BYTES_PER_CONNECTION + (1 << 30);
    let available = available().unwrap_or(u64::MAX);
    if available < needed {
        println!("  MISSING  memory: {} MB available, {} MB needed", available >> 20, needed >> 20);
        missing.push("memory".into());
    } else {
        println!("  well     memory: {} MB available, {} MB needed", available >> 20, needed >> 20);
    }
    if missing.is_empty() { Ok(()) } else { bail!("this machine lacks {}", missing.join(", ")) }
}

fn read(path: &str) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// What the server itself says of this machine; what stands in the way there is told, and tried all the same.
fn doctor(connections: u32, out: &Path) -> anyhow::Result<()> {
    let mut doctor = Command::new(target().join("release/roost"));
    doctor.arg("doctor").arg("--for").arg(connections.to_string()).arg("--data").arg(out.join("doctor-data"));
    println!("\n==> {doctor:?}");
    let output = doctor.output().context("cannot start roost doctor")?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    println!("{said}");
    std::fs::write(out.join("doctor.txt"), said).context("cannot keep what the doctor said")
}

/// The figures of a report, as a page.
fn page(report: &Value, place: &Value, command: &str) -> String {
    let number = |pointer: &str| match report.pointer(pointer).and_then(Value::as_f64) {
        Some(number) if number.fract() == 0.0 => format!("{number:.0}"),
        Some(number) => format!("{number:.2}"),
        None => "-".to_owned(),
    };
    let ms = |pointer: &str| match report.pointer(pointer).and_then(Value::as_f64) {
        Some(us) => format!("{:.1} ms", us / 1e3),
        None => "-".to_owned(),
    };
    let four = |times: &str| {
        let [p50, p99, p999, max] = ["p50", "p99", "p999", "max"].map(|part| ms(&format!("{times}/{part}")));
        format!("p50 {p50}, p99 {p99}, p99.9 {p999}, max {max}")
    };
    let mut page = format!("# {} sessions in one process\n\n", number("/sessions/held"));
    let reasons = report["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let _ = writeln!(
        page,
        "Verdict: **{}**. {}\n",
        report["verdict"].as_str().unwrap_or("-"),
        reasons.collect::<Vec<_>>().join(" ")
    );
    page += "| what | figure |\n|---|---|\n";
    let rows = [
        (
            "sessions held, wanted, lost, given up",
            format!(
                "{}, {}, {}, {}",
                number("/sessions/held"),
                number("/sessions/wanted"),
                number("/sessions/lost"),
                number("/sessions/failed")
            ),
        ),
        (
            "set-up, a second; per server CPU-second",
            format!("{}; {}", number("/setup/per_second"), number("/setup/per_server_cpu_second")),
        ),
        ("set-up latency, from the intended time", four("/connect_us")),
        (
            "server memory per idle session, user (anonymous)",
            format!(
                "{} B ({} B)",
                number("/server/user_bytes_per_session"),
                number("/server/anonymous_bytes_per_session")
            ),
        ),
        ("kernel memory per connection, one end", format!("{} B", number("/server/kernel_bytes_per_session"))),
        ("both ends of the host's memory, per session", format!("{} B", number("/server/host_bytes_per_session"))),
        (
            "server CPU while idle",
            format!("{} % of a core for {} s", number("/hold/server_cpu_percent_of_a_core"), number("/hold/seconds")),
        ),
        (
            "heartbeats sent, answered, not",
            format!(
                "{}, {}, {}",
                number("/heartbeats/sent"),
                number("/heartbeats/answered"),
                number("/heartbeats/unanswered")
            ),
        ),
        ("heartbeat answered", four("/heartbeats/answer_us")),
        ("broadcast, regime", report.pointer("/deliveries/regime").and_then(Value::as_str).unwrap_or("-").to_owned()),
        ("deliveries pushed, missing", format!("{}, {}", number("/deliveries/pushed"), number("/deliveries/missing"))),
        ("to the first", four("/first_delivery_us")),
        ("to each", four("/delivery_us")),
        ("to the last", four("/last_delivery_us")),
        (
            "server CPU per delivery; deliveries per CPU-second",
            format!("{} us; {}", number("/server/cpu_us_per_delivery"), number("/server/deliveries_per_cpu_second")),
        ),
        (
            "storm: dropped, all back after, turned away, given up",
            format!(
                "{}, {} s, {}, {}",
                number("/storm/dropped"),
                number("/storm/seconds"),
                number("/storm/turned_away"),
                number("/storm/failed")
            ),
        ),
        ("back, from the slot", four("/storm/return_us")),
        (
            "drain: asked to go, took, left",
            format!(
                "{} of {}, {} s, {}",
                number("/drain/goaways"),
                number("/drain/sessions"),
                number("/drain/seconds"),
                number("/drain/left")
            ),
        ),
        (
            "generator: CPU share, rings, bytes per client",
            format!(
                "{}, {}, {}",
                number("/generator/cpu"),
                number("/generator/rings"),
                number("/generator/bytes_per_client")
            ),
        ),
    ];
    for (what, figure) in rows {
        let _ = writeln!(page, "| {what} | {figure} |");
    }
    let text = |name: &str| place[name].as_str().map_or_else(|| place[name].to_string(), str::to_owned);
    let _ = writeln!(
        page,
        "\n{}, {} cores, {}, kernel {}, commit {}, {}. Both ends on this machine.\n\n`{command}`",
        text("cpu"),
        text("cores"),
        text("memory"),
        text("kernel"),
        text("commit"),
        text("rustc"),
    );
    page
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_page_has_what_the_report_has_and_a_dash_for_the_rest() {
        let report = json!({
            "verdict": "pass", "reasons": ["All well."],
            "sessions": { "held": 1_000_000, "wanted": 1_000_000, "lost": 0, "failed": 0 },
            "connect_us": { "p50": 1500, "p99": 20_000, "p999": 30_000, "max": 40_000 },
        });
        let page = page(&report, &json!({ "cores": 2 }), "roost-load hold");
        for part in
            ["# 1000000 sessions", "**pass**. All well.", "p50 1.5 ms, p99 20.0 ms", "| broadcast, regime | - |"]
        {
            assert!(page.contains(part), "{part}: {page}");
        }
    }
}
