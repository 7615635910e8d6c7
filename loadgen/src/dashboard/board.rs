//! What the dashboard shows, as data.

use std::collections::VecDeque;
use std::time::Instant;

use crate::host::watch::Look;
use crate::progress::Standing;

/// Seconds of history: as many as a wide terminal has columns.
const HISTORY_MAX: usize = 240;

/// Everything that stands on the dashboard.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// What is run.
    pub title: String,
    /// The phases of the load, and how many seconds each is to last.
    pub plan: Vec<(String, f64)>,
    /// Steps so far; the last one goes on.
    pub steps: Vec<(String, Instant)>,
    pub standing: Standing,
    pub server: Option<ServerNow>,
    /// Cores that this process uses.
    pub generator_cores: Option<f64>,
    /// Something in words.
    pub note: String,
    pub rates: VecDeque<u64>,
    pub latencies_us: VecDeque<u64>,
    pub cpu_percent: VecDeque<u64>,
}

/// The server between the last two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ServerNow {
    pub user_cores: f64,
    pub system_cores: f64,
    pub rss_bytes: Option<u64>,
}

impl Board {
    /// A step begins.
    pub(crate) fn begin(&mut self, step: &str) {
        self.steps.push((step.to_owned(), Instant::now()));
        self.note.clear();
        self.standing.second = None;
    }

    /// How it stands now; `looks` are the last two at the server and at this process.
    pub(crate) fn tell(&mut self, standing: &Standing, looks: Option<(Option<Look>, Option<Look>)>) {
        self.standing = standing.clone();
        keep(&mut self.rates, standing.delivered.max(standing.acknowledged).max(standing.connected.unwrap_or(0)));
        keep(&mut self.latencies_us, standing.delivery_p99_us.unwrap_or(0));
        let Some((Some(before), Some(last))) = looks else { return };
        let seconds = last.at.duration_since(before.at).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let cores = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e9 / seconds;
        if let (Some(from), Some(to)) = (before.own, last.own) {
            self.generator_cores = Some(cores(from.user_ns + from.system_ns, to.user_ns + to.system_ns));
        }
        if let (Some(from), Some(to)) = (before.server, last.server) {
            let now = ServerNow {
                user_cores: cores(from.user_ns, to.user_ns),
                system_cores: cores(from.system_ns, to.system_ns),
                rss_bytes: last.rss_bytes,
            };
            keep(&mut self.cpu_percent, ((now.user_cores + now.system_cores) * 100.0).round() as u64);
            self.server = Some(now);
        }
    }
}

fn keep(history: &mut VecDeque<u64>, value: u64) {
    history.push_back(value);
    if history.len() > HISTORY_MAX {
        history.pop_front();
    }
}
