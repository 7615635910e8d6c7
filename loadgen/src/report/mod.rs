//! The answer of a run, as data: `report.json`, described by `report/schema.json`, and a page made from it.
//!
//! Invariants:
//! - both engines give the same form, and nothing but the form is drawn: a page can be made from a report.json alone;
//! - what was not measured is null, and never zero.

pub(crate) mod build;
pub(crate) mod draw;
pub(crate) mod junit;
mod page;
mod parts;
mod quantiles;
pub(crate) mod seen;
pub(crate) mod series;
pub(crate) mod sheet;
mod summary;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use draw::number;
pub(crate) use parts::{
    AnonymousBytes, Beside, CpuPart, Deliveries, Drain, Echo, Engine, Generator, Heartbeats, Hold, Logs, MemoryPart,
    Moved, PhaseMark, Resident, Sample, Sdk, Sends, Server, Sessions, Setup, Storm, ThreadPart, WorkerPart,
};
pub(crate) use quantiles::{Curves, Quantiles, curve};
pub(crate) use summary::summary;

use crate::compare::criterion::Benches;
use crate::host::Environment;
use crate::ledger::Loss;
use crate::threshold::Held;
use crate::verdict::Verdict;

/// The version of the report's form. It changes when a field changes its meaning or goes.
pub(crate) const FORMAT: &str = "roost-load/2";
/// What a report must be like.
pub(crate) const SCHEMA: &str = include_str!("../../report/schema.json");

/// `report.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub format: String,
    pub engine: Engine,
    /// Of the scenario.
    pub name: String,
    /// What the server speaks.
    pub protocol: String,
    /// What carried the connections, for people.
    pub transport: String,
    pub verdict: Verdict,
    pub exit_code: u8,
    /// Why the verdict is what it is, in sentences.
    pub reasons: Vec<String>,
    /// The generator was not what limited the run: the numbers are the server's.
    pub valid: bool,
    /// Why the run ended before its end; `None` if it did not.
    pub partial: Option<String>,
    pub sessions: Sessions,
    pub setup: Option<Setup>,
    /// Full engine: from opening a connection to WELCOME. Lean: from the intended beginning of a connection to the
    /// session, all attempts and waits included.
    pub connect_us: Quantiles,
    pub hold: Option<Hold>,
    pub heartbeats: Option<Heartbeats>,
    pub sends: Option<Sends>,
    /// `None` if nothing was sent to others.
    pub deliveries: Option<Deliveries>,
    /// From the intended time of a message to each push of it.
    pub delivery_us: Quantiles,
    /// To the first and to the last push of each message, where everybody gets every message.
    pub first_delivery_us: Quantiles,
    pub last_delivery_us: Quantiles,
    /// From the intended time of a message to its SENT.
    pub ack_us: Quantiles,
    pub echo: Option<Echo>,
    pub storm: Option<Storm>,
    pub drain: Option<Drain>,
    /// What the sampled clients of the real SDK saw.
    pub sdk: Option<Sdk>,
    /// Acknowledged messages that are not in the log where they were acknowledged to be. `None`: nothing is
    /// acknowledged, or no log was read.
    pub lost: Option<u64>,
    /// Pushes of what a session had been pushed before, and messages that stand in a log twice.
    pub duplicated: u64,
    /// Pushes after a later one of the same conversation.
    pub reordered: u64,
    /// Messages that hold something else than was sent.
    pub garbled: u64,
    /// Entries that sessions read from the log because no push had brought them.
    pub caught_up: Option<u64>,
    /// Acknowledged entries of which it could not be found out.
    pub unverified: Option<u64>,
    /// The first losses.
    pub losses: Vec<Loss>,
    pub logs: Option<Logs>,
    /// ERRORs by code.
    pub errors: BTreeMap<String, u64>,
    pub server: Server,
    pub generator: Generator,
    /// The processes of a load that several put on; empty if this one did alone.
    pub workers: Vec<WorkerPart>,
    pub thresholds: Vec<Held>,
    pub environment: Environment,
    /// As the engine was told it; the form is the engine's own.
    pub scenario: Value,
    /// Of the plan and of every intended time: the same load has the same one. `None` if the engine tells none.
    pub digest: Option<String>,
    /// How long the load was to last; `None` where that is not a matter of time.
    pub load_seconds: Option<f64>,
    pub phases: Vec<PhaseMark>,
    pub series: Vec<series::Second>,
    /// Latencies at rising quantiles, for curves.
    pub curves: Curves,
    /// Other targets under the same load.
    pub beside: Vec<Beside>,
}

impl Report {
    /// Writes `report.json` and `report.html` into `out`.
    pub(crate) fn write(&self, out: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        let json = self.json()?;
        for (name, text) in [("report.html", page::page(self, &json, None)), ("report.json", json + "\n")] {
            let path = out.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// Reads a `report.json`.
    ///
    /// # Errors
    /// There is none, or it is of another form.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let value: Value = serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
        let format = value["format"].as_str().unwrap_or("none");
        anyhow::ensure!(
            format == FORMAT,
            "{} is of the form {format}, and this program reads {FORMAT}",
            path.display()
        );
        serde_json::from_value(value).with_context(|| format!("{} is no whole report", path.display()))
    }

    /// The page, from the report alone, and benches if there are some.
    pub(crate) fn page(&self, benches: Option<&Benches>) -> anyhow::Result<String> {
        Ok(page::page(self, &self.json()?, benches))
    }

    fn json(&self) -> anyhow::Result<String> {
        serde_json::to_string_pretty(self).context("cannot write the report as JSON")
    }

    /// Holds the report to `thresholds`.
    pub(crate) fn hold_to(&mut self, thresholds: &[crate::threshold::Threshold]) {
        let numbers = serde_json::to_value(&*self).expect("a report is plain data");
        self.thresholds = thresholds.iter().map(|threshold| threshold.check(&numbers)).collect();
    }
}
