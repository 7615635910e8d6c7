//! Counts tests by the closing lines of their runners.

use std::fmt;

/// Tests that ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Well.
    pub(crate) passed: u64,
    /// Not.
    pub(crate) failed: u64,
    /// Not run.
    pub(crate) skipped: u64,
}

impl Tally {
    /// Takes a line of a runner's output; lines that close nothing are passed over.
    pub(crate) fn line(&mut self, line: &str) {
        let line = line.trim();
        // cargo test: `test result: ok. 3 passed; 0 failed; 1 ignored; …`
        if let Some(counts) = line.strip_prefix("test result:") {
            for part in counts.split(['.', ';']) {
                self.count(part);
            }
        // pytest: `==== 3 passed, 1 skipped in 0.12s ====`
        } else if line.starts_with("==") && line.contains(" in ") {
            let inner = line.trim_matches(['=', ' ']);
            for part in inner.split(" in ").next().unwrap_or_default().split(',') {
                self.count(part);
            }
        // node --test: `# pass 3` or `ℹ pass 3`
        } else if let Some((mark, rest)) = line.split_once(' ')
            && matches!(mark, "#" | "ℹ")
            && let Some((word, number)) = rest.split_once(' ')
        {
            match word {
                "pass" => self.count(&format!("{number} passed")),
                "fail" => self.count(&format!("{number} failed")),
                "skipped" => self.count(&format!("{number} skipped")),
                _ => {}
            }
        }
    }

    fn count(&mut self, part: &str) {
        let Some((number, word)) = part.trim().split_once(' ') else { return };
        let Ok(number) = number.parse::<u64>() else { return };
        match word {
            "passed" => self.passed += number,
            "failed" | "error" | "errors" => self.failed += number,
            "ignored" | "skipped" => self.skipped += number,
            _ => {}
        }
    }

    /// Takes the counts of another part.
    pub(crate) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_closing_lines_of_each_runner() {
        for (line, want) in [
            ("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out", (12, 0, 1)),
            ("test result: FAILED. 1 passed; 2 failed; 0 ignored", (1, 2, 0)),
            ("====== 7 passed, 1 skipped in 3.21s ======", (7, 0, 1)),
            ("===== 1 failed, 2 passed, 1 error in 0.10s =====", (2, 2, 0)),
            ("ℹ pass 9", (9, 0, 0)),
            ("# fail 1", (0, 1, 0)),
            ("test wire::passes ... ok", (0, 0, 0)),
            ("== heading", (0, 0, 0)),
        ] {
            let mut tally = Tally::default();
            tally.line(line);
            assert_eq!((tally.passed, tally.failed, tally.skipped), want, "{line}");
        }
    }
}
