//! Which seconds of a run belong to what.

use std::collections::BTreeMap;
use std::ops::Range;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::recorder::Recorder;

/// Seconds before the first quiet ones: connections and caches warm up.
const WARM_UP: u64 = 3;
/// Seconds after an attack that belong to nothing: what it left is worked off.
const REST: u64 = 2;
/// Seconds of an attack before its first window: it is still beginning.
const RAMP: u64 = 2;

/// When what happens, in seconds of the load: for each attack quiet ones, then the attack, then a rest; quiet ones at
/// the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub attacks: u64,
    pub quiet: u64,
    pub attack: u64,
    /// Length of a window.
    pub window: u64,
}

impl Schedule {
    /// How long all of it takes.
    pub(crate) const fn seconds(&self) -> u64 {
        WARM_UP + self.attacks * self.turn() + self.quiet
    }

    const fn turn(&self) -> u64 {
        self.quiet + self.attack + REST
    }

    /// The second in which an attack begins.
    pub(crate) const fn begins(&self, attack: u64) -> u64 {
        WARM_UP + attack * self.turn() + self.quiet
    }

    /// The windows without an attack.
    pub(crate) fn quiet_windows(&self) -> Vec<Range<u64>> {
        let begins = (0..=self.attacks).map(|attack| self.begins(attack) - self.quiet);
        begins.flat_map(|begin| self.windows(begin..begin + self.quiet)).collect()
    }

    /// The windows of an attack.
    pub(crate) fn attack_windows(&self, attack: u64) -> Vec<Range<u64>> {
        let begin = self.begins(attack);
        self.windows(begin + RAMP.min(self.attack - 1)..begin + self.attack)
    }

    fn windows(&self, seconds: Range<u64>) -> Vec<Range<u64>> {
        let count = (seconds.end - seconds.start) / self.window;
        (0..count).map(|at| seconds.start + at * self.window..seconds.start + (at + 1) * self.window).collect()
    }
}

/// Quantiles in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Three {
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
}

/// What windows of one kind came to: each number is the median over them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Measured {
    pub windows: usize,
    pub delivery_us: Three,
    pub ack_us: Three,
    /// How late the generator itself was.
    pub late_p99_us: u64,
    /// The 99th percentiles of delivery of each window, in rising order: how much they scatter.
    pub delivery_p99_us_of_windows: Vec<u64>,
    pub deliveries: u64,
}

impl Measured {
    pub(crate) fn of(windows: &[Range<u64>], seconds: &BTreeMap<u64, Recorder>) -> Self {
        let merged: Vec<Recorder> = windows
            .iter()
            .map(|window| {
                let mut whole = Recorder::default();
                seconds.range(window.clone()).for_each(|(_, second)| whole.merge(second));
                whole
            })
            .filter(|whole| !whole.delivery.is_empty())
            .collect();
        let of = |histogram: fn(&Recorder) -> &Histogram<u64>, quantile: f64| {
            median(merged.iter().map(|whole| histogram(whole).value_at_quantile(quantile)).collect())
        };
        let three = |histogram| Three { p50: of(histogram, 0.5), p99: of(histogram, 0.99), p999: of(histogram, 0.999) };
        let mut p99s: Vec<u64> = merged.iter().map(|whole| whole.delivery.value_at_quantile(0.99)).collect();
        p99s.sort_unstable();
        Self {
            windows: merged.len(),
            delivery_us: three(|whole| &whole.delivery),
            ack_us: three(|whole| &whole.ack),
            late_p99_us: of(|whole| &whole.late, 0.99),
            delivery_p99_us_of_windows: p99s,
            deliveries: merged.iter().map(|whole| whole.delivery.len()).sum(),
        }
    }
}

/// The middle one; of an even number the mean of the two in the middle. 0 of none.
fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    let middle = values.len() / 2;
    match values.len() {
        0 => 0,
        len if len % 2 == 1 => values[middle],
        _ => values[middle - 1].midpoint(values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::record;

    #[test]
    fn windows_lie_within_their_phase_and_never_overlap() {
        let schedule = Schedule { attacks: 3, quiet: 6, attack: 10, window: 2 };
        assert_eq!(schedule.seconds(), 3 + 3 * 18 + 6);
        let mut owner = vec![None; schedule.seconds() as usize];
        let mut claim = |window: Range<u64>, who: u64| {
            for second in window {
                assert_eq!(owner[second as usize].replace(who), None, "second {second}");
            }
        };
        schedule.quiet_windows().into_iter().for_each(|window| claim(window, 99));
        for attack in 0..3 {
            let windows = schedule.attack_windows(attack);
            assert_eq!(windows.len(), 4);
            assert!(windows[0].start >= schedule.begins(attack) + RAMP);
            assert!(windows[3].end <= schedule.begins(attack) + schedule.attack);
            windows.into_iter().for_each(|window| claim(window, attack));
        }
        assert_eq!(schedule.quiet_windows().len(), 12);
    }

    #[test]
    fn numbers_are_medians_over_windows() {
        let mut seconds = BTreeMap::new();
        for (second, us) in [(0, 100), (1, 100), (2, 9000), (3, 9000), (4, 200), (5, 200)] {
            let mut recorder = Recorder::default();
            (0..10).for_each(|_| record(&mut recorder.delivery, 0, us * 1000));
            seconds.insert(second, recorder);
        }
        let measured = Measured::of(&[0..2, 2..4, 4..6, 6..8], &seconds);
        assert_eq!((measured.windows, measured.deliveries), (3, 60));
        assert_eq!(measured.delivery_us.p99, 200, "one bad window is no median");
        assert!(measured.delivery_p99_us_of_windows.is_sorted() && measured.delivery_p99_us_of_windows[2] >= 8990);
        assert_eq!((median(vec![]), median(vec![4]), median(vec![9, 1]), median(vec![3, 1, 2])), (0, 4, 5, 2));
    }
}
