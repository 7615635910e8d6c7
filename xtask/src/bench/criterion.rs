//! Criterion's benches: runs them, and keeps a table of what they found.

use std::fmt::Write;
use std::path::Path;
use std::time::SystemTime;

use anyhow::Context;
use serde_json::Value;

use super::place;
use crate::steps::{Steps, cargo, root, target};

/// Runs the benches and, unless `quick`, keeps `<date>-criterion.md` under benches/results.
pub(crate) fn run(steps: &mut Steps, quick: bool) -> anyhow::Result<()> {
    let began = SystemTime::now();
    let place = place::describe();
    let mut criterion = cargo(["bench", "--package", "roost-benches", "--benches"]);
    if quick {
        criterion.args(["--", "--quick"]);
    }
    steps.run("criterion", &mut criterion)?;
    let mut found = Vec::new();
    collect(&target().join("criterion"), began, &mut found)?;
    found.sort();
    let page = page(&found, &place);
    println!("\n{page}");
    if !quick {
        let folder = root().join("benches/results");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(format!("{}-criterion.md", place::today())), page)
            .context("cannot keep the table")?;
    }
    Ok(())
}

/// Name, time and throughput of every bench that ran since `began`.
fn collect(folder: &Path, began: SystemTime, found: &mut Vec<[String; 3]>) -> anyhow::Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        let estimates = path.join("estimates.json");
        let fresh = estimates.metadata().and_then(|data| data.modified()).is_ok_and(|written| written >= began);
        if path.ends_with("new") && fresh {
            found.push(row(&read(&path.join("benchmark.json"))?, &read(&estimates)?).context("criterion's files")?);
        } else if path.is_dir() {
            collect(&path, began, found)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))
}

fn row(bench: &Value, estimates: &Value) -> Option<[String; 3]> {
    // `--quick` has no slope; the median of the samples is there in both.
    let nanos = estimates.pointer("/median/point_estimate")?.as_f64()?;
    let name = bench.get("full_id")?.as_str()?.to_owned();
    Some([name, time(nanos), throughput(bench.get("throughput")?, nanos)])
}

fn time(nanos: f64) -> String {
    let (value, unit) = match nanos {
        ..1e3 => (nanos, "ns"),
        ..1e6 => (nanos / 1e3, "us"),
        ..1e9 => (nanos / 1e6, "ms"),
        _ => (nanos / 1e9, "s"),
    };
    format!("{value:.1} {unit}")
}

fn throughput(of: &Value, nanos: f64) -> String {
    let per_second = |count: f64, unit: &str| {
        let rate = count * 1e9 / nanos;
        let (value, prefix) = match rate {
            ..1e4 => (rate, ""),
            ..1e7 => (rate / 1e3, "k"),
            ..1e10 => (rate / 1e6, "M"),
            _ => (rate / 1e9, "G"),
        };
        format!("{value:.0} {}/s", format!("{prefix}{unit}").trim_start())
    };
    let both = &of["ElementsAndBytes"];
    let elements = of["Elements"].as_f64().or(both["elements"].as_f64());
    let bytes = of["Bytes"].as_f64().or(both["bytes"].as_f64());
    let elements = elements.map(|count| per_second(count, " elements"));
    let bytes = bytes.map(|count| per_second(count, "B"));
    [elements, bytes].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn page(found: &[[String; 3]], place: &Value) -> String {
    let mut page = String::from("# Criterion's benches\n\n| bench | time | throughput |\n|---|---|---|\n");
    // Writing to a String cannot fail.
    for [name, time, throughput] in found {
        let _ = writeln!(page, "| {name} | {time} | {throughput} |");
    }
    page.push_str("\nMedians. `cargo xtask bench criterion` on:\n\n");
    for (name, value) in place.as_object().into_iter().flatten() {
        let value = value.as_str().map_or(value.to_string(), str::to_owned);
        let _ = writeln!(page, "- {}: {value}", name.replace('_', " "));
    }
    page
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_has_name_time_and_throughput() {
        let estimates = json!({ "median": { "point_estimate": 2_000.0 } });
        for (throughput, want) in [
            (json!({ "Bytes": 128 }), "64 MB/s"),
            (json!({ "Elements": 1 }), "500 k elements/s"),
            (json!({ "ElementsAndBytes": { "elements": 1, "bytes": 2 } }), "500 k elements/s, 1000 kB/s"),
        ] {
            let bench = json!({ "full_id": "wire/x/y", "throughput": throughput });
            assert_eq!(row(&bench, &estimates), Some(["wire/x/y".into(), "2.0 us".into(), want.into()]));
        }
        assert_eq!(row(&json!({}), &estimates), None);
    }
}
