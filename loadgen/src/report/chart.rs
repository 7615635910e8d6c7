//! Line charts as inline SVG, without scripts. Colours are classes that the page defines for light and dark.

use std::fmt::Write as _;

/// One direction of a chart.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub min: f64,
    pub max: f64,
    pub log: bool,
    /// Where lines of the grid are, and what stands at them.
    pub ticks: Vec<(f64, String)>,
}

/// One line of a chart.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// `a`, `b` or `c`.
    pub class: &'static str,
    pub points: Vec<(f64, f64)>,
}

/// A chart.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    /// What it shows, for those who cannot see it.
    pub label: String,
    pub x: Axis,
    pub y: Axis,
    pub x_name: &'static str,
    pub lines: Vec<Line>,
    /// Values written beside their point.
    pub notes: Vec<Note>,
    /// Texts shown where the pointer is: from x to x.
    pub hovers: Vec<(f64, f64, String)>,
}

/// A value written beside its point.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub class: &'static str,
    pub at: (f64, f64),
    pub text: String,
    /// Above the point, else below.
    pub above: bool,
}

impl Axis {
    /// From 0 to a round number not below `max`, with some four lines.
    pub(super) fn linear(max: f64, write: impl Fn(f64) -> String) -> Self {
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
    pub(super) fn log(min: f64, max: f64, write: impl Fn(f64) -> String) -> Self {
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

    /// Where a value lies, 0 to 1.
    fn at(&self, value: f64) -> f64 {
        let (min, max, value) = match self.log {
            true => (self.min.ln(), self.max.ln(), value.max(self.min).ln()),
            false => (self.min, self.max, value),
        };
        if max > min { ((value - min) / (max - min)).clamp(0.0, 1.0) } else { 0.0 }
    }
}

impl Chart {
    /// Draws it `width` by `height`, in a class of that size's name: a page shows the size that fits.
    pub(super) fn svg(&self, class: &str, width: f64, height: f64) -> String {
        let (left, right, top, bottom) = (62.0, 14.0, 14.0, 40.0);
        let x = |value: f64| left + self.x.at(value) * (width - left - right);
        let y = |value: f64| height - bottom - self.y.at(value) * (height - top - bottom);
        let mut svg = format!(
            "<svg class=\"chart {class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">",
            super::sheet::escape(&self.label)
        );
        for (value, text) in &self.y.ticks {
            let at = y(*value);
            put(
                &mut svg,
                format_args!(
                    "<line class=\"grid\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>",
                    width - right
                ),
            );
            put(
                &mut svg,
                format_args!(
                    "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                    left - 8.0,
                    at + 4.0
                ),
            );
        }
        let mut free = f64::MIN;
        for (value, text) in &self.x.ticks {
            let at = x(*value);
            put(
                &mut svg,
                format_args!(
                    "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top}\" y2=\"{:.1}\"/>",
                    height - bottom
                ),
            );
            // A text that would touch the one before it is left out.
            let half = text.chars().count() as f64 * 3.6;
            if at - half > free {
                let anchor = if at + half > width { ("end", width - 2.0) } else { ("middle", at) };
                put(
                    &mut svg,
                    format_args!(
                        "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{}\">{text}</text>",
                        anchor.1,
                        height - bottom + 16.0,
                        anchor.0
                    ),
                );
                free = at + half + 8.0;
            }
        }
        put(
            &mut svg,
            format_args!(
                "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                width - right,
                height - 6.0,
                self.x_name
            ),
        );
        for line in &self.lines {
            let mut points = String::new();
            for (at, value) in &line.points {
                put(&mut points, format_args!("{:.1},{:.1} ", x(*at), y(*value)));
            }
            put(&mut svg, format_args!("<polyline class=\"line {}\" points=\"{}\"/>", line.class, points.trim_end()));
        }
        for note in &self.notes {
            let (at, value) = (x(note.at.0), y(note.at.1));
            let shift = if note.above { -9.0 } else { 17.0 };
            let (anchor, beside) = if at > width - 70.0 { ("end", at + 4.0) } else { ("middle", at) };
            put(
                &mut svg,
                format_args!("<circle class=\"dot {}\" cx=\"{at:.1}\" cy=\"{value:.1}\" r=\"4\"/>", note.class),
            );
            put(
                &mut svg,
                format_args!(
                    "<text class=\"value\" x=\"{beside:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
                    value + shift,
                    note.text
                ),
            );
        }
        for (from, to, text) in &self.hovers {
            let (from, to) = (x(*from), x(*to));
            put(
                &mut svg,
                format_args!(
                    "<rect class=\"hover\" x=\"{from:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"{:.1}\"><title>{text}</title></rect>",
                    to - from,
                    height - top - bottom
                ),
            );
        }
        svg.push_str("</svg>");
        svg
    }
}

fn put(to: &mut String, what: std::fmt::Arguments<'_>) {
    to.write_fmt(what).expect("a String takes everything");
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
    fn places_are_within_the_chart() {
        let axis = Axis::log(100.0, 10_000.0, |_| String::new());
        for (value, at) in [(100.0, 0.0), (1000.0, 0.5), (10_000.0, 1.0), (0.0, 0.0), (1e9, 1.0)] {
            assert!((axis.at(value) - at).abs() < 1e-9, "{value}");
        }
    }
}
