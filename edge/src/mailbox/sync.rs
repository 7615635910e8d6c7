//! The synchronisation types a mailbox is made of, in one place so that a model checker can stand in for them.

pub(super) use std::sync::atomic::{AtomicU64, Ordering};

pub(super) use parking_lot::Mutex;
