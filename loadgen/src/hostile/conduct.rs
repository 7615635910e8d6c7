//! The conductor: starts one attack after another beside the load, and looks at what the server counts meanwhile.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::AS_ATTACKER;
use super::attack::Heard;
use super::kinds::Kind;
use super::windows::Schedule;
use crate::host::metrics;

/// How much longer than its time an attacker may take to end.
const END_WITHIN: Duration = Duration::from_secs(2);
/// How often a waiting conductor looks whether it is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Counters of the server that tell of refusals, closes and floods.
const COUNTERS: &[&str] = &[
    "roost_connections_refused_total",
    "roost_websocket_closes_total",
    "roost_command_errors_total",
    "roost_throttles_total",
    "roost_read_pauses_total",
    "roost_guests_refused_total",
    "roost_accept_pauses_total",
    "roost_router_connects_refused_total",
    "roost_router_errors_total",
    "roost_replies_refused_total",
    "roost_deliveries_dropped_total",
    "roost_mailbox_dropped_total",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
];

/// What one attack came to.
#[derive(Debug)]
pub(crate) struct Attacked {
    pub kind: Kind,
    /// `Err`: the attack did not come about; the text says why.
    pub heard: Result<Heard, String>,
    /// By how much counters of the server rose; memory in bytes.
    pub counted: BTreeMap<String, f64>,
}

/// Who conducts, before the load begins.
pub(crate) struct Conductor {
    pub kinds: Vec<Kind>,
    pub schedule: Schedule,
    pub target: SocketAddr,
    pub admin: Option<SocketAddr>,
    /// What attackers enter with; empty: as guests.
    pub token: String,
}

/// A conductor at work.
pub(crate) struct Conducting {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Attacked>>,
}

impl Conductor {
    /// Begins; the first second of the load begins at `start`.
    pub(crate) fn begin(self, start: Instant) -> std::io::Result<Conducting> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("conductor".into()).spawn(move || self.conduct(start, &told))?;
        Ok(Conducting { stop, thread })
    }

    fn conduct(self, start: Instant, stop: &AtomicBool) -> Vec<Attacked> {
        let mut attacks = Vec::new();
        for (number, kind) in (0..).zip(&self.kinds) {
            let begin = start + Duration::from_secs(self.schedule.begins(number));
            while Instant::now() < begin {
                if stop.load(Ordering::Relaxed) {
                    return attacks;
                }
                std::thread::sleep(LOOK_EVERY.min(begin.saturating_duration_since(Instant::now())));
            }
            let before = self.counters();
            let heard = self.attack(*kind, stop).map_err(|error| format!("{error:#}"));
            let after = self.counters();
            let rise = |(name, value): (String, f64)| {
                let rise = value - before.get(&name).copied().unwrap_or_default();
                (rise > 0.0).then_some((name, rise))
            };
            attacks.push(Attacked { kind: *kind, heard, counted: after.into_iter().filter_map(rise).collect() });
        }
        attacks
    }

    /// Runs one attacker to its end.
    fn attack(&self, kind: Kind, stop: &AtomicBool) -> anyhow::Result<Heard> {
        let time = Duration::from_secs(self.schedule.attack);
        let mut attacker = Command::new(std::env::current_exe().context("cannot find this program")?);
        attacker
            .args([AS_ATTACKER, &kind.name(), &self.target.to_string(), &time.as_millis().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        // Ctrl-C in the terminal is for us.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut attacker, 0);
        let mut attacker = Attacker(attacker.spawn().context("cannot start an attacker")?);
        let mut stdin = attacker.0.stdin.take().context("an attacker without standard input")?;
        writeln!(stdin, "{}", self.token).context("an attacker ended at once")?;
        drop(stdin);
        let end = Instant::now() + time + END_WITHIN;
        let status = loop {
            if let Some(status) = attacker.0.try_wait().context("cannot look after an attacker")? {
                break status;
            }
            if stop.load(Ordering::Relaxed) || Instant::now() > end {
                bail!("the attacker was stopped");
            }
            std::thread::sleep(LOOK_EVERY);
        };
        let mut told = String::new();
        let mut stdout = attacker.0.stdout.take().context("an attacker without standard output")?;
        stdout.read_to_string(&mut told).context("cannot hear an attacker")?;
        if !status.success() {
            bail!("the attacker failed ({status})");
        }
        serde_json::from_str(&told).context("the attacker told something strange")
    }

    fn counters(&self) -> BTreeMap<String, f64> {
        self.admin.and_then(metrics::scrape).map(counters).unwrap_or_default()
    }
}

impl Conducting {
    /// Waits for the last attack, or stops the one under way if the load was stopped.
    pub(crate) fn end(self, interrupted: bool) -> Vec<Attacked> {
        self.stop.fetch_or(interrupted, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

/// An attacker never outlives its conductor.
struct Attacker(Child);

impl Drop for Attacker {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// The series that matter, with their labels: `name{reason="x"}`.
fn counters(mut series: metrics::Series) -> BTreeMap<String, f64> {
    // Connections that their clients end are no news.
    series.retain(|series, _| {
        series.split('{').next().is_some_and(|name| COUNTERS.contains(&name)) && !series.contains("reason=\"peer\"")
    });
    series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_matter_are_read_with_their_labels() {
        let page = "# HELP roost_throttles_total x\n# TYPE roost_throttles_total counter\nroost_throttles_total 3\n\
                    roost_websocket_closes_total{reason=\"peer\"} 9\nroost_websocket_closes_total{reason=\"flood\"} 2\n\
                    roost_other_total 5\n";
        let read: Vec<_> = counters(metrics::parse(page)).into_iter().collect();
        let flood = "roost_websocket_closes_total{reason=\"flood\"}".to_owned();
        assert_eq!(read, [("roost_throttles_total".to_owned(), 3.0), (flood, 2.0)]);
    }
}
