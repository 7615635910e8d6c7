//! What waits for the writer.
//!
//! A full queue refuses at once instead of letting callers wait: the disk is behind, waiting would only hide it, and
//! the answer (certainly not written, try later) is one that clients can act on.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use prost::Message;
use roost_wire::{ConvId, Seq, UserId};
use tokio::sync::oneshot;

use super::draft::Verdict;
use super::metrics::{self, StoreMetrics};
use super::options::EmbeddedOptions;
use super::sync::{Condvar, Mutex};
use crate::{Append, ConvMeta, Mark, Member, Result, StoreError, User};

/// Most writes of one commit: more would make the first of them wait for long.
const COMMIT_WRITES_MAX: usize = 1024;
/// Bytes after which no more writes are taken into a commit.
const COMMIT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Where an answer goes. A dropped receiver is no fault: the caller has gone.
pub(crate) type Answer<T> = oneshot::Sender<Result<T>>;

/// One write and who waits for it.
pub(crate) enum Write {
    Append(Append, Answer<Verdict>),
    Create(ConvMeta, Vec<Member>, Answer<(ConvMeta, bool)>),
    Users(Vec<User>, Answer<()>),
}

impl Write {
    /// About how much memory it holds, in bytes.
    fn cost(&self) -> usize {
        const ITEM: usize = 128;
        match self {
            Self::Append(append, _) => {
                let bodies: usize = append.entries.iter().map(|e| e.body.encoded_len() + e.cmid.len() + ITEM).sum();
                bodies + (append.index.len() + append.members.len()) * ITEM
            }
            Self::Create(_, members, _) => (members.len() + 1) * ITEM,
            Self::Users(users, _) => users.iter().map(|user| user.name.len() + ITEM).sum(),
        }
    }
}

/// What to raise the marks of one row to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Raise {
    pub(crate) delivered: Option<Seq>,
    pub(crate) read: Option<Seq>,
}

/// Marks of many calls as one per row.
pub(crate) type Marks = HashMap<(UserId, ConvId), Raise>;

/// What one commit is made of.
#[derive(Default)]
pub(crate) struct Round {
    pub(crate) writes: Vec<Write>,
    pub(crate) marks: Marks,
    pub(crate) mark_answers: Vec<Answer<()>>,
}

#[derive(Default)]
struct Waiting {
    writes: VecDeque<Write>,
    write_bytes: usize,
    marks: Marks,
    mark_answers: Vec<Answer<()>>,
    /// When the marks must go even without company. `None`: there are none.
    marks_due: Option<Instant>,
    /// Why nothing is taken in any more.
    closed: Option<StoreError>,
}

/// The bounded queue between callers and the writer.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    bell: Condvar,
    writes_max: usize,
    bytes_max: usize,
    marks_max: usize,
    marks_wait: Duration,
    metrics: Arc<StoreMetrics>,
}

impl Queue {
    pub(crate) fn new(options: &EmbeddedOptions, metrics: Arc<StoreMetrics>) -> Self {
        Self {
            waiting: Mutex::default(),
            bell: Condvar::new(),
            writes_max: options.queue_requests_max,
            bytes_max: options.queue_bytes_max,
            marks_max: options.queue_marks_max,
            marks_wait: Duration::from_millis(options.marks_wait_ms.into()),
            metrics,
        }
    }

    /// Takes a write in, or refuses it at once.
    pub(crate) fn push(&self, write: Write) -> Result<()> {
        let cost = write.cost();
        let mut waiting = self.waiting.lock();
        if let Some(why) = &waiting.closed {
            return Err(why.clone());
        }
        // One write is always let in, so that no limit on bytes can shut it out for ever.
        let bytes_full = waiting.write_bytes + cost > self.bytes_max && !waiting.writes.is_empty();
        if waiting.writes.len() >= self.writes_max || bytes_full {
            return Err(self.full("writes"));
        }
        waiting.writes.push_back(write);
        waiting.write_bytes += cost;
        self.metrics.queue_writes.store(waiting.writes.len() as u64, Relaxed);
        drop(waiting);
        self.bell.notify_one();
        Ok(())
    }

    /// Takes marks in: all of them, or none if there is no room.
    ///
    /// Marks of delivery alone wait a little for a commit to ride along with; marks of reading do not, as other
    /// devices of the user look for them.
    pub(crate) fn push_marks(&self, marks: Vec<Mark>, answer: Answer<()>) -> Result<()> {
        metrics::add(&self.metrics.marks_asked, marks.len());
        let mut waiting = self.waiting.lock();
        if let Some(why) = &waiting.closed {
            return Err(why.clone());
        }
        if waiting.marks.len() + marks.len() > self.marks_max || waiting.mark_answers.len() >= self.marks_max {
            return Err(self.full("marks"));
        }
        let urgent = marks.iter().any(|mark| mark.read.is_some());
        let due = Instant::now() + if urgent { Duration::ZERO } else { self.marks_wait };
        waiting.marks_due = Some(waiting.marks_due.map_or(due, |earlier| earlier.min(due)));
        for mark in marks {
            let raise = waiting.marks.entry((mark.user, mark.conv)).or_default();
            raise.delivered = raise.delivered.max(mark.delivered);
            raise.read = raise.read.max(mark.read);
        }
        waiting.mark_answers.push(answer);
        self.metrics.queue_marks.store(waiting.marks.len() as u64, Relaxed);
        drop(waiting);
        self.bell.notify_one();
        Ok(())
    }

    fn full(&self, what: &str) -> StoreError {
        metrics::add(&self.metrics.queue_full, 1);
        StoreError::Unavailable(format!("too many {what} are waiting for the disk"))
    }

    /// Waits for something to do; `None` once the queue is closed and empty.
    pub(crate) fn take(&self) -> Option<Round> {
        let mut waiting = self.waiting.lock();
        loop {
            if !waiting.writes.is_empty() {
                break;
            }
            match (waiting.marks_due, waiting.closed.is_some()) {
                (Some(due), false) if due > Instant::now() => {
                    self.bell.wait_until(&mut waiting, due);
                }
                (Some(_), _) => break,
                (None, true) => return None,
                (None, false) => self.bell.wait(&mut waiting),
            }
        }
        Some(self.round(&mut waiting))
    }

    fn round(&self, waiting: &mut Waiting) -> Round {
        let mut round = Round::default();
        let mut bytes = 0;
        while round.writes.len() < COMMIT_WRITES_MAX && bytes < COMMIT_BYTES_MAX {
            let Some(write) = waiting.writes.pop_front() else { break };
            bytes += write.cost();
            round.writes.push(write);
        }
        waiting.write_bytes = waiting.write_bytes.saturating_sub(bytes);
        round.marks = std::mem::take(&mut waiting.marks);
        round.mark_answers = std::mem::take(&mut waiting.mark_answers);
        waiting.marks_due = None;
        self.metrics.queue_writes.store(waiting.writes.len() as u64, Relaxed);
        self.metrics.queue_marks.store(0, Relaxed);
        round
    }

    /// Takes nothing in any more; what waits is still written.
    pub(crate) fn close(&self) {
        let why = StoreError::Unavailable("the store is closing".to_owned());
        self.waiting.lock().closed.get_or_insert(why);
        self.bell.notify_all();
    }

    /// Takes nothing in any more and answers everybody who waits: nothing of theirs was written.
    pub(crate) fn stop(&self, why: &StoreError) {
        let stopped = Waiting { closed: Some(why.clone()), ..Waiting::default() };
        let Waiting { writes, mark_answers, .. } = std::mem::replace(&mut *self.waiting.lock(), stopped);
        self.metrics.queue_writes.store(0, Relaxed);
        self.metrics.queue_marks.store(0, Relaxed);
        self.bell.notify_all();
        let all = Round { writes: writes.into(), mark_answers, marks: Marks::new() };
        all.refuse(why);
    }

    /// Why the store takes no writes, if it does not.
    pub(crate) fn closed(&self) -> Option<StoreError> {
        self.waiting.lock().closed.clone()
    }
}

impl Round {
    /// Gives everybody the same error.
    pub(crate) fn refuse(self, why: &StoreError) {
        for write in self.writes {
            match write {
                Write::Append(_, answer) => drop(answer.send(Err(why.clone()))),
                Write::Create(_, _, answer) => drop(answer.send(Err(why.clone()))),
                Write::Users(_, answer) => drop(answer.send(Err(why.clone()))),
            }
        }
        for answer in self.mark_answers {
            drop(answer.send(Err(why.clone())));
        }
    }
}

#[cfg(all(test, not(roost_model)))]
mod tests {
    use super::*;

    fn queue(writes: usize, bytes: usize, marks: usize) -> (Queue, Arc<StoreMetrics>) {
        let metrics = Arc::new(StoreMetrics::new());
        let options = EmbeddedOptions {
            queue_requests_max: writes,
            queue_bytes_max: bytes,
            queue_marks_max: marks,
            marks_wait_ms: 0,
            ..EmbeddedOptions::default()
        };
        (Queue::new(&options, Arc::clone(&metrics)), metrics)
    }

    fn users(name: &str) -> (Write, oneshot::Receiver<Result<()>>) {
        let (answer, answered) = oneshot::channel();
        let user = UserId::new("u_ada").unwrap();
        (Write::Users(vec![User { user, name: name.into(), created_ms: 0, last_seen_ms: 0 }], answer), answered)
    }

    fn mark(conv: &str, delivered: Option<Seq>, read: Option<Seq>) -> Mark {
        Mark { user: UserId::new("u_ada").unwrap(), conv: ConvId::new(conv).unwrap(), delivered, read }
    }

    #[test]
    fn a_full_queue_refuses_at_once_and_counts_it() {
        let (queue, metrics) = queue(2, usize::MAX, 1);
        assert!(queue.push(users("a").0).is_ok());
        assert!(queue.push(users("b").0).is_ok());
        assert!(matches!(queue.push(users("c").0), Err(StoreError::Unavailable(_))));
        assert!(queue.push_marks(vec![mark("c_1", Some(1), None)], oneshot::channel().0).is_ok());
        let refused = queue.push_marks(vec![mark("c_2", Some(1), None)], oneshot::channel().0);
        assert!(matches!(refused, Err(StoreError::Unavailable(_))));
        assert_eq!(metrics.queue_full.load(Relaxed), 2);
        assert_eq!(queue.take().map(|round| round.writes.len()), Some(2));
        assert!(queue.push(users("c").0).is_ok());
    }

    #[test]
    fn the_limit_on_bytes_holds_but_lets_one_large_write_in() {
        let (queue, _) = queue(100, 1000, 1);
        assert!(queue.push(users(&"x".repeat(2000)).0).is_ok());
        assert!(matches!(queue.push(users("y").0), Err(StoreError::Unavailable(_))));
    }

    #[test]
    fn marks_of_one_row_become_one() {
        let (queue, _) = queue(1, 1, 10);
        for (delivered, read) in [(Some(3), None), (Some(2), Some(1)), (None, Some(5))] {
            queue.push_marks(vec![mark("c_1", delivered, read)], oneshot::channel().0).unwrap();
        }
        let round = queue.take().unwrap();
        let raises: Vec<_> = round.marks.into_values().collect();
        assert_eq!(raises, [Raise { delivered: Some(3), read: Some(5) }]);
        assert_eq!(round.mark_answers.len(), 3);
    }

    #[test]
    fn a_closed_queue_gives_out_what_waits_and_takes_no_more() {
        let (queue, _) = queue(10, 1000, 10);
        queue.push(users("a").0).unwrap();
        queue.close();
        assert!(queue.push(users("b").0).is_err());
        assert!(queue.take().is_some());
        assert!(queue.take().is_none());
    }

    #[test]
    fn a_stopped_queue_answers_everybody() {
        let (queue, _) = queue(10, 1000, 10);
        let (write, mut answered) = users("a");
        queue.push(write).unwrap();
        let why = StoreError::Unavailable("gone".into());
        queue.stop(&why);
        assert_eq!(answered.try_recv(), Ok(Err(why.clone())));
        assert_eq!(queue.closed(), Some(why));
        assert!(queue.take().is_none());
    }
}
