//! What came of a run of many clients, as data: `report.json` (`loadgen/report/mass.schema.json`), and a page made
//! from it. Numbers that other reports have as well stand in the same places.

mod build;
mod page;
mod summary;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

pub(crate) use build::report;
pub(crate) use summary::summary;

use super::plan::{Drop, Plan, Regime};
use crate::host::Environment;
use crate::report::Quantiles;
use crate::threshold::Held;
use crate::verdict::Verdict;

/// The version of the report's form. It changes when a field changes its meaning or goes.
pub(crate) const FORMAT: &str = "roost-load-mass/1";

/// `report.json`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) format: &'static str,
    pub(crate) verdict: Verdict,
    pub(crate) exit_code: u8,
    /// Why the verdict is what it is, in sentences.
    pub(crate) reasons: Vec<String>,
    pub(crate) sessions: Sessions,
    pub(crate) setup: Setup,
    /// From the intended beginning of a connection to the session, all attempts and waits included.
    pub(crate) connect_us: Quantiles,
    /// `None` if they were not held.
    pub(crate) hold: Option<Hold>,
    pub(crate) heartbeats: Heartbeats,
    /// `None` if nothing was published.
    pub(crate) deliveries: Option<Deliveries>,
    /// From the intended time of a message to each push of it.
    pub(crate) delivery_us: Quantiles,
    /// To the first and to the last push of each message.
    pub(crate) first_delivery_us: Quantiles,
    pub(crate) last_delivery_us: Quantiles,
    /// From the intended time of a message to its SENT.
    pub(crate) ack_us: Quantiles,
    pub(crate) echo: Option<Echo>,
    pub(crate) storm: Option<Storm>,
    pub(crate) drain: Option<Drain>,
    /// Pushes of what a session had been pushed before.
    pub(crate) duplicated: u64,
    /// Pushes after a later one.
    pub(crate) reordered: u64,
    /// Pushes and answers that hold something else than was sent.
    pub(crate) garbled: u64,
    /// ERRORs by code.
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) server: Server,
    pub(crate) generator: Generator,
    pub(crate) thresholds: Vec<Held>,
    pub(crate) environment: Environment,
    pub(crate) scenario: Plan,
}

#[derive(Debug, Serialize)]
pub(crate) struct Sessions {
    pub(crate) wanted: u64,
    /// Live at the end of the ramp and of the hold, whichever was last.
    pub(crate) held: u64,
    /// Clients given up.
    pub(crate) failed: u64,
    /// Ended and should not have.
    pub(crate) lost: u64,
    /// Times that one went on from another address.
    pub(crate) migrated: u64,
    /// How connections ended.
    pub(crate) ends: BTreeMap<String, u64>,
}

/// How they came about.
#[derive(Debug, Serialize)]
pub(crate) struct Setup {
    pub(crate) per_second_wanted: f64,
    /// Sessions per second of the ramp, its slowest connections included.
    pub(crate) per_second: f64,
    pub(crate) seconds: f64,
    pub(crate) attempts_failed: u64,
    /// Of these, answered with a status other than 101; and of these, told when to come back.
    pub(crate) turned_away: u64,
    pub(crate) told_when: u64,
    /// Handshakes of the whole run that were begun with a ticket. `None`: all were to be whole ones.
    pub(crate) tickets_used: Option<u64>,
    pub(crate) server_cpu_us: Option<f64>,
    pub(crate) per_server_cpu_second: Option<f64>,
    pub(crate) generator_cpu_us: Option<f64>,
}

/// While all were there and did nothing.
#[derive(Debug, Serialize)]
pub(crate) struct Hold {
    pub(crate) seconds: f64,
    pub(crate) sessions: u64,
    pub(crate) server_cpu_percent_of_a_core: Option<f64>,
    pub(crate) generator_cpu_percent_of_a_core: Option<f64>,
}

/// In the whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Heartbeats {
    pub(crate) every_ms: u64,
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    /// Not answered in time: the session counts as lost.
    pub(crate) unanswered: u64,
    /// From the intended time of a heartbeat to its answer.
    pub(crate) answer_us: Quantiles,
}

#[derive(Debug, Serialize)]
pub(crate) struct Deliveries {
    pub(crate) regime: Regime,
    pub(crate) subscribers: u64,
    /// Times that the server was too busy for a subscription, which was asked for once more.
    pub(crate) subscribes_repeated: u64,
    pub(crate) publishes: u64,
    /// Publishes that the server acknowledged; a plain one does not.
    pub(crate) acknowledged: u64,
    pub(crate) expected: u64,
    pub(crate) pushed: u64,
    /// Expected, and not pushed in time to sessions that were there.
    pub(crate) missing: u64,
    /// Times that the server said it had left pushes out.
    pub(crate) left_out: u64,
    pub(crate) per_second: f64,
    pub(crate) seconds: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Echo {
    pub(crate) echoed: u64,
    pub(crate) unanswered: u64,
    pub(crate) per_second: f64,
    pub(crate) seconds: f64,
    pub(crate) per_server_cpu_second: Option<f64>,
    pub(crate) echo_us: Quantiles,
}

#[derive(Debug, Serialize)]
pub(crate) struct Storm {
    pub(crate) how: Drop,
    pub(crate) window_seconds: f64,
    pub(crate) dropped: u64,
    /// Until everybody was back, from the first drop.
    pub(crate) seconds: f64,
    pub(crate) returned: u64,
    pub(crate) failed: u64,
    pub(crate) attempts_failed: u64,
    pub(crate) turned_away: u64,
    pub(crate) told_when: u64,
    /// From a client's slot to its session.
    pub(crate) return_us: Quantiles,
    pub(crate) server_cpu_us_per_session: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Drain {
    /// Sessions when it began, and those that were asked to go.
    pub(crate) sessions: u64,
    pub(crate) goaways: u64,
    /// Until nobody was left.
    pub(crate) seconds: f64,
    pub(crate) left: u64,
    pub(crate) ends: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) own: bool,
    pub(crate) pid: Option<u32>,
    pub(crate) version: Option<String>,
    /// Growth of all that is resident, by session.
    pub(crate) user_bytes_per_session: Option<f64>,
    /// Of its anonymous memory alone.
    pub(crate) anonymous_bytes_per_session: Option<f64>,
    pub(crate) kernel_bytes_per_session: Option<f64>,
    /// What both ends took of the host's available memory, by session.
    pub(crate) host_bytes_per_session: Option<f64>,
    pub(crate) memory_note: &'static str,
    pub(crate) cpu_us_per_delivery: Option<f64>,
    pub(crate) deliveries_per_cpu_second: Option<f64>,
    pub(crate) rss_bytes: Resident,
}

#[derive(Debug, Serialize)]
pub(crate) struct Resident {
    pub(crate) without_sessions: Option<u64>,
    pub(crate) idle: Option<u64>,
    pub(crate) at_the_end: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Generator {
    pub(crate) threads: u32,
    pub(crate) rings: usize,
    /// Growth of all that is resident, by client.
    pub(crate) bytes_per_client: Option<f64>,
    /// Share of its threads' time spent on a CPU, in the part of the run that is judged.
    pub(crate) cpu: f64,
    pub(crate) late_p99_us: Option<u64>,
    /// Actual against intended times of connections and of publishes.
    pub(crate) late_us: Quantiles,
    pub(crate) cpu_max: f64,
    pub(crate) late_p99_us_max: u64,
}

impl Report {
    /// Writes `report.json` and `report.html` into `out`.
    pub(crate) fn write(&self, out: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        let json = serde_json::to_string_pretty(self).context("cannot write the report as JSON")?;
        for (name, text) in [("report.html", page::page(self, &json)), ("report.json", json + "\n")] {
            let path = out.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}
