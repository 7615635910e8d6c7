//! What happened, in words: a digest of all of it, and the last part of it for the report of a failure.

use std::collections::VecDeque;
use std::fmt::Write;

use roost_wire::ConvId;

/// Lines kept.
const LINES_MAX: usize = 5000;
/// Lines told.
const TOLD_MAX: usize = 40;

/// Whom a line concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct About {
    client: Option<usize>,
    conv: Option<String>,
}

impl About {
    /// Everybody.
    pub(crate) fn all() -> Self {
        Self::default()
    }

    pub(crate) fn client(client: usize) -> Self {
        Self { client: Some(client), conv: None }
    }

    pub(crate) fn conv(conv: &ConvId) -> Self {
        Self { client: None, conv: Some(conv.to_string()) }
    }

    pub(crate) fn both(client: usize, conv: &str) -> Self {
        Self { client: Some(client), conv: Some(conv.to_owned()) }
    }

    /// Whether a line about `self` belongs to the story of `of`.
    fn concerns(&self, of: &Self) -> bool {
        let client = match (self.client, of.client) {
            (Some(one), Some(two)) => one == two,
            _ => true,
        };
        let conv = match (&self.conv, &of.conv) {
            (Some(one), Some(two)) => one == two,
            _ => true,
        };
        client && conv
    }
}

pub(crate) struct History {
    pub(crate) digest: u64,
    trace: bool,
    lines: VecDeque<(About, String)>,
    /// After the first violation nothing more is kept.
    frozen: Option<About>,
}

impl History {
    pub(crate) const fn new(trace: bool) -> Self {
        Self { digest: 0xcbf2_9ce4_8422_2325, trace, lines: VecDeque::new(), frozen: None }
    }

    pub(crate) fn note(&mut self, at_ms: u64, about: &About, what: std::fmt::Arguments<'_>) {
        let line = format!("{at_ms:>8} ms  {what}");
        for byte in line.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if self.trace {
            println!("{line}");
        }
        if self.frozen.is_none() {
            if self.lines.len() == LINES_MAX {
                self.lines.pop_front();
            }
            self.lines.push_back((about.clone(), line));
        }
    }

    /// Something small happened, told only in a trace.
    pub(crate) fn trace(&self, at_ms: u64, what: std::fmt::Arguments<'_>) {
        if self.trace {
            println!("{at_ms:>8} ms      {what}");
        }
    }

    /// A violation about `about` was found.
    pub(crate) fn freeze(&mut self, about: &About) {
        self.frozen.get_or_insert_with(|| about.clone());
    }

    /// The last lines that concern the violation.
    pub(crate) fn tell(&self, well: bool) -> String {
        let mut text = String::new();
        if well {
            return text;
        }
        let of = self.frozen.clone().unwrap_or_default();
        let lines: Vec<&String> =
            self.lines.iter().filter(|(about, _)| about.concerns(&of)).map(|(_, line)| line).collect();
        for line in &lines[lines.len().saturating_sub(TOLD_MAX)..] {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_story_of_a_failure_has_its_client_its_conversation_and_what_concerns_all() {
        let (birds, bees) = (ConvId::new("c_birds").unwrap(), ConvId::new("c_bees").unwrap());
        let mut history = History::new(false);
        let lines = [
            (About::conv(&birds), "birds"),
            (About::conv(&bees), "bees"),
            (About::client(1), "one"),
            (About::client(2), "two"),
            (About::both(1, "c_birds"), "one in birds"),
            (About::both(2, "c_birds"), "two in birds"),
            (About::all(), "all"),
        ];
        for (about, line) in &lines {
            history.note(7, about, format_args!("{line}"));
        }
        history.freeze(&About::both(1, "c_birds"));
        history.note(8, &About::all(), format_args!("later"));
        let told = history.tell(false);
        let told: Vec<&str> = told.lines().map(|line| &line[13..]).collect();
        assert_eq!(told, ["birds", "one", "one in birds", "all"]);
    }
}
