//! Paints a board.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Gauge, Paragraph, Sparkline};

use super::board::Board;
use crate::progress::time;
use crate::report::number;
use crate::verdict::GENERATOR_LATE_US_MAX;

/// Below this there is room for a few lines only.
const WIDTH_MIN: u16 = 60;
const HEIGHT_MIN: u16 = 18;

pub(super) fn draw(frame: &mut Frame<'_>, board: &Board) {
    let area = frame.area();
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        return few_lines(frame, area, board);
    }
    let [head, phases, sessions, traffic, latency, below, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(3),
        Constraint::Length(3),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Length(5),
        Constraint::Length(1),
    ])
    .areas(area);
    head_line(frame, head, board);
    phase_line(frame, phases, board);
    session_gauge(frame, sessions, board);
    rates(frame, traffic, board);
    latencies(frame, latency, board);
    let [left, middle, right] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1), Constraint::Fill(1)]).areas(below);
    trouble(frame, left, board);
    generator(frame, middle, board);
    server(frame, right, board);
    let foot_text =
        if board.note.is_empty() { "Ctrl-C stops the load and writes what was measured" } else { &board.note };
    frame.render_widget(Paragraph::new(foot_text).dim(), foot);
}

fn few_lines(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let standing = &board.standing;
    let lines = vec![
        Line::from(format!("{}: {}", board.title, step(board))),
        Line::from(format!("{} of {} sessions", number(standing.live as f64), number(standing.wanted as f64))),
        Line::from(format!("{}/s delivered, p99 {}", number(standing.delivered as f64), us(standing.delivery_p99_us))),
        Line::from(format!("{} errors", standing.errors)),
    ];
    frame.render_widget(Paragraph::new(lines), area);
}

fn block(title: &str) -> Block<'_> {
    Block::bordered().border_type(BorderType::Rounded).border_style(Style::new().dim()).title(title.bold())
}

fn step(board: &Board) -> &str {
    board.steps.last().map_or("starting", |(name, _)| name)
}

fn us(us: Option<u64>) -> String {
    us.map_or("–".into(), time)
}

fn head_line(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let since = board.steps.first().map_or(0, |(_, began)| began.elapsed().as_secs());
    let clock = format!("{:02}:{:02} ", since / 60, since % 60);
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Length(8)]).areas(area);
    frame.render_widget(Line::from(vec![" roost-load ".reversed().bold(), " ".into(), Span::raw(&board.title)]), left);
    frame.render_widget(Paragraph::new(clock).right_aligned(), right);
}

/// The phases of the load as a bar of their lengths, or the steps so far.
fn phase_line(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let now = step(board);
    let mut spans = Vec::new();
    match &board.standing.second {
        Some((second, of)) if board.plan.is_empty() => {
            spans.push(Span::styled(now, Style::new().add_modifier(Modifier::BOLD).fg(Color::Cyan)));
            spans.push(Span::raw(format!("  second {second} of {of}")));
        }
        _ if board.plan.is_empty() => {
            for (at, (name, _)) in board.steps.iter().enumerate() {
                let last = at + 1 == board.steps.len();
                spans.push(if last { name.clone().cyan().bold() } else { name.clone().dim() });
                if !last {
                    spans.push(" › ".dim());
                }
            }
        }
        second => {
            let second = second.map_or(0.0, |(second, _)| second as f64);
            let mut from = 0.0;
            for (at, (name, seconds)) in board.plan.iter().enumerate() {
                let to = from + seconds;
                let text = format!("{name} {seconds:.0} s");
                spans.push(match (second >= to, second >= from) {
                    (true, _) => text.dim(),
                    (false, true) => text.cyan().bold(),
                    (false, false) => text.into(),
                });
                if at + 1 < board.plan.len() {
                    spans.push(" › ".dim());
                }
                from = to;
            }
        }
    }
    frame.render_widget(Paragraph::new(Line::from(spans)).block(block(" phase ")), area);
}

fn session_gauge(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let standing = &board.standing;
    let share = if standing.wanted == 0 { 0.0 } else { standing.live as f64 / standing.wanted as f64 };
    let label = format!("{} of {} live", number(standing.live as f64), number(standing.wanted as f64));
    let gauge = Gauge::default().ratio(share.clamp(0.0, 1.0)).label(label).gauge_style(Color::Blue).use_unicode(true);
    frame.render_widget(gauge.block(block(" sessions ")), area);
}

fn rates(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let standing = &board.standing;
    let each = |name: &str, count: u64| format!("{name} {}/s  ", number(count as f64));
    let mut text = String::new();
    if let Some(connected) = standing.connected {
        text += &each("connected", connected);
    }
    text += &each("sent", standing.sent);
    text += &each("acknowledged", standing.acknowledged);
    text += &each("delivered", standing.delivered);
    sparkline(frame, area, " rates ", text, &board.rates, Color::Green);
}

fn latencies(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let standing = &board.standing;
    let text = format!("p50 {}  p99 {}", us(standing.delivery_p50_us), us(standing.delivery_p99_us));
    sparkline(frame, area, " latency, p99 of each second ", text, &board.latencies_us, Color::Yellow);
}

fn sparkline(frame: &mut Frame<'_>, area: Rect, title: &str, text: String, history: &VecDeque<u64>, colour: Color) {
    let block = block(title);
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let [line, graph] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(inside);
    frame.render_widget(Paragraph::new(text).bold(), line);
    let skipped = history.len().saturating_sub(usize::from(graph.width));
    let data: Vec<u64> = history.iter().skip(skipped).copied().collect();
    frame.render_widget(Sparkline::default().data(data).style(colour), graph);
}

fn trouble(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let standing = &board.standing;
    let count = |name: &str, count: u64| {
        let text = format!("{name:<9}{}", number(count as f64));
        if count > 0 { Line::from(text.red().bold()) } else { Line::from(text) }
    };
    let lines =
        vec![count("errors", standing.errors), count("failed", standing.failed), count("dropped", standing.dropped)];
    frame.render_widget(Paragraph::new(lines).block(block(" trouble ")), area);
}

fn generator(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let standing = &board.standing;
    let late = standing.late_p99_us;
    let limited = late.is_some_and(|late| late > GENERATOR_LATE_US_MAX);
    let cores = board.generator_cores.map_or("–".into(), |cores| format!("{cores:.2} cores"));
    let late = format!("late     {}", us(late));
    let lines = vec![
        Line::from(format!("CPU      {cores}")),
        if limited { Line::from(late.red().bold()) } else { Line::from(late) },
        Line::from(format!("unsent   {}", number(standing.unsent as f64))),
    ];
    let title = if limited { " generator: it is the limit " } else { " generator " };
    frame.render_widget(Paragraph::new(lines).block(block(title)), area);
}

fn server(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let lines = match &board.server {
        None => vec![Line::from("its process is not known").dim()],
        Some(now) => vec![
            Line::from(format!("CPU      {:.2} cores", now.user_cores + now.system_cores)),
            Line::from(format!("user {:.2}, kernel {:.2}", now.user_cores, now.system_cores)).dim(),
            Line::from(format!(
                "memory   {}",
                now.rss_bytes.map_or("–".into(), |bytes| format!("{} MB", number(bytes as f64 / 1e6)))
            )),
        ],
    };
    frame.render_widget(Paragraph::new(lines).block(block(" server ")), area);
}
