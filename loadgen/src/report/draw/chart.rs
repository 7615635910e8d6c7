//! Charts of lines.

use std::fmt::Write as _;

use super::axis::Axis;
use super::{NARROW, WIDE, escape, px, text_width};

/// One line of a chart.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// `a` to `f`.
    pub class: &'static str,
    /// What it is, for those who cannot see it.
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// A value written beside its point.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub class: &'static str,
    pub at: (f64, f64),
    pub text: String,
    /// Above the point, else below.
    pub above: bool,
}

/// A stretch of the x axis with a name, such as a phase.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Band {
    pub name: String,
    pub from: f64,
    pub to: f64,
}

/// A chart of lines.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    /// What it shows, for those who cannot see it.
    pub label: String,
    pub x: Axis,
    pub y: Axis,
    pub x_name: &'static str,
    pub lines: Vec<Line>,
    pub notes: Vec<Note>,
    pub bands: Vec<Band>,
    /// Texts shown where the pointer is: from x to x.
    pub hovers: Vec<(f64, f64, String)>,
}

const LEFT: f64 = 66.0;
const RIGHT: f64 = 14.0;
const BOTTOM: f64 = 40.0;

/// Where things are in one size of a chart.
struct Place<'a> {
    chart: &'a Chart,
    svg: String,
    width: f64,
    height: f64,
    top: f64,
}

impl Chart {
    /// In both sizes: the page shows the one that fits.
    pub(crate) fn svg(&self) -> String {
        self.sized("wide", WIDE, 280.0) + &self.sized("narrow", NARROW, 250.0)
    }

    fn sized(&self, class: &str, width: f64, height: f64) -> String {
        let label = escape(&self.label);
        let svg = format!(
            "<svg class=\"plot {class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{label}\">"
        );
        // Names of phases stand above the lines.
        let top = if self.bands.is_empty() { 14.0 } else { 30.0 };
        let mut place = Place { chart: self, svg, width, height, top };
        place.bands();
        place.grid();
        place.lines();
        place.notes();
        place.hovers();
        place.svg + "</svg>"
    }
}

impl Place<'_> {
    fn x(&self, value: f64) -> f64 {
        LEFT + self.chart.x.at(value) * (self.width - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        self.height - BOTTOM - self.chart.y.at(value) * (self.height - self.top - BOTTOM)
    }

    fn put(&mut self, what: std::fmt::Arguments<'_>) {
        self.svg.write_fmt(what).expect("a String takes everything");
    }

    /// Every other phase is shaded; a name that has no room is left to the pointer and the table.
    fn bands(&mut self) {
        let chart = self.chart;
        let (top, height) = (self.top, self.height - self.top - BOTTOM);
        let mut free = LEFT;
        for (at, band) in chart.bands.iter().enumerate() {
            let (from, to) = (self.x(band.from), self.x(band.to));
            if to - from < 0.5 {
                continue;
            }
            let name = escape(&band.name);
            let shade = if at % 2 == 0 { "even" } else { "odd" };
            self.put(format_args!(
                "<rect class=\"phase {shade}\" data-phase=\"{name}\" x=\"{}\" y=\"{top}\" width=\"{}\" height=\"{}\">\
                 <title>{name}</title></rect>",
                px(from),
                px(to - from),
                px(height)
            ));
            self.put(format_args!(
                "<line class=\"border\" x1=\"{0}\" x2=\"{0}\" y1=\"{1}\" y2=\"{2}\"/>",
                px(from),
                px(top - 6.0),
                px(top + height)
            ));
            let wide = text_width(&band.name);
            if from >= free && wide <= (to - from) - 4.0 {
                self.put(format_args!(
                    "<text class=\"phase-name\" x=\"{}\" y=\"{}\">{name}</text>",
                    px(from + 4.0),
                    px(top - 9.0)
                ));
                free = from + wide + 4.0;
            }
        }
    }

    fn grid(&mut self) {
        let (chart, right, below) = (self.chart, self.width - RIGHT, self.height - BOTTOM);
        for (value, text) in &chart.y.ticks {
            let at = self.y(*value);
            self.put(format_args!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{text}</text>",
                px(right),
                px(LEFT - 8.0),
                px(at + 4.0)
            ));
        }
        let mut free = f64::MIN;
        for (value, text) in &chart.x.ticks {
            let at = self.x(*value);
            let top = self.top;
            self.put(format_args!(
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top}\" y2=\"{}\"/>",
                px(below)
            ));
            // A text that would touch the one before it is left out.
            let half = text_width(text) / 2.0;
            if at - half > free {
                let (anchor, x) = if at + half > self.width { ("end", self.width - 2.0) } else { ("middle", at) };
                self.put(format_args!(
                    "<text x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{text}</text>",
                    px(x),
                    px(below + 18.0)
                ));
                free = at + half + 8.0;
            }
        }
        let (x, y) = (px(right), px(self.height - 6.0));
        self.put(format_args!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{}</text>", chart.x_name));
    }

    fn lines(&mut self) {
        for line in &self.chart.lines {
            let mut points = String::new();
            for (at, value) in &line.points {
                points += &format!("{},{} ", px(self.x(*at)), px(self.y(*value)));
            }
            let name = escape(&line.name);
            self.put(format_args!(
                "<polyline class=\"line {}\" data-series=\"{name}\" points=\"{}\"><title>{name}</title></polyline>",
                line.class,
                points.trim_end()
            ));
        }
    }

    fn notes(&mut self) {
        let mut taken: Vec<(f64, f64, f64)> = Vec::new();
        for note in &self.chart.notes {
            let (at, value) = (self.x(note.at.0), self.y(note.at.1));
            let class = note.class;
            self.put(format_args!("<circle class=\"dot {class}\" cx=\"{at:.1}\" cy=\"{value:.1}\" r=\"4\"/>"));
            let half = text_width(&note.text) / 2.0;
            let shift = if note.above { -9.0 } else { 17.0 };
            let (anchor, x, from) = match at {
                at if at + half > self.width => ("end", at + 4.0, at + 4.0 - half * 2.0),
                at if at - half < LEFT => ("start", at - 4.0, at - 4.0),
                at => ("middle", at, at - half),
            };
            let y = value + shift;
            // A text on top of another says nothing.
            let clear = taken
                .iter()
                .all(|(left, right, other)| from > *right || from + half * 2.0 < *left || (y - other).abs() > 13.0);
            if clear {
                taken.push((from, from + half * 2.0, y));
                let text = escape(&note.text);
                self.put(format_args!(
                    "<text class=\"value\" x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{text}</text>",
                    px(x),
                    px(y)
                ));
            }
        }
    }

    fn hovers(&mut self) {
        let (top, height) = (self.top, self.height - self.top - BOTTOM);
        for (from, to, text) in &self.chart.hovers {
            let (from, to) = (self.x(*from), self.x(*to));
            let text = escape(text);
            self.put(format_args!(
                "<rect class=\"hover\" x=\"{}\" y=\"{top}\" width=\"{}\" height=\"{}\"><title>{text}</title></rect>",
                px(from),
                px(to - from),
                px(height)
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_names_its_lines_and_marks_its_phases() {
        let band = |name: &str, from, to| Band { name: name.into(), from, to };
        let chart = Chart {
            label: "a <test>".into(),
            x: Axis::seconds(0.0, 10.0),
            y: Axis::linear(10.0, super::super::number),
            x_name: "of the load",
            lines: vec![Line { class: "a", name: "sent".into(), points: vec![(0.0, 1.0), (10.0, 9.0)] }],
            notes: Vec::new(),
            bands: vec![band("ramp", 0.0, 5.0), band("a name that has no room", 5.0, 5.5)],
            hovers: Vec::new(),
        };
        let svg = chart.svg();
        assert_eq!(svg.matches("<svg").count(), 2);
        assert!(svg.contains("data-series=\"sent\"") && svg.contains("aria-label=\"a &lt;test&gt;\""));
        assert_eq!(svg.matches("data-phase=\"ramp\"").count(), 2);
        assert_eq!(svg.matches("class=\"phase-name\"").count(), 2, "{svg}");
    }
}
