//! The findings for people.

use std::fmt::Write;

use super::capacity::{Capacity, KERNEL_BYTES, USER_BYTES};
use super::facts::Facts;
use super::findings::{Finding, Status};

/// Room for names.
const NAME_WIDTH: usize = 30;

/// The text; `color`: with colours of a terminal.
pub(crate) fn text(facts: &Facts, capacity: &Capacity, sessions: u64, findings: &[Finding], color: bool) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = holds(&mut text, facts, capacity, sessions);
    for finding in findings {
        let _ = line(&mut text, finding, color);
    }
    let _ = verdict(&mut text, sessions, findings);
    text
}

fn holds(out: &mut String, facts: &Facts, capacity: &Capacity, sessions: u64) -> std::fmt::Result {
    let many = |sessions: Option<u64>| sessions.map_or("any number".to_owned(), grouped);
    let each = format!("{KERNEL_BYTES} bytes of the kernel and {USER_BYTES} of the process each");
    writeln!(out, "Sessions this machine can hold")?;
    writeln!(out, "  with io_uring  {:>14}", many(capacity.uring()))?;
    writeln!(out, "  with poll      {:>14}", many(capacity.poll()))?;
    writeln!(out, "  by memory      {:>14}   {each}", many(capacity.memory))?;
    writeln!(out, "  by descriptors {:>14}   one each, with poll", many(capacity.descriptors))?;
    writeln!(out, "  by rings       {:>14}   tables of descriptors, with io_uring", many(capacity.rings))?;
    writeln!(out, "  by fs.file-max {:>14}   of the whole machine", many(capacity.machine_files))?;
    let place = if facts.container { " in this container" } else { "" };
    writeln!(out, "\nFor {} sessions{place}", grouped(sessions))
}

fn line(out: &mut String, finding: &Finding, color: bool) -> std::fmt::Result {
    let (word, code) = match finding.status {
        Status::Ok => ("ok", "32"),
        Status::Warn => ("warn", "33"),
        Status::Bad => ("bad", "31"),
    };
    let word = if color { format!("\x1b[{code}m{word:<4}\x1b[0m") } else { format!("{word:<4}") };
    writeln!(out, "  {word}  {:<NAME_WIDTH$} {}", finding.name, finding.found)?;
    if !finding.why.is_empty() {
        writeln!(out, "        {:NAME_WIDTH$} {}", "", finding.why)?;
    }
    for fix in &finding.fixes {
        writeln!(out, "        {:NAME_WIDTH$} {:<9} {}", "", fix.at, fix.line)?;
    }
    Ok(())
}

fn verdict(out: &mut String, sessions: u64, findings: &[Finding]) -> std::fmt::Result {
    let count = |status| findings.iter().filter(|finding| finding.status == status).count();
    let sessions = grouped(sessions);
    match (count(Status::Bad), count(Status::Warn)) {
        (0, 0) => writeln!(out, "\nNothing stands in the way of {sessions} sessions."),
        (0, warnings) => writeln!(out, "\n{sessions} sessions fit; {warnings} could be better."),
        (bad, _) => writeln!(out, "\n{sessions} sessions do not fit: {bad} in the way."),
    }
}

/// `1 000 000`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// `22.9 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_for_people() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1 000"), (1_234_567, "1 234 567")] {
            assert_eq!(grouped(number), text);
        }
        for (bytes, text) in [(2048, "2 KiB"), (5 << 20, "5 MiB"), (3 << 29, "1.5 GiB")] {
            assert_eq!(size(bytes), text);
        }
    }
}
