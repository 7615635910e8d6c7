//! The one thread that writes: takes what waits, drafts one commit of it, syncs, answers everybody.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::draft::{Draft, Remembered, Verdict};
use super::engine::{CommitError, Engine};
use super::failpoint::failpoint;
use super::ledger::Ledger;
use super::metrics::{self, StoreMetrics};
use super::queue::{Answer, Queue, Round, Write};
use crate::{ConvMeta, Result, StoreError};

/// What the writer works with.
pub(crate) struct Writer {
    pub(crate) engine: Arc<Engine>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) metrics: Arc<StoreMetrics>,
    pub(crate) remembered: Remembered,
    pub(crate) ledger: Ledger,
}

/// An answer that waits for the commit.
enum Pending {
    Append(Result<Verdict>, Answer<Verdict>),
    Create(Result<(ConvMeta, bool)>, Answer<(ConvMeta, bool)>),
    Users(Result<()>, Answer<()>),
}

/// Stops the queue however the thread ends, so that nobody waits for ever.
pub(crate) struct StopOnExit(pub(crate) Arc<Queue>);

impl Drop for StopOnExit {
    fn drop(&mut self) {
        let why = self.0.closed().unwrap_or_else(|| StoreError::Unavailable("the store has stopped".to_owned()));
        self.0.stop(&why);
    }
}

impl Writer {
    /// Runs until the queue is closed and empty, or the disk failed.
    pub(crate) fn run(mut self) {
        let _stop = StopOnExit(Arc::clone(&self.queue));
        while let Some(round) = self.queue.take() {
            if let Err(stopped) = self.write(round) {
                tracing::error!(error = %stopped, "the store refuses all writes until it is restarted");
                self.queue.stop(&stopped);
                return;
            }
        }
        if let Err(error) = self.end() {
            // Nothing was lost: the watermark on the disk is a little older than it might be.
            tracing::warn!(%error, "what was acknowledged last could not be synced");
        }
    }

    fn end(&mut self) -> io::Result<()> {
        failpoint!(WriterEnd);
        self.ledger.sync()
    }

    /// Writes one round and answers it. `Err`: no more writes until the next start.
    fn write(&mut self, round: Round) -> Result<()> {
        if let Err(error) = self.engine.check_room() {
            let failure = self.failure(error);
            round.refuse(&failure.certain);
            return failure.stop.map_or(Ok(()), Err);
        }
        let Round { writes, marks, mark_answers } = round;
        let begin = Instant::now();
        let count = writes.len();
        let mut draft = Draft::new(&self.engine, &mut self.remembered);
        let pending: Vec<Pending> = writes.into_iter().map(|write| drafted(&mut draft, write)).collect();
        let marked = draft.mark(&marks);
        let (entries, marks) = (draft.entries, draft.marks);
        if let Err(error) = draft.commit(&mut self.ledger) {
            let failure = self.failure(error);
            pending.into_iter().for_each(|pending| pending.fail(&failure));
            mark_answers.into_iter().for_each(|answer| drop(answer.send(Err(failure.written.clone()))));
            return failure.stop.map_or(Ok(()), Err);
        }
        self.metrics.committed(count, begin.elapsed());
        metrics::add(&self.metrics.entries, entries);
        metrics::add(&self.metrics.marks, marks);
        pending.into_iter().for_each(|pending| self.answer(pending));
        mark_answers.into_iter().for_each(|answer| drop(answer.send(marked.clone())));
        self.after().map_err(|error| {
            StoreError::Unavailable(format!("noting what was acknowledged failed: {error}; restart needed"))
        })
    }

    /// What is done once everybody has an answer.
    fn after(&mut self) -> io::Result<()> {
        failpoint!(CommitAnswered);
        self.ledger.sync_if_due()
    }

    /// Tells one caller how it went, after the commit.
    fn answer(&self, pending: Pending) {
        match pending {
            Pending::Append(result, answer) => {
                metrics::add(&self.metrics.conflicts, usize::from(result == Ok(Verdict::Conflict)));
                drop(answer.send(result));
            }
            Pending::Create(result, answer) => drop(answer.send(result)),
            Pending::Users(result, answer) => drop(answer.send(result)),
        }
    }

    /// What a failed commit means for those who wait, and for the store.
    fn failure(&self, error: CommitError) -> Failure {
        match error {
            CommitError::Refused(why) => {
                let counter = if why == StoreError::DiskFull { &self.metrics.disk_full } else { &self.metrics.refused };
                metrics::add(counter, 1);
                Failure { written: why.clone(), certain: why, stop: None }
            }
            CommitError::Stopped(why) => {
                metrics::add(&self.metrics.failed, 1);
                let why = StoreError::Unavailable(why);
                Failure { written: why.clone(), certain: why.clone(), stop: Some(why) }
            }
            CommitError::Unknown(why) => {
                metrics::add(&self.metrics.failed, 1);
                let certain = StoreError::Unavailable(why.clone());
                Failure { written: StoreError::Unknown(why), certain: certain.clone(), stop: Some(certain) }
            }
        }
    }
}

/// What a failed commit means.
struct Failure {
    /// The answer to a write that was in the commit.
    written: StoreError,
    /// The answer to one that had nothing to write.
    certain: StoreError,
    /// Why the store takes no more writes; `None` if it goes on.
    stop: Option<StoreError>,
}

impl Pending {
    /// The answer after a failed commit: a write that broke a rule hears so, whatever happened to the others.
    fn fail(self, failure: &Failure) {
        match self {
            Self::Append(Ok(Verdict::Stored { .. }), answer) => drop(answer.send(Err(failure.written.clone()))),
            Self::Append(Ok(Verdict::Conflict), answer) => drop(answer.send(Err(failure.certain.clone()))),
            Self::Append(Err(error), answer) => drop(answer.send(Err(error))),
            Self::Create(Ok((_, true)), answer) => drop(answer.send(Err(failure.written.clone()))),
            // The one that exists may be of this very commit.
            Self::Create(Ok((_, false)), answer) => drop(answer.send(Err(failure.certain.clone()))),
            Self::Create(Err(error), answer) => drop(answer.send(Err(error))),
            Self::Users(Ok(()), answer) => drop(answer.send(Err(failure.written.clone()))),
            Self::Users(Err(error), answer) => drop(answer.send(Err(error))),
        }
    }
}

/// Applies one write to the draft.
fn drafted(draft: &mut Draft<'_>, write: Write) -> Pending {
    match write {
        Write::Append(append, answer) => Pending::Append(draft.append(append), answer),
        Write::Create(meta, members, answer) => Pending::Create(draft.create(meta, members), answer),
        Write::Users(users, answer) => Pending::Users(draft.put_users(users), answer),
    }
}
