//! Check finds what is damaged, repair mends it and keeps what is sound.

use std::path::Path;

use roost_storage::EmbeddedStore;
use roost_storage::embedded::{ProblemKind, check, repair};
use roost_storage::testkit::run;

use crate::fixture::{CONVS, Fixture, logs, options};

pub(crate) fn is_sound(dir: &Path, case: &str) {
    let report = check(dir, &mut |_, _| ()).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert!(report.is_sound(), "{case}: {:#?}", report.problems);
}

/// Check says what is wrong, repair leaves a sound store, and its logs are the beginnings of what they were.
pub(crate) fn is_found_and_mended(fixture: &Fixture, dir: &Path, case: &str, logs_are_whole: bool) {
    let report = check(dir, &mut |_, _| ()).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert!(!report.is_sound(), "{case}: check finds nothing");
    let repaired = repair(dir, false, &mut |_, _| ()).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(repaired.before.problems, report.problems, "{case}: the same is found again");
    is_sound(dir, case);
    let store = EmbeddedStore::open(dir, &options()).unwrap_or_else(|error| panic!("{case}: {error}"));
    let logs = run(logs(&store)).unwrap_or_else(|error| panic!("{case}: {error}"));
    for ((id, log), before) in CONVS.iter().zip(&logs).zip(&fixture.logs) {
        assert_eq!(log[..], before[..log.len()], "{case}: {id}");
        if log.len() == before.len() {
            assert!(!repaired.lost.iter().any(|lost| lost.conv == *id), "{case}: {id} has lost nothing");
            continue;
        }
        assert!(!logs_are_whole, "{case}: {id} has lost {} entries", before.len() - log.len());
        // Unless what knew of the lost entries is lost with them.
        let told = repaired.lost.iter().any(|lost| lost.conv == *id && lost.first == log.len() as u64 + 1);
        assert!(told || report.problems_by_kind.contains_key(&ProblemKind::Lost), "{case}: the loss in {id} is told");
    }
}
