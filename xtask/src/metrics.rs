//! Holds docs/metrics.md and every rule, panel and page that names a metric to the sources.
//!
//! The names stand in the sources as string literals, each followed by its help. They are read from there, so that
//! this needs no server and no build of one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, bail};

use crate::steps::root;

/// Where metrics are named, and whose they are.
const SOURCES: &[(&str, &str)] = &[
    ("edge", "edge/src/metrics/names.rs"),
    ("router", "router/src/metrics/names.rs"),
    ("nodes through redis", "router/src/cluster/redis/metrics.rs"),
    ("edges and routers apart", "link/src/metrics.rs"),
    ("store and process", "server/src/metrics.rs"),
];
/// What may name a metric only if it exists.
const USERS: &[&str] = &["deploy", "docs", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];
/// The page, and the lines of it between which the table stands.
const PAGE: &str = "docs/metrics.md";
const BEGIN: &str = "<!-- begin: cargo xtask metrics -->\n";
const END: &str = "<!-- end -->";

/// A metric as the sources have it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Metric {
    name: String,
    help: String,
    kind: &'static str,
}

/// Writes the table of docs/metrics.md anew.
pub(crate) fn write() -> anyhow::Result<()> {
    let path = root().join(PAGE);
    let page = std::fs::read_to_string(&path).with_context(|| format!("{PAGE} is missing"))?;
    let new = with_table(&page, &table(&read_all()?))?;
    std::fs::write(&path, new).with_context(|| format!("cannot write {PAGE}"))
}

/// Compares the table with the sources, and looks for names that no metric has.
pub(crate) fn check() -> anyhow::Result<()> {
    let all = read_all()?;
    let page = std::fs::read_to_string(root().join(PAGE)).with_context(|| format!("{PAGE} is missing"))?;
    if with_table(&page, &table(&all))? != page {
        bail!("{PAGE} is behind the sources; `cargo xtask metrics` writes it anew");
    }
    let mut known: BTreeSet<String> = crate_names()?;
    for metric in all.values().flatten() {
        known.insert(metric.name.clone());
        if metric.kind == "histogram" {
            known.extend(["_bucket", "_sum", "_count"].map(|part| metric.name.clone() + part));
        }
    }
    let mut complaints = Vec::new();
    for user in USERS {
        each_file(&root().join(user), &mut |path, text| {
            let at = path.strip_prefix(root()).unwrap_or(path).display();
            complaints.extend(unknown(text, &known).map(|name| format!("{at}: there is no metric {name}")));
        })?;
    }
    if complaints.is_empty() { Ok(()) } else { bail!("names that no metric has:\n  {}", complaints.join("\n  ")) }
}

/// Every metric by its owner.
fn read_all() -> anyhow::Result<BTreeMap<&'static str, Vec<Metric>>> {
    let mut all = BTreeMap::new();
    for (owner, path) in SOURCES {
        let source = std::fs::read_to_string(root().join(path)).with_context(|| format!("cannot read {path}"))?;
        let metrics = metrics(&source);
        if metrics.is_empty() {
            bail!("{path} names no metric any more: tell xtask/src/metrics.rs where they are");
        }
        all.insert(*owner, metrics);
    }
    Ok(all)
}

/// The metrics that a source names: a literal that is a name, and the literal after it.
fn metrics(source: &str) -> Vec<Metric> {
    let code: Vec<&str> = source.lines().take_while(|line| *line != "#[cfg(test)]").collect();
    let code: String =
        code.iter().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]).collect();
    // Between quotes, outside, between, … None of these files has a quote in a literal.
    let parts: Vec<&str> = code.split('"').collect();
    let mut found: Vec<Metric> = Vec::new();
    for at in (1..parts.len()).step_by(2) {
        let name = parts[at];
        let is_name =
            ["roost_", "process_"].iter().any(|owner| name.starts_with(owner)) && name.bytes().all(is_name_byte);
        let (true, Some(between), Some(help)) = (is_name, parts.get(at + 1), parts.get(at + 2)) else { continue };
        let kind = match () {
            () if between.contains("histogram(") => "histogram",
            () if name.ends_with("_total") => "counter",
            () => "gauge",
        };
        if found.iter().all(|metric| metric.name != name) {
            found.push(Metric { name: name.to_owned(), help: one_line(help), kind });
        }
    }
    found
}

/// A literal that goes on in the next line, as one line.
fn one_line(literal: &str) -> String {
    literal.split("\\\n").enumerate().map(|(at, part)| if at == 0 { part } else { part.trim_start() }).collect()
}

fn table(all: &BTreeMap<&'static str, Vec<Metric>>) -> String {
    let mut text = String::new();
    for (owner, _) in SOURCES {
        text.push_str(&format!(
            "\n## {}{}\n\n| name | kind | meaning |\n|---|---|---|\n",
            owner[..1].to_uppercase(),
            &owner[1..]
        ));
        for Metric { name, help, kind } in &all[owner] {
            text.push_str(&format!("| `{name}` | {kind} | {help} |\n"));
        }
    }
    text.push('\n');
    text
}

fn with_table(page: &str, table: &str) -> anyhow::Result<String> {
    let parts = page.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.with_context(|| format!("{PAGE} has lost the lines {} and {END}", BEGIN.trim_end()))?;
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

/// Words of `text` that look like a metric of ours and are none.
fn unknown<'a>(text: &'a str, known: &'a BTreeSet<String>) -> impl Iterator<Item = &'a str> {
    // A word with colons is a path in Rust, or a series that a rule records.
    text.split(|c: char| !c.is_ascii() || !(is_name_byte(c as u8) || c == ':'))
        .filter(|word| !word.contains(':'))
        .filter(|word| word.starts_with("roost_") && !word.ends_with('_') && !known.contains(*word))
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'
}

/// `roost_wire` is a crate, not a metric.
fn crate_names() -> anyhow::Result<BTreeSet<String>> {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let names = lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    Ok(names.filter(|name| name.starts_with("roost-")).map(|name| name.replace('-', "_")).collect())
}

fn each_file(path: &Path, see: &mut impl FnMut(&Path, &str)) -> anyhow::Result<()> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?;
        for entry in entries {
            each_file(&entry?.path(), see)?;
        }
    } else if let Ok(text) = std::fs::read_to_string(path) {
        see(path, &text);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_form_in_which_metrics_are_named() {
        let source = r#"
            /// "Not" a metric.
            pub const A: Name = gauge("roost_a_open", "A.");
            pub const B: Name = counter(
                "roost_b_total",
                "B, \
                 and more.",
            );
            c: Counter = "roost_c_total", "C.";
            let name = "roost_d_seconds";
            page.histogram(name, "D.", &metrics.d);
            ("roost_e_total", "E.", "counter", &metrics.e),
            Some(("reason", "full"))
"#;
        let test = "#[cfg(test)]\nmod tests { const X: &str = \"roost_x\"; const Y: &str = \"y\"; }";
        let found: Vec<_> = metrics(&format!("{source}{test}"))
            .into_iter()
            .map(|metric| format!("{} {} {}", metric.name, metric.kind, metric.help))
            .collect();
        assert_eq!(
            found,
            [
                "roost_a_open gauge A.",
                "roost_b_total counter B, and more.",
                "roost_c_total counter C.",
                "roost_d_seconds histogram D.",
                "roost_e_total counter E.",
            ]
        );
    }

    #[test]
    fn finds_names_that_no_metric_has() {
        let known = ["roost_a_total", "roost_wire"].map(str::to_owned).into();
        let text =
            "job:roost_a:rate1m, rate(roost_a_total[5m]) + roost_b_total{x=\"y\"}, `roost_wire::limits`, `roost_…`";
        assert_eq!(unknown(text, &known).collect::<Vec<_>>(), ["roost_b_total"]);
    }

    #[test]
    fn only_the_table_of_the_page_is_written_anew() {
        let page = format!("before\n{BEGIN}old{END}\nafter");
        assert_eq!(with_table(&page, "new").unwrap(), format!("before\n{BEGIN}new{END}\nafter"));
        assert!(with_table("nothing", "new").is_err());
    }
}
