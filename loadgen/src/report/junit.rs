//! The verdict as test cases, in the form of JUnit that CI systems read.

use std::path::Path;

use anyhow::Context as _;
use quick_junit::{NonSuccessKind, Property, Report as Document, TestCase, TestCaseStatus, TestSuite};

use super::Report;
use super::number;

/// Writes it.
pub(crate) fn write(report: &Report, path: &Path) -> anyhow::Result<()> {
    let text = document(report).to_string().context("cannot write the test cases as XML")?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// One suite: whether the run is valid and whole, each promise, and each threshold.
fn document(report: &Report) -> Document {
    let mut suite = TestSuite::new(format!("roost-load {}", report.name));
    for (name, value) in [
        ("verdict", serde_json::to_value(report.verdict).unwrap_or_default().as_str().unwrap_or_default().to_owned()),
        ("server", report.server.address.clone()),
        ("command", report.environment.command.clone()),
        ("commit", report.environment.commit.clone().unwrap_or_default()),
        ("started", report.environment.started.clone()),
    ] {
        suite.add_property(Property::new(name, value));
    }
    let mut case = |class: &str, name: &str, fault: Option<(NonSuccessKind, String)>| {
        let status = match fault {
            None => TestCaseStatus::success(),
            Some((kind, why)) => {
                let mut status = TestCaseStatus::non_success(kind);
                status.set_message(why);
                status
            }
        };
        let mut case = TestCase::new(name, status);
        case.set_classname(format!("roost-load.{}.{class}", report.name));
        suite.add_test_case(case);
    };
    let failed = |why: String| Some((NonSuccessKind::Failure, why));
    // What is no fault of the server is an error of the run, as JUnit has it.
    let invalid = (!report.valid).then(|| (NonSuccessKind::Error, report.reasons.join(" ")));
    case("run", "the generator was not the limit", invalid);
    let partial = report.partial.as_ref().map(|why| (NonSuccessKind::Error, why.clone()));
    case("run", "the run is whole", partial);
    let promises = [
        ("nothing acknowledged was lost", report.lost.unwrap_or(0)),
        ("nothing came twice", report.duplicated),
        ("nothing came out of order", report.reordered),
        ("nothing was changed", report.garbled),
    ];
    for (name, count) in promises {
        case("promise", name, if count > 0 { failed(format!("{} times", number(count as f64))) } else { None });
    }
    for held in &report.thresholds {
        let fault = if held.well { None } else { failed(format!("it is {}", held.shown())) };
        case("threshold", &held.threshold, fault);
    }
    let mut document = Document::new("roost-load");
    document.add_test_suite(suite);
    document
}
