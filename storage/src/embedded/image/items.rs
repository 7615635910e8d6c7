//! The rows of one table, merged from its table files and the journals.

use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use lsm_tree::{InternalValue, Slice, Table as TableFile};

use super::{Fault, Journaled};
use crate::embedded::engine::panic_text;

/// Blocks of a table file that cannot be read before the rest of it is given up.
const BLOCKS_FAILED_MAX: u32 = 10_000;

/// A row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) key: Slice,
    pub(crate) value: Slice,
}

/// A row of one source. Orders by key, the newest first, reversed for the heap.
struct Head {
    key: Slice,
    seqno: u64,
    value: Option<Slice>,
    source: usize,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.key.cmp(&self.key).then(self.seqno.cmp(&other.seqno)).then(other.source.cmp(&self.source))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

enum Source<'a> {
    File { path: &'a PathBuf, rows: Box<dyn Iterator<Item = lsm_tree::Result<InternalValue>> + 'a>, failed: u32 },
    Journal(std::slice::Iter<'a, Journaled>),
}

/// Rows in the order of their keys, the newest of each, without those that were removed. What cannot be read is left
/// out and becomes a fault.
pub(crate) struct Items<'a> {
    sources: Vec<Source<'a>>,
    heads: BinaryHeap<Head>,
    last: Option<Slice>,
    pub(crate) faults: Vec<Fault>,
}

impl<'a> Items<'a> {
    /// `journaled` is sorted by key, then from the newest.
    pub(crate) fn new(files: &'a [(PathBuf, TableFile)], journaled: &'a [Journaled]) -> Self {
        let files = files.iter().map(|(path, file)| Source::File { path, rows: Box::new(file.iter()), failed: 0 });
        let sources: Vec<_> = files.chain([Source::Journal(journaled.iter())]).collect();
        let mut items = Self { sources, heads: BinaryHeap::new(), last: None, faults: Vec::new() };
        (0..items.sources.len()).for_each(|source| items.pull(source));
        items
    }

    /// Brings the next row of a source into the heap.
    fn pull(&mut self, source: usize) {
        let head = match &mut self.sources[source] {
            Source::Journal(rows) => rows
                .next()
                .map(|(key, seqno, value)| (Slice::from(&key[..]), *seqno, value.as_deref().map(Slice::from))),
            Source::File { path, rows, failed } => loop {
                match guarded(|| rows.next().transpose()) {
                    Ok(row) => {
                        break row.map(|row| {
                            let value = (!row.key.value_type.is_tombstone()).then_some(row.value);
                            (row.key.user_key, row.key.seqno, value)
                        });
                    }
                    Err(why) => {
                        self.faults.push(Fault::file(path, format_args!("a block cannot be read: {why}")));
                        *failed += 1;
                        if *failed > BLOCKS_FAILED_MAX || why.contains("gave up") {
                            break None; // after a panic the reader is in no known state
                        }
                    }
                }
            },
        };
        self.heads.extend(head.map(|(key, seqno, value)| Head { key, seqno, value, source }));
    }
}

impl Iterator for Items<'_> {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        loop {
            let Head { key, value, source, .. } = self.heads.pop()?;
            self.pull(source);
            if self.last.as_ref() == Some(&key) {
                continue; // an older value
            }
            self.last = Some(key.clone());
            if let Some(value) = value {
                return Some(Row { key, value });
            }
        }
    }
}

/// Runs a reader of fjall that may panic on damage.
pub(crate) fn guarded<T>(read: impl FnOnce() -> lsm_tree::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => Err(panic_text(&*panic)),
    }
}
