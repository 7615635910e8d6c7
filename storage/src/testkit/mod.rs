//! For tests: a store that fails on demand, and the suite that every back end passes.

mod faulty;

pub use faulty::{Effect, FaultyStore, Op};
