//! What attacks came to: `hostile.json`, and a page made from it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use super::attack::Heard;
use super::conduct::Attacked;
use super::page;
use super::windows::{Measured, Schedule};
use crate::host::Environment;
use crate::recorder::Recorder;
use crate::report::Report;
use crate::verdict::{Facts, Verdict};

/// The version of the report's form. It changes when a field changes its meaning or goes.
pub(crate) const FORMAT: &str = "roost-load-hostile/1";

const NOTE: &str = "Attackers, generator and server share this machine's cores, so a part of every ratio is their competition for \
    them; the rates of the attackers are bounded and told. Each number is the median over windows; the windows without an attack \
    lie between the attacks, and how much they scatter is how much any number here may.";

/// `hostile.json`.
#[derive(Debug, Serialize)]
pub(crate) struct Hostile {
    pub format: &'static str,
    pub verdict: Verdict,
    pub exit_code: u8,
    /// Why the verdict is what it is, in sentences.
    pub reasons: Vec<String>,
    /// How much the 99th percentile of deliveries may grow under attack.
    pub ratio_max: f64,
    pub window_seconds: u64,
    /// The good load.
    pub clients: u32,
    pub sends_per_second: f64,
    pub note: &'static str,
    /// All windows without an attack.
    pub quiet: Measured,
    pub kinds: Vec<OfKind>,
    pub server_version: Option<String>,
    pub environment: Environment,
}

/// One kind of attack.
#[derive(Debug, Serialize)]
pub(crate) struct OfKind {
    pub kind: String,
    pub what: &'static str,
    /// At which rates, in a sentence.
    pub rates: String,
    pub under_attack: Measured,
    /// Under attack by quiet, of deliveries and of acknowledgements.
    pub delivery_ratio: Ratio,
    pub ack_ratio: Ratio,
    pub well: bool,
    /// What the attacker did and heard; `None` if it failed.
    pub attacker: Option<Heard>,
    /// Why it failed.
    pub failure: Option<String>,
    /// By how much counters of the server rose.
    pub counted: BTreeMap<String, f64>,
}

/// Quotients, to two places; `None` where nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Ratio {
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    pub p999: Option<f64>,
}

/// What the report is made of.
pub(crate) struct Material<'a> {
    pub schedule: Schedule,
    pub attacks: Vec<Attacked>,
    pub seconds: &'a BTreeMap<u64, Recorder>,
    pub ratio_max: f64,
    /// Of the good load.
    pub load: &'a Report,
    pub sends_per_second: f64,
}

/// Puts the report together.
pub(crate) fn report(material: Material<'_>) -> Hostile {
    let Material { schedule, attacks, seconds, ratio_max, load, sends_per_second } = material;
    let quiet = Measured::of(&schedule.quiet_windows(), seconds);
    let kinds: Vec<OfKind> = (0..)
        .zip(attacks)
        .map(|(number, attacked)| {
            let under_attack = Measured::of(&schedule.attack_windows(number), seconds);
            of_kind(attacked, under_attack, &quiet, ratio_max)
        })
        .collect();
    let (facts, mut reasons) = judge(&kinds, load, ratio_max);
    let verdict = Verdict::of(facts);
    reasons.extend(load.reasons.iter().map(|reason| format!("the load: {reason}")));
    Hostile {
        format: FORMAT,
        verdict,
        exit_code: verdict.exit_code(),
        reasons,
        ratio_max,
        window_seconds: schedule.window,
        clients: u32::try_from(load.sessions.wanted).unwrap_or(u32::MAX),
        sends_per_second,
        note: NOTE,
        quiet,
        kinds,
        server_version: load.server.version.clone(),
        environment: load.environment.clone(),
    }
}

fn of_kind(attacked: Attacked, under_attack: Measured, quiet: &Measured, ratio_max: f64) -> OfKind {
    let Attacked { kind, heard, counted } = attacked;
    let ratio = |of: fn(&Measured) -> super::windows::Three| {
        let (attack, quiet) = (of(&under_attack), of(quiet));
        Ratio {
            p50: quotient(attack.p50, quiet.p50),
            p99: quotient(attack.p99, quiet.p99),
            p999: quotient(attack.p999, quiet.p999),
        }
    };
    let delivery_ratio = ratio(|measured| measured.delivery_us);
    let ack_ratio = ratio(|measured| measured.ack_us);
    let well = heard.is_ok() && delivery_ratio.p99.is_some_and(|ratio| ratio <= ratio_max);
    let (attacker, failure) = match heard {
        Ok(heard) => (Some(heard), None),
        Err(why) => (None, Some(why)),
    };
    let (rates, what) = (kind.rates(), kind.about());
    OfKind { kind: kind.name(), what, rates, under_attack, delivery_ratio, ack_ratio, well, attacker, failure, counted }
}

fn quotient(attack: u64, quiet: u64) -> Option<f64> {
    (attack > 0 && quiet > 0).then(|| (attack as f64 / quiet as f64 * 100.0).round() / 100.0)
}

fn judge(kinds: &[OfKind], load: &Report, ratio_max: f64) -> (Facts, Vec<String>) {
    let mut reasons = Vec::new();
    for kind in kinds.iter().filter(|kind| !kind.well) {
        reasons.push(match (&kind.failure, kind.delivery_ratio.p99) {
            (Some(why), _) => format!("{}: {why}", kind.kind),
            (None, Some(ratio)) => {
                format!(
                    "{}: the 99th percentile of deliveries is {ratio} times the quiet one, {ratio_max} may be",
                    kind.kind
                )
            }
            (None, None) => format!("{}: nothing was delivered", kind.kind),
        });
    }
    let facts = Facts {
        unreachable: load.verdict == Verdict::Unreachable,
        broken: load.verdict == Verdict::Broken,
        generator_limited: load.verdict == Verdict::Generator,
        threshold_failed: load.verdict == Verdict::Threshold || !reasons.is_empty(),
        interrupted: load.verdict == Verdict::Interrupted,
    };
    (facts, reasons)
}

impl Hostile {
    /// Writes `hostile.json` and `hostile.html` into `out`.
    pub(crate) fn write(&self, out: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(self).context("cannot write the report as JSON")?;
        for (name, text) in [("hostile.html", page::page(self)), ("hostile.json", json + "\n")] {
            let path = out.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostile::kinds::Kind;
    use crate::hostile::windows::Three;

    fn measured(p99: u64) -> Measured {
        let three = Three { p50: p99 / 2, p99, p999: p99 * 2 };
        Measured { windows: 4, delivery_us: three, ack_us: three, ..Measured::default() }
    }

    fn attacked(heard: Result<Heard, String>) -> Attacked {
        Attacked { kind: Kind::Pings, heard, counted: BTreeMap::new() }
    }

    #[test]
    fn an_attack_is_well_up_to_the_ratio_and_not_above_it() {
        for (p99, well, ratio) in [(2000, true, 2.0), (2020, false, 2.02), (500, true, 0.5)] {
            let kind = of_kind(attacked(Ok(Heard::default())), measured(p99), &measured(1000), 2.0);
            assert_eq!((kind.well, kind.delivery_ratio.p99), (well, Some(ratio)), "{p99}");
        }
    }

    #[test]
    fn an_attack_that_failed_or_left_nothing_to_measure_is_not_well() {
        let failed = of_kind(attacked(Err("no".into())), measured(1000), &measured(1000), 2.0);
        assert!(!failed.well && failed.failure.is_some());
        let silent = of_kind(attacked(Ok(Heard::default())), Measured::default(), &measured(1000), 2.0);
        assert!(!silent.well && silent.delivery_ratio == Ratio::default());
    }
}
