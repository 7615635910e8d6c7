//! Models of the queue between callers and the writer, for loom: it runs each under every order in which the threads can
//! meet. `cargo xtask loom` runs them. The code is the real one; a lost wake-up of the writer shows as a deadlock.

use std::sync::Arc;

use roost_wire::{ConvId, UserId};
use tokio::sync::oneshot;

use super::metrics::StoreMetrics;
use super::options::EmbeddedOptions;
use super::queue::{Queue, Round, Write};
use super::writer::StopOnExit;
use crate::{Mark, Result, StoreError, User};

type Answered = oneshot::Receiver<Result<()>>;

/// Runs `model` under every order with at most `preemptions` switches away from a thread that could go on. `None`: all.
fn explore(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    builder.check(model);
}

fn queue(writes_max: usize, marks_wait_ms: u32) -> Arc<Queue> {
    let options = EmbeddedOptions { queue_requests_max: writes_max, marks_wait_ms, ..EmbeddedOptions::default() };
    Arc::new(Queue::new(&options, Arc::new(StoreMetrics::new())))
}

/// A write that is told apart by `number`.
fn write(number: u64) -> (Write, Answered) {
    let (answer, answered) = oneshot::channel();
    let user = User { user: UserId::from_bits(1), name: String::new(), created_ms: number, last_seen_ms: 0 };
    (Write::Users(vec![user], answer), answered)
}

fn mark(seq: u64, urgent: bool) -> Mark {
    let (delivered, read) = (Some(seq), urgent.then_some(seq));
    Mark { user: UserId::from_bits(1), conv: ConvId::from_bits(1), delivered, read }
}

/// What the writer does with a round, but for the disk: answers all of it. Returns the numbers of its writes, in order.
fn done(round: Round) -> Vec<u64> {
    let Round { writes, mark_answers, .. } = round;
    let mut order = Vec::new();
    for write in writes {
        if let Write::Users(users, answer) = write {
            order.push(users[0].created_ms);
            answer.send(Ok(())).expect("the caller waits");
        }
    }
    mark_answers.into_iter().for_each(|answer| answer.send(Ok(())).expect("the caller waits"));
    order
}

/// Does rounds until the queue is closed and empty.
fn work(queue: &Queue) -> Vec<u64> {
    let mut order = Vec::new();
    while let Some(round) = queue.take() {
        order.extend(done(round));
    }
    order
}

/// The answer, which must be there.
fn answer(mut answered: Answered) -> Result<()> {
    answered.try_recv().expect("an answer was lost")
}

#[test]
fn every_write_wakes_the_writer_and_is_done_once_in_the_order_of_its_caller() {
    explore(Some(3), || {
        let queue = queue(16, 0);
        let callers: Vec<_> = [10, 20]
            .map(|first| {
                let queue = queue.clone();
                loom::thread::spawn(move || {
                    [first, first + 1].map(|number| {
                        let (write, answered) = write(number);
                        queue.push(write).expect("there is room");
                        answered
                    })
                })
            })
            .into();
        // This thread is the writer; nothing but the writes themselves can wake it.
        let mut order = Vec::new();
        while order.len() < 4 {
            order.extend(done(queue.take().expect("it is open")));
        }
        let answered: Vec<Answered> = callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect();
        for first in [10, 20] {
            let own: Vec<u64> = order.iter().copied().filter(|number| number / 10 == first / 10).collect();
            assert_eq!(own, [first, first + 1], "of {order:?}");
        }
        assert!(answered.into_iter().all(|answered| answer(answered) == Ok(())));
        queue.close();
        assert!(queue.take().is_none(), "something was doubled");
    });
}

#[test]
fn the_limit_holds_and_who_is_refused_knows_that_nothing_was_written() {
    explore(Some(3), || {
        let queue = queue(1, 0);
        let callers: Vec<_> = [10, 20]
            .map(|number| {
                let queue = queue.clone();
                loom::thread::spawn(move || {
                    let (write, answered) = write(number);
                    queue.push(write).map(|()| (number, answered))
                })
            })
            .into();
        let writer = {
            let queue = queue.clone();
            loom::thread::spawn(move || work(&queue))
        };
        let taken: Vec<(u64, Answered)> =
            callers.into_iter().filter_map(|caller| caller.join().unwrap().ok()).collect();
        assert!(!taken.is_empty(), "an empty queue takes one");
        queue.close();
        let mut order = writer.join().unwrap();
        order.sort_unstable();
        let mut wanted: Vec<u64> = taken.iter().map(|(number, _)| *number).collect();
        wanted.sort_unstable();
        assert_eq!(order, wanted, "what was let in is written, and nothing else");
        assert!(taken.into_iter().all(|(_, answered)| answer(answered) == Ok(())));
    });
}

#[test]
fn marks_that_wait_for_company_ride_along_and_urgent_ones_wake_the_writer() {
    explore(Some(3), || {
        // So long that they never go by themselves.
        let queue = queue(16, 3_600_000);
        let (lazy, lazy_answered) = oneshot::channel();
        queue.push_marks(vec![mark(1, false)], lazy).expect("there is room");
        let caller = {
            let queue = queue.clone();
            loom::thread::spawn(move || {
                let (urgent, answered) = oneshot::channel();
                queue.push_marks(vec![mark(2, true)], urgent).expect("there is room");
                answered
            })
        };
        // Sleeps until the urgent one has come.
        let round = queue.take().expect("it is open");
        assert_eq!((round.writes.len(), round.marks.len(), round.mark_answers.len()), (0, 1, 2));
        round.mark_answers.into_iter().for_each(|answer| answer.send(Ok(())).expect("the caller waits"));
        assert!([lazy_answered, caller.join().unwrap()].into_iter().all(|answered| answer(answered) == Ok(())));
    });
}

#[test]
fn a_queue_that_closes_under_its_callers_answers_everybody() {
    explore(Some(3), || {
        let queue = queue(16, 3_600_000);
        let writes = {
            let queue = queue.clone();
            loom::thread::spawn(move || {
                let (write, answered) = write(10);
                queue.push(write).map(|()| answered)
            })
        };
        let marks = {
            let queue = queue.clone();
            loom::thread::spawn(move || {
                let (answer, answered) = oneshot::channel();
                queue.push_marks(vec![mark(1, false)], answer).map(|()| answered)
            })
        };
        let writer = {
            let queue = queue.clone();
            loom::thread::spawn(move || drop(work(&queue)))
        };
        queue.close();
        let taken = [writes.join().unwrap(), marks.join().unwrap()];
        writer.join().unwrap();
        for answered in taken.into_iter().flatten() {
            assert_eq!(answer(answered), Ok(()), "who was let in is served");
        }
    });
}

#[test]
fn a_writer_that_dies_leaves_nobody_waiting() {
    explore(Some(3), || {
        let queue = queue(16, 0);
        let callers: Vec<_> = [10, 20]
            .map(|number| {
                let queue = queue.clone();
                loom::thread::spawn(move || {
                    let (write, answered) = write(number);
                    queue.push(write).map(|()| answered)
                })
            })
            .into();
        let writer = {
            let queue = queue.clone();
            loom::thread::spawn(move || {
                let _stop = StopOnExit(queue.clone());
                // Dies with the first round in its hands.
                drop(queue.take());
            })
        };
        let taken: Vec<Result<Answered>> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
        writer.join().unwrap();
        for result in taken {
            let closed = match result {
                Ok(mut answered) => match answered.try_recv() {
                    // In the round: its outcome is unknown, and the caller hears that the answer was dropped.
                    Err(oneshot::error::TryRecvError::Closed) => true,
                    Ok(Err(StoreError::Unavailable(_))) => true,
                    _ => false,
                },
                Err(why) => matches!(why, StoreError::Unavailable(_)),
            };
            assert!(closed, "a caller would wait for ever");
        }
        assert!(queue.closed().is_some());
    });
}
