//! What a key means.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What the user did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Text(String),
    Send,
    Left,
    Right,
    Home,
    End,
    Backspace,
    Delete,
    DeleteWord,
    DeleteToStart,
    DeleteToEnd,
    PageUp,
    PageDown,
    Leave,
    Redraw,
    Focus(bool),
}

/// The meaning of an event of the terminal; `None` if it has none.
pub(crate) fn read(event: Event) -> Option<Input> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => key_means(key),
        Event::Paste(text) => Some(Input::Text(text)),
        Event::Resize(_, _) => Some(Input::Redraw),
        Event::FocusGained => Some(Input::Focus(true)),
        Event::FocusLost => Some(Input::Focus(false)),
        Event::Key(_) | Event::Mouse(_) => None,
    }
}

fn key_means(key: KeyEvent) -> Option<Input> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let alt = key.modifiers.contains(KeyModifiers::ALT);
    Some(match key.code {
        KeyCode::Enter if alt => Input::Text("\n".to_owned()),
        KeyCode::Enter => Input::Send,
        KeyCode::Char('c' | 'd') if control => Input::Leave,
        KeyCode::Char('a') if control => Input::Home,
        KeyCode::Char('e') if control => Input::End,
        KeyCode::Char('h') if control => Input::Backspace,
        KeyCode::Char('w') if control => Input::DeleteWord,
        KeyCode::Char('u') if control => Input::DeleteToStart,
        KeyCode::Char('k') if control => Input::DeleteToEnd,
        KeyCode::Char('l') if control => Input::Redraw,
        // AltGr arrives as both on some terminals: it writes.
        KeyCode::Char(c) if control == alt => Input::Text(c.to_string()),
        KeyCode::Left => Input::Left,
        KeyCode::Right => Input::Right,
        KeyCode::Home => Input::Home,
        KeyCode::End => Input::End,
        KeyCode::Backspace if control || alt => Input::DeleteWord,
        KeyCode::Backspace => Input::Backspace,
        KeyCode::Delete => Input::Delete,
        KeyCode::PageUp => Input::PageUp,
        KeyCode::PageDown => Input::PageDown,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_they_mean_in_a_shell() {
        let key = |code, modifiers| read(Event::Key(KeyEvent::new(code, modifiers)));
        for (code, modifiers, want) in [
            (KeyCode::Char('x'), KeyModifiers::NONE, Some(Input::Text("x".into()))),
            (KeyCode::Char('@'), KeyModifiers::CONTROL | KeyModifiers::ALT, Some(Input::Text("@".into()))),
            (KeyCode::Char('c'), KeyModifiers::CONTROL, Some(Input::Leave)),
            (KeyCode::Char('d'), KeyModifiers::CONTROL, Some(Input::Leave)),
            (KeyCode::Char('w'), KeyModifiers::CONTROL, Some(Input::DeleteWord)),
            (KeyCode::Enter, KeyModifiers::ALT, Some(Input::Text("\n".into()))),
            (KeyCode::F(5), KeyModifiers::NONE, None),
        ] {
            assert_eq!(key(code, modifiers), want, "{code:?}");
        }
        assert_eq!(read(Event::Resize(1, 1)), Some(Input::Redraw));
    }
}
