//! `compare.html`: what differs first, then bars of every figure, then what can be told and what cannot.

use std::fmt::Write as _;

use super::criterion::Benches;
use super::table::{letter, rows, word};
use super::{Cell, Comparison, Judgement, Row, caveats};
use crate::report::draw::{Bar, Bars, Figure, Table, escape};
use crate::report::sheet::frame;

/// The page. `worse`: the share by which a figure may be worse, and those that are by more.
pub(super) fn page(comparison: &Comparison, worse: Option<&(f64, Vec<String>)>) -> String {
    let names: Vec<&str> = comparison.sides.iter().map(|side| side.name.as_str()).collect();
    let heading = if names.is_empty() { "Benches".to_owned() } else { names.join(" and ") };
    let mut body = answer(comparison, worse);
    if !comparison.rows.is_empty() {
        body += &ratios(comparison);
        body += &values(comparison);
    }
    body += &comparison.benches.as_ref().map_or(String::new(), benches);
    if !comparison.sides.is_empty() {
        body += &sides(comparison);
    }
    let (_, told) = verdict(comparison, worse);
    frame(&format!("roost-load compare: {heading}"), &told, "", &body, "")
}

/// The class and the words of what came of it.
fn verdict(comparison: &Comparison, worse: Option<&(f64, Vec<String>)>) -> (&'static str, String) {
    let cells = || comparison.rows.iter().flat_map(|row| row.others.iter().flatten());
    let count = |judgement: Judgement| cells().filter(|cell| cell.judgement == judgement).count();
    let (better, bad) = (count(Judgement::Better), count(Judgement::Worse));
    if comparison.invalid() {
        return ("warn", "▲ Invalid: the generator was the limit".into());
    }
    if let Some((share, list)) = worse
        && !list.is_empty()
    {
        return ("bad", format!("✗ {} worse by more than {:.0} %", figures(list.len()), share * 100.0));
    }
    match (better, bad) {
        _ if comparison.rows.is_empty() => ("well", "Benches".into()),
        (0, 0) => ("well", "No difference that is more than chance".into()),
        (better, 0) => ("well", format!("✓ {} better, none worse", figures(better))),
        (0, bad) => ("warn", format!("▲ {} worse, none better", figures(bad))),
        (better, bad) => ("warn", format!("▲ {} better, {} worse", figures(better), bad)),
    }
}

fn figures(count: usize) -> String {
    if count == 1 { "1 figure".into() } else { format!("{count} figures") }
}

fn answer(comparison: &Comparison, worse: Option<&(f64, Vec<String>)>) -> String {
    let (class, told) = verdict(comparison, worse);
    let mut list: Vec<String> = worse.map(|(_, list)| list.clone()).unwrap_or_default();
    if list.is_empty() {
        for row in &comparison.rows {
            for (side, cell) in comparison.sides.iter().skip(1).zip(&row.others) {
                let Some(cell) = cell else { continue };
                if matches!(cell.judgement, Judgement::Better | Judgement::Worse) {
                    let (was, is) = (row.figure.told(row.base), row.figure.told(cell.value));
                    let ratio = cell.ratio.map_or(String::new(), |ratio| format!(" ({ratio:.2} times)"));
                    list.push(format!(
                        "{}, {}: {} was {was} and is {is}{ratio}",
                        word(cell),
                        side.name,
                        row.figure.name
                    ));
                }
            }
        }
    }
    list.truncate(12);
    list.extend(comparison.warnings.iter().cloned());
    let list: String = list.iter().map(|line| format!("<li>{}</li>", escape(line))).collect();
    format!("<div class=\"verdict {class}\" id=\"answer\"><strong>{}</strong><ul>{list}</ul></div>\n", escape(&told))
}

/// A bar for each figure: its ratio to the first side, with its interval.
fn ratios(comparison: &Comparison) -> String {
    const RATIO_MAX: f64 = 3.0;
    let mut drawing = String::new();
    for (at, side) in comparison.sides.iter().enumerate().skip(1) {
        let cells = comparison.rows.iter().filter_map(|row| Some((row, row.others[at - 1].as_ref()?)));
        let bars = cells.filter_map(|(row, cell)| bar(row, cell, RATIO_MAX)).collect::<Vec<_>>();
        if bars.is_empty() {
            continue;
        }
        let label = format!("Ratio of each figure of {} to that of {}.", side.name, comparison.sides[0].name);
        let bars = Bars { label, bars, line: Some(1.0) };
        let (name, first) = (escape(&side.name), escape(&comparison.sides[0].name));
        write!(drawing, "<h3>{name} by {first}</h3>{}", bars.svg()).expect("a String takes everything");
    }
    let table = rows(comparison);
    let (head, rest) = table.split_first().map_or_else(Default::default, |(head, rest)| (head.clone(), rest.to_vec()));
    Figure {
        id: "ratios",
        title: "Ratios".into(),
        intro: "The line is 1: no difference. Whiskers are 95 % intervals. Green is better, red is worse, grey may be chance \
                or could not be tested."
            .into(),
        drawing,
        note: caveats(comparison).iter().map(|caveat| escape(caveat)).collect::<Vec<_>>().join("<br>"),
        table: Table { caption: "Figures of each side".into(), head, rows: rest },
        open: true,
        ..Figure::default()
    }
    .html()
}

fn bar(row: &Row, cell: &Cell, ratio_max: f64) -> Option<Bar> {
    let ratio = cell.ratio?;
    let way = if row.figure.more_is_better { "more is better" } else { "less is better" };
    Some(Bar {
        name: row.figure.name.to_owned(),
        value: ratio.min(ratio_max),
        text: format!("{ratio:.2}  {} ({way})", word(cell)),
        class: match cell.judgement {
            Judgement::Better => "well",
            Judgement::Worse => "bad",
            _ => "c",
        },
        interval: cell.interval.map(|interval| (interval.low.min(ratio_max), interval.high.min(ratio_max))),
    })
}

/// The values themselves, as bars of those figures that people ask for first.
fn values(comparison: &Comparison) -> String {
    let mut drawing = String::new();
    for row in comparison.rows.iter().filter(|row| row.figure.shown) {
        let others = row.others.iter().map(|cell| cell.as_ref().map(|cell| cell.value));
        let all = std::iter::once(Some(row.base)).chain(others);
        let bars = comparison.sides.iter().zip(all).enumerate().filter_map(|(at, (side, value))| {
            let value = value?;
            let class = if at == 0 { "b" } else { "a" };
            Some(Bar { name: side.name.clone(), value, text: row.figure.told(value), class, interval: None })
        });
        let better = if row.figure.more_is_better { "more is better" } else { "less is better" };
        let name = escape(row.figure.name);
        let bars = Bars { label: format!("{} of each side", row.figure.name), bars: bars.collect(), line: None };
        write!(drawing, "<h3>{name} <small>{better}</small></h3>{}", bars.svg()).expect("a String takes everything");
    }
    if drawing.is_empty() {
        return drawing;
    }
    Figure { id: "values", title: "Values".into(), drawing, ..Figure::default() }.html()
}

/// Criterion's estimates.
pub(crate) fn benches(benches: &Benches) -> String {
    let table = benches.rows();
    let (head, rest) = table.split_first().map_or_else(Default::default, |(head, rest)| (head.clone(), rest.to_vec()));
    let drawing: String = benches
        .groups()
        .into_iter()
        .map(|(name, bars)| {
            let label = format!("Estimates of {name}, with 95 % intervals.");
            format!("<h3>{}</h3>{}", escape(&name), Bars { label, bars, line: None }.svg())
        })
        .collect();
    Figure {
        id: "criterion",
        title: "Benches".into(),
        intro: "Criterion's estimates of one iteration, with their confidence intervals.".into(),
        drawing,
        table: Table { caption: "Criterion's estimates".into(), head, rows: rest },
        ..Figure::default()
    }
    .html()
}

/// Which runs, of what, where.
fn sides(comparison: &Comparison) -> String {
    let row = |(at, side): (usize, &super::Side)| {
        let runs = &side.runs;
        let some = |pointer: &str| {
            let told = runs.first().and_then(|run| run.report.pointer(pointer));
            told.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
        };
        vec![
            letter(at),
            side.name.clone(),
            runs.len().to_string(),
            some("/environment/commit"),
            some("/server/version"),
            some("/environment/started"),
            some("/environment/command"),
        ]
    };
    Figure {
        id: "sides",
        title: "Runs".into(),
        table: Table {
            caption: "The sides".into(),
            head: ["", "name", "runs", "commit", "server", "first begun", "command"].map(str::to_owned).into(),
            rows: comparison.sides.iter().enumerate().map(row).collect(),
        },
        open: true,
        ..Figure::default()
    }
    .html()
}
