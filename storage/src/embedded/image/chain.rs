//! Follows the links from commit to commit through table files and journals, to find a commit that is missing.

use super::journal::Batch;
use crate::embedded::keys::{self, Table};
use crate::embedded::ledger::{Commits, Link};
use crate::embedded::values;

/// Highest seqno that is believed: fjall gives one to each commit, and some to its own work.
const SEQNO_MAX: u64 = 1 << 60;

/// What is known of one table so far.
#[derive(Clone, Copy, Default)]
struct Place {
    /// The highest seqno of the table files: of older batches the journals hold copies only.
    persisted: Option<u64>,
    /// The last commit that the table files have.
    stored: Option<u64>,
    /// The last commit met in the journals.
    journaled: Option<u64>,
    /// A batch was met that is in no table file.
    beyond: bool,
}

/// The commits met so far.
pub(crate) struct Chain {
    ids: [u64; Table::COUNT],
    places: [Place; Table::COUNT],
    seqno: Option<u64>,
    commit: Option<u64>,
}

impl Chain {
    /// A chain of the tables with these keyspace numbers.
    pub(crate) fn new(ids: [u64; Table::COUNT]) -> Self {
        Self { ids, places: Default::default(), seqno: None, commit: None }
    }

    /// What the table files of a table have.
    pub(crate) fn persisted(&mut self, table: Table, seqno: Option<u64>, link: Option<Link>) {
        let place = &mut self.places[table as usize];
        (place.persisted, place.stored) = (seqno, link.map(|link| link.commit));
    }

    /// The table of a keyspace.
    pub(crate) fn table(&self, keyspace: u64) -> Option<Table> {
        Table::ALL.into_iter().find(|table| self.ids[*table as usize] == keyspace)
    }

    /// The last commit of each table.
    pub(crate) fn commits(&self) -> Commits {
        let mut commits = Commits::default();
        for table in Table::ALL {
            let place = &self.places[table as usize];
            commits.set(table, place.journaled.max(place.stored).unwrap_or(0));
        }
        commits
    }

    /// Takes the next batch of the journals.
    ///
    /// # Errors
    /// What does not fit. The chain goes on from this batch all the same.
    pub(crate) fn follow(&mut self, batch: &Batch) -> Result<(), String> {
        let rises = self.seqno.is_none_or(|before| before < batch.seqno) && batch.seqno < SEQNO_MAX;
        let before = self.seqno.replace(batch.seqno);
        if !rises {
            return Err(format!("the batch has number {}, the one before {}", batch.seqno, before.unwrap_or(0)));
        }
        let mut touched = [false; Table::COUNT];
        let mut links: [Option<Link>; Table::COUNT] = [None; Table::COUNT];
        for item in &batch.items {
            let table = self.table(item.keyspace).ok_or_else(|| format!("there is no table {}", item.keyspace))?;
            touched[table as usize] = true;
            if item.key == keys::LINK {
                let value = item.value.as_deref().unwrap_or_default();
                links[table as usize] = Some(values::decode_link(table, value).map_err(|error| error.to_string())?);
            }
        }
        let mut wrong = None;
        for table in Table::ALL {
            if touched[table as usize] {
                wrong = self.link(table, batch.seqno, links[table as usize]).err().or(wrong);
            }
        }
        wrong = self.number(&links).err().or(wrong);
        wrong.map_or(Ok(()), Err)
    }

    fn link(&mut self, table: Table, seqno: u64, link: Option<Link>) -> Result<(), String> {
        let place = &mut self.places[table as usize];
        let beyond = place.persisted.is_none_or(|persisted| persisted < seqno);
        let Some(link) = link else {
            // Of the time before there were links.
            let early = place.journaled.is_none() && (!beyond || place.stored.is_none());
            return if early { Ok(()) } else { Err(format!("the batch has no link of table {table}")) };
        };
        // The first batch that the table files do not have follows their last one; others follow each other.
        let expected = match place.journaled {
            _ if beyond && !place.beyond => Some(place.stored.unwrap_or(0)),
            journaled => journaled,
        };
        place.beyond |= beyond;
        place.journaled = Some(link.commit);
        match expected {
            Some(expected) if expected != link.before => {
                let (commit, before) = (link.commit, link.before);
                Err(format!(
                    "commit {commit} of table {table} follows commit {before}, but {expected} is what is there"
                ))
            }
            _ => Ok(()),
        }
    }

    /// The commits are numbered without gaps.
    fn number(&mut self, links: &[Option<Link>; Table::COUNT]) -> Result<(), String> {
        let mut commits = links.iter().flatten().map(|link| link.commit);
        let Some(commit) = commits.next() else { return Ok(()) };
        if commits.any(|other| other != commit) {
            return Err("the batch has several numbers".to_owned());
        }
        match self.commit.replace(commit) {
            Some(before) if before + 1 != commit => Err(format!("commit {commit} comes after commit {before}")),
            _ => Ok(()),
        }
    }
}
