//! Draws the whole screen, every time: a terminal takes that in a millisecond, and it is right after any resize.

use std::io::{self, Write};
use std::time::Instant;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::queue;
use crossterm::style::{Attribute, Color, Print, ResetColor, SetAttribute, SetForegroundColor};
use crossterm::terminal::{BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate};

use super::super::editor::Editor;
use super::super::talk::{Line, Link, Talk, Tick};
use super::super::text;

/// Rows that are not the conversation: head, state, input.
const FRAME_ROWS: u16 = 3;
const PROMPT: &str = "› ";

/// A piece of a row in one style.
#[derive(Clone, Debug, PartialEq)]
struct Span {
    text: String,
    color: Option<Color>,
    bold: bool,
}

fn span(text: impl Into<String>, color: Option<Color>) -> Span {
    Span { text: text.into(), color, bold: false }
}

type Row = Vec<Span>;

/// Draws everything. `scroll` is in rows from the end.
pub(super) fn draw(
    out: &mut impl Write,
    (columns, rows): (u16, u16),
    talk: &Talk,
    editor: &Editor,
    scroll: usize,
    loading: bool,
) -> io::Result<()> {
    let width = usize::from(columns);
    let space = usize::from(rows.saturating_sub(FRAME_ROWS));
    let all = rows_of(talk, width);
    let end = all.len() - scroll.min(all.len().saturating_sub(space));
    let shown = &all[end.saturating_sub(space)..end];
    queue!(out, BeginSynchronizedUpdate, Hide)?;
    put(out, 0, &head(talk, width, loading))?;
    for (place, row) in (1..).zip((0..space).map(|place| {
        // The conversation sits at the bottom, where it is written.
        place.checked_sub(space - shown.len()).and_then(|place| shown.get(place))
    })) {
        put(out, place, row.map_or(&[][..], Vec::as_slice))?;
    }
    if rows >= 2 {
        put(out, rows - 2, &state(talk, width, scroll))?;
    }
    let (view, column) = editor.view(width.saturating_sub(text::width(PROMPT)));
    let last = rows.saturating_sub(1);
    put(out, last, &[span(PROMPT, Some(Color::Green)), span(view, None)])?;
    let column = u16::try_from(column + text::width(PROMPT)).unwrap_or(columns).min(columns.saturating_sub(1));
    queue!(out, MoveTo(column, last), Show, EndSynchronizedUpdate)
}

/// How far one can scroll up.
pub(super) fn rows_above((columns, rows): (u16, u16), talk: &Talk) -> usize {
    rows_of(talk, usize::from(columns)).len().saturating_sub(usize::from(rows.saturating_sub(FRAME_ROWS)))
}

fn put(out: &mut impl Write, row: u16, spans: &[Span]) -> io::Result<()> {
    queue!(out, MoveTo(0, row), Clear(ClearType::CurrentLine))?;
    for span in spans {
        if let Some(color) = span.color {
            queue!(out, SetForegroundColor(color))?;
        }
        if span.bold {
            queue!(out, SetAttribute(Attribute::Bold))?;
        }
        queue!(out, Print(&span.text), SetAttribute(Attribute::Reset), ResetColor)?;
    }
    Ok(())
}

fn head(talk: &Talk, width: usize, loading: bool) -> Row {
    let title = text::cut(&talk.place.title, width);
    let mut left = width.saturating_sub(text::width(&title));
    let mut row = vec![Span { text: title, color: Some(Color::Cyan), bold: true }];
    let presence = talk.presence_line();
    let mut more = if presence.is_empty() { String::new() } else { format!("  {presence}") };
    if loading {
        more.push_str("  loading…");
    }
    let more = text::cut(&more, left);
    left -= text::width(&more);
    let color = if presence == "online" { Color::Green } else { Color::DarkGrey };
    row.push(span(more, Some(color)));
    let (link, color) = match &talk.link {
        Link::Up => ("connected".to_owned(), Color::DarkGrey),
        Link::Down { retry_at, .. } => {
            let left = retry_at.map(|at| at.saturating_duration_since(Instant::now()).as_secs());
            let when = left.map_or(String::new(), |seconds| {
                if seconds == 0 { ", trying…".into() } else { format!(", next try in {seconds} s") }
            });
            (format!("not connected{when}"), Color::Yellow)
        }
    };
    if let Some(gap) = left.checked_sub(text::width(&link)).filter(|gap| *gap > 0) {
        row.push(span(" ".repeat(gap), None));
        row.push(span(link, Some(color)));
    }
    row
}

/// One of: an error, who writes, that there is more below.
fn state(talk: &Talk, width: usize, scroll: usize) -> Row {
    let (line, color) = if let Some(error) = talk.error() {
        (error.to_owned(), Color::Red)
    } else if let Some(typing) = talk.typing() {
        (typing, Color::DarkGrey)
    } else if scroll > 0 {
        ("PageDown: newer messages".to_owned(), Color::DarkGrey)
    } else if let Link::Down { reason, .. } = &talk.link {
        (text::safe_line(reason), Color::Yellow)
    } else {
        (String::new(), Color::DarkGrey)
    };
    vec![span(text::cut(&line, width), Some(color))]
}

fn rows_of(talk: &Talk, width: usize) -> Vec<Row> {
    let now = text::now_ms();
    talk.lines().iter().flat_map(|line| rows_of_line(line, width, now)).collect()
}

fn rows_of_line(line: &Line, width: usize, now: u64) -> Vec<Row> {
    match line {
        Line::Note(note) => plain(note, width),
        Line::Happened { ts, text } => plain(&format!("{}  {text}", text::clock(*ts, now)), width),
        Line::Said { ts, who, own, text } => {
            let clock = format!("{} ", text::clock(*ts, now));
            let (tick, tick_color) = match own {
                None => ("", Color::DarkGrey),
                Some(Tick::Waiting) => (" …", Color::DarkGrey),
                Some(Tick::Sent) => (" ✓", Color::DarkGrey),
                Some(Tick::Delivered) => (" ✓✓", Color::DarkGrey),
                Some(Tick::Read) => (" ✓✓", Color::Blue),
            };
            let who_color = if own.is_some() { Color::Green } else { Color::Magenta };
            let indent = text::width(&clock);
            // Room for the longest tick, so that lines do not break anew when it grows.
            let room = width.saturating_sub(indent + if own.is_some() { 3 } else { 0 });
            let said = text::wrap(&format!("{who}: {text}"), room);
            let count = said.len();
            let name = format!("{who}:");
            let row = |(number, said): (usize, String)| {
                let mut row = vec![if number == 0 {
                    span(clock.clone(), Some(Color::DarkGrey))
                } else {
                    span(" ".repeat(indent), None)
                }];
                match said.strip_prefix(&name).filter(|_| number == 0) {
                    Some(rest) => {
                        row.push(span(name.clone(), Some(who_color)));
                        row.push(span(rest, None));
                    }
                    None => row.push(span(said, None)),
                }
                if number + 1 == count {
                    row.push(span(tick, Some(tick_color)));
                }
                row
            };
            said.into_iter().enumerate().map(row).collect()
        }
    }
}

fn plain(text: &str, width: usize) -> Vec<Row> {
    text::wrap(text, width).into_iter().map(|line| vec![span(line, Some(Color::DarkGrey))]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(rows: &[Row]) -> Vec<String> {
        rows.iter().map(|row| row.iter().map(|span| span.text.as_str()).collect()).collect()
    }

    #[test]
    fn a_line_is_wrapped_under_itself_and_its_tick_stands_at_its_end() {
        let said = Line::Said { ts: 0, who: "Ada".into(), own: Some(Tick::Read), text: "one two three".into() };
        let rows = rows_of_line(&said, 20, 0);
        let indent = text::width(&text::clock(0, 0)) + 1;
        let texts = text_of(&rows);
        assert!(texts.len() > 1 && texts.iter().all(|row| text::width(row) <= 20), "{texts:?}");
        assert!(texts.last().is_some_and(|row| row.ends_with("✓✓")), "{texts:?}");
        assert!(texts[1].starts_with(&" ".repeat(indent)), "{texts:?}");
        assert_eq!(rows.last().and_then(|row| row.last()).and_then(|span| span.color), Some(Color::Blue));
    }

    #[test]
    fn no_size_of_the_terminal_is_too_small() {
        let said = Line::Said { ts: 0, who: "Ada".into(), own: None, text: "日本語 text".into() };
        for width in 0..12 {
            assert!(!rows_of_line(&said, width, 0).is_empty());
        }
    }
}
