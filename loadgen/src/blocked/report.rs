//! What came of it: `report.json`, a page made from it, and a summary for a terminal.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use super::{Measured, Plan, Udp, WORLDS};
use crate::host::Environment;
use crate::progress::time;
use crate::report::Quantiles;
use crate::report::sheet::{Sheet, escape, place};
use crate::verdict::{Facts, Verdict};

/// The version of the report's form. It changes when a field changes its meaning or goes.
const FORMAT: &str = "roost-load-udp-blocked/1";

const NOTE: &str = "Clients are those of the SDK, one after the other on a server of their own in each world. What was learned of a network \
    is not used here: everybody comes for the first time.";

/// `report.json`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) format: &'static str,
    pub(crate) verdict: Verdict,
    pub(crate) exit_code: u8,
    /// Why the verdict is what it is, in sentences.
    pub(crate) reasons: Vec<String>,
    pub(crate) worlds: Vec<World>,
    pub(crate) scenario: Plan,
    pub(crate) environment: Environment,
}

/// What became of clients where UDP comes through, or does not.
#[derive(Debug, Serialize)]
pub(crate) struct World {
    pub(crate) udp: Udp,
    /// From when a client was meant to begin to its session, and to its first message's acknowledgement.
    pub(crate) session_us: Quantiles,
    pub(crate) first_message_us: Quantiles,
    /// Clients that entered, by what carried them.
    pub(crate) ways: BTreeMap<&'static str, u64>,
    /// Clients that did not, by reason.
    pub(crate) failed: BTreeMap<String, u64>,
    pub(crate) acknowledged: u64,
    /// Messages in the log.
    pub(crate) stored: u64,
}

impl World {
    fn of(measured: &Measured) -> Self {
        Self {
            udp: measured.udp,
            session_us: Quantiles::of(&measured.session),
            first_message_us: Quantiles::of(&measured.first_message),
            ways: measured.ways.clone(),
            failed: measured.failed.clone(),
            acknowledged: measured.acknowledged,
            stored: measured.stored,
        }
    }

    const fn name(&self) -> &'static str {
        match self.udp {
            Udp::Open => "comes through",
            Udp::Refused => "is refused",
            Udp::Swallowed => "is swallowed",
        }
    }

    /// What carried the clients, in words.
    fn ways(&self) -> String {
        let ways: Vec<String> = self.ways.iter().map(|(way, count)| format!("{count} by {way}")).collect();
        if ways.is_empty() { "nobody".into() } else { ways.join(", ") }
    }
}

impl Report {
    pub(crate) fn new(scenario: Plan, measured: &[Measured], environment: Environment) -> Self {
        let worlds: Vec<World> = measured.iter().map(World::of).collect();
        let failed: u64 = worlds.iter().flat_map(|world| world.failed.values()).sum();
        let entered: u64 = worlds.iter().map(|world| world.session_us.count).sum();
        let lost: u64 = worlds.iter().map(|world| world.acknowledged.saturating_sub(world.stored)).sum();
        let facts = Facts {
            unreachable: entered == 0 && !worlds.is_empty(),
            broken: lost > 0,
            threshold_failed: failed > 0,
            interrupted: worlds.len() < WORLDS.len(),
            ..Facts::default()
        };
        let verdict = Verdict::of(facts);
        let mut reasons = Vec::new();
        match verdict {
            Verdict::Pass => reasons.push("Everybody entered, and every acknowledged message is in the log.".into()),
            Verdict::Interrupted => reasons.push("The run was stopped: the report is partial.".into()),
            _ => {}
        }
        if lost > 0 {
            reasons.push(format!("{lost} acknowledged messages are not in the log."));
        }
        if failed > 0 {
            reasons.push(format!("{failed} clients did not enter, or could say nothing."));
        }
        let failures = worlds.iter().flat_map(|world| &world.failed);
        reasons.extend(failures.map(|(why, count)| format!("{count} times: {why}.")));
        Self { format: FORMAT, verdict, exit_code: verdict.exit_code(), reasons, worlds, scenario, environment }
    }

    /// Writes `report.json` and `report.html` into `out`.
    ///
    /// # Errors
    /// They cannot be written.
    pub(crate) fn write(&self, out: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(self).context("a report is plain data")?;
        for (name, text) in [("report.json", format!("{json}\n")), ("report.html", self.page(&json))] {
            let path = out.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// A few lines for a terminal.
    pub(crate) fn summary(&self, out: &Path) -> String {
        let mut text = self.verdict.told(self.exit_code, &self.reasons);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<16}{:>10}{:>10}{:>10}  first message p50", "UDP", "p50", "p99", "max");
        for world in &self.worlds {
            let at = |us: Option<u64>| us.map_or("–".into(), time);
            let Quantiles { p50, p99, max, .. } = world.session_us;
            let first = at(world.first_message_us.p50);
            let _ = writeln!(
                text,
                "{:<16}{:>10}{:>10}{:>10}  {first:<10}  {}",
                world.name(),
                at(p50),
                at(p99),
                at(max),
                world.ways()
            );
        }
        if self.environment.build == "debug" {
            text += "This is a debug build: its numbers say nothing about speed.\n";
        }
        let _ = writeln!(text, "{:<12}{}", "report", out.join("report.html").display());
        text
    }

    fn page(&self, json: &str) -> String {
        let most = self.worlds.iter().filter_map(|world| world.session_us.p99).max().unwrap_or(1).max(1);
        let rows: String = self.worlds.iter().map(|world| row(world, most)).collect();
        let table = format!(
            "<section><h2>How long users wait for their session</h2><p>From the moment they begin. The bar ends at the median, \
             its line at the 99th percentile.</p>\n<table><tr><th>UDP</th><th>p50</th><th>p99</th><th>max</th>\
             <th>first message stored, p50</th><th></th><th>by</th></tr>{rows}</table></section>\n"
        );
        let sheet = Sheet {
            name: "udp-blocked",
            verdict: self.verdict,
            reasons: &self.reasons,
            answer: format!(
                "{} users in each world, {} a second, whose apps try QUIC first.",
                self.scenario.clients, self.scenario.rate
            ),
            sections: table + &place(&self.environment, NOTE),
            environment: &self.environment,
            json: Some(json),
        };
        sheet.html()
    }
}

fn row(world: &World, most_us: u64) -> String {
    const WIDTH: f64 = 220.0;
    let at = |us: Option<u64>| us.map_or("–".into(), time);
    let wide = |us: Option<u64>| us.unwrap_or(0) as f64 / most_us as f64 * WIDTH;
    let Quantiles { p50, p99, max, .. } = world.session_us;
    let (median, tail) = (wide(p50), wide(p99));
    let picture = format!(
        "<svg viewBox=\"0 0 {WIDTH} 14\" width=\"{WIDTH}\" height=\"14\" role=\"img\" aria-label=\"median {}, 99 % within {}\">\
         <line x1=\"0\" y1=\"7\" x2=\"{tail:.1}\" y2=\"7\" stroke=\"var(--b)\" stroke-width=\"2\"/>\
         <rect width=\"{median:.1}\" height=\"14\" rx=\"2\" fill=\"var(--b)\"/></svg>",
        at(p50),
        at(p99)
    );
    format!(
        "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{picture}</td><td>{}</td></tr>",
        world.name(),
        at(p50),
        at(p99),
        at(max),
        at(world.first_message_us.p50),
        escape(&world.ways()),
    )
}
