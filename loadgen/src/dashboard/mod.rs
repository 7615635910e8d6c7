//! The live dashboard: what a run does at the moment, on a terminal.
//!
//! [`Board`] is what is shown, as data; [`draw`] paints it on any terminal; [`Dashboard`] is the real one. It asks for no
//! keys: Ctrl-C stays the signal that it is.

mod board;
mod draw;
mod screen;
#[cfg(test)]
mod tests;

use std::io::Stdout;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

pub(crate) use board::Board;
use screen::Screen;

/// The dashboard on standard output, until it is dropped: then the terminal is as it was before.
pub(crate) struct Dashboard {
    pub board: Board,
    terminal: Terminal<CrosstermBackend<Stdout>>,
    _screen: Screen,
}

impl Dashboard {
    /// Takes the terminal. `None` where it is none that can be drawn on.
    pub(crate) fn open() -> Option<Self> {
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        if dumb {
            return None;
        }
        let screen = Screen::enter().ok()?;
        let terminal = Terminal::new(CrosstermBackend::new(std::io::stdout())).ok()?;
        Some(Self { board: Board::default(), terminal, _screen: screen })
    }

    /// Paints what is known. A terminal that went away is no reason to end a run.
    pub(crate) fn draw(&mut self) {
        let Self { board, terminal, .. } = self;
        let _ = terminal.draw(|frame| draw::draw(frame, board));
    }
}
