//! The line being written.

use unicode_segmentation::UnicodeSegmentation;

use super::text::width;

/// A text with a cursor that stands between two graphemes.
#[derive(Debug, Default)]
pub(crate) struct Editor {
    text: String,
    /// In bytes.
    cursor: usize,
}

impl Editor {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Takes the text out, leaving nothing.
    pub(crate) fn take(&mut self) -> String {
        self.cursor = 0;
        std::mem::take(&mut self.text)
    }

    /// Writes `text` at the cursor, unless more than `bytes_max` would stand there. False if so.
    pub(crate) fn insert(&mut self, text: &str, bytes_max: usize) -> bool {
        let text: String = text.replace("\r\n", "\n").replace(['\r', '\t'], " ");
        let text: String = text.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
        if self.text.len() + text.len() > bytes_max {
            return false;
        }
        self.text.insert_str(self.cursor, &text);
        self.cursor += text.len();
        true
    }

    pub(crate) fn left(&mut self) {
        self.cursor = self.before();
    }

    pub(crate) fn right(&mut self) {
        self.cursor = self.after();
    }

    pub(crate) fn home(&mut self) {
        self.cursor = 0;
    }

    pub(crate) fn end(&mut self) {
        self.cursor = self.text.len();
    }

    pub(crate) fn backspace(&mut self) {
        let before = self.before();
        self.text.drain(before..self.cursor);
        self.cursor = before;
    }

    pub(crate) fn delete(&mut self) {
        let after = self.after();
        self.text.drain(self.cursor..after);
    }

    /// Deletes the word before the cursor.
    pub(crate) fn delete_word(&mut self) {
        let head = self.text[..self.cursor].trim_end();
        let start = head.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        // The space itself may be longer than a byte.
        let start = (start..=self.cursor).find(|at| self.text.is_char_boundary(*at)).unwrap_or(self.cursor);
        self.text.drain(start..self.cursor);
        self.cursor = start;
    }

    /// Deletes everything before the cursor.
    pub(crate) fn delete_to_start(&mut self) {
        self.text.drain(..self.cursor);
        self.cursor = 0;
    }

    /// Deletes everything after the cursor.
    pub(crate) fn delete_to_end(&mut self) {
        self.text.truncate(self.cursor);
    }

    /// The part of the text around the cursor that fits `columns`, and the cursor's column in it. Line breaks show as ⏎.
    pub(crate) fn view(&self, columns: usize) -> (String, usize) {
        let columns = columns.max(2);
        let shown = |text: &str| text.replace('\n', "⏎");
        let mut start = self.cursor;
        // A column stays free for the cursor at the end.
        for (at, grapheme) in self.text[..self.cursor].grapheme_indices(true).rev() {
            if width(&shown(&self.text[at..self.cursor])) + 1 > columns {
                break;
            }
            start = at;
            let _ = grapheme;
        }
        let mut view = shown(&self.text[start..self.cursor]);
        let column = width(&view);
        for grapheme in self.text[self.cursor..].graphemes(true).map(shown) {
            if width(&view) + width(&grapheme) > columns {
                break;
            }
            view.push_str(&grapheme);
        }
        (view, column)
    }

    fn before(&self) -> usize {
        self.text[..self.cursor].grapheme_indices(true).next_back().map_or(0, |(at, _)| at)
    }

    fn after(&self) -> usize {
        self.text[self.cursor..].graphemes(true).next().map_or(self.cursor, |grapheme| self.cursor + grapheme.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn editor(text: &str) -> Editor {
        let mut editor = Editor::default();
        assert!(editor.insert(text, 100));
        editor
    }

    #[test]
    fn the_cursor_moves_by_what_a_person_sees() {
        let mut editor = editor("aé👩‍👩‍👧");
        editor.left();
        editor.backspace();
        assert_eq!(editor.text(), "a👩‍👩‍👧");
        editor.delete();
        assert_eq!(editor.text(), "a");
        editor.home();
        editor.left();
        editor.backspace();
        assert!(editor.insert("日", 100));
        editor.end();
        editor.right();
        editor.delete();
        assert_eq!(editor.take(), "日a");
        assert_eq!(editor.text(), "");
    }

    #[test]
    fn words_and_ends_are_deleted() {
        let mut e = editor("one two\u{3000}three  ");
        e.delete_word();
        assert_eq!(e.text(), "one two\u{3000}");
        e.delete_word();
        assert_eq!(e.text(), "one ");
        e.left();
        e.delete_to_end();
        assert_eq!(e.text(), "one");
        e.left();
        e.delete_to_start();
        assert_eq!(e.text(), "e");
    }

    #[test]
    fn pasted_control_characters_do_not_come_in_and_size_is_limited() {
        let mut editor = editor("a\r\nb\tc\x1b[2J\x07");
        assert_eq!(editor.text(), "a\nb c[2J");
        assert!(!editor.insert(&"x".repeat(100), 100), "too much");
        assert_eq!(editor.text(), "a\nb c[2J");
    }

    #[test]
    fn the_view_follows_the_cursor() {
        let mut editor = editor("hello world");
        assert_eq!(editor.view(20), ("hello world".into(), 11));
        assert_eq!(editor.view(6), ("world".into(), 5));
        editor.home();
        assert_eq!(editor.view(6), ("hello ".into(), 0));
        editor.end();
        assert!(editor.insert("日本\n", 100));
        assert_eq!(editor.view(6), ("日本⏎".into(), 5));
    }
}
