//! Text of others, made safe and put into lines.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// `text` without characters that would steer the terminal or turn the direction of what follows. Line breaks stay.
pub(crate) fn safe(text: &str) -> String {
    let steers = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let clean = |c| match c {
        '\n' => '\n',
        '\t' => ' ',
        c if steers(c) => '\u{fffd}',
        c => c,
    };
    text.replace("\r\n", "\n").chars().map(clean).collect()
}

/// The same on one line.
pub(crate) fn safe_line(text: &str) -> String {
    safe(text).replace('\n', " ")
}

/// Columns that `text` takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// `text` in lines of at most `columns`, broken at spaces where there are some.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split_word_bounds() {
            if width(&line) + width(word) <= columns {
                line.push_str(word);
                continue;
            }
            if !line.trim().is_empty() {
                lines.push(std::mem::take(&mut line).trim_end().to_owned());
            }
            line.clear();
            if word.trim().is_empty() {
                continue; // The break stands for the space.
            }
            for grapheme in word.graphemes(true) {
                if !line.is_empty() && width(&line) + width(grapheme) > columns {
                    lines.push(std::mem::take(&mut line));
                }
                line.push_str(grapheme);
            }
        }
        lines.push(line);
    }
    lines
}

/// `text` cut to `columns`, with an ellipsis if something is missing.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut short = String::new();
    for grapheme in text.graphemes(true) {
        if width(&short) + width(grapheme) + 1 > columns {
            break;
        }
        short.push_str(grapheme);
    }
    if columns > 0 {
        short.push('…');
    }
    short
}

/// A time of day, with the date if it is another day than `now_ms`; both in ms since the Unix epoch.
pub(crate) fn clock(ms: u64, now_ms: u64) -> String {
    let zoned = |ms: u64| {
        let timestamp =
            Timestamp::from_millisecond(i64::try_from(ms).unwrap_or(i64::MAX)).unwrap_or(Timestamp::UNIX_EPOCH);
        timestamp.to_zoned(TimeZone::system())
    };
    let (at, now) = (zoned(ms), zoned(now_ms));
    let format = if at.date() == now.date() { "%H:%M" } else { "%Y-%m-%d %H:%M" };
    at.strftime(format).to_string()
}

/// Now, in ms since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_cannot_steer_the_terminal() {
        assert_eq!(safe("a\x1b[2Jb\x07\u{9b}c\u{202e}d\r\ne\tf"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\u{fffd}d\ne f");
        assert_eq!(safe_line("a\nb"), "a b");
    }

    #[test]
    fn lines_are_broken_by_columns_not_bytes() {
        for (text, columns, want) in [
            ("hello world", 5, vec!["hello", "world"]),
            ("hello  world", 8, vec!["hello", "world"]),
            ("abcdef", 4, vec!["abcd", "ef"]),
            ("日本語", 4, vec!["日本", "語"]),
            ("a\n\nb", 9, vec!["a", "", "b"]),
            ("", 9, vec![""]),
            ("👩‍👩‍👧x", 2, vec!["👩‍👩‍👧", "x"]),
        ] {
            assert_eq!(wrap(text, columns), want, "{text:?} in {columns}");
        }
        assert_eq!((cut("日本語", 4).as_str(), cut("ab", 2).as_str(), cut("ab", 0).as_str()), ("日…", "ab", ""));
    }
}
