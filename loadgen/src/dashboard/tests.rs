use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::Board;
use super::draw::draw;
use crate::host::process::Times;
use crate::host::watch::Look;
use crate::progress::Standing;

fn look(at: Instant, user_ms: u64, rss_mb: u64) -> Look {
    let times = Times { user_ns: user_ms * 1_000_000, system_ns: user_ms * 500_000 };
    Look {
        at,
        server: Some(times),
        own: Some(times),
        rss_bytes: Some(rss_mb * 1_000_000),
        slab_bytes: None,
        tcp_bytes: None,
        sessions: None,
    }
}

fn painted(board: &Board, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, board)).unwrap();
    // Each line of the backend's text stands in quotes.
    terminal.backend().to_string().replace('\u{202f}', " ")
}

fn busy() -> Board {
    let mut board = Board { title: "quick · 2 000 clients".into(), ..Board::default() };
    board.begin("connecting");
    board.begin("load");
    let begin = Instant::now();
    let standing = Standing {
        live: 1998,
        wanted: 2000,
        sent: 1980,
        acknowledged: 1979,
        delivered: 8123,
        delivery_p50_us: Some(2_340),
        delivery_p99_us: Some(45_600),
        errors: 3,
        unsent: 12,
        late_p99_us: Some(1_234),
        second: Some((7, 20)),
        ..Standing::default()
    };
    for _ in 0..300 {
        let looks = (Some(look(begin, 0, 80)), Some(look(begin + Duration::from_secs(1), 400, 93)));
        board.tell(&standing, Some(looks));
    }
    board
}

#[test]
fn a_dashboard_says_how_the_run_stands() {
    let shown = painted(&busy(), 100, 30);
    for part in [
        "quick · 2 000 clients",
        "load  second 7 of 20",
        "1 998 of 2 000 live",
        "sent 1 980/s",
        "acknowledged 1 979/s",
        "delivered 8 123/s",
        "p50 2.34 ms  p99 45.6 ms",
        "errors   3",
        "unsent   12",
        "late     1.23 ms",
        "0.60 cores",
        "user 0.40, kernel 0.20",
        "memory   93 MB",
        "Ctrl-C",
    ] {
        assert!(shown.contains(part), "{part} is missing:\n{shown}");
    }
    assert!(shown.contains('█'), "no sparkline:\n{shown}");
}

#[test]
fn a_generator_that_is_late_is_told_at_once() {
    let mut board = busy();
    assert!(!painted(&board, 100, 30).contains("it is the limit"));
    board.standing.late_p99_us = Some(20_000);
    assert!(painted(&board, 100, 30).contains("it is the limit"));
}

#[test]
fn the_phase_under_way_is_told_from_those_before_and_after() {
    let mut board = busy();
    board.plan = vec![("ramp".into(), 5.0), ("steady".into(), 10.0), ("storm".into(), 5.0)];
    let mut terminal = Terminal::new(TestBackend::new(100, 30)).unwrap();
    terminal.draw(|frame| draw(frame, &board)).unwrap();
    let shown = painted(&board, 100, 30);
    assert!(shown.contains("ramp 5 s › steady 10 s › storm 5 s"), "{shown}");
    let buffer = terminal.backend().buffer();
    let cells = || (0..100).map(|x| &buffer[(x, 2)]);
    let bold: String = cells()
        .filter(|cell| cell.modifier.contains(ratatui::style::Modifier::BOLD))
        .map(ratatui::buffer::Cell::symbol)
        .collect();
    assert_eq!(bold, "steady 10 s");
}

#[test]
fn a_terminal_of_any_size_can_be_drawn_on() {
    let board = busy();
    for (width, height) in [(1, 1), (20, 4), (59, 40), (60, 18), (80, 24), (300, 100)] {
        painted(&board, width, height);
        painted(&Board::default(), width, height);
    }
    assert!(painted(&board, 40, 6).contains("1 998 of 2 000 sessions"));
}

#[test]
fn history_is_bounded() {
    assert_eq!(busy().rates.len(), 240);
}
