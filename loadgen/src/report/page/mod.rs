//! `report.html`, made from the report alone: the answer first, then plots, then where and how it was run.

mod answer;
mod facts;
mod latency;
mod limits;
mod server;
mod time;

use super::Report;
use super::sheet::Sheet;
use crate::compare::criterion::Benches;

/// The page of a report; `json` is the report itself, `benches` are put into it.
pub(super) fn page(report: &Report, json: &str, benches: Option<&Benches>) -> String {
    let sections = [
        answer::tiles(report),
        facts::beside(report),
        limits::figure(report),
        latency::percentiles(report),
        time::figures(report),
        server::memory(report),
        server::cpu(report),
        facts::stages(report),
        facts::promises(report),
        facts::thresholds(report),
        facts::sdk(report),
        server::counters(report),
        facts::generator(report),
        facts::workers(report),
        benches.map_or(String::new(), crate::compare::benches),
        facts::environment(report),
    ];
    let sheet = Sheet {
        name: &report.name,
        verdict: report.verdict,
        reasons: &report.reasons,
        answer: answer::sentence(report),
        sections: sections.concat(),
        environment: &report.environment,
        json: Some(json),
    };
    sheet.html()
}
