//! What threads of an edge share is made of these, so that a model checker can stand in for them.
//!
//! With `--cfg roost_model` (`cargo xtask loom`) they are loom's: a test then sees every order in which threads can meet.

#[cfg(not(roost_model))]
pub(crate) use parking_lot::Mutex;
#[cfg(not(roost_model))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(roost_model)]
pub(crate) use self::model::Mutex;
#[cfg(roost_model)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};

#[cfg(roost_model)]
mod model {
    use loom::sync::MutexGuard;

    /// loom's, with the face of `parking_lot`.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("loom ends a model at the first panic")
        }
    }
}
