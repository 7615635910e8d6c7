//! `seeds.txt`: the seeds that ever failed, with what was wrong.

/// The page as it is in the repository.
const PAGE: &str = include_str!("../seeds.txt");

/// A seed that failed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnceFailed {
    /// The seed.
    pub seed: u64,
    /// What was wrong then.
    pub why: &'static str,
}

/// All of them, in the order of the page.
///
/// # Panics
/// If a line of the page is neither empty, nor a remark, nor `seed: why`.
#[must_use]
pub fn once_failed() -> Vec<OnceFailed> {
    parse(PAGE).unwrap_or_else(|line| panic!("seeds.txt: this line has no `seed: why`: {line}"))
}

fn parse(page: &'static str) -> Result<Vec<OnceFailed>, &'static str> {
    let lines = page.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let line = |line: &'static str| {
        let (seed, why) = line.split_once(':').ok_or(line)?;
        let why = why.trim();
        if why.is_empty() {
            return Err(line);
        }
        Ok(OnceFailed { seed: seed.trim().parse().map_err(|_| line)?, why })
    };
    lines.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_seed_and_why_it_failed() {
        let page = "# remark\n\n12: lost an entry\n3 :  doubled one \n";
        let [first, second] = parse(page).unwrap()[..] else { panic!("two lines") };
        assert_eq!((first.seed, first.why, second.seed, second.why), (12, "lost an entry", 3, "doubled one"));
        for bad in ["12", "12:", "x: y"] {
            assert_eq!(parse(bad), Err(bad));
        }
        assert!(!once_failed().is_empty());
    }
}
