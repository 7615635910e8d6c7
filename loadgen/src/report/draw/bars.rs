//! Bars: values beside each other, and values made of parts.

use std::fmt::Write as _;

use super::{NARROW, WIDE, escape, px, text_width};

/// One bar.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub name: String,
    pub value: f64,
    /// What stands at its end.
    pub text: String,
    /// `a` to `f`, or `well`, `bad`.
    pub class: &'static str,
    /// From where to where the value may be.
    pub interval: Option<(f64, f64)>,
}

/// Values beside each other.
#[derive(Clone, Debug)]
pub(crate) struct Bars {
    /// What they show, for those who cannot see them.
    pub label: String,
    pub bars: Vec<Bar>,
    /// Where a line stands across all of them, such as at a ratio of 1.
    pub line: Option<f64>,
}

/// A bar made of parts.
#[derive(Clone, Debug)]
pub(crate) struct StackRow {
    pub name: String,
    pub segments: Vec<Segment>,
    /// What stands at its end.
    pub text: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub name: String,
    pub class: &'static str,
    pub value: f64,
}

/// Bars made of parts, on one scale.
#[derive(Clone, Debug)]
pub(crate) struct Stack {
    pub label: String,
    pub rows: Vec<StackRow>,
}

const ROW: f64 = 30.0;
const THICK: f64 = 18.0;

/// Where things are in one size of a drawing.
struct Place {
    svg: String,
    width: f64,
    /// Where bars begin, and how long the longest is.
    left: f64,
    room: f64,
    /// Names stand above their bars instead of beside them.
    above: bool,
}

impl Place {
    fn new<'a>(
        class: &str,
        label: &str,
        width: f64,
        rows: usize,
        names: impl Iterator<Item = &'a str>,
        texts: impl Iterator<Item = &'a str>,
    ) -> Self {
        let longest = names.map(text_width).fold(0.0, f64::max);
        let text = texts.map(text_width).fold(0.0, f64::max) + 12.0;
        let above = longest > width * 0.3;
        let left = if above || longest == 0.0 { 0.0 } else { longest + 12.0 };
        let height = rows as f64 * (if above { ROW + 18.0 } else { ROW }) + 4.0;
        let svg = format!(
            "<svg class=\"plot bars {class}\" viewBox=\"0 0 {width} {}\" role=\"img\" aria-label=\"{}\">",
            px(height),
            escape(label)
        );
        Self { svg, width, left, room: (width - left - text).max(40.0), above }
    }

    fn put(&mut self, what: std::fmt::Arguments<'_>) {
        self.svg.write_fmt(what).expect("a String takes everything");
    }

    /// Writes the name of a row and returns where its bar begins, from above.
    fn name(&mut self, row: usize, name: &str) -> f64 {
        let step = if self.above { ROW + 18.0 } else { ROW };
        let top = row as f64 * step + 4.0;
        let (name, top) = (escape(name), if self.above { top + 18.0 } else { top });
        if self.above {
            self.put(format_args!("<text x=\"0\" y=\"{}\">{name}</text>", px(top - 6.0)));
        } else if self.left > 0.0 {
            let x = px(self.left - 10.0);
            self.put(format_args!("<text x=\"{x}\" y=\"{}\" text-anchor=\"end\">{name}</text>", px(top + 13.5)));
        }
        top
    }

    fn end_text(&mut self, x: f64, top: f64, text: &str) {
        let text = escape(text);
        let (x, y) = (px(x.min(self.width - text_width(&text)) + 8.0), px(top + 13.5));
        self.put(format_args!("<text class=\"value\" x=\"{x}\" y=\"{y}\">{text}</text>"));
    }
}

impl Bars {
    /// In both sizes: the page shows the one that fits.
    pub(crate) fn svg(&self) -> String {
        self.sized("wide", WIDE) + &self.sized("narrow", NARROW)
    }

    fn sized(&self, class: &str, width: f64) -> String {
        let names = self.bars.iter().map(|bar| bar.name.as_str());
        let texts = self.bars.iter().map(|bar| bar.text.as_str());
        let mut place = Place::new(class, &self.label, width, self.bars.len(), names, texts);
        let values = self.bars.iter().flat_map(|bar| [bar.value, bar.interval.map_or(0.0, |(_, high)| high)]);
        let most = values.chain(self.line).filter(|value| value.is_finite()).fold(0.0, f64::max).max(1e-12);
        let (left, room) = (place.left, place.room);
        let length = |value: f64| (value / most).clamp(0.0, 1.0) * room;
        for (row, bar) in self.bars.iter().enumerate() {
            let top = place.name(row, &bar.name);
            let name = escape(&bar.name);
            place.put(format_args!(
                "<rect class=\"bar {}\" data-bar=\"{name}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{THICK}\" rx=\"3\">\
                 <title>{name}: {}</title></rect>",
                bar.class,
                px(left),
                px(top),
                px(length(bar.value).max(1.5)),
                escape(&bar.text)
            ));
            let mut end = length(bar.value);
            if let Some((low, high)) = bar.interval {
                let (from, to, middle) = (px(left + length(low)), px(left + length(high)), px(top + THICK / 2.0));
                place.put(format_args!(
                    "<path class=\"whisker\" d=\"M{from} {middle}H{to}M{from} {0}V{1}M{to} {0}V{1}\"/>",
                    px(top + 5.0),
                    px(top + THICK - 5.0)
                ));
                end = end.max(length(high));
            }
            place.end_text(left + end, top, &bar.text);
        }
        if let Some(line) = self.line {
            let (x, step) = (px(left + length(line)), if place.above { ROW + 18.0 } else { ROW });
            let height = px(self.bars.len() as f64 * step);
            place.put(format_args!("<line class=\"border\" x1=\"{x}\" x2=\"{x}\" y1=\"0\" y2=\"{height}\"/>"));
        }
        place.svg + "</svg>"
    }
}

impl Stack {
    /// In both sizes: the page shows the one that fits.
    pub(crate) fn svg(&self) -> String {
        self.sized("wide", WIDE) + &self.sized("narrow", NARROW)
    }

    fn sized(&self, class: &str, width: f64) -> String {
        let names = self.rows.iter().map(|row| row.name.as_str());
        let texts = self.rows.iter().map(|row| row.text.as_str());
        let mut place = Place::new(class, &self.label, width, self.rows.len(), names, texts);
        let sum = |row: &StackRow| row.segments.iter().map(|segment| segment.value).sum::<f64>();
        let most = self.rows.iter().map(sum).fold(0.0, f64::max).max(1e-12);
        let room = place.room;
        for (row, of) in self.rows.iter().enumerate() {
            let top = place.name(row, &of.name);
            let mut x = place.left;
            for segment in &of.segments {
                let wide = segment.value / most * room;
                let name = escape(&segment.name);
                // A sliver of space keeps parts apart, in print as well.
                place.put(format_args!(
                    "<rect class=\"bar {}\" data-part=\"{name}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{THICK}\" rx=\"2\">\
                     <title>{name}: {}</title></rect>",
                    segment.class,
                    px(x),
                    px(top),
                    px((wide - 1.5).max(1.0)),
                    super::number(segment.value)
                ));
                x += wide;
            }
            place.end_text(x, top, &of.text);
        }
        place.svg + "</svg>"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_they_are_worth() {
        let bar =
            |name: &str, value| Bar { name: name.into(), value, text: format!("{value}"), class: "a", interval: None };
        let svg = Bars { label: String::new(), bars: vec![bar("one", 50.0), bar("two", 100.0)], line: None }
            .sized("w", 836.0);
        let widths: Vec<f64> = svg
            .match_indices("data-bar")
            .map(|(at, _)| {
                let rest = &svg[at..];
                let from = rest.find(" width=\"").unwrap() + 8;
                rest[from..from + rest[from..].find('"').unwrap()].parse().unwrap()
            })
            .collect();
        assert!((widths[0] * 2.0 - widths[1]).abs() < 0.2, "{widths:?}");
    }

    #[test]
    fn long_names_stand_above_their_bars_on_a_phone() {
        let bars = Bars {
            label: String::new(),
            bars: vec![Bar {
                name: "deliveries per CPU-second".into(),
                value: 1.0,
                text: "1".into(),
                class: "a",
                interval: None,
            }],
            line: None,
        };
        assert!(bars.sized("narrow", NARROW).contains("<text x=\"0\""));
        assert!(!bars.sized("wide", WIDE).contains("<text x=\"0\""));
    }
}
