//! For tests: a store that fails on demand, and the suite that every back end passes.

pub mod conformance;
mod faulty;

pub use faulty::{Effect, FaultyStore, Op};

/// Runs a test on a runtime with several threads.
///
/// # Panics
/// If the runtime cannot be made.
#[allow(clippy::expect_used, reason = "a test without a runtime has failed")]
pub fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    runtime.expect("a runtime for the test").block_on(test)
}
