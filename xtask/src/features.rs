//! Holds docs/features.md to its word: a row that is called done names tests that exist. docs/security.md as well: every
//! row has a limit, an answer, a metric and such tests.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, bail};

use crate::steps::root;

/// Folders that hold tests.
const FOLDERS: &[&str] =
    &["wire", "edge", "storage", "router", "link", "client", "server", "sim", "loadgen", "web", "tests"];
/// Rows of the matrix: f01 to f41.
const ROWS: usize = 41;

/// Compares the matrix with the tests in the tree.
pub(crate) fn check() -> anyhow::Result<()> {
    let mut sources = String::new();
    for folder in FOLDERS {
        read_sources(&root().join(folder), &mut sources)?;
    }
    let page = std::fs::read_to_string(root().join("docs/features.md")).context("docs/features.md is missing")?;
    let complaints = complaints(&page, &sources);
    if !complaints.is_empty() {
        bail!("docs/features.md does not hold:\n  {}", complaints.join("\n  "))
    }
    let page = std::fs::read_to_string(root().join("docs/security.md")).context("docs/security.md is missing")?;
    let complaints = unproven(&page, &sources);
    if complaints.is_empty() { Ok(()) } else { bail!("docs/security.md does not hold:\n  {}", complaints.join("\n  ")) }
}

/// What rows `s01`, `s02`, … of docs/security.md lack.
fn unproven(page: &str, sources: &str) -> Vec<String> {
    const CELLS: &[&str] = &["what is tried", "limit", "answer", "metric", "tests"];
    let mut found = Vec::new();
    let mut rows = 0;
    for line in page.lines().filter(|line| line.starts_with("| s")) {
        rows += 1;
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let (id, cells) = (cells[0], &cells[1..]);
        if id != format!("s{rows:02}") {
            found.push(format!("{id}: s{rows:02} is next"));
        }
        if cells.len() != CELLS.len() {
            found.push(format!("{id}: {} cells, not {}", cells.len(), CELLS.len()));
            continue;
        }
        found.extend(
            CELLS.iter().zip(cells).filter(|(_, cell)| cell.is_empty()).map(|(name, _)| format!("{id}: no {name}")),
        );
        if !cells[3].contains("`roost_") {
            found.push(format!("{id}: no metric is named"));
        }
        for name in cells[4].split('`').skip(1).step_by(2).filter(|name| !has_test(sources, name)) {
            found.push(format!("{id}: there is no test `{name}`"));
        }
    }
    if rows == 0 {
        found.push("it has no rows".into());
    }
    found
}

fn complaints(page: &str, sources: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rows = BTreeSet::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, id, _, _, tests, state, ..] = cells[..] else { continue };
        let is_id = id.len() == 3 && id.starts_with('f') && id[1..].bytes().all(|byte| byte.is_ascii_digit());
        if !is_id {
            continue;
        }
        rows.insert(id.to_owned());
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        for name in &names {
            if !has_test(sources, name) {
                found.push(format!("{id}: there is no test `{name}`"));
            }
            if !name.split('_').any(|part| part == id) {
                found.push(format!("{id}: `{name}` does not carry the row's id"));
            }
        }
        match state {
            "done" if names.is_empty() => found.push(format!("{id}: done, but no test is named")),
            "done" | "part" | "planned" => {}
            other => found.push(format!("{id}: the state is done, part or planned, not {other:?}")),
        }
    }
    if rows.len() != ROWS {
        found.push(format!("it has {} rows, not {ROWS}", rows.len()));
    }
    found
}

/// True if a test is called `name`: a function of that name, or a title that begins with it, as tests in JavaScript
/// have it.
fn has_test(sources: &str, name: &str) -> bool {
    sources.match_indices(name).any(|(at, _)| {
        let (before, after) = (&sources[..at], &sources[at + name.len()..]);
        let begins = ["fn ", "def ", "\"", "'"].iter().any(|mark| before.ends_with(mark));
        begins && !after.starts_with(|c: char| c.is_alphanumeric() || c == '_')
    })
}

fn read_sources(folder: &Path, into: &mut String) -> anyhow::Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !matches!(name, "node_modules" | "target" | "__pycache__") {
                read_sources(&path, into)?;
            }
        } else if [".rs", ".js", ".mjs", ".py"].iter().any(|ending| name.ends_with(ending)) {
            into.push_str(&std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complains_of_tests_that_do_not_exist_and_of_rows_without_any() {
        let page = "| f01 | a | wire | `f01_it_works` | done |\n| f02 | b | edge | | done |\n| f03 | c | | | soon |";
        let found = complaints(page, "fn f01_it_works() {}").join("\n");
        assert!(!found.contains("f01"), "{found}");
        assert!(found.contains("f02: done, but no test"), "{found}");
        assert!(found.contains("f03: the state"), "{found}");
        assert!(found.contains("3 rows"), "{found}");
        assert!(complaints(page, "").join("\n").contains("f01: there is no test"));
    }

    #[test]
    fn a_row_of_security_without_proof_is_found() {
        let sources = "fn it_is_refused() {}";
        let row = "| s01 | a flood | 3 | 429 | `roost_x_total` | `it_is_refused` |";
        assert_eq!(unproven(row, sources), Vec::<String>::new());
        for (from, to, complaint) in [
            ("s01", "s02", "s01 is next"),
            ("| 3 |", "| |", "no limit"),
            ("`roost_x_total`", "counted", "no metric is named"),
            ("it_is_refused", "it_is_not", "there is no test `it_is_not`"),
            (" | 429", "", "4 cells"),
        ] {
            let found = unproven(&row.replace(from, to), sources).join("; ");
            assert!(found.contains(complaint), "{found}");
        }
        assert_eq!(unproven("", sources), ["it has no rows"]);
    }

    #[test]
    fn a_name_counts_only_where_a_test_has_it() {
        for (sources, counts) in [
            ("    async fn f01_works() {}", true),
            ("def f01_works(server):", true),
            ("test(\"f01_works on a phone\", …)", true),
            ("// see f01_works", false),
            ("fn f01_works_twice() {}", false),
            ("fn not_f01_works() {}", false),
        ] {
            assert_eq!(has_test(sources, "f01_works"), counts, "{sources}");
        }
        assert!(
            complaints("| f02 | a | b | `f01_works` | part |", "fn f01_works() {}").join("").contains("the row's id")
        );
    }
}
