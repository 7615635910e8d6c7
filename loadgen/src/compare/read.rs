//! Reads reports for comparison. Older forms are read as well: a figure is where it always was, or it is not there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::figures::Figure;
use crate::report::series::Second;

/// How deep below a directory runs are looked for.
const DEPTH_MAX: usize = 3;
/// Runs of a side.
const RUNS_MAX: usize = 1000;

/// What must be the same for figures to be comparable, and what it is called.
const KINDS: &[(&str, &str)] = &[
    ("/name", "scenario"),
    ("/engine", "engine"),
    ("/sessions/wanted", "sessions"),
    ("/protocol", "protocol"),
    ("/transport", "transport"),
    ("/load_seconds", "length of the load"),
    ("/scenario/load/sends_per_second", "messages per second"),
    ("/scenario/body_bytes", "length of messages"),
    ("/deliveries/regime", "regime of the broadcast"),
    ("/environment/build", "build"),
    ("/environment/cpu", "processor"),
    ("/environment/cores", "cores"),
    ("/environment/kernel", "kernel"),
    ("/environment/data_filesystem", "file system of the data"),
];

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub report: Value,
    series: Vec<Second>,
}

/// One or several runs of one thing.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    pub name: String,
    pub path: PathBuf,
    /// Valid ones, if there is one.
    pub runs: Vec<Run>,
    /// Runs left out because the generator was the limit.
    pub left_out: usize,
}

impl Run {
    fn of(report: Value) -> Self {
        let series = report.get("series").cloned().and_then(|series| serde_json::from_value(series).ok());
        Self { report, series: series.unwrap_or_default() }
    }

    /// The generator was not the limit.
    pub(super) fn is_valid(&self) -> bool {
        self.report["verdict"] != "generator" && self.report["valid"] != false
    }

    /// A figure of each second of the load itself: not of those in which the last answers came.
    pub(super) fn seconds(&self, each: fn(&Second) -> Option<f64>) -> Vec<f64> {
        let load = self.report["load_seconds"].as_f64().map_or(u64::MAX, |seconds| seconds.floor() as u64);
        self.series.iter().filter(|second| second.second < load).filter_map(each).collect()
    }
}

impl Side {
    /// Reads a report, or all that are in a directory and below it.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let mut found = Vec::new();
        if path.is_dir() {
            collect(path, 0, &mut found)?;
            if found.is_empty() {
                bail!("there is no report.json in {}", path.display());
            }
        } else {
            found.push(path.to_owned());
        }
        let mut reports = Vec::new();
        for file in found {
            let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let report: Value =
                serde_json::from_str(&text).with_context(|| format!("{} is no JSON", file.display()))?;
            let format = report["format"].as_str().unwrap_or_default();
            if !["roost-load/", "roost-load-mass/"].iter().any(|known| format.starts_with(known)) {
                bail!("{} is no report of roost-load", file.display());
            }
            reports.push(report);
        }
        let mut side = Self::of(&path.display().to_string(), reports);
        path.clone_into(&mut side.path);
        Ok(side)
    }

    /// A side of these reports. Runs in which the generator was the limit are left out, unless there is no other.
    pub(super) fn of(name: &str, reports: Vec<Value>) -> Self {
        let mut runs: Vec<Run> = reports.into_iter().map(Run::of).collect();
        let all = runs.len();
        if runs.iter().any(Run::is_valid) {
            runs.retain(Run::is_valid);
        }
        Self { name: name.to_owned(), path: PathBuf::new(), left_out: all - runs.len(), runs }
    }

    /// A figure of each run that has it.
    pub(super) fn values(&self, figure: &Figure) -> Vec<f64> {
        self.runs.iter().filter_map(|run| figure.of(&run.report)).collect()
    }
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let file = folder.join("report.json");
    if file.is_file() {
        found.push(file);
    }
    if depth == DEPTH_MAX || found.len() >= RUNS_MAX {
        return Ok(());
    }
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders.iter().try_for_each(|folder| collect(folder, depth + 1, found))
}

/// Gives the sides names as short as they can be told apart by: without what all paths begin and end with.
pub(super) fn named(mut sides: Vec<Side>) -> Vec<Side> {
    let parts: Vec<Vec<String>> = sides
        .iter()
        .map(|side| side.path.iter().map(|part| part.to_string_lossy().into_owned()).collect::<Vec<_>>())
        .collect();
    let shortest = parts.iter().map(Vec::len).min().unwrap_or(0);
    let same = |at: &dyn Fn(&Vec<String>) -> Option<String>| parts.windows(2).all(|pair| at(&pair[0]) == at(&pair[1]));
    let begin = (0..shortest).take_while(|at| same(&|path| path.get(*at).cloned())).count();
    let end = (0..shortest - begin.min(shortest))
        .take_while(|at| same(&|path| path.len().checked_sub(at + 1).and_then(|at| path.get(at).cloned())))
        .count();
    for (side, path) in sides.iter_mut().zip(&parts) {
        let name = path[begin..path.len() - end].join("/");
        if !name.is_empty() {
            side.name = name;
        }
    }
    sides
}

/// In which way the runs are not of one kind.
pub(super) fn warnings(sides: &[Side]) -> Vec<String> {
    let mut warnings = Vec::new();
    for side in sides {
        if side.left_out > 0 {
            let runs = if side.left_out == 1 { "1 run is".into() } else { format!("{} runs are", side.left_out) };
            warnings.push(format!("{}: {runs} left out, because the generator was the limit", side.name));
        } else if side.runs.iter().any(|run| !run.is_valid()) {
            warnings
                .push(format!("{}: the generator was the limit, its numbers say nothing about the server", side.name));
        }
        if side.runs.iter().any(|run| run.report["environment"]["build"] == "debug") {
            warnings.push(format!("{}: a debug build says nothing about speed", side.name));
        }
    }
    let runs = || sides.iter().flat_map(|side| &side.runs);
    for (pointer, name) in KINDS {
        let mut values: Vec<String> = Vec::new();
        for value in runs().filter_map(|run| run.report.pointer(pointer)).filter(|value| !value.is_null()) {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if !values.contains(&text) {
                values.push(text);
            }
        }
        if values.len() > 1 {
            values.truncate(4);
            warnings.push(format!("not of one kind: {name} is {}", values.join(" and ")));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_gives_all_runs_in_it_and_sides_are_named_by_what_differs() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["old/1", "old/2", "new/1"] {
            let path = folder.path().join("runs").join(path);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("report.json"), "{\"format\":\"roost-load/2\",\"verdict\":\"pass\"}").unwrap();
        }
        let side = |name: &str| Side::read(&folder.path().join("runs").join(name)).unwrap();
        let sides = named(vec![side("old"), side("new")]);
        let told: Vec<_> = sides.iter().map(|side| (side.name.as_str(), side.runs.len())).collect();
        assert_eq!(told, [("old", 2), ("new", 1)]);
        let files = ["old/1/report.json", "new/1/report.json"].map(side);
        assert_eq!(named(files.into()).iter().map(|side| side.name.clone()).collect::<Vec<_>>(), ["old", "new"]);
        assert!(Side::read(&folder.path().join("runs/none")).is_err());
        std::fs::write(folder.path().join("other.json"), "{\"format\":\"else/1\"}").unwrap();
        assert!(Side::read(&folder.path().join("other.json")).unwrap_err().to_string().contains("no report"));
    }
}
