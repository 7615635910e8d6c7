//! Models of what threads share, for loom: it runs each under every order in which the threads can meet, and every value
//! that a relaxed load may see. `cargo xtask loom` runs them.
//!
//! They are of the real code: only locks, atomics and threads are loom's. A lost wake-up shows as a deadlock, as nobody
//! in a model sleeps with a time-out. Models are small on purpose: the number of orders grows with every step.

mod bridge;
mod counters;
mod mailbox;
mod shard_loop;

use std::sync::Arc;
// Not loom's: what a model itself counts is no part of what it explores.
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use loom::sync::Notify;
use roost_edge_core::driver::Wake;

/// Runs `model` under every order with at most `preemptions` switches away from a thread that could go on. `None`: all.
fn explore(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    builder.max_branches = 20_000;
    builder.check(model);
}

/// What a shard sleeps on: like a driver's waker it remembers one call, and may end a sleep for no reason.
#[derive(Default)]
struct Bell {
    rung: Notify,
    times: AtomicUsize,
}

impl Bell {
    /// Sleeps until somebody called since the last time.
    fn sleep(&self) {
        self.rung.wait();
    }

    /// How often it was called.
    fn times(&self) -> usize {
        self.times.load(Relaxed)
    }
}

impl Wake for Bell {
    fn wake(&self) {
        self.times.fetch_add(1, Relaxed);
        self.rung.notify();
    }
}

/// A task's waker is one too.
impl std::task::Wake for Bell {
    fn wake(self: Arc<Self>) {
        Wake::wake(&*self);
    }
}
