//! Blocks that pages are made of: plots as inline SVG, without scripts, each with the numbers behind it as a table.
//! Colours are classes that the style sheet defines for light, dark and paper.

mod axis;
mod bars;
mod chart;
mod figure;

pub(crate) use axis::{Axis, tick};
pub(crate) use bars::{Bar, Bars, Segment, Stack, StackRow};
pub(crate) use chart::{Band, Chart, Line, Note};
pub(crate) use figure::{Figure, Table};

/// Sizes a plot is drawn in: one for a wide page and paper, one for a phone.
const WIDE: f64 = 836.0;
const NARROW: f64 = 340.0;

/// Text as it may stand in an element or an attribute.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A number with its thousands apart, and a digit behind the point only where it says something.
pub(crate) fn number(value: f64) -> String {
    let decimals = usize::from(value.abs() < 100.0 && value.fract().abs() > 0.05);
    let text = format!("{value:.decimals$}");
    let (sign, text) = text.strip_prefix('-').map_or(("", text.as_str()), |rest| ("−", rest));
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let whole = thousands(whole, '\u{202f}');
    if rest.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{rest}") }
}

/// Decimal digits with `between` thousands.
pub(crate) fn thousands(digits: &str, between: char) -> String {
    let mut apart = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            apart.push(between);
        }
        apart.push(digit);
    }
    apart
}

/// Bytes as people read them.
pub(crate) fn bytes(value: f64) -> String {
    match value.abs() {
        small if small < 10_000.0 => format!("{}\u{a0}B", number(value.round())),
        medium if medium < 1e6 => format!("{:.1}\u{a0}kB", value / 1e3),
        large if large < 1e9 => format!("{:.1}\u{a0}MB", value / 1e6),
        _ => format!("{:.2}\u{a0}GB", value / 1e9),
    }
}

/// Places of a drawing, in tenths of a pixel: more is not seen and makes pages long.
fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// How wide a text of the size that plots are labelled in is, about.
fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * 7.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        for (value, text) in [
            (0.0, "0"),
            (999.0, "999"),
            (1000.0, "1\u{202f}000"),
            (1_234_567.4, "1\u{202f}234\u{202f}567"),
            (0.25, "0.2"),
            (12.5, "12.5"),
            (-1500.0, "−1\u{202f}500"),
        ] {
            assert_eq!(number(value), text);
        }
        for (value, text) in [(512.0, "512\u{a0}B"), (12_345.0, "12.3\u{a0}kB"), (2.5e9, "2.50\u{a0}GB")] {
            assert_eq!(bytes(value), text);
        }
    }

    #[test]
    fn text_of_others_stays_text() {
        assert_eq!(escape("<a b=\"c\">&"), "&lt;a b=&quot;c&quot;&gt;&amp;");
    }
}
