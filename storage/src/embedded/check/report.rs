//! What a check found.

use std::collections::BTreeMap;

use serde::Serialize;

/// Problems of one kind that are told in words; the rest is only counted.
const EXAMPLES_MAX: usize = 10;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProblemKind {
    /// A file is missing or its bytes are not those that were written.
    File,
    /// Commits are missing, acknowledged ones among them.
    Lost,
    /// A value or a key cannot be read, or stands where it does not belong.
    Value,
    /// A log lacks an entry.
    Gap,
    /// Two entries of a log have the same writer and cmid.
    Double,
    /// A conversation and its log do not agree on the head.
    Head,
    /// An index row is missing, or leads to a conversation that is not there, or is ahead of its log.
    Row,
    /// A member is missing, or differs from the index row.
    Member,
    /// A mark of reading or delivery is above the head.
    Mark,
    /// A name leads nowhere, or a user cannot be found by name.
    Name,
    /// A stamp is above the last one given.
    Stamp,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Of which kind.
    pub kind: ProblemKind,
    /// What and where, for a person.
    pub what: String,
}

/// How much was looked through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Bytes of table files and journals.
    pub bytes: u64,
    /// Conversations.
    pub conversations: u64,
    /// Entries of all logs.
    pub entries: u64,
    /// Index rows.
    pub rows: u64,
    /// Members of all conversations.
    pub members: u64,
    /// Users.
    pub users: u64,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How much was looked through.
    pub counts: Counts,
    /// How many problems there are of each kind.
    pub problems_by_kind: BTreeMap<ProblemKind, u64>,
    /// The first of each kind.
    pub problems: Vec<Problem>,
}

impl Report {
    /// True if nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems_by_kind.is_empty()
    }

    pub(crate) fn add(&mut self, kind: ProblemKind, what: String) {
        let count = self.problems_by_kind.entry(kind).or_default();
        *count += 1;
        if *count <= EXAMPLES_MAX as u64 {
            self.problems.push(Problem { kind, what });
        }
    }
}
