//! Sub-commands that read reports instead of making them.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::run::{Failed, refuse};
use crate::compare::Comparison;
use crate::compare::criterion::Benches;
use crate::report::{Beside, Report, SCHEMA};
use crate::verdict::Verdict;

#[derive(Debug, Args)]
pub(super) struct Compare {
    /// report.json files, or directories with several runs each; the first is what the others are compared with
    #[arg(value_name = "REPORT", required_unless_present = "criterion")]
    sides: Vec<PathBuf>,
    /// Exit with 99 if a figure is worse by more than this and not by chance, as 5%; what cannot be tested counts as it is
    #[arg(long, value_name = "SHARE", value_parser = percent)]
    fail_if_worse: Option<f64>,
    /// A directory of criterion's estimates, as target/criterion; given twice, the second is compared with the first
    #[arg(long, value_name = "DIR")]
    criterion: Vec<PathBuf>,
    /// Directory of compare.html
    #[arg(long, value_name = "DIR", default_value = "roost-report")]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Page {
    /// A report.json
    #[arg(value_name = "REPORT")]
    report: PathBuf,
    /// A report.json of the same load against another target, to stand side by side; may be given again
    #[arg(long, value_name = "REPORT")]
    beside: Vec<PathBuf>,
    /// A directory of criterion's estimates, to be put into the page
    #[arg(long, value_name = "DIR")]
    criterion: Vec<PathBuf>,
    /// Where to write the page [default: report.html beside the report]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Compare {
    /// Compares, and returns the exit code.
    pub(super) fn run(&self) -> Result<u8, Failed> {
        if self.sides.len() == 1 {
            return Err(refuse("one report is compared with nothing: give another one".into()));
        }
        let comparison = Comparison::read(&self.sides, &self.criterion)?;
        let worse = self.fail_if_worse.map(|share| (share, comparison.worse_than(share)));
        let path = comparison.write(&self.out, worse.as_ref())?;
        print!("{}", comparison.table());
        println!("\npage: {}", path.display());
        let Some((share, worse)) = worse else { return Ok(0) };
        for line in &worse {
            println!("worse by more than {:.1} %: {line}", share * 100.0);
        }
        if !worse.is_empty() {
            return Ok(Verdict::Threshold.exit_code());
        }
        // What says nothing about the server proves nothing either way.
        Ok(if comparison.invalid() { Verdict::Generator.exit_code() } else { 0 })
    }
}

impl Page {
    /// Draws the page, and returns the exit code.
    pub(super) fn run(&self) -> Result<u8, Failed> {
        let mut report = Report::read(&self.report)?;
        for path in &self.beside {
            let other = Report::read(path)?;
            report.beside.push(Beside::of(&other.name_of_target(), &other));
        }
        let benches = if self.criterion.is_empty() { None } else { Some(Benches::read(&self.criterion)?) };
        let out = self.out.clone().unwrap_or_else(|| self.report.with_file_name("report.html"));
        let page = report.page(benches.as_ref())?;
        std::fs::write(&out, page).with_context(|| format!("cannot write {}", out.display()))?;
        println!("page: {}", out.display());
        Ok(0)
    }
}

/// Prints what a report must be like.
pub(super) fn schema() -> u8 {
    print!("{SCHEMA}");
    0
}

/// A share written as `5%` or as `0.05`.
fn percent(text: &str) -> Result<f64, String> {
    let (number, by) = text.strip_suffix('%').map_or((text, 1.0), |number| (number.trim(), 100.0));
    let share: f64 = number.parse().map_err(|_| "write it as 5% or as 0.05".to_owned())?;
    let share = share / by;
    if (0.0..=100.0).contains(&share) { Ok(share) } else { Err("a share of nothing or more, please".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_written_in_percent_or_as_a_number() {
        for (text, share) in
            [("5%", Some(0.05)), ("0.05", Some(0.05)), ("12.5 %", Some(0.125)), ("-1%", None), ("x", None)]
        {
            assert_eq!(percent(text).ok(), share, "{text}");
        }
    }
}
