//! How much a server carries: the highest load with which every objective is met, how time grows with load, and what
//! more machines would carry.
//!
//! - `search`: which load to try next, and what the tries say; pure;
//! - `law`: the universal scalability law and how well it is known; pure;
//! - `step`: one run, as a process of its own with a report of its own, and what its report says;
//! - `answer`: from the runs to the answer (`capacity.json`, described by `report/capacity.schema.json`); pure;
//! - `page`: `capacity.html` from it.
//!
//! Invariants:
//! - nothing is claimed beyond what was measured without saying so;
//! - a run in which the generator was the limit never counts against the server, and nothing above it is tried.

pub(crate) mod answer;
mod law;
mod page;
pub(crate) mod search;
pub(crate) mod step;

use std::path::Path;

use anyhow::Context as _;

use answer::Capacity;

impl Capacity {
    /// Writes `capacity.json` and `capacity.html` into `out`.
    pub(crate) fn write(&self, out: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        let json = serde_json::to_string_pretty(self).context("cannot write the answer as JSON")?;
        for (name, text) in [("capacity.html", page::page(self, &json)), ("capacity.json", json + "\n")] {
            let path = out.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}
