//! Medians, ratios and where they were measured.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use super::case::{Case, Comparison};
use super::place;

/// One figure of one round.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) case: &'static str,
    pub(crate) server: &'static str,
    /// From 1.
    pub(crate) round: usize,
    pub(crate) figure: f64,
    /// The figure says more of the generator than of the server: at least this good.
    pub(crate) generator_was_the_limit: bool,
    /// The whole report.
    pub(crate) report: Value,
}

/// Everything that a run measured.
pub(crate) struct Results {
    comparison: &'static Comparison,
    place: Value,
    measured: Vec<Measured>,
    quick: bool,
}

impl Results {
    pub(crate) fn new(comparison: &'static Comparison, place: Value, measured: Vec<Measured>, quick: bool) -> Self {
        Self { comparison, place, measured, quick }
    }

    /// Writes them into `folder` by the name of the comparison, replacing those of the same day.
    pub(crate) fn keep(&self, folder: &Path) -> anyhow::Result<()> {
        keep(folder, self.comparison.name, &self.place, &self.json(), &self.page())
    }

    fn rounds(&self, case: &Case, server: &str) -> Vec<f64> {
        let of = self.measured.iter().filter(|one| one.case == case.name && one.server == server);
        of.map(|one| one.figure).collect()
    }

    /// Roost's median as a multiple of the other's; `None` where only Roost was measured.
    fn ratio(&self, case: &Case) -> Option<f64> {
        let medians: Vec<f64> = case.servers.iter().map(|kind| median(&self.rounds(case, kind.name()))).collect();
        let [roost, other] = medians[..] else { return None };
        Some(roost / other)
    }

    fn json(&self) -> Value {
        let Comparison { command, cases, .. } = self.comparison;
        let cases: Vec<Value> = cases
            .iter()
            .map(|case| {
                let servers: serde_json::Map<String, Value> = case
                    .servers
                    .iter()
                    .map(|kind| {
                        let rounds = self.rounds(case, kind.name());
                        (kind.name().to_owned(), json!({ "median": median(&rounds), "rounds": rounds }))
                    })
                    .collect();
                json!({
                    "name": case.name,
                    "what": case.what,
                    "roost_load": case.args(self.quick).split_whitespace().collect::<Vec<_>>(),
                    "more_is_better": case.more_is_better,
                    "servers": servers,
                    "ratio": self.ratio(case),
                })
            })
            .collect();
        let rounds: Vec<Value> = self
            .measured
            .iter()
            .map(|one| {
                json!({
                    "round": one.round,
                    "case": one.case,
                    "server": one.server,
                    "figure": one.figure,
                    "generator_was_the_limit": one.generator_was_the_limit,
                    "report": one.report,
                })
            })
            .collect();
        json!({ "schema": 2, "command": command, "place": self.place, "cases": cases, "rounds": rounds })
    }

    /// The page for people.
    pub(crate) fn page(&self) -> String {
        let Comparison { title, command, other, cases, .. } = self.comparison;
        let mut page = format!("# {title}\n\n");
        // Writing to a String cannot fail.
        let mut line = |text: String| {
            let _ = writeln!(page, "{text}");
        };
        line(format!("| figure | Roost | {other} | Roost / {other} |\n|---|---|---|---|"));
        for case in *cases {
            let median_of = |server| {
                let rounds = self.rounds(case, server);
                if rounds.is_empty() { "-".to_owned() } else { format!("{:.*}", case.decimals, median(&rounds)) }
            };
            let ratio = self.ratio(case).map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
            let better = if case.more_is_better { "more is better" } else { "less is better" };
            line(format!("| {} ({better}) | {} | {} | {ratio} |", case.what, median_of("roost"), median_of(other)));
        }
        line(format!(
            "\nMedians of {} rounds; in each round the servers took turns, each started afresh.",
            self.round_count()
        ));
        line("Figures of single rounds, in order:\n".to_owned());
        for case in *cases {
            for kind in case.servers {
                let rounds: Vec<_> =
                    self.rounds(case, kind.name()).iter().map(|one| format!("{one:.*}", case.decimals)).collect();
                line(format!("- {}, {}: {}", case.what, kind.name(), rounds.join(", ")));
            }
        }
        if self.measured.iter().any(|one| one.generator_was_the_limit) {
            line("\nIn some rounds the generator was the limit: the server does at least this much.".to_owned());
        }
        line(place::section(&self.place).trim_end().to_owned());
        line(format!("\n## How\n\n```\n{command}"));
        for case in *cases {
            line(format!("roost-load {}", case.args(self.quick)));
        }
        line("```".to_owned());
        page
    }

    fn round_count(&self) -> usize {
        self.measured.iter().map(|one| one.round).max().unwrap_or(0)
    }
}

/// Writes `<date>-<name>.json` and `.md` into `folder`, replacing those of the same day.
pub(crate) fn keep(folder: &Path, name: &str, place: &Value, json: &Value, page: &str) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let date = place["date"].as_str().unwrap_or("unknown");
    // Where the programs were built says nothing to others.
    let target = crate::steps::target();
    for (ending, text) in [("json", &*format!("{json:#}\n")), ("md", page)] {
        let text = text.replace(&*target.to_string_lossy(), "target");
        let path = folder.join(format!("{date}-{name}.{ending}"));
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

/// The middle one; of an even number the mean of the two in the middle. NaN of none.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[len / 2],
        len => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::case::COMPARE;

    fn results() -> Results {
        let mut measured = Vec::new();
        for (server, figures) in [("roost", [900.0, 100.0, 300.0]), ("baseline", [600.0, 700.0, 500.0])] {
            for (at, figure) in figures.into_iter().enumerate() {
                for case in COMPARE.cases.iter().filter(|case| case.servers.iter().any(|kind| kind.name() == server)) {
                    let (case, round) = (case.name, at + 1);
                    measured.push(Measured {
                        case,
                        server,
                        round,
                        figure,
                        generator_was_the_limit: round == 2,
                        report: json!({}),
                    });
                }
            }
        }
        Results::new(&COMPARE, json!({ "date": "2026-01-31", "cores": 2 }), measured, false)
    }

    #[test]
    fn medians_stand_one_bad_round() {
        assert_eq!(median(&[900.0, 100.0, 300.0]), 300.0);
        assert_eq!(median(&[1.0, 2.0]), 1.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_page_has_medians_ratios_raw_rounds_and_the_place() {
        let page = results().page();
        for part in [
            "(less is better) | 300 | 600 | 0.50 |",
            "256 senders (more is better) | 300 | - | - |",
            "Medians of 3 rounds",
            "roost: 900, 100, 300",
            "the generator was the limit",
            "- cores: 2\n- date: 2026-01-31",
            "roost-load idle --connections 10000",
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
    }

    #[test]
    fn the_json_keeps_every_round() {
        let json = results().json();
        assert_eq!(json["cases"][0]["servers"]["roost"]["median"], 300.0);
        assert_eq!(json["cases"][0]["ratio"], 0.5);
        assert!(json["cases"][3]["ratio"].is_null());
        assert_eq!(json["rounds"].as_array().map(Vec::len), Some(21));
    }
}
