//! Axes: round limits, and where lines of the grid are.

/// One direction of a plot.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub min: f64,
    pub max: f64,
    pub log: bool,
    /// Where lines of the grid are, and what stands at them.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to a round number not below `max`, with some four lines.
    pub(crate) fn linear(max: f64, write: impl Fn(f64) -> String) -> Self {
        let max = if max > 0.0 { max } else { 1.0 };
        let rough = max / 4.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let count = (max / step - 1e-9).ceil() as u32;
        let ticks = (0..=count).map(|tick| (f64::from(tick) * step, write(f64::from(tick) * step))).collect();
        Self { min: 0.0, max: f64::from(count) * step, log: false, ticks }
    }

    /// From a round number not above `min` to one not below `max`, each step a factor of ten (or 1, 2, 5 where that
    /// leaves too few lines).
    pub(crate) fn log(min: f64, max: f64, write: impl Fn(f64) -> String) -> Self {
        let (min, max) = (min.max(1e-9), max.max(min).max(1e-9));
        let fine = (max / min).log10() < 2.0;
        let factors: &[f64] = if fine { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let first = min.log10().floor() as i32;
        let all = (first..first + 24).flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)));
        let all: Vec<f64> = all.collect();
        let begin = all.iter().rposition(|tick| *tick <= min * 1.000_001).unwrap_or(0);
        let end = all.iter().position(|tick| *tick >= max * 0.999_999).unwrap_or(all.len() - 1).max(begin + 1);
        let ticks: Vec<_> = all[begin..=end].iter().map(|tick| (*tick, write(*tick))).collect();
        Self { min: ticks[0].0, max: ticks[ticks.len() - 1].0, log: true, ticks }
    }

    /// Seconds from `min` to `max`, with lines where clocks have them.
    pub(crate) fn seconds(min: f64, max: f64) -> Self {
        const STEPS: &[f64] = &[
            0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0,
            21_600.0, 43_200.0, 86_400.0,
        ];
        let max = max.max(min + 1.0);
        let step = STEPS.iter().copied().find(|step| (max - min) / step <= 8.0).unwrap_or(86_400.0);
        let first = (min / step).ceil() as i64;
        let last = (max / step).floor() as i64;
        let write = |second: f64| match step {
            _ if second == 0.0 => "0".to_owned(),
            step if step < 60.0 || max <= 120.0 => format!("{second} s"),
            step if step < 3600.0 => format!("{} min", second / 60.0),
            _ => format!("{} h", second / 3600.0),
        };
        let ticks = (first..=last).map(|tick| (tick as f64 * step, write(tick as f64 * step))).collect();
        Self { min, max, log: false, ticks }
    }

    /// Where a value lies, 0 to 1.
    pub(super) fn at(&self, value: f64) -> f64 {
        let (min, max, value) = match self.log {
            true => (self.min.ln(), self.max.ln(), value.max(self.min).ln()),
            false => (self.min, self.max, value),
        };
        if max > min { ((value - min) / (max - min)).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// A time in microseconds at an axis.
pub(crate) fn tick(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{us} µs"),
        us if us < 1e6 => format!("{} ms", us / 1e3),
        us => format!("{} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(axis: &Axis) -> Vec<f64> {
        axis.ticks.iter().map(|(value, _)| *value).collect()
    }

    #[test]
    fn axes_are_round_and_hold_their_values() {
        assert_eq!(values(&Axis::linear(2000.0, |_| String::new())), [0.0, 500.0, 1000.0, 1500.0, 2000.0]);
        assert_eq!(values(&Axis::linear(0.0, |_| String::new())).last(), Some(&1.0));
        assert_eq!(values(&Axis::log(300.0, 90_000.0, |_| String::new())), [100.0, 1000.0, 10_000.0, 100_000.0]);
        assert_eq!(values(&Axis::log(300.0, 900.0, |_| String::new())), [200.0, 500.0, 1000.0]);
        for (min, max) in [(0.0, 0.0), (5.0, 5.0), (1.0, 3_600_000_000.0)] {
            let axis = Axis::log(min, max, |_| String::new());
            assert!(axis.min < axis.max && axis.max >= max, "{axis:?}");
        }
    }

    #[test]
    fn time_is_told_as_clocks_tell_it() {
        let texts = |min, max| Axis::seconds(min, max).ticks.into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(texts(0.0, 20.0), ["0", "5 s", "10 s", "15 s", "20 s"]);
        assert_eq!(texts(-2.0, 3.0), ["-2 s", "-1 s", "0", "1 s", "2 s", "3 s"]);
        assert_eq!(texts(0.0, 600.0), ["0", "2 min", "4 min", "6 min", "8 min", "10 min"]);
        assert_eq!(texts(0.0, 86_400.0).last().map(String::as_str), Some("24 h"));
        assert!(texts(0.0, 0.0).len() > 1);
    }

    #[test]
    fn places_are_within_the_plot() {
        let axis = Axis::log(100.0, 10_000.0, |_| String::new());
        for (value, at) in [(100.0, 0.0), (1000.0, 0.5), (10_000.0, 1.0), (0.0, 0.0), (1e9, 1.0)] {
            assert!((axis.at(value) - at).abs() < 1e-9, "{value}");
        }
    }
}
