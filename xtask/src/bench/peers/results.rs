//! Medians, ratios, and what went wrong.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::load::{Figure, LOADS, Load};
use super::peer::Peer;
use crate::bench::{place, results::median};

/// The two that others are compared with.
const ROOST: [&str; 2] = ["roost", "roost-plain"];
/// What of a report is kept for each round.
const KEPT: [&str; 7] = ["verdict", "reasons", "setup", "deliveries", "echo", "last_delivery_us", "generator"];

/// What came of one server under one load.
#[derive(Debug)]
pub(super) struct Outcome {
    /// From 1.
    pub(super) round: u32,
    pub(super) load: &'static Load,
    pub(super) peer: String,
    /// Or why there are no figures.
    pub(super) measured: Result<Measured, String>,
}

#[derive(Debug)]
pub(super) struct Measured {
    /// By their names.
    pub(super) figures: Vec<(&'static str, f64)>,
    pub(super) generator_was_the_limit: bool,
    pub(super) report: Value,
}

/// Everything that a run came to.
#[derive(Debug)]
pub(super) struct Results {
    pub(super) place: Value,
    pub(super) command: String,
    pub(super) peers: Vec<Peer>,
    /// Who took no part, and why.
    pub(super) missing: Vec<(String, String)>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) quick: bool,
}

/// Every figure, in the order of the page.
fn figures() -> impl Iterator<Item = &'static Figure> {
    LOADS.iter().flat_map(|load| load.figures)
}

impl Outcome {
    fn figure(&self, figure: &Figure) -> Option<f64> {
        let measured = self.measured.as_ref().ok()?;
        measured.figures.iter().find(|(name, _)| *name == figure.name).map(|(_, value)| *value)
    }

    /// What has to be said of it beside its figures.
    fn remark(&self) -> Option<String> {
        let Self { round, load, peer, measured } = self;
        let said = match measured {
            Err(why) => format!("failed, and is not in the medians: {why}"),
            Ok(measured) => {
                let regime = measured.report.pointer("/deliveries/regime").and_then(Value::as_str);
                let other = regime.filter(|regime| load.regime.is_some_and(|wanted| wanted != *regime))?;
                format!("was {other}, not {}: it had not told everybody when the next message came", load.regime?)
            }
        };
        Some(format!("{peer}, {}, round {round}: {said}", load.name))
    }
}

impl Results {
    fn rounds(&self, peer: &str, figure: &Figure) -> Vec<f64> {
        let of = self.outcomes.iter().filter(|outcome| outcome.peer == peer);
        of.filter_map(|outcome| outcome.figure(figure)).collect()
    }

    /// `None`: not measured.
    fn median(&self, peer: &str, figure: &Figure) -> Option<f64> {
        Some(median(&self.rounds(peer, figure))).filter(|median| median.is_finite())
    }

    /// One of Roost's medians as a multiple of a peer's; `None` where one of them was not measured or is nothing.
    fn ratio(&self, roost: &str, peer: &str, figure: &Figure) -> Option<f64> {
        let other = self.median(peer, figure).filter(|median| *median > 0.0)?;
        Some(self.median(roost, figure)? / other)
    }

    /// The page for people.
    pub(super) fn page(&self) -> String {
        let mut page = String::from("# Roost and other servers\n\n");
        let rounds = self.outcomes.iter().map(|outcome| outcome.round).max().unwrap_or(0);
        let _ = writeln!(
            page,
            "Medians of {rounds} rounds; in each round the servers took turns, each started afresh for each load. CPU-seconds are \
            user and system time of the server's process. Figures of different regimes say nothing about each other."
        );
        self.glance(&mut page);
        for figure in figures() {
            self.table(figure, &mut page);
        }
        self.told(&mut page);
        self.servers(&mut page);
        page += &place::section(&self.place);
        let _ = writeln!(page, "\n## How\n\n```\n{}", self.command);
        for load in LOADS {
            let _ = writeln!(page, "roost-load {}", load.args(self.quick).collect::<Vec<_>>().join(" "));
        }
        page += "```\n";
        page
    }

    /// All medians in one table.
    fn glance(&self, page: &mut String) {
        let titles: Vec<_> = figures().map(|figure| format!("{} ({})", figure.title, figure.unit)).collect();
        let _ = writeln!(page, "\n| server | {} |\n|---|{}", titles.join(" | "), "---:|".repeat(titles.len()));
        for Peer { name, .. } in &self.peers {
            let medians: Vec<_> =
                figures().map(|figure| self.median(name, figure).map_or("-".to_owned(), grouped)).collect();
            let _ = writeln!(page, "| {name} | {} |", medians.join(" | "));
        }
    }

    fn table(&self, figure: &Figure, page: &mut String) {
        let better = if figure.more_is_better { "More is better" } else { "Less is better" };
        let _ = writeln!(page, "\n## {}\n\n{} {better}.\n", figure.title, figure.what);
        page.push_str(
            "| server | median | Roost / it | Roost's plain path / it | rounds |\n|---|---:|---:|---:|---|\n",
        );
        for peer in &self.peers {
            let shown = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
            let [roost, plain] = ROOST.map(|roost| shown(self.ratio(roost, &peer.name, figure)));
            let rounds: Vec<_> = self.rounds(&peer.name, figure).iter().map(|one| grouped(*one)).collect();
            let median = self.median(&peer.name, figure).map_or("-".to_owned(), grouped);
            let _ = writeln!(page, "| {} | {median} | {roost} | {plain} | {} |", peer.name, rounds.join(", "));
        }
    }

    fn told(&self, page: &mut String) {
        let mut told: Vec<String> =
            self.missing.iter().map(|(name, why)| format!("{name} took no part: {why}")).collect();
        told.extend(self.outcomes.iter().filter_map(Outcome::remark));
        for load in LOADS {
            let of = self.outcomes.iter().filter(|outcome| outcome.load.name == load.name);
            let limited = of.filter(|outcome| outcome.measured.as_ref().is_ok_and(|one| one.generator_was_the_limit));
            let mut names: Vec<&str> = limited.map(|outcome| outcome.peer.as_str()).collect();
            names.dedup();
            names.sort_unstable();
            names.dedup();
            if !names.is_empty() {
                told.push(format!(
                    "{}: the generator was the limit of the rate (not of what a CPU-second does) with {}",
                    load.name,
                    names.join(", ")
                ));
            }
        }
        if !told.is_empty() {
            let _ = writeln!(page, "\n## What has to be told\n");
            for line in told {
                let _ = writeln!(page, "- {line}");
            }
        }
    }

    fn servers(&self, page: &mut String) {
        page.push_str("\n## Who\n\n| server | what | a connection is |\n|---|---|---|\n");
        for Peer { name, version, speaks, .. } in &self.peers {
            let _ = writeln!(page, "| {name} | {version} | {} |", speaks.session());
        }
    }

    pub(super) fn json(&self) -> Value {
        let figures = LOADS.iter().flat_map(|load| load.figures.iter().map(move |figure| (load, figure)));
        let figures = figures.map(|(load, figure)| {
            let of = |peer: &Peer| {
                let name = &peer.name;
                let [roost, plain] = ROOST.map(|roost| self.ratio(roost, name, figure));
                let (median, rounds) = (self.median(name, figure), self.rounds(name, figure));
                let value =
                    json!({ "median": median, "rounds": rounds, "roost_to_it": roost, "roost_plain_to_it": plain });
                (name.clone(), value)
            };
            json!({
                "name": figure.name,
                "what": figure.what,
                "roost_load": load.args(self.quick).collect::<Vec<_>>().join(" "),
                "more_is_better": figure.more_is_better,
                "servers": self.peers.iter().map(of).collect::<serde_json::Map<_, _>>(),
            })
        });
        let rounds = self.outcomes.iter().map(|Outcome { round, load, peer, measured }| {
            let mut line = json!({ "round": round, "load": load.name, "server": peer });
            match measured {
                Ok(measured) => {
                    let report: serde_json::Map<_, _> =
                        KEPT.iter().map(|part| ((*part).to_owned(), measured.report[*part].clone())).collect();
                    line["report"] = report.into();
                }
                Err(why) => line["failed"] = why.as_str().into(),
            }
            line
        });
        let who = self.peers.iter().map(|peer| {
            json!({ "name": peer.name, "version": peer.version, "protocol": peer.speaks.name(), "connection": peer.speaks.session() })
        });
        let missing = self.missing.iter().map(|(name, why)| json!({ "name": name, "why": why }));
        json!({
            "schema": 1,
            "command": self.command,
            "place": self.place,
            "servers": who.collect::<Vec<_>>(),
            "missing": missing.collect::<Vec<_>>(),
            "figures": figures.collect::<Vec<_>>(),
            "rounds": rounds.collect::<Vec<_>>(),
        })
    }
}

/// A number with its thousands apart.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::peers::peer::{Speaks, Start};

    fn results() -> Results {
        let peers = [("roost", Speaks::Roost), ("roost-plain", Speaks::Plain), ("other", Speaks::Plain)];
        let peers = peers.map(|(name, speaks)| Peer {
            name: name.into(),
            version: format!("{name} 1.2"),
            speaks,
            start: Start::Told(vec!["x".into()]),
        });
        let peers = Vec::from(peers);
        let mut outcomes = Vec::new();
        for (round, factor) in [(1, 9.0), (2, 1.0), (3, 3.0)] {
            for load in LOADS {
                for (peer, base) in peers.iter().zip([1000.0, 2000.0, 4000.0]).filter(|(peer, _)| load.suits(peer)) {
                    let broken = peer.name == "other" && load.name == "bursts" && round == 2;
                    let late = peer.name == "other" && load.name == "paced-1000" && round == 3;
                    let regime = if late { Some("overlapping") } else { load.regime };
                    let measured = Measured {
                        figures: load.figures.iter().map(|figure| (figure.name, base * factor)).collect(),
                        generator_was_the_limit: load.name == "echo",
                        report: json!({ "verdict": "pass", "deliveries": { "regime": regime } }),
                    };
                    let measured = if broken { Err("it ended".to_owned()) } else { Ok(measured) };
                    outcomes.push(Outcome { round, load, peer: peer.name.clone(), measured });
                }
            }
        }
        let missing = vec![("nats".to_owned(), "there is no Go".to_owned())];
        let place = json!({ "date": "2026-01-31", "cores": 2 });
        Results { place, command: "cargo xtask bench peers".into(), peers, missing, outcomes, quick: false }
    }

    #[test]
    fn the_page_has_medians_ratios_rounds_and_what_went_wrong() {
        let page = results().page();
        for part in [
            "| roost | 3 000 | 1.00 | 2.00 | 9 000, 1 000, 3 000 |",
            "| other | 12 000 | 0.25 | 0.50 | 36 000, 4 000, 12 000 |",
            // Of the two rounds that did not fail.
            "| other | 24 000 | 0.12 | 0.25 | 36 000, 12 000 |",
            // Nothing of a session is sent back.
            "| roost | - | - | - |  |",
            "- nats took no part: there is no Go",
            "- other, bursts, round 2: failed, and is not in the medians: it ended",
            "- other, paced-1000, round 3: was overlapping, not paced",
            "- echo: the generator was the limit of the rate (not of what a CPU-second does) with other, roost-plain",
            "| other | other 1.2 | an upgrade |",
            "- cores: 2\n- date: 2026-01-31",
            "roost-load hold --connections 16000",
            "| Idle memory (B) | Kernel (B) | Set-up (/CPU-s) |",
            "| other | 12 000 | 12 000 | 12 000 | 12 000 | 12 000 | 12 000 | 24 000 |",
            "Less is better.",
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
    }

    #[test]
    fn the_json_keeps_every_round_and_its_failures() {
        let json = results().json();
        assert_eq!(json["figures"][0]["servers"]["other"]["median"], 12_000.0);
        assert_eq!(json["figures"][0]["servers"]["other"]["roost_to_it"], 0.25);
        assert!(json["figures"][3]["servers"]["roost"]["median"].is_null());
        let rounds = json["rounds"].as_array().unwrap();
        assert_eq!(rounds.len(), 42);
        assert_eq!(rounds.iter().filter(|round| round["failed"] == "it ended").count(), 1);
        assert_eq!(json["missing"][0]["name"], "nats");
    }

    #[test]
    fn thousands_stand_apart() {
        for (number, text) in [(0.0, "0"), (999.4, "999"), (1000.0, "1 000"), (1_234_567.0, "1 234 567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
