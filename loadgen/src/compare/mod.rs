//! Runs against runs: by how much each figure differs, and whether that may be chance.
//!
//! Several runs on a side are tested against each other; of one run a side only its seconds are known, and what they can
//! and cannot tell is said beside the numbers (see [`stats`] for the methods and their sources).

pub(crate) mod criterion;
pub(crate) mod figures;
mod page;
mod read;
mod stats;
mod table;

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use criterion::Benches;
use figures::{FIGURES, Figure, Unit};
pub(crate) use page::benches;
pub(crate) use read::Side;
use stats::Interval;

/// Chance of a difference below which it counts as one.
const SIGNIFICANT: f64 = 0.05;
/// The same where runs are too few for that: three a side, none of which is within the range of the other side.
const FEW: f64 = 0.1001;

/// All sides, and each figure of them; the first side is what the others are compared with.
#[derive(Debug)]
pub(crate) struct Comparison {
    pub sides: Vec<Side>,
    rows: Vec<Row>,
    /// In which way the runs are not of one kind.
    pub warnings: Vec<String>,
    pub benches: Option<Benches>,
}

/// One figure on every side.
#[derive(Debug)]
struct Row {
    figure: &'static Figure,
    base: f64,
    /// Of the other sides; `None` where one has no such figure.
    others: Vec<Option<Cell>>,
}

/// A figure of a side, beside that of the first.
#[derive(Clone, Copy, Debug)]
struct Cell {
    value: f64,
    /// By the first side's; `None` if that is zero.
    ratio: Option<f64>,
    interval: Option<Interval>,
    /// How likely chance alone parts the sides so far; `None` if it could not be tested.
    chance: Option<f64>,
    method: Method,
    judgement: Judgement,
    /// By which share of the first side's it is worse; negative if it is better.
    worse_by: f64,
}

/// What a comparison of one figure rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// Runs against runs.
    Runs,
    /// The seconds of one run against those of another.
    Seconds,
    /// One number against another.
    Numbers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    Same,
    Better,
    Worse,
    /// It may be chance.
    Unclear,
    /// There is nothing by which to tell.
    Untested,
}

impl Comparison {
    /// Reads the sides and compares the others with the first.
    ///
    /// # Errors
    /// A side has no report, or one that cannot be read.
    pub(crate) fn read(paths: &[PathBuf], criterion: &[PathBuf]) -> anyhow::Result<Self> {
        let sides = paths.iter().map(|path| Side::read(path)).collect::<anyhow::Result<Vec<_>>>()?;
        let benches = match criterion {
            [] => None,
            some => Some(Benches::read(some)?),
        };
        Ok(Self::of(read::named(sides), benches))
    }

    fn of(sides: Vec<Side>, benches: Option<Benches>) -> Self {
        let rows = FIGURES.iter().filter_map(|figure| row(figure, &sides)).collect();
        let warnings = read::warnings(&sides);
        Self { sides, rows, warnings, benches }
    }

    /// The figures that are worse by more than `share`, and not by chance, in sentences.
    pub(crate) fn worse_than(&self, share: f64) -> Vec<String> {
        let mut worse = Vec::new();
        for row in &self.rows {
            for (side, cell) in self.sides.iter().skip(1).zip(&row.others) {
                let Some(cell) = cell else { continue };
                let told = cell.judgement == Judgement::Worse
                    // Where nothing can be tested the number stands for itself.
                    || cell.judgement == Judgement::Untested;
                if told && cell.worse_by > share {
                    let by = if cell.worse_by.is_finite() {
                        format!("{:.1} % worse", cell.worse_by * 100.0)
                    } else {
                        "worse".to_owned()
                    };
                    let (figure, name) = (row.figure, &side.name);
                    let (was, is) = (figure.told(row.base), figure.told(cell.value));
                    let how = cell.method.how();
                    worse.push(format!("{}: {name} is {by} ({is}, was {was}; {how})", figure.name));
                }
            }
        }
        worse
    }

    /// Whether some side has no run in which the generator was not the limit.
    pub(crate) fn invalid(&self) -> bool {
        self.sides.iter().any(|side| side.runs.iter().all(|run| !run.is_valid()))
    }

    /// For the terminal.
    pub(crate) fn table(&self) -> String {
        table::table(self)
    }

    /// Writes `compare.html` into `out`.
    pub(crate) fn write(&self, out: &Path, worse: Option<&(f64, Vec<String>)>) -> anyhow::Result<PathBuf> {
        std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        let path = out.join("compare.html");
        let page = page::page(self, worse);
        std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

impl Method {
    const fn how(self) -> &'static str {
        match self {
            Self::Runs => "runs against runs",
            Self::Seconds => "seconds of one run a side",
            Self::Numbers => "one number a side, untested",
        }
    }
}

fn row(figure: &'static Figure, sides: &[Side]) -> Option<Row> {
    let (first, others) = sides.split_first()?;
    let base = stats::median(&first.values(figure))?;
    let others: Vec<_> = others.iter().map(|side| cell(figure, first, side)).collect();
    // Where all are nothing there is nothing to tell.
    let telling = base != 0.0 || others.iter().flatten().any(|cell| cell.value != 0.0);
    (others.iter().any(Option::is_some) && telling).then_some(Row { figure, base, others })
}

fn cell(figure: &Figure, first: &Side, side: &Side) -> Option<Cell> {
    let (a, b) = (first.values(figure), side.values(figure));
    let (base, value) = (stats::median(&a)?, stats::median(&b)?);
    let ratio = (base != 0.0).then_some(value / base);
    let worse_by = match (figure.more_is_better, ratio) {
        (true, Some(ratio)) => 1.0 - ratio,
        (false, Some(ratio)) => ratio - 1.0,
        (true, None) => 0.0,
        (false, None) if value > 0.0 => f64::INFINITY,
        (false, None) => 0.0,
    };
    let (method, interval, chance) = if a.len() > 1 && b.len() > 1 {
        (Method::Runs, stats::runs_interval(&a, &b), stats::rank_test(&a, &b))
    } else if let Some(interval) = seconds(figure, first, side) {
        (Method::Seconds, Some(interval), None)
    } else {
        (Method::Numbers, None, None)
    };
    let judgement = judge(figure, ratio, worse_by, method, interval, chance, (&a, &b));
    Some(Cell { value, ratio, interval, chance, method, judgement, worse_by })
}

/// What the seconds of one run a side say.
fn seconds(figure: &Figure, first: &Side, side: &Side) -> Option<Interval> {
    let each = figure.each_second?;
    let ([a], [b]) = (&first.runs[..], &side.runs[..]) else { return None };
    stats::series_interval(&a.seconds(each), &b.seconds(each))
}

fn judge(
    figure: &Figure,
    ratio: Option<f64>,
    worse_by: f64,
    method: Method,
    interval: Option<Interval>,
    chance: Option<f64>,
    (a, b): (&[f64], &[f64]),
) -> Judgement {
    if worse_by == 0.0 {
        return Judgement::Same;
    }
    let told = if worse_by > 0.0 { Judgement::Worse } else { Judgement::Better };
    // A promise that is broken where it was kept is no matter of chance.
    let promise = figure.unit == Unit::Count && !figure.more_is_better;
    if ratio.is_none() && promise {
        return told;
    }
    match method {
        Method::Runs => {
            let least = stats::least_chance(a.len(), b.len());
            let low = |of: &[f64]| of.iter().copied().fold(f64::INFINITY, f64::min);
            let high = |of: &[f64]| of.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let apart = high(a) < low(b) || high(b) < low(a);
            // Three runs a side cannot reach the usual bound: that they do not overlap at all is the most they can say.
            let few = (SIGNIFICANT..=FEW).contains(&least) && apart;
            let shown = chance.is_some_and(|chance| chance < SIGNIFICANT) || few;
            if shown { told } else { Judgement::Unclear }
        }
        Method::Seconds => {
            let Some(Interval { low, high }) = interval else { return Judgement::Untested };
            let up = ratio.is_some_and(|ratio| ratio > 1.0);
            if (up && low > 1.0) || (!up && high < 1.0) { told } else { Judgement::Unclear }
        }
        Method::Numbers => Judgement::Untested,
    }
}

/// What the methods that were used can and cannot tell, in sentences.
fn caveats(comparison: &Comparison) -> Vec<String> {
    let mut caveats = Vec::new();
    let cells = || comparison.rows.iter().flat_map(|row| row.others.iter().flatten());
    let used = |method: Method| cells().any(|cell| cell.method == method);
    let counts: Vec<usize> = comparison.sides.iter().map(|side| side.runs.len()).collect();
    if used(Method::Runs) {
        let least = counts[1..].iter().map(|count| stats::least_chance(counts[0], *count)).fold(0.0, f64::max);
        caveats.push(
            "Medians of runs; p is that of the two-sided rank-sum test of Mann and Whitney, the interval that of a percentile \
             bootstrap (95 %). Of twenty figures that do not differ, one has p < 0.05 by chance."
                .into(),
        );
        if least > FEW {
            caveats.push(format!(
                "So few runs cannot give p below {least:.2}, and show no difference: run each side three times at least, in turns."
            ));
        } else if least >= SIGNIFICANT {
            caveats.push(format!(
                "So few runs cannot give p below {least:.2}: a figure counts as different if no run of one side is within the \
                 range of the other. Four runs a side can tell more, ten much more."
            ));
        }
    }
    if used(Method::Seconds) {
        caveats.push(
            "One run a side: the interval is that of a moving-block bootstrap over the seconds of each run (95 %). It tells how \
             much a figure sways within a run. What differs from one run to the next, such as where memory lies or what else \
             the machine does, it cannot tell: run each side several times, in turns, to know."
                .into(),
        );
    }
    if used(Method::Numbers) {
        caveats.push(
            "Figures marked “untested” are one number a side: there is nothing by which to tell a change from chance."
                .into(),
        );
    }
    caveats
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A run with these deliveries a second and this p99, and seconds that sway a little around them.
    fn run(per_second: f64, p99: f64) -> serde_json::Value {
        let second = |at: u64| {
            let sway = if at.is_multiple_of(2) { 0.98 } else { 1.02 };
            json!({ "second": at, "delivered": (per_second * sway) as u64, "delivery_p99_us": (p99 * sway) as u64 })
        };
        json!({
            "format": "roost-load/2", "verdict": "pass", "valid": true, "name": "quick",
            "deliveries": { "per_second": per_second }, "delivery_us": { "p99": p99 }, "lost": 0,
            "server": { "user_bytes_per_session": 3000.0 },
            "series": (0..30).map(second).collect::<Vec<_>>(),
        })
    }

    fn side(name: &str, runs: &[serde_json::Value]) -> Side {
        Side::of(name, runs.to_vec())
    }

    fn judged(comparison: &Comparison, pointer: &str) -> (Judgement, Method) {
        let row = comparison.rows.iter().find(|row| row.figure.pointer == pointer).unwrap();
        let cell = row.others[0].unwrap();
        (cell.judgement, cell.method)
    }

    fn around(per_second: f64, p99: f64, runs: u32) -> Vec<serde_json::Value> {
        (0..runs).map(|at| run(per_second + f64::from(at), p99 + f64::from(at))).collect()
    }

    #[test]
    fn runs_that_part_clearly_differ_and_runs_that_mix_do_not() {
        let base = side("a", &around(1000.0, 500.0, 5));
        let slow = Comparison::of(vec![base.clone(), side("b", &around(800.0, 900.0, 5))], None);
        assert_eq!(judged(&slow, "/deliveries/per_second"), (Judgement::Worse, Method::Runs));
        assert_eq!(judged(&slow, "/delivery_us/p99"), (Judgement::Worse, Method::Runs));
        assert_eq!(judged(&slow, "/server/user_bytes_per_session").0, Judgement::Same);
        let alike = Comparison::of(vec![base, side("b", &around(1000.5, 500.5, 5))], None);
        assert_eq!(judged(&alike, "/deliveries/per_second").0, Judgement::Unclear);
        assert!(alike.worse_than(0.0).is_empty());
        let worse = slow.worse_than(0.05);
        assert_eq!(worse.len(), 2, "{worse:?}");
        assert!(slow.worse_than(0.9).is_empty());
    }

    #[test]
    fn three_runs_a_side_say_only_what_three_runs_can() {
        let base = side("a", &around(1000.0, 500.0, 3));
        let apart = Comparison::of(vec![base.clone(), side("b", &around(900.0, 500.5, 3))], None);
        assert_eq!(judged(&apart, "/deliveries/per_second").0, Judgement::Worse);
        assert_eq!(judged(&apart, "/delivery_us/p99").0, Judgement::Unclear);
        assert!(caveats(&apart).iter().any(|caveat| caveat.contains("cannot give p below 0.10")));
        let two = Comparison::of(vec![side("a", &around(1000.0, 500.0, 2)), side("b", &around(900.0, 500.5, 2))], None);
        assert_eq!(judged(&two, "/deliveries/per_second").0, Judgement::Unclear);
        assert!(caveats(&two).iter().any(|caveat| caveat.contains("three times at least")));
    }

    #[test]
    fn one_run_a_side_is_judged_by_its_seconds() {
        let base = side("a", &[run(1000.0, 500.0)]);
        let slow = Comparison::of(vec![base.clone(), side("b", &[run(900.0, 502.0)])], None);
        assert_eq!(judged(&slow, "/deliveries/per_second"), (Judgement::Worse, Method::Seconds));
        assert_eq!(judged(&slow, "/delivery_us/p99"), (Judgement::Unclear, Method::Seconds));
        assert!(caveats(&slow).iter().any(|caveat| caveat.contains("cannot tell")));
        let mut fat = run(1000.0, 500.0);
        fat["server"]["user_bytes_per_session"] = json!(4000.0);
        let fat = Comparison::of(vec![base, side("b", &[fat])], None);
        assert_eq!(judged(&fat, "/server/user_bytes_per_session"), (Judgement::Untested, Method::Numbers));
        assert_eq!(fat.worse_than(0.05).len(), 1, "a number that cannot be tested stands for itself");
    }

    #[test]
    fn a_promise_that_was_kept_and_is_broken_is_worse_whatever_chance_says() {
        let mut losing = run(1000.0, 500.0);
        losing["lost"] = json!(3);
        let comparison = Comparison::of(vec![side("a", &[run(1000.0, 500.0)]), side("b", &[losing])], None);
        assert_eq!(judged(&comparison, "/lost").0, Judgement::Worse);
        let worse = comparison.worse_than(1000.0);
        assert!(worse.len() == 1 && worse[0].contains("messages lost"), "{worse:?}");
    }

    #[test]
    fn what_is_not_of_one_kind_is_said() {
        let mut other = run(1000.0, 500.0);
        other["name"] = json!("hold");
        other["valid"] = json!(false);
        other["verdict"] = json!("generator");
        let comparison = Comparison::of(vec![side("a", &[run(1000.0, 500.0)]), side("b", &[other])], None);
        assert!(comparison.warnings.iter().any(|warning| warning.contains("scenario")), "{:?}", comparison.warnings);
        assert!(comparison.warnings.iter().any(|warning| warning.contains("generator")), "{:?}", comparison.warnings);
        assert!(comparison.invalid());
    }

    #[test]
    fn tables_and_pages_tell_every_side_and_what_can_be_told() {
        let sides = vec![side("one", &around(1000.0, 500.0, 3)), side("<two>", &around(900.0, 700.0, 3))];
        let comparison = Comparison::of(sides, None);
        let table = comparison.table();
        for part in ["one", "<two>", "deliveries", "0.90", "worse", "rank-sum"] {
            assert!(table.contains(part), "{part} is missing:\n{table}");
        }
        let worse = (0.05, comparison.worse_than(0.05));
        let page = page::page(&comparison, Some(&worse));
        assert!(page.contains("&lt;two&gt;") && !page.contains("<two>") && page.contains("<svg"));
        assert!(page.contains("class=\"verdict bad\""), "what is worse stands first");
    }
}
