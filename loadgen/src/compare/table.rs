//! A comparison on a terminal.

use std::fmt::Write as _;

use super::{Cell, Comparison, Judgement, caveats};

/// All of it.
pub(super) fn table(comparison: &Comparison) -> String {
    let mut text = String::new();
    for (at, side) in comparison.sides.iter().enumerate() {
        let runs = side.runs.len();
        let plural = if runs == 1 { "run" } else { "runs" };
        put(&mut text, format_args!("{}  {} ({runs} {plural})\n", letter(at), side.name));
    }
    for warning in &comparison.warnings {
        put(&mut text, format_args!("!  {warning}\n"));
    }
    let rows = rows(comparison);
    if rows.len() > 1 {
        text.push('\n');
        text += &aligned(&rows);
        text.push('\n');
        for caveat in caveats(comparison) {
            put(&mut text, format_args!("{}\n", wrapped(&caveat)));
        }
    }
    if let Some(benches) = &comparison.benches {
        text += "\n";
        text += &aligned(&benches.rows());
    }
    text
}

/// The name of a side in the heads of columns.
pub(super) fn letter(at: usize) -> String {
    u8::try_from(at).ok().filter(|at| *at < 26).map_or(format!("#{at}"), |at| char::from(b'A' + at).to_string())
}

/// What stands in a table: the head first.
pub(super) fn rows(comparison: &Comparison) -> Vec<Vec<String>> {
    let mut head = vec!["figure".to_owned(), "A".to_owned()];
    for at in 1..comparison.sides.len() {
        let letter = letter(at);
        head.extend([letter.clone(), format!("{letter} / A"), "95 %".into(), "p".into(), String::new()]);
    }
    let mut rows = vec![head];
    for row in &comparison.rows {
        let mut cells = vec![row.figure.name.to_owned(), row.figure.told(row.base)];
        for cell in &row.others {
            match cell {
                None => cells.extend(["–", "", "", "", ""].map(str::to_owned)),
                Some(cell) => cells.extend([
                    row.figure.told(cell.value),
                    cell.ratio.map_or("–".into(), |ratio| format!("{ratio:.2}")),
                    interval(cell),
                    cell.chance.map_or(String::new(), |chance| format!("{chance:.3}")),
                    word(cell).to_owned(),
                ]),
            }
        }
        rows.push(cells);
    }
    rows
}

fn interval(cell: &Cell) -> String {
    cell.interval.map_or(String::new(), |interval| format!("{:.2} to {:.2}", interval.low, interval.high))
}

/// What came of a figure, in a word.
pub(super) const fn word(cell: &Cell) -> &'static str {
    match cell.judgement {
        Judgement::Same => "the same",
        Judgement::Better => "better",
        Judgement::Worse => "worse",
        Judgement::Unclear => "may be chance",
        Judgement::Untested => "untested",
    }
}

/// Columns below each other: the first to the left, numbers to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let wide = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| wide(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[at] - cell.chars().count());
            // Words stand left, numbers right.
            let left = at == 0 || cell.starts_with(|first: char| first.is_alphabetic()) && cell.len() > 1;
            line += &if left { format!("{cell}{pad}") } else { format!("{pad}{cell}") };
            line += "  ";
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn wrapped(text: &str) -> String {
    const WIDTH: usize = 100;
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split_whitespace() {
        if line.chars().count() + word.chars().count() + 1 > WIDTH {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines.push(line);
    lines.join("\n")
}

fn put(to: &mut String, what: std::fmt::Arguments<'_>) {
    to.write_fmt(what).expect("a String takes everything");
}
