//! What may be wrong with a scenario, and where.

use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Something wrong: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// From the top, as `phase.2.for`; empty: the whole.
    pub(crate) key: String,
    /// In the file, from 1. `None`: it is not written there.
    pub(crate) line: Option<usize>,
    pub(crate) what: String,
}

impl Fault {
    pub(crate) fn new(key: impl Into<String>, what: impl Into<String>) -> Self {
        Self { key: key.into(), line: None, what: what.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

/// All that is wrong with one scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Its file, or its name.
    pub(crate) of: String,
    pub(crate) all: Vec<Fault>,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} in {}", self.all.len(), if self.all.len() == 1 { "fault" } else { "faults" }, self.of)?;
        self.all.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for Faults {}

/// A scenario's text, to find lines in.
pub(crate) struct Lines<'a> {
    text: &'a str,
    tree: Option<Spanned<DeTable<'a>>>,
}

impl<'a> Lines<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        Self { text, tree: DeTable::parse(text).ok() }
    }

    /// The line of a byte.
    pub(crate) fn at(&self, byte: usize) -> usize {
        self.text.as_bytes()[..byte.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// The line of a key, or of the table where it is missing.
    pub(crate) fn find(&self, key: &str) -> Option<usize> {
        let tree = self.tree.as_ref()?;
        let (mut line, mut table, mut list) = (None, Some(tree.get_ref()), None::<&toml::de::DeArray<'_>>);
        for part in key.split('.').filter(|part| !part.is_empty()) {
            let value = match (table, list) {
                (Some(table), _) => {
                    let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref().as_ref() == part) else {
                        break;
                    };
                    line = Some(self.at(name.span().start));
                    value
                }
                (None, Some(list)) => {
                    let Some(value) = part.parse::<usize>().ok().and_then(|at| list.get(at.checked_sub(1)?)) else {
                        break;
                    };
                    line = Some(self.at(value.span().start));
                    value
                }
                (None, None) => break,
            };
            (table, list) = match value.get_ref() {
                DeValue::Table(table) => (Some(table), None),
                DeValue::Array(list) => (None, Some(list)),
                _ => (None, None),
            };
        }
        line
    }
}
