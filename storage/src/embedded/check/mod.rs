//! Looks through a whole store, without changing it, for anything that is not as it must be.
//!
//! First the files (checksums of all, journals, links, the watermark of what was acknowledged), then what they hold: each
//! log against its head, index rows against logs, members against rows in both directions, names against users. The
//! store must not be open. Memory: some hundred bytes for each conversation, some tens for each member and user, and
//! what the journals hold.

mod report;
#[cfg(test)]
mod tests;
mod walk;

use std::path::Path;

use super::directory::{Directory, OpenError, TABLES_ASIDE};
use super::image::{Image, Looks};
use super::ledger;

pub(crate) use walk::{fingerprint, meta};

pub use report::{Counts, Problem, ProblemKind, Report};

/// Told what is being looked at and how much of it was done: bytes of files, then rows of a table.
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64);

/// Looks through the store in `dir`.
///
/// # Errors
/// [`OpenError`] if there is no store, another process has it, or it is of a newer version. Damage is no error but a
/// problem of the report.
pub fn check(dir: &Path, progress: Progress<'_>) -> Result<Report, OpenError> {
    let (directory, why) = Directory::take_damaged(dir)?;
    look_through(&directory, why, progress).map(|(report, _)| report)
}

/// The report, and the files unless they could not be read at all.
pub(crate) fn look_through(
    directory: &Directory,
    manifest: Option<String>,
    progress: Progress<'_>,
) -> Result<(Report, Option<Image>), OpenError> {
    let mut report = Report::default();
    if let Some(why) = manifest {
        report.add(ProblemKind::File, why);
    } else if !directory.ready() {
        return Ok((report, None)); // nothing was ever acknowledged by a store that was not finished
    }
    let aside = TABLES_ASIDE.iter().map(|name| directory.path().join(name)).find(|path| path.exists());
    if let Some(path) = aside {
        report.add(ProblemKind::File, format!("{}: a repair was not finished", path.display()));
    }
    let mut acknowledged = None;
    if directory.is_linked() {
        match ledger::read(&directory.ledger()) {
            Ok(commits) => acknowledged = Some(commits),
            Err(why) => {
                let path = directory.ledger();
                let what = format!("{}: what was acknowledged last cannot be read: {why}", path.display());
                report.add(ProblemKind::File, what);
            }
        }
    }
    let mut bytes = 0;
    let mut step = |read| {
        bytes += read;
        progress("bytes of files", bytes);
    };
    let mut looks = Looks::new(true, u64::MAX, &mut step);
    let loaded = Image::load(&directory.data(), acknowledged.as_ref(), &mut looks);
    for fault in looks.faults {
        report.add(if fault.is_loss { ProblemKind::Lost } else { ProblemKind::File }, fault.to_string());
    }
    report.counts.bytes = bytes;
    match loaded {
        Ok(image) => {
            walk::walk(&image, &mut report, progress);
            Ok((report, Some(image)))
        }
        Err(error) => {
            report.add(ProblemKind::File, format!("{}: {error}", directory.data().display()));
            Ok((report, None))
        }
    }
}
