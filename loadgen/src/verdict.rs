//! The answer of a run, in one word and one exit code.

use serde::{Deserialize, Serialize};

/// Share of its cores above which the generator, not the server, may have been the limit.
pub const GENERATOR_CPU_MAX: f64 = 0.9;
/// How late the generator's 99th percentile may be, in microseconds, for its latencies to mean the server.
pub const GENERATOR_LATE_US_MAX: u64 = 10_000;

/// What came of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything acknowledged was delivered once and in order, and every threshold holds.
    Pass,
    /// The server could not be reached.
    Unreachable,
    /// Something acknowledged was lost, doubled or reordered.
    Broken,
    /// The generator itself was the limit: the numbers say nothing about the server.
    Generator,
    /// A threshold failed.
    Threshold,
    /// Stopped by Ctrl-C: the report is partial.
    Interrupted,
}

/// What the verdict is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// No session came about.
    pub unreachable: bool,
    /// Acknowledged messages lost, doubled, reordered or changed.
    pub broken: bool,
    /// The generator was late or used up its cores.
    pub generator_limited: bool,
    /// At least one threshold does not hold.
    pub threshold_failed: bool,
    /// Somebody stopped the run.
    pub interrupted: bool,
}

impl Verdict {
    /// The worst that the facts say. A run that was stopped is that and nothing else: it proves nothing.
    #[must_use]
    pub const fn of(facts: Facts) -> Self {
        if facts.interrupted {
            Self::Interrupted
        } else if facts.unreachable {
            Self::Unreachable
        } else if facts.broken {
            Self::Broken
        } else if facts.generator_limited {
            Self::Generator
        } else if facts.threshold_failed {
            Self::Threshold
        } else {
            Self::Pass
        }
    }

    /// The first lines of what stands on the terminal when a run is over: the verdict, and why.
    pub(crate) fn told(self, exit_code: u8, reasons: &[String]) -> String {
        let word = serde_json::to_value(self).ok().and_then(|word| word.as_str().map(str::to_uppercase));
        let mut text = format!("{:<12}{} (exit code {exit_code})\n", "verdict", word.unwrap_or_default());
        for reason in reasons {
            text += &format!("{:<12}{reason}\n", "");
        }
        text
    }

    /// The exit code. Wrong usage is 2 and never becomes a verdict; 1 is a fault of the generator.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Unreachable => 3,
            Self::Broken => 4,
            Self::Generator => 5,
            Self::Threshold => 99,
            Self::Interrupted => 130,
        }
    }
}

/// Whether the generator was the limit. `cpu` is the share of its cores, `late_p99_us` `None` for loads without
/// intended times.
#[must_use]
pub fn generator_limited(cpu: f64, late_p99_us: Option<u64>) -> bool {
    cpu > GENERATOR_CPU_MAX || late_p99_us.is_some_and(|late| late > GENERATOR_LATE_US_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_fact_decides_the_exit_code() {
        let well = Facts::default();
        let threshold = Facts { threshold_failed: true, ..well };
        let generator = Facts { generator_limited: true, ..threshold };
        let broken = Facts { broken: true, ..generator };
        let unreachable = Facts { unreachable: true, ..broken };
        let interrupted = Facts { interrupted: true, ..unreachable };
        for (facts, code) in
            [(well, 0), (threshold, 99), (generator, 5), (broken, 4), (unreachable, 3), (interrupted, 130)]
        {
            assert_eq!(Verdict::of(facts).exit_code(), code, "{facts:?}");
        }
    }

    #[test]
    fn a_generator_that_is_late_or_busy_is_the_limit() {
        for (cpu, late, limited) in [
            (0.5, Some(100), false),
            (0.9, Some(10_000), false),
            (0.91, Some(100), true),
            (0.5, Some(10_001), true),
            (0.5, None, false),
        ] {
            assert_eq!(generator_limited(cpu, late), limited, "{cpu} {late:?}");
        }
    }
}
