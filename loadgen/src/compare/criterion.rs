//! Estimates of criterion, from the directory that it keeps them in: `target/criterion`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::report::draw::Bar;

/// How deep below its directory criterion keeps a bench.
const DEPTH_MAX: usize = 6;

/// All benches of one directory, or of two that are compared.
#[derive(Debug, Default)]
pub(crate) struct Benches {
    benches: BTreeMap<String, Bench>,
    compared: bool,
}

/// One bench.
#[derive(Clone, Debug)]
struct Bench {
    now: Estimate,
    /// What it is compared with: of another directory, or of criterion's own run before.
    before: Option<Estimate>,
    /// What one iteration does; `None` if the bench does not say.
    throughput: Option<Throughput>,
}

/// Nanoseconds of an iteration.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Estimate {
    ns: f64,
    low: f64,
    high: f64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum Throughput {
    Bytes(u64),
    BytesDecimal(u64),
    Elements(u64),
    Bits(u64),
    #[serde(untagged)]
    Other,
}

#[derive(Deserialize)]
struct Estimates {
    mean: Told,
    slope: Option<Told>,
}

#[derive(Deserialize)]
struct Told {
    point_estimate: f64,
    confidence_interval: Confidence,
}

#[derive(Deserialize)]
struct Confidence {
    lower_bound: f64,
    upper_bound: f64,
}

#[derive(Deserialize)]
struct About {
    full_id: String,
    throughput: Option<serde_json::Value>,
}

impl Benches {
    /// Reads one directory, in which a run may stand beside the one before; or two, of which the first is compared with.
    ///
    /// # Errors
    /// There are no estimates in one, or more than two are given.
    pub(crate) fn read(folders: &[PathBuf]) -> anyhow::Result<Self> {
        let all = |folder: &PathBuf| -> anyhow::Result<BTreeMap<String, Bench>> {
            let mut found = BTreeMap::new();
            collect(folder, 0, &mut found).with_context(|| format!("cannot read {}", folder.display()))?;
            if found.is_empty() {
                bail!("there are no estimates of criterion in {}", folder.display());
            }
            Ok(found)
        };
        match folders {
            [one] => {
                let benches = all(one)?;
                let compared = benches.values().any(|bench| bench.before.is_some());
                Ok(Self { benches, compared })
            }
            [before, now] => {
                let (before, mut benches) = (all(before)?, all(now)?);
                for (name, bench) in &mut benches {
                    bench.before = before.get(name).map(|bench| bench.now);
                }
                Ok(Self { benches, compared: true })
            }
            _ => bail!("--criterion is given once, or twice to compare"),
        }
    }

    /// What stands in a table: the head first.
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        let mut head = ["bench", "estimate", "95 %", "throughput"].map(str::to_owned).to_vec();
        if self.compared {
            head.extend(["before", "ratio", ""].map(str::to_owned));
        }
        let rows = self.benches.iter().map(|(name, bench)| {
            let now = bench.now;
            let mut row = vec![
                name.clone(),
                time(now.ns),
                format!("{} to {}", time(now.low), time(now.high)),
                bench.throughput.map_or(String::new(), |throughput| throughput.told(now.ns)),
            ];
            if self.compared {
                let before = bench.before;
                row.push(before.map_or("–".into(), |before| time(before.ns)));
                row.push(before.map_or("–".into(), |before| format!("{:.3}", now.ns / before.ns)));
                row.push(before.map_or(String::new(), |before| now.against(before).to_owned()));
            }
            row
        });
        std::iter::once(head).chain(rows).collect()
    }

    /// Bars, by the first part of their names: what is in a group is of one size, more or less.
    pub(crate) fn groups(&self) -> Vec<(String, Vec<Bar>)> {
        let mut groups: BTreeMap<String, Vec<Bar>> = BTreeMap::new();
        for (name, bench) in &self.benches {
            let (group, rest) = name.rsplit_once('/').unwrap_or(("", name));
            let now = bench.now;
            let class = match bench.before.map(|before| now.against(before)) {
                Some("faster") => "well",
                Some("slower") => "bad",
                _ => "b",
            };
            groups.entry(group.to_owned()).or_default().push(Bar {
                name: rest.to_owned(),
                value: now.ns,
                text: time(now.ns),
                class,
                interval: Some((now.low, now.high)),
            });
        }
        groups.into_iter().collect()
    }
}

impl Estimate {
    /// In a word. Intervals that overlap say nothing.
    fn against(self, before: Self) -> &'static str {
        if self.high < before.low {
            "faster"
        } else if self.low > before.high {
            "slower"
        } else {
            "may be chance"
        }
    }
}

impl Throughput {
    fn told(self, ns: f64) -> String {
        let per_second = |count: u64| count as f64 / ns * 1e9;
        match self {
            Self::Bytes(count) | Self::BytesDecimal(count) => {
                format!("{}/s", crate::report::draw::bytes(per_second(count)))
            }
            Self::Bits(count) => format!("{}/s", crate::report::draw::bytes(per_second(count) / 8.0)),
            Self::Elements(count) => format!("{}/s", crate::report::number(per_second(count).round())),
            Self::Other => String::new(),
        }
    }
}

/// Nanoseconds as people read them.
fn time(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.1} ns"),
        ns if ns < 1e6 => format!("{:.2} µs", ns / 1e3),
        ns if ns < 1e9 => format!("{:.2} ms", ns / 1e6),
        ns => format!("{:.2} s", ns / 1e9),
    }
}

fn collect(folder: &Path, depth: usize, found: &mut BTreeMap<String, Bench>) -> anyhow::Result<()> {
    if let Some((name, bench)) = bench(folder)? {
        found.insert(name, bench);
        return Ok(());
    }
    if depth == DEPTH_MAX {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        // A page that criterion draws, not a bench.
        if path.is_dir() && path.file_name().is_some_and(|name| name != "report") {
            collect(&path, depth + 1, found)?;
        }
    }
    Ok(())
}

/// The bench of a folder; `None` if it is none.
fn bench(folder: &Path) -> anyhow::Result<Option<(String, Bench)>> {
    let about = folder.join("new").join("benchmark.json");
    if !about.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&about)?;
    let about: About =
        serde_json::from_str(&text).with_context(|| format!("{} is not criterion's", about.display()))?;
    let Some(now) = estimate(&folder.join("new"))? else { return Ok(None) };
    let throughput = about.throughput.and_then(|told| serde_json::from_value(told).ok());
    let before = estimate(&folder.join("base"))?.filter(|before| *before != now);
    Ok(Some((about.full_id, Bench { now, before, throughput })))
}

/// The slope where criterion fitted one, else the mean: what it calls typical.
fn estimate(folder: &Path) -> anyhow::Result<Option<Estimate>> {
    let path = folder.join("estimates.json");
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
    let told: Estimates =
        serde_json::from_str(&text).with_context(|| format!("{} is not criterion's", path.display()))?;
    let Told { point_estimate: ns, confidence_interval } = told.slope.unwrap_or(told.mean);
    Ok(Some(Estimate { ns, low: confidence_interval.lower_bound, high: confidence_interval.upper_bound }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keep(root: &Path, name: &str, which: &str, ns: f64, slope: bool) {
        let folder = root.join(name).join(which);
        std::fs::create_dir_all(&folder).unwrap();
        let told = |ns: f64| {
            json!({
                "point_estimate": ns, "standard_error": 0.1,
                "confidence_interval": { "confidence_level": 0.95, "lower_bound": ns * 0.99, "upper_bound": ns * 1.01 },
            })
        };
        let slope = if slope { told(ns) } else { json!(null) };
        let mean = told(if slope.is_null() { ns } else { ns * 7.0 });
        std::fs::write(folder.join("estimates.json"), json!({ "mean": mean, "slope": slope }).to_string()).unwrap();
        let about = json!({ "full_id": name, "group_id": "g", "throughput": { "Bytes": 1000 } });
        std::fs::write(folder.join("benchmark.json"), about.to_string()).unwrap();
    }

    #[test]
    fn estimates_are_read_with_what_they_were_before() {
        let folder = tempfile::tempdir().unwrap();
        keep(folder.path(), "wire/decode", "new", 200.0, true);
        keep(folder.path(), "wire/decode", "base", 100.0, true);
        keep(folder.path(), "wire/encode", "new", 1500.0, false);
        let benches = Benches::read(&[folder.path().to_owned()]).unwrap();
        let rows = benches.rows();
        assert_eq!(rows[1][..2], ["wire/decode", "200.0 ns"]);
        assert_eq!(rows[1][3..], ["5.00\u{a0}GB/s", "100.0 ns", "2.000", "slower"]);
        assert_eq!((rows[2][1].as_str(), rows[2][4].as_str()), ("1.50 µs", "–"));
        assert_eq!(benches.groups()[0].1[0].interval, Some((198.0, 202.0)));
    }

    #[test]
    fn two_directories_are_compared_and_none_is_an_error() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert!(Benches::read(&[old.path().to_owned()]).unwrap_err().to_string().contains("no estimates"));
        keep(old.path(), "a", "new", 100.0, true);
        keep(new.path(), "a", "new", 100.5, true);
        keep(new.path(), "b", "new", 50.0, true);
        let rows = Benches::read(&[old.path().to_owned(), new.path().to_owned()]).unwrap().rows();
        assert_eq!(rows[1][6], "may be chance");
        assert_eq!(rows[2][4], "–");
    }
}
