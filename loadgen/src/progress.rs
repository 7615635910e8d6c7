//! What a run tells while it goes on: one live line on a terminal, a plain line every second elsewhere.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How a run stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    pub live: u64,
    pub wanted: u64,
    /// Of the last second.
    pub sent: u64,
    pub acknowledged: u64,
    pub delivered: u64,
    pub delivery_p99_us: Option<u64>,
    /// So far.
    pub errors: u64,
    /// Seconds of the load that are over, and that there are.
    pub second: Option<(u64, u64)>,
}

/// Where it is told.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    phase: &'static str,
}

impl Progress {
    /// Tells on standard error; nothing if `quiet`.
    pub(crate) fn new(quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{spinner} {prefix:.bold} {wide_msg}");
            bar.set_style(style.expect("the template is well-formed"));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar, quiet, phase: "" }
    }

    /// A step begins.
    pub(crate) fn phase(&mut self, phase: &'static str) {
        self.phase = phase;
        match &self.bar {
            Some(bar) => {
                bar.set_prefix(phase);
                bar.set_message("");
            }
            None if !self.quiet => eprintln!("{phase}"),
            None => {}
        }
    }

    /// How it stands; called about once a second.
    pub(crate) fn tell(&self, standing: &Standing) {
        self.line(&line(standing));
    }

    /// The same in words of the caller's.
    pub(crate) fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(line.to_owned()),
            None if !self.quiet => eprintln!("  {line}"),
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(standing: &Standing) -> String {
    let Standing { live, wanted, sent, acknowledged, delivered, delivery_p99_us, errors, second } = standing;
    let mut line = String::new();
    if let Some((second, of)) = second {
        line += &format!("{second:>3}/{of} s  ");
    }
    line += &format!("{live}/{wanted} sessions");
    if second.is_some() {
        line += &format!("  {sent} sent/s  {acknowledged} acknowledged/s  {delivered} delivered/s");
        if let Some(us) = delivery_p99_us {
            line += &format!("  p99 {}", time(*us));
        }
    }
    if *errors > 0 {
        line += &format!("  {errors} errors");
    }
    line
}

/// Microseconds as people read them.
pub(crate) fn time(us: u64) -> String {
    match us {
        0..1000 => format!("{us} µs"),
        1000..10_000 => format!("{:.2} ms", us as f64 / 1e3),
        10_000..100_000 => format!("{:.1} ms", us as f64 / 1e3),
        100_000..1_000_000 => format!("{:.0} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_known() {
        let mut standing = Standing { live: 7, wanted: 10, ..Standing::default() };
        assert_eq!(line(&standing), "7/10 sessions");
        standing.second = Some((3, 20));
        standing.delivery_p99_us = Some(12_345);
        standing.errors = 2;
        let told = line(&standing);
        assert_eq!(told, "  3/20 s  7/10 sessions  0 sent/s  0 acknowledged/s  0 delivered/s  p99 12.3 ms  2 errors");
    }

    #[test]
    fn times_keep_three_digits() {
        for (us, text) in
            [(7, "7 µs"), (1234, "1.23 ms"), (12_345, "12.3 ms"), (123_456, "123 ms"), (9_876_543, "9.88 s")]
        {
            assert_eq!(time(us), text);
        }
    }
}
